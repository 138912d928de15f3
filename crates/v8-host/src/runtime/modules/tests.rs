//! The cache that tests fill by hand is one that Deno reads.

use std::path::Path;

use deno_cache_dir::CacheEntry;
use deno_cache_dir::GlobalHttpCache;
use deno_cache_dir::HttpCache;
use deno_cache_dir::NOT_FOUND_CACHE_HEADER;
use deno_core::url::Url;
use sys_traits::impls::RealSys;
use tempfile::TempDir;
use testing::deno_dir::fill_not_found;
use testing::deno_dir::fill_typescript;

/// What Deno itself finds in the cache.
fn found(deno_dir: &Path, url: &str) -> Option<CacheEntry> {
  let cache = GlobalHttpCache::new(RealSys, deno_dir.join("remote"));
  let url = Url::parse(url).expect("a URL");
  let key = cache.cache_item_key(&url).expect("a URL that is cached");
  cache.get(&key, None).expect("a readable cache")
}

#[test]
fn deno_reads_what_was_filled() {
  let dir = TempDir::new().expect("a folder");
  for url in [
    "https://deno.land/std@0.208.0/http/server.ts",
    "https://deno.land/mod.ts?v=1&w",
    "https://deno.land:443/",
    "http://a_b.test:8080/mod.ts",
  ] {
    let body = format!("export default {url:?};\n");
    fill_typescript(dir.path(), url, &body);
    let entry = found(dir.path(), url).unwrap_or_else(|| panic!("{url} is not found"));
    assert_eq!(&*entry.content, body.as_bytes(), "{url}");
    assert_eq!(
      entry
        .metadata
        .headers
        .get("content-type")
        .map(String::as_str),
      Some("application/typescript"),
      "{url}"
    );
    assert!(entry.metadata.time.is_some(), "{url}");
  }
  assert!(found(dir.path(), "https://deno.land/other.ts").is_none());
}

#[test]
fn a_missing_module_is_marked_as_deno_marks_it() {
  let dir = TempDir::new().expect("a folder");
  let url = "https://deno.land/absent.ts";
  fill_not_found(dir.path(), url);
  let entry = found(dir.path(), url).expect("an entry");
  assert!(entry.metadata.headers.contains_key(NOT_FOUND_CACHE_HEADER));
  assert!(entry.content.is_empty());
}
