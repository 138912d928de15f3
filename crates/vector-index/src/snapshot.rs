//! The index in memory: a copy of what the file holds at one generation. A writer makes the next
//! copy before it commits, and readers take the copy of the generation that they see, so that
//! neither waits for the other. SQLite stays the truth: a copy that does not fit is thrown away.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::budget::Loan;
use crate::budget::Memory;
use crate::quantised::Candidate;
use crate::quantised::DeletedSlots;
use crate::quantised::Scan;
use crate::quantised::Segment;

/// Vectors of a segment that is full.
pub(crate) const SEGMENT: usize = 4096;

#[derive(Debug, Clone)]
struct Part {
  segment: Arc<Segment>,
  deleted: Arc<DeletedSlots>,
}

impl Part {
  fn live(&self) -> usize {
    self.segment.len() - self.deleted.count()
  }
}

/// All vectors at one generation.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
  generation: i64,
  dimension: usize,
  parts: Vec<Part>,
}

/// The changes of one write.
#[derive(Debug, Default)]
pub(crate) struct Delta {
  pub removed: Vec<i64>,
  pub added: Segment,
}

impl Snapshot {
  pub(crate) fn new(generation: i64, dimension: usize, segments: Vec<Segment>) -> Self {
    let parts = segments.into_iter().map(|segment| Part {
      segment: Arc::new(segment.sorted(dimension)),
      deleted: Arc::default(),
    });
    Self {
      generation,
      dimension,
      parts: parts.collect(),
    }
  }

  fn after(&self, generation: i64, delta: Delta) -> Self {
    let mut next = self.clone();
    next.generation = generation;
    for rowid in &delta.removed {
      for part in &mut next.parts {
        if let Some(slot) = part.segment.find(*rowid)
          && !part.deleted.has(slot)
        {
          Arc::make_mut(&mut part.deleted).add(slot);
        }
      }
    }
    next.parts.retain(|part| part.live() > 0);
    if delta.added.len() > 0 {
      next.parts.push(Part {
        segment: Arc::new(delta.added.sorted(self.dimension)),
        deleted: Arc::default(),
      });
    }
    next.tidy();
    next
  }

  /// Merges the newest segments, so that there are few, and rewrites those with many deleted vectors.
  fn tidy(&mut self) {
    let dimension = self.dimension;
    while let [.., a, b] = self.parts.as_slice()
      && a.live() <= 2 * b.live()
      && a.live() + b.live() <= SEGMENT
    {
      let merged = Segment::merged(
        [(&*a.segment, &*a.deleted), (&*b.segment, &*b.deleted)],
        dimension,
      );
      self.parts.truncate(self.parts.len() - 2);
      self.parts.push(Part {
        segment: Arc::new(merged),
        deleted: Arc::default(),
      });
    }
    for part in &mut self.parts {
      if part.deleted.count() * 3 > part.segment.len() {
        let nothing = (&Segment::default(), &DeletedSlots::default());
        let rewritten = Segment::merged([(&*part.segment, &*part.deleted), nothing], dimension);
        *part = Part {
          segment: Arc::new(rewritten),
          deleted: Arc::default(),
        };
      }
    }
  }

  pub(crate) fn scan(&self, mut scan: Scan, allowed: Option<&[i64]>) -> Vec<Candidate> {
    for part in &self.parts {
      scan.add(&part.segment, &part.deleted, allowed);
    }
    scan.finish()
  }

  pub(crate) fn bytes(&self) -> usize {
    let count = self.parts.iter().map(|part| part.segment.len()).sum();
    Segment::bytes_for(count, self.dimension)
  }
}

#[derive(Debug, Default)]
enum Phase {
  #[default]
  Empty,
  /// A thread reads the file; changes written meanwhile are applied after it.
  Loading {
    ticket: u64,
    deltas: Vec<(i64, Delta)>,
    loan: Loan,
  },
  Ready {
    current: Arc<Snapshot>,
    loan: Loan,
    /// The snapshot of the write that is committing.
    next: Option<Arc<Snapshot>>,
  },
}

impl Phase {
  fn at(&self, generation: i64) -> Option<Arc<Snapshot>> {
    let Self::Ready { current, next, .. } = self else {
      return None;
    };
    let mut copies = [Some(current), next.as_ref()].into_iter().flatten();
    copies.find(|copy| copy.generation == generation).cloned()
  }
}

#[derive(Debug, Default)]
struct Inner {
  phase: Phase,
  tickets: u64,
}

/// The snapshot for a reader.
pub(crate) enum Lookup {
  Ready(Arc<Snapshot>),
  /// The reader's transaction is older than every snapshot: it must begin again.
  Behind,
  /// The caller must read the file and pass the snapshot to [`Cache::loaded`] with this ticket.
  Load(u64),
  /// There is no snapshot now.
  Absent,
}

/// An index for which no memory is left is searched by sqlite-vec.
#[derive(Debug)]
pub(crate) struct Cache {
  memory: Arc<Memory>,
  inner: Mutex<Inner>,
}

