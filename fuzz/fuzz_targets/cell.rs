//! Cells of TypeScript: refused with a message, or made a script.

#![no_main]

use libfuzzer_sys::fuzz_target;
use v8_host::inside;

fuzz_target!(|code: &str| {
  let _ = inside::script_of_cell(code);
  assert!(inside::is_complete(code)["status"].is_string());
});
