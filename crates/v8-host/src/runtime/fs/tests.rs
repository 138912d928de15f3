//! The file system of a kernel over folders of this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const DATA: &str = "/kernel/data";

/// A mount at [`DATA`], and next to its root on the host a file it must not lead to.
struct Fixture {
  fs: KernelFs,
  host: TempDir,
}

impl Fixture {
  fn new() -> Self {
    let host = TempDir::new().unwrap();
    fs::create_dir_all(host.path().join("root/dir")).unwrap();
    fs::write(host.path().join("root/dir/file"), "inside").unwrap();
    fs::write(host.path().join("secret"), "outside").unwrap();
    let fixture = Self {
      fs: KernelFs::new(),
      host,
    };
    fixture
      .fs
      .configure(Path::new(DATA), vec![fixture.mount("root", DATA)])
      .unwrap();
    fixture
  }

  fn mount(&self, root: &str, mount_point: &str) -> Mount {
    Mount {
      root: OwnedFd::from(StdFile::open(self.host.path().join(root)).unwrap()),
      mount_point: mount_point.into(),
    }
  }

  /// A path on the host, below the mount's root.
  fn root(&self, path: &str) -> PathBuf {
    self.host.path().join("root").join(path)
  }

  fn secret(&self) -> PathBuf {
    self.host.path().join("secret")
  }

  fn read(&self, path: &str) -> FsResult<String> {
    Ok(
      self
        .fs
        .read_text_file_lossy_sync(&checked(path))?
        .into_owned(),
    )
  }

  fn write(&self, path: &str, text: &str) -> FsResult<()> {
    self
      .fs
      .write_file_sync(&checked(path), creating(), text.as_bytes())
  }

  fn names(&self, path: &str) -> Vec<String> {
    let entries = self.fs.read_dir_sync(&checked(path)).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
  }
}

fn checked(path: &str) -> CheckedPath<'_> {
  CheckedPath::unsafe_new(Cow::Borrowed(Path::new(path)))
}

fn owned(path: &str) -> CheckedPathBuf {
  CheckedPathBuf::unsafe_new(path.into())
}

fn creating() -> OpenOptions {
  OpenOptions::write(true, false, false, None)
}

#[track_caller]
fn kind<T>(result: FsResult<T>) -> io::ErrorKind {
  result.err().expect("an error").kind()
}

/// What a link out of the mount answers: resolved within it, or refused.
#[track_caller]
fn assert_leads_nowhere<T>(result: FsResult<T>) {
  let linux = cfg!(target_os = "linux");
  let expected = if linux {
    io::ErrorKind::NotFound
  } else {
    io::ErrorKind::PermissionDenied
  };
  assert_eq!(kind(result), expected);
}

