//! Indices as the original wrote them when it off-loaded them: three files each, or two in older
//! versions, whose documents have their vectors with them. Blocking.

#![expect(
  clippy::disallowed_methods,
  reason = "called where threads may wait: on the blocking pool"
)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use chrono::DateTime;
use chrono::Utc;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use crate::options::InactivityTimeout;
use crate::permission::Permission;
use crate::requests::NewDocument;

const METADATA: &str = ".metadata.json";
const BINARY: &str = "binary_v1";
/// More numbers than any embedding has.
const MAX_DIMENSION: usize = 65_536;

/// The metadata file of an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
  pub id: String,
  pub created: Option<DateTime<Utc>>,
  #[serde(default)]
  pub options: Options,
  documents_file: Option<String>,
  vectors_file: Option<String>,
  format: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Options {
  pub namespace: Option<String>,
  pub embedding_model: Option<String>,
  pub embedding_provider_name: Option<String>,
  pub max_documents: Option<u64>,
  pub inactivity_timeout: Option<InactivityTimeout>,
  pub enable_activity_monitoring: Option<bool>,
  pub permission: Option<Permission>,
}

#[derive(Deserialize)]
struct WrittenDocument {
  id: String,
  text: Option<String>,
  metadata: Option<Map<String, Value>>,
  /// In older versions only.
  vector: Option<Vec<f32>>,
}

/// The metadata files of a folder, in their order.
pub(crate) fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
  let mut files: Vec<PathBuf> = fs::read_dir(folder)?
    .flatten()
    .map(|entry| entry.path())
    .filter(|path| {
      let name = path.file_name().and_then(OsStr::to_str);
      name.is_some_and(|name| name.ends_with(METADATA))
    })
    .collect();
  files.sort();
  Ok(files)
}

/// # Errors
/// Why it cannot be read.
pub(crate) fn read_metadata(file: &Path) -> Result<Metadata, String> {
  serde_json::from_slice(&read(file)?).map_err(|e| format!("{}: {e}", file.display()))
}

impl Metadata {
  /// Documents with the vectors they have; `file` is that of the metadata.
  ///
  /// # Errors
  /// Why they cannot be read; the message names the file.
  pub(crate) fn documents(&self, file: &Path) -> Result<Vec<NewDocument>, String> {
    let documents = beside(file, self.documents_file.as_deref(), ".documents.json")?;
    let written: Vec<WrittenDocument> = serde_json::from_slice(&read(&documents)?)
      .map_err(|e| format!("{}: {e}", documents.display()))?;
    let mut vectors = match self.format.as_deref() {
      Some(BINARY) => {
        let path = beside(file, self.vectors_file.as_deref(), ".vectors.bin")?;
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        let length = fs::metadata(&path).map_err(failed)?.len();
        let reader = BufReader::new(fs::File::open(&path).map_err(failed)?);
        read_vectors(reader, length).map_err(|e| format!("{}: {e}", path.display()))?
      }
      None => HashMap::new(),
      Some(other) => return Err(format!("{}: unknown format {other}", file.display())),
    };
    let document = |one: WrittenDocument| NewDocument {
      vector: vectors.remove(&one.id).or(one.vector),
      id: one.id,
      text: one.text,
      metadata: one.metadata,
    };
    Ok(written.into_iter().map(document).collect())
  }
}

/// A file of the same index: folders are moved, so only the name counts.
fn beside(file: &Path, named: Option<&str>, ending: &str) -> Result<PathBuf, String> {
  let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
  let own = format!("{}{ending}", name.trim_end_matches(METADATA));
  let named = named.and_then(|path| path.rsplit(['/', '\\']).next());
  let candidates = [Some(own.as_str()), named.filter(|name| *name != "..")];
  let paths = candidates
    .into_iter()
    .flatten()
    .map(|name| file.with_file_name(name));
  let found = paths.into_iter().find(|path| path.is_file());
  found.ok_or_else(|| format!("{}: {own} is not beside it", file.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
  fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The header's count is no help: the original counted vectors that it left out.
fn read_vectors(mut file: impl Read, length: u64) -> Result<HashMap<String, Vec<f32>>, String> {
  let mut at = 0_u64;
  let mut take = |bytes: u64, what: &str| -> Result<Vec<u8>, String> {
    if bytes > length.saturating_sub(at) {
      return Err(format!("cut short in {what} at byte {at}"));
    }
    let mut buffer = vec![0; usize::try_from(bytes).map_err(|e| e.to_string())?];
    file.read_exact(&mut buffer).map_err(|e| e.to_string())?;
    at += bytes;
    Ok(buffer)
  };
  let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
  let header = take(8, "the header")?;
  let dimension = number(&header[4..]) as usize;
  if dimension > MAX_DIMENSION {
    return Err(format!("the header says dimension {dimension}"));
  }
  let mut vectors = HashMap::new();
  let mut left = length - 8;
  while left > 0 {
    let id_length = u64::from(number(&take(4, "the length of an id")?));
    let id =
      String::from_utf8(take(id_length, "an id")?).map_err(|_| "an id is not UTF-8".to_owned())?;
    let bytes = take(4 * dimension as u64, "a vector")?;
    let numbers = bytes.chunks_exact(4);
    let vector = numbers
      .map(|b| b.try_into().map_or(0.0, f32::from_le_bytes))
      .collect();
    vectors.insert(id, vector);
    left -= 4 + id_length + 4 * dimension as u64;
  }
  Ok(vectors)
}
