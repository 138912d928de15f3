//! Full-text search, and the fusion of its list with that of the vectors.

use std::collections::HashMap;
use std::collections::HashSet;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::filter::Filter;

/// Maximum of different words of a query; further ones do not count.
const MAX_WORDS: usize = 200;

/// The constant of reciprocal rank fusion: how little first places stand out. The usual 60 is for lists that are all
/// good: here most of what the words of a question find, which are any of them, is noise, and with 60 a document
/// deep in both lists passes the first of one. Any value from 2 to 5 does as well (test `retrieval` of vectordb).
const RANK_OFFSET: f64 = 3.0;

/// How much a place in the list by vectors counts, beside one in the list by words: the first by words alone comes
/// in beside the fifth by vectors.
const VECTOR_WEIGHT: f64 = 2.0;

/// The best documents that have any of the words, with the rank that SQLite gives them: negative,
/// the least being the best.
pub(crate) fn search(
  connection: &Connection,
  text: &str,
  filter: Option<&Filter>,
  limit: usize,
) -> rusqlite::Result<Vec<(i64, f64)>> {
  let Some(expression) = expression(text) else {
    return Ok(Vec::new());
  };
  let mut sql = "SELECT rowid, rank FROM words WHERE words MATCH ?1".to_owned();
  let limit = i64::try_from(limit).unwrap_or(i64::MAX);
  let mut parameters = vec![Value::from(expression), Value::from(limit)];
  if let Some(filter) = filter {
    let taken = filter.sql(3);
    sql += &format!(
      " AND rowid IN (SELECT rowid FROM document WHERE {})",
      taken.expression
    );
    parameters.extend(taken.parameters);
  }
  sql += " ORDER BY rank, rowid LIMIT ?2";
  let mut select = connection.prepare_cached(&sql)?;
  let rows = select.query_map(rusqlite::params_from_iter(parameters), |row| {
    Ok((row.get(0)?, row.get(1)?))
  })?;
  rows.collect()
}

/// A similarity from 0 to 1 that falls as the rank grows.
pub(crate) fn score(rank: f64) -> f32 {
  let relevance = (-rank).max(0.0);
  (relevance / (1.0 + relevance)) as f32
}

/// An expression for any of the words. Each is quoted, so that none is an operator.
fn expression(text: &str) -> Option<String> {
  let mut seen = HashSet::new();
  let words = text
    .split(|c: char| c.is_whitespace() || c == '\0')
    .filter(|word| word.chars().any(char::is_alphanumeric) && seen.insert(*word));
  let quoted: Vec<String> = words
    .take(MAX_WORDS)
    .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
    .collect();
  (!quoted.is_empty()).then(|| quoted.join(" OR "))
}

/// Fuses both lists by rank, best first. A document that is first in both gets 1.
pub(crate) fn fuse(by_vector: &[i64], by_words: &[i64]) -> Vec<(i64, f32)> {
  let mut sums = HashMap::<i64, f64>::new();
  for (list, weight) in [(by_vector, VECTOR_WEIGHT), (by_words, 1.0)] {
    for (place, rowid) in list.iter().enumerate() {
      *sums.entry(*rowid).or_default() += weight / (RANK_OFFSET + 1.0 + place as f64);
    }
  }
  let most = (VECTOR_WEIGHT + 1.0) / (RANK_OFFSET + 1.0);
  let mut fused: Vec<(i64, f64)> = sums.into_iter().collect();
  fused.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
  let scored = fused
    .into_iter()
    .map(|(rowid, sum)| (rowid, (sum / most) as f32));
  scored.collect()
}