#[test]
fn files_and_directories_of_a_mount_can_be_used() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  assert_eq!(fixture.read("/kernel/data/dir/file").unwrap(), "inside");
  fixture.write("/kernel/data/new", "one").unwrap();
  assert_eq!(fs::read_to_string(fixture.root("new")).unwrap(), "one");
  assert_eq!(fixture.names(DATA), ["dir", "new"]);
  assert_eq!(fixture.names("/kernel/data/dir"), ["file"]);

  let stat = fs.stat_sync(&checked("/kernel/data/new")).unwrap();
  assert!(stat.is_file && stat.size == 3);
  assert!(fs.lstat_sync(&checked(DATA)).unwrap().is_directory);
  assert!(fs.stat_sync(&checked(DATA)).unwrap().is_directory);
  assert!(fs.exists_sync(&checked("/kernel/data/new")));
  assert!(!fs.exists_sync(&checked("/kernel/data/none")));
  assert!(fs.statfs_sync(&checked("/kernel/data/new"), true).is_ok());
  assert_eq!(
    kind(fixture.read("/kernel/data/none")),
    io::ErrorKind::NotFound
  );
  assert_eq!(
    kind(fixture.read("/kernel/data/dir")),
    io::ErrorKind::IsADirectory
  );
  assert_eq!(
    kind(fixture.read("/kernel/data/new/x")),
    io::ErrorKind::NotADirectory
  );

  fs.mkdir_sync(&checked("/kernel/data/a"), false, Some(0o700))
    .unwrap();
  assert_eq!(
    fixture.root("a").metadata().unwrap().permissions().mode() & 0o777,
    0o700
  );
  let again = fs.mkdir_sync(&checked("/kernel/data/a"), false, None);
  assert_eq!(kind(again), io::ErrorKind::AlreadyExists);
  assert_eq!(
    kind(fs.mkdir_sync(&checked(DATA), false, None)),
    io::ErrorKind::AlreadyExists
  );
  fs.mkdir_sync(&checked(DATA), true, None).unwrap();
  fs.mkdir_sync(&checked("/kernel/data/a/b/c"), true, None)
    .unwrap();
  fs.mkdir_sync(&checked("/kernel/data/a/b/c"), true, None)
    .unwrap();
  assert!(
    fs.mkdir_sync(&checked("/kernel/data/new/x"), true, None)
      .is_err()
  );

  fs.rename_sync(
    &checked("/kernel/data/new"),
    &checked("/kernel/data/a/b/c/moved"),
  )
  .unwrap();
  assert_eq!(fixture.read("/kernel/data/a/b/c/moved").unwrap(), "one");
  assert_eq!(
    kind(fs.remove_sync(&checked("/kernel/data/a"), false)),
    io::ErrorKind::DirectoryNotEmpty
  );
  fs.remove_sync(&checked("/kernel/data/a"), true).unwrap();
  fs.remove_sync(&checked("/kernel/data/dir/file"), false)
    .unwrap();
  fs.rmdir_sync(&checked("/kernel/data/dir")).unwrap();
  assert!(fixture.names(DATA).is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn files_and_directories_of_a_mount_can_be_used_asynchronously() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  fs.mkdir_async(owned("/kernel/data/a/b"), true, None)
    .await
    .unwrap();
  fs.write_file_async(
    owned("/kernel/data/a/b/x"),
    creating(),
    b"text".as_slice().into(),
  )
  .await
  .unwrap();
  let file = fs
    .open_async(owned("a/b/x"), OpenOptions::read())
    .await
    .unwrap();
  assert_eq!(file.maybe_path(), Some(Path::new("/kernel/data/a/b/x")));
  assert_eq!(file.read_all_async().await.unwrap().as_ref(), b"text");
  fs.rename_async(owned("a/b/x"), owned("a/y")).await.unwrap();
  let data = fs
    .read_file_async(owned("a/y"), OpenOptions::read())
    .await
    .unwrap();
  assert_eq!(data.as_ref(), b"text");
  fs.copy_file_async(owned("a/y"), owned("a/z"))
    .await
    .unwrap();
  fs.truncate_async(owned("a/z"), 2).await.unwrap();
  assert_eq!(fs.stat_async(owned("a/z")).await.unwrap().size, 2);
  fs.symlink_async(owned("z"), owned("a/link"), None)
    .await
    .unwrap();
  assert!(fs.lstat_async(owned("a/link")).await.unwrap().is_symlink);
  assert_eq!(
    fs.read_link_async(owned("a/link")).await.unwrap(),
    Path::new("z")
  );
  let real = fs.realpath_async(owned("a/link")).await.unwrap();
  assert_eq!(real, Path::new("/kernel/data/a/z"));
  assert!(fs.exists_async(owned("a/link")).await.unwrap());
  let listing = fs.read_dir_async(owned("a")).await.unwrap();
  let mut names = Vec::new();
  while let Some(entry) = listing.next().await.unwrap() {
    names.push((entry.name, entry.is_directory, entry.is_symlink));
  }
  names.sort();
  let expected = [
    ("b", true, false),
    ("link", false, true),
    ("y", false, false),
  ];
  assert_eq!(
    names[..3],
    expected.map(|(name, dir, link)| (name.to_string(), dir, link))
  );
  fs.remove_async(owned("a"), true).await.unwrap();
  assert!(!fs.exists_async(owned("a")).await.unwrap());
  let gone = fs.read_file_async(owned("a/y"), OpenOptions::read()).await;
  assert_eq!(kind(gone), io::ErrorKind::NotFound);
}

