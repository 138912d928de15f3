//! Apps, whose programs are played.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use access::Caller;
use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use chrono::DateTime;
use chrono::Utc;
use engine::apps::AppState;
use engine::apps::WrittenManifest;
use engine::hypha_client::Artifacts;
use engine::hypha_client::HyphaConfig;
use serde_json::Value;
use serde_json::json;

use crate::engine::OWN;
use crate::engine::Played;
use crate::engine::take_time;

/// Methods for the service's own workspace, with what only it can do.
const RESTRICTED: [(&str, &str); 6] = [
  ("notifyAppUpdates", "notify app updates"),
  ("reloadApp", "reload apps"),
  ("killApp", "kill apps"),
  ("getAppStats", "get app stats"),
  ("executeInApp", "execute code in apps"),
  ("getAppKernelLogs", "read logs of apps"),
];

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
  for _ in 0..2000 {
    if is_so() {
      return;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
  }
  panic!("never: {what}");
}

impl Played {
  fn state(&self, id: &str) -> AppState {
    let app = self.engine().apps.get(&Caller::operator(), id);
    app.expect("an app").status().state
  }

  async fn becomes(&self, id: &str, state: AppState) {
    until(&format!("{id} {state:?}"), || self.state(id) == state).await;
  }

  async fn app(&self, manifest: Value, state: AppState) {
    let written = WrittenManifest::parse(&manifest.to_string()).expect("a manifest");
    let operator = Caller::operator();
    let made = self.engine().apps.create(&operator, written).await;
    let id = made.expect("an app").id.to_string();
    self.becomes(&id, state).await;
  }

  /// A shop that runs, a job that has ended, and an app that has failed.
  async fn three(&self) {
    let shop = json!({
      "id": "shop", "name": "Shop", "description": "Sells", "lang": "typescript", "env": {"KEY": "sk-secret"},
      "startup_script": "print open\nwarn careful", "restart": "never",
    });
    self.app(shop, AppState::Running).await;
    let job = json!({"id": "job", "lang": "js", "startup_script": "print done\nend"});
    self.app(job, AppState::Exited).await;
    let wrong = json!({"id": "wrong", "startup_script": "crash", "restart": "never"});
    self.app(wrong, AppState::Failed).await;
  }
}

#[tokio::test]
async fn everybody_may_see_which_apps_there_are() {
  let engine = Played::new();
  engine.three().await;
  for workspace in [OWN, "ann"] {
    let mut listed = engine.call(workspace, "listApps", json!({})).await;
    take_time(&mut listed, "timestamp");
    for app in listed["apps"].as_array_mut().expect("apps") {
      take_time(app, "created");
    }
    assert_eq!(
      listed,
      json!({
        "apps": [
          {
            "id": "job", "name": "job", "description": "", "status": "idle", "kernelId": "job",
            "language": "javascript", "created": null,
          },
          {
            "id": "shop", "name": "Shop", "description": "Sells", "status": "executing", "kernelId": "shop",
            "language": "typescript", "created": null,
          },
          {
            "id": "wrong", "name": "wrong", "description": "", "status": "error", "kernelId": "wrong",
            "language": "python", "created": null,
          },
        ],
        "totalCount": 3, "timestamp": null,
      })
    );
  }
}

#[tokio::test]
async fn an_app_is_told_to_everybody_without_its_secrets() {
  let engine = Played::new();
  engine.three().await;
  for workspace in [OWN, "ann"] {
    let mut told = engine
      .call(workspace, "getAppInfo", json!({"appId": "shop"}))
      .await;
    assert!(!told.to_string().contains("sk-secret"), "{told}");
    for time in ["timestamp", "created"] {
      take_time(&mut told, time);
    }
    assert!(told["uptime"].take().as_u64().is_some_and(|ms| ms < 60_000));
    let formatted = told["uptimeFormatted"].take();
    let formatted = formatted.as_str().expect("a text");
    assert!(
      formatted.starts_with("0d 0h 0m ") && formatted.ends_with('s'),
      "{formatted}"
    );
    let script = told["manifest"]["startup_script"].take();
    assert_eq!(script.is_string(), workspace == OWN, "{script}");
    let mut manifest = told["manifest"].take();
    for rest in ["permissions", "limits", "startup_script"] {
      manifest.as_object_mut().expect("an object").remove(rest);
    }
    assert_eq!(
      manifest,
      json!({
        "id": "shop", "name": "Shop", "description": "Sells", "lang": "typescript", "env": ["KEY"],
        "restart": "never",
      })
    );
    assert_eq!(
      told,
      json!({
        "id": "shop", "name": "Shop", "description": "Sells", "status": "executing", "kernelId": "shop",
        "language": "typescript", "created": null, "uptime": null, "uptimeFormatted": null,
        "activeExecutions": 1, "isStuck": false, "historyCount": 1, "manifest": null, "mode": "worker",
        "timestamp": null,
      })
    );
  }
  let told = engine
    .call("ann", "getAppInfo", json!({"appId": "job"}))
    .await;
  assert_eq!(
    (
      &told["activeExecutions"],
      &told["uptime"],
      &told["uptimeFormatted"]
    ),
    (&json!(0), &json!(null), &json!(null))
  );
  let said = engine
    .failure("ann", "getAppInfo", json!({"appId": "none"}))
    .await;
  assert_eq!(said, "App with ID none not found");
}

