use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn readers_do_not_wait_for_a_writer_and_writers_do() {
  let setup = Setup::new();
  let id = setup.create("docs").await;
  setup.add(&id, vec![text("a", "alpha")]).await;
  let lease = setup.db.open_lease(&id).await.expect("is open");
  let (end, ended) = mpsc::channel::<()>();
  let (begin, begun) = tokio::sync::oneshot::channel();
  let slow = tokio::spawn(lease.write(move |_| {
    let _ = begin.send(());
    ended
      .recv()
      .map_err(|e| VectorError::Storage(e.to_string()))
  }));
  begun.await.expect("it writes");
  assert_eq!(setup.search(&id, "alpha").await.len(), 1);
  let db = setup.db.clone();
  let waiting = tokio::spawn({
    let id = id.clone();
    async move {
      db.add(&operator(), id.as_str(), vec![text("b", "beta")])
        .await
    }
  });
  assert_eq!(setup.search(&id, "alpha").await.len(), 1);
  assert!(!waiting.is_finished());
  end.send(()).expect("it waits");
  slow.await.expect("ends").expect("writes");
  assert_eq!(
    waiting.await.expect("ends").expect("adds").document_count,
    2
  );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_queries_get_each_their_own_answer() {
  let setup = Setup::new();
  let id = setup.create("docs").await;
  setup
    .add(
      &id,
      (0..64)
        .map(|i| text(&format!("d{i}"), &format!("text {i}")))
        .collect(),
    )
    .await;
  let queries = (0..64).map(|i| {
    let (db, id) = (setup.db.clone(), id.clone());
    tokio::spawn(async move {
      let request = QueryRequest::text(format!("text {i}"));
      db.query(&operator(), id.as_str(), request)
        .await
        .expect("finds")
    })
  });
  for (i, query) in queries.collect::<Vec<_>>().into_iter().enumerate() {
    assert_eq!(query.await.expect("ends")[0].id, format!("d{i}"));
  }
}
