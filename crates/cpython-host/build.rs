//! Leaves the interpreter's symbols of `cpython-host` to be found when it starts.

fn main() {
  println!("cargo::rerun-if-changed=build.rs");
  // `include_dir!` does not tell cargo of files that come and go.
  println!("cargo::rerun-if-changed=../../python");
  // The server starts it with the libpython of whichever interpreter a kernel is to have. GNU ld
  // makes symbols null that are not named for export as well.
  for flag in [
    "--unresolved-symbols=ignore-all",
    "--export-dynamic-symbol=*Py*",
  ] {
    println!("cargo::rustc-link-arg-bin=cpython-host=-Wl,{flag}");
  }
}
