//! Deno's HTTP cache, filled by hand, so that programs find their remote imports without a network.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use url::Url;

/// What Deno puts between a body and what it knows of it.
const TRAILER: &[u8] = b"\n// denoCacheMetadata=";
/// Marks an entry that says the server has no such module. Deno believes it for 15 minutes.
const NOT_FOUND: (&str, &str) = ("x-deno-not-found", "404");

/// Puts one answer into the cache of a `DENO_DIR`. Names of headers are in lower case; a `location`
/// header makes the entry a redirect.
///
/// # Panics
/// When the URL is none that Deno caches, or the file cannot be written.
pub fn fill(deno_dir: &Path, url: &str, headers: &[(&str, &str)], body: &[u8]) {
  let url = Url::parse(url).expect("the URL of a cache entry is absolute");
  let headers: BTreeMap<_, _> = headers.iter().copied().collect();
  let metadata = json!({ "headers": headers, "url": url.as_str(), "time": now() });
  let entry = [body, TRAILER, metadata.to_string().as_bytes()].concat();
  let file = entry_path(deno_dir, &url);
  let folder = file
    .parent()
    .expect("an entry lies in a folder of its host");
  fs::create_dir_all(folder)
    .and_then(|()| fs::write(&file, entry))
    .unwrap_or_else(|error| panic!("{} cannot be written: {error}", file.display()));
}

/// Puts a TypeScript module there.
pub fn fill_typescript(deno_dir: &Path, url: &str, source: &str) {
  let headers = [("content-type", "application/typescript")];
  fill(deno_dir, url, &headers, source.as_bytes());
}

/// Lets a URL be known as one that its server answers with 404.
pub fn fill_not_found(deno_dir: &Path, url: &str) {
  fill(deno_dir, url, &[NOT_FOUND], b"");
}

/// `remote/<scheme>/<host>[_port_<port>]/<hash of path and query>`; a default port is left out.
fn entry_path(deno_dir: &Path, url: &Url) -> PathBuf {
  // An underscore separates the port, so that one in a host is written otherwise.
  let mut host = url
    .host_str()
    .expect("the URL of a cache entry has a host")
    .replace('_', "%5f");
  if let Some(port) = url.port() {
    host = format!("{host}_port_{port}");
  }
  let path = match url.query() {
    Some(query) => format!("{}?{query}", url.path()),
    None => url.path().to_owned(),
  };
  deno_dir
    .join("remote")
    .join(url.scheme())
    .join(host)
    .join(format!("{:x}", Sha256::digest(path)))
}

fn now() -> u64 {
  SystemTime::now()
    .duration_since(SystemTime::UNIX_EPOCH)
    .map_or(0, |since| since.as_secs())
}
