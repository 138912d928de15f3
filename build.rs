//! Lists the files of Pyodide for embedding. `scripts/setup.sh` prepares them, compressed, and names
//! their folder in PYODIDE_DIST_DIR; without it the engine is built without Python in V8.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn main() {
  println!("cargo::rerun-if-changed=build.rs");
  println!("cargo::rerun-if-env-changed=PYODIDE_DIST_DIR");
  let dist = env::var_os("PYODIDE_DIST_DIR").map(PathBuf::from);
  // The folder is named after what it was made from.
  let id = dist
    .as_deref()
    .and_then(Path::file_name)
    .unwrap_or_default();
  println!("cargo::rustc-env=PYODIDE_DIST_ID={}", id.display());
  let files = match &dist {
    Some(folder) => {
      println!("cargo::rerun-if-changed={}", folder.display());
      compressed_files(folder)
    }
    None => {
      println!(
        "cargo::warning=built without Pyodide: run scripts/setup.sh first for Python kernels"
      );
      Vec::new()
    }
  };
  let mut list = "&[".to_owned();
  for file in &files {
    let name = file.file_stem().unwrap_or_default().display();
    let path = file.display();
    writeln!(
      list,
      "({:?}, include_bytes!({:?})),",
      name.to_string(),
      path.to_string()
    )
    .expect("a string can be written to");
  }
  list.push(']');
  let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
  fs::write(out.join("pyodide_files.rs"), list).expect("OUT_DIR can be written");
}

fn compressed_files(folder: &Path) -> Vec<PathBuf> {
  let entries = fs::read_dir(folder)
    .unwrap_or_else(|e| panic!("PYODIDE_DIST_DIR: {} cannot be read: {e}", folder.display()));
  let mut files: Vec<PathBuf> = entries
    .flatten()
    .map(|entry| entry.path())
    .filter(|path| path.extension().is_some_and(|e| e == "gz"))
    .collect();
  files.sort();
  files
}