#[test]
fn metadata_can_be_changed_through_and_at_a_symlink() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  symlink("dir/file", fixture.root("link")).unwrap();
  fs.chmod_sync(&checked("link"), 0o600).unwrap();
  assert_eq!(
    fixture
      .root("dir/file")
      .metadata()
      .unwrap()
      .permissions()
      .mode()
      & 0o777,
    0o600
  );
  fs.utime_sync(&checked("link"), 1, 0, 2, 0).unwrap();
  fs.lutime_sync(&checked("link"), 3, 0, 4, 0).unwrap();
  assert_eq!(fs.stat_sync(&checked("link")).unwrap().mtime, Some(2000));
  assert_eq!(fs.lstat_sync(&checked("link")).unwrap().mtime, Some(4000));
  fs.chown_sync(&checked("link"), None, None).unwrap();
  fs.lchown_sync(&checked("link"), None, None).unwrap();
  fs.link_sync(&checked("dir/file"), &checked("hard"))
    .unwrap();
  assert_eq!(fs.stat_sync(&checked("hard")).unwrap().nlink, Some(2));
  assert!(fs.truncate_sync(&checked("link"), 0).is_err());
  fs.truncate_sync(&checked("hard"), 2).unwrap();
  assert_eq!(fixture.read("link").unwrap(), "in");
}

#[test]
fn options_for_opening_mean_what_they_mean_elsewhere() {
  let fixture = Fixture::new();
  let open = |path: &str, options: OpenOptions| fixture.fs.open_sync(&checked(path), options);
  let append = OpenOptions::write(false, true, false, None);
  open("dir/file", append)
    .unwrap()
    .write_all_sync(b", still")
    .unwrap();
  assert_eq!(fixture.read("dir/file").unwrap(), "inside, still");
  let exclusive = OpenOptions::write(true, false, true, Some(0o640));
  assert_eq!(
    kind(open("dir/file", exclusive)),
    io::ErrorKind::AlreadyExists
  );
  open("exclusive", exclusive).unwrap();
  let mode = fixture
    .root("exclusive")
    .metadata()
    .unwrap()
    .permissions()
    .mode();
  assert_eq!(mode & 0o777 & !0o040, 0o600);
  let absent = OpenOptions::write(false, false, false, None);
  assert_eq!(kind(open("absent", absent)), io::ErrorKind::NotFound);
  assert_eq!(
    kind(open("dir/file", OpenOptions::default())),
    io::ErrorKind::InvalidInput
  );
  let truncating = OpenOptions {
    truncate: true,
    ..OpenOptions::read()
  };
  assert_eq!(
    kind(open("dir/file", truncating)),
    io::ErrorKind::InvalidInput
  );
  open("dir/file", creating()).unwrap();
  assert_eq!(fixture.read("dir/file").unwrap(), "");
  let flags = OpenOptions {
    custom_flags: Some(libc::O_DIRECTORY),
    ..OpenOptions::read()
  };
  assert!(open("dir", flags).is_ok());
  assert_eq!(kind(open("dir/file", flags)), io::ErrorKind::NotADirectory);
  assert_eq!(
    kind(open("nul\0", OpenOptions::read())),
    io::ErrorKind::InvalidInput
  );
  assert_eq!(kind(open("", OpenOptions::read())), io::ErrorKind::NotFound);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_can_be_created_for_reading_only() {
  let fixture = Fixture::new();
  let options = OpenOptions {
    create: true,
    ..OpenOptions::read()
  };
  let file = fixture.fs.open_sync(&checked("empty"), options).unwrap();
  assert_eq!(file.clone().read_all_sync().unwrap().as_ref(), b"");
  assert!(file.write_all_sync(b"x").is_err());
}

#[test]
fn dots_in_a_path_are_taken_as_the_kernel_sees_it() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  assert_eq!(
    fixture.read("/kernel/data/./dir/../dir//file").unwrap(),
    "inside"
  );
  assert_eq!(
    fixture.read("/kernel/other/../data/dir/file").unwrap(),
    "inside"
  );
  // Next to the root on the host, but not for the kernel.
  assert_eq!(
    kind(fixture.read("/kernel/data/../secret")),
    io::ErrorKind::NotFound
  );
  assert_eq!(kind(fixture.read("../secret")), io::ErrorKind::NotFound);
  assert_eq!(
    kind(fixture.read("dir/../../secret")),
    io::ErrorKind::NotFound
  );
  // Out of the mount point is where other paths are.
  let secret = format!("/kernel/data/../..{}", fixture.secret().display());
  assert_eq!(fixture.read(&secret).unwrap(), "outside");
  // A symlink in between does not change that.
  symlink("/", fixture.root("top")).unwrap();
  assert_eq!(fixture.read("top/../dir/file").unwrap(), "inside");
  assert_eq!(
    fixture.read("top/../top/dir/file").is_ok(),
    cfg!(target_os = "linux")
  );
  assert!(fs.exists_sync(&checked("/kernel/data/dir/..")));
  assert!(!fs.exists_sync(&checked("/kernel/database")));
}

