//! Which crate may use which. docs/architecture.md says why.

use crate::workspace::Crate;
use crate::workspace::Dependency;
use crate::workspace::Kind;
use crate::workspace::Workspace;

/// A crate of the workspace, and the others that it may use.
struct Room {
  name: &'static str,
  uses: &'static [&'static str],
  /// What its tests may use besides.
  tests: &'static [&'static str],
}

const fn room(name: &'static str, uses: &'static [&'static str]) -> Room {
  Room {
    name,
    uses,
    tests: &[],
  }
}

/// Every crate stands below those that it uses. `testing` is free for tests.
const ROOMS: &[Room] = &[
  room("app-proxy", &[]),
  room("builtin-modules", &[]),
  room("forkable", &[]),
  room("hypha-rpc", &[]),
  room("kernel-protocol", &[]),
  room("outbound", &[]),
  room("sandbox", &[]),
  room("sqlite-vec-fast", &[]),
  room("testing", &[]),
  room("xtask", &[]),
  room("access", &[]),
  room("files", &["access", "kernel-protocol"]),
  room("hypha-client", &["access", "hypha-rpc", "outbound"]),
  room("models", &["access", "outbound"]),
  room("pyodide-dist", &["outbound"]),
  room(
    "kernel-host",
    &["files", "forkable", "kernel-protocol", "sandbox"],
  ),
  Room {
    name: "cpython-host",
    uses: &["kernel-host", "kernel-protocol", "sandbox"],
    // Started the way that the server starts it.
    tests: &["kernels"],
  },
  room(
    "v8-host",
    &[
      "builtin-modules",
      "forkable",
      "kernel-host",
      "kernel-protocol",
      "outbound",
      "sandbox",
    ],
  ),
  room(
    "kernels",
    &["access", "files", "kernel-protocol", "sandbox"],
  ),
  room("vector-index", &["access", "sqlite-vec-fast"]),
  room("static-embeddings", &[]),
  room(
    "vectordb",
    &["access", "outbound", "static-embeddings", "vector-index"],
  ),
  room(
    "agents",
    &[
      "access",
      "kernel-protocol",
      "kernels",
      "models",
      "outbound",
      "vectordb",
    ],
  ),
  room(
    "apps",
    &[
      "access",
      "app-proxy",
      "hypha-client",
      "kernel-protocol",
      "kernels",
    ],
  ),
  room(
    "engine",
    &[
      "access",
      "agents",
      "app-proxy",
      "apps",
      "files",
      "hypha-client",
      "kernel-protocol",
      "kernels",
      "sandbox",
      "vector-index",
      "vectordb",
    ],
  ),
  room(
    "hypha-service",
    &["access", "engine", "hypha-rpc", "kernel-protocol"],
  ),
  // One face serves the methods of another over HTTP.
  room(
    "http-api",
    &["access", "engine", "hypha-service", "kernel-protocol"],
  ),
  room(
    "embed",
    &[
      "agents",
      "engine",
      "kernel-protocol",
      "kernels",
      "pyodide-dist",
      "sandbox",
      "v8-host",
      "vectordb",
    ],
  ),
  room("embed-example", &["embed"]),
  // The command line: it turns settings into options of every room.
  room(
    "deno-app-engine",
    &[
      "access",
      "agents",
      "embed",
      "engine",
      "http-api",
      "hypha-client",
      "hypha-service",
      "kernel-host",
      "kernel-protocol",
      "kernels",
      "outbound",
      "pyodide-dist",
      "sandbox",
      "vectordb",
    ],
  ),
];

/// Crates that carry requests of clients to the engine.
const FACES: [&str; 2] = ["http-api", "hypha-service"];
/// Crates that a face reaches through `engine` only.
const MANAGERS: [&str; 7] = [
  "agents",
  "app-proxy",
  "apps",
  "hypha-client",
  "kernels",
  "vector-index",
  "vectordb",
];
/// The one crate that knows Deno and V8.
const KNOWS_DENO: &str = "v8-host";
/// Crates that serve HTTP.
const SERVE_HTTP: [&str; 2] = ["app-proxy", "http-api"];

/// Says where a crate uses what it may not.
pub(super) fn check(workspace: &Workspace) -> Vec<String> {
  let mut problems = Vec::new();
  for each in &workspace.crates {
    let room = ROOMS.iter().find(|room| room.name == each.name);
    if room.is_none() {
      problems.push(format!(
        "{}: the table of arrows in xtask/src/tidy/arrows.rs does not have this crate: add it with what it may \
         use, and a paragraph to docs/architecture.md",
        each.name
      ));
    }
    for dependency in &each.dependencies {
      let broken = of_deno(each, dependency)
        .or_else(|| of_http(each, dependency))
        .or_else(|| of_faces(each, dependency))
        .or_else(|| of_table(room?, workspace, dependency));
      if let Some(rule) = broken {
        let kind = match dependency.kind {
          Kind::Normal => "",
          Kind::Build => " (build)",
          Kind::Test => " (tests)",
        };
        problems.push(format!(
          "{} -> {}{kind}: {rule}",
          each.name, dependency.name
        ));
      }
    }
  }
  problems.extend(stale(workspace));
  problems
}

fn of_deno(each: &Crate, dependency: &Dependency) -> Option<String> {
  let name = dependency.name.as_str();
  let deno = name.starts_with("deno_") || matches!(name, "v8" | "serde_v8");
  (deno && each.name != KNOWS_DENO).then(|| {
    format!(
      "only {KNOWS_DENO} knows Deno and V8, so that all other crates build and link without them"
    )
  })
}

/// Tests may serve: they stand for others' servers then. What only decides features while building does not.
fn of_http(each: &Crate, dependency: &Dependency) -> Option<String> {
  let name = dependency.name.as_str();
  let serves = ["axum", "hyper"].iter().any(|library| {
    name
      .strip_prefix(library)
      .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
  });
  let wrong =
    serves && dependency.kind == Kind::Normal && !SERVE_HTTP.contains(&each.name.as_str());
  wrong.then(|| {
    format!(
      "only {} serve HTTP; others ask over HTTP with `outbound`",
      SERVE_HTTP.join(" and ")
    )
  })
}

fn of_faces(each: &Crate, dependency: &Dependency) -> Option<String> {
  let wrong = FACES.contains(&each.name.as_str()) && MANAGERS.contains(&dependency.name.as_str());
  wrong.then(|| {
    "a face reaches the managers through `engine` only, so that all faces show the same".to_owned()
  })
}

fn of_table(room: &Room, workspace: &Workspace, dependency: &Dependency) -> Option<String> {
  let name = dependency.name.as_str();
  if !workspace.has(name) {
    return None;
  }
  let in_tests = dependency.kind == Kind::Test;
  let free = in_tests && (name == "testing" || room.tests.contains(&name));
  (!free && !room.uses.contains(&name)).then(|| {
    "the table of arrows in xtask/src/tidy/arrows.rs does not have this one; docs/architecture.md says what \
     each crate may use"
      .to_owned()
  })
}

/// Says which lines of the table are of no use any more.
fn stale(workspace: &Workspace) -> Vec<String> {
  let mut problems = Vec::new();
  for room in ROOMS {
    let Some(each) = workspace.crates.iter().find(|it| it.name == room.name) else {
      problems.push(format!(
        "{}: no crate, but in the table of arrows in xtask/src/tidy/arrows.rs: delete it there",
        room.name
      ));
      continue;
    };
    for name in room.uses.iter().chain(room.tests) {
      if !each.dependencies.iter().any(|it| it.name == *name) {
        problems.push(format!(
          "{} -> {name}: in the table of arrows in xtask/src/tidy/arrows.rs, but in no manifest: delete it there",
          room.name
        ));
      }
    }
  }
  problems
}

#[cfg(test)]
mod tests {
  use serde_json::Value;
  use serde_json::json;
  use toml::Table;

  use super::*;

  /// The workspace that the table describes, in the words of `cargo metadata`.
  fn metadata() -> Value {
    let package = |room: &Room| {
      let uses = room
        .uses
        .iter()
        .map(|name| json!({"name": name, "kind": null}));
      let tests = room
        .tests
        .iter()
        .map(|name| json!({"name": name, "kind": "dev"}));
      json!({
        "name": room.name,
        "manifest_path": format!("/house/{}/Cargo.toml", room.name),
        "dependencies": uses.chain(tests).collect::<Vec<_>>(),
      })
    };
    json!({"packages": ROOMS.iter().map(package).collect::<Vec<_>>()})
  }

  fn checked(metadata: &Value) -> Vec<String> {
    let workspace = Workspace::new(&Table::new(), metadata, |_| Ok(Table::new()));
    check(&workspace.expect("a workspace"))
  }

  /// What is said when `name` also uses `dependency`.
  fn with(name: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
    let mut metadata = metadata();
    let packages = metadata["packages"].as_array_mut().expect("packages");
    let package = packages.iter_mut().find(|it| it["name"] == name);
    let dependencies = package.expect("a crate")["dependencies"].as_array_mut();
    dependencies
      .expect("dependencies")
      .push(json!({"name": dependency, "kind": kind}));
    checked(&metadata)
  }

  #[test]
  fn the_table_itself_breaks_no_rule() {
    assert_eq!(checked(&metadata()), Vec::<String>::new());
  }

  #[test]
  fn the_table_has_no_circle() {
    let place = |name: &str| ROOMS.iter().position(|room| room.name == name);
    for (number, room) in ROOMS.iter().enumerate() {
      for name in room.uses {
        let below = place(name).is_some_and(|place| place < number);
        assert!(
          below,
          "{} uses {name}, which must stand above it",
          room.name
        );
      }
    }
  }

  #[test]
  fn only_one_crate_knows_deno_whatever_it_is_for() {
    for (name, kind) in [
      ("deno_core", None),
      ("deno_ast", Some("dev")),
      ("v8", Some("build")),
      ("serde_v8", None),
    ] {
      let [problem] = &with("kernel-host", name, kind)[..] else {
        panic!("one problem")
      };
      assert!(
        problem.starts_with(&format!("kernel-host -> {name}")),
        "{problem}"
      );
      assert!(problem.contains("only v8-host knows Deno"), "{problem}");
      assert!(with("v8-host", name, kind).is_empty());
    }
  }

  #[test]
  fn only_two_crates_serve_http_outside_tests() {
    for name in ["axum", "hyper", "hyper-util"] {
      let problems = with("apps", name, None);
      assert_eq!(problems.len(), 1, "{problems:?}");
      assert!(problems[0].contains("serve HTTP"), "{problems:?}");
      for kind in ["dev", "build"] {
        assert!(with("apps", name, Some(kind)).is_empty());
      }
      assert!(with("app-proxy", name, None).is_empty());
    }
  }

  #[test]
  fn a_face_uses_no_manager() {
    for name in MANAGERS {
      let problems = with("http-api", name, None);
      assert_eq!(problems.len(), 1, "{problems:?}");
      assert!(
        problems[0].starts_with(&format!("http-api -> {name}: a face")),
        "{problems:?}"
      );
    }
  }

  #[test]
  fn an_arrow_that_the_table_does_not_have_is_named() {
    let problems = with("kernels", "vectordb", None);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
      problems[0].starts_with("kernels -> vectordb: the table"),
      "{problems:?}"
    );
  }

  #[test]
  fn tests_may_use_what_the_table_says_and_what_tests_share() {
    assert!(with("kernels", "testing", Some("dev")).is_empty());
    assert_eq!(with("kernels", "testing", None).len(), 1);
    assert_eq!(with("kernels", "vectordb", Some("dev")).len(), 1);
    assert_eq!(with("cpython-host", "kernels", None).len(), 1);
  }

  #[test]
  fn crates_of_others_are_free() {
    assert!(with("kernels", "serde", None).is_empty());
  }

  #[test]
  fn a_crate_without_a_line_in_the_table_is_named() {
    let mut metadata = metadata();
    let stranger =
      json!({"name": "sheds", "manifest_path": "/house/sheds/Cargo.toml", "dependencies": []});
    metadata["packages"]
      .as_array_mut()
      .expect("packages")
      .push(stranger);
    let problems = checked(&metadata);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("sheds: the table"), "{problems:?}");
  }

  #[test]
  fn lines_of_the_table_that_are_of_no_use_are_named() {
    let mut metadata = metadata();
    let packages = metadata["packages"].as_array_mut().expect("packages");
    packages.retain(|it| it["name"] != "sandbox");
    let kernels = packages.iter_mut().find(|it| it["name"] == "kernels");
    kernels.expect("a crate")["dependencies"] = json!([]);
    let problems = checked(&metadata);
    assert!(
      problems
        .iter()
        .any(|it| it.starts_with("sandbox: no crate")),
      "{problems:?}"
    );
    assert!(
      problems
        .iter()
        .any(|it| it.starts_with("kernels -> access: in the table")),
      "{problems:?}"
    );
  }
}
