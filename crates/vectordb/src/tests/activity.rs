use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_unused_index_is_off_loaded_and_use_puts_that_off() {
  let setup = Setup::new();
  let mut events = setup.db.watch(&operator()).expect("watches");
  let timeout = |millis| Some(InactivityTimeout::from_millis(millis));
  let request = CreateIndex {
    inactivity_timeout: timeout(1000),
    ..named("a")
  };
  let id = setup
    .db
    .create(&operator(), request)
    .await
    .expect("is made")
    .id;
  for _ in 0..5 {
    tokio::time::advance(Duration::from_millis(900)).await;
    setup.db.ping(&operator(), id.as_str()).expect("is open");
  }
  let activity = setup
    .db
    .info(&operator(), id.as_str())
    .await
    .expect("is open")
    .activity_monitoring;
  assert!(activity.enabled && activity.time_until_offload.is_some_and(|rest| rest > 900));
  let mut last = events.next().await.expect("created").kind;
  while last.name() != "index_offloaded" {
    last = events.next().await.expect("an event").kind;
  }
  setup
    .db
    .info(&operator(), id.as_str())
    .await
    .expect_err("it is closed");
  assert!(message::<()>(setup.db.ping(&operator(), id.as_str())).contains("index not found"));
  assert_eq!(
    setup
      .db
      .offloaded(&operator(), Some("w"))
      .await
      .expect("lists")
      .len(),
    1
  );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_0_is_for_ever_also_after_use_and_another_start() {
  let setup = Setup::with(|options| options.default_timeout = InactivityTimeout::from_millis(1000));
  let id = setup.create("a").await;
  setup
    .db
    .set_timeout(&operator(), id.as_str(), InactivityTimeout::from_millis(0))
    .await
    .expect("is set");
  setup.add(&id, vec![text("d", "alpha")]).await;
  let off = CreateIndex {
    enable_activity_monitoring: Some(false),
    ..named("b")
  };
  setup.db.create(&operator(), off).await.expect("is made");
  tokio::time::sleep(Duration::from_secs(1_000_000)).await;
  let list = setup.db.list(&operator(), None).await.expect("lists");
  assert_eq!(list.len(), 2);
  assert!(
    list
      .iter()
      .all(|one| one.activity_monitoring.time_until_offload.is_none())
  );
  assert!(list[0].activity_monitoring.enabled && !list[1].activity_monitoring.enabled);
  let stats = setup
    .db
    .stats(&operator())
    .await
    .expect("counts")
    .activity_monitoring;
  assert_eq!(
    (stats.active_timers, stats.default_timeout.as_millis()),
    (0, 1000)
  );
  setup
    .db
    .offload(&operator(), id.as_str())
    .await
    .expect("closes");
  let again = setup.again();
  again
    .query(&operator(), id.as_str(), QueryRequest::text("alpha"))
    .await
    .expect("opens");
  let info = again
    .info(&operator(), id.as_str())
    .await
    .expect("is open")
    .activity_monitoring;
  assert_eq!(
    (info.inactivity_timeout.as_millis(), info.time_until_offload),
    (0, None)
  );
  let unknown = setup
    .db
    .set_timeout(&operator(), "no", InactivityTimeout::from_millis(1))
    .await;
  assert_eq!(message(unknown), "Vector index not found");
}

#[tokio::test]
async fn statistics_count_open_indices() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  setup
    .db
    .create(&operator(), CreateIndex::default())
    .await
    .expect("is made");
  setup
    .add(&id, vec![text("d", "alpha"), text("e", "beta")])
    .await;
  let stats =
    serde_json::to_value(setup.db.stats(&operator()).await.expect("counts")).expect("JSON");
  assert_eq!(stats["totalInstances"], 2);
  assert_eq!(stats["totalDocuments"], 2);
  assert_eq!(stats["embeddingModel"], "mock-model");
  assert_eq!(stats["maxInstances"], 50);
  assert_eq!(stats["instancesByNamespace"], json!({"default": 1, "w": 1}));
  assert_eq!(stats["activityMonitoring"]["activeTimers"], 2);
  let one = setup
    .db
    .index_stats(&operator(), id.as_str())
    .await
    .expect("is open");
  assert!(one.count == 2 && one.bytes > 0, "{one:?}");
  assert_eq!(stats["activityMonitoring"]["defaultTimeout"], 1_800_000);
  let list = serde_json::to_value(setup.db.list(&operator(), Some("w")).await.expect("lists"))
    .expect("JSON");
  assert_eq!(list[0]["id"], "w:a");
  assert_eq!(list[0]["embeddingProvider"], "Built-in");
  assert_eq!(list[0]["isFromOffload"], false);
  assert_eq!(list.as_array().map(Vec::len), Some(1));
}
