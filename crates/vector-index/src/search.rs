//! Queries.

use std::collections::HashMap;
use std::thread;

use rusqlite::Connection;

use crate::Index;
use crate::check;
use crate::error::IndexError;
use crate::fulltext;
use crate::nearest;
use crate::nearest::NearestSearch;
use crate::nearest::Neighbour;
use crate::read;
use crate::schema;
use crate::snapshot::Lookup;
use crate::types::Hit;
use crate::types::IndexOptions;
use crate::types::Metric;
use crate::types::Query;
use crate::vectors;

/// Bytes of vectors that a query reads into memory itself; with more it leaves that to a thread,
/// and asks sqlite-vec meanwhile.
const LOAD_BYTES: u64 = 64 << 20;

/// How deep the lists are that are fused, in pages of hits, and at least.
const FUSED_PAGES: usize = 4;
const FUSED_HITS: usize = 100;

/// How often a query begins again because a write was committed in between, before it searches without
/// what is in memory.
const MAX_RESTARTS: usize = 3;

/// A document that was found.
#[derive(Clone, Copy)]
struct Found {
  rowid: i64,
  score: f32,
  distance: Option<f32>,
}

enum Outcome<T> {
  Done(T),
  /// The search must begin again: its view of the file is older than the snapshot in memory.
  Behind,
}

impl Index {
  /// Finds documents, best first.
  ///
  /// # Errors
  /// When the query has neither vector nor text, or its vector does not fit.
  pub fn query(&self, query: &Query) -> Result<Vec<Hit>, IndexError> {
    let options = self.options();
    let text = query.text.as_deref().filter(|text| !text.is_empty());
    if query.vector.is_none() && text.is_none() {
      return Err(IndexError::Invalid(
        "query: has neither vector nor text; give one of them".into(),
      ));
    }
    if !query.threshold.is_finite() {
      return Err(IndexError::Invalid(
        "threshold: must be a finite number".into(),
      ));
    }
    let mut vector = query.vector.clone();
    if let Some(vector) = &mut vector {
      let dimension = options.dimension.unwrap_or(vector.len());
      check::vector(vector, dimension, &options, || "query".to_owned())?;
    }
    let wanted = query.offset.saturating_add(query.k);
    if options.dimension.is_none() || query.k == 0 {
      return Ok(Vec::new());
    }
    let mut restarts = MAX_RESTARTS;
    loop {
      let may_restart = restarts > 0;
      let outcome = self.attempt(query, vector.as_deref(), text, wanted, may_restart)?;
      if let Outcome::Done(hits) = outcome {
        return Ok(hits);
      }
      restarts = restarts.saturating_sub(1);
    }
  }

  /// Searches in one transaction. The outcome is [`Outcome::Behind`] only if `may_restart`.
  fn attempt(
    &self,
    query: &Query,
    vector: Option<&[f32]>,
    text: Option<&str>,
    wanted: usize,
    may_restart: bool,
  ) -> Result<Outcome<Vec<Hit>>, IndexError> {
    let IndexOptions {
      metric, dimension, ..
    } = self.options();
    let filter = query.filter.as_ref();
    let reader = self.shared.reader()?;
    let run = || -> rusqlite::Result<Outcome<Vec<Hit>>> {
      let transaction = reader.unchecked_transaction()?;
      let found = match (vector, text) {
        (Some(vector), text) => {
          let k = match text {
            None => wanted,
            Some(_) => wanted.saturating_mul(FUSED_PAGES).max(FUSED_HITS),
          };
          let search = NearestSearch {
            vector,
            metric,
            k,
            filter,
          };
          let Outcome::Done(neighbours) = self.nearest(&transaction, &search, may_restart)? else {
            return Ok(Outcome::Behind);
          };
          match text {
            None => by_distance(neighbours, metric),
            Some(text) => fused(
              &neighbours,
              fulltext::search(&transaction, text, filter, k)?,
            ),
          }
        }
        (None, text) => {
          let text = text.unwrap_or_default();
          by_rank(fulltext::search(&transaction, text, filter, wanted)?)
        }
      };
      let found = found
        .into_iter()
        .filter(|found| found.score >= query.threshold);
      let page: Vec<Found> = found.skip(query.offset).take(query.k).collect();
      let dimension = dimension.unwrap_or_default();
      hits(&transaction, dimension, query, &page).map(Outcome::Done)
    };
    run().map_err(|e| self.shared.failed(e))
  }

