//! The registry of providers. Added ones outlast the server.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;

use access::Secret;
use chrono::DateTime;
use chrono::Utc;
use serde::Deserialize;
use serde::Serialize;

use crate::embedding::Embedder;
use crate::embedding::batch::BatchLimits;
use crate::embedding::cache::EmbeddingCache;
use crate::embedding::config::OllamaConfig;
use crate::embedding::config::ProviderConfig;
use crate::embedding::http::HttpLimits;
use crate::embedding::local::LOCAL_DIMENSION;
use crate::embedding::local::LOCAL_MODEL;
use crate::embedding::local::Local;
use crate::embedding::local::LocalModel;
use crate::embedding::local::LocalModelFiles;
use crate::embedding::mock::MOCK_MODEL;
use crate::embedding::mock::MockModel;
use crate::embedding::ollama::Ollama;
use crate::embedding::openai::OpenAi;
use crate::embedding::provider::Provider;
use crate::embedding::provider::Shared;
use crate::error::VectorError;
use crate::store::write_privately;

const MAX_NAME: usize = 128;

/// Options of all providers.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
  pub http: HttpLimits,
  pub batches: BatchLimits,
  /// Bytes of the cache.
  pub cache: usize,
  /// PEM file with certificate authorities to trust besides those of the platform.
  pub certificates: Option<PathBuf>,
  pub local_model: LocalModelFiles,
}

impl Default for RegistryOptions {
  fn default() -> Self {
    Self {
      http: HttpLimits::default(),
      batches: BatchLimits::default(),
      cache: 64 << 20,
      certificates: None,
      local_model: LocalModelFiles::None,
    }
  }
}

pub struct Registry {
  options: RegistryOptions,
  /// Where added providers are kept.
  file: PathBuf,
  providers: RwLock<BTreeMap<String, Arc<Provider>>>,
  /// Held while they change, on disk and here.
  changing: Mutex<()>,
  /// Those that are part of the server.
  own: [Arc<Provider>; 2],
  local_model: Arc<LocalModel>,
  shared: Arc<Shared>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
  name: String,
  created: DateTime<Utc>,
  #[serde(flatten)]
  config: ProviderConfig,
}

/// The providers that every server of the original had, with this Ollama server.
pub fn preconfigured(ollama_host: &str) -> Vec<(String, ProviderConfig)> {
  let models = [
    ("nomic-embed-text", 768),
    ("all-minilm", 384),
    ("mxbai-embed-large", 1024),
    ("snowflake-arctic-embed", 1024),
  ];
  let configured = |(model, dimension): (&str, usize)| {
    let config = OllamaConfig {
      host: Secret::new(ollama_host),
      model: model.to_owned(),
      dimension,
    };
    (format!("ollama-{model}"), ProviderConfig::Ollama(config))
  };
  models.map(configured).into()
}

impl Registry {
  /// Opens the registry. Added providers win over configured ones. Blocking.
  ///
  /// # Errors
  /// When a configured provider cannot work, or the file cannot be read.
  pub fn open(
    file: PathBuf,
    configured: Vec<(String, ProviderConfig)>,
    options: RegistryOptions,
  ) -> Result<Self, VectorError> {
    let shared = Arc::new(Shared {
      cache: EmbeddingCache::new(options.cache),
      batches: options.batches.clone(),
    });
    let own = |name: &str, embedder: Arc<dyn Embedder>| {
      Arc::new(Provider {
        name: name.to_owned(),
        config: None,
        created: Utc::now(),
        kept: false,
        embedder,
        identity: name.to_owned(),
        usage: Arc::default(),
        shared: shared.clone(),
      })
    };
    let local_model = Arc::new(LocalModel::new(options.local_model.clone()));
    let local = Local {
      model: local_model.clone(),
      dimension: LOCAL_DIMENSION,
    };
    let own = [
      own(MOCK_MODEL, Arc::new(MockModel)),
      own(LOCAL_MODEL, Arc::new(local)),
    ];
    let registry = Self {
      options,
      file,
      providers: RwLock::default(),
      changing: Mutex::default(),
      own,
      local_model,
      shared,
    };
    let mut providers = BTreeMap::new();
    for (name, config) in configured {
      let provider = registry.make(&name, config, Utc::now(), false)?;
      providers.insert(name, Arc::new(provider));
    }
    for kept in registry.read_kept()? {
      let provider = registry.make(&kept.name, kept.config, kept.created, true)?;
      providers.insert(kept.name, Arc::new(provider));
    }
    *registry.write() = providers;
    Ok(registry)
  }

  /// Names in their order.
  pub fn list(&self) -> Vec<Arc<Provider>> {
    self.read().values().cloned().collect()
  }

  pub fn get(&self, name: &str) -> Option<Arc<Provider>> {
    self.read().get(name).cloned()
  }

  /// One that is part of the server: these are not listed.
  pub fn own(&self, name: &str) -> Option<Arc<Provider>> {
    self.own.iter().find(|own| own.name == name).cloned()
  }

  /// Bytes the cache takes.
  #[cfg(test)]
  pub fn cache_bytes(&self) -> usize {
    self.shared.cache.bytes()
  }

  /// Blocking.
  ///
  /// # Errors
  /// When the name is taken or no name, or the provider cannot be kept.
  pub fn add(&self, name: &str, config: ProviderConfig) -> Result<Arc<Provider>, VectorError> {
    check_name(name)?;
    let _changing = self.begin();
    if self.get(name).is_some() {
      return Err(VectorError::Exists(
        "Provider with this name already exists".into(),
      ));
    }
    self.put(self.make(name, config, Utc::now(), true)?)
  }

