//! Heads of requests to apps and of their answers: the engine's own cookies stay with the engine, and
//! nothing of an answer reaches beyond the app.

#![no_main]

use app_proxy::site::Site;
use app_proxy::site::remove_engine_cookies;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

/// A line a header, `name: value`.
fn headers(bytes: &[u8]) -> HeaderMap {
  let mut headers = HeaderMap::new();
  for line in bytes.split(|byte| *byte == b'\n').take(100) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
      continue;
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
      headers.append(name, value);
    }
  }
  headers
}

fuzz_target!(|bytes: &[u8]| {
  let mut request = headers(bytes);
  remove_engine_cookies(&mut request);
  let once = request.clone();
  remove_engine_cookies(&mut request);
  assert_eq!(once, request);
  for site in [Site::below("/apps/demo"), Site::own("demo")] {
    let mut answer = headers(bytes);
    site.confine(&mut answer);
    let once = answer.clone();
    site.confine(&mut answer);
    assert_eq!(once, answer);
  }
});
