//! What may be imported over the network.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use deno_core::url::Origin;
use deno_core::url::Url;
use deno_error::JsErrorBox;
use deno_npmrc::ResolvedNpmRc;
use deno_runtime::deno_permissions::CheckSpecifierKind;
use deno_runtime::deno_permissions::PermissionsContainer;
use outbound::is_loopback;

/// A kernel's permissions, as far as its modules go. Clones see it being configured.
#[derive(Debug, Clone)]
pub(crate) struct Access(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
  permissions: PermissionsContainer,
  /// The hosts that may be imported from, as Deno counts: `None` is none, an empty list is all.
  hosts: Option<Vec<String>>,
}

/// The package registries that the operator chose. They may lie on a network that user code has no
/// access to.
#[derive(Debug)]
pub(super) struct Registries {
  /// What archives of packages come from: a registry names their addresses.
  origins: Vec<Origin>,
  jsr: Url,
}

impl Registries {
  pub(super) fn new(npm: &ResolvedNpmRc, jsr: &Url) -> Self {
    let scopes = npm.scopes.values().map(|scope| &scope.registry_url);
    let urls = scopes.chain([&npm.default_config.registry_url, jsr]);
    Self {
      origins: urls.map(Url::origin).collect(),
      jsr: jsr.clone(),
    }
  }

  /// Whether packages come from there.
  pub(super) fn have_packages(&self, url: &Url) -> bool {
    self.origins.contains(&url.origin())
  }

  /// Whether modules come from there: what `jsr:` specifiers become. The rest of a registry's host is
  /// not for modules, which may come from anybody and redirect to it.
  pub(super) fn have_modules(&self, url: &Url) -> bool {
    url.as_str().starts_with(self.jsr.as_str())
  }
}

impl Access {
  pub(crate) fn new(permissions: PermissionsContainer, hosts: Option<Vec<String>>) -> Self {
    Self(Arc::new(Mutex::new(State { permissions, hosts })))
  }

  pub(crate) fn replace(&self, permissions: PermissionsContainer, hosts: Option<Vec<String>>) {
    *self.lock() = State { permissions, hosts };
  }

  /// The same hosts under the permissions of a web worker.
  pub(crate) fn narrowed_to(&self, permissions: PermissionsContainer) -> Self {
    Self::new(permissions, self.lock().hosts.clone())
  }

  pub(crate) fn permissions(&self) -> PermissionsContainer {
    self.lock().permissions.clone()
  }

  /// Whether something may be imported from there; packages of the operator's `registry` may wherever
  /// that is, unless nothing or only something else may be imported.
  ///
  /// # Errors
  /// With Deno's `NotCapable` when it may not.
  pub(crate) fn check(&self, url: &Url, registry: bool) -> Result<(), JsErrorBox> {
    let (permissions, all, named) = {
      let state = self.lock();
      let hosts = state.hosts.as_deref();
      let all = hosts.is_some_and(<[String]>::is_empty);
      let named = hosts.is_some_and(|hosts| names(hosts, url));
      (state.permissions.clone(), all, named)
    };
    if registry && all {
      return Ok(());
    }
    if url.scheme() == "http" && !is_loopback(url) && !named {
      return Err(JsErrorBox::new(
        "NotCapable",
        format!(
          "Requires import access to \"{}:{}\" without encryption: use https:, or name the host in \
           the permission `import`",
          url.host_str().unwrap_or_default(),
          url.port_or_known_default().unwrap_or_default()
        ),
      ));
    }
    permissions
      .check_specifier(url, CheckSpecifierKind::Dynamic)
      .map_err(JsErrorBox::from_err)
  }

  fn lock(&self) -> std::sync::MutexGuard<'_, State> {
    self.0.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

fn names(hosts: &[String], url: &Url) -> bool {
  let host = url.host_str().unwrap_or_default();
  let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
  hosts.iter().any(|h| *h == host || *h == with_port)
}
