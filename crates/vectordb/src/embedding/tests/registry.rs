use crate::embedding::registry::Registry;
use crate::embedding::registry::preconfigured;
use crate::embedding::tests::providers::config;
use crate::embedding::tests::providers::options;
use crate::embedding::tests::providers::registry_with;
use crate::error::VectorError;

#[tokio::test]
async fn added_providers_outlast_the_registry_in_a_file_of_their_own() {
  let folder = tempfile::tempdir().expect("a folder");
  let file = folder.path().join("providers.json");
  let configured = preconfigured("http://localhost:11434");
  let open = || Registry::open(file.clone(), configured.clone(), options()).expect("opens");
  let registry = open();
  assert_eq!(registry.list().len(), 4);
  assert!(!file.exists());
  let added = registry
    .add("mine", config("openai", "http://localhost/v1"))
    .expect("adds");
  let changed = config("ollama", "http://other:11434");
  registry
    .update("ollama-all-minilm", changed)
    .expect("updates");
  registry.remove("ollama-nomic-embed-text").expect("removes");
  assert!(matches!(
    registry.add("mine", config("ollama", "http://a")),
    Err(VectorError::Exists(message)) if message == "Provider with this name already exists"
  ));
  drop(registry);
  let registry = open();
  let names: Vec<_> = registry.list().iter().map(|p| p.name.clone()).collect();
  // What is configured is there again.
  assert_eq!(
    names,
    [
      "mine",
      "ollama-all-minilm",
      "ollama-mxbai-embed-large",
      "ollama-nomic-embed-text",
      "ollama-snowflake-arctic-embed"
    ]
  );
  let mine = registry.get("mine").expect("is kept");
  assert_eq!(
    (mine.config.clone(), mine.created),
    (added.config.clone(), added.created)
  );
  assert_eq!(
    registry
      .get("ollama-all-minilm")
      .expect("is kept")
      .dimension(),
    3
  );
  #[cfg(unix)]
  {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&file)
      .expect("is there")
      .permissions()
      .mode();
    assert_eq!(mode & 0o777, 0o600);
  }
  std::fs::write(&file, "{").expect("writes");
  let broken = Registry::open(file, Vec::new(), options());
  assert!(
    matches!(broken.err(), Some(VectorError::Corrupt(why)) if why.contains("providers.json"))
  );
}

#[tokio::test]
async fn names_that_cannot_be_addressed_are_refused() {
  let folder = tempfile::tempdir().expect("a folder");
  let registry = registry_with(folder.path(), options());
  for name in [
    "",
    "a b",
    "a/b",
    "é",
    "mock-model",
    "default",
    &"x".repeat(129),
  ] {
    let refused = registry.add(name, config("ollama", "http://a"));
    refused.err().unwrap_or_else(|| panic!("{name} was taken"));
  }
  for outcome in [
    registry
      .update("no", config("ollama", "http://a"))
      .map(drop),
    registry.remove("no"),
  ] {
    assert_eq!(
      outcome,
      Err(VectorError::NotFound("Provider not found".into()))
    );
  }
}
