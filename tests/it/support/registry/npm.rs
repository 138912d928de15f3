//! An npm registry, of archives as npm packs them and of packages that tests make up.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sha1::Sha1;
use sha2::Digest;
use sha2::Sha512;

use super::Loopback;
use super::Reply;
use super::Request;

/// Where the archives of `tests/npm-packages.txt` are.
///
/// # Panics
/// When `scripts/test.sh`, which fetches them, does not run the tests.
pub(super) fn npm_archives() -> PathBuf {
  let folder = std::env::var_os("NPM_TEST_PACKAGES");
  folder
    .expect("NPM_TEST_PACKAGES: scripts/test.sh sets it")
    .into()
}

/// What is wrong with what the registry says about a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
  /// The sum is of another archive.
  WrongIntegrity,
  /// The sum is an old one, SHA-1, and of another archive.
  WrongShasum,
  /// The archive ends early; its sum is the sum of what is served.
  TruncatedArchive,
  MissingArchive,
  HangingArchive,
  SlowArchive(Duration),
  /// The description is no JSON.
  Garbage,
  HangingDescription,
  /// The registry fails for this package.
  ServerError,
}

/// One version of one package.
pub(crate) struct NpmPackage {
  manifest: Map<String, Value>,
  archive: Vec<u8>,
  fault: Option<Fault>,
}

impl NpmPackage {
  /// # Panics
  /// When the file is no archive that npm has packed.
  fn from_archive(path: &Path) -> Self {
    let archive = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest =
      manifest_in(&archive).unwrap_or_else(|| panic!("{}: no package.json in it", path.display()));
    Self {
      manifest,
      archive,
      fault: None,
    }
  }

  /// Makes a package up: its `package.json`, which needs `name` and `version`, and its other files.
  /// File names are taken as they are, those that lead out of the package too.
  pub(crate) fn of(manifest: Value, files: &[(&str, &str)]) -> Self {
    let Value::Object(manifest) = manifest else {
      panic!("a package.json is an object, not {manifest}");
    };
    let text = Value::Object(manifest.clone()).to_string();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in [("package.json", text.as_str())].iter().chain(files) {
      archive
        .append(&entry(name, text.len()), text.as_bytes())
        .expect("memory can be written");
    }
    let archive = archive.into_inner().and_then(GzEncoder::finish);
    Self {
      manifest,
      archive: archive.expect("memory can be written"),
      fault: None,
    }
  }

  #[must_use]
  pub(crate) fn with(mut self, fault: Fault) -> Self {
    if fault == Fault::TruncatedArchive {
      self.archive.truncate(self.archive.len() / 2);
    }
    self.fault = Some(fault);
    self
  }

  fn text(&self, field: &str) -> &str {
    self.manifest[field]
      .as_str()
      .unwrap_or_else(|| panic!("{field} of a package is a text"))
  }

  fn archive_path(&self) -> String {
    archive_path(self.text("name"), self.text("version"))
  }

  /// What the registry says about this version.
  fn description(&self, origin: &str) -> Value {
    let mut description = self.manifest.clone();
    let mut dist = json!({ "tarball": format!("{origin}{}", self.archive_path()) });
    if self.fault == Some(Fault::WrongShasum) {
      dist["shasum"] = json!("0".repeat(40));
    } else {
      let sum = match self.fault {
        Some(Fault::WrongIntegrity) => Sha512::digest(b"another archive"),
        _ => Sha512::digest(&self.archive),
      };
      dist["integrity"] = json!(format!("sha512-{}", STANDARD.encode(sum)));
      dist["shasum"] = json!(hex(&Sha1::digest(&self.archive)));
    }
    description.insert("dist".to_owned(), dist);
    Value::Object(description)
  }

