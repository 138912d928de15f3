//! The certificate authorities that a kernel's TLS connections trust.

use std::path::Path;
use std::sync::OnceLock;

use deno_error::JsErrorBox;
use deno_runtime::deno_tls::RootCertStoreProvider;
use deno_runtime::deno_tls::create_default_root_cert_store;
use deno_runtime::deno_tls::load_certs;
use deno_runtime::deno_tls::rustls::RootCertStore;

/// Mozilla's authorities, and the operator's when the kernel is configured with some.
#[derive(Debug, Default)]
pub struct TrustedRoots(OnceLock<RootCertStore>);

impl TrustedRoots {
  /// Trusts the authorities of a PEM file too. Before the first connection.
  ///
  /// # Errors
  /// When the file holds no certificates; the message names it.
  pub fn add_file(&self, path: &Path) -> Result<(), String> {
    let unusable = |e: &dyn std::fmt::Display| format!("DENO_CERT: {}: {e}", path.display());
    let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
    let mut store = create_default_root_cert_store();
    for certificate in load_certs(&mut pem.as_slice()).map_err(|e| unusable(&e))? {
      // Certificate bundles of systems hold some that rustls cannot use.
      let _ = store.add(certificate);
    }
    let _ = self.0.set(store);
    Ok(())
  }
}

impl RootCertStoreProvider for TrustedRoots {
  fn get_or_try_init(&self) -> Result<&RootCertStore, JsErrorBox> {
    Ok(self.0.get_or_init(create_default_root_cert_store))
  }
}
