//! Finds the nearest vectors, exactly.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::Shared;
use crate::filter::Filter;
use crate::quantised::Ordered;
use crate::quantised::Scan;
use crate::quantised::Segment;
use crate::schema;
use crate::simd;
use crate::snapshot::SEGMENT;
use crate::snapshot::Snapshot;
use crate::types::Metric;
use crate::vectors;

/// Maximum of results of sqlite-vec.
const SQLITE_VEC_MOST: usize = 4096;

/// Time to fetch one vector, measured in vectors passed over in a scan.
const FETCH_COST: u64 = 12;

/// How many of the nearest of all are shown to a filter for each wanted one, and the least of them.
const AMONG: usize = 32;
const AMONG_LEAST: usize = 256;

/// A search for the vectors nearest to one.
#[derive(Clone, Copy)]
pub(crate) struct NearestSearch<'a> {
  pub vector: &'a [f32],
  pub metric: Metric,
  pub k: usize,
  pub filter: Option<&'a Filter>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbour {
  pub rowid: i64,
  pub distance: f32,
}

impl Neighbour {
  /// Sorts by distance; of equals the older document comes first.
  fn key(&self) -> (Ordered, i64) {
    (Ordered(self.distance), self.rowid)
  }
}

/// Whether it is faster to fetch and compare that many vectors than to scan.
pub(crate) fn are_few(some: usize, count: u64) -> bool {
  some <= 200 || some as u64 * FETCH_COST < count / 4
}

/// The k nearest of these documents.
pub(crate) fn of(
  connection: &Connection,
  search: &NearestSearch<'_>,
  rowids: impl IntoIterator<Item = i64>,
) -> rusqlite::Result<Vec<Neighbour>> {
  let distance = Distance::new(search);
  let mut neighbours = Vec::new();
  vectors::read(connection, search.vector.len(), rowids, |rowid, vector| {
    let distance = distance.to(vector);
    neighbours.push(Neighbour { rowid, distance });
  })?;
  neighbours.sort_unstable_by_key(Neighbour::key);
  neighbours.truncate(search.k);
  Ok(neighbours)
}

/// Scans the bytes in memory, and compares exactly the vectors that can be among the nearest.
pub(crate) fn with_memory(
  connection: &Connection,
  search: &NearestSearch<'_>,
  snapshot: &Arc<Snapshot>,
  count: u64,
  allowed: Option<&[i64]>,
) -> rusqlite::Result<Vec<Neighbour>> {
  let scale = Scan::new(search.vector, search.metric, search.k);
  let candidates = snapshot.scan(Scan::new(search.vector, search.metric, search.k), allowed);
  // The best estimates first: their exact distances rule most others out.
  let first = candidates.len().min(search.k + 16);
  let (first, rest) = candidates.split_at(first);
  let mut neighbours = of(
    connection,
    search,
    first.iter().map(|candidate| candidate.rowid),
  )?;
  let worst = neighbours.last().filter(|_| neighbours.len() == search.k);
  let worst = worst.map_or(f32::NEG_INFINITY, |worst| scale.key(worst.distance));
  let rest: Vec<i64> = rest
    .iter()
    .filter(|candidate| candidate.upper >= worst)
    .map(|candidate| candidate.rowid)
    .collect();
  if rest.len() > 200 && rest.len() as u64 * FETCH_COST > count {
    // Too many are nearly as near for bytes to separate them.
    return without_memory(connection, search, allowed);
  }
  neighbours.extend(of(connection, search, rest)?);
  neighbours.sort_unstable_by_key(Neighbour::key);
  neighbours.truncate(search.k);
  Ok(neighbours)
}

/// The k nearest that match the filter, or `None` if fewer than k of the nearest of all match. Filtering
/// only those is faster than filtering every document.
pub(crate) fn passing(
  connection: &Connection,
  search: &NearestSearch<'_>,
  filter: &Filter,
  snapshot: &Arc<Snapshot>,
  count: u64,
) -> rusqlite::Result<Option<Vec<Neighbour>>> {
  let depth = search.k.saturating_mul(AMONG).max(AMONG_LEAST);
  if depth as u64 * FETCH_COST > count {
    return Ok(None);
  }
  let everything = NearestSearch {
    k: depth,
    filter: None,
    ..*search
  };
  let mut neighbours = with_memory(connection, &everything, snapshot, count, None)?;
  let taken = filter.taken(
    connection,
    neighbours.iter().map(|neighbour| neighbour.rowid),
  )?;
  neighbours.retain(|neighbour| taken.contains(&neighbour.rowid));
  neighbours.truncate(search.k);
  Ok((neighbours.len() == search.k).then_some(neighbours))
}

