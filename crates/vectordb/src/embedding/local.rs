//! The model that comes with the server: static token embeddings. It knows what words mean, not what sentences say;
//! a text takes microseconds.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::Serialize;
use static_embeddings::StaticModel;

use crate::embedding::Embedder;
use crate::embedding::ProviderKind;
use crate::error::VectorError;
use crate::tasks::blocking;

/// Its name where models and providers are named.
pub const LOCAL_MODEL: &str = "local-model";

/// Dimensions that it makes: a shorter vector is the beginning of a longer one, brought to length 1.
pub const LOCAL_DIMENSIONS: [usize; 3] = [64, 128, 256];

/// That of indices which name none.
pub(crate) const LOCAL_DIMENSION: usize = 256;

/// A provider of this model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalConfig {
  /// One of [`LOCAL_DIMENSIONS`].
  pub dimension: usize,
}

/// Where the model's files are, as `scripts/local-model/prepare.sh` makes them.
#[derive(Debug, Clone, Default)]
pub enum LocalModelFiles {
  /// This build has none.
  #[default]
  None,
  /// In this binary.
  Embedded {
    weights: &'static [u8],
    /// Gzipped.
    tokenizer: &'static [u8],
  },
  Folder(PathBuf),
}

/// The model, which is loaded when it is used first.
#[derive(Debug)]
pub(crate) struct LocalModel {
  files: LocalModelFiles,
  loaded: OnceLock<Result<StaticModel, String>>,
}

impl LocalModel {
  pub(crate) fn new(files: LocalModelFiles) -> Self {
    Self {
      files,
      loaded: OnceLock::new(),
    }
  }

  /// Takes a tenth of a second the first time. Blocking.
  fn get(&self) -> Result<&StaticModel, VectorError> {
    let loaded = self.loaded.get_or_init(|| load(&self.files));
    loaded
      .as_ref()
      .map_err(|reason| VectorError::Provider(reason.clone().into()))
  }
}

fn load(files: &LocalModelFiles) -> Result<StaticModel, String> {
  let (weights, tokenizer) = match files {
    LocalModelFiles::None => {
      return Err(format!(
        "this server was built without {LOCAL_MODEL} (scripts/setup.sh fetches it): name another \
         embedding provider, or give documents and queries vectors"
      ));
    }
    LocalModelFiles::Embedded { weights, tokenizer } => {
      (Bytes::from_static(weights), Bytes::from_static(tokenizer))
    }
    LocalModelFiles::Folder(folder) => {
      let read = |name: &str| {
        let path = folder.join(name);
        read(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
      };
      (read("weights.safetensors")?, read("tokenizer.json.gz")?)
    }
  };
  let mut text = Vec::new();
  io::copy(&mut GzDecoder::new(&*tokenizer), &mut text)
    .map_err(|e| format!("the tokeniser of {LOCAL_MODEL} cannot be unpacked: {e}"))?;
  StaticModel::load(&weights, &text).map_err(|e| format!("{LOCAL_MODEL} cannot be used: {e}"))
}

#[expect(
  clippy::disallowed_methods,
  reason = "where texts are embedded: on threads that may block"
)]
fn read(path: &std::path::Path) -> io::Result<Bytes> {
  fs::read(path).map(Bytes::from)
}

/// The model, with vectors of one dimension.
pub(crate) struct Local {
  pub model: Arc<LocalModel>,
  pub dimension: usize,
}

#[async_trait]
impl Embedder for Local {
  fn dimension(&self) -> usize {
    self.dimension
  }

  fn kind(&self) -> ProviderKind {
    ProviderKind::Local
  }

  async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, VectorError> {
    let (model, dimension, texts) = (self.model.clone(), self.dimension, texts.to_vec());
    blocking(move || {
      let model = model.get()?;
      let vectors = texts.iter().map(|text| model.embed(text, dimension));
      Ok(vectors.collect())
    })
    .await
  }
}
