use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kernels::Language;
use serde_json::json;

use crate::folder::RefusedApp;
use crate::folder::read;
use crate::script;
use crate::spec::AppSpec;
use crate::spec::Entry;
use crate::spec::Source;

fn write(path: &Path, text: &str) {
  fs::create_dir_all(path.parent().expect("has a parent")).expect("makes");
  fs::write(path, text).expect("writes");
}

fn only(mut read: Vec<Result<AppSpec, RefusedApp>>) -> Result<AppSpec, RefusedApp> {
  assert_eq!(read.len(), 1, "{read:?}");
  read.remove(0)
}

#[test]
fn folders_and_files_are_apps_and_the_rest_is_passed_over() {
  let dir = tempfile::tempdir().expect("a folder");
  let dir = dir.path();
  write(
    &dir.join("a/app.json"),
    &json!({"name": "A", "entry": "src/x.mjs"}).to_string(),
  );
  write(&dir.join("a/src/x.mjs"), "1");
  write(
    &dir.join("b/manifest.json"),
    r#"{"id": "bee", "startup_script": "1"}"#,
  );
  write(&dir.join("c/index.ts"), "1");
  write(&dir.join("d.py"), "1");
  for ignored in [
    ".hidden.ts",
    "node_modules/main.ts",
    "deno.json",
    "notes.md",
    "lib/util.ts",
  ] {
    write(&dir.join(ignored), "1");
  }
  let apps: Vec<AppSpec> = read(dir)
    .into_iter()
    .map(|app| app.expect("an app"))
    .collect();
  let facts: Vec<_> = apps
    .iter()
    .map(|app| (app.manifest.id.as_str(), app.manifest.lang))
    .collect();
  assert_eq!(
    facts,
    [
      ("a", Language::JavaScript),
      ("bee", Language::Python),
      ("c", Language::TypeScript),
      ("d", Language::Python)
    ]
  );
  assert_eq!(apps[0].source, Source::Folder(dir.join("a")));
  assert_eq!(apps[0].folder, Some(dir.join("a")));
  assert!(matches!(&apps[0].entry, Entry::File(path) if path.ends_with("a/src/x.mjs")));
  assert_eq!(apps[1].entry, Entry::Script("1".into()));
  assert_eq!(apps[3].source, Source::File(dir.join("d.py")));
  assert_eq!(apps[3].folder, None);
}

#[test]
fn every_kind_of_program_that_an_entry_may_be_is_an_app_by_itself_and_as_main() {
  for (extension, language) in script::EXTENSIONS {
    let dir = tempfile::tempdir().expect("a folder");
    write(&dir.path().join(format!("single.{extension}")), "1");
    write(&dir.path().join(format!("whole/main.{extension}")), "1");
    let manifest = json!({"entry": format!("x.{extension}")}).to_string();
    write(&dir.path().join("written/app.json"), &manifest);
    write(&dir.path().join(format!("written/x.{extension}")), "1");
    let read: Vec<_> = read(dir.path())
      .into_iter()
      .map(|app| app.expect("an app").manifest)
      .map(|manifest| (manifest.id.to_string(), manifest.lang))
      .collect();
    let expected = ["single", "whole", "written"].map(|id| (id.to_owned(), language));
    assert_eq!(read, expected, "{extension}");
  }
}

#[test]
fn the_program_without_a_manifest_is_main_rather_than_index() {
  let dir = tempfile::tempdir().expect("a folder");
  for name in ["index.ts", "main.py", "main.js"] {
    write(&dir.path().join("a").join(name), "1");
  }
  let app = only(read(dir.path())).expect("an app");
  assert!(matches!(app.entry, Entry::File(path) if path.ends_with("main.js")));
}

#[test]
fn an_entry_that_leads_out_or_is_no_program_is_refused() {
  let dir = tempfile::tempdir().expect("a folder");
  let outside = tempfile::NamedTempFile::new().expect("a file");
  fs::write(outside.path(), "1").expect("writes");
  let app = dir.path().join("a");
  write(&app.join("empty.ts"), "");
  write(&app.join("sub/x.ts"), "1");
  symlink(outside.path(), app.join("out.ts")).expect("links");
  symlink("sub/x.ts", app.join("in.ts")).expect("links");
  let huge = fs::File::create(app.join("huge.ts")).expect("makes");
  huge.set_len((16 << 20) + 1).expect("grows");
  let with = |entry: &str| {
    write(
      &app.join("app.json"),
      &json!({"lang": "ts", "entry": entry}).to_string(),
    );
    only(read(dir.path()))
  };
  assert!(with("in.ts").is_ok());
  assert!(with("./sub/x.ts").is_ok());
  let absolute = app.join("in.ts").display().to_string();
  for (entry, told) in [
    (absolute.as_str(), "relative path without `..`"),
    ("../a/in.ts", "relative path without `..`"),
    ("", "relative path without `..`"),
    ("missing.ts", "name a file that is in the app's folder"),
    ("out.ts", "a link that leads out of the app's folder"),
    ("sub", "is not a file"),
    ("empty.ts", "is empty"),
    ("huge.ts", "larger than 16 MiB"),
  ] {
    let refused = with(entry).expect_err(entry);
    assert!(refused.reason.starts_with("entry: "), "{}", refused.reason);
    assert!(
      refused.reason.contains(told),
      "{} lacks {told}",
      refused.reason
    );
    assert_eq!(refused.id_or_path, "a");
  }
}

#[test]
fn a_broken_app_is_named_and_stops_no_other() {
  let dir = tempfile::tempdir().expect("a folder");
  let dir = dir.path();
  write(&dir.join("a/app.json"), "{");
  write(&dir.join("b/app.json"), r#"{"colour": 1}"#);
  write(&dir.join("c d.ts"), "1");
  write(&dir.join("e.ts"), "");
  symlink("nowhere.ts", dir.join("f.ts")).expect("links");
  write(&dir.join("g.ts"), "1");
  let read = read(dir);
  let told = [
    "app.json: it is not JSON",
    "unknown field `colour`",
    "rename it",
    "is empty",
    "cannot be read",
  ];
  for (app, told) in read.iter().zip(told) {
    let refused = app.as_ref().expect_err(told);
    assert!(
      refused.reason.contains(told),
      "{} lacks {told}",
      refused.reason
    );
  }
  assert_eq!(read.len(), 6);
  assert!(read[5].is_ok());
}

#[test]
fn of_two_apps_with_one_id_the_second_is_refused() {
  let dir = tempfile::tempdir().expect("a folder");
  write(&dir.path().join("a.ts"), "1");
  write(
    &dir.path().join("b/app.json"),
    r#"{"id": "a", "startup_script": "1"}"#,
  );
  let read = read(dir.path());
  assert!(read[0].is_ok());
  let refused = read[1].as_ref().expect_err("the id is taken");
  assert!(
    refused.reason.contains("`b`") && refused.reason.contains("`a.ts`"),
    "{}",
    refused.reason
  );
  assert_eq!(refused.id(), None, "the id is the other's");
}

#[test]
fn a_folder_that_is_not_there_is_told() {
  let refused = only(read(Path::new("/no/such/folder"))).expect_err("is missing");
  assert!(
    refused.reason.contains("cannot be read"),
    "{}",
    refused.reason
  );
}
