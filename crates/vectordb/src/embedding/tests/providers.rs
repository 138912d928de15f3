use std::path::Path;
use std::time::Duration;

use outbound::Patience;
use serde_json::json;
use tempfile::TempDir;

use crate::embedding::batch::BatchLimits;
use crate::embedding::batch::Label;
use crate::embedding::batch::Text;
use crate::embedding::config::ProviderConfig;
use crate::embedding::http::HttpLimits;
use crate::embedding::provider::Provider;
use crate::embedding::registry::Registry;
use crate::embedding::registry::RegistryOptions;
use crate::embedding::tests::server::Act;
use crate::embedding::tests::server::Server;
use crate::embedding::tests::server::inputs;
use crate::embedding::tests::server::ollama;
use crate::embedding::tests::server::openai;
use crate::embedding::tests::server::vector_of;
use crate::error::VectorError;

pub(super) fn options() -> RegistryOptions {
  RegistryOptions {
    http: HttpLimits {
      patience: Patience {
        connect: Duration::from_secs(2),
        request: Duration::from_secs(5),
      },
      waits: vec![Duration::from_millis(1); 2],
      longest_wait: Duration::from_secs(2),
      answer: 100_000,
    },
    batches: BatchLimits {
      texts: 4,
      ..BatchLimits::default()
    },
    ..RegistryOptions::default()
  }
}

pub(super) fn registry_with(folder: &Path, options: RegistryOptions) -> Registry {
  let file = folder.join("providers.json");
  Registry::open(file, Vec::new(), options).expect("opens")
}

pub(super) fn config(kind: &str, url: &str) -> ProviderConfig {
  let address = if kind == "ollama" { "host" } else { "baseURL" };
  let config = json!({address: url, "model": "m", "dimension": 3, "apiKey": "sk-hunter2"});
  ProviderConfig::parse(kind, &config).expect("good")
}

struct Setup {
  server: Server,
  registry: Registry,
  _folder: TempDir,
}

impl Setup {
  async fn new(
    kind: &str,
    options: RegistryOptions,
    act: impl Fn(usize, &serde_json::Value) -> Act + Send + Sync + 'static,
  ) -> Self {
    let server = Server::start(act).await;
    let folder = tempfile::tempdir().expect("a folder");
    let registry = registry_with(folder.path(), options);
    registry.add("p", config(kind, &server.url)).expect("adds");
    Self {
      server,
      registry,
      _folder: folder,
    }
  }

  async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, VectorError> {
    embed(&self.registry.get("p").expect("is there"), texts).await
  }

  async fn refusal(&self) -> String {
    match self.embed(&["alpha"]).await.expect_err("it misbehaves") {
      VectorError::Provider(failure) => failure.to_string(),
      other => panic!("{other:?}"),
    }
  }
}

async fn embed(provider: &Provider, texts: &[&str]) -> Result<Vec<Vec<f32>>, VectorError> {
  let texts: Vec<Text> = texts
    .iter()
    .map(|text| Text {
      label: Label::Document(text),
      text,
    })
    .collect();
  provider.embed(&texts).await
}

#[tokio::test]
async fn texts_go_out_in_batches_and_come_back_in_order() {
  for kind in ["ollama", "openai"] {
    let answer = if kind == "ollama" { ollama } else { openai };
    let setup = Setup::new(kind, options(), move |_, body| answer(body)).await;
    let texts = ["a", "bb", "c", "dd", "e", "ff", "g", "a", "hh", "i"];
    let vectors = setup.embed(&texts).await.expect("embeds");
    for (text, vector) in texts.iter().zip(&vectors) {
      assert_eq!(vector[..], vector_of(text), "{kind} {text}");
    }
    let requests = setup.server.requests();
    let mut sizes: Vec<_> = requests.iter().map(|r| inputs(&r.body).len()).collect();
    sizes.sort_unstable();
    // Nine texts that differ, four at once.
    assert_eq!(sizes, [1, 4, 4], "{kind}");
    assert_eq!(requests[0].body["model"], "m");
  }
}

#[tokio::test]
async fn each_kind_is_asked_at_its_own_address() {
  let setup = Setup::new("ollama", options(), |_, body| ollama(body)).await;
  setup.embed(&["a"]).await.expect("embeds");
  let request = setup.server.requests().remove(0);
  assert!(
    request.head.starts_with("post /api/embed http/1.1"),
    "{}",
    request.head
  );
  assert!(!request.head.contains("authorization"));
  let setup = Setup::new("openai", options(), |_, body| openai(body)).await;
  setup.embed(&["a"]).await.expect("embeds");
  let request = setup.server.requests().remove(0);
  assert!(
    request.head.starts_with("post /embeddings http/1.1"),
    "{}",
    request.head
  );
  assert!(request.head.contains("authorization: bearer sk-hunter2"));
}

#[tokio::test]
async fn what_was_embedded_is_not_asked_for_again() {
  let setup = Setup::new("ollama", options(), |_, body| ollama(body)).await;
  setup.embed(&["a", "b"]).await.expect("embeds");
  setup.embed(&["b", "a", "c"]).await.expect("embeds");
  let asked: Vec<_> = setup
    .server
    .requests()
    .iter()
    .map(|r| inputs(&r.body))
    .collect();
  assert_eq!(asked, [vec!["a", "b"], vec!["c"]]);
  let usage = setup.registry.get("p").expect("is there").usage();
  assert_eq!(
    (usage.requests, usage.texts, usage.cached, usage.failures),
    (2, 3, 2, 0)
  );
  assert!(usage.last_used.is_some() && setup.registry.cache_bytes() > 0);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
  let setup = Setup::new("ollama", options(), |number, body| match number {
    0 => Act::Wait("429 Too Many Requests", 0),
    1 => Act::HangUp,
    _ => ollama(body),
  })
  .await;
  let vectors = setup.embed(&["alpha"]).await.expect("the third time");
  assert_eq!(vectors[0][..], vector_of("alpha"));
  assert_eq!(setup.server.requests().len(), 3);
}

