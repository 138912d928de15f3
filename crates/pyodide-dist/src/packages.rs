//! Fetching packages of the Pyodide distribution into a folder, for kernels without a network.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use outbound::Patience;
use reqwest::Client;
use reqwest::Url;
use serde::Deserialize;
use sha2::Digest;
use sha2::Sha256;
use tempfile::NamedTempFile;

use crate::Distribution;

/// Where the distribution is that this binary has a part of; kernels ask there too (`js/python.js`).
pub const DISTRIBUTION: &str = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/";
/// The simple interface of the package index (PEP 691).
const INDEX: &str = "https://pypi.org/simple/";
const INDEX_JSON: &str = "application/vnd.pypi.simple.v1+json";
const PATIENCE: Patience = Patience {
  connect: Duration::from_secs(10),
  request: Duration::from_secs(600),
};

#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
  #[error("{0}")]
  NoPython(String),
  #[error("`{0}` is not a package of the Pyodide distribution")]
  Unknown(String),
  #[error("{0}")]
  Address(String),
  #[error("{file} could not be fetched: {reasons}")]
  Unavailable { file: String, reasons: String },
  #[error("{0} cannot be written: {1}")]
  Write(String, io::Error),
}

/// What the distribution says of its packages.
#[derive(Deserialize)]
pub struct Lock {
  packages: BTreeMap<String, Package>,
}

#[derive(Clone, Deserialize)]
pub struct Package {
  pub name: String,
  pub version: String,
  pub file_name: String,
  sha256: String,
  depends: Vec<String>,
}

/// A file list of the package index.
#[derive(Deserialize)]
struct Project {
  files: Vec<ProjectFile>,
}

#[derive(Deserialize)]
struct ProjectFile {
  filename: String,
  url: String,
}

impl Lock {
  /// That of a distribution.
  ///
  /// # Errors
  /// In a build without Python.
  pub fn of(distribution: &Distribution) -> Result<Self, PackagesError> {
    let text = distribution.lock_file().map_err(PackagesError::NoPython)?;
    serde_json::from_slice(&text).map_err(|e| PackagesError::NoPython(e.to_string()))
  }

  /// These packages and all that they need, by name.
  ///
  /// # Errors
  /// When one is not of the distribution.
  pub fn with_dependencies(&self, names: &[String]) -> Result<Vec<Package>, PackagesError> {
    let by_name: BTreeMap<String, &Package> = self
      .packages
      .values()
      .map(|package| (normal(&package.name), package))
      .collect();
    let mut wanted: Vec<String> = names.iter().map(|name| normal(name)).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = wanted.pop() {
      let Some(package) = by_name.get(&name) else {
        return Err(PackagesError::Unknown(name));
      };
      if found.insert(name) {
        wanted.extend(package.depends.iter().map(|name| normal(name)));
      }
    }
    Ok(found.iter().map(|name| by_name[name].clone()).collect())
  }
}

/// Names that differ in case and separators only are the same (PEP 503).
fn normal(name: &str) -> String {
  name.trim().to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Brings packages of the distribution here.
pub struct Fetcher {
  client: Client,
  index: Client,
  /// Where the distribution is, with a slash at its end.
  distribution: Url,
}

impl Fetcher {
  /// # Errors
  /// When `distribution` is not an address, or the certificates cannot be read.
  pub fn new(distribution: &str, certificates: Option<&Path>) -> Result<Self, PackagesError> {
    let slash = if distribution.ends_with('/') { "" } else { "/" };
    let url: Url = format!("{distribution}{slash}")
      .parse()
      .map_err(|e| PackagesError::Address(format!("`{distribution}` is not an address: {e}")))?;
    let client = |url: &Url| outbound::client(url, certificates, PATIENCE);
    let index: Url = INDEX
      .parse()
      .map_err(|_| PackagesError::Address(INDEX.into()))?;
    Ok(Self {
      client: client(&url).map_err(PackagesError::Address)?,
      index: client(&index).map_err(PackagesError::Address)?,
      distribution: url,
    })
  }

  /// Puts a package into `folder`, unless it is there. Returns how many bytes were fetched.
  ///
  /// # Errors
  /// When neither the distribution nor the package index gives the file that the distribution names,
  /// or it cannot be written.
  pub async fn fetch(&self, package: &Package, folder: &Path) -> Result<u64, PackagesError> {
    let path = folder.join(&package.file_name);
    if fs::read(&path).is_ok_and(|bytes| is(package, &bytes)) {
      return Ok(0);
    }
    let bytes = self.download(package).await?;
    let write = |bytes: &[u8]| {
      fs::create_dir_all(folder)?;
      let mut file = NamedTempFile::new_in(folder)?;
      file.write_all(bytes)?;
      // Kernels may run as another user.
      let readable = fs::Permissions::from_mode(0o644);
      file.as_file().set_permissions(readable)?;
      file.persist(&path)?;
      io::Result::Ok(())
    };
    write(&bytes).map_err(|e| PackagesError::Write(path.display().to_string(), e))?;
    Ok(bytes.len() as u64)
  }

  async fn download(&self, package: &Package) -> Result<Vec<u8>, PackagesError> {
    let of_distribution = async {
      let url = self.distribution.join(&package.file_name);
      let url = url.map_err(|e| e.to_string())?;
      verified(package, &url, self.get(&self.client, &url, None).await?)
    };
    let first = match of_distribution.await {
      Ok(bytes) => return Ok(bytes),
      Err(reason) => reason,
    };
    let of_index = async {
      let url = self.in_index(package).await?;
      verified(package, &url, self.get(&self.index, &url, None).await?)
    };
    of_index.await.map_err(|second| PackagesError::Unavailable {
      file: package.file_name.clone(),
      reasons: format!("{first}; {second}"),
    })
  }

  /// Where the package index has this very file.
  async fn in_index(&self, package: &Package) -> Result<Url, String> {
    let url: Url = format!("{INDEX}{}/", normal(&package.name))
      .parse()
      .map_err(|_| format!("`{}` is no name for the package index", package.name))?;
    let text = self.get(&self.index, &url, Some(INDEX_JSON)).await?;
    let project: Project =
      serde_json::from_slice(&text).map_err(|e| outbound::unreadable(&text, &e))?;
    let mut files = project.files.into_iter();
    let file = files.find(|file| file.filename == package.file_name);
    file
      .and_then(|file| url.join(&file.url).ok())
      .ok_or_else(|| format!("{url} has no such file"))
  }

  async fn get(&self, client: &Client, url: &Url, accept: Option<&str>) -> Result<Vec<u8>, String> {
    let failed = |e: reqwest::Error| format!("{}: {}", outbound::shown(url), outbound::reason(&e));
    let mut request = client.get(url.clone());
    if let Some(accept) = accept {
      request = request.header(reqwest::header::ACCEPT, accept);
    }
    let response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
      return Err(format!("{}: {}", outbound::shown(url), response.status()));
    }
    response
      .bytes()
      .await
      .map(|bytes| bytes.to_vec())
      .map_err(failed)
  }
}

