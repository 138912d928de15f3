//! Folders of the host that kernels may mount. The server opens them, so that what was checked is what a
//! kernel gets.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

/// Stands for the namespace in a folder of the operator's.
const NAMESPACE: &str = "{namespace}";

/// A folder in which kernels may mount what they like; with `{namespace}` in its path, those of each
/// namespace in a folder of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRoot {
  /// As the operator wrote it.
  written: PathBuf,
  /// The same without symlinks, up to where `{namespace}` stands.
  folder: PathBuf,
}

impl FromStr for MountRoot {
  type Err = std::convert::Infallible;

  fn from_str(path: &str) -> Result<Self, Self::Err> {
    Ok(Self {
      written: path.into(),
      folder: path.into(),
    })
  }
}

impl MountRoot {
  /// A folder whose path is absolute and has no symlinks.
  pub(crate) fn resolved(folder: PathBuf) -> Self {
    Self {
      written: folder.clone(),
      folder,
    }
  }

  pub fn is_empty(&self) -> bool {
    self.written.as_os_str().is_empty()
  }

  pub fn written(&self) -> &Path {
    &self.written
  }

  /// Finds the folder; `false` when it is none.
  pub fn resolve(&mut self) -> bool {
    let is_template = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(NAMESPACE);
    let fixed: PathBuf = self
      .written
      .components()
      .take_while(|part| !is_template(part))
      .collect();
    let rest: PathBuf = self
      .written
      .components()
      .skip_while(|part| !is_template(part))
      .collect();
    match fixed.canonicalize() {
      Ok(fixed) if fixed.is_dir() => {
        self.folder = fixed.join(rest);
        true
      }
      _ => false,
    }
  }

  /// Where `path` is, when it is in what kernels of `namespace` may mount: a folder of the operator's,
  /// and the rest of the path below it.
  fn locate(&self, namespace: Option<&str>, path: &Path) -> Option<MountSource> {
    let fixed = self.folder.components().take_while(|part| {
      let part = part.as_os_str().to_string_lossy();
      !part.contains(NAMESPACE)
    });
    let fixed: PathBuf = fixed.collect();
    [&self.folder, &self.written].into_iter().find_map(|root| {
      let root = of_namespace(root, namespace)?;
      let below = path.strip_prefix(&root).ok()?;
      let inner = of_namespace(&self.folder, namespace)?.join(below);
      let inner = inner.strip_prefix(&fixed).ok()?.to_path_buf();
      Some(MountSource {
        within: fixed.clone(),
        inner,
      })
    })
  }
}

/// A path with the namespace in its place; `None` where there is none to put there.
fn of_namespace(path: &Path, namespace: Option<&str>) -> Option<PathBuf> {
  let text = path.to_str()?;
  if !text.contains(NAMESPACE) {
    return Some(path.to_path_buf());
  }
  // `.` and `..` are names of namespaces, but not of folders.
  let name = namespace.filter(|name| name.chars().any(|c| c != '.'))?;
  Some(text.replace(NAMESPACE, name).into())
}

/// The directory that a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSource {
  within: PathBuf,
  /// Below `within`; none of it is a symlink when it is opened.
  inner: PathBuf,
}

impl MountSource {
  /// A folder of the engine's own.
  pub fn folder(path: PathBuf) -> Self {
    Self {
      within: path,
      inner: PathBuf::new(),
    }
  }

  /// The directory at `path`, if kernels of `namespace` may mount it. What they may not and what does
  /// not exist cannot be told apart.
  pub fn find(roots: &[MountRoot], namespace: Option<&str>, path: &Path) -> Option<Self> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) {
      return None;
    }
    let mut sources = roots.iter().filter_map(|root| root.locate(namespace, path));
    sources.find(|source| source.open().is_ok())
  }

  /// # Errors
  /// When it is no directory, or a symlink leads there.
  pub fn open(&self) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = rustix::fs::open(&self.within, flags, Mode::empty())?;
    if self.inner.as_os_str().is_empty() {
      return Ok(within);
    }
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
      &within,
      &self.inner,
      flags,
      Mode::empty(),
      beneath,
    )?)
  }
}

#[cfg(test)]
#[expect(
  clippy::disallowed_methods,
  reason = "a test is all that its thread does"
)]
mod tests {
  use std::fs;
  use std::os::unix::fs::symlink;

