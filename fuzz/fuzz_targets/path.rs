//! Paths as the file system of kernels reads them.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use v8_host::inside;

fuzz_target!(|bytes: &[u8]| {
  let path = Path::new(OsStr::from_bytes(bytes));
  let Some(normal) = inside::normal_path(path) else {
    assert!(!path.is_absolute());
    return;
  };
  let mut parts = normal.components().skip(1);
  assert!(normal.is_absolute() && parts.all(|part| matches!(part, Component::Normal(_))));
  assert_eq!(inside::normal_path(&normal), Some(normal.clone()));
});
