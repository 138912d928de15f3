//! The model that `scripts/setup.sh` fetches, beside the same steps in Python (`reference/make.py`).

use std::io::Read;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::Value;
use static_embeddings::StaticModel;

static MODEL: LazyLock<StaticModel> = LazyLock::new(|| {
  let (weights, tokenizer) = files();
  StaticModel::load(&weights, &tokenizer).expect("it is a model")
});

fn files() -> (Bytes, Vec<u8>) {
  let folder = std::env::var_os("LOCAL_MODEL_DIR").expect("scripts/setup.sh sets LOCAL_MODEL_DIR");
  let file = |name: &str| {
    std::fs::read(PathBuf::from(&folder).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
  };
  let mut tokenizer = Vec::new();
  let compressed = file("tokenizer.json.gz");
  GzDecoder::new(&*compressed)
    .read_to_end(&mut tokenizer)
    .expect("is gzipped");
  (file("weights.safetensors").into(), tokenizer)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
  let dot = |a: &[f32], b: &[f32]| -> f64 {
    let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
    products.sum()
  };
  dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn two_hundred_texts_have_the_vectors_that_python_gives_them() {
  let numbers = include_bytes!("reference/vectors.f32").chunks_exact(4);
  let numbers: Vec<f32> = numbers
    .map(|it| f32::from_le_bytes(it.try_into().expect("four bytes")))
    .collect();
  let vectors = numbers.chunks_exact(256);
  let texts = include_str!("reference/texts.jsonl").lines();
  let mut count = 0;
  for (line, expected) in texts.zip(vectors) {
    let one: Value = serde_json::from_str(line).expect("JSON");
    let times = usize::try_from(one["times"].as_u64().expect("a number")).expect("fits");
    let text = one["text"].as_str().expect("text").repeat(times);
    let near = cosine(&MODEL.embed(&text, 256), expected);
    assert!(near >= 0.9999, "{near}: {line}");
    count += 1;
  }
  assert_eq!(count, 200);
}

#[test]
fn shorter_vectors_are_the_first_numbers_brought_to_length_1() {
  let whole = MODEL.embed("Where does the sun rise?", 256);
  assert_eq!(whole.len(), 256);
  for dimension in [1, 64, 100, 128] {
    let short = MODEL.embed("Where does the sun rise?", dimension);
    assert_eq!(short.len(), dimension);
    assert!((cosine(&short, &whole[..dimension]) - 1.0).abs() < 1e-6);
    assert!((cosine(&short, &short) - 1.0).abs() < 1e-6);
    let length: f32 = short.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
  }
  assert_eq!(MODEL.embed("more than there is", 1000).len(), 256);
}

#[test]
fn every_text_has_a_vector_of_numbers() {
  let long = "word ".repeat(2_000_000);
  let unbroken = "x".repeat(1_000_000);
  let tokens = "<s>".repeat(300_000);
  for text in [
    "",
    " ",
    "\0",
    "\u{10ffff}",
    "<s>",
    &long,
    &unbroken,
    &tokens,
  ] {
    let vector = MODEL.embed(text, 256);
    let length: f32 = vector.iter().map(|x| x * x).sum();
    let shown: String = text.chars().take(10).collect();
    assert!((length - 1.0).abs() < 1e-5, "{shown:?}: {length}");
  }
}

#[test]
fn near_meanings_are_nearer_than_far_ones() {
  let near = |a: &str, b: &str| cosine(&MODEL.embed(a, 256), &MODEL.embed(b, 256));
  let physician = near("a doctor treats patients", "the physician heals the sick");
  let harbour = near("a doctor treats patients", "ships wait in the harbour");
  assert!(physician > harbour + 0.1, "{physician} {harbour}");
}

#[test]
fn what_is_no_model_is_refused_by_name() {
  let (weights, tokenizer) = files();
  let refused = |weights: &[u8], tokenizer: &[u8]| {
    let model = StaticModel::load(&Bytes::copy_from_slice(weights), tokenizer);
    model.expect_err("is refused").to_string()
  };
  assert!(refused(b"", &tokenizer).starts_with("the weights cannot be used"));
  assert!(refused(&weights[..1000], &tokenizer).starts_with("the weights cannot be used"));
  assert!(refused(&weights, b"{}").starts_with("the tokeniser cannot be read"));
  let words = br#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#;
  assert_eq!(
    refused(&weights, words),
    "the tokeniser is not one of byte pairs"
  );
}