#[test]
fn an_absolute_symlink_does_not_lead_out() {
  let fixture = Fixture::new();
  symlink("/etc/passwd", fixture.root("passwd")).unwrap();
  symlink(fixture.secret(), fixture.root("secret")).unwrap();
  for path in ["passwd", "secret"] {
    assert_leads_nowhere(fixture.read(path));
    assert_leads_nowhere(fixture.fs.stat_sync(&checked(path)));
    assert_leads_nowhere(fixture.fs.chmod_sync(&checked(path), 0o777));
    assert_leads_nowhere(fixture.fs.realpath_sync(&checked(path)));
    assert_leads_nowhere(fixture.fs.copy_file_sync(&checked(path), &checked("copy")));
    assert!(!fixture.fs.exists_sync(&checked(path)));
    assert!(fixture.fs.lstat_sync(&checked(path)).unwrap().is_symlink);
  }
  assert_eq!(
    fixture.fs.read_link_sync(&checked("secret")).unwrap(),
    fixture.secret()
  );
}

#[test]
fn a_symlink_the_kernel_makes_does_not_lead_out() {
  let fixture = Fixture::new();
  let secret = fixture.secret().display().to_string();
  fixture
    .fs
    .symlink_sync(&checked(&secret), &checked("/kernel/data/link"), None)
    .unwrap();
  fixture
    .fs
    .symlink_sync(&checked("../.."), &checked("dir/up"), None)
    .unwrap();
  assert_eq!(
    fs::read_link(fixture.root("link")).unwrap(),
    fixture.secret()
  );
  assert_leads_nowhere(fixture.read("link"));
  assert_leads_nowhere(fixture.read("dir/up/secret"));
  let made = fixture.fs.symlink_sync(&checked("x"), &checked(DATA), None);
  assert_eq!(kind(made), io::ErrorKind::AlreadyExists);
}

#[test]
fn a_relative_symlink_does_not_lead_out() {
  let fixture = Fixture::new();
  symlink("../secret", fixture.root("link")).unwrap();
  symlink("../../secret", fixture.root("dir/link")).unwrap();
  assert_leads_nowhere(fixture.read("link"));
  assert_leads_nowhere(fixture.read("dir/link"));
  if cfg!(target_os = "linux") {
    // As at the root of any file system, `..` stays there.
    symlink("../../dir/file", fixture.root("clamped")).unwrap();
    assert_eq!(fixture.read("clamped").unwrap(), "inside");
  }
}

#[test]
fn a_symlinked_directory_in_the_middle_does_not_lead_out() {
  let fixture = Fixture::new();
  symlink("..", fixture.root("up")).unwrap();
  symlink(fixture.host.path(), fixture.root("host")).unwrap();
  symlink("dir", fixture.root("same")).unwrap();
  assert_eq!(fixture.read("same/file").unwrap(), "inside");
  for path in ["up/secret", "host/secret"] {
    assert_leads_nowhere(fixture.read(path));
    assert_leads_nowhere(fixture.fs.remove_sync(&checked(path), false));
    assert_leads_nowhere(fixture.fs.lstat_sync(&checked(path)));
    assert_leads_nowhere(fixture.fs.truncate_sync(&checked(path), 0));
  }
  for path in ["up/new", "host/new"] {
    let _ = fixture.write(path, "x");
    let _ = fixture.fs.mkdir_sync(&checked(path), true, None);
    let _ = fixture.fs.rename_sync(&checked("dir/file"), &checked(path));
    let _ = fixture.fs.symlink_sync(&checked("x"), &checked(path), None);
  }
  assert!(!fixture.host.path().join("new").exists());
  assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");
}

