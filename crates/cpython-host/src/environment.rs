//! What a kernel's environment must have for its packages and child processes to work.

use std::collections::BTreeMap;
use std::path::Path;

use pyo3::prelude::*;

/// Where commands are looked for after the installation's own.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The kernel's environment, with defaults for what it does not say.
pub(crate) fn complete(
  py: Python<'_>,
  env: &BTreeMap<String, String>,
  cwd: &str,
) -> PyResult<BTreeMap<String, String>> {
  let sys = py.import("sys")?;
  let executable: String = sys.getattr("executable")?.extract()?;
  let prefix: String = sys.getattr("prefix")?.extract()?;
  let mut complete = env.clone();
  let mut default = |name: &str, value: String| {
    complete.entry(name.to_owned()).or_insert(value);
  };
  if let Some(bin) = Path::new(&executable).parent() {
    default("PATH", format!("{}:{SYSTEM_PATH}", bin.display()));
  }
  if prefix != sys.getattr("base_prefix")?.extract::<String>()? {
    default("VIRTUAL_ENV", prefix);
  }
  // Many packages keep settings and caches there; the account's own home is not the kernel's.
  default("HOME", cwd.to_owned());
  default("LANG", "C.UTF-8".to_owned());
  Ok(complete)
}
