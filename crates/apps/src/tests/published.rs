//! Published apps, from a collection that a test plays.

use std::sync::Arc;
use std::sync::Mutex;

use access::Caller;
use access::Classified;
use access::ErrorKind;
use hypha_client::Artifacts;
use hypha_client::HyphaConfig;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::id::AppId;
use crate::manager::AppManager;
use crate::spec::Entry;
use crate::spec::Source;
use crate::tests::instance;
use crate::tests::instance::Process;
use crate::tests::instance::Processes;
use crate::tests::seconds;
use crate::tests::written;

/// The artifacts of the collection `lab/apps`.
#[derive(Clone, Default)]
struct Collection(Arc<Mutex<Vec<Value>>>);

impl Collection {
  /// Publishes an app, in place of an earlier one of its name.
  fn publish(&self, alias: &str, script: &str) {
    self.remove(alias);
    self.0.lock().expect("not poisoned").push(json!({
      "id": format!("lab/{alias}"), "type": "deno-app", "parent_id": "lab/apps",
      "manifest": {"startup_script": script}, "versions": [{"version": "v0"}],
    }));
  }

  fn remove(&self, alias: &str) {
    let id = format!("lab/{alias}");
    let mut artifacts = self.0.lock().expect("not poisoned");
    artifacts.retain(|artifact| artifact["id"] != id);
  }

  fn answer(&self, request: &str) -> Option<Value> {
    let artifacts = self.0.lock().expect("not poisoned").clone();
    let path = request.split([' ', '?']).nth(1)?;
    let alias = path.strip_prefix("/lab/artifacts/")?;
    match alias == "apps/children" {
      true => Some(json!({"total": artifacts.len(), "items": artifacts})),
      false => {
        let id = format!("lab/{alias}");
        artifacts.into_iter().find(|artifact| artifact["id"] == id)
      }
    }
  }

  async fn serve(&self, mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
      if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
        return;
      }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let (status, body) = match self.answer(&request) {
      Some(body) => ("200 OK", body.to_string()),
      None => ("404 Not Found", json!({"detail": "none"}).to_string()),
    };
    let length = body.len();
    let answer =
      format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
  }

  /// A manager that runs the apps of this collection.
  async fn manager(&self) -> (Arc<AppManager>, Processes, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("is bound");
    let collection = self.clone();
    tokio::spawn(async move {
      while let Ok((stream, _)) = listener.accept().await {
        let collection = collection.clone();
        tokio::spawn(async move { collection.serve(stream).await });
      }
    });
    manager_for(&address.to_string())
  }
}

fn manager_for(address: &str) -> (Arc<AppManager>, Processes, TempDir) {
  let artifacts = Artifacts::new(HyphaConfig {
    server_url: format!("http://{address}").parse().expect("an address"),
    workspace: None,
    collection: "lab/apps".into(),
    token: None,
    certificates: None,
    powerful_tokens: false,
  });
  let artifacts = Arc::new(artifacts.expect("good settings"));
  let data = tempfile::tempdir().expect("a folder");
  let (launcher, processes) = instance::processes();
  let manager = AppManager::new(launcher, data.path(), 9, Some(artifacts));
  (manager, processes, data)
}

fn operator() -> Caller {
  Caller::operator()
}

fn script_of(process: &Process) -> &str {
  match &process.spec.entry {
    Entry::Script(script) => script,
    Entry::File(path) => panic!("a script, not {}", path.display()),
  }
}

#[tokio::test]
async fn apps_come_change_and_go_with_the_collection() {
  let collection = Collection::default();
  collection.publish("shop", "1");
  let (manager, mut processes, _data) = collection.manager().await;
  let changes = manager.update_published(&operator()).await.expect("lists");
  let names = |ids: &[AppId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
  assert_eq!(
    (changes.published, names(&changes.added)),
    (1, vec!["shop".to_owned()])
  );
  let mut first = processes.next().await;
  first.starts();
  first.listens();
  let app = manager.get(&operator(), "shop").expect("is there");
  app.upstream(seconds(60)).await.expect("listens");
  let unchanged = manager.update_published(&operator()).await.expect("lists");
  assert_eq!((unchanged.reloaded, unchanged.added), (vec![], vec![]));
  collection.publish("shop", "2");
  let changes = manager.update_published(&operator()).await.expect("lists");
  assert_eq!(names(&changes.reloaded), ["shop"]);
  let mut second = processes.next().await;
  assert_eq!(script_of(&second), "2");
  second.starts();
  second.listens();
  first.told_to_stop(seconds(5)).await;
  collection.remove("shop");
  let changes = manager.update_published(&operator()).await.expect("lists");
  assert_eq!(names(&changes.removed), ["shop"]);
  assert!(manager.list(&operator()).expect("looks").is_empty());
}

#[tokio::test]
async fn a_reload_reads_what_is_published_now() {
  let collection = Collection::default();
  collection.publish("shop", "1");
  let (manager, mut processes, _data) = collection.manager().await;
  manager.update_published(&operator()).await.expect("lists");
  processes.next().await.starts();
  collection.publish("shop", "2");
  let reloading = tokio::spawn({
    let manager = manager.clone();
    async move { manager.reload(&operator(), "lab/shop").await }
  });
  let mut new = processes.next().await;
  assert_eq!(script_of(&new), "2");
  new.starts();
  let app = reloading.await.expect("joins").expect("reloads");
  assert_eq!(app.status().instance, 2);
  collection.remove("shop");
  let error = manager
    .reload(&operator(), "shop")
    .await
    .err()
    .expect("is gone");
  assert!(
    error.to_string().starts_with("app shop was not reloaded: "),
    "{error}"
  );
  assert_eq!(app.status().instance, 2, "it goes on as before");
}

#[tokio::test]
async fn a_published_app_does_not_take_the_id_of_another() {
  let collection = Collection::default();
  collection.publish("mine", "1");
  let (manager, _processes, _data) = collection.manager().await;
  let posted = written(&json!({"id": "mine", "startup_script": "posted"}));
  manager.create(&operator(), posted).await.expect("creates");
  let changes = manager.update_published(&operator()).await.expect("lists");
  assert_eq!(changes.refused.len(), 1);
  assert_eq!(changes.refused[0].id_or_path, "lab/mine");
  let app = manager.get(&operator(), "mine").expect("is there");
  assert_eq!(app.spec().source, Source::Posted);
}

#[tokio::test]
async fn a_collection_that_cannot_be_listed_is_the_other_servers_failure() {
  let (manager, _processes, _data) = manager_for("127.0.0.1:9");
  let error = manager
    .update_published(&operator())
    .await
    .expect_err("is not there");
  assert_eq!(error.kind(), ErrorKind::Upstream);
  assert!(error.to_string().contains("http://127.0.0.1:9"), "{error}");
}
