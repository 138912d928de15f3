//! Lists the files of Pyodide and of the local embedding model for embedding. `scripts/setup.sh` prepares them, and
//! names their folders in PYODIDE_DIST_DIR and LOCAL_MODEL_DIR; without these the engine is built without Python in
//! V8, and without the model.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn main() {
  println!("cargo::rerun-if-changed=build.rs");
  pyodide();
  local_model();
}

fn local_model() {
  println!("cargo::rerun-if-env-changed=LOCAL_MODEL_DIR");
  let source = match env::var_os("LOCAL_MODEL_DIR").map(PathBuf::from) {
    Some(folder) => {
      let include = |name: &str| {
        let file = folder.join(name);
        println!("cargo::rerun-if-changed={}", file.display());
        format!("include_bytes!({:?})", file.display().to_string())
      };
      format!(
        "LocalModelFiles::Embedded {{ weights: {}, tokenizer: {} }}",
        include("weights.safetensors"),
        include("tokenizer.json.gz")
      )
    }
    None => {
      println!(
        "cargo::warning=built without the local embedding model: run scripts/setup.sh first"
      );
      "LocalModelFiles::None".to_owned()
    }
  };
  write_out("local_model.rs", &source);
}

fn pyodide() {
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
  write_out("pyodide_files.rs", &list);
}

fn write_out(name: &str, text: &str) {
  let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
  fs::write(out.join(name), text).expect("OUT_DIR can be written");
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
