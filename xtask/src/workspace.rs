//! The workspace as cargo and its manifests describe it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use toml::Table;

/// All crates of this repository that are built together.
pub(crate) struct Workspace {
  /// `[workspace.dependencies]` of the top manifest.
  pub versions: Table,
  pub crates: Vec<Crate>,
}

/// A member of the workspace.
pub(crate) struct Crate {
  pub name: String,
  pub manifest: Table,
  pub dependencies: Vec<Dependency>,
}

pub(crate) struct Dependency {
  pub name: String,
  pub kind: Kind,
}

/// What a dependency is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
  Normal,
  Build,
  Test,
}

impl Workspace {
  /// Asks cargo about the workspace in `root`.
  ///
  /// # Errors
  /// When cargo does not answer, or a manifest cannot be read.
  pub(crate) fn read(root: &Path) -> Result<Self, String> {
    let output = cargo()
      .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
      .current_dir(root)
      .output()
      .map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
      let said = String::from_utf8_lossy(&output.stderr);
      return Err(format!("cargo metadata: {said}"));
    }
    let metadata: Value =
      serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    Self::new(&read_toml(&root.join("Cargo.toml"))?, &metadata, read_toml)
  }

  /// Makes a workspace of the top manifest, the answer of `cargo metadata`, and a way to its manifests.
  pub(crate) fn new(
    top: &Table,
    metadata: &Value,
    manifest: impl Fn(&Path) -> Result<Table, String>,
  ) -> Result<Self, String> {
    let versions = top
      .get("workspace")
      .and_then(|workspace| workspace.get("dependencies"))
      .and_then(toml::Value::as_table)
      .cloned()
      .unwrap_or_default();
    let packages = metadata["packages"].as_array();
    let packages = packages.ok_or("cargo metadata: no packages")?;
    let mut crates = Vec::new();
    for package in packages {
      let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
      let dependencies = package["dependencies"].as_array();
      crates.push(Crate {
        name: text(&package["name"]),
        manifest: manifest(&PathBuf::from(text(&package["manifest_path"])))?,
        dependencies: dependencies
          .into_iter()
          .flatten()
          .map(|dependency| Dependency {
            name: text(&dependency["name"]),
            kind: match dependency["kind"].as_str() {
              None => Kind::Normal,
              Some("build") => Kind::Build,
              Some(_) => Kind::Test,
            },
          })
          .collect(),
      });
    }
    Ok(Self { versions, crates })
  }

  pub(crate) fn has(&self, name: &str) -> bool {
    self.crates.iter().any(|it| it.name == name)
  }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
  Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The folder of the repository.
///
/// # Panics
/// Never: this crate lies directly in it.
pub(crate) fn root() -> PathBuf {
  let here = Path::new(env!("CARGO_MANIFEST_DIR"));
  here.parent().expect("xtask lies in the repository").into()
}

fn read_toml(path: &Path) -> Result<Table, String> {
  let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
  text
    .parse()
    .map_err(|e: toml::de::Error| format!("{}: {e}", path.display()))
}
