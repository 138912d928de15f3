//! What the engine says it is.

/// The Deno release whose runtime this is (the family `Cargo.toml` pins).
pub(super) const DENO_VERSION: &str = "2.9.8";

/// How the engine names itself to servers.
pub(super) fn user_agent() -> String {
  let version = env!("CARGO_PKG_VERSION");
  format!("Deno/{DENO_VERSION} deno-app-engine/{version}")
}
