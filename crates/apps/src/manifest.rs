//! Manifests, as people write them and as the engine keeps them.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use kernels::Language;
use kernels::Limits;
use kernels::PermissionRequest;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::AppError;
use crate::id::AppId;
use crate::restart::RestartPolicy;
use crate::script;

/// Members that a manifest may have. Others are ignored in published manifests.
const FIELDS: [&str; 12] = [
  "id",
  "name",
  "description",
  "version",
  "lang",
  "startup_script",
  "entry",
  "env",
  "permissions",
  "limits",
  "restart",
  "port",
];

/// A manifest as it was written. Only names and types are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenManifest {
  /// 1 to 128 characters of A-Z a-z 0-9 _ - . and no dot at the start.
  #[schema(value_type = Option<String>)]
  pub id: Option<AppId>,
  pub name: Option<String>,
  pub description: Option<String>,
  pub version: Option<String>,
  /// typescript, javascript, python or cpython. By default the language of the entry's extension,
  /// otherwise python.
  pub lang: Option<String>,
  /// The program itself.
  pub startup_script: Option<String>,
  /// The file with the program, inside the app's folder.
  pub entry: Option<String>,
  #[serde(default)]
  pub env: BTreeMap<String, String>,
  #[serde(default)]
  pub permissions: PermissionRequest,
  #[serde(default)]
  pub limits: Limits,
  #[serde(default)]
  pub restart: RestartPolicy,
  /// A port that the app binds by itself.
  pub port: Option<u16>,
}

/// A checked manifest: one program, a known language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
  pub id: AppId,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub name: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub description: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub version: Option<String>,
  pub lang: Language,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub startup_script: Option<String>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub entry: Option<String>,
  pub env: BTreeMap<String, String>,
  pub permissions: PermissionRequest,
  pub limits: Limits,
  pub restart: RestartPolicy,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub port: Option<u16>,
}

impl WrittenManifest {
  /// Reads JSON; unknown members and wrong types are named.
  ///
  /// # Errors
  /// When it is not a manifest.
  pub fn parse(json: &str) -> Result<Self, AppError> {
    if !json.trim_start().starts_with('{') {
      return Err(AppError::Invalid("a manifest must be a JSON object".into()));
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let written = serde_path_to_error::deserialize(&mut reader).map_err(named)?;
    reader
      .end()
      .map_err(|e| AppError::Invalid(format!("it is not JSON: {e}")))?;
    Ok(written)
  }

  /// The manifest of a published artifact. Members with no meaning here are ignored.
  ///
  /// # Errors
  /// When a member with a meaning has the wrong type.
  pub fn of_artifact(published: &Value) -> Result<Self, AppError> {
    let members = published.as_object().ok_or_else(|| {
      AppError::Invalid("the artifact has no manifest: it must be a JSON object".into())
    })?;
    // The artifact's own id names the app, whatever its manifest says.
    let known = members
      .iter()
      .filter(|(name, value)| FIELDS.contains(&name.as_str()) && *name != "id" && !value.is_null())
      .map(|(name, value)| (name.clone(), value.clone()));
    let known = Value::Object(known.collect());
    serde_path_to_error::deserialize(known).map_err(named)
  }

  /// Checks a manifest; `id` is the id if none is written.
  ///
  /// # Errors
  /// Names the first member that is wrong, and the remedy.
  pub fn check(self, id: Option<AppId>) -> Result<Manifest, AppError> {
    let invalid = |message: String| Err(AppError::Invalid(message));
    let Some(id) = self.id.or(id) else {
      return invalid("id: missing; give the app an id".into());
    };
    match (&self.startup_script, &self.entry) {
      (None, None) => return Err(no_program()),
      (Some(_), Some(_)) => {
        return invalid("entry: startup_script is given too; leave one of them out".into());
      }
      (Some(script), None) if script.trim().is_empty() => {
        return invalid("startup_script: is empty; write the program of the app into it".into());
      }
      (Some(script), None) if script.len() as u64 > script::MAX_BYTES => {
        return invalid(format!(
          "startup_script: is larger than {} MiB, the most a program may have",
          script::MAX_BYTES >> 20
        ));
      }
      _ => {}
    }
    let lang = match (&self.lang, &self.entry) {
      (Some(name), _) => {
        Language::from_str(name).map_err(|e| AppError::Invalid(format!("lang: {e}")))?
      }
      (None, Some(entry)) => script::language_of(Path::new(entry)).ok_or_else(|| {
        AppError::Invalid(format!(
          "lang: missing, and `{entry}` does not tell; write typescript, javascript, python or \
           cpython"
        ))
      })?,
      (None, None) => Language::Python,
    };
    for (name, value) in &self.env {
      if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return invalid(format!(
          "env: `{}` cannot be an environment variable: names are not empty and hold no `=`, and \
           neither names nor values hold a NUL",
          name.escape_debug()
        ));
      }
    }
    if self.port == Some(0) {
      return invalid("port: 0 is no port; leave it out unless the app binds a port itself".into());
    }
    Ok(Manifest {
      id,
      name: self.name,
      description: self.description,
      version: self.version,
      lang,
      startup_script: self.startup_script,
      entry: self.entry,
      env: self.env,
      permissions: self.permissions,
      limits: self.limits,
      restart: self.restart,
      port: self.port,
    })
  }
}

