//! Doors for benches and fuzzing, which are no part of this crate and see only what is public.

use std::path::Path;
use std::path::PathBuf;

use crate::runtime;
use crate::typescript::rewrite::Declared;
use crate::typescript::transpile;

/// The script that a first cell becomes; `None` when it is none.
pub fn script_of_cell(code: &str) -> Option<String> {
  transpile::prepare(code, "file:///cell-1.ts", &mut Declared::default())
    .ok()
    .map(|cell| cell.javascript)
}

/// Whether more input could complete a cell, as Jupyter says it.
pub fn is_complete(code: &str) -> serde_json::Value {
  transpile::is_complete(code)
}

/// An absolute path without `.` and `..`, as the file system of kernels reads it; `None` when it is
/// relative.
pub fn normal_path(path: &Path) -> Option<PathBuf> {
  runtime::absolute_path(path).ok()
}
