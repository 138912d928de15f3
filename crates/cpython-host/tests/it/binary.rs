//! What the built binary asks of the machine it is started on.

use std::process::Command;

/// The linker was told to let unknown symbols be; only the interpreter's may be left.
#[test]
fn only_the_interpreters_symbols_are_left_open() {
  let nm = Command::new("nm")
    .args(["-D", "--undefined-only", "--with-symbol-versions"])
    .arg(env!("CARGO_BIN_EXE_cpython-host"))
    .output();
  // A machine without binutils has nothing to say.
  let Ok(nm) = nm else { return };
  let listed = String::from_utf8_lossy(&nm.stdout);
  let open = listed
    .lines()
    .filter_map(|line| line.split_once("U ").map(|(_, symbol)| symbol))
    .filter(|symbol| !symbol.contains('@'));
  for symbol in open {
    assert!(
      symbol.starts_with("Py") || symbol.starts_with("_Py"),
      "{symbol}"
    );
  }
}
