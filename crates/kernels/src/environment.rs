//! Variables that last for a while only, such as tokens: made for each start of a kernel, and again before they end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel_protocol::Request;
use tokio::task::JoinHandle;

use crate::KernelError;
use crate::connection::HostHandle;
use crate::outgoing::Unread;

/// Pause before variables that could not be made are asked for again.
const RETRY: Duration = Duration::from_secs(60);

/// Makes variables for a kernel.
#[async_trait]
pub trait EnvironmentSource: fmt::Debug + Send + Sync {
  /// Variables for now. Those that a kernel was created with win over them.
  ///
  /// # Errors
  /// A sentence for whoever asked for the kernel, which is not made then.
  async fn variables(&self) -> Result<Variables, String>;
}

/// What an [`EnvironmentSource`] has made.
#[derive(Clone, Default)]
pub struct Variables {
  pub values: BTreeMap<String, String>,
  /// When to ask for the next ones, for these end; `None` if they do not.
  pub renew_after: Option<Duration>,
}

/// An environment made of what a kernel was created with and what its source makes.
pub(crate) struct Environment<'a> {
  own: &'a BTreeMap<String, String>,
  source: Option<&'a Arc<dyn EnvironmentSource>>,
}

impl<'a> Environment<'a> {
  pub(crate) fn new(
    own: &'a BTreeMap<String, String>,
    source: Option<&'a Arc<dyn EnvironmentSource>>,
  ) -> Self {
    Self { own, source }
  }

  /// All variables for a start, and when those of the source are to be renewed.
  ///
  /// # Errors
  /// When the source has none.
  pub(crate) async fn now(&self) -> Result<Variables, KernelError> {
    let mut made = match self.source {
      Some(source) => source.variables().await.map_err(KernelError::Host)?,
      None => Variables::default(),
    };
    made.values.extend(self.own.clone());
    Ok(made)
  }

  /// Renews the variables of a host, from `first` on. Ends when the returned value is dropped.
  pub(crate) fn renew(&self, host: HostHandle, first: Option<Duration>) -> Option<Renewal> {
    let (source, first) = (self.source?.clone(), first?);
    let own = self.own.clone();
    Some(Renewal(tokio::spawn(renew(source, own, host, first))))
  }
}

/// A task that ends with this.
pub struct Renewal(JoinHandle<()>);

impl Drop for Renewal {
  fn drop(&mut self) {
    self.0.abort();
  }
}

async fn renew(
  source: Arc<dyn EnvironmentSource>,
  own: BTreeMap<String, String>,
  host: HostHandle,
  first: Duration,
) {
  let mut wait = Some(first);
  while let Some(pause) = wait {
    tokio::time::sleep(pause).await;
    wait = match source.variables().await {
      Ok(Variables {
        mut values,
        renew_after,
      }) => {
        values.retain(|name, _| !own.contains_key(name));
        let sent = host.try_send(&Request::SetEnvironment { variables: values });
        // One that reads nothing may do so later.
        sent.map_or_else(|Unread| Some(RETRY), |()| renew_after)
      }
      Err(error) => {
        tracing::warn!("variables of a kernel cannot be renewed: {error}");
        Some(RETRY)
      }
    };
  }
}
