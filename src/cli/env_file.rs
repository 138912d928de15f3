//! Variables from a file, for those who start the engine without a shell that sets them.

use std::ffi::OsString;
use std::path::PathBuf;

/// Read by the command `hypha`, as its predecessor did.
const USUAL: &str = ".env";

#[derive(Debug, thiserror::Error)]
#[error("--env-file: {0} cannot be used: {1}")]
pub(super) struct EnvFileError(String, dotenvy::Error);

/// Sets the variables of the file that `--env-file` names, else of `.env` in the working directory for the command
/// `hypha`. What the environment has already stays. Call it before there are threads.
///
/// # Errors
/// When the file cannot be read, or a line of it is no variable.
pub(super) fn load(arguments: impl Iterator<Item = OsString>) -> Result<(), EnvFileError> {
  let arguments: Vec<OsString> = arguments.skip(1).collect();
  let Some(file) = file(&arguments) else {
    return Ok(());
  };
  dotenvy::from_path(&file).map_err(|e| EnvFileError(file.display().to_string(), e))
}

/// The file to read, if any.
fn file(arguments: &[OsString]) -> Option<PathBuf> {
  let texts: Vec<&str> = arguments.iter().filter_map(|it| it.to_str()).collect();
  let command = *texts.first()?;
  if !matches!(command, "serve" | "hypha") {
    return None;
  }
  let after = |at: usize| texts.get(at + 1).copied();
  let named =
    texts
      .iter()
      .enumerate()
      .find_map(|(at, text)| match text.strip_prefix("--env-file") {
        Some("") => after(at),
        Some(value) => value.strip_prefix('='),
        None => None,
      });
  match named {
    Some(name) => Some(name.into()),
    None if command == "hypha" => Some(PathBuf::from(USUAL)).filter(|path| path.is_file()),
    None => None,
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn the_file_is_named_or_the_usual_one() {
    let of = |line: &str| {
      let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
      file(&arguments)
    };
    assert_eq!(of("hypha --env-file a.env"), Some("a.env".into()));
    assert_eq!(of("serve --env-file=b.env --port 1"), Some("b.env".into()));
    assert_eq!(of("serve --port 1"), None);
    assert_eq!(of("run --env-file c.env"), None);
    assert_eq!(of("hypha"), None);
  }
}
