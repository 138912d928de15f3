//! Files of artifacts, read with the token of whoever they belong to.

use std::path::Path;

use access::Secret;
use outbound::reason;
use reqwest::Url;

use crate::artifact::split_id;
use crate::error::ArtifactsError;
use crate::server::Limits;
use crate::server::Server;

/// Reads files of artifacts.
#[derive(Debug)]
pub struct ArtifactFiles {
  server: Server,
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

  /// Reads the file at `path` in the artifact `workspace/alias`, of at most `limit` bytes.
  ///
  /// # Errors
  /// When the id or the path is none, or the server cannot be reached, refuses, or has no such file.
  pub async fn read(
    &self,
    artifact: &str,
    path: &str,
    token: Option<&Secret>,
    limit: usize,
  ) -> Result<Vec<u8>, ArtifactsError> {
    let (workspace, alias) =
      split_id(artifact).ok_or_else(|| ArtifactsError::Id(artifact.to_owned()))?;
    let names: Vec<&str> = path.split('/').collect();
    if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
      return Err(ArtifactsError::Setting(format!(
        "`{path}` is not the path of a file in {artifact}"
      )));
    }
    let url = self
      .server
      .url(&[&[workspace, "artifacts", alias, "files"], names.as_slice()].concat());
    let request = self.server.http.get(url).query(&[("use_proxy", "true")]);
    let request = request
      .build()
      .map_err(|e| ArtifactsError::Setting(reason(&e)))?;
    self.server.ask(request, token, limit).await
  }
}