fn verified(package: &Package, url: &Url, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
  match is(package, &bytes) {
    true => Ok(bytes),
    false => Err(format!(
      "{}: not the file whose sha256 the distribution names",
      outbound::shown(url)
    )),
  }
}

fn is(package: &Package, bytes: &[u8]) -> bool {
  hex::encode(Sha256::digest(bytes)) == package.sha256
}

#[cfg(test)]
mod tests {
  use super::*;

  fn lock() -> Lock {
    serde_json::from_value(serde_json::json!({"packages": {
      "a": {"name": "a", "version": "1", "file_name": "a.whl", "sha256": "", "depends": ["B_b"]},
      "b-b": {"name": "b-b", "version": "1", "file_name": "b.whl", "sha256": "", "depends": ["a", "c"]},
      "c": {"name": "c", "version": "1", "file_name": "c.whl", "sha256": "", "depends": []},
      "d": {"name": "d", "version": "1", "file_name": "d.whl", "sha256": "", "depends": []},
    }}))
    .expect("a lock")
  }

  #[test]
  fn kernels_and_the_command_ask_at_one_place() {
    assert!(include_str!("../../../js/python.js").contains(DISTRIBUTION));
  }

  #[test]
  fn a_package_comes_with_all_that_it_needs() {
    let names = |wanted: &[&str]| -> Vec<String> {
      let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
      let found = lock().with_dependencies(&wanted).expect("all are there");
      found.into_iter().map(|package| package.name).collect()
    };
    assert_eq!(names(&["A"]), ["a", "b-b", "c"]);
    assert_eq!(names(&["c", "d", "c"]), ["c", "d"]);
    let unknown = lock().with_dependencies(&["nope".into()]);
    assert!(matches!(unknown, Err(PackagesError::Unknown(name)) if name == "nope"));
  }

  #[tokio::test]
  async fn a_package_is_put_into_the_folder_once() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let wheel = move || async move {
      count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
      "hello"
    };
    let mirror = axum::Router::new().route("/full/a.whl", axum::routing::get(wheel));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
      .await
      .expect("a port");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
      while let Ok((stream, _)) = listener.accept().await {
        let service = hyper_util::service::TowerToHyperService::new(mirror.clone());
        let connection = hyper::server::conn::http1::Builder::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(connection.serve_connection(io, service));
      }
    });
    let package = Package {
      name: "a".into(),
      version: "1".into(),
      file_name: "a.whl".into(),
      sha256: hex::encode(Sha256::digest("hello")),
      depends: Vec::new(),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("new");
    let fetcher = Fetcher::new(&format!("http://{address}/full"), None).expect("an address");
    for bytes in [5, 0] {
      let fetched = fetcher.fetch(&package, &folder).await;
      assert_eq!(fetched.expect("is there"), bytes);
      let kept = fs::read(folder.join("a.whl")).expect("is kept");
      assert_eq!(kept, b"hello");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
  }
}
