//! Files of artifacts, read with the token of whoever they belong to.

use std::path::Path;

use access::Secret;
use outbound::reason;
use outbound::unreadable;
use reqwest::Url;
use serde::Deserialize;

use crate::artifact::split_id;
use crate::error::ArtifactsError;
use crate::server::Limits;
use crate::server::Server;

/// Most files of one artifact.
const FILES: usize = 500;
/// Most folders inside each other.
const DEPTH: usize = 16;

/// Reads files of artifacts.
#[derive(Debug)]
pub struct ArtifactFiles {
  server: Server,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
  /// Where it is in the artifact, with `/` between names: none is empty, `.` or `..`.
  pub path: String,
  pub content: Vec<u8>,
}

/// What a folder of an artifact has, as the server lists it.
#[derive(Deserialize)]
struct Entry {
  name: String,
  #[serde(rename = "type")]
  kind: String,
}

impl ArtifactFiles {
  /// `certificates` is a PEM file with authorities to trust besides those of the platform.
  ///
  /// # Errors
  /// When the address cannot work, or the certificates cannot be read.
  pub fn new(server_url: Url, certificates: Option<&Path>) -> Result<Self, ArtifactsError> {
    let server = Server::new(server_url, certificates, Limits::default())?;
    Ok(Self { server })
  }

  /// Reads all files of the artifact `workspace/alias`, of at most `limit` bytes together.
  ///
  /// # Errors
  /// When the id is none, the server cannot be reached or refuses, or there are more files or bytes.
  pub async fn read_all(
    &self,
    artifact: &str,
    token: Option<&Secret>,
    limit: usize,
  ) -> Result<Vec<ArtifactFile>, ArtifactsError> {
    let (workspace, alias) =
      split_id(artifact).ok_or_else(|| ArtifactsError::Id(artifact.to_owned()))?;
    let base = [workspace, "artifacts", alias, "files"];
    let mut left = limit;
    let mut files = Vec::new();
    let mut folders: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
      let inside = folder.iter().map(String::as_str);
      // A path that ends with a slash is a folder.
      let url = self.server.url(
        &base
          .into_iter()
          .chain(inside)
          .chain([""])
          .collect::<Vec<_>>(),
      );
      let listed = self.ask(&url, token, limit).await?;
      let entries: Vec<Entry> =
        serde_json::from_slice(&listed).map_err(|error| ArtifactsError::Malformed {
          url: url.to_string(),
          reason: unreadable(&listed, &error),
        })?;
      for entry in entries {
        let name = entry.name;
        let is_name =
          !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\\', '\0']);
        if !is_name || folder.len() == DEPTH || files.len() + folders.len() >= FILES {
          return Err(ArtifactsError::Setting(format!(
            "{artifact} has more than {FILES} files, or some in more than {DEPTH} folders or with odd names"
          )));
        }
        let path = [folder.as_slice(), &[name]].concat();
        if entry.kind == "directory" {
          folders.push(path);
          continue;
        }
        let names = path.iter().map(String::as_str);
        let url = self
          .server
          .url(&base.into_iter().chain(names).collect::<Vec<_>>());
        let content = self.ask(&url, token, left).await?;
        left -= content.len();
        let path = path.join("/");
        files.push(ArtifactFile { path, content });
      }
    }
    Ok(files)
  }

  async fn ask(
    &self,
    url: &Url,
    token: Option<&Secret>,
    limit: usize,
  ) -> Result<Vec<u8>, ArtifactsError> {
    let query = [("use_proxy", "true"), ("silent", "true")];
    let request = self.server.http.get(url.clone()).query(&query);
    let request = request
      .build()
      .map_err(|e| ArtifactsError::Setting(reason(&e)))?;
    self.server.ask(request, token, limit).await
  }
}
