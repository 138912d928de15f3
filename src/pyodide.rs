//! The Pyodide inside this binary.

use pyodide_dist::Distribution;

/// What `build.rs` has embedded; without files in a build without Python.
pub(crate) const PYODIDE: Distribution = Distribution::Embedded {
  id: env!("PYODIDE_DIST_ID"),
  files: include!(concat!(env!("OUT_DIR"), "/pyodide_files.rs")),
};