#[test]
fn nothing_is_written_through_a_symlink_that_points_outside() {
  let fixture = Fixture::new();
  let target = fixture.host.path().join("created");
  symlink(&target, fixture.root("dangling")).unwrap();
  symlink(fixture.secret(), fixture.root("secret")).unwrap();
  for path in ["dangling", "secret"] {
    assert!(fixture.write(path, "x").is_err());
    let append = OpenOptions::write(true, true, false, None);
    assert!(fixture.fs.open_sync(&checked(path), append).is_err());
    let exclusive = OpenOptions::write(true, false, true, None);
    let exclusive = fixture.fs.open_sync(&checked(path), exclusive);
    assert_eq!(kind(exclusive), io::ErrorKind::AlreadyExists);
    assert!(fixture.fs.truncate_sync(&checked(path), 0).is_err());
    assert!(
      fixture
        .fs
        .copy_file_sync(&checked("dir/file"), &checked(path))
        .is_err()
    );
    assert!(fixture.fs.mkdir_sync(&checked(path), true, None).is_err());
  }
  assert!(!target.exists());
  assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");

  if cfg!(target_os = "linux") {
    // It is a name within the mount.
    symlink("/dir/created", fixture.root("within")).unwrap();
    fixture.write("within", "x").unwrap();
    assert_eq!(
      fs::read_to_string(fixture.root("dir/created")).unwrap(),
      "x"
    );
  }
}

#[cfg(target_os = "linux")]
#[test]
fn a_symlink_into_proc_leads_nowhere() {
  let fixture = Fixture::new();
  symlink("/proc/self/root/etc/passwd", fixture.root("root")).unwrap();
  symlink("/proc/self/fd/0", fixture.root("fd")).unwrap();
  assert_leads_nowhere(fixture.read("root"));
  assert_leads_nowhere(fixture.read("fd"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_swapped_for_a_symlink_meanwhile_does_not_lead_out() {
  use std::sync::atomic::AtomicBool;
  use std::sync::atomic::Ordering;
  let fixture = Fixture::new();
  fs::create_dir(fixture.root("swap")).unwrap();
  fs::write(fixture.root("swap/secret"), "inside").unwrap();
  symlink(fixture.host.path(), fixture.root("link")).unwrap();
  let done = AtomicBool::new(false);
  let mut escaped = Vec::new();
  std::thread::scope(|scope| {
    scope.spawn(|| {
      let (swap, link) = (fixture.root("swap"), fixture.root("link"));
      while !done.load(Ordering::Relaxed) {
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &swap, rustix::fs::CWD, &link, exchange)
          .unwrap();
      }
    });
    // Without a panic, or the other thread would not end.
    for _ in 0..5_000 {
      match fixture.read("swap/secret") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(text) if text == "inside" => {}
        other => escaped.push(other),
      }
      let _ = fixture.fs.remove_sync(&checked("swap/none"), true);
      let _ = fixture
        .fs
        .mkdir_sync(&checked("swap/made/deep"), true, None);
    }
    done.store(true, Ordering::Relaxed);
  });
  assert!(escaped.is_empty(), "{escaped:?}");
  assert!(!fixture.host.path().join("made").exists());
  assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");
}

#[test]
fn removing_a_tree_does_not_follow_its_symlinks() {
  let fixture = Fixture::new();
  symlink(fixture.host.path(), fixture.root("dir/host")).unwrap();
  symlink(fixture.secret(), fixture.root("secret")).unwrap();
  fixture.fs.remove_sync(&checked("secret"), true).unwrap();
  fixture.fs.remove_sync(&checked("dir"), true).unwrap();
  assert!(fixture.names(DATA).is_empty());
  assert_eq!(fs::read_to_string(fixture.secret()).unwrap(), "outside");
}

#[test]
fn real_paths_are_the_kernels() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  let real = |path: &str| fs.realpath_sync(&checked(path)).unwrap();
  symlink("dir", fixture.root("same")).unwrap();
  assert_eq!(real("same/file"), Path::new("/kernel/data/dir/file"));
  assert_eq!(
    real("/kernel/data/dir/../same"),
    Path::new("/kernel/data/dir")
  );
  assert_eq!(real(".").as_os_str(), DATA);
  assert_eq!(
    kind(fs.realpath_sync(&checked("none"))),
    io::ErrorKind::NotFound
  );
  let host = fixture.host.path().canonicalize().unwrap();
  assert_eq!(
    real(&fixture.secret().display().to_string()),
    host.join("secret")
  );
}