#[tokio::test]
async fn apps_are_counted() {
  let engine = Played::new();
  engine.three().await;
  let mut stats = engine.call(OWN, "getAppStats", json!({})).await;
  take_time(&mut stats, "timestamp");
  for app in stats["apps"].as_array_mut().expect("apps") {
    take_time(app, "created");
  }
  // The shop and the job have a process, which is measured.
  let memory = stats["memoryUsage"].take();
  assert!(memory.as_u64().is_some_and(|bytes| bytes > 0), "{memory}");
  let uptime = stats["apps"][1]["uptime"].take();
  assert!(uptime.as_u64().is_some_and(|ms| ms < 60_000), "{uptime}");
  let app = |id: &str, status: &str, language: &str, active: usize| {
    json!({
      "id": id, "status": status, "kernelId": id, "language": language, "created": null,
      "activeExecutions": active, "isStuck": false, "historyCount": 1, "uptime": null,
    })
  };
  assert_eq!(
    stats,
    json!({
      "totalApps": 3, "runningApps": 2, "idleApps": 1, "executingApps": 1, "stuckApps": 0, "errorApps": 1,
      "totalExecutions": 3, "memoryUsage": null,
      "apps": [
        app("job", "idle", "javascript", 0),
        app("shop", "executing", "typescript", 1),
        app("wrong", "error", "python", 0),
      ],
      "timestamp": null,
    })
  );

  let none = Played::new().call(OWN, "getAppStats", json!({})).await;
  assert_eq!(
    (&none["totalApps"], &none["memoryUsage"]),
    (&json!(0), &json!(null))
  );
}

#[tokio::test]
async fn an_app_is_reloaded_and_stopped() {
  let engine = Played::new();
  engine.three().await;
  let shop = || json!({"appId": "shop"});
  let given = || json!({"appId": "job"});
  let mut reloaded = engine.call(OWN, "reloadApp", given()).await;
  take_time(&mut reloaded, "timestamp");
  assert_eq!(
    reloaded,
    json!({
      "success": true, "message": "App job reloaded successfully", "appId": "job", "kernelId": "job",
      "timestamp": null,
    })
  );
  engine.becomes("job", AppState::Exited).await;
  let told = engine.call(OWN, "getAppInfo", given()).await;
  assert_eq!(
    (&told["status"], &told["historyCount"]),
    (&json!("idle"), &json!(2))
  );
  let given = json!({"appId": "wrong"});
  assert_eq!(
    engine.failure(OWN, "reloadApp", given).await,
    "app wrong was reloaded, but does not come up: the program ended with code 3"
  );

  let mut killed = engine.call(OWN, "killApp", shop()).await;
  take_time(&mut killed, "timestamp");
  assert_eq!(
    killed,
    json!({
      "success": true, "message": "App shop killed successfully", "appId": "shop", "kernelId": "shop",
      "timestamp": null,
    })
  );
  assert_eq!(engine.state("shop"), AppState::Stopped);
  let told = engine.call(OWN, "getAppInfo", shop()).await;
  assert_eq!(told["status"], "unknown");
  for name in ["reloadApp", "killApp"] {
    for id in ["shop", "none"] {
      assert_eq!(
        engine.failure(OWN, name, json!({"appId": id})).await,
        format!("App {id} is not currently running (kernel not found)")
      );
    }
  }
}

