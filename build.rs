//! Present so that `[build-dependencies]` counts: see the note beside it in Cargo.toml.

fn main() {
  println!("cargo::rerun-if-changed=build.rs");
}
