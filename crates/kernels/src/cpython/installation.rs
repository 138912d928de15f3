//! What the server learns of a Python before it makes kernels of it.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use sandbox::KernelUser;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::spawner;

/// The oldest version whose stable ABI `cpython-host` is built for.
const OLDEST: Version = Version(3, 11, 0);
const OLDEST_IPYTHON: u32 = 8;
/// A cold disk and a busy machine take seconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most that is read of what it prints, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}.{}.{}", self.0, self.1, self.2)
  }
}

/// An interpreter, or a virtual environment, that kernels can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonInstallation {
  /// As it was named; not resolved, for a virtual environment is known by its link's place.
  pub executable: PathBuf,
  pub version: Version,
  /// The shared libpython that `cpython-host` is started with.
  pub library: PathBuf,
  /// Root of the installation or environment.
  pub prefix: PathBuf,
  pub ipython: String,
}

/// What `probe.py` prints.
#[derive(Deserialize)]
struct Facts {
  version: Version,
  implementation: String,
  #[serde(default)]
  library: Option<PathBuf>,
  #[serde(default)]
  free_threaded: bool,
  #[serde(default)]
  word_bits: Option<u32>,
  #[serde(default)]
  prefix: PathBuf,
  #[serde(default)]
  ipython: Option<String>,
}

impl PythonInstallation {
  /// Runs the executable once, as kernels will be run, and judges what it says of itself.
  ///
  /// # Errors
  /// A sentence that names the executable and what would help.
  pub async fn probe(executable: &Path, user: Option<KernelUser>) -> Result<Self, String> {
    let shown = executable.display();
    if !executable.is_absolute() {
      return Err(format!("`{shown}` is not the absolute path of a Python"));
    }
    let output = match tokio::time::timeout(PROBE_TIMEOUT, run_probe(executable, user)).await {
      Err(_) => {
        return Err(format!(
          "{shown} did not answer within {} s: it may not be a Python",
          PROBE_TIMEOUT.as_secs()
        ));
      }
      Ok(Err(error)) => {
        return Err(format!(
          "{shown} cannot be run ({error}): name a CPython {}.{} or newer, or the `bin/python` of \
           a virtual environment",
          OLDEST.0, OLDEST.1
        ));
      }
      Ok(Ok(output)) => output,
    };
    match serde_json::from_slice::<Facts>(&output.stdout) {
      Ok(facts) => facts.judge(executable),
      Err(_) => {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or_default();
        Err(format!(
          "{shown} does not work as a Python ({}){}{said}",
          output.status,
          if said.is_empty() { "" } else { ": " },
        ))
      }
    }
  }
}

/// Options that even old Pythons know leave the account's settings out; the folder has no modules.
async fn run_probe(executable: &Path, user: Option<KernelUser>) -> io::Result<Output> {
  let mut command = Command::new(executable);
  command
    .args(["-E", "-s", "-c", include_str!("probe.py")])
    .env_clear()
    .current_dir("/")
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .kill_on_drop(true);
  if let Some(user) = user {
    // Root's other groups go with it.
    command.uid(user.uid().as_raw()).gid(user.gid().as_raw());
  }
  let mut child = spawner::spawn(command).await?;
  let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
  // Whatever was named may print without end.
  let out = async {
    match child.stdout.take() {
      Some(pipe) => pipe.take(MAX_OUTPUT).read_to_end(&mut stdout).await,
      None => Ok(0),
    }
  };
  let err = async {
    match child.stderr.take() {
      Some(pipe) => pipe.take(MAX_OUTPUT).read_to_end(&mut stderr).await,
      None => Ok(0),
    }
  };
  tokio::try_join!(out, err)?;
  let status = child.wait().await?;
  Ok(Output {
    status,
    stdout,
    stderr,
  })
}

impl Facts {
  fn judge(self, executable: &Path) -> Result<PythonInstallation, String> {
    let shown = executable.display();
    let version = self.version;
    let named = format!("python {version} at {shown}");
    if self.implementation != "cpython" {
      return Err(format!(
        "{shown} is {}: CPython {}.{} or newer is needed",
        self.implementation, OLDEST.0, OLDEST.1
      ));
    }
    if version < OLDEST {
      return Err(format!(
        "{named} is too old: CPython {}.{} or newer is needed",
        OLDEST.0, OLDEST.1
      ));
    }
    if self.free_threaded {
      return Err(format!(
        "{named} is a free-threaded build, which kernels cannot use: name one with the GIL"
      ));
    }
    if self
      .word_bits
      .is_some_and(|bits| u64::from(bits) != u64::from(usize::BITS))
    {
      return Err(format!(
        "{named} is not built for this processor's {} bits",
        usize::BITS
      ));
    }
    let library = self.library.ok_or_else(|| {
      let (major, minor) = (version.0, version.1);
      format!(
        "{named} has no shared libpython: install it (Debian, Ubuntu: `apt install \
         libpython{major}.{minor}`) or use a Python built with --enable-shared (pyenv: \
         `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {major}.{minor}`)"
      )
    })?;
    let ipython = self
      .ipython
      .ok_or_else(|| format!("{named} has no IPython: run `{shown} -m pip install ipython`"))?;
    let major = ipython.split('.').next().and_then(|m| m.parse().ok());
    if major.is_some_and(|major: u32| major < OLDEST_IPYTHON) {
      return Err(format!(
        "IPython {ipython} of {named} is too old: run `{shown} -m pip install --upgrade ipython`"
      ));
    }
    Ok(PythonInstallation {
      executable: executable.to_owned(),
      version,
      library,
      prefix: self.prefix,
      ipython,
    })
  }
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  fn judge(changed: &serde_json::Value) -> Result<PythonInstallation, String> {
    let mut facts = json!({
      "version": [3, 12, 1], "implementation": "cpython", "library": "/p/libpython3.12.so.1.0",
      "free_threaded": false, "word_bits": usize::BITS, "prefix": "/p", "ipython": "9.0.0",
    });
    for (name, value) in changed.as_object().into_iter().flatten() {
      facts[name] = value.clone();
    }
    serde_json::from_value::<Facts>(facts)
      .expect("facts")
      .judge(Path::new("/p/bin/python"))
  }

  #[test]
  fn what_suits_is_taken_as_it_was_named() {
    let installation = judge(&json!({})).expect("suits");
    assert_eq!(installation.executable, Path::new("/p/bin/python"));
    assert_eq!(installation.version, Version(3, 12, 1));
  }

  #[test]
  fn what_does_not_suit_is_told_with_the_remedy() {
    let cases = [
      (
        json!({"implementation": "pypy"}),
        "/p/bin/python is pypy: CPython 3.11 or newer is needed",
      ),
      (
        json!({"version": [3, 10, 13]}),
        "python 3.10.13 at /p/bin/python is too old: CPython 3.11 or newer is needed",
      ),
      (json!({"free_threaded": true}), "free-threaded"),
      (
        json!({"library": null}),
        "has no shared libpython: install it",
      ),
      (
        json!({"ipython": null}),
        "has no IPython: run `/p/bin/python -m pip install ipython`",
      ),
      (
        json!({"ipython": "7.34.0"}),
        "IPython 7.34.0 of python 3.12.1",
      ),
    ];
    for (changed, expected) in cases {
      let error = judge(&changed).expect_err("does not suit");
      assert!(error.contains(expected), "{error}");
    }
  }
}
