//! Lists the modules for embedding. `scripts/setup.sh` prepares them, and names their folder in BUILTIN_MODULES_DIR;
//! without it there are none.

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
  println!("cargo::rerun-if-changed=build.rs");
  println!("cargo::rerun-if-env-changed=BUILTIN_MODULES_DIR");
  let mut entries = Vec::new();
  match env::var_os("BUILTIN_MODULES_DIR").map(PathBuf::from) {
    Some(folder) => {
      println!("cargo::rerun-if-changed={}", folder.display());
      let files = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("BUILTIN_MODULES_DIR: {}: {e}", folder.display()));
      let paths = files.flatten().map(|entry| entry.path());
      for path in paths.filter(|path| path.extension().is_some_and(|it| it == "mjs")) {
        let name = path.file_stem().unwrap_or_default().display().to_string();
        entries.push(format!(
          "({name:?}, include_str!({:?})),",
          path.display().to_string()
        ));
      }
    }
    None => {
      println!("cargo::warning=built without the module hypha-rpc: run scripts/setup.sh first");
    }
  }
  entries.sort();
  let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
  fs::write(out.join("modules.rs"), format!("&[{}]", entries.concat()))
    .expect("OUT_DIR can be written");
}
