//! What tests of several crates share. Nothing of it is in any program that is shipped.

pub mod deno_dir;
pub mod hypha;

use std::path::Path;

/// The root of the repository.
pub fn repository() -> &'static Path {
  let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
  crates.and_then(Path::parent).expect("crates/testing")
}
