//! Embeds many texts: looks them up in the cache, sends the others in batches, and checks the answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::TryStreamExt;
use futures::stream;

use crate::embedding::Embedder;
use crate::embedding::cache::EmbeddingCache;
use crate::embedding::cache::Key;
use crate::embedding::usage::Usage;
use crate::error::ProviderFailure;
use crate::error::VectorError;

/// Limits of batches.
#[derive(Debug, Clone)]
pub struct BatchLimits {
  /// Texts of one request.
  pub texts: usize,
  /// Bytes of text of one request; one text may be longer.
  pub bytes: usize,
  /// Requests to one provider at a time, for one caller.
  pub at_once: usize,
  /// For all of one caller's texts.
  pub total: Duration,
}

impl Default for BatchLimits {
  fn default() -> Self {
    Self {
      texts: 64,
      bytes: 256 << 10,
      at_once: 4,
      total: Duration::from_secs(600),
    }
  }
}

/// A text, and its name in messages.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
  pub label: Label<'a>,
  pub text: &'a str,
}

#[derive(Debug, Clone, Copy)]
pub enum Label<'a> {
  /// The document of this id.
  Document(&'a str),
  Query,
  /// The text that a provider is tried with.
  Trial,
}

impl fmt::Display for Label<'_> {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match self {
      Self::Document(id) => write!(f, "document {id}"),
      Self::Query => f.write_str("the query"),
      Self::Trial => f.write_str("the trial text"),
    }
  }
}

/// One provider, for one call.
pub(crate) struct Batcher<'a> {
  pub name: &'a str,
  pub identity: &'a str,
  pub embedder: &'a dyn Embedder,
  pub cache: &'a EmbeddingCache,
  pub usage: &'a Usage,
  pub limits: &'a BatchLimits,
}

/// A text to embed, and the places of its vector.
struct Wanted<'a> {
  text: Text<'a>,
  key: Key,
  places: Vec<usize>,
}

impl Batcher<'_> {
  /// One vector for each text, in their order, all of the provider's dimension and finite.
  pub(super) async fn embed(&self, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, VectorError> {
    let limit = self.limits.total;
    match tokio::time::timeout(limit, self.embed_all(texts)).await {
      Ok(outcome) => outcome,
      Err(_) => Err(VectorError::Provider(
        format!(
          "Embedding provider {}: {} took longer than {limit:?}",
          self.name,
          several(texts)
        )
        .into(),
      )),
    }
  }

  async fn embed_all(&self, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, VectorError> {
    let cached = !self.embedder.kind().is_own();
    let mut found: Vec<Option<Arc<[f32]>>> = vec![None; texts.len()];
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut by_key: HashMap<Key, usize> = HashMap::new();
    for (place, text) in texts.iter().enumerate() {
      let key = EmbeddingCache::key(self.identity, text.text);
      if let Some(&known) = by_key.get(&key) {
        wanted[known].places.push(place);
      } else if let Some(vector) = self.cache.get(&key).filter(|_| cached) {
        found[place] = Some(vector);
      } else {
        by_key.insert(key, wanted.len());
        wanted.push(Wanted {
          text: *text,
          key,
          places: vec![place],
        });
      }
    }
    let asked = wanted.len() as u64;
    self
      .usage
      .note(|usage| usage.cached += texts.len() as u64 - asked);
    let requests: Vec<_> = self
      .batches(&wanted)
      .into_iter()
      .map(|b| self.ask(b))
      .collect();
    let mut answers = stream::iter(requests).buffer_unordered(self.limits.at_once.max(1));
    while let Some((batch, vectors)) = answers.try_next().await? {
      for (wanted, vector) in batch.iter().zip(vectors) {
        let vector: Arc<[f32]> = vector.into();
        if cached {
          self.cache.put(wanted.key, vector.clone());
        }
        for place in &wanted.places {
          found[*place] = Some(vector.clone());
        }
      }
    }
    let vectors = found.into_iter().flatten();
    Ok(vectors.map(|vector| vector.to_vec()).collect())
  }

  fn batches<'w, 't>(&self, wanted: &'w [Wanted<'t>]) -> Vec<&'w [Wanted<'t>]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, one) in wanted.iter().enumerate() {
      let full = at - start >= self.limits.texts.max(1);
      if at > start && (full || bytes + one.text.text.len() > self.limits.bytes) {
        batches.push(&wanted[start..at]);
        (start, bytes) = (at, 0);
      }
      bytes += one.text.text.len();
    }
    if start < wanted.len() {
      batches.push(&wanted[start..]);
    }
    batches
  }

  async fn ask<'w, 't>(
    &self,
    batch: &'w [Wanted<'t>],
  ) -> Result<(&'w [Wanted<'t>], Vec<Vec<f32>>), VectorError> {
    let texts: Vec<String> = batch.iter().map(|one| one.text.text.to_owned()).collect();
    let outcome = self.embedder.embed(&texts).await;
    let outcome = outcome.map_err(|error| self.named(batch, &error));
    let outcome = outcome.and_then(|vectors| self.check(batch, vectors));
    self.usage.note(|usage| {
      usage.requests += 1;
      match &outcome {
        Ok(vectors) => usage.texts += vectors.len() as u64,
        Err(_) => usage.failures += 1,
      }
    });
    Ok((batch, outcome?))
  }

  fn named(&self, batch: &[Wanted<'_>], error: &VectorError) -> VectorError {
    let texts: Vec<Text> = batch.iter().map(|one| one.text).collect();
    let (name, texts) = (self.name, several(&texts));
    VectorError::Provider(ProviderFailure::internal(
      format!("{error} (embedding provider {name}, {texts})"),
      format!(
        "Embedding provider {name} could not embed {texts}: the server's log tells its operator why"
      ),
    ))
  }

  fn check(
    &self,
    batch: &[Wanted<'_>],
    vectors: Vec<Vec<f32>>,
  ) -> Result<Vec<Vec<f32>>, VectorError> {
    let name = self.name;
    if vectors.len() != batch.len() {
      let texts: Vec<Text> = batch.iter().map(|one| one.text).collect();
      return Err(VectorError::Provider(
        format!(
          "Embedding provider {name} answered {} embeddings for {} texts ({})",
          vectors.len(),
          batch.len(),
          several(&texts)
        )
        .into(),
      ));
    }
    let dimension = self.embedder.dimension();
    for (one, vector) in batch.iter().zip(&vectors) {
      let label = one.text.label;
      if vector.len() != dimension {
        return Err(VectorError::Provider(
          format!(
            "Embedding provider {name} answered an embedding of dimension {} for {label}, but is \
           configured with dimension {dimension}: update the provider",
            vector.len()
          )
          .into(),
        ));
      }
      if let Some(place) = vector.iter().position(|number| !number.is_finite()) {
        return Err(VectorError::Provider(
          format!(
            "Embedding provider {name} answered an embedding for {label} whose number {place} is \
           not finite"
          )
          .into(),
        ));
      }
      if vector.iter().all(|number| *number == 0.0) {
        return Err(VectorError::Provider(
          format!(
            "Embedding provider {name} answered an embedding of nothing but zeros for {label}"
          )
          .into(),
        ));
      }
    }
    Ok(vectors)
  }
}

fn several(texts: &[Text<'_>]) -> String {
  match texts {
    [] => "no text".into(),
    [one] => one.label.to_string(),
    [first, rest @ ..] => format!("{} and {} more", first.label, rest.len()),
  }
}
