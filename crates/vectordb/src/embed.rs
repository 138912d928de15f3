//! Embeds texts, as vectors of the dimension of their index.

use vector_index::Dimensions;
use vector_index::Document;
use vector_index::Index;
use vector_index::IndexOptions;

use crate::database::VectorDb;
use crate::embedding::Label;
use crate::embedding::Provider;
use crate::embedding::ProviderKind;
use crate::embedding::Text;
use crate::error::VectorError;
use crate::record::IndexRecord;
use crate::requests::NewDocument;

/// The dimension to which vectors of texts are brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TargetDimension {
  flexible: bool,
  dimension: Option<usize>,
}

impl TargetDimension {
  /// That of an index with `options`.
  pub(crate) fn of(options: &IndexOptions) -> Self {
    Self {
      flexible: options.dimensions == Dimensions::Flexible,
      dimension: options.dimension,
    }
  }

  /// The same for an index that has no dimension yet and gets it from `documents`: from the first of
  /// them, or, where texts fit any dimension, from the first that came with a vector.
  fn or_of_first(self, provider: &Provider, documents: &[NewDocument]) -> Self {
    let vector = |document: &NewDocument| document.vector.as_ref().map(Vec::len);
    let first = match provider.kind().is_own() {
      true => documents.iter().find_map(vector),
      false => documents.first().and_then(vector),
    };
    Self {
      dimension: self.dimension.or(first),
      ..self
    }
  }

  /// Pads or cuts what a model of the server made: its clients have texts in indices of any dimension.
  /// Vectors of the mock are mostly zeros; one that is cut to nothing but zeros gets some direction, for the
  /// original found documents for every text. Those of the local model keep the length 1.
  fn fit(self, provider: &Provider, mut vector: Vec<f32>) -> Vec<f32> {
    if let Some(dimension) = self.dimension
      && dimension != vector.len()
      && (self.flexible || provider.kind().is_own())
    {
      vector.resize(dimension, 0.0);
      let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
      if provider.kind() == ProviderKind::Local && length.is_normal() {
        for x in &mut vector {
          *x /= length;
        }
      }
      if vector.iter().all(|number| *number == 0.0) {
        vector.fill(1.0);
      }
    }
    vector
  }
}

impl VectorDb {
  /// Refuses a first vector whose dimension is not the provider's: texts could not be compared with it.
  pub(crate) fn check_vectors(
    &self,
    index: &Index,
    record: &IndexRecord,
    documents: &[NewDocument],
  ) -> Result<(), VectorError> {
    let first = documents
      .iter()
      .find_map(|d| Some((&d.id, d.vector.as_ref()?)));
    let Some((id, vector)) = first else {
      return Ok(());
    };
    if record.provider.is_none()
      || index.dimension().is_some()
      || index.options().dimensions == Dimensions::Flexible
    {
      return Ok(());
    }
    let provider = self.provider_of(record)?;
    if vector.len() == provider.dimension() || provider.kind() == ProviderKind::Local {
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

  pub(crate) async fn embed_query(
    &self,
    record: &IndexRecord,
    target: TargetDimension,
    text: &str,
  ) -> Result<Vec<f32>, VectorError> {
    let label = Label::Query;
    let provider = self.provider_of(record)?;
    let vectors = provider.embed(&[Text { label, text }]).await?;
    // The provider returns one vector a text, which was checked.
    let vector = vectors.into_iter().next().unwrap_or_default();
    Ok(target.fit(&provider, vector))
  }

  /// Embeds the texts of the documents that have no vector.
  pub(crate) async fn embed_documents(
    &self,
    record: &IndexRecord,
    target: TargetDimension,
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
    if texts.is_empty() {
      return Ok(
        documents
          .into_iter()
          .map(|d| with_vector(d, None))
          .collect(),
      );
    }
    let provider = self.provider_of(record)?;
    let mut made = provider.embed(&texts).await?.into_iter();
    let target = target.or_of_first(&provider, &documents);
    let mut made = || made.next().map(|vector| target.fit(&provider, vector));
    let complete = |document: NewDocument| {
      let made = document.vector.is_none().then(&mut made).flatten();
      with_vector(document, made)
    };
    Ok(documents.into_iter().map(complete).collect())
  }
}

/// Completes a document with the vector that was made for it, unless it has its own.
fn with_vector(document: NewDocument, made: Option<Vec<f32>>) -> Document {
  Document {
    vector: document.vector.or(made).unwrap_or_default(),
    id: document.id,
    text: document.text,
    metadata: document.metadata,
  }
}
