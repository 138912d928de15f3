//! Servers that speak the embeddings API of OpenAI.

use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use crate::embedding::Embedder;
use crate::embedding::ProviderKind;
use crate::embedding::config::OpenAiConfig;
use crate::embedding::http::Endpoint;
use crate::embedding::http::HttpLimits;
use crate::error::VectorError;

pub(crate) struct OpenAi {
  model: String,
  dimension: usize,
  endpoint: Endpoint,
}

#[derive(Deserialize)]
struct Answer {
  data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
  /// Which of the texts it is; some servers leave it out and keep the order.
  index: Option<usize>,
  embedding: Vec<f32>,
}

impl OpenAi {
  pub(super) fn new(
    config: &OpenAiConfig,
    base: &reqwest::Url,
    limits: HttpLimits,
    certificates: Option<&Path>,
  ) -> Result<Self, String> {
    let key = config.api_key.clone();
    Ok(Self {
      model: config.model.clone(),
      dimension: config.dimension,
      endpoint: Endpoint::new(base, &["embeddings"], key, limits, certificates)?,
    })
  }
}

#[async_trait]
impl Embedder for OpenAi {
  fn dimension(&self) -> usize {
    self.dimension
  }

  fn kind(&self) -> ProviderKind {
    ProviderKind::OpenAi
  }

  async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, VectorError> {
    let failed = |reason: String| {
      VectorError::Provider(format!("Failed to generate embedding with OpenAI: {reason}").into())
    };
    let body = json!({"model": self.model, "input": texts});
    let answer: Answer = self.endpoint.ask(&body).await.map_err(failed)?;
    in_order(answer.data).map_err(failed)
  }
}

fn in_order(mut items: Vec<Item>) -> Result<Vec<Vec<f32>>, String> {
  if items.iter().all(|item| item.index.is_some()) {
    items.sort_by_key(|item| item.index);
    let numbered = items.iter().enumerate();
    if let Some((place, _)) = numbered
      .clone()
      .find(|(place, item)| item.index != Some(*place))
    {
      return Err(format!("the answer has no embedding with index {place}"));
    }
  } else if items.iter().any(|item| item.index.is_some()) {
    return Err("only some embeddings of the answer have an index".into());
  }
  Ok(items.into_iter().map(|item| item.embedding).collect())
}

#[cfg(test)]
mod tests {
  use super::*;

  fn item(index: Option<usize>, value: f32) -> Item {
    Item {
      index,
      embedding: vec![value],
    }
  }

  #[test]
  fn embeddings_are_put_in_the_order_of_the_texts() {
    let ordered = in_order(vec![item(Some(1), 1.0), item(Some(0), 0.0)]).expect("complete");
    assert_eq!(ordered, [[0.0], [1.0]]);
    let ordered = in_order(vec![item(None, 5.0), item(None, 4.0)]).expect("in order");
    assert_eq!(ordered, [[5.0], [4.0]]);
  }

  #[test]
  fn indices_that_do_not_fit_are_refused() {
    let twice = in_order(vec![item(Some(0), 0.0), item(Some(0), 0.0)]).expect_err("twice 0");
    assert!(twice.contains("index 1"), "{twice}");
    in_order(vec![item(Some(0), 0.0), item(None, 0.0)]).expect_err("one without");
  }
}