#[tokio::test]
async fn code_runs_beside_the_program_and_what_it_comes_to_is_in_the_log() {
  let engine = Played::new();
  engine.three().await;
  let app = engine
    .engine()
    .apps
    .get(&Caller::operator(), "shop")
    .expect("an app");
  let is_logged = |text: &str| app.log.last(9).iter().any(|entry| entry.text == text);
  until("its program has said all", || is_logged("careful")).await;
  let before = Utc::now();
  let code = "print hello\nshow 42\nraise boom";
  let given = json!({"appId": "shop", "code": code});
  let mut run = engine.call(OWN, "executeInApp", given).await;
  let id = run["executionId"].take();
  let id = id.as_str().expect("an id").to_owned();
  assert!(id.starts_with("exec-"), "{id}");
  take_time(&mut run, "timestamp");
  assert_eq!(
    run,
    json!({
      "executionId": null, "appId": "shop", "message": "Code execution started in app shop", "timestamp": null,
    })
  );
  let ended = format!("{id} has ended");
  // They come on two ways.
  until("it ends", || is_logged(&ended) && is_logged("hello")).await;

  let mut logs = engine
    .call(OWN, "getAppKernelLogs", json!({"appId": "shop"}))
    .await;
  take_time(&mut logs, "timestamp");
  let mut lines = logs["logs"].as_array().expect("lines").clone();
  for line in &mut lines {
    let time = take_time(line, "timestamp");
    let time: DateTime<Utc> = time.parse().expect("a time");
    // Those of the program are older than the execution, and none is from the time of asking.
    let is_early = matches!(
      line["content"].as_str(),
      Some("open" | "careful" | "started")
    );
    // They are told without what is below a millisecond.
    let is_as_old = match is_early {
      true => time <= before,
      false => time >= before - Duration::from_millis(1),
    };
    assert!(is_as_old, "{line}");
  }
  lines.sort_by_key(|line| line["content"].to_string());
  let stream = |stream: &str, content: &str| {
    json!({
      "timestamp": null, "type": "stream", "stream": stream, "content": content, "executionId": null,
    })
  };
  let note = |kind: &str, content: &str| json!({"timestamp": null, "type": kind, "content": content, "executionId": null});
  assert_eq!(
    lines,
    [
      stream("stderr", "careful"),
      note("message", &ended),
      note("message", &format!("{id}: 42")),
      note("error", &format!("{id}: ValueError: boom")),
      stream("stdout", "hello"),
      stream("stdout", "open"),
      note("message", "started"),
    ]
  );
  logs["logs"] = Value::Null;
  assert_eq!(
    logs,
    json!({
      "appId": "shop", "kernelId": "shop", "logs": null, "totalLogEntries": 7, "requestedLines": 100,
      "kernelStatus": "executing", "currentExecution": {"activeExecutions": 1, "isStuck": false},
      "timestamp": null,
    })
  );
}

#[tokio::test]
async fn a_log_is_told_from_its_end_and_in_bounds() {
  let engine = Played::new();
  engine.three().await;
  for (lines, told, requested) in [
    (json!(1), 1, 1),
    (json!(null), 3, 100),
    (json!(5000), 3, 1000),
  ] {
    let given = json!({"appId": "job", "lines": lines});
    let logs = engine.call(OWN, "getAppKernelLogs", given).await;
    let last = logs["logs"].as_array().expect("lines");
    assert_eq!(
      (last.len(), &logs["requestedLines"]),
      (told, &json!(requested))
    );
    assert_eq!(last[told - 1]["content"], "the program ended with code 0");
    assert_eq!(
      (&logs["totalLogEntries"], &logs["kernelStatus"]),
      (&json!(3), &json!("idle"))
    );
    assert_eq!(logs["currentExecution"], json!(null));
  }
}

#[tokio::test]
async fn the_operators_methods_are_for_the_services_own_workspace() {
  let engine = Played::new();
  engine.three().await;
  for (name, what) in RESTRICTED {
    let given = json!({"appId": "shop", "code": "print hello", "ws": OWN});
    assert_eq!(
      engine.failure("ann", name, given).await,
      format!("Permission denied: Only home workspace can {what}")
    );
  }
  assert_eq!(engine.state("shop"), AppState::Running);
}

#[tokio::test]
async fn what_is_missing_or_of_another_type_is_named() {
  let engine = Played::new();
  engine.three().await;
  for name in [
    "reloadApp",
    "killApp",
    "getAppInfo",
    "executeInApp",
    "getAppKernelLogs",
  ] {
    for given in [json!({}), json!({"appId": null}), json!({"appId": ""})] {
      assert_eq!(
        engine.failure(OWN, name, given).await,
        "appId is required",
        "{name}"
      );
    }
    let said = engine.failure(OWN, name, json!({"appId": 5})).await;
    assert_eq!(
      said,
      "Invalid parameters: appId: invalid type: integer `5`, expected a string"
    );
  }
  for given in [
    json!({"appId": "shop"}),
    json!({"appId": "shop", "code": ""}),
  ] {
    assert_eq!(
      engine.failure(OWN, "executeInApp", given).await,
      "No code provided"
    );
  }
  let missing = "App none is not currently running (kernel not found)";
  let given = json!({"appId": "none", "code": "1"});
  assert_eq!(
    engine.failure(OWN, "executeInApp", given.clone()).await,
    missing
  );
  assert_eq!(
    engine.failure(OWN, "getAppKernelLogs", given).await,
    missing
  );
  let given = json!({"appId": "wrong", "lines": "many"});
  let said = engine.failure(OWN, "getAppKernelLogs", given).await;
  assert!(said.starts_with("Invalid parameters: lines: "), "{said}");
}

