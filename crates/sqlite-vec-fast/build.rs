//! Compiles sqlite-vec, on x86-64 twice: for every CPU, and for those with AVX2. The symbols of the
//! two differ by a prefix, which also keeps such names as `type_name` out of the final binary.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

const BASELINE: &str = "sqlite_vec_baseline_";
const AVX2: &str = "sqlite_vec_avx2_";

fn main() {
  let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
  let source = root.join("../../third_party/sqlite-vec");
  // Relative to this file, so that the list is found wherever the workspace lies.
  let symbols = fs::read_to_string(root.join("symbols.txt")).expect("symbols.txt can be read");
  println!("cargo:rerun-if-changed=build.rs");
  println!("cargo:rerun-if-changed=symbols.txt");
  println!("cargo:rerun-if-changed={}", source.display());
  let architecture = variable("CARGO_CFG_TARGET_ARCH");

  let mut baseline = build(&source, &symbols, BASELINE);
  if architecture == "aarch64" {
    // Every such CPU has it.
    baseline.define("SQLITE_VEC_ENABLE_NEON", None);
  }
  baseline.compile("sqlite_vec_baseline");
  if architecture == "x86_64" && variable("CARGO_CFG_TARGET_FAMILY") == "unix" {
    println!("cargo:rustc-cfg=sqlite_vec_avx2");
    build(&source, &symbols, AVX2)
      .flag("-march=x86-64-v3")
      .define("SQLITE_VEC_ENABLE_AVX", None)
      .compile("sqlite_vec_avx2");
  }
  println!("cargo:rustc-check-cfg=cfg(sqlite_vec_avx2)");
}

fn build(source: &Path, symbols: &str, prefix: &str) -> cc::Build {
  let mut build = cc::Build::new();
  build
    .file(source.join("sqlite-vec.c"))
    .include(source)
    .include(variable("DEP_SQLITE3_INCLUDE"))
    .define("SQLITE_CORE", None)
    .define("SQLITE_VEC_STATIC", None)
    // Also in a debug build: without it a scan is three times slower.
    .opt_level(3)
    .flag_if_supported("-ffast-math")
    .warnings(false);
  for symbol in symbols.lines().filter(|line| !line.is_empty()) {
    build.define(symbol, format!("{prefix}{symbol}").as_str());
  }
  build
}

fn variable(name: &str) -> String {
  env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