#[test]
fn the_current_directory_is_the_kernels_own() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  let process = std::env::current_dir().unwrap();
  assert_eq!(fs.cwd().unwrap(), Path::new(DATA));
  fs.chdir(&checked("dir")).unwrap();
  assert_eq!(fs.cwd().unwrap(), Path::new("/kernel/data/dir"));
  assert_eq!(fixture.read("file").unwrap(), "inside");
  assert_eq!(
    kind(fs.chdir(&checked("file"))),
    io::ErrorKind::NotADirectory
  );
  assert_eq!(kind(fs.chdir(&checked("none"))), io::ErrorKind::NotFound);
  symlink(fixture.host.path(), fixture.root("host")).unwrap();
  assert_leads_nowhere(fs.chdir(&checked("../host")));
  assert_eq!(fs.cwd().unwrap(), Path::new("/kernel/data/dir"));

  let host = fixture.host.path().canonicalize().unwrap();
  fs.chdir(&checked(&host.display().to_string())).unwrap();
  assert_eq!(fs.cwd().unwrap(), host);
  assert_eq!(fixture.read("secret").unwrap(), "outside");
  assert_eq!(fixture.read("root/dir/file").unwrap(), "inside");
  assert_eq!(std::env::current_dir().unwrap(), process);
}

#[test]
fn renaming_and_linking_across_the_border_is_refused() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  let secret = fixture.secret().display().to_string();
  let moved = fixture.host.path().join("moved").display().to_string();
  for (old, new) in [(secret.as_str(), "x"), ("dir/file", moved.as_str())] {
    let error = fs
      .rename_sync(&checked(old), &checked(new))
      .unwrap_err()
      .into_io_error();
    assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
    assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
    let linked = fs.link_sync(&checked(old), &checked(new));
    assert_eq!(kind(linked), io::ErrorKind::CrossesDevices);
  }
  assert_eq!(fixture.names(DATA), ["dir"]);
  assert!(!Path::new(&moved).exists());
}

#[test]
fn copying_works_within_a_mount_and_across_its_border() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  let secret = fixture.secret().display().to_string();
  let out = fixture.host.path().join("out").display().to_string();
  fs.copy_file_sync(&checked(&secret), &checked("in"))
    .unwrap();
  assert_eq!(fixture.read("in").unwrap(), "outside");
  fs::set_permissions(fixture.root("dir/file"), PermissionsExt::from_mode(0o750)).unwrap();
  fs.copy_file_sync(&checked("dir/file"), &checked(&out))
    .unwrap();
  assert_eq!(fs::read_to_string(&out).unwrap(), "inside");
  assert_eq!(
    fs::metadata(&out).unwrap().permissions().mode() & 0o777,
    0o750
  );
  fs.copy_file_sync(&checked("dir/file"), &checked("in"))
    .unwrap();
  assert_eq!(fixture.read("in").unwrap(), "inside");
  let onto_itself = fs.copy_file_sync(&checked("in"), &checked("dir/../in"));
  assert_eq!(kind(onto_itself), io::ErrorKind::InvalidInput);
  assert_eq!(fixture.read("in").unwrap(), "inside");
  let directory = fs.copy_file_sync(&checked("dir"), &checked("copy"));
  assert_eq!(kind(directory), io::ErrorKind::InvalidInput);
}

#[test]
fn copying_a_tree_copies_symlinks_as_such() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  symlink(fixture.secret(), fixture.root("dir/secret")).unwrap();
  symlink(fixture.host.path(), fixture.root("dir/host")).unwrap();
  fs.cp_sync(&checked("dir"), &checked("copy")).unwrap();
  assert_eq!(fixture.names("copy"), ["file", "host", "secret"]);
  assert_eq!(fixture.read("copy/file").unwrap(), "inside");
  assert_eq!(
    fs::read_link(fixture.root("copy/secret")).unwrap(),
    fixture.secret()
  );
  fs.cp_sync(&checked("dir/file"), &checked("new/deep/file"))
    .unwrap();
  fs.cp_sync(&checked("dir/file"), &checked("new")).unwrap();
  assert_eq!(fixture.names("new"), ["deep", "file"]);
  let into_itself = fs.cp_sync(&checked("dir"), &checked("dir/below"));
  assert_eq!(kind(into_itself), io::ErrorKind::InvalidInput);
  let out = fixture.host.path().join("out");
  fs.cp_sync(&checked("new"), &checked(&out.display().to_string()))
    .unwrap();
  assert_eq!(fs::read_to_string(out.join("deep/file")).unwrap(), "inside");
  fs.cp_sync(&checked(&out.display().to_string()), &checked("back"))
    .unwrap();
  assert_eq!(fixture.read("back/deep/file").unwrap(), "inside");
}