/// The error of a manifest without a program.
pub(crate) fn no_program() -> AppError {
  AppError::Invalid(
    "startup_script: missing, and so is entry; give the program as startup_script or the name of \
     its file as entry"
      .into(),
  )
}

fn named(error: serde_path_to_error::Error<serde_json::Error>) -> AppError {
  let path = error.path().to_string();
  let inner = error.into_inner();
  let message = inner.to_string();
  AppError::Invalid(if !inner.is_data() {
    format!("it is not JSON: {message}")
  } else if path == "." || message.starts_with(&format!("{path}: ")) {
    message
  } else {
    format!("{path}: {message}")
  })
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  #[expect(clippy::unnecessary_wraps, reason = "as callers have it")]
  fn id(text: &str) -> Option<AppId> {
    Some(AppId::new(text).expect("an id"))
  }

  fn checked(json: &Value) -> Result<Manifest, AppError> {
    WrittenManifest::parse(&json.to_string())?.check(id("a"))
  }

  #[test]
  fn a_manifest_keeps_what_is_written() {
    let manifest = checked(&json!({
      "id": "shop", "name": "Shop", "description": "Sells", "version": "1", "lang": "ts",
      "startup_script": "1", "env": {"A": "b"}, "permissions": {"net": ["example.com"]},
      "limits": {"heapMb": 64}, "restart": "always", "port": 8080
    }))
    .expect("valid");
    assert_eq!(
      (manifest.id.as_str(), manifest.lang),
      ("shop", Language::TypeScript)
    );
    assert_eq!(manifest.limits.heap_mb, Some(64));
    assert_eq!(
      (manifest.restart, manifest.port),
      (RestartPolicy::Always, Some(8080))
    );
    let least = checked(&json!({"startup_script": "1"})).expect("valid");
    assert_eq!(
      (least.id.as_str(), least.restart),
      ("a", RestartPolicy::OnFailure)
    );
  }

  #[test]
  fn the_language_is_the_written_one_otherwise_that_of_the_entry_otherwise_python() {
    for (manifest, language) in [
      (json!({"startup_script": "1"}), Language::Python),
      (json!({"entry": "main.ts"}), Language::TypeScript),
      (json!({"entry": "src/main.mjs"}), Language::JavaScript),
      (json!({"entry": "main.py"}), Language::Python),
      (
        json!({"entry": "main.py", "lang": "cpython"}),
        Language::CPython,
      ),
      (json!({"entry": "main", "lang": "js"}), Language::JavaScript),
    ] {
      assert_eq!(
        checked(&manifest).expect("valid").lang,
        language,
        "{manifest}"
      );
    }
  }

  #[test]
  fn every_mistake_is_named() {
    for (manifest, named) in [
      (json!({}), "startup_script: missing, and so is entry"),
      (
        json!({"startup_script": "1", "entry": "a.ts"}),
        "entry: startup_script is given too",
      ),
      (json!({"startup_script": " \n"}), "startup_script: is empty"),
      (
        json!({"startup_script": "1", "lang": "cobol"}),
        "lang: `cobol` is not a language",
      ),
      (
        json!({"entry": "main"}),
        "lang: missing, and `main` does not tell",
      ),
      (
        json!({"startup_script": "1", "colour": 1}),
        "unknown field `colour`",
      ),
      (
        json!({"startup_script": "1", "limits": {"heap": 1}}),
        "limits.heap: unknown field",
      ),
      (
        json!({"startup_script": "1", "env": {"A": 1}}),
        "env.A: invalid type",
      ),
      (
        json!({"startup_script": "1", "env": {"A=B": ""}}),
        "env: `A=B`",
      ),
      (
        json!({"startup_script": "1", "env": {"A": "\0"}}),
        "env: `A`",
      ),
      (
        json!({"startup_script": "1", "env": {"\0": ""}}),
        "env: `\\0`",
      ),
      (
        json!({"startup_script": "1", "port": 70000}),
        "port: invalid value",
      ),
      (
        json!({"startup_script": "1", "port": 0}),
        "port: 0 is no port",
      ),
      (
        json!({"startup_script": "1", "restart": "maybe"}),
        "restart: unknown variant `maybe`",
      ),
      (
        json!({"startup_script": "1", "id": "../a"}),
        "id: `../a` cannot be the id",
      ),
      (
        json!({"startup_script": "1", "permissions": {"net": 1}}),
        "permissions.net: ",
      ),
      (json!([]), "must be a JSON object"),
    ] {
      let message = checked(&manifest)
        .expect_err(&manifest.to_string())
        .to_string();
      assert!(message.contains(named), "{message}\nlacks\n{named}");
      assert_eq!(
        message.matches("id: `").count(),
        usize::from(named.starts_with("id"))
      );
    }
    let message = WrittenManifest::parse("{").expect_err("cut").to_string();
    assert!(message.contains("not JSON"), "{message}");
    let nobody = WrittenManifest {
      startup_script: Some("1".into()),
      ..Default::default()
    };
    assert_eq!(
      nobody.check(None).expect_err("no id").to_string(),
      "id: missing; give the app an id"
    );
  }

  #[test]
  fn a_published_manifest_may_say_more_than_is_known() {
    let published = json!({
      "id": "of the artifact", "name": "A", "description": null, "startup_script": "1",
      "type": "deno-app", "created_at": "2025-01-01", "license": "MIT", "_security": {"note": 1}
    });
    let manifest = WrittenManifest::of_artifact(&published).and_then(|m| m.check(id("a")));
    let manifest = manifest.expect("valid");
    assert_eq!(
      (manifest.id.as_str(), manifest.lang),
      ("a", Language::Python)
    );
    let wrong = json!({"startup_script": "1", "lang": "rust"});
    let message = WrittenManifest::of_artifact(&wrong).and_then(|m| m.check(id("a")));
    assert!(message.expect_err("unknown").to_string().contains("`rust`"));
    let wrong = json!({"startup_script": 1});
    let message = WrittenManifest::of_artifact(&wrong)
      .expect_err("a number")
      .to_string();
    assert!(
      message.starts_with("startup_script: invalid type"),
      "{message}"
    );
  }

  #[test]
  fn the_known_members_are_those_of_a_written_manifest() {
    let message = WrittenManifest::parse(r#"{"?": 1}"#)
      .expect_err("unknown")
      .to_string();
    let (_, expected) = message.split_once("expected one of ").expect("lists them");
    let (expected, _) = expected.split_once(" at line").expect("a place");
    let listed: Vec<&str> = expected
      .split(", ")
      .map(|name| name.trim_matches('`'))
      .collect();
    assert_eq!(listed, FIELDS);
  }

  #[test]
  fn ids_that_are_no_plain_file_name_are_refused() {
    for text in [
      "",
      ".",
      "..",
      ".a",
      "a/b",
      "a b",
      "a:b",
      "é",
      &"x".repeat(129),
    ] {
      assert!(AppId::new(text).is_err(), "{text}");
    }
    for text in ["a", "A-b_c.9", &"x".repeat(128)] {
      assert_eq!(AppId::new(text).expect("valid").as_str(), text);
    }
  }
}