  fn nearest(
    &self,
    connection: &Connection,
    search: &NearestSearch<'_>,
    may_restart: bool,
  ) -> rusqlite::Result<Outcome<Vec<Neighbour>>> {
    let state = schema::state(connection)?;
    let search = NearestSearch {
      k: search
        .k
        .min(usize::try_from(state.count).unwrap_or(usize::MAX)),
      ..*search
    };
    if search.k == 0 {
      return Ok(Outcome::Done(Vec::new()));
    }
    if let Some(filter) = search.filter
      && let Some(snapshot) = self.shared.cache.ready(state.generation)
      && let Some(neighbours) =
        nearest::passing(connection, &search, filter, &snapshot, state.count)?
    {
      return Ok(Outcome::Done(neighbours));
    }
    let allowed = match search.filter {
      Some(filter) => Some(filter.rowids(connection)?),
      None => None,
    };
    if let Some(few) = allowed
      .as_ref()
      .filter(|allowed| nearest::are_few(allowed.len(), state.count))
    {
      return nearest::of(connection, &search, few.iter().copied()).map(Outcome::Done);
    }
    let dimension = search.vector.len();
    let snapshot = match self
      .shared
      .cache
      .look_up(state.generation, state.count, dimension)
    {
      Lookup::Ready(snapshot) => Some(snapshot),
      Lookup::Behind if may_restart => return Ok(Outcome::Behind),
      Lookup::Behind | Lookup::Absent => None,
      Lookup::Load(ticket) => {
        if state.count * 4 * dimension as u64 <= LOAD_BYTES {
          self.shared.load(connection, ticket)?
        } else {
          self.load_aside(ticket);
          None
        }
      }
    };
    let neighbours = match snapshot {
      Some(snapshot) => nearest::with_memory(
        connection,
        &search,
        &snapshot,
        state.count,
        allowed.as_deref(),
      ),
      None => nearest::without_memory(connection, &search, allowed.as_deref()),
    };
    neighbours.map(Outcome::Done)
  }

  /// Reads the vectors into memory on a thread of its own.
  pub(crate) fn load_aside(&self, ticket: u64) {
    let shared = self.shared.clone();
    let load = move || {
      let loaded = shared.reader().and_then(|reader| {
        let transaction = reader
          .unchecked_transaction()
          .map_err(|e| shared.failed(e))?;
        shared
          .load(&transaction, ticket)
          .map_err(|e| shared.failed(e))
      });
      if let Err(error) = loaded {
        shared.cache.loaded(ticket, None);
        tracing::warn!(%error, "an index could not be read into memory");
      }
    };
    let thread = thread::Builder::new().name("index-load".into()).spawn(load);
    match thread {
      Ok(thread) => {
        let mut loader = self
          .loader
          .lock()
          .unwrap_or_else(std::sync::PoisonError::into_inner);
        *loader = Some(thread);
      }
      Err(error) => {
        self.shared.cache.loaded(ticket, None);
        tracing::warn!(%error, "no thread to read an index into memory");
      }
    }
  }
}

fn by_distance(neighbours: Vec<Neighbour>, metric: Metric) -> Vec<Found> {
  let found = neighbours.into_iter().map(|neighbour| Found {
    rowid: neighbour.rowid,
    score: metric.score(neighbour.distance),
    distance: Some(neighbour.distance),
  });
  found.collect()
}

fn by_rank(ranked: Vec<(i64, f64)>) -> Vec<Found> {
  let found = ranked.into_iter().map(|(rowid, rank)| Found {
    rowid,
    score: fulltext::score(rank),
    distance: None,
  });
  found.collect()
}

fn fused(neighbours: &[Neighbour], ranked: Vec<(i64, f64)>) -> Vec<Found> {
  let distances: HashMap<i64, f32> = neighbours.iter().map(|n| (n.rowid, n.distance)).collect();
  let by_vector: Vec<i64> = neighbours.iter().map(|it| it.rowid).collect();
  let by_words: Vec<i64> = ranked.into_iter().map(|(rowid, _)| rowid).collect();
  let found = fulltext::fuse(&by_vector, &by_words)
    .into_iter()
    .map(|(rowid, score)| Found {
      rowid,
      score,
      distance: distances.get(&rowid).copied(),
    });
  found.collect()
}

fn hits(
  connection: &Connection,
  dimension: usize,
  query: &Query,
  page: &[Found],
) -> rusqlite::Result<Vec<Hit>> {
  let mut read_vectors = HashMap::new();
  if query.include_vectors {
    let rowids = page.iter().map(|found| found.rowid);
    vectors::read(connection, dimension, rowids, |rowid, vector| {
      read_vectors.insert(rowid, vector.to_vec());
    })?;
  }
  let hits = page.iter().map(|found| {
    let document = read::by_rowid(connection, found.rowid)?;
    Ok(Hit {
      id: document.id,
      score: found.score,
      distance: found.distance,
      text: document.text,
      metadata: document.metadata.filter(|_| query.include_metadata),
      vector: read_vectors.remove(&found.rowid),
    })
  });
  hits.collect()
}