#[test]
fn a_mount_point_cannot_be_taken_away() {
  let fixture = Fixture::new();
  let fs = &fixture.fs;
  for path in [DATA, ".", "/kernel/data/", "dir/.."] {
    assert_eq!(
      kind(fs.remove_sync(&checked(path), true)),
      io::ErrorKind::ResourceBusy
    );
    assert_eq!(
      kind(fs.remove_sync(&checked(path), false)),
      io::ErrorKind::ResourceBusy
    );
    assert_eq!(
      kind(fs.rmdir_sync(&checked(path))),
      io::ErrorKind::ResourceBusy
    );
    let renamed = fs.rename_sync(&checked(path), &checked("dir/x"));
    assert_eq!(kind(renamed), io::ErrorKind::ResourceBusy);
    let replaced = fs.rename_sync(&checked("dir"), &checked(path));
    assert_eq!(kind(replaced), io::ErrorKind::ResourceBusy);
  }
  assert_eq!(fixture.read("dir/file").unwrap(), "inside");
}

#[test]
fn the_deeper_of_two_mounts_serves_a_path() {
  let fixture = Fixture::new();
  fs::create_dir_all(fixture.host.path().join("inner")).unwrap();
  fs::write(fixture.host.path().join("inner/file"), "deeper").unwrap();
  let fs = KernelFs::new();
  let mounts = vec![
    fixture.mount("root", DATA),
    fixture.mount("inner", "/kernel/data/dir"),
  ];
  fs.configure(Path::new("/"), mounts).unwrap();
  let read = |path| {
    fs.read_text_file_lossy_sync(&checked(path))
      .unwrap()
      .into_owned()
  };
  assert_eq!(read("/kernel/data/dir/file"), "deeper");
  let moved = fs.rename_sync(
    &checked("/kernel/data/dir/file"),
    &checked("/kernel/data/file"),
  );
  assert_eq!(kind(moved), io::ErrorKind::CrossesDevices);
}

#[test]
fn before_it_is_configured_it_is_the_hosts() {
  let fixture = Fixture::new();
  let fs = KernelFs::new();
  assert_eq!(fs.cwd().unwrap(), std::env::current_dir().unwrap());
  let secret = fixture.secret().display().to_string();
  assert_eq!(
    fs.read_text_file_lossy_sync(&checked(&secret)).unwrap(),
    "outside"
  );
  fs.chdir(&checked(&fixture.host.path().display().to_string()))
    .unwrap();
  assert_eq!(
    fs.read_text_file_lossy_sync(&checked("secret")).unwrap(),
    "outside"
  );
}

#[test]
fn a_faulty_configuration_is_refused_by_name() {
  let fixture = Fixture::new();
  let fs = KernelFs::new();
  let configure = |cwd: &str, mounts| fs.configure(Path::new(cwd), mounts);
  let file = configure("/", vec![fixture.mount("secret", DATA)]).unwrap_err();
  assert_eq!(file.kind(), io::ErrorKind::NotADirectory);
  assert!(file.to_string().contains(DATA), "{file}");
  let relative = configure("/", vec![fixture.mount("root", "data")]).unwrap_err();
  assert_eq!(relative.kind(), io::ErrorKind::InvalidInput);
  assert_eq!(
    configure("x", vec![]).unwrap_err().kind(),
    io::ErrorKind::InvalidInput
  );
  let twice = vec![
    fixture.mount("root", DATA),
    fixture.mount("root", "/kernel/x/../data/"),
  ];
  assert_eq!(
    configure("/", twice).unwrap_err().kind(),
    io::ErrorKind::InvalidInput
  );
  configure("/tmp/../", vec![fixture.mount("root", DATA)]).unwrap();
  assert_eq!(fs.cwd().unwrap(), Path::new("/"));
  assert_eq!(
    configure("/", vec![]).unwrap_err().kind(),
    io::ErrorKind::AlreadyExists
  );
}

#[test]
fn the_mask_for_new_files_can_be_read_but_not_set() {
  let fs = KernelFs::new();
  let mask = fs.umask(None).unwrap();
  assert!(mask <= 0o777);
  assert!(fs.umask(Some(0)).is_err());
  assert_eq!(fs.umask(None).unwrap(), mask);
}