// ------------------------------------------------------------ published apps

/// The artifacts of the collection `lab/apps`.
#[derive(Clone, Default)]
struct Collection(Arc<Mutex<Vec<Value>>>);

impl Collection {
  fn publish(&self, alias: &str, manifest: &Value) {
    let id = format!("lab/{alias}");
    let mut artifacts = self.0.lock().expect("a lock");
    artifacts.retain(|artifact| artifact["id"] != id);
    artifacts.push(json!({
      "id": id, "type": "deno-app", "parent_id": "lab/apps", "manifest": manifest,
      "versions": [{"version": "v0"}],
    }));
  }

  async fn serve(&self) -> Arc<Artifacts> {
    let all = async |State(Self(artifacts)): State<Self>| {
      let items = artifacts.lock().expect("a lock").clone();
      Json(json!({"total": items.len(), "items": items}))
    };
    let one = async |State(Self(artifacts)): State<Self>, Path(alias): Path<String>| {
      let artifacts = artifacts.lock().expect("a lock");
      let found = artifacts
        .iter()
        .find(|it| it["id"] == format!("lab/{alias}"));
      found.cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
    };
    let router = Router::new()
      .route("/lab/artifacts/apps/children", get(all))
      .route("/lab/artifacts/{alias}", get(one))
      .with_state(self.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let artifacts = Artifacts::new(HyphaConfig {
      server_url: format!("http://{address}").parse().expect("an address"),
      workspace: None,
      collection: "lab/apps".into(),
      token: None,
      certificates: None,
      powerful_tokens: false,
    });
    Arc::new(artifacts.expect("good settings"))
  }
}

#[tokio::test]
async fn published_apps_are_started_by_a_notice_and_known_by_their_artifacts() {
  let collection = Collection::default();
  let artifacts = collection.serve().await;
  let engine = Played::with("http://127.0.0.1:9/v1", Some(artifacts));
  let published =
    |script: &str| json!({"name": "Shop", "lang": "typescript", "startup_script": script});
  collection.publish("shop", &published("print one"));
  collection.publish("empty", &json!({"name": "nothing to run"}));
  let notify = async || {
    let mut told = engine.call(OWN, "notifyAppUpdates", json!({})).await;
    take_time(&mut told, "timestamp");
    assert_eq!(
      (&told["success"], &told["message"]),
      (&json!(true), &json!("Apps were updated"))
    );
    let mut results = told["results"].take();
    let failed = results["failedApps"].take();
    let failed = failed.as_array().expect("a list");
    assert_eq!((failed.len(), &failed[0]["id"]), (1, &json!("empty")));
    let why = failed[0]["error"].as_str().expect("a text");
    assert!(why.starts_with("startup_script: missing"), "{why}");
    results
  };
  let results = |skipped: &[&str], started: &[&str]| json!({"totalApps": 2, "skippedApps": skipped, "startedApps": started, "failedApps": null});
  assert_eq!(notify().await, results(&[], &["lab/shop"]));
  engine.becomes("shop", AppState::Running).await;
  assert_eq!(notify().await, results(&["lab/shop"], &[]));

  let listed = engine.call("ann", "listApps", json!({})).await;
  assert_eq!(
    (&listed["apps"][0]["id"], &listed["apps"][0]["kernelId"]),
    (&json!("lab/shop"), &json!("shop"))
  );
  let killed = engine
    .call(OWN, "killApp", json!({"appId": "lab/shop"}))
    .await;
  assert_eq!(
    (&killed["appId"], &killed["kernelId"]),
    (&json!("lab/shop"), &json!("shop"))
  );
  // What was stopped is started by a notice, and so is what has changed.
  assert_eq!(notify().await, results(&[], &["lab/shop"]));
  engine.becomes("shop", AppState::Running).await;
  collection.publish("shop", &published("print two"));
  assert_eq!(notify().await, results(&[], &["lab/shop"]));
}

#[tokio::test]
async fn a_server_without_published_apps_says_so() {
  let said = Played::new()
    .failure(OWN, "notifyAppUpdates", json!({}))
    .await;
  assert_eq!(
    said,
    "This server runs no published apps: start it with --load-apps"
  );
}
