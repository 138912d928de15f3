use std::fs;
use std::path::Path;
use std::sync::Arc;

use access::Caller;
use access::Classified;
use access::ErrorKind;
use access::Right;
use access::Scope;
use kernel_protocol::KernelEvent;
use kernel_protocol::Outcome;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::error::AppError;
use crate::id::AppId;
use crate::instance::InstanceEvent;
use crate::log::Level;
use crate::log::LogItem;
use crate::manager::AppManager;
use crate::spec::AppSpec;
use crate::spec::Entry;
use crate::spec::Source;
use crate::status::AppState;
use crate::tests::GRACE;
use crate::tests::becomes;
use crate::tests::instance;
use crate::tests::instance::Processes;
use crate::tests::seconds;
use crate::tests::spec_of;
use crate::tests::texts;
use crate::tests::written;

fn manager(max_count: usize) -> (Arc<AppManager>, Processes, TempDir) {
  let data = tempfile::tempdir().expect("a folder");
  let (manager, processes) = manager_in(data.path(), max_count);
  (manager, processes, data)
}

fn manager_in(data: &Path, max_count: usize) -> (Arc<AppManager>, Processes) {
  let (launcher, processes) = instance::processes();
  (AppManager::new(launcher, data, max_count, None), processes)
}

fn operator() -> Caller {
  Caller::operator()
}

fn script(id: &str) -> Value {
  json!({"id": id, "startup_script": "1"})
}

fn id(id: &str) -> AppId {
  AppId::new(id).expect("an id")
}

#[tokio::test(start_paused = true)]
async fn apps_of_a_folder_start_together_and_those_that_never_start_harm_none() {
  let (manager, mut processes, data) = manager(100);
  let apps = data.path().join("mine");
  fs::create_dir(&apps).expect("makes");
  for name in ["a.ts", "b.py", "c.js"] {
    fs::write(apps.join(name), "1").expect("writes");
  }
  fs::write(apps.join("broken.ts"), "").expect("writes");
  manager.load_folder(apps).await;
  let _hangs = processes.next().await;
  let mut crashes = processes.next().await;
  let mut runs = processes.next().await;
  crashes.refuses(AppError::Forbidden("no".into()));
  runs.starts();
  assert_eq!(
    manager
      .find(&runs.app)
      .expect("is there")
      .settled()
      .await
      .state,
    AppState::Running
  );
  let listed: Vec<String> = manager.all().iter().map(|app| app.id.to_string()).collect();
  assert_eq!(listed, ["a", "b", "c"]);
  let refused = manager.all_refused();
  assert_eq!(refused.len(), 1);
  assert_eq!(refused[0].id(), Some(id("broken")));
  assert!(
    refused[0].reason.contains("is empty"),
    "{}",
    refused[0].reason
  );
}

