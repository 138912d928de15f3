//! Changes of the documents: each is one transaction.

use std::sync::atomic::Ordering;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::TransactionBehavior;

use crate::Index;
use crate::check;
use crate::error::IndexError;
use crate::filter::Filter;
use crate::schema;
use crate::snapshot::Delta;
use crate::types::Document;
use crate::types::Upserted;
use crate::vectors;
use crate::vectors::VectorWriter;

impl Index {
  /// Adds the documents; a document replaces that of the same id.
  ///
  /// # Errors
  /// Names the first document that is wrong; nothing has changed then.
  pub fn upsert(&self, mut documents: Vec<Document>) -> Result<Upserted, IndexError> {
    let shared = &*self.shared;
    let mut writer = shared.writer();
    // Read while no other writer can give the index its dimension.
    let mut options = self.options();
    let dimension = check::batch(&mut documents, &options)?;
    let Some(dimension) = dimension else {
      return Ok(Upserted::default());
    };
    let is_first = options.dimension.is_none();
    options.dimension = Some(dimension);
    let cached = shared.cache.is_in_use();
    let mut upsert = || -> rusqlite::Result<Upserted> {
      let transaction = begin(&mut writer)?;
      if is_first {
        schema::create_vectors(&transaction, dimension, options.metric)?;
        schema::set(&transaction, "options", &schema::options_text(&options))?;
      }
      let mut delta = cached.then(Delta::default);
      let mut done = Upserted::default();
      let mut vectors = VectorWriter::new(&transaction);
      for document in &documents {
        let (rowid, is_new) = put(&transaction, document)?;
        if is_new {
          vectors.insert(rowid, &document.vector)?;
          done.added += 1;
        } else {
          vectors.replace(rowid, &document.vector)?;
          done.replaced += 1;
        }
        if let Some(delta) = &mut delta {
          if !is_new {
            delta.removed.push(rowid);
          }
          delta.added.push(rowid, &document.vector, options.metric);
        }
      }
      self.commit(transaction, done.added as i64, delta)?;
      Ok(done)
    };
    let done = upsert().map_err(|e| shared.failed(e))?;
    if is_first {
      shared.change_settings(|settings| settings.options = options);
    }
    Ok(done)
  }

  /// Deletes documents and returns how many there were.
  ///
  /// # Errors
  /// When it cannot be written; nothing has changed then.
  pub fn delete(&self, ids: &[String]) -> Result<usize, IndexError> {
    self.remove(|transaction| {
      let mut find = transaction.prepare_cached("SELECT rowid FROM document WHERE id = ?")?;
      let mut rowids: Vec<i64> = Vec::new();
      for id in ids {
        rowids.extend(
          find
            .query_row([id], |row| row.get::<_, i64>(0))
            .optional()?,
        );
      }
      rowids.sort_unstable();
      rowids.dedup();
      Ok(rowids)
    })
  }

  /// Deletes the documents that match the filter and returns how many there were.
  ///
  /// # Errors
  /// When it cannot be written; nothing has changed then.
  pub fn delete_where(&self, filter: &Filter) -> Result<usize, IndexError> {
    self.remove(|transaction| filter.rowids(transaction))
  }

  fn remove(
    &self,
    find: impl FnOnce(&Connection) -> rusqlite::Result<Vec<i64>>,
  ) -> Result<usize, IndexError> {
    let shared = &*self.shared;
    let mut writer = shared.writer();
    let cached = shared.cache.is_in_use();
    let Some(dimension) = self.dimension() else {
      return Ok(0);
    };
    let remove = || -> rusqlite::Result<usize> {
      let transaction = begin(&mut writer)?;
      let rowids = find(&transaction)?;
      if rowids.is_empty() {
        return Ok(0);
      }
      {
        let vectors = VectorWriter::new(&transaction);
        let mut words = transaction.prepare_cached("DELETE FROM words WHERE rowid = ?")?;
        let mut document = transaction
          .prepare_cached("DELETE FROM document WHERE rowid = ? RETURNING text IS NULL")?;
        for rowid in &rowids {
          if !document.query_row([rowid], |row| row.get(0))? {
            words.execute([rowid])?;
          }
          vectors.delete(*rowid)?;
        }
      }
      let removed = rowids.len();
      let count = schema::state(&transaction)?
        .count
        .saturating_sub(removed as u64);
      vectors::compact(&transaction, dimension, count)?;
      let delta = cached.then(|| Delta {
        removed: rowids,
        ..Delta::default()
      });
      self.commit(transaction, -(removed as i64), delta)?;
      Ok(removed)
    };
    remove().map_err(|e| shared.failed(e))
  }

  fn commit(
    &self,
    transaction: Transaction<'_>,
    added: i64,
    delta: Option<Delta>,
  ) -> rusqlite::Result<()> {
    let state = schema::advance(&transaction, added)?;
    let prepared = self.shared.cache.prepare(state.generation, delta);
    transaction.commit()?;
    prepared.publish();
    self.shared.count.store(state.count, Ordering::Release);
    Ok(())
  }
}

fn begin(writer: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
  writer.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Writes a document without its vector. Returns its rowid, and whether it is new.
fn put(connection: &Connection, document: &Document) -> rusqlite::Result<(i64, bool)> {
  let metadata = document
    .metadata
    .as_ref()
    .map(|members| serde_json::json!(members).to_string());
  let old: Option<(i64, bool)> = connection
    .prepare_cached("SELECT rowid, text IS NOT NULL FROM document WHERE id = ?")?
    .query_row([&document.id], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()?;
  let rowid = match old {
    None => {
      connection
        .prepare_cached("INSERT INTO document(id, metadata, text) VALUES (?, jsonb(?), ?)")?
        .execute((&document.id, metadata, &document.text))?;
      connection.last_insert_rowid()
    }
    Some((rowid, has_text)) => {
      connection
        .prepare_cached("UPDATE document SET metadata = jsonb(?2), text = ?3 WHERE rowid = ?1")?
        .execute((rowid, metadata, &document.text))?;
      if has_text {
        connection
          .prepare_cached("DELETE FROM words WHERE rowid = ?")?
          .execute([rowid])?;
      }
      rowid
    }
  };
  if document.text.is_some() {
    connection
      .prepare_cached("INSERT INTO words(rowid, text) VALUES (?, ?)")?
      .execute((rowid, &document.text))?;
  }
  Ok((rowid, old.is_none()))
}
