//! The program of an app: which file it is, in which language, and whether it can be read.

use std::path::Path;

use access::Caller;
use access::Scope;
use access::Secret;
use engine::apps::SessionFile;
use engine::apps::script;
use engine::hypha_client::ArtifactFile;
use engine::hypha_client::ArtifactsError;
use engine::kernels::Language;
use hypha_rpc::Value;
use kernel_protocol::Checked;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;
use utoipa::ToSchema;

use super::Asked;
use super::Worker;
use super::sessions::Config;
use crate::method::Failure;

/// Most bytes of all files of an app.
const MOST: usize = 64 << 20;
/// The file that the controller makes of a program that comes without a name.
const UNNAMED: &str = "source";

/// The program of an app that is to be started.
pub(super) struct Program {
  pub language: Language,
  pub code: Code,
}

pub(super) enum Code {
  /// The manifest has it.
  Script(String),
  /// The files of the artifact, and the name of the one with the program.
  Files(String, Vec<ArtifactFile>),
}

impl Program {
  /// Whether the program connects to Hypha itself, so that nobody may do it in its name: a client id is for one
  /// connection. Whoever wants to needs the library, and names it.
  pub(super) fn registers_itself(&self) -> bool {
    match &self.code {
      Code::Script(text) => names_library(text.as_bytes()),
      Code::Files(_, files) => files.iter().any(|file| names_library(&file.content)),
    }
  }

  pub(super) fn files(self) -> Vec<SessionFile> {
    let Code::Files(_, files) = self.code else {
      return Vec::new();
    };
    let file = |file: ArtifactFile| SessionFile {
      path: file.path.into(),
      content: file.content,
    };
    files.into_iter().map(file).collect()
  }
}

fn names_library(text: &[u8]) -> bool {
  text
    .windows(9)
    .any(|it| matches!(it, b"hypha-rpc" | b"hypha_rpc"))
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

/// Reads the program of an app that is to be started: the script in its manifest, else its files.
pub(super) async fn read(worker: &Worker, config: &Config) -> Result<Program, Failure> {
  let entry = config
    .entry_point
    .as_deref()
    .filter(|name| !name.is_empty());
  let language = language(&config.manifest, entry)?;
  let script = config.manifest.get("startup_script");
  if let Some(text) = script.and_then(Json::as_str) {
    let code = Code::Script(text.to_owned());
    return Ok(Program { language, code });
  }
  let entry = entry.ok_or_else(|| {
    Failure::new(
      "the app has no program: its manifest names neither entry_point nor startup_script",
    )
  })?;
  let token = config.token.clone().map(Secret::new);
  let read = worker
    .files
    .read_all(&config.artifact_id, token.as_ref(), MOST);
  let files = match read.await {
    Ok(files) => files,
    // An artifact without files has no folder either.
    Err(ArtifactsError::Status { status, .. }) if status.as_u16() == 404 => Vec::new(),
    Err(error) => return Err(Failure::new(format!("the program cannot be read: {error}"))),
  };
  if !files.iter().any(|file| file.path == entry) {
    return Err(Failure::new(format!(
      "the app {} has no file {entry}",
      config.artifact_id
    )));
  }
  let code = Code::Files(entry.to_owned(), files);
  Ok(Program { language, code })
}

// ------------------------------------------------------------ installing

/// An app that is being installed.
#[derive(Deserialize, ToSchema)]
pub(super) struct Compile {
  manifest: Map<String, Json>,
  #[serde(default)]
  files: Vec<File>,
}

/// A file of an app, as the controller has it.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(transparent)]
struct File(Map<String, Json>);

impl File {
  fn name(&self) -> Option<&str> {
    self.0.get("path").or_else(|| self.0.get("name"))?.as_str()
  }

  /// Its text; `None` for bytes.
  fn content(&self) -> Option<&str> {
    let format = self.0.get("format").and_then(Json::as_str);
    let content = self.0.get("content").and_then(Json::as_str);
    content.filter(|_| format != Some("base64"))
  }

  fn rename(&mut self, name: &str) {
    for member in ["path", "name"] {
      if self.0.contains_key(member) {
        self.0.insert(member.into(), json!(name));
      }
    }
  }
}

/// Checks the program, gives a file without a name the one of its language, and writes both into the manifest. The
/// program stays as it was written, for it is edited there; every start transpiles it anew.
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
  let unnamed = format!("main.{}", script::extension_of(language));
  manifest.insert("lang".into(), json!(language));
  if let Some(script) = manifest.get("startup_script").and_then(Json::as_str) {
    asked
      .worker
      .check(&asked, language, &unnamed, script)
      .await?;
    return Ok(Value::from(json!([manifest, files])));
  }
  let entry = entry.unwrap_or_else(|| UNNAMED.to_owned());
  let file = files.iter_mut().find(|file| file.name() == Some(&entry));
  let file = file.ok_or_else(|| {
    Failure::new(format!(
      "entry_point: the app has no file {entry}; name one that it has"
    ))
  })?;
  if entry == UNNAMED {
    file.rename(&unnamed);
  }
  let name = file.name().unwrap_or(&entry).to_owned();
  let text = file
    .content()
    .ok_or_else(|| Failure::new(format!("{name} is not text: a program must be")))?;
  asked.worker.check(&asked, language, &name, text).await?;
  manifest.insert("entry_point".into(), json!(name));
  Ok(Value::from(json!([manifest, files])))
}

impl Worker {
  /// Checks a program in a kernel of the workspace that it is installed in.
  async fn check(
    &self,
    asked: &Asked,
    language: Language,
    name: &str,
    text: &str,
  ) -> Result<(), Failure> {
    let workspace = asked
      .arguments
      .get(2, "config")
      .and_then(|config| config.get("workspace"));
    let workspace = workspace
      .and_then(Value::as_str)
      .unwrap_or(&asked.context.workspace);
    self.admit(&asked.context, workspace)?;
    let caller = Caller::of(Scope::Namespace(workspace.to_owned()));
    let checked = self
      .engine
      .kernels
      .check_syntax(&caller, language, name, text);
    match checked.await? {
      Checked::Ok => Ok(()),
      Checked::Error { message } => Err(Failure::new(message)),
    }
  }
}
