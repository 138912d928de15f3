//! Indices that are not there.

use crate::error::VectorError;
use crate::id::IndexId;

/// What each operation answers when there is no such index, or none that the caller may know of.
impl VectorError {
  pub fn no_index(id: &IndexId) -> Self {
    Self::NotFound(format!("Vector database instance {id} not found"))
  }

  pub fn not_open(_: &IndexId) -> Self {
    Self::NotFound("Vector index not found".into())
  }

  pub fn not_pinged(_: &IndexId) -> Self {
    Self::NotFound("Failed to ping vector index or index not found".into())
  }

  pub fn not_offloaded(id: &IndexId) -> Self {
    Self::NotFound(format!("Offloaded index {id} not found"))
  }
}
