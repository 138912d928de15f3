//! Hosts for kernels: blank ones found or started, and made into what a kernel is to be.

use std::path::Path;
use std::sync::Arc;

use kernel_protocol::HostConfig;

use crate::KernelError;
use crate::KernelId;
use crate::KernelType;
use crate::Mode;
use crate::connection::HostConnection;
use crate::environment::Environment;
use crate::launch::LaunchSpec;
use crate::launch::Tenant;
use crate::manager::KernelManager;
use crate::options::Approved;
use crate::pool::Pool;

/// What a blank host is to be.
pub(crate) struct Blank<'a> {
  pub mode: Mode,
  pub spec: &'a LaunchSpec,
  pub pool: Option<&'a Arc<Pool>>,
  pub tenant: &'a Tenant,
}

impl KernelManager {
  /// A host made into a kernel of a client, whose folder may be made once `free` has ended.
  pub(crate) async fn configured_host(
    &self,
    id: &KernelId,
    kind: KernelType,
    approved: &Approved,
    free: impl Future<Output = Result<(), KernelError>>,
  ) -> Result<HostConnection, KernelError> {
    let (spec, pool) = self.pools.of(kind.language, &approved.python)?;
    let tenant = Tenant::Namespace(id.namespace().map(str::to_owned));
    let blank = Blank {
      mode: kind.mode,
      spec: &spec,
      pool: pool.filter(|_| kind.mode == Mode::Worker),
      tenant: &tenant,
    };
    self.host_of(&blank, approved, free).await
  }

  /// A host made into a kernel, whose folder may be made once `free` has ended.
  pub(crate) async fn host_of(
    &self,
    blank: &Blank<'_>,
    approved: &Approved,
    free: impl Future<Output = Result<(), KernelError>>,
  ) -> Result<HostConnection, KernelError> {
    let environment = Environment::new(&approved.host.env, approved.environment.as_ref());
    let folder = async {
      free.await?;
      self.make_folder(&approved.host.scratch).await
    };
    let (folder, variables, host) =
      futures::join!(folder, environment.now(), self.blank_host(blank));
    folder?;
    let (mut host, mut fresh) = host?;
    let variables = variables?;
    let config = HostConfig {
      env: variables.values,
      ..approved.host.clone()
    };
    let mut again = false;
    loop {
      let roots = approved.open_mounts()?;
      match host.configure(config.clone(), roots).await {
        Ok(()) => {
          host.renewal = environment.renew(host.handle.clone(), variables.renew_after);
          return Ok(host);
        }
        Err(Some(reason)) => return Err(KernelError::Invalid(reason)),
        // A blank host may have died while it waited; a new one has no excuse but, once, what it was forked from.
        Err(None) if !fresh => (host, fresh) = self.blank_host(blank).await?,
        Err(None) if !again && self.hosts.distrust(blank.spec, blank.tenant) => {
          again = true;
          (host, fresh) = self.blank_host(blank).await?;
        }
        Err(None) => {
          let end = host.end().await;
          return Err(KernelError::Host(format!(
            "the kernel could not be started: it {end}"
          )));
        }
      }
    }
  }

  /// A blank host from the pool, otherwise a new one, and whether it is new.
  async fn blank_host(&self, blank: &Blank<'_>) -> Result<(HostConnection, bool), KernelError> {
    let &Blank {
      mode,
      spec,
      pool,
      tenant,
    } = blank;
    let checked = self.hosts.check(spec).await;
    checked.map_err(KernelError::Unsupported)?;
    let pool = pool.filter(|_| !self.hosts.has_own(spec, tenant));
    if let Some(host) = pool.and_then(Pool::take) {
      self.hosts.prepare(spec, tenant);
      return Ok((host, false));
    }
    let host = HostConnection::launch(&*self.hosts, mode, spec, tenant).await;
    let failed = |e| KernelError::Host(format!("the kernel could not be started: {e}"));
    Ok((host.map_err(failed)?, true))
  }

  async fn make_folder(&self, scratch: &Path) -> Result<(), KernelError> {
    let confinement = self.options.confinement.clone();
    let folder = scratch.to_owned();
    tokio::task::spawn_blocking(move || confinement.make_own(&folder))
      .await
      .unwrap_or_else(|e| Err(e.into()))
      .map_err(|e| {
        // Where it is, is not for those who ask.
        tracing::error!("{}: {e}", scratch.display());
        KernelError::Host(format!("the kernel's folder cannot be made: {e}"))
      })
  }
}
