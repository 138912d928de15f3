//! Texts a second through the provider `local-model`: short ones, all different, in batches as an index gives them.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use serde_json::Value;
use vectordb::embedding::LOCAL_MODEL;
use vectordb::embedding::Label;
use vectordb::embedding::LocalModelFiles;
use vectordb::embedding::Registry;
use vectordb::embedding::RegistryOptions;
use vectordb::embedding::Text;

const TEXTS: usize = 10_000;

/// Questions of some ten words each.
fn questions() -> Vec<String> {
  let lines = include_str!("../../../tests/retrieval/pairs.jsonl").lines();
  let questions: Vec<String> = lines
    .map(|line| {
      let pair: Value = serde_json::from_str(line).expect("JSON");
      pair["question"].as_str().expect("text").to_owned()
    })
    .collect();
  let numbered = questions.iter().cycle().enumerate();
  numbered
    .map(|(i, question)| format!("{question} {i}"))
    .take(TEXTS)
    .collect()
}

fn provider(criterion: &mut Criterion) {
  let runtime = tokio::runtime::Runtime::new().expect("a runtime");
  let folder = tempfile::tempdir().expect("a folder");
  let files = std::env::var_os("LOCAL_MODEL_DIR").expect("scripts/setup.sh sets LOCAL_MODEL_DIR");
  let options = RegistryOptions {
    local_model: LocalModelFiles::Folder(files.into()),
    ..RegistryOptions::default()
  };
  let registry = Registry::open(folder.path().join("providers.json"), Vec::new(), options);
  let provider = registry.expect("opens").own(LOCAL_MODEL).expect("is there");
  let questions = questions();
  let texts: Arc<[String]> = questions.into();
  let mut group = criterion.benchmark_group("local-model");
  group.sample_size(10);
  group.throughput(Throughput::Elements(TEXTS as u64));
  group.bench_function("short texts", |bencher| {
    bencher.iter(|| {
      let texts: Vec<Text> = texts
        .iter()
        .map(|text| Text {
          label: Label::Trial,
          text,
        })
        .collect();
      let vectors = runtime.block_on(provider.embed(&texts)).expect("embeds");
      black_box(vectors.len())
    });
  });
  group.finish();
}

criterion_group!(benches, provider);
criterion_main!(benches);