  fn archive(&self) -> Reply {
    let reply = Reply::content("application/octet-stream", self.archive.clone());
    match self.fault {
      Some(Fault::MissingArchive) => Reply::Status(404),
      Some(Fault::HangingArchive) => Reply::Hang,
      Some(Fault::SlowArchive(delay)) => Reply::Later(delay, Box::new(reply)),
      _ => reply,
    }
  }
}

fn archive_path(name: &str, version: &str) -> String {
  let short = name.rsplit('/').next().unwrap_or(name);
  format!("/{name}/-/{short}-{version}.tgz")
}

/// A file of an archive. The name is written as it is: `set_path` would refuse one with `..`.
fn entry(name: &str, size: usize) -> tar::Header {
  let mut header = tar::Header::new_ustar();
  let path = format!("package/{name}");
  header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
  header.set_size(size as u64);
  header.set_mode(0o644);
  header.set_cksum();
  header
}

fn manifest_in(archive: &[u8]) -> Option<Map<String, Value>> {
  let mut archive = tar::Archive::new(GzDecoder::new(archive));
  let mut entry = archive
    .entries()
    .ok()?
    .flatten()
    .find(|e| e.path_bytes().as_ref() == b"package/package.json")?;
  let mut text = String::new();
  entry.read_to_string(&mut text).ok()?;
  serde_json::from_str(&text).ok()
}

fn hex(bytes: &[u8]) -> String {
  bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The versions of each package, in the order they were given: the last one is the latest.
type Packages = BTreeMap<String, Vec<NpmPackage>>;

pub(crate) struct NpmRegistry {
  pub server: Loopback,
}

impl NpmRegistry {
  pub(crate) fn start(packages: impl IntoIterator<Item = NpmPackage>) -> Self {
    let mut by_name = Packages::new();
    for package in packages {
      let name = package.text("name").to_owned();
      by_name.entry(name).or_default().push(package);
    }
    let by_name = Arc::new(by_name);
    Self {
      server: Loopback::start(move |request| respond(&by_name, request)),
    }
  }

  /// All archives of a folder.
  ///
  /// # Panics
  /// When the folder cannot be read.
  pub(crate) fn packages_in(folder: &Path) -> Vec<NpmPackage> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
      .flatten()
      .map(|entry| entry.path())
      .filter(|path| path.extension().is_some_and(|e| e == "tgz"))
      .map(|path| NpmPackage::from_archive(&path))
      .collect()
  }

  pub(crate) fn url(&self) -> String {
    self.server.url("")
  }

  /// How often the description of a package was asked for.
  pub(crate) fn descriptions(&self, name: &str) -> usize {
    self.server.requests(&format!("/{name}"))
  }

  /// How often an archive was asked for.
  pub(crate) fn archives(&self, name: &str, version: &str) -> usize {
    self.server.requests(&archive_path(name, version))
  }
}

fn respond(packages: &Packages, request: &Request) -> Reply {
  let path = request.path.trim_start_matches('/');
  if let Some((name, _)) = path.split_once("/-/") {
    let version = packages
      .get(name)
      .into_iter()
      .flatten()
      .find(|p| p.archive_path() == request.path);
    return version.map_or(Reply::Status(404), NpmPackage::archive);
  }
  let Some(versions) = packages.get(path) else {
    return Reply::Status(404);
  };
  match versions.last().and_then(|latest| latest.fault) {
    Some(Fault::Garbage) => Reply::content("application/json", "<!doctype html>not JSON"),
    Some(Fault::HangingDescription) => Reply::Hang,
    Some(Fault::ServerError) => Reply::Status(500),
    _ => Reply::json(&description(path, versions, &request.origin)),
  }
}

fn description(name: &str, versions: &[NpmPackage], origin: &str) -> Value {
  let latest = versions.last().map(|p| p.text("version"));
  let versions: Map<String, Value> = versions
    .iter()
    .map(|p| (p.text("version").to_owned(), p.description(origin)))
    .collect();
  json!({"name": name, "dist-tags": {"latest": latest}, "versions": versions})
}