  /// Replaces a provider; callers that hold the earlier one keep it. Blocking.
  ///
  /// # Errors
  /// When there is no such provider, or it cannot be kept.
  pub fn update(&self, name: &str, config: ProviderConfig) -> Result<Arc<Provider>, VectorError> {
    let _changing = self.begin();
    let before = self.get(name).ok_or_else(unknown)?;
    let mut provider = self.make(name, config, before.created, true)?;
    provider.usage = before.usage.clone();
    self.put(provider)
  }

  /// Blocking.
  ///
  /// # Errors
  /// When there is no such provider, or the file cannot be written; it is then still there.
  pub fn remove(&self, name: &str) -> Result<(), VectorError> {
    let _changing = self.begin();
    let mut after = self.read().clone();
    after.remove(name).ok_or_else(unknown)?;
    self.keep(&after)?;
    *self.write() = after;
    Ok(())
  }

  /// Inserts a provider that a test made; it is not kept.
  #[cfg(test)]
  pub fn insert(&self, name: &str, embedder: Arc<dyn Embedder>) {
    let provider = Provider {
      name: name.to_owned(),
      config: None,
      created: Utc::now(),
      kept: false,
      embedder,
      identity: name.to_owned(),
      usage: Arc::default(),
      shared: self.shared.clone(),
    };
    self.write().insert(name.to_owned(), Arc::new(provider));
  }

  fn put(&self, provider: Provider) -> Result<Arc<Provider>, VectorError> {
    let provider = Arc::new(provider);
    let mut after = self.read().clone();
    after.insert(provider.name.clone(), provider.clone());
    self.keep(&after)?;
    *self.write() = after;
    Ok(provider)
  }

  fn make(
    &self,
    name: &str,
    config: ProviderConfig,
    created: DateTime<Utc>,
    kept: bool,
  ) -> Result<Provider, VectorError> {
    let certificates = self.options.certificates.as_deref();
    let http = self.options.http.clone();
    let embedder: Result<Arc<dyn Embedder>, String> = match &config {
      ProviderConfig::Ollama(ollama) => {
        Ollama::new(ollama, &ollama.url()?, http, certificates).map(|e| Arc::new(e) as _)
      }
      ProviderConfig::OpenAi(openai) => {
        OpenAi::new(openai, &openai.url()?, http, certificates).map(|e| Arc::new(e) as _)
      }
      ProviderConfig::Local(local) => Ok(Arc::new(Local {
        model: self.local_model.clone(),
        dimension: local.dimension,
      }) as _),
    };
    let embedder = embedder.map_err(|reason| {
      VectorError::Invalid(format!(
        "Embedding provider {name} cannot be asked: {reason}"
      ))
    })?;
    Ok(Provider {
      name: name.to_owned(),
      identity: config.identity(),
      config: Some(config),
      created,
      kept,
      embedder,
      usage: Arc::default(),
      shared: self.shared.clone(),
    })
  }

  #[expect(
    clippy::disallowed_methods,
    reason = "at the start, before anything is served"
  )]
  fn read_kept(&self) -> Result<Vec<Kept>, VectorError> {
    let shown = self.file.display();
    match fs::read(&self.file) {
      Ok(bytes) => serde_json::from_slice(&bytes)
        .map_err(|e| VectorError::Corrupt(format!("{shown} is no list of providers: {e}"))),
      Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
      Err(error) => Err(VectorError::Storage(format!(
        "{shown} cannot be read: {error}"
      ))),
    }
  }

  fn keep(&self, providers: &BTreeMap<String, Arc<Provider>>) -> Result<(), VectorError> {
    let kept = providers.values().filter(|provider| provider.kept);
    let list: Vec<Kept> = kept
      .filter_map(|provider| {
        Some(Kept {
          name: provider.name.clone(),
          created: provider.created,
          config: provider.config.clone()?,
        })
      })
      .collect();
    let failed = |path: &Path, error: io::Error| {
      VectorError::Storage(format!("{} cannot be written: {error}", path.display()))
    };
    let bytes = serde_json::to_vec_pretty(&list).map_err(|e| failed(&self.file, e.into()))?;
    write_privately(&self.file, &bytes).map_err(|e| failed(&self.file, e))
  }

  fn begin(&self) -> std::sync::MutexGuard<'_, ()> {
    self.changing.lock().unwrap_or_else(PoisonError::into_inner)
  }

  fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Provider>>> {
    self
      .providers
      .read()
      .unwrap_or_else(PoisonError::into_inner)
  }

  fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Provider>>> {
    self
      .providers
      .write()
      .unwrap_or_else(PoisonError::into_inner)
  }
}

fn unknown() -> VectorError {
  VectorError::NotFound("Provider not found".into())
}

fn check_name(name: &str) -> Result<(), VectorError> {
  if [MOCK_MODEL, LOCAL_MODEL, "default"].contains(&name) {
    return Err(VectorError::Exists(format!(
      "Provider with this name already exists: {name} is part of the server"
    )));
  }
  let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
  if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
    return Err(VectorError::Invalid(format!(
      "name: use 1 to {MAX_NAME} characters of A-Z a-z 0-9 _ -"
    )));
  }
  Ok(())
}
