//! Filters of a request for vectors: refused with a message, or understood.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vector_index::Filter;

fuzz_target!(|bytes: &[u8]| {
  if let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes)
    && let Err(error) = Filter::parse(&value)
  {
    assert!(!error.to_string().is_empty());
  }
});
