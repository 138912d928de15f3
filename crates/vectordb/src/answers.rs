//! Answers. Their members have the names that the original gave them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::DateTime;
use chrono::Utc;
use serde::Serialize;
use serde::Serializer;
use utoipa::ToSchema;
use vector_index::Metric;
use vector_index::Stored;

use crate::embedding::ProviderKind;
use crate::embedding::UsageReport;
use crate::id::IndexId;
use crate::options::InactivityTimeout;
use crate::permission::Permission;

fn timestamp<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
  serializer.serialize_str(&access::timestamp(*time))
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
pub(crate) fn optional_timestamp<S: Serializer>(
  time: &Option<DateTime<Utc>>,
  serializer: S,
) -> Result<S::Ok, S::Error> {
  match time {
    Some(time) => timestamp(time, serializer),
    None => serializer.serialize_none(),
  }
}

/// An open index.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexInfo {
  pub id: IndexId,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub namespace: Option<String>,
  #[serde(serialize_with = "timestamp")]
  pub created: DateTime<Utc>,
  pub document_count: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub embedding_dimension: Option<usize>,
  /// Whether the index was off-loaded before.
  pub is_from_offload: bool,
  /// Name of its provider, or `Built-in`.
  pub embedding_provider: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub embedding_model: Option<String>,
  pub metric: Metric,
  pub permission: Permission,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub max_documents: Option<u64>,
  pub activity_monitoring: ActivityInfo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityInfo {
  #[serde(serialize_with = "timestamp")]
  pub last_activity: DateTime<Utc>,
  /// In milliseconds; absent if the index is not off-loaded by itself.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub time_until_offload: Option<u64>,
  pub inactivity_timeout: InactivityTimeout,
  pub enabled: bool,
}

/// A page of the documents of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentPage {
  pub documents: Vec<Stored>,
  /// Documents on all pages.
  pub total: u64,
}

/// Result of adding documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Added {
  pub added: usize,
  pub replaced: usize,
  /// Documents in the index after the change.
  pub document_count: u64,
}

/// Result of removing documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
  pub removed: usize,
  /// Documents in the index after the change.
  pub document_count: u64,
}

/// A closed index, or one that is open and was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OffloadedIndex {
  pub id: IndexId,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub namespace: Option<String>,
  #[serde(serialize_with = "timestamp")]
  pub created: DateTime<Utc>,
  #[serde(serialize_with = "timestamp")]
  pub offloaded_at: DateTime<Utc>,
  pub document_count: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub embedding_dimension: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStats {
  /// Open indices; closed ones do not count.
  pub total_instances: usize,
  pub total_documents: u64,
  pub embedding_model: String,
  pub max_instances: usize,
  pub instances_by_namespace: BTreeMap<String, usize>,
  pub activity_monitoring: MonitoringStats,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringStats {
  pub enabled: bool,
  pub default_timeout: InactivityTimeout,
  /// Indices that are off-loaded after a time without use.
  pub active_timers: usize,
  /// Shown to the operator only.
  #[serde(skip_serializing_if = "Option::is_none")]
  #[schema(value_type = Option<String>)]
  pub offload_directory: Option<PathBuf>,
}

/// A provider of the registry, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderInfo {
  pub id: String,
  pub name: String,
  #[serde(rename = "type")]
  pub kind: ProviderKind,
  pub dimension: usize,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub model: Option<String>,
  /// Shown to the operator only.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub host: Option<String>,
  #[serde(serialize_with = "timestamp")]
  pub created: DateTime<Utc>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "optional_timestamp"
  )]
  pub last_used: Option<DateTime<Utc>>,
  /// Open indices that the caller sees and that use the provider.
  pub instances_using: usize,
  pub instance_ids: Vec<IndexId>,
  pub usage: UsageReport,
}

/// How a provider is reached, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProviderSummary {
  pub name: String,
  #[serde(rename = "type")]
  pub kind: ProviderKind,
  pub dimension: usize,
  pub model: Option<String>,
  pub host: Option<String>,
}

/// The providers there are, in the two forms that clients of the original read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderList {
  pub providers: Vec<ListedProvider>,
  pub registry_providers: Vec<RegisteredProvider>,
  pub config_providers: Vec<ConfigProvider>,
  pub stats: ProviderStats,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListedProvider {
  pub name: String,
  #[serde(rename = "type")]
  pub kind: ProviderKind,
  /// The name again.
  pub model: String,
  pub dimension: usize,
  pub description: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredProvider {
  pub name: String,
  #[serde(rename = "type")]
  pub kind: ProviderKind,
  pub dimension: usize,
  pub description: String,
  #[serde(serialize_with = "timestamp")]
  pub created: DateTime<Utc>,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "optional_timestamp"
  )]
  pub last_used: Option<DateTime<Utc>>,
}

/// A provider that the server was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConfigProvider {
  pub name: String,
  #[serde(rename = "type")]
  pub kind: ProviderKind,
  pub description: String,
  /// Whether it is in the registry.
  pub available: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStats {
  pub total_providers: usize,
  pub providers_by_type: BTreeMap<ProviderKind, usize>,
  pub providers_in_use: usize,
  /// Most used first.
  pub provider_usage: Vec<ProviderUsage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderUsage {
  pub id: String,
  pub name: String,
  #[serde(rename = "type")]
  pub kind: ProviderKind,
  pub dimension: usize,
  pub instances_using: usize,
  #[serde(
    skip_serializing_if = "Option::is_none",
    serialize_with = "optional_timestamp"
  )]
  pub last_used: Option<DateTime<Utc>>,
  #[serde(serialize_with = "timestamp")]
  pub created: DateTime<Utc>,
}

/// Result of testing a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderTrial {
  pub available: bool,
  pub message: String,
  pub provider: String,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub dimension: Option<usize>,
  #[serde(skip_serializing_if = "Option::is_none")]
  pub test_embedding_length: Option<usize>,
}

/// Result of importing a folder of the original.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderImport {
  pub imported: Vec<ImportedIndex>,
  pub failed: Vec<FailedImport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedIndex {
  pub id: IndexId,
  pub document_count: u64,
  /// Documents that were not imported, and why.
  pub skipped: Vec<SkippedDocument>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedDocument {
  pub id: String,
  pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedImport {
  pub file: PathBuf,
  pub reason: String,
}
