//! A JSR registry of packages that tests make up.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use super::Loopback;
use super::Reply;
use super::Request;

/// One version of one package.
pub(crate) struct JsrPackage {
  /// `@scope/name`
  name: String,
  version: String,
  exports: Value,
  files: BTreeMap<String, String>,
  /// The file whose sum is wrong.
  tampered: Option<String>,
}

impl JsrPackage {
  /// A package with its exports, as in a `deno.json`, and its files, whose names begin with a slash.
  pub(crate) fn of(name: &str, version: &str, exports: Value, files: &[(&str, &str)]) -> Self {
    Self {
      name: name.to_owned(),
      version: version.to_owned(),
      exports,
      files: files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect(),
      tampered: None,
    }
  }

  /// Serves a file that is not the one whose sum is published.
  #[must_use]
  pub(crate) fn tampered(mut self, path: &str) -> Self {
    self.tampered = Some(path.to_owned());
    self
  }

  fn base(&self) -> String {
    format!("/{}/{}", self.name, self.version)
  }

  fn description(&self) -> Value {
    let manifest: Map<String, Value> = self
      .files
      .iter()
      .map(|(path, text)| {
        let published = match &self.tampered {
          Some(tampered) if tampered == path => "another file",
          _ => text,
        };
        let sum: String = Sha256::digest(published)
          .iter()
          .map(|byte| format!("{byte:02x}"))
          .collect();
        let file = json!({"size": text.len(), "checksum": format!("sha256-{sum}")});
        (path.clone(), file)
      })
      .collect();
    json!({"manifest": manifest, "exports": self.exports})
  }
}

pub(crate) struct JsrRegistry {
  pub server: Loopback,
}

impl JsrRegistry {
  pub(crate) fn start(packages: impl IntoIterator<Item = JsrPackage>) -> Self {
    let packages: Arc<[JsrPackage]> = packages.into_iter().collect();
    Self {
      server: Loopback::start(move |request| respond(&packages, request)),
    }
  }

  /// With the slash at its end that it needs.
  pub(crate) fn url(&self) -> String {
    self.server.url("/")
  }
}

fn respond(packages: &[JsrPackage], request: &Request) -> Reply {
  let path = &request.path;
  if let Some(name) = path
    .strip_prefix('/')
    .and_then(|p| p.strip_suffix("/meta.json"))
  {
    return versions(packages, name);
  }
  for package in packages {
    let base = package.base();
    if *path == format!("{base}_meta.json") {
      return Reply::json(&package.description());
    }
    let file = path.strip_prefix(&base).and_then(|p| package.files.get(p));
    if let Some(text) = file {
      return Reply::content("text/typescript", text.clone());
    }
  }
  Reply::Status(404)
}

fn versions(packages: &[JsrPackage], name: &str) -> Reply {
  let versions: Map<String, Value> = packages
    .iter()
    .filter(|p| p.name == name)
    .map(|p| (p.version.clone(), json!({})))
    .collect();
  let (Some((scope, short)), Some(latest)) = (name.split_once('/'), versions.keys().next_back())
  else {
    return Reply::Status(404);
  };
  Reply::json(&json!({
    "scope": scope.trim_start_matches('@'),
    "name": short,
    "latest": latest,
    "versions": versions,
  }))
}
