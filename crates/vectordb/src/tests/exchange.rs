use tokio::io::AsyncReadExt;

use super::*;

async fn exported(setup: &Setup, id: &IndexId) -> String {
  let mut export = setup
    .db
    .export(&operator(), id.as_str())
    .await
    .expect("exports");
  let mut text = String::new();
  export.file.read_to_string(&mut text).await.expect("reads");
  assert_eq!(text.len() as u64, export.bytes);
  text
}

async fn import(setup: &Setup, lines: &str, id: &str) -> Result<OffloadedIndex, VectorError> {
  let request = ImportIndex {
    id: Some(id.into()),
    namespace: None,
  };
  setup
    .db
    .import(&operator(), lines.as_bytes(), request)
    .await
}

#[tokio::test]
async fn what_is_exported_can_be_imported_under_another_name() {
  let setup = Setup::new();
  let mut request = named("a:b");
  request.permission = Some(Permission::PublicRead);
  request.metric = Some(Metric::Dot);
  let id = setup
    .db
    .create(&operator(), request)
    .await
    .expect("is made")
    .id;
  let documents = (0..1201).map(|i| {
    document(json!({"id": format!("d{i}"), "text": format!("word{i}"), "metadata": {"i": i}}))
  });
  setup.add(&id, documents.collect()).await;
  let lines = exported(&setup, &id).await;
  assert_eq!(lines.lines().count(), 1202);
  assert_eq!(setup.folders(), 1);
  let taken = setup
    .db
    .import(&operator(), lines.as_bytes(), ImportIndex::default())
    .await;
  assert!(matches!(taken, Err(VectorError::Exists(_))));
  let request = ImportIndex {
    id: None,
    namespace: Some("v".into()),
  };
  let copy = setup
    .db
    .import(&operator(), lines.as_bytes(), request)
    .await
    .expect("imports");
  assert_eq!(
    (copy.id.as_str(), copy.namespace.as_deref()),
    ("v:a:b", Some("v"))
  );
  assert_eq!(
    (copy.document_count, copy.embedding_dimension),
    (1201, Some(384))
  );
  let hits = setup.search(&copy.id, "word77").await;
  assert_eq!(
    (
      hits[0].id.as_str(),
      hits[0].metadata.as_ref().map(|m| &m["i"])
    ),
    ("d77", Some(&json!(77)))
  );
  let info = setup
    .db
    .info(&operator(), copy.id.as_str())
    .await
    .expect("is open");
  assert_eq!(
    (info.permission, info.metric),
    (Permission::PublicRead, Metric::Dot)
  );
  let sorted = |text: &str| {
    let mut lines: Vec<_> = text.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    lines
  };
  assert_eq!(sorted(&exported(&setup, &copy.id).await), sorted(&lines));
}

#[tokio::test]
async fn lines_that_cannot_be_used_are_named_and_leave_nothing() {
  let setup = Setup::with(|options| options.limits.line_bytes = 2000);
  let id = setup.create("a").await;
  setup
    .add(&id, vec![document(json!({"id": "d", "vector": [1, 2]}))])
    .await;
  let header = exported(&setup, &id)
    .await
    .lines()
    .next()
    .expect("a line")
    .to_owned();
  let cases = [
    (String::new(), "line 1: there is none"),
    ("{}\n".into(), "line 1: not that of an export"),
    (
      header.replace("vector-index", "other"),
      "line 1: format other",
    ),
    (
      format!("{header}\n{{\"id\": \"x\", \"text\": \"t\"}}\nnot JSON"),
      "line 3: not a document",
    ),
    (
      format!("{header}\n{{\"id\": \"x\"}}"),
      "lines 2 to 2: Document x must have either",
    ),
    (
      format!(
        "{header}\n{{\"id\": \"x\", \"text\": \"{}\"}}",
        "y".repeat(3000)
      ),
      "line 2: longer",
    ),
    (
      header.replace("\"incarnation\"", "\"provider\":\"no\",\"incarnation\""),
      "provider no not found",
    ),
  ];
  for (lines, expected) in cases {
    let message = import(&setup, &lines, "copy")
      .await
      .expect_err(expected)
      .to_string();
    assert!(message.contains(expected), "{expected}: {message}");
    assert_eq!(setup.folders(), 1, "{expected}");
  }
  let good = format!("{header}\n\n{{\"id\": \"x\", \"text\": \"embedded now\"}}\n");
  assert_eq!(
    import(&setup, &good, "copy")
      .await
      .expect("imports")
      .document_count,
    1
  );
}

#[tokio::test]
async fn an_export_has_the_form_that_earlier_ones_had() {
  let setup = Setup::new();
  let id = setup.create("a").await;
  setup
    .add(&id, vec![document(json!({"id": "d", "vector": [1, 2]}))])
    .await;
  let lines = exported(&setup, &id).await;
  let mut header: Value =
    serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
  let about = header["about"].as_object_mut().expect("an object");
  for random in ["created", "incarnation"] {
    assert!(about[random].is_string());
    about[random] = json!("…");
  }
  assert_eq!(
    header,
    json!({
      "format": "vector-index", "version": 1, "metric": "cosine", "flexible": false,
      "dimension": 2, "documents": 1,
      "about": {
        "id": "w:a", "namespace": "w", "created": "…", "incarnation": "…",
        "permission": "private"
      }
    })
  );
  assert_eq!(
    lines.lines().nth(1),
    Some(r#"{"id":"d","vector":[1.0,2.0]}"#)
  );
}
