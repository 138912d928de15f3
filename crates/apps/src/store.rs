//! Keeps posted apps on disk until they are deleted. Blocking.

#![expect(
  clippy::disallowed_methods,
  reason = "called where threads may wait: on the blocking pool"
)]

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use serde_json::json;

use crate::error::AppError;
use crate::folder;
use crate::folder::RefusedApp;
use crate::id::AppId;
use crate::manifest::Manifest;
use crate::manifest::WrittenManifest;
use crate::script::extension_of;
use crate::spec::AppSpec;
use crate::spec::Entry;
use crate::spec::Source;

const MANIFEST: &str = "manifest.json";
/// Prefix of folders that are not an app yet, or no longer. No id begins with a dot.
const UNFINISHED: &str = ".unfinished-";

/// A folder with one folder for each app, which holds its manifest and its program.
#[derive(Debug, Clone)]
pub(crate) struct Store {
  root: PathBuf,
}

impl Store {
  /// `data` is the engine's own folder. Nothing is created before an app is saved.
  pub(crate) fn new(data: &Path) -> Self {
    Self {
      root: data.join("apps").join("posted"),
    }
  }

  /// Reads every app that was saved, in the order of their ids.
  pub(crate) fn load(&self) -> Vec<Result<AppSpec, RefusedApp>> {
    let refused = |id_or_path: String, reason: String| RefusedApp { id_or_path, reason };
    let entries = match fs::read_dir(&self.root) {
      Ok(entries) => entries,
      Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
      Err(error) => {
        let path = self.root.display().to_string();
        return vec![Err(refused(
          path,
          format!("posted apps cannot be read: {error}"),
        ))];
      }
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let mut apps = Vec::new();
    for name in names {
      let name = name.to_string_lossy().into_owned();
      if name.starts_with(UNFINISHED) {
        // Left by a server that ended while it was writing.
        let _ = fs::remove_dir_all(self.root.join(&name));
        continue;
      }
      apps.push(
        self
          .load_one(&name)
          .map_err(|e| refused(name, e.to_string())),
      );
    }
    apps
  }

  fn load_one(&self, name: &str) -> Result<AppSpec, AppError> {
    let id = AppId::new(name)?;
    let folder = self.root.join(name);
    let mut written = folder::read_manifest(&folder.join(MANIFEST))?;
    // Moving the folder renames the app.
    written.id = Some(id);
    let file = written.entry.take().unwrap_or_default();
    let program = AppSpec::of_folder(
      WrittenManifest {
        entry: Some(file),
        ..written.clone()
      }
      .check(None)?,
      folder,
    )?;
    let Entry::File(path) = program.entry else {
      return Err(AppError::Invalid(
        "entry: missing in the stored manifest".into(),
      ));
    };
    let script = fs::read_to_string(&path)
      .map_err(|e| AppError::Invalid(format!("entry: the program cannot be read: {e}")))?;
    written.startup_script = Some(script);
    written.lang = Some(program.manifest.lang.to_string());
    AppSpec::of_script(written.check(None)?, Source::Posted)
  }

  /// Saves an app, in place of an earlier one of its id.
  ///
  /// # Errors
  /// When it cannot be written; what was saved before is then unchanged.
  pub(crate) fn save(&self, manifest: &Manifest) -> Result<(), AppError> {
    self.write(manifest).map_err(|e| {
      AppError::Host(format!(
        "app {} cannot be kept in {}: {e}",
        manifest.id,
        self.root.display()
      ))
    })
  }

  fn write(&self, manifest: &Manifest) -> io::Result<()> {
    let file = format!("main.{}", extension_of(manifest.lang));
    let mut stored = serde_json::to_value(manifest).map_err(io::Error::other)?;
    if let Some(members) = stored.as_object_mut() {
      members.remove("startup_script");
      members.insert("entry".into(), json!(file));
    }
    let new = self.unfinished("new", &manifest.id);
    remove_if_there(&new)?;
    // Manifests hold secrets.
    fs::DirBuilder::new()
      .recursive(true)
      .mode(0o700)
      .create(&new)?;
    let script = manifest.startup_script.as_deref().unwrap_or_default();
    write_synced(&new.join(file), script.as_bytes())?;
    write_synced(&new.join(MANIFEST), &serde_json::to_vec_pretty(&stored)?)?;
    let place = self.root.join(manifest.id.as_str());
    if place.exists() {
      // One step, where the file system can; the earlier app then has the name of the unfinished one.
      let here = rustix::fs::CWD;
      let exchange = rustix::fs::RenameFlags::EXCHANGE;
      if rustix::fs::renameat_with(here, &new, here, &place, exchange).is_err() {
        fs::remove_dir_all(&place)?;
        return fs::rename(&new, &place);
      }
      remove_if_there(&new)
    } else {
      fs::rename(&new, &place)
    }
  }

  /// Deletes an app. One that is not there counts as deleted.
  ///
  /// # Errors
  /// When it cannot be deleted; it is then still there.
  pub(crate) fn delete(&self, id: &AppId) -> Result<(), AppError> {
    let failed = |e: io::Error| AppError::Host(format!("app {id} cannot be deleted: {e}"));
    let old = self.unfinished("old", id);
    remove_if_there(&old).map_err(failed)?;
    match fs::rename(self.root.join(id.as_str()), &old) {
      Ok(()) => {
        // It is gone for everybody; what is left of it is removed at the next start.
        let _ = fs::remove_dir_all(&old);
        Ok(())
      }
      Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
      Err(error) => Err(failed(error)),
    }
  }

  fn unfinished(&self, what: &str, id: &AppId) -> PathBuf {
    self.root.join(format!("{UNFINISHED}{what}-{id}"))
  }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
  match fs::remove_dir_all(path) {
    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
    _ => Ok(()),
  }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
  let mut file = fs::File::create(path)?;
  io::Write::write_all(&mut file, bytes)?;
  file.sync_all()
}

#[cfg(test)]
mod tests {
  use super::*;