impl Cache {
  pub(crate) fn new(memory: Arc<Memory>) -> Self {
    Self {
      memory,
      inner: Mutex::default(),
    }
  }

  /// The copy of that generation, if there is one.
  pub(crate) fn ready(&self, generation: i64) -> Option<Arc<Snapshot>> {
    self.lock().phase.at(generation)
  }

  pub(crate) fn look_up(&self, generation: i64, count: u64, dimension: usize) -> Lookup {
    let mut inner = self.lock();
    if let Some(copy) = inner.phase.at(generation) {
      return Lookup::Ready(copy);
    }
    match &inner.phase {
      Phase::Ready { current, .. } => {
        if generation < current.generation {
          return Lookup::Behind;
        }
        // Another process has written.
        inner.phase = Phase::Empty;
      }
      Phase::Loading { .. } => return Lookup::Absent,
      Phase::Empty => {}
    }
    let bytes = Segment::bytes_for(count as usize, dimension);
    let Some(loan) = self.memory.lend(bytes) else {
      return Lookup::Absent;
    };
    inner.tickets += 1;
    let ticket = inner.tickets;
    inner.phase = Phase::Loading {
      ticket,
      deltas: Vec::new(),
      loan,
    };
    Lookup::Load(ticket)
  }

  /// Takes the snapshot that was read, or `None` if that failed.
  pub(crate) fn loaded(&self, ticket: u64, snapshot: Option<Snapshot>) {
    let mut snapshot = snapshot;
    loop {
      let mut inner = self.lock();
      let Phase::Loading {
        ticket: now,
        deltas,
        ..
      } = &mut inner.phase
      else {
        return;
      };
      if *now != ticket {
        return;
      }
      let Some(read) = &mut snapshot else {
        inner.phase = Phase::Empty;
        return;
      };
      let mut deltas = std::mem::take(deltas);
      deltas.retain(|(generation, _)| *generation > read.generation);
      if deltas.is_empty() {
        if let Phase::Loading { mut loan, .. } = std::mem::take(&mut inner.phase)
          && let Some(read) = snapshot
          && loan.resize(read.bytes())
        {
          inner.phase = Phase::Ready {
            current: Arc::new(read),
            loan,
            next: None,
          };
        }
        return;
      }
      drop(inner);
      for (generation, delta) in deltas {
        if generation != read.generation + 1 {
          self.forget();
          return;
        }
        *read = read.after(generation, delta);
      }
    }
  }

  /// Whether writers must supply a delta.
  pub(crate) fn is_in_use(&self) -> bool {
    !matches!(self.lock().phase, Phase::Empty)
  }

  /// Prepares the snapshot of a write before the write is committed.
  pub(crate) fn prepare(&self, generation: i64, delta: Option<Delta>) -> Prepared<'_> {
    let current = match &self.lock().phase {
      Phase::Ready { current, .. } if current.generation + 1 == generation => Some(current.clone()),
      _ => None,
    };
    let mut prepared = Prepared {
      cache: self,
      generation,
      delta,
      published: false,
    };
    if let Some(current) = current
      && let Some(delta) = prepared.delta.take()
    {
      let after = Arc::new(current.after(generation, delta));
      if let Phase::Ready { next, .. } = &mut self.lock().phase {
        *next = Some(after);
      }
    }
    prepared
  }

  pub(crate) fn bytes(&self) -> usize {
    match &self.lock().phase {
      Phase::Ready { current, .. } => current.bytes(),
      _ => 0,
    }
  }

  fn forget(&self) {
    self.lock().phase = Phase::Empty;
  }

  fn lock(&self) -> MutexGuard<'_, Inner> {
    self.inner.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

/// The snapshot of a write that is about to be committed; drop discards it.
pub(crate) struct Prepared<'a> {
  cache: &'a Cache,
  generation: i64,
  delta: Option<Delta>,
  published: bool,
}

impl Prepared<'_> {
  pub(crate) fn publish(mut self) {
    self.published = true;
    let mut inner = self.cache.lock();
    let done = match &mut inner.phase {
      Phase::Empty => true,
      Phase::Loading { deltas, .. } => match self.delta.take() {
        Some(delta) => {
          deltas.push((self.generation, delta));
          true
        }
        None => false,
      },
      Phase::Ready {
        current,
        next,
        loan,
      } => {
        let after = match next.take() {
          Some(after) if after.generation == self.generation => Some(after),
          // The load ended while this was written.
          _ if current.generation + 1 == self.generation => {
            let delta = self.delta.take();
            delta.map(|delta| Arc::new(current.after(self.generation, delta)))
          }
          _ => None,
        };
        match after {
          Some(after) if loan.resize(after.bytes()) => {
            *current = after;
            true
          }
          Some(_) => false,
          None => current.generation >= self.generation,
        }
      }
    };
    if !done {
      inner.phase = Phase::Empty;
    }
  }
}

impl Drop for Prepared<'_> {
  fn drop(&mut self) {
    if !self.published
      && let Phase::Ready { next, .. } = &mut self.cache.lock().phase
    {
      *next = None;
    }
  }
}
