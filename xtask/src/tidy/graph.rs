//! Build scripts and the binary share what both link: a crate with other features, or another profile, in
//! one of the two graphs is compiled twice, and so is every crate above it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::workspace::cargo;

/// The profiles that people wait for.
const PROFILES: [&str; 2] = ["dev", "release"];

/// Names the crates that would be compiled twice for a reason of their own.
///
/// # Errors
/// When cargo cannot tell what it would build.
pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
  let mut problems = BTreeSet::new();
  for profile in PROFILES {
    let output = cargo()
      .args(["build", "--locked", "--profile", profile])
      .args(["--package", "deno-app-engine", "--package", "cpython-host"])
      .args(["--unit-graph", "-Z", "unstable-options"])
      // Cargo tells it to nightly only. The toolchain is pinned, so that its form is known.
      .env("RUSTC_BOOTSTRAP", "1")
      .current_dir(root)
      .output()
      .map_err(|e| format!("cargo build --unit-graph: {e}"))?;
    let graph: Value = serde_json::from_slice(&output.stdout).map_err(|e| {
      let said = String::from_utf8_lossy(&output.stderr);
      format!("cargo build --unit-graph: {e}: {said}")
    })?;
    problems.extend(twice(&graph, profile));
  }
  Ok(problems.into_iter().collect())
}

fn twice(graph: &Value, profile: &str) -> Vec<String> {
  let mut builds: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
  for unit in graph["units"].as_array().into_iter().flatten() {
    let kind = &unit["target"]["kind"][0];
    if unit["mode"] == "build" && kind != "custom-build" && kind != "proc-macro" {
      let package = unit["pkg_id"].as_str().unwrap_or_default();
      let target = unit["target"]["name"].as_str().unwrap_or_default();
      builds.entry((package, target)).or_default().push(unit);
    }
  }
  let mut problems = Vec::new();
  for ((package, _), units) in builds {
    let package = package.rsplit('#').next().unwrap_or(package);
    let features: Vec<BTreeSet<&str>> = units.iter().map(|unit| features(unit)).collect();
    let some: BTreeSet<&str> = features.iter().flatten().copied().collect();
    let lacking: BTreeSet<&str> = features.iter().flat_map(|own| &some - own).collect();
    if !lacking.is_empty() {
      let lacking: Vec<&str> = lacking.into_iter().collect();
      problems.push(format!(
        "{package}: compiled twice, once without {}: see [build-dependencies] in crates/v8-host/Cargo.toml",
        lacking.join(", ")
      ));
    }
    if units
      .iter()
      .any(|unit| unit["profile"] != units[0]["profile"])
    {
      problems.push(format!(
        "{package}: compiled twice, since [profile.{profile}] and its build-override differ"
      ));
    }
  }
  problems
}

fn features(unit: &Value) -> BTreeSet<&str> {
  let features = unit["features"].as_array().into_iter().flatten();
  features.filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  fn unit(package: &str, features: &[&str], level: &str) -> Value {
    json!({
      "pkg_id": format!("registry+x#{package}"), "mode": "build", "features": features,
      "target": { "kind": ["lib"], "name": package }, "profile": { "opt_level": level },
    })
  }

  #[test]
  fn other_features_and_other_profiles_are_told() {
    let graph = |units: &[Value]| json!({ "units": units });
    let (a, b) = (unit("a@1", &["x"], "0"), unit("b@1", &["x"], "0"));
    assert!(twice(&graph(&[a.clone(), b]), "dev").is_empty());
    let other = twice(&graph(&[a.clone(), unit("a@1", &["x", "y"], "0")]), "dev");
    assert!(
      other.len() == 1 && other[0].starts_with("a@1: compiled twice, once without y"),
      "{other:?}"
    );
    let slow = twice(&graph(&[a, unit("a@1", &["x"], "1")]), "dev");
    assert!(
      slow.len() == 1 && slow[0].contains("build-override"),
      "{slow:?}"
    );
  }
}
