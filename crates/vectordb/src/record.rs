//! The record of an index, kept in its file: what it is besides its documents.

use chrono::DateTime;
use chrono::Utc;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::error::VectorError;
use crate::id::IndexId;
use crate::options::CreateIndex;
use crate::options::InactivityTimeout;
use crate::options::VectorDbOptions;
use crate::permission::Ownership;
use crate::permission::Permission;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexRecord {
  pub id: IndexId,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub namespace: Option<String>,
  pub created: DateTime<Utc>,
  /// Differs between all indices that ever had this id.
  pub incarnation: Uuid,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub embedding_model: Option<String>,
  /// The name of its provider; `None` means the default of the server.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub provider: Option<String>,
  #[serde(default)]
  pub permission: Permission,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub max_documents: Option<u64>,
  /// `None` means the default of the server.
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub inactivity_timeout: Option<InactivityTimeout>,
  #[serde(default, skip_serializing_if = "Option::is_none")]
  pub activity_monitoring: Option<bool>,
}

impl IndexRecord {
  pub(crate) fn new(id: IndexId, namespace: Option<String>) -> Self {
    Self {
      id,
      namespace,
      created: Utc::now(),
      incarnation: Uuid::new_v4(),
      embedding_model: None,
      provider: None,
      permission: Permission::default(),
      max_documents: None,
      inactivity_timeout: None,
      activity_monitoring: None,
    }
  }

  pub(crate) fn ownership(&self) -> Ownership {
    Ownership {
      namespace: self.namespace.clone(),
      permission: self.permission,
    }
  }

  /// Applies the members that a request has.
  pub(crate) fn apply(&mut self, request: &CreateIndex) {
    fn take<T: Clone>(place: &mut Option<T>, said: Option<&T>) {
      if let Some(said) = said {
        *place = Some(said.clone());
      }
    }
    take(&mut self.embedding_model, request.embedding_model.as_ref());
    take(&mut self.provider, request.embedding_provider_name.as_ref());
    take(&mut self.max_documents, request.max_documents.as_ref());
    take(
      &mut self.inactivity_timeout,
      request.inactivity_timeout.as_ref(),
    );
    take(
      &mut self.activity_monitoring,
      request.enable_activity_monitoring.as_ref(),
    );
    if let Some(permission) = request.permission {
      self.permission = permission;
    }
  }

  pub(crate) fn to_value(&self) -> Value {
    // Strings, numbers and names only, which JSON has.
    serde_json::to_value(self).unwrap_or_default()
  }

  /// # Errors
  /// When the file is that of another index, or of none.
  pub(crate) fn read(value: Value, id: &IndexId) -> Result<Self, VectorError> {
    let record: Self = serde_json::from_value(value).map_err(|e| {
      VectorError::Corrupt(format!(
        "vector index {id}: its description cannot be read: {e}"
      ))
    })?;
    if record.id != *id {
      return Err(VectorError::Corrupt(format!(
        "vector index {id}: its file is that of {}",
        record.id
      )));
    }
    Ok(record)
  }

  pub(crate) fn timeout(&self, options: &VectorDbOptions) -> InactivityTimeout {
    self.inactivity_timeout.unwrap_or(options.default_timeout)
  }

  /// Whether it is off-loaded after a time without use.
  pub(crate) fn is_monitored(&self, options: &VectorDbOptions) -> bool {
    options.activity_monitoring && self.activity_monitoring != Some(false)
  }
}
