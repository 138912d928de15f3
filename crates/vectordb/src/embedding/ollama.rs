//! Models that an Ollama server runs.

use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use crate::embedding::Embedder;
use crate::embedding::ProviderKind;
use crate::embedding::config::OllamaConfig;
use crate::embedding::http::Endpoint;
use crate::embedding::http::HttpLimits;
use crate::error::VectorError;

pub(crate) struct Ollama {
  model: String,
  dimension: usize,
  endpoint: Endpoint,
}

#[derive(Deserialize)]
struct Answer {
  embeddings: Vec<Vec<f32>>,
}

impl Ollama {
  pub(super) fn new(
    config: &OllamaConfig,
    base: &reqwest::Url,
    limits: HttpLimits,
    certificates: Option<&Path>,
  ) -> Result<Self, String> {
    Ok(Self {
      model: config.model.clone(),
      dimension: config.dimension,
      endpoint: Endpoint::new(base, &["api", "embed"], None, limits, certificates)?,
    })
  }
}

#[async_trait]
impl Embedder for Ollama {
  fn dimension(&self) -> usize {
    self.dimension
  }

  fn kind(&self) -> ProviderKind {
    ProviderKind::Ollama
  }

  async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, VectorError> {
    let body = json!({"model": self.model, "input": texts});
    let answer: Answer = self.endpoint.ask(&body).await.map_err(|reason| {
      VectorError::Provider(format!("Failed to generate embedding with Ollama: {reason}").into())
    })?;
    Ok(answer.embeddings)
  }
}
