//! Documents as they are stored.

use std::collections::HashMap;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::types::Type;
use serde_json::Map;
use serde_json::Value;

use crate::Index;
use crate::error::IndexError;
use crate::filter::Filter;
use crate::schema;
use crate::types::Stored;
use crate::vectors;

/// Documents that are read at once where all are wanted.
const PAGE: usize = 1000;

const COLUMNS: &str = "rowid, id, text, json(metadata)";

impl Index {
  /// Returns the documents that exist among `ids`, in their order.
  ///
  /// # Errors
  /// When the file cannot be read.
  pub fn get(&self, ids: &[String], include_vectors: bool) -> Result<Vec<Stored>, IndexError> {
    self.reading(|connection, dimension| {
      let sql = format!("SELECT {COLUMNS} FROM document WHERE id = ?");
      let mut select = connection.prepare_cached(&sql)?;
      let mut found = Vec::new();
      for id in ids {
        found.extend(select.query_row([id], stored).optional()?);
      }
      drop(select);
      complete(connection, dimension.filter(|_| include_vectors), found)
    })
  }

  /// Lists a page of the documents that match the filter, with their vectors, in the order in which they
  /// were added.
  ///
  /// # Errors
  /// When the file cannot be read.
  pub fn list(
    &self,
    filter: Option<&Filter>,
    offset: u64,
    limit: u64,
  ) -> Result<Vec<Stored>, IndexError> {
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    self.reading(|connection, dimension| {
      let mut sql = format!("SELECT {COLUMNS} FROM document");
      let mut parameters = vec![bound(limit).into(), bound(offset).into()];
      if let Some(filter) = filter {
        let taken = filter.sql(3);
        sql += &format!(" WHERE {}", taken.expression);
        parameters.extend(taken.parameters);
      }
      sql += " ORDER BY rowid LIMIT ?1 OFFSET ?2";
      let mut select = connection.prepare_cached(&sql)?;
      let rows = select.query_map(rusqlite::params_from_iter(parameters), stored)?;
      let found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
      complete(connection, dimension, found)
    })
  }

  /// Gives every document with its vector to `take`, in the order in which they were added and as
  /// they are at one moment; writers go on meanwhile. `begin` gets their number first. Both
  /// get `out`.
  ///
  /// # Errors
  /// When the file cannot be read, and the first of `begin` or `take`.
  pub fn each<O, E: From<IndexError>>(
    &self,
    out: &mut O,
    begin: impl FnOnce(&mut O, u64) -> Result<(), E>,
    mut take: impl FnMut(&mut O, Stored) -> Result<(), E>,
  ) -> Result<(), E> {
    let failed = |e| self.shared.failed(e);
    let reader = self.shared.reader()?;
    let transaction = reader.unchecked_transaction().map_err(failed)?;
    begin(out, schema::state(&transaction).map_err(failed)?.count)?;
    let dimension = self.dimension();
    let sql = format!("SELECT {COLUMNS} FROM document WHERE rowid > ? ORDER BY rowid LIMIT {PAGE}");
    let mut after = i64::MIN;
    loop {
      let page = || -> rusqlite::Result<Vec<(i64, Stored)>> {
        let mut select = transaction.prepare_cached(&sql)?;
        let rows = select.query_map([after], stored)?;
        rows.collect()
      };
      let page = page().map_err(failed)?;
      let Some((last, _)) = page.last() else {
        return Ok(());
      };
      after = *last;
      for document in complete(&transaction, dimension, page).map_err(failed)? {
        take(out, document)?;
      }
    }
  }

  /// Counts the documents that match the filter.
  ///
  /// # Errors
  /// When the file cannot be read.
  pub fn count_where(&self, filter: &Filter) -> Result<u64, IndexError> {
    self.reading(|connection, _| {
      let taken = filter.sql(1);
      let sql = format!("SELECT count(*) FROM document WHERE {}", taken.expression);
      let mut select = connection.prepare_cached(&sql)?;
      select.query_row(rusqlite::params_from_iter(taken.parameters), |row| {
        row.get(0)
      })
    })
  }

  fn reading<T>(
    &self,
    read: impl FnOnce(&Connection, Option<usize>) -> rusqlite::Result<T>,
  ) -> Result<T, IndexError> {
    let dimension = self.dimension();
    let reader = self.shared.reader()?;
    // One transaction: all that is read belongs together.
    let run = || {
      let transaction = reader.unchecked_transaction()?;
      read(&transaction, dimension)
    };
    run().map_err(|e| self.shared.failed(e))
  }
}

/// A document by its rowid, without its vector.
pub(crate) fn by_rowid(connection: &Connection, rowid: i64) -> rusqlite::Result<Stored> {
  let sql = format!("SELECT {COLUMNS} FROM document WHERE rowid = ?");
  let mut select = connection.prepare_cached(&sql)?;
  select.query_row([rowid], |row| stored(row).map(|(_, document)| document))
}

fn stored(row: &Row<'_>) -> rusqlite::Result<(i64, Stored)> {
  let metadata: Option<String> = row.get(3)?;
  let metadata: Option<Map<String, Value>> = match metadata {
    None => None,
    Some(text) => Some(serde_json::from_str(&text).map_err(|error| {
      rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error))
    })?),
  };
  let document = Stored {
    id: row.get(1)?,
    text: row.get(2)?,
    metadata,
    vector: None,
  };
  Ok((row.get(0)?, document))
}

/// Adds the vectors, when there is a dimension.
fn complete(
  connection: &Connection,
  dimension: Option<usize>,
  found: Vec<(i64, Stored)>,
) -> rusqlite::Result<Vec<Stored>> {
  let mut vectors = HashMap::new();
  if let Some(dimension) = dimension {
    let rowids = found.iter().map(|(rowid, _)| *rowid);
    vectors::read(connection, dimension, rowids, |rowid, vector| {
      vectors.insert(rowid, vector.to_vec());
    })?;
  }
  let found = found.into_iter().map(|(rowid, mut document)| {
    // Not removed: an id may have been asked for twice.
    document.vector = vectors.get(&rowid).cloned();
    document
  });
  Ok(found.collect())
}
