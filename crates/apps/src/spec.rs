//! Apps that may be run, and checks of their programs.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::error::AppError;
use crate::manifest;
use crate::manifest::Manifest;
use crate::script;

/// Everything an instance is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
  pub manifest: Manifest,
  pub source: Source,
  pub entry: Entry,
  /// The app's own folder, which is its working directory.
  pub folder: Option<PathBuf>,
}

/// Where an app comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
  Folder(PathBuf),
  File(PathBuf),
  Posted,
  Artifact {
    id: String,
    version: String,
  },
  /// Started by another system, on the account of `owner`, until that ends it.
  Session {
    id: String,
    owner: String,
  },
}

/// The main program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
  Script(String),
  File(PathBuf),
}

impl AppSpec {
  /// An app that consists of a script.
  ///
  /// # Errors
  /// When the manifest has no script, or names a file.
  pub fn of_script(manifest: Manifest, source: Source) -> Result<Self, AppError> {
    if manifest.entry.is_some() {
      return Err(AppError::Invalid(
        "entry: this app has no folder with files; give its program as startup_script".into(),
      ));
    }
    let script = manifest.startup_script.clone().ok_or_else(|| {
      AppError::Invalid("startup_script: missing; give the program of the app".into())
    })?;
    Ok(Self {
      manifest,
      source,
      entry: Entry::Script(script),
      folder: None,
    })
  }

  /// An app in a folder of its own.
  ///
  /// # Errors
  /// When the file with its program cannot be used.
  pub fn of_folder(manifest: Manifest, folder: PathBuf) -> Result<Self, AppError> {
    let entry = match (&manifest.startup_script, &manifest.entry) {
      (Some(script), _) => Entry::Script(script.clone()),
      (None, Some(entry)) => Entry::File(entry_file(&folder, entry)?),
      (None, None) => return Err(manifest::no_program()),
    };
    Ok(Self {
      manifest,
      source: Source::Folder(folder.clone()),
      entry,
      folder: Some(folder),
    })
  }
}

/// The file that `entry` names in `folder`. A path that leads out of the folder is refused.
fn entry_file(folder: &Path, entry: &str) -> Result<PathBuf, AppError> {
  let wrong = |what: String| AppError::Invalid(format!("entry: `{entry}` {what}"));
  let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
  if entry.is_empty() || !Path::new(entry).components().all(plain) {
    return Err(wrong(
      "is not a file inside the app's folder: write a relative path without `..`".into(),
    ));
  }
  let folder = folder
    .canonicalize()
    .map_err(|e| wrong(format!("cannot be looked for: {e}")))?;
  let path = folder.join(entry).canonicalize().map_err(|e| {
    wrong(format!(
      "cannot be used: {e}; name a file that is in the app's folder"
    ))
  })?;
  if !path.starts_with(&folder) {
    return Err(wrong(
      "is a link that leads out of the app's folder; copy the file there".into(),
    ));
  }
  script::check_file(&path).map_err(wrong)?;
  // The name as written: later messages name the file that the user knows.
  Ok(folder.join(entry))
}