#[tokio::test]
async fn a_provider_that_stays_busy_is_given_up() {
  let setup = Setup::new("ollama", options(), |_, _| {
    Act::Wait("503 Service Unavailable", 0)
  })
  .await;
  let message = setup.refusal().await;
  assert!(
    message.contains("Failed to generate embedding with Ollama: "),
    "{message}"
  );
  assert!(
    message.contains("503") && message.contains("provider p"),
    "{message}"
  );
  assert!(message.contains("document alpha"), "{message}");
  assert_eq!(setup.server.requests().len(), 3);
  assert_eq!(
    setup.registry.get("p").expect("is there").usage().failures,
    1
  );
}

#[tokio::test]
async fn a_provider_that_asks_to_wait_for_long_is_not_waited_for() {
  let setup = Setup::new("ollama", options(), |_, _| {
    Act::Wait("429 Too Many Requests", 3600)
  })
  .await;
  let message = setup.refusal().await;
  assert!(message.contains("asks to wait 3600 s"), "{message}");
  assert_eq!(setup.server.requests().len(), 1);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again_and_the_key_is_not_repeated() {
  let setup = Setup::new("openai", options(), |_, _| {
    let body = json!({"error": {"message": "Incorrect API key provided: sk-hunter2"}});
    Act::Answer("401 Unauthorized", body.to_string())
  })
  .await;
  let message = setup.refusal().await;
  assert!(
    message.contains("401") && message.contains("Incorrect API key"),
    "{message}"
  );
  assert!(!message.contains("hunter2"), "{message}");
  assert_eq!(setup.server.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_provider_is_given_up_at_the_time_limit() {
  let mut limits = options();
  limits.http.patience.request = Duration::from_millis(50);
  let setup = Setup::new("ollama", limits, |_, _| Act::Silence).await;
  let message = setup.refusal().await;
  assert!(message.contains("did not answer within 50ms"), "{message}");
  let mut limits = options();
  limits.batches.total = Duration::from_millis(50);
  let setup = Setup::new("ollama", limits, |_, _| Act::Silence).await;
  let message = setup.refusal().await;
  assert!(message.contains("took longer than 50ms"), "{message}");
}

#[tokio::test]
async fn a_provider_that_is_down_is_named_with_its_address() {
  let folder = tempfile::tempdir().expect("a folder");
  let registry = registry_with(folder.path(), options());
  // Bound and given back: nobody listens there.
  let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
  let url = format!(
    "http://me:hunter2@{}",
    listener.local_addr().expect("bound")
  );
  drop(listener);
  let provider = registry.add("down", config("ollama", &url)).expect("adds");
  let message = embed(&provider, &["a", "b"])
    .await
    .expect_err("it is down")
    .to_string();
  assert!(
    message.contains("no connection to http://127.0.0.1:"),
    "{message}"
  );
  assert!(
    message.contains("provider down, document a and 1 more"),
    "{message}"
  );
  assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn answers_that_are_no_embeddings_are_refused() {
  let long = "x".repeat(200_000);
  let cases = [
    ("<html>hello</html>", "web page"),
    ("", "the answer is empty"),
    ("{\"embeddings\": [[1, 2", "the answer is cut short"),
    ("{\"error\": \"no model\"}", "missing field"),
    ("{\"embeddings\": [[1, null, 3]]}", "null"),
    ("{\"embeddings\": [[1, NaN, 3]]}", "not JSON"),
    (
      "{\"embeddings\": []}",
      "0 embeddings for 1 texts (document alpha)",
    ),
    (
      "{\"embeddings\": [[1, 2, 3], [1, 2, 3]]}",
      "2 embeddings for 1 texts",
    ),
    (
      "{\"embeddings\": [[1, 2]]}",
      "dimension 2 for document alpha",
    ),
    ("{\"embeddings\": [[1, 1e39, 3]]}", "number out of range"),
    (
      "{\"embeddings\": [[0, 0, 0]]}",
      "nothing but zeros for document alpha",
    ),
    (long.as_str(), "exceeds 100000 bytes"),
  ];
  for (body, expected) in cases {
    let body = body.to_owned();
    let setup = Setup::new("ollama", options(), move |_, _| {
      Act::Answer("200 OK", body.clone())
    })
    .await;
    let message = setup.refusal().await;
    assert!(message.contains(expected), "{expected}: {message}");
    assert!(message.contains("provider p"), "{message}");
    assert_eq!(setup.registry.cache_bytes(), 0);
  }
}

#[tokio::test]
async fn a_broken_answer_and_a_redirection_bring_no_embeddings() {
  let setup = Setup::new("ollama", options(), |_, _| Act::CutShort).await;
  assert!(setup.refusal().await.contains("no connection"));
  assert_eq!(setup.server.requests().len(), 3);
  let setup = Setup::new("ollama", options(), |_, _| {
    Act::Answer("302 Found", String::new())
  })
  .await;
  assert!(setup.refusal().await.contains("302"));
}
