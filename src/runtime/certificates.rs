//! The certificate authorities that a kernel's TLS connections trust.

use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use deno_error::JsErrorBox;
use deno_runtime::deno_tls::RootCertStoreProvider;
use deno_runtime::deno_tls::create_default_root_cert_store;
use deno_runtime::deno_tls::load_certs;
use deno_runtime::deno_tls::rustls::RootCertStore;

/// Mozilla's authorities, and those of a PEM file that the operator names. Read when they are first
/// needed: most kernels connect to nothing.
#[derive(Debug, Default)]
pub struct TrustedRoots {
  file: OnceLock<PathBuf>,
  store: OnceLock<Result<RootCertStore, String>>,
}

impl TrustedRoots {
  /// Trusts the authorities of `file` too. Once, before the first connection.
  pub fn add_file(&self, file: PathBuf) {
    let _ = self.file.set(file);
  }
}

impl RootCertStoreProvider for TrustedRoots {
  fn get_or_try_init(&self) -> Result<&RootCertStore, JsErrorBox> {
    let store = self.store.get_or_init(|| match self.file.get() {
      None => Ok(create_default_root_cert_store()),
      Some(file) => with_file(file).map_err(|e| format!("DENO_CERT: {}: {e}", file.display())),
    });
    store.as_ref().map_err(|e| JsErrorBox::generic(e.clone()))
  }
}

fn with_file(file: &Path) -> Result<RootCertStore, Box<dyn std::error::Error>> {
  let mut store = create_default_root_cert_store();
  for certificate in load_certs(&mut std::fs::read(file)?.as_slice())? {
    // Bundles of operating systems hold some that rustls cannot use.
    let _ = store.add(certificate);
  }
  Ok(store)
}