  fn manifest(json: &serde_json::Value) -> Manifest {
    let written = WrittenManifest::parse(&json.to_string()).expect("parses");
    written.check(None).expect("valid")
  }

  fn ids(store: &Store) -> Vec<String> {
    let loaded = store.load().into_iter();
    loaded
      .map(|app| app.expect("loads").manifest.id.to_string())
      .collect()
  }

  #[test]
  fn a_saved_app_is_loaded_as_it_was() {
    let data = tempfile::tempdir().expect("a folder");
    let store = Store::new(data.path());
    assert!(store.load().is_empty());
    let app = manifest(&json!({
      "id": "shop", "lang": "cpython", "startup_script": "print('é')\n", "env": {"A": "b"},
      "permissions": {"net": false}, "limits": {"memoryMb": 256}, "restart": "never", "port": 81
    }));
    store.save(&app).expect("saves");
    let loaded = store.load().remove(0).expect("loads");
    assert_eq!(loaded.manifest, app);
    assert_eq!(loaded.source, Source::Posted);
    assert_eq!(loaded.entry, Entry::Script("print('é')\n".into()));
    assert!(data.path().join("apps/posted/shop/main.py").is_file());
  }

  #[test]
  fn saving_again_replaces_and_deleting_removes() {
    let data = tempfile::tempdir().expect("a folder");
    let store = Store::new(data.path());
    store
      .save(&manifest(
        &json!({"id": "a", "lang": "ts", "startup_script": "1"}),
      ))
      .expect("saves");
    store
      .save(&manifest(
        &json!({"id": "a", "lang": "js", "startup_script": "2"}),
      ))
      .expect("saves");
    store
      .save(&manifest(&json!({"id": "b", "startup_script": "3"})))
      .expect("saves");
    let first = store.load().remove(0).expect("loads");
    assert_eq!(first.entry, Entry::Script("2".into()));
    assert!(!data.path().join("apps/posted/a/main.ts").exists());
    store
      .delete(&AppId::new("a").expect("an id"))
      .expect("deletes");
    store
      .delete(&AppId::new("a").expect("an id"))
      .expect("is deleted already");
    assert_eq!(ids(&store), ["b"]);
    let left = fs::read_dir(data.path().join("apps/posted"))
      .expect("reads")
      .count();
    assert_eq!(left, 1);
  }

  #[test]
  fn what_an_ended_server_left_half_written_is_removed_and_broken_apps_are_named() {
    let data = tempfile::tempdir().expect("a folder");
    let store = Store::new(data.path());
    store
      .save(&manifest(&json!({"id": "good", "startup_script": "1"})))
      .expect("saves");
    let root = data.path().join("apps/posted");
    fs::create_dir(root.join(".unfinished-new-x")).expect("makes");
    fs::create_dir(root.join("broken")).expect("makes");
    fs::write(root.join("broken/manifest.json"), "{").expect("writes");
    let loaded = store.load();
    assert_eq!(loaded.len(), 2);
    let refused = loaded[0].as_ref().expect_err("broken");
    assert_eq!(refused.id_or_path, "broken");
    assert!(refused.reason.contains("not JSON"), "{}", refused.reason);
    assert!(loaded[1].is_ok());
    assert!(!root.join(".unfinished-new-x").exists());
  }
}