#[tokio::test(start_paused = true)]
async fn ids_ports_and_the_number_of_apps_are_kept() {
  let (manager, _processes, _data) = manager(2);
  let with_port = |name: &str| spec_of(&json!({"id": name, "startup_script": "1", "port": 9000}));
  manager.add(with_port("a")).expect("adds");
  let error = manager.add(spec_of(&script("a"))).err().expect("exists");
  assert_eq!(error, AppError::Exists("a".into()));
  let error = manager.add(with_port("b")).err().expect("port");
  assert!(matches!(&error, AppError::Conflict(text) if text.contains("9000 is the port of app a")));
  manager.add(spec_of(&script("b"))).expect("adds");
  let error = manager
    .replace(
      &manager.find(&id("b")).expect("is there"),
      Some(with_port("b")),
    )
    .await
    .expect_err("port");
  assert!(error.to_string().contains("app a"), "{error}");
  let error = manager.add(spec_of(&script("c"))).err().expect("too many");
  assert!(matches!(&error, AppError::LimitReached(text) if text.contains("APPS_MAX_COUNT")));
  manager.delete(&operator(), "a").await.expect("deletes");
  assert!(manager.find(&id("a")).is_err());
  manager.add(with_port("c")).expect("adds");
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_is_told_with_the_app_that_holds_it() {
  let (manager, mut processes, _data) = manager(9);
  let holder = manager.add(spec_of(&script("holder"))).expect("adds");
  let mut process = processes.next().await;
  process.starts();
  process.listens_on(9000);
  holder.upstream(seconds(1)).await.expect("listens");
  let late = manager.add(spec_of(&script("late"))).expect("adds");
  let mut process = processes.next().await;
  process.starts();
  process.send(InstanceEvent::PortTaken { port: 9000 });
  process.send(InstanceEvent::PortTaken { port: 9001 });
  process.finishes(0);
  becomes(&late, AppState::Exited).await;
  let told = texts(&late).join("\n");
  assert!(
    told.contains("port 9000 is taken: app holder holds it"),
    "{told}"
  );
  assert!(
    told.contains("port 9001 is taken: another program holds it"),
    "{told}"
  );
}

#[tokio::test(start_paused = true)]
async fn posted_apps_outlive_the_server_until_they_are_deleted() {
  let (manager, mut processes, data) = manager(9);
  manager
    .create(&operator(), written(&script("a")))
    .await
    .expect("creates");
  manager
    .create(&operator(), written(&script("b")))
    .await
    .expect("creates");
  let error = manager
    .create(&operator(), written(&script("a")))
    .await
    .err()
    .expect("exists");
  assert_eq!(error, AppError::Exists("a".into()));
  let error = manager
    .create(
      &operator(),
      written(&json!({"id": "f", "entry": "main.ts"})),
    )
    .await;
  assert!(
    error
      .err()
      .expect("no folder")
      .to_string()
      .starts_with("entry: ")
  );
  let _first = processes.next().await;
  manager.delete(&operator(), "b").await.expect("deletes");
  manager.shut_down().await;
  assert!(
    manager
      .create(&operator(), written(&script("c")))
      .await
      .is_err(),
    "the server is shutting down"
  );

  let (manager, mut processes) = manager_in(data.path(), 9);
  manager.load_posted().await;
  assert_eq!(processes.next().await.app, id("a"));
  assert_eq!(manager.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_posted_app_that_cannot_be_read_again_is_listed_and_can_be_deleted() {
  let (manager, mut processes, data) = manager(9);
  let kept = data.path().join("apps/posted/a");
  fs::create_dir_all(&kept).expect("makes");
  fs::write(kept.join("manifest.json"), "{").expect("writes");
  manager.load_posted().await;
  assert_eq!(manager.all_refused()[0].id(), Some(id("a")));
  manager.delete(&operator(), "a").await.expect("deletes");
  assert!(manager.all_refused().is_empty() && !kept.exists());
  assert_eq!(
    manager.delete(&operator(), "a").await,
    Err(AppError::NotFound("a".into()))
  );
  processes.none_within(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_cannot_be_kept_on_disk_is_not_made() {
  let (manager, mut processes, data) = manager(9);
  fs::write(data.path().join("apps"), "in the way").expect("writes");
  let error = manager
    .create(&operator(), written(&script("a")))
    .await
    .err()
    .expect("cannot be written");
  assert!(matches!(&error, AppError::Host(text) if text.contains("app a cannot be kept")));
  assert!(manager.all().is_empty());
  processes.none_within(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_posted_app_is_updated_in_memory_and_on_disk() {
  let (manager, mut processes, data) = manager(9);
  let app = manager
    .create(&operator(), written(&script("a")))
    .await
    .expect("creates");
  processes.next().await.starts();
  becomes(&app, AppState::Running).await;
  let updating = tokio::spawn({
    let manager = manager.clone();
    let new = json!({"startup_script": "2", "env": {"A": "b"}});
    async move { manager.update(&operator(), "a", written(&new)).await }
  });
  processes.next().await.starts();
  updating.await.expect("joins").expect("updates");
  assert_eq!(app.spec().manifest.env["A"], "b");
  let (manager, mut processes) = manager_in(data.path(), 9);
  manager.load_posted().await;
  assert_eq!(processes.next().await.spec.entry, Entry::Script("2".into()));
}

#[tokio::test(start_paused = true)]
async fn reloading_an_app_of_a_folder_reads_it_again() {
  let (manager, mut processes, data) = manager(9);
  let apps = data.path().join("mine");
  fs::create_dir_all(apps.join("a")).expect("makes");
  let write = |manifest: Value| fs::write(apps.join("a/app.json"), manifest.to_string());
  write(json!({"startup_script": "1"})).expect("writes");
  manager.load_folder(apps.clone()).await;
  processes.next().await.starts();
  manager.find(&id("a")).expect("is there").settled().await;
  write(json!({"startup_script": "2", "env": {"A": "b"}})).expect("writes");
  let reloading = tokio::spawn({
    let manager = manager.clone();
    async move { manager.reload(&operator(), "a").await }
  });
  let mut new = processes.next().await;
  assert_eq!(new.spec.entry, Entry::Script("2".into()));
  assert_eq!(new.spec.manifest.env["A"], "b");
  new.starts();
  reloading.await.expect("joins").expect("reloads");
  for (broken, told) in [
    (json!({"id": "b", "startup_script": "1"}), "cannot become"),
    (json!({}), "startup_script"),
  ] {
    write(broken).expect("writes");
    let error = manager
      .reload(&operator(), "a")
      .await
      .err()
      .expect("is wrong");
    assert!(error.to_string().contains(told), "{error}");
  }
  fs::remove_dir_all(apps.join("a")).expect("removes");
  let error = manager
    .reload(&operator(), "a")
    .await
    .err()
    .expect("is gone");
  assert!(error.to_string().contains("no app at"), "{error}");
  assert_eq!(
    manager.find(&id("a")).expect("is there").status().state,
    AppState::Running
  );
}

#[tokio::test(start_paused = true)]
async fn all_apps_end_together_when_the_server_stops() {
  let (manager, mut processes, _data) = manager(50);
  for i in 0..50 {
    manager
      .add(spec_of(&script(&format!("app-{i}"))))
      .expect("adds");
    let mut process = processes.next().await;
    process.is_stubborn();
    process.starts();
    manager
      .find(&process.app)
      .expect("is there")
      .settled()
      .await;
  }
  let asked = Instant::now();
  manager.shut_down().await;
  assert!(
    asked.elapsed() < GRACE + seconds(1),
    "{:?}",
    asked.elapsed()
  );
  assert!(manager.all().is_empty());
  let error = manager
    .add(spec_of(&script("late")))
    .err()
    .expect("is too late");
  assert_eq!(error.to_string(), "the server is shutting down");
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_a_namespace_learns_nothing_of_apps_and_changes_none() {
  let (manager, mut processes, _data) = manager(9);
  manager
    .create(&operator(), written(&script("a")))
    .await
    .expect("creates");
  processes.next().await.starts();
  let lab = Caller::of(Scope::Namespace("lab".into()));
  for id in ["a", "nobody", "lab/nobody"] {
    for refused in [
      manager.list(&lab).err(),
      manager.refused(&lab).err(),
      manager.get(&lab, id).err(),
      manager.create(&lab, written(&script("b"))).await.err(),
      manager.update(&lab, id, written(&script("a"))).await.err(),
      manager.start(&lab, id).await.err(),
      manager.stop(&lab, id).await.err(),
      manager.reload(&lab, id).await.err(),
      manager.delete(&lab, id).await.err(),
      manager.execute(&lab, id, "1".into()).err(),
      manager.execute_in_background(&lab, id, "1".into()).err(),
      manager.update_published(&lab).await.err(),
    ] {
      let told = "This is the operator's to do: the token is for the namespace `lab` only";
      assert_eq!(refused, Some(AppError::Forbidden(told.into())), "{id}");
    }
  }
  processes.none_within(seconds(60)).await;
  let app = manager.find(&id("a")).expect("is there");
  assert_eq!(
    (app.status().state, app.status().instance),
    (AppState::Running, 1)
  );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_may_only_look_sees_every_app_and_changes_none() {
  let (manager, mut processes, _data) = manager(9);
  manager
    .create(&operator(), written(&script("a")))
    .await
    .expect("creates");
  processes.next().await.starts();
  let looker = operator().limited_to(Right::Read);
  assert_eq!(manager.list(&looker).expect("looks").len(), 1);
  assert_eq!(manager.get(&looker, "a").expect("looks").id, id("a"));
  assert_eq!(manager.refused(&looker).expect("looks").len(), 0);
  for refused in [
    manager.create(&looker, written(&script("b"))).await.err(),
    manager
      .update(&looker, "a", written(&script("a")))
      .await
      .err(),
    manager.start(&looker, "a").await.err(),
    manager.stop(&looker, "a").await.err(),
    manager.reload(&looker, "a").await.err(),
    manager.delete(&looker, "a").await.err(),
    manager.execute(&looker, "a", "1".into()).err(),
    manager
      .execute_in_background(&looker, "a", "1".into())
      .err(),
    manager.update_published(&looker).await.err(),
  ] {
    let told = "This token may not do that";
    assert_eq!(refused, Some(AppError::Forbidden(told.into())));
  }
  processes.none_within(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_is_known_by_its_own_id_and_by_that_of_its_artifact() {
  let (manager, _processes, _data) = manager(9);
  let published = AppSpec {
    source: Source::Artifact {
      id: "lab/shop".into(),
      version: "v1".into(),
    },
    ..spec_of(&script("shop"))
  };
  manager.add(published).expect("adds");
  manager.add(spec_of(&script("other"))).expect("adds");
  for named in ["shop", "lab/shop"] {
    assert_eq!(
      manager.get(&operator(), named).expect("is there").id,
      id("shop")
    );
  }
  for named in ["shop2", "lab/other", "a b", "../shop"] {
    let error = manager.get(&operator(), named).err().expect("is none");
    assert_eq!(error.to_string(), format!("App with ID {named} not found"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
  }
}

#[tokio::test(start_paused = true)]
async fn published_apps_are_looked_for_only_where_they_are_run() {
  let (manager, _processes, _data) = manager(9);
  let error = manager
    .update_published(&operator())
    .await
    .expect_err("are not run");
  assert_eq!(error.kind(), ErrorKind::Conflict);
  assert!(error.to_string().contains("--load-apps"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_code_in_the_background_comes_to_is_in_the_log() {
  let (manager, mut processes, _data) = manager(9);
  let made = manager.create(&operator(), written(&script("a"))).await;
  let app = made.expect("is made");
  let run = || manager.execute_in_background(&operator(), "a", "1".into());
  assert!(matches!(run(), Err(AppError::Conflict(_))));
  let mut process = processes.next().await;
  process.starts();
  becomes(&app, AppState::Running).await;
  let execution = run().expect("runs");
  let shown = |kind: &str, data: &Value| {
    let data = json!({ "data": data }).to_string();
    execution.append(KernelEvent::from_parts(kind, &data).expect("an event"));
  };
  // Output comes from the process by itself.
  execution.append(KernelEvent::stderr("printed\n"));
  shown(
    "execute_result",
    &json!({"text/plain": "one\ntwo", "text/html": "<b>1</b>"}),
  );
  shown(
    "display_data",
    &json!({"image/png": "aGk=", "image/svg+xml": "<svg/>"}),
  );
  shown("display_data", &json!({"text/plain": "é".repeat(10_000)}));
  execution.append(KernelEvent::python_error("ValueError", "boom"));
  execution.finish(Outcome::Error);
  let id = execution.id.to_string();
  let ended = format!("{id} has ended");
  let mut follower = app.log.follow(0);
  let logged = async {
    while let Some(LogItem::Entry(entry)) = follower.next().await {
      if entry.text == ended {
        break;
      }
    }
  };
  tokio::time::timeout(seconds(60), logged)
    .await
    .expect("it is noted");
  assert_eq!(
    texts(&app),
    [
      "started".to_owned(),
      format!("{id}: one"),
      "two".to_owned(),
      format!("{id}: [image/png, image/svg+xml]"),
      format!("{id}: {}", "é".repeat(4096)),
      format!("{id}: ValueError: boom"),
      ended,
    ]
  );
  let entries = app.log.last(9);
  let errors = entries.iter().filter(|entry| entry.level == Level::Error);
  let errors: Vec<&str> = errors.map(|entry| entry.text.as_str()).collect();
  assert_eq!(errors, [format!("{id}: ValueError: boom")]);
}
