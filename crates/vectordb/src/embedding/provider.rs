//! One provider, with its batches, its cache and its use.

use std::sync::Arc;

use chrono::DateTime;
use chrono::Utc;

use crate::embedding::Embedder;
use crate::embedding::ProviderKind;
use crate::embedding::batch::BatchLimits;
use crate::embedding::batch::Batcher;
use crate::embedding::batch::Text;
use crate::embedding::cache::EmbeddingCache;
use crate::embedding::config::ProviderConfig;
use crate::embedding::usage::Usage;
use crate::embedding::usage::UsageReport;
use crate::error::VectorError;

/// One provider. It does not change: an update makes another.
pub struct Provider {
  pub name: String,
  /// `None` for the built-in model.
  pub config: Option<ProviderConfig>,
  pub created: DateTime<Utc>,
  /// Whether the registry's file has it.
  pub(crate) kept: bool,
  pub(crate) embedder: Arc<dyn Embedder>,
  pub(crate) identity: String,
  pub(crate) usage: Arc<Usage>,
  pub(crate) shared: Arc<Shared>,
}

/// What all providers share.
pub(crate) struct Shared {
  pub cache: EmbeddingCache,
  pub batches: BatchLimits,
}

impl Provider {
  pub fn kind(&self) -> ProviderKind {
    self.embedder.kind()
  }

  /// Length of its vectors.
  pub fn dimension(&self) -> usize {
    self.embedder.dimension()
  }

  pub fn usage(&self) -> UsageReport {
    self.usage.report()
  }

  /// One vector for each text, in their order, all of [`Self::dimension`] and finite.
  ///
  /// # Errors
  /// When a text cannot be embedded; the message names the provider and the document.
  pub async fn embed(&self, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, VectorError> {
    self.embed_with(&self.shared.cache, texts).await
  }

  /// As [`Self::embed`], but without the cache.
  ///
  /// # Errors
  /// As for [`Self::embed`].
  pub async fn embed_anew(&self, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, VectorError> {
    self.embed_with(&EmbeddingCache::new(0), texts).await
  }

  async fn embed_with(
    &self,
    cache: &EmbeddingCache,
    texts: &[Text<'_>],
  ) -> Result<Vec<Vec<f32>>, VectorError> {
    let batcher = Batcher {
      name: &self.name,
      identity: &self.identity,
      embedder: &*self.embedder,
      cache,
      usage: &self.usage,
      limits: &self.shared.batches,
    };
    batcher.embed(texts).await
  }
}