/// Compares all vectors in the file.
pub(crate) fn without_memory(
  connection: &Connection,
  search: &NearestSearch<'_>,
  allowed: Option<&[i64]>,
) -> rusqlite::Result<Vec<Neighbour>> {
  if search.metric != Metric::Dot && search.k <= SQLITE_VEC_MOST {
    let rowids = sqlite_vec(connection, search)?;
    return of(connection, search, rowids);
  }
  let distance = Distance::new(search);
  let mut nearest = BinaryHeap::with_capacity(search.k + 1);
  vectors::read_all(connection, search.vector.len(), |rowid, vector| {
    if allowed.is_none_or(|allowed| allowed.binary_search(&rowid).is_ok()) {
      nearest.push((Ordered(distance.to(vector)), rowid));
      if nearest.len() > search.k {
        nearest.pop();
      }
    }
    true
  })?;
  let nearest = nearest.into_sorted_vec().into_iter();
  let neighbours = nearest.map(|(Ordered(distance), rowid)| Neighbour { rowid, distance });
  Ok(neighbours.collect())
}

/// The rowids that sqlite-vec finds.
fn sqlite_vec(connection: &Connection, search: &NearestSearch<'_>) -> rusqlite::Result<Vec<i64>> {
  let mut sql = "SELECT rowid FROM vector WHERE embedding MATCH ?1 AND k = ?2".to_owned();
  let mut bytes = Vec::new();
  vectors::to_bytes(search.vector, &mut bytes);
  let mut parameters = vec![Value::from(bytes), Value::from(search.k as i64)];
  if let Some(filter) = search.filter {
    let taken = filter.sql(3);
    sql += &format!(
      " AND rowid IN (SELECT rowid FROM document WHERE {})",
      taken.expression
    );
    parameters.extend(taken.parameters);
  }
  let mut select = connection.prepare_cached(&sql)?;
  let rows = select.query_map(rusqlite::params_from_iter(parameters), |row| row.get(0))?;
  rows.collect()
}

/// The distance from one vector, by one metric.
struct Distance<'a> {
  vector: &'a [f32],
  length: f32,
  metric: Metric,
}

impl<'a> Distance<'a> {
  fn new(search: &NearestSearch<'a>) -> Self {
    Self {
      vector: search.vector,
      length: simd::dot(search.vector, search.vector).sqrt(),
      metric: search.metric,
    }
  }

  fn to(&self, other: &[f32]) -> f32 {
    match self.metric {
      Metric::Cosine => {
        let length = simd::dot(other, other).sqrt();
        1.0 - (simd::dot(self.vector, other) / self.length / length).clamp(-1.0, 1.0)
      }
      Metric::L2 => simd::squared_distance(self.vector, other).sqrt(),
      Metric::Dot => -simd::dot(self.vector, other),
    }
  }
}

impl Shared {
  /// Reads all vectors, as the transaction of `connection` sees them, into memory.
  pub(crate) fn load(
    &self,
    connection: &Connection,
    ticket: u64,
  ) -> rusqlite::Result<Option<Arc<Snapshot>>> {
    let loaded = self.read_segments(connection);
    let snapshot = loaded.as_ref().ok().and_then(Option::as_ref).cloned();
    self.cache.loaded(ticket, snapshot);
    loaded.map(|snapshot| snapshot.map(Arc::new))
  }

  /// `None` if the index is being closed.
  fn read_segments(&self, connection: &Connection) -> rusqlite::Result<Option<Snapshot>> {
    let options = self.settings().options;
    let state = schema::state(connection)?;
    let dimension = options.dimension.unwrap_or_default();
    let mut segments = vec![Segment::default()];
    let mut closing = false;
    vectors::read_all(connection, dimension, |rowid, vector| {
      closing = self.closing.load(Ordering::Acquire);
      if segments
        .last()
        .is_none_or(|segment| segment.len() >= SEGMENT)
      {
        segments.push(Segment::default());
      }
      if let Some(segment) = segments.last_mut() {
        segment.push(rowid, vector, options.metric);
      }
      !closing
    })?;
    Ok((!closing).then(|| Snapshot::new(state.generation, dimension, segments)))
  }
}
