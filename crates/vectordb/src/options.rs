//! Options of the database and of indices.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use utoipa::ToSchema;
use vector_index::Metric;

use crate::embedding::MOCK_MODEL;
use crate::embedding::ProviderConfig;
use crate::embedding::RegistryOptions;
use crate::permission::Permission;

/// Settings of the whole database.
#[derive(Debug, Clone)]
pub struct VectorDbOptions {
  /// Folder for everything that the database keeps.
  pub folder: PathBuf,
  /// Maximum of open indices.
  pub max_instances: usize,
  pub default_timeout: InactivityTimeout,
  /// Maximum of bytes for vectors in memory, for all indices together.
  pub memory: usize,
  /// Whether indices are off-loaded after a time without use.
  pub activity_monitoring: bool,
  /// The model of indices that name no provider: `local-model` or `mock-model`.
  pub default_model: String,
  /// The provider of indices that name none.
  pub default_provider: Option<String>,
  /// Providers that are there from the start.
  pub providers: Vec<(String, ProviderConfig)>,
  pub registry: RegistryOptions,
  pub limits: VectorLimits,
}

impl VectorDbOptions {
  pub fn new(folder: impl Into<PathBuf>) -> Self {
    Self {
      folder: folder.into(),
      max_instances: 50,
      default_timeout: InactivityTimeout::from_millis(1_800_000),
      memory: 1 << 30,
      activity_monitoring: true,
      default_model: MOCK_MODEL.to_owned(),
      default_provider: None,
      providers: Vec::new(),
      registry: RegistryOptions::default(),
      limits: VectorLimits::default(),
    }
  }
}

/// Limits of one request.
#[derive(Debug, Clone)]
pub struct VectorLimits {
  pub batch_documents: usize,
  /// Bytes of texts, vectors and metadata.
  pub batch_bytes: usize,
  /// Results of a query, those of earlier pages included.
  pub results: usize,
  /// Bytes of one line of an import.
  pub line_bytes: usize,
  /// Queries and other reads that run at one time; more wait. Writers do not count.
  pub readers: usize,
}

impl Default for VectorLimits {
  fn default() -> Self {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Self {
      batch_documents: 100_000,
      batch_bytes: 64 << 20,
      results: 10_000,
      line_bytes: 16 << 20,
      readers: (2 * cores).max(4),
    }
  }
}

/// How long an index may be unused before it is off-loaded; in JSON milliseconds, 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = u64)]
pub struct InactivityTimeout(Option<Duration>);

impl InactivityTimeout {
  pub fn from_millis(millis: u64) -> Self {
    Self(Some(Duration::from_millis(millis)).filter(|limit| !limit.is_zero()))
  }

  pub fn as_millis(self) -> u64 {
    let millis = self.0.unwrap_or_default().as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
  }

  /// The limit; `None` if there is none.
  pub fn limit(self) -> Option<Duration> {
    self.0
  }
}

impl Serialize for InactivityTimeout {
  fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(self.as_millis())
  }
}

impl<'de> Deserialize<'de> for InactivityTimeout {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    // JavaScript knows one kind of number.
    let millis = f64::deserialize(deserializer)?;
    if !millis.is_finite() || millis < 0.0 {
      return Err(serde::de::Error::custom("Invalid timeout value"));
    }
    #[expect(clippy::cast_sign_loss, reason = "it is not negative")]
    let millis = millis as u64;
    Ok(Self::from_millis(millis))
  }
}

/// Which vectors an index takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DimensionRule {
  /// Those of the first vector's dimension. Texts always fit an index of the built-in model.
  #[default]
  Strict,
  /// Those of this dimension.
  Fixed(usize),
  /// All: they are padded with zeros or cut to the dimension of the first vector.
  Flexible,
}

impl<'de> Deserialize<'de> for DimensionRule {
  fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
      Number(usize),
      Word(String),
    }
    match Written::deserialize(deserializer) {
      Ok(Written::Number(number)) if number > 0 => Ok(Self::Fixed(number)),
      Ok(Written::Word(word)) if word == "flexible" => Ok(Self::Flexible),
      Ok(Written::Word(word)) if word == "strict" => Ok(Self::Strict),
      _ => Err(serde::de::Error::custom(
        "dimension: not a whole number above 0, \"flexible\" or \"strict\"",
      )),
    }
  }
}

/// A request for an index.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateIndex {
  /// Without one the index gets a random one.
  pub id: Option<String>,
  /// Only the operator chooses it freely; their default is `default`.
  pub namespace: Option<String>,
  /// Kept and shown; it has no other effect.
  pub embedding_model: Option<String>,
  /// Name of a provider of the registry; `local-model` or `mock-model` for those that are part of the server;
  /// `default` for the server's default, as without it.
  pub embedding_provider_name: Option<String>,
  pub metric: Option<Metric>,
  pub dimension: DimensionRule,
  pub max_documents: Option<u64>,
  pub inactivity_timeout: Option<InactivityTimeout>,
  pub enable_activity_monitoring: Option<bool>,
  pub permission: Option<Permission>,
  /// Opens the index of this id, which must be closed, and applies the other members to it.
  pub resume: bool,
}