  use proptest::prelude::*;
  use tempfile::TempDir;

  use super::*;

  fn root(path: &Path) -> MountRoot {
    let mut root: MountRoot = path.to_str().expect("text").parse().expect("a path");
    assert!(root.resolve());
    root
  }

  #[test]
  fn each_namespace_has_a_folder_of_its_own() {
    let dir = TempDir::new().expect("a folder");
    for name in ["alice/project", "bob", ".."] {
      fs::create_dir_all(dir.path().join(name)).expect("is made");
    }
    let roots = [root(&dir.path().join("{namespace}"))];
    let may = |namespace, path: &str| {
      MountSource::find(&roots, namespace, &dir.path().join(path)).is_some()
    };
    assert!(may(Some("alice"), "alice") && may(Some("alice"), "alice/project"));
    assert!(!may(Some("alice"), "bob") && !may(Some("bob"), "alice/project"));
    assert!(!may(Some("alice"), "alice/../bob") && !may(Some("alice"), ""));
    assert!(!may(None, "alice") && !may(None, "{namespace}"));
    assert!(!may(Some(".."), "..") && !may(Some("."), "alice"));
    assert!(!may(Some("carol"), "carol"));
  }

  #[test]
  fn a_symlink_below_a_root_leads_nowhere() {
    let dir = TempDir::new().expect("a folder");
    let (shared, other) = (dir.path().join("shared"), dir.path().join("other"));
    fs::create_dir_all(shared.join("real")).expect("is made");
    fs::create_dir_all(&other).expect("is made");
    symlink(&other, shared.join("out")).expect("a link");
    symlink(&shared, dir.path().join("alias")).expect("a link");
    let roots = [root(&dir.path().join("alias"))];
    let find = |path: &Path| MountSource::find(&roots, None, path);
    assert!(find(&shared.join("real")).is_some());
    // As the operator wrote it.
    assert!(find(&dir.path().join("alias/real")).is_some());
    assert!(find(&shared.join("out")).is_none());
    let source = find(&shared.join("real")).expect("is there");
    fs::remove_dir(shared.join("real")).expect("is removed");
    symlink(&other, shared.join("real")).expect("a link");
    assert!(source.open().is_err());
  }

  /// A path of few names, so that it often leads somewhere.
  fn asked() -> impl Strategy<Value = String> {
    let part = prop_oneof![
      3 => Just("alice"),
      2 => Just("bob"),
      2 => Just("project"),
      2 => Just(".."),
      1 => Just("."),
      1 => Just(""),
      1 => Just("out"),
      1 => Just("{namespace}"),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.join("/"))
  }

  proptest! {
    #![proptest_config(ProptestConfig {
      failure_persistence: None,
      ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_asked_for_a_namespace_mounts_only_what_is_its_own(
      path in asked(),
      namespace in prop::sample::select(vec!["alice", "bob", "..", ".", "carol", "{namespace}"]),
    ) {
      let dir = TempDir::new().expect("a folder");
      for name in ["alice/project", "bob/project"] {
        fs::create_dir_all(dir.path().join(name)).expect("is made");
      }
      symlink("../bob", dir.path().join("alice/out")).expect("is made");
      let roots = [root(&dir.path().join("{namespace}"))];
      if let Some(source) = MountSource::find(&roots, Some(namespace), &dir.path().join(&path)) {
        let own = dir.path().canonicalize().expect("is there").join(namespace);
        let found = source.within.join(&source.inner).canonicalize();
        let found = found.expect("what was found is there");
        prop_assert!(found.starts_with(&own), "{found:?} is not in {own:?}");
        prop_assert!(["alice", "bob"].contains(&namespace));
      }
    }

    #[test]
    fn every_folder_of_its_own_can_be_mounted(below in prop::sample::select(vec!["", "project"])) {
      let dir = TempDir::new().expect("a folder");
      fs::create_dir_all(dir.path().join("alice/project")).expect("is made");
      let roots = [root(&dir.path().join("{namespace}"))];
      let path = dir.path().join("alice").join(below);
      prop_assert!(MountSource::find(&roots, Some("alice"), &path).is_some());
    }
  }
}
