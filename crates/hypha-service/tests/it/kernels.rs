//! Kernels, whose programs are played.

use serde_json::json;

use crate::engine::OWN;
use crate::engine::Played;

#[tokio::test]
async fn events_say_which_cell_they_are_of() {
  let engine = Played::new();
  let made = json!({"id": "k", "mode": "worker-typescript"});
  engine.call(OWN, "createKernel", made).await;
  let given = json!({"kernelId": "k", "code": "print hi"});
  let yielded = engine.yields(OWN, "streamExecution", given).await;
  let info = engine
    .call(OWN, "getKernelInfo", json!({"kernelId": "k"}))
    .await;
  let event = json!({
    "type": "stream", "data": {"name": "stdout", "text": "hi\n"}, "executionId": info["history"][0]["id"],
  });
  let end = json!({"type": "complete", "status": "success"});
  assert_eq!(yielded, [event.clone(), end]);
  let given = json!({"kernelId": "k", "executionId": info["history"][0]["id"]});
  let kept = engine.call(OWN, "getExecutionResult", given).await;
  assert_eq!(kept, json!([event]));
}
