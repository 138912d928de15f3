//! sqlite-vec, built for the CPU it runs on.

use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ptr;

use libsqlite3_sys as ffi;
use rusqlite::Connection;

type Init = unsafe extern "C" fn(
  *mut ffi::sqlite3,
  *mut *mut c_char,
  *const ffi::sqlite3_api_routines,
) -> c_int;

unsafe extern "C" {
  #[link_name = "sqlite_vec_baseline_sqlite3_vec_init"]
  fn init_baseline(
    connection: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *const ffi::sqlite3_api_routines,
  ) -> c_int;

  #[cfg(sqlite_vec_avx2)]
  #[link_name = "sqlite_vec_avx2_sqlite3_vec_init"]
  fn init_avx2(
    connection: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *const ffi::sqlite3_api_routines,
  ) -> c_int;
}

/// Which of the builds this CPU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
  /// Runs everywhere; on aarch64 it uses NEON, which every such CPU has.
  Baseline,
  /// x86-64-v3: AVX2 and FMA.
  Avx2,
}

/// The fastest build that this CPU runs.
pub fn fastest() -> Build {
  #[cfg(sqlite_vec_avx2)]
  {
    // All that the compiler may use at x86-64-v3 beyond the baseline.
    if is_x86_feature_detected!("avx2")
      && is_x86_feature_detected!("bmi1")
      && is_x86_feature_detected!("bmi2")
      && is_x86_feature_detected!("f16c")
      && is_x86_feature_detected!("fma")
      && is_x86_feature_detected!("lzcnt")
      && is_x86_feature_detected!("movbe")
      && is_x86_feature_detected!("popcnt")
    {
      return Build::Avx2;
    }
  }
  Build::Baseline
}

/// Adds `vec0` and the `vec_` functions to one connection, and to no other.
///
/// # Errors
/// When SQLite refuses.
pub fn register(connection: &Connection) -> rusqlite::Result<()> {
  register_build(connection, fastest())
}

fn register_build(connection: &Connection, build: Build) -> rusqlite::Result<()> {
  let init: Init = match build {
    Build::Baseline => init_baseline,
    #[cfg(sqlite_vec_avx2)]
    Build::Avx2 => init_avx2,
    #[cfg(not(sqlite_vec_avx2))]
    Build::Avx2 => init_baseline,
  };
  let mut message: *mut c_char = ptr::null_mut();
  // SAFETY: the handle is open while `connection` is borrowed; the extension is compiled into the
  // program, so it does not use the third argument, and it keeps neither pointer.
  let code = unsafe { init(connection.handle(), &raw mut message, ptr::null()) };
  let reason = (!message.is_null()).then(|| {
    // SAFETY: SQLite allocated a string that ends with a NUL; it is freed once, here.
    unsafe {
      let reason = CStr::from_ptr(message).to_string_lossy().into_owned();
      ffi::sqlite3_free(message.cast());
      reason
    }
  });
  if code == ffi::SQLITE_OK {
    Ok(())
  } else {
    Err(rusqlite::Error::SqliteFailure(
      ffi::Error::new(code),
      reason,
    ))
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn nearest(build: Build, declaration: &str) -> Vec<(i64, f64)> {
    let connection = Connection::open_in_memory().expect("opens");
    register_build(&connection, build).expect("registers");
    connection
      .execute_batch(&format!("CREATE VIRTUAL TABLE v USING vec0({declaration})"))
      .expect("creates");
    let text = |seed: i32| {
      let values: Vec<String> = (0..32)
        .map(|i| format!("{}.5", (seed * 7 + i * 3) % 11))
        .collect();
      format!("[{}]", values.join(","))
    };
    for seed in 1..=50 {
      connection
        .execute("INSERT INTO v(rowid, e) VALUES (?, ?)", (seed, text(seed)))
        .expect("inserts");
    }
    let mut nearest = connection
      .prepare("SELECT rowid, distance FROM v WHERE e MATCH ? AND k = 5")
      .expect("prepares");
    let rows = nearest.query_map([text(3)], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows = rows.expect("queries").collect::<Result<_, _>>();
    rows.expect("reads")
  }

  #[test]
  fn every_build_that_this_cpu_runs_finds_the_same() {
    for declaration in ["e float[32]", "e float[32] distance_metric=cosine"] {
      let expected = nearest(Build::Baseline, declaration);
      let found = nearest(fastest(), declaration);
      assert_eq!(expected.len(), 5);
      for ((id, distance), (expected_id, expected)) in found.iter().zip(&expected) {
        assert_eq!(id, expected_id);
        assert!((distance - expected).abs() < 1e-4, "{distance} {expected}");
      }
    }
  }

  #[test]
  fn other_connections_do_not_get_it() {
    let with = Connection::open_in_memory().expect("opens");
    register(&with).expect("registers");
    let version = |connection: &Connection| {
      connection.query_row("SELECT vec_version()", (), |row| row.get::<_, String>(0))
    };
    assert_eq!(version(&with).expect("a version"), "v0.1.9");
    assert!(version(&Connection::open_in_memory().expect("opens")).is_err());
  }
}
