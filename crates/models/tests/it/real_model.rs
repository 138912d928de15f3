//! A real model, where there is one: `MODEL_TEST_URL=http://127.0.0.1:11434/v1 cargo test -p models
//! real_model -- --ignored --nocapture`. `MODEL_TEST_NAME` names the model.

use std::io::Write;
use std::pin::pin;
use std::time::Instant;

use futures::StreamExt;
use models::CancellationToken;
use models::ChatClient;
use models::ChatDelta;
use models::ChatMessage;
use models::ChatRequest;
use models::Endpoint;
use models::Limits;
use models::Trust;

#[tokio::test]
#[ignore = "needs a model: set MODEL_TEST_URL"]
async fn a_real_model_answers() {
  let url = std::env::var("MODEL_TEST_URL").expect("MODEL_TEST_URL names an endpoint");
  let model = std::env::var("MODEL_TEST_NAME").unwrap_or_else(|_| "test".to_owned());
  let endpoint = Endpoint::new(&url, None, Trust::Operator).expect("an endpoint");
  let request = ChatRequest {
    max_tokens: Some(20),
    temperature: Some(0.0),
    include_usage: true,
    ..ChatRequest::new(
      model,
      vec![
        ChatMessage::system("Answer in one short sentence."),
        ChatMessage::user("What is the capital of France?"),
      ],
    )
  };
  let client = ChatClient::default();
  let mut told = std::io::stderr();
  let begun = Instant::now();
  let stream = client.stream(
    &endpoint,
    &request,
    &Limits::default(),
    CancellationToken::new(),
  );
  let mut stream = pin!(stream);
  let mut last = None;
  while let Some(delta) = stream.next().await {
    let delta = delta.expect("a delta");
    let _ = writeln!(told, "{:>6} ms {delta:?}", begun.elapsed().as_millis());
    last = Some(delta);
  }
  assert!(matches!(last, Some(ChatDelta::Finished(_))), "{last:?}");

  // Dropped in the middle: the next answer does not have to wait for the rest of this one.
  let long = ChatRequest {
    max_tokens: Some(2000),
    messages: vec![ChatMessage::user("Count from 1 to 1000.")],
    ..request.clone()
  };
  {
    let stream = client.stream(
      &endpoint,
      &long,
      &Limits::default(),
      CancellationToken::new(),
    );
    let mut stream = pin!(stream);
    for _ in 0..3 {
      let _ = writeln!(told, "{:?}", stream.next().await);
    }
  }
  let begun = Instant::now();
  let completion = client
    .complete(
      &endpoint,
      &request,
      &Limits::default(),
      CancellationToken::new(),
    )
    .await
    .expect("an answer");
  let _ = writeln!(told, "after {:?}: {completion:?}", begun.elapsed());
  assert!(!completion.text.is_empty());
}
