//! What holds for every path that a kernel may think of.

use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use deno_runtime::deno_fs::FileSystem;
use deno_runtime::deno_permissions::CheckedPath;
use proptest::prelude::*;

use super::KernelFs;
use super::Mount;
use super::Place;
use super::normalise;

const POINT: &str = "/kernel/data";

fn config() -> ProptestConfig {
  ProptestConfig {
    failure_persistence: None,
    ..ProptestConfig::default()
  }
}

/// A path of few names, so that it often leads somewhere, with everything that leads elsewhere.
fn path() -> impl Strategy<Value = PathBuf> {
  let part = prop_oneof![
    3 => Just(".."),
    1 => Just("."),
    1 => Just(""),
    2 => Just("kernel"),
    2 => Just("data"),
    2 => Just("dir"),
    2 => Just("out"),
    1 => Just("secret"),
  ];
  (any::<bool>(), prop::collection::vec(part, 0..10)).prop_map(|(absolute, parts)| {
    let start = if absolute { "/" } else { "" };
    PathBuf::from(format!("{start}{}", parts.join("/")))
  })
}

/// A kernel in the mount point of a folder that has symlinks leading out of it.
fn kernel(host: &Path) -> KernelFs {
  let root = host.join("root");
  fs::create_dir_all(root.join("dir")).expect("is made");
  fs::write(root.join("dir/data"), "inside").expect("is written");
  fs::write(host.join("secret"), "outside").expect("is written");
  symlink("..", root.join("out")).expect("is made");
  symlink(host.join("secret"), root.join("secret")).expect("is made");
  let kernel = KernelFs::new();
  let mount = Mount {
    root: File::open(root).expect("opens").into(),
    mount_point: POINT.into(),
  };
  kernel
    .configure(Path::new(POINT), vec![mount])
    .expect("fits");
  kernel
}

proptest! {
  #![proptest_config(config())]

  #[test]
  fn a_normal_path_is_absolute_and_names_only(path in path()) {
    let path = Path::new("/").join(path);
    let normal = normalise(&path, |_| {});
    prop_assert!(normal.is_absolute());
    let mut parts = normal.components().skip(1);
    prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{normal:?}");
    prop_assert_eq!(normalise(&normal, |_| {}), normal);
  }

  #[test]
  fn a_path_is_in_a_mount_just_where_its_names_lead_there(path in path()) {
    let host = tempfile::tempdir().expect("a folder");
    let kernel = kernel(host.path());
    let normal = normalise(&Path::new(POINT).join(&path), |_| {});
    let below = normal.strip_prefix(POINT).ok();
    let place = kernel.locate(&CheckedPath::unsafe_new(path.clone().into()));
    match place.expect("the path has no null") {
      // Nothing is not the working folder.
      Place::Outside(_) => prop_assert!(below.is_none() || path.as_os_str().is_empty()),
      Place::Inside(inside) => prop_assert_eq!(Some(&*inside.inner), below),
    }
  }

  #[test]
  fn no_path_that_is_in_a_mount_reads_what_is_outside(path in path()) {
    let host = tempfile::tempdir().expect("a folder");
    let kernel = kernel(host.path());
    let inside = Path::new(POINT).join("dir").join(path);
    let read = kernel.read_text_file_lossy_sync(&CheckedPath::unsafe_new(inside.into()));
    prop_assert!(read.is_err() || read.is_ok_and(|text| text != "outside"));
  }
}
