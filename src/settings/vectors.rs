//! Settings of the vector database.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use vectordb::InactivityTimeout;
use vectordb::VectorDbOptions;
use vectordb::embedding::LOCAL_MODEL;
use vectordb::embedding::LocalModelFiles;
use vectordb::embedding::RegistryOptions;
use vectordb::embedding::preconfigured;

/// What `scripts/setup.sh` fetched.
const FILES: LocalModelFiles = include!(concat!(env!("OUT_DIR"), "/local_model.rs"));

/// How vector indices are held, and what embeds their texts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Vector database")]
pub(crate) struct VectorArgs {
  /// Folder of the indices [default: vectordb in the data folder].
  ///
  /// Indices that this server's predecessor off-loaded there are taken over.
  #[arg(long, env = "VECTORDB_OFFLOAD_DIRECTORY", value_name = "DIR")]
  pub vectordb_offload_directory: Option<PathBuf>,

  /// Most indices open at one time.
  #[arg(
    long,
    env = "MAX_VECTOR_DB_INSTANCES",
    value_name = "N",
    default_value_t = 10
  )]
  pub max_vector_db_instances: usize,

  /// Most bytes of vectors in memory, of all indices together; an index for which there is no room is
  /// searched on disk.
  #[arg(
    long,
    env = "VECTORDB_MEMORY_BYTES",
    value_name = "BYTES",
    default_value_t = 1 << 30
  )]
  pub vectordb_memory_bytes: usize,

  /// Milliseconds without use after which an index is closed; 0 for never.
  #[arg(
    long,
    env = "VECTORDB_DEFAULT_INACTIVITY_TIMEOUT",
    value_name = "MS",
    default_value_t = 1_800_000
  )]
  pub vectordb_default_inactivity_timeout: u64,

  /// Close indices that have not been used for their time.
  #[arg(long, env = "VECTORDB_ACTIVITY_MONITORING", value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
  pub vectordb_activity_monitoring: bool,

  /// Model of new indices that name no provider: local-model, which is part of the server, or mock-model, which
  /// knows no meaning.
  #[arg(
    long,
    env = "EMBEDDING_MODEL",
    value_name = "NAME",
    default_value = LOCAL_MODEL
  )]
  pub embedding_model: String,

  /// Provider of indices that name none.
  #[arg(long, env = "DEFAULT_EMBEDDING_PROVIDER_NAME", value_name = "NAME")]
  pub default_embedding_provider_name: Option<String>,

  /// Address of the Ollama server behind the providers that are there from the start.
  #[arg(
    long,
    env = "OLLAMA_HOST",
    value_name = "URL",
    default_value = "http://localhost:11434"
  )]
  pub ollama_host: String,
}

impl VectorArgs {
  /// What the database is told. `certificates` is a PEM file of authorities that providers may use.
  pub(crate) fn options(&self, data_dir: &Path, certificates: Option<PathBuf>) -> VectorDbOptions {
    let folder = self.vectordb_offload_directory.clone();
    let provider = self.default_embedding_provider_name.clone();
    VectorDbOptions {
      max_instances: self.max_vector_db_instances,
      memory: self.vectordb_memory_bytes,
      default_timeout: InactivityTimeout::from_millis(self.vectordb_default_inactivity_timeout),
      activity_monitoring: self.vectordb_activity_monitoring,
      default_model: self.embedding_model.clone(),
      default_provider: provider.filter(|name| !name.is_empty()),
      providers: preconfigured(&with_scheme(&self.ollama_host)),
      registry: RegistryOptions {
        certificates,
        local_model: FILES,
        ..RegistryOptions::default()
      },
      ..VectorDbOptions::new(folder.unwrap_or_else(|| data_dir.join("vectordb")))
    }
  }
}

/// Ollama itself takes its variable without one.
fn with_scheme(host: &str) -> String {
  match host.contains("://") {
    true => host.to_owned(),
    false => format!("http://{host}"),
  }
}
