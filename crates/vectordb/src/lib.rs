//! The vector database: indices of documents, found by meaning, by words and by metadata.
//!
//! Every feature is a method of [`VectorDb`] that takes its [`Caller`](access::Caller) first: a face maps
//! requests to them and decides nothing.

mod answers;
mod close;
mod database;
mod documents;
mod embed;
pub mod embedding;
mod error;
mod events;
mod exchange;
mod id;
mod import;
mod legacy;
mod missing;
mod open;
mod open_index;
mod options;
mod permission;
mod providers;
mod record;
mod requests;
mod sample_documents;
mod store;
mod tasks;
#[cfg(test)]
#[expect(
  clippy::disallowed_methods,
  reason = "a test is all that its thread does"
)]
mod tests;

pub use self::answers::ActivityInfo;
pub use self::answers::Added;
pub use self::answers::ConfigProvider;
pub use self::answers::DatabaseStats;
pub use self::answers::DocumentPage;
pub use self::answers::FailedImport;
pub use self::answers::FolderImport;
pub use self::answers::ImportedIndex;
pub use self::answers::IndexInfo;
pub use self::answers::ListedProvider;
pub use self::answers::MonitoringStats;
pub use self::answers::OffloadedIndex;
pub use self::answers::ProviderInfo;
pub use self::answers::ProviderList;
pub use self::answers::ProviderStats;
pub use self::answers::ProviderSummary;
pub use self::answers::ProviderTrial;
pub use self::answers::ProviderUsage;
pub use self::answers::RegisteredProvider;
pub use self::answers::Removed;
pub use self::answers::SkippedDocument;
pub use self::database::VectorDb;
pub use self::error::ProviderFailure;
pub use self::error::VectorError;
pub use self::events::EventWatch;
pub use self::events::VectorEvent;
pub use self::events::VectorEventKind;
pub use self::exchange::ImportIndex;
pub use self::id::IndexId;
pub use self::options::CreateIndex;
pub use self::options::DimensionRule;
pub use self::options::InactivityTimeout;
pub use self::options::VectorDbOptions;
pub use self::options::VectorLimits;
pub use self::permission::Permission;
pub use self::requests::ListDocuments;
pub use self::requests::NewDocument;
pub use self::requests::QueryMode;
pub use self::requests::QueryRequest;
pub use self::requests::RemoveDocuments;
pub use self::sample_documents::generate_documents;
pub use vector_index::Dimensions;
pub use vector_index::Document;
pub use vector_index::Filter;
pub use vector_index::Hit;
pub use vector_index::Index;
pub use vector_index::IndexOptions;
pub use vector_index::IndexStats;
pub use vector_index::Memory;
pub use vector_index::Metric;
pub use vector_index::Query;
pub use vector_index::Stored;
