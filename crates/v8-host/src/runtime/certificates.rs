//! The certificate authorities that a kernel's TLS connections trust.

use std::path::PathBuf;
use std::sync::OnceLock;

use deno_error::JsErrorBox;
use deno_lib::args::CaData;
use deno_lib::args::get_root_cert_store;
use deno_runtime::deno_tls::RootCertStoreProvider;
use deno_runtime::deno_tls::load_certs;
use deno_runtime::deno_tls::rustls::RootCertStore;
use kernel_protocol::CaStore;
use sys_traits::impls::RealSys;

/// Variables that say where a system's authorities are, when they are not where they usually are.
pub const SYSTEM_AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The authorities of the stores that the operator chose, Mozilla's by default, and those of a PEM file.
/// Read when they are first needed: most kernels connect to nothing.
#[derive(Debug, Default)]
pub(super) struct TrustedRoots {
  chosen: OnceLock<Chosen>,
  store: OnceLock<Result<RootCertStore, String>>,
}

#[derive(Debug, Default)]
struct Chosen {
  stores: Vec<CaStore>,
  file: Option<PathBuf>,
}

impl TrustedRoots {
  /// Trusts these. Once, before the first connection.
  pub(super) fn choose(&self, stores: Vec<CaStore>, file: Option<PathBuf>) {
    // The kernel's own environment, which comes later, does not say where the system's are.
    let moved = stores.contains(&CaStore::System)
      && SYSTEM_AUTHORITIES
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    let _ = self.chosen.set(Chosen { stores, file });
    if moved {
      let _ = self.get_or_try_init();
    }
  }
}

impl RootCertStoreProvider for TrustedRoots {
  fn get_or_try_init(&self) -> Result<&RootCertStore, JsErrorBox> {
    let store = self
      .store
      .get_or_init(|| self.chosen.get().unwrap_or(&Chosen::default()).load());
    store.as_ref().map_err(|e| JsErrorBox::generic(e.clone()))
  }
}

impl Chosen {
  fn load(&self) -> Result<RootCertStore, String> {
    let stores = match self.stores.as_slice() {
      [] => &[CaStore::Mozilla],
      stores => stores,
    };
    let names = stores.iter().map(|store| store.name().to_owned()).collect();
    // Without data it would look into the environment.
    let none = Some(CaData::Bytes(Vec::new()));
    let mut trusted = get_root_cert_store(&RealSys, None, Some(names), none)
      .map_err(|e| format!("DENO_TLS_CA_STORE: {e}"))?;
    if let Some(file) = &self.file {
      let wrong = |e: &dyn std::fmt::Display| format!("DENO_CERT: {}: {e}", file.display());
      let text = std::fs::read(file).map_err(|e| wrong(&e))?;
      for certificate in load_certs(&mut text.as_slice()).map_err(|e| wrong(&e))? {
        // Bundles of operating systems hold some that rustls cannot use.
        let _ = trusted.add(certificate);
      }
    }
    Ok(trusted)
  }
}
