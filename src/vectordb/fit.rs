//! Texts become vectors that fit their index.

use super::Dimensions;
use super::Document;
use super::Index;
use super::IndexOptions;
use super::NewDocument;
use super::VectorDb;
use super::VectorError;
use super::about::About;
use super::embedding::Label;
use super::embedding::Text;

/// What a flexible index will cut vectors to; nothing for other indices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
  flexible: bool,
  dimension: Option<usize>,
}

impl Fit {
  pub fn of(options: &IndexOptions, dimension: Option<usize>) -> Self {
    Self {
      flexible: options.dimensions == Dimensions::Flexible,
      dimension,
    }
  }

  /// The first vector decides for an index that has none.
  fn with_first(self, dimension: Option<usize>) -> Self {
    Self {
      dimension: self.dimension.or(dimension),
      ..self
    }
  }

  /// Vectors of the built-in model are mostly zeros. Where nothing else would be left of one it gets
  /// some direction: the original found something for every text.
  fn keep_direction(self, vector: Vec<f32>) -> Vec<f32> {
    match self.dimension {
      Some(dimension)
        if self.flexible
          && dimension < vector.len()
          && vector[..dimension].iter().all(|number| *number == 0.0) =>
      {
        vec![1.0; dimension]
      }
      _ => vector,
    }
  }
}

impl VectorDb {
  /// Vectors of another dimension than the provider's would make the index useless for texts.
  pub(super) fn check_vectors(
    &self,
    index: &Index,
    about: &About,
    documents: &[NewDocument],
  ) -> Result<(), VectorError> {
    let first = documents
      .iter()
      .find_map(|d| Some((&d.id, d.vector.as_ref()?)));
    let Some((id, vector)) = first else {
      return Ok(());
    };
    if about.provider.is_none()
      || index.dimension().is_some()
      || index.options().dimensions == Dimensions::Flexible
    {
      return Ok(());
    }
    let provider = self.provider_of(about)?;
    if vector.len() == provider.dimension() {
      return Ok(());
    }
    Err(VectorError::Invalid(format!(
      "Document {id}: its vector has the dimension {}, and the index's embedding provider {} makes \
       {}",
      vector.len(),
      provider.name,
      provider.dimension()
    )))
  }

  pub(super) async fn embed_query(
    &self,
    about: &About,
    fit: Fit,
    text: &str,
  ) -> Result<Vec<f32>, VectorError> {
    let label = Label::Query;
    let vectors = self
      .provider_of(about)?
      .embed(&[Text { label, text }])
      .await?;
    // One for one was checked.
    let vector = vectors.into_iter().next().unwrap_or_default();
    Ok(fit.keep_direction(vector))
  }

  /// Documents with a vector for each.
  pub(super) async fn embed_documents(
    &self,
    about: &About,
    fit: Fit,
    documents: Vec<NewDocument>,
  ) -> Result<Vec<Document>, VectorError> {
    let to_embed = documents
      .iter()
      .filter(|document| document.vector.is_none());
    let texts: Vec<Text> = to_embed
      .map(|document| Text {
        label: Label::Document(&document.id),
        text: document.text.as_deref().unwrap_or_default(),
      })
      .collect();
    let mut made = match texts.is_empty() {
      true => Vec::new(),
      false => self.provider_of(about)?.embed(&texts).await?,
    }
    .into_iter();
    let first = documents
      .first()
      .and_then(|document| document.vector.as_ref());
    let fit = fit.with_first(first.map(Vec::len));
    let mut made = || made.next().map(|vector| fit.keep_direction(vector));
    let with_vector = |document: NewDocument| Document {
      vector: document.vector.or_else(&mut made).unwrap_or_default(),
      id: document.id,
      text: document.text,
      metadata: document.metadata,
    };
    Ok(documents.into_iter().map(with_vector).collect())
  }
}
