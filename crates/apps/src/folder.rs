//! Apps in the operator's folder: each subdirectory and each program file in it. Blocking.

#![expect(
  clippy::disallowed_methods,
  reason = "called where threads may wait: on the blocking pool"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::error::AppError;
use crate::id::AppId;
use crate::manifest::WrittenManifest;
use crate::script;
use crate::spec::AppSpec;
use crate::spec::Entry;
use crate::spec::Source;

/// Names of a folder's manifest; the first that exists is read.
const MANIFESTS: [&str; 2] = ["app.json", "manifest.json"];
/// Names of the program of a folder without a manifest; the first that exists is run.
const ENTRIES: [&str; 2] = ["main", "index"];
/// Far above the size of any manifest, even with a script in it.
const MAX_MANIFEST_BYTES: u64 = script::MAX_BYTES * 2;

/// Something that was meant to be an app, and was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedApp {
  /// The id it would have, otherwise its path.
  pub id_or_path: String,
  pub reason: String,
}

impl RefusedApp {
  /// The id; `None` if there is no usable one.
  pub fn id(&self) -> Option<AppId> {
    AppId::new(&self.id_or_path).ok()
  }
}

/// Reads the whole folder, in name order.
pub(crate) fn read(dir: &Path) -> Vec<Result<AppSpec, RefusedApp>> {
  let names = fs::read_dir(dir).and_then(|entries| {
    entries
      .map(|entry| entry.map(|e| e.file_name()))
      .collect::<Result<Vec<_>, _>>()
  });
  let mut names = match names {
    Ok(names) => names,
    Err(error) => {
      return vec![Err(RefusedApp {
        id_or_path: dir.display().to_string(),
        reason: format!("the folder of apps cannot be read: {error}"),
      })];
    }
  };
  names.sort();
  let mut owners: BTreeMap<AppId, String> = BTreeMap::new();
  let mut apps = Vec::new();
  for name in names {
    let shown = name.to_string_lossy().into_owned();
    let Some(read) = read_one(&dir.join(&name)) else {
      continue;
    };
    apps.push(match read {
      Ok(spec) => match owners.get(&spec.manifest.id) {
        Some(owner) => Err(RefusedApp {
          id_or_path: dir.join(&name).display().to_string(),
          reason: format!(
            "id: `{shown}` has the id `{}`, and so has `{owner}`; give one of them another id",
            spec.manifest.id
          ),
        }),
        None => {
          owners.insert(spec.manifest.id.clone(), shown);
          Ok(spec)
        }
      },
      Err(error) => Err(RefusedApp {
        id_or_path: name_of(&dir.join(&name)).unwrap_or(shown),
        reason: error.to_string(),
      }),
    });
  }
  apps
}

/// Reads the app at one path; `None` if there is none.
pub(crate) fn read_one(path: &Path) -> Option<Result<AppSpec, AppError>> {
  let name = path.file_name()?;
  if name == "node_modules" || name.to_string_lossy().starts_with('.') {
    return None;
  }
  match fs::metadata(path) {
    Ok(metadata) if metadata.is_dir() => read_folder(path).transpose(),
    Ok(_) if is_program(path) => Some(read_file(path)),
    // A link that leads nowhere was meant to be an app.
    Err(error) if is_program(path) => Some(Err(AppError::Invalid(format!(
      "`{}` cannot be read: {error}",
      path.display()
    )))),
    _ => None,
  }
}

fn read_folder(path: &Path) -> Result<Option<AppSpec>, AppError> {
  let written = match MANIFESTS.iter().find(|name| path.join(name).exists()) {
    Some(name) => {
      read_manifest(&path.join(name)).map_err(|e| AppError::Invalid(format!("{name}: {e}")))?
    }
    None => match entry_of(path) {
      Some(entry) => WrittenManifest {
        entry: Some(entry),
        ..Default::default()
      },
      None => return Ok(None),
    },
  };
  let id = match written.id {
    Some(_) => None,
    None => Some(id_from_name(path)?),
  };
  AppSpec::of_folder(written.check(id)?, path.to_owned()).map(Some)
}

fn read_file(path: &Path) -> Result<AppSpec, AppError> {
  let id = id_from_name(path)?;
  script::check_file(path)
    .map_err(|what| AppError::Invalid(format!("`{}` {what}", path.display())))?;
  let written = WrittenManifest {
    entry: path
      .file_name()
      .map(|name| name.to_string_lossy().into_owned()),
    ..Default::default()
  };
  Ok(AppSpec {
    manifest: written.check(Some(id))?,
    source: Source::File(path.to_owned()),
    entry: Entry::File(path.to_owned()),
    folder: None,
  })
}

pub(crate) fn read_manifest(path: &Path) -> Result<WrittenManifest, AppError> {
  let cannot = |what: String| AppError::Invalid(format!("it cannot be read: {what}"));
  let metadata = fs::metadata(path).map_err(|e| cannot(e.to_string()))?;
  if !metadata.is_file() || metadata.len() > MAX_MANIFEST_BYTES {
    return Err(cannot(format!(
      "it is not a file of at most {} MiB",
      MAX_MANIFEST_BYTES >> 20
    )));
  }
  let text = fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
  WrittenManifest::parse(&text)
}

/// The program of a folder without a manifest.
fn entry_of(folder: &Path) -> Option<String> {
  let names = ENTRIES.iter().flat_map(|name| {
    let extensions = script::EXTENSIONS.iter();
    extensions.map(move |(extension, _)| format!("{name}.{extension}"))
  });
  names.into_iter().find(|name| folder.join(name).exists())
}

fn is_program(path: &Path) -> bool {
  script::language_of(path).is_some()
}

/// The name of a folder, or of a file without its extension.
fn name_of(path: &Path) -> Option<String> {
  let name = if path.is_dir() {
    path.file_name()
  } else {
    path.file_stem()
  };
  name.and_then(OsStr::to_str).map(str::to_owned)
}

fn id_from_name(path: &Path) -> Result<AppId, AppError> {
  let name = name_of(path).ok_or_else(|| {
    AppError::Invalid(format!(
      "id: the name `{}` is not text; rename it",
      path.display()
    ))
  })?;
  AppId::new(&name)
    .map_err(|e| AppError::Invalid(format!("{e}; rename it or write an id into app.json")))
}

/// The path of an app's source; `None` if it is not on disk.
pub(crate) fn source_path(source: &Source) -> Option<&PathBuf> {
  match source {
    Source::Folder(path) | Source::File(path) => Some(path),
    Source::Posted | Source::Artifact { .. } | Source::Session { .. } => None,
  }
}
