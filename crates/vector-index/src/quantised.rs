//! Vectors as bytes, in memory. For each vector the greatest error of a product with it is known,
//! so a scan of the bytes tells which vectors can be among the best: compared exactly, these few
//! give what comparing all would.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem::size_of;

use crate::simd;
use crate::types::Metric;

/// A relative error of what is computed in single precision, with much to spare.
const ROUNDING: f32 = 4e-6;

/// Encoded vectors, by rowid.
#[derive(Debug, Default)]
pub(crate) struct Segment {
  rowids: Vec<i64>,
  codes: Vec<i8>,
  /// Value of one step of a code.
  steps: Vec<f32>,
  /// Length of the error of the codes.
  errors: Vec<f32>,
  /// Length of the vector, 1 under cosine.
  lengths: Vec<f32>,
}

impl Segment {
  pub(crate) fn len(&self) -> usize {
    self.rowids.len()
  }

  pub(crate) fn bytes_for(count: usize, dimension: usize) -> usize {
    count * (dimension + size_of::<i64>() + 3 * size_of::<f32>())
  }

  pub(crate) fn push(&mut self, rowid: i64, vector: &[f32], metric: Metric) {
    let greatest = simd::greatest(vector);
    let scale = if greatest > 0.0 {
      127.0 / greatest
    } else {
      0.0
    };
    let (length, error) = simd::encode(vector, scale, &mut self.codes);
    let (length, error) = (length.sqrt(), error.sqrt());
    let unit = match metric {
      Metric::Cosine => 1.0 / length,
      Metric::L2 | Metric::Dot => 1.0,
    };
    self.rowids.push(rowid);
    self.steps.push(greatest / 127.0 * unit);
    self.lengths.push(length * unit);
    self.errors.push(error * unit + ROUNDING * length * unit);
  }

  /// Brings the vectors into the order of their rowids.
  pub(crate) fn sorted(self, dimension: usize) -> Self {
    if self.rowids.is_sorted() {
      return self;
    }
    let mut order: Vec<usize> = (0..self.len()).collect();
    order.sort_unstable_by_key(|slot| self.rowids[*slot]);
    let mut sorted = Self::default();
    for slot in order {
      sorted.copy(&self, slot, dimension);
    }
    sorted
  }

  /// One segment with the vectors of both that are not dead.
  #[expect(clippy::many_single_char_names, reason = "two parts, side by side")]
  pub(crate) fn merged(parts: [(&Self, &DeletedSlots); 2], dimension: usize) -> Self {
    let mut merged = Self::default();
    let total = parts
      .iter()
      .map(|(segment, deleted)| segment.len() - deleted.count)
      .sum();
    merged.rowids.reserve_exact(total);
    merged.codes.reserve_exact(total * dimension);
    let [mut a, mut b] = parts.map(|(segment, deleted)| {
      let live = (0..segment.len()).filter(|slot| !deleted.has(*slot));
      live.map(move |slot| (segment, slot)).peekable()
    });
    loop {
      let next = match (a.peek(), b.peek()) {
        (Some((x, i)), Some((y, j))) if x.rowids[*i] <= y.rowids[*j] => a.next(),
        (Some(_), None) => a.next(),
        _ => b.next(),
      };
      let Some((segment, slot)) = next else {
        return merged;
      };
      merged.copy(segment, slot, dimension);
    }
  }

  fn copy(&mut self, from: &Self, slot: usize, dimension: usize) {
    let codes = slot * dimension..(slot + 1) * dimension;
    self.rowids.push(from.rowids[slot]);
    self.codes.extend_from_slice(&from.codes[codes]);
    self.steps.push(from.steps[slot]);
    self.errors.push(from.errors[slot]);
    self.lengths.push(from.lengths[slot]);
  }

  pub(crate) fn find(&self, rowid: i64) -> Option<usize> {
    self.rowids.binary_search(&rowid).ok()
  }
}

/// Bitmap of deleted vectors in a segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeletedSlots {
  bits: Vec<u64>,
  count: usize,
}

impl DeletedSlots {
  pub(crate) fn count(&self) -> usize {
    self.count
  }

  pub(crate) fn has(&self, slot: usize) -> bool {
    let word = self.bits.get(slot / 64);
    word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
  }

  pub(crate) fn add(&mut self, slot: usize) {
    if self.bits.len() <= slot / 64 {
      self.bits.resize(slot / 64 + 1, 0);
    }
    if !self.has(slot) {
      self.bits[slot / 64] |= 1 << (slot % 64);
      self.count += 1;
    }
  }
}

/// A vector that may be among the best. Greater is nearer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
  pub rowid: i64,
  pub estimate: f32,
  /// Upper bound of the similarity.
  pub upper: f32,
}

/// An ordered number; checked vectors have no NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ordered(pub f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
  fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
    Some(self.cmp(other))
  }
}

impl Ord for Ordered {
  fn cmp(&self, other: &Self) -> std::cmp::Ordering {
    self.0.total_cmp(&other.0)
  }
}

/// One search over any number of segments.
pub(crate) struct Scan {
  metric: Metric,
  query: Vec<i16>,
  step: f32,
  error: f32,
  length: f32,
  k: usize,
  /// The k greatest lower bounds so far.
  best: BinaryHeap<Reverse<Ordered>>,
  candidates: Vec<Candidate>,
  products: Vec<i32>,
}

impl Scan {
  /// Under cosine the query's length does not matter.
  pub(crate) fn new(query: &[f32], metric: Metric, k: usize) -> Self {
    let length = simd::dot(query, query).sqrt();
    let unit = match metric {
      Metric::Cosine => 1.0 / length,
      Metric::L2 | Metric::Dot => 1.0,
    };
    let greatest = simd::greatest(query);
    // As fine as it can be without an overflow of the sum.
    let finest = i32::MAX / (127 * query.len().max(1) as i32);
    let levels = finest.min(i32::from(i16::MAX)) as f32;
    let scale = if greatest > 0.0 {
      levels / greatest
    } else {
      0.0
    };
    let step = greatest / levels;
    let codes: Vec<i16> = query.iter().map(|x| (x * scale).round() as i16).collect();
    let missed = query
      .iter()
      .zip(&codes)
      .map(|(x, code)| x - step * f32::from(*code));
    let error = missed.map(|e| e * e).sum::<f32>().sqrt();
    Self {
      metric,
      query: codes,
      step: step * unit,
      error: error * unit + ROUNDING * length * unit,
      length: length * unit,
      k,
      best: BinaryHeap::new(),
      candidates: Vec::new(),
      products: Vec::new(),
    }
  }

  /// Looks at a segment; with `allowed` only at those rowids, which are in order.
  pub(crate) fn add(&mut self, segment: &Segment, deleted: &DeletedSlots, allowed: Option<&[i64]>) {
    let Some(allowed) = allowed else {
      let mut products = std::mem::take(&mut self.products);
      simd::code_products(&segment.codes, &self.query, &mut products);
      for (slot, product) in products.iter().enumerate() {
        if self.consider(segment, slot, *product) && !deleted.has(slot) {
          self.keep(segment, slot, *product);
        }
      }
      self.products = products;
      return;
    };
    let (Some(first), Some(last)) = (segment.rowids.first(), segment.rowids.last()) else {
      return;
    };
    let from = allowed.partition_point(|rowid| rowid < first);
    let to = allowed.partition_point(|rowid| rowid <= last);
    let mut slot = 0;
    let mut product = Vec::with_capacity(1);
    for rowid in &allowed[from..to] {
      while segment.rowids[slot] < *rowid {
        slot += 1;
      }
      if segment.rowids[slot] != *rowid || deleted.has(slot) {
        continue;
      }
      let codes = slot * self.query.len()..(slot + 1) * self.query.len();
      simd::code_products(&segment.codes[codes], &self.query, &mut product);
      if self.consider(segment, slot, product[0]) {
        self.keep(segment, slot, product[0]);
      }
    }
  }

  #[inline]
  fn consider(&self, segment: &Segment, slot: usize, product: i32) -> bool {
    if self.best.len() < self.k {
      return true;
    }
    let (estimate, error) = self.estimate(segment, slot, product);
    self
      .best
      .peek()
      .is_some_and(|worst| estimate + error >= worst.0.0)
  }

  #[inline]
  fn estimate(&self, segment: &Segment, slot: usize, product: i32) -> (f32, f32) {
    let length = segment.lengths[slot];
    let error = self.length * segment.errors[slot]
      + self.error * (length + segment.errors[slot])
      + ROUNDING * self.length * length;
    let dot = segment.steps[slot] * self.step * product as f32;
    match self.metric {
      Metric::Cosine | Metric::Dot => (dot, error),
      // The negative square of the distance without the query's own part.
      Metric::L2 => (
        2.0 * dot - length * length,
        2.0 * error + ROUNDING * (length * length + self.length * self.length),
      ),
    }
  }

  fn keep(&mut self, segment: &Segment, slot: usize, product: i32) {
    let (estimate, error) = self.estimate(segment, slot, product);
    self.candidates.push(Candidate {
      rowid: segment.rowids[slot],
      estimate,
      upper: estimate + error,
    });
    let lower = Reverse(Ordered(estimate - error));
    if self.best.len() < self.k {
      self.best.push(lower);
    } else if let Some(mut worst) = self.best.peek_mut()
      && lower < *worst
    {
      *worst = lower;
    }
  }

  /// All that can be among the k best, best estimates first.
  pub(crate) fn finish(mut self) -> Vec<Candidate> {
    if self.best.len() == self.k
      && let Some(Reverse(Ordered(worst))) = self.best.peek()
    {
      let worst = *worst;
      self.candidates.retain(|candidate| candidate.upper >= worst);
    }
    self
      .candidates
      .sort_unstable_by(|a, b| b.estimate.total_cmp(&a.estimate));
    self.candidates
  }

  /// An exact similarity on the scale of the estimates, from a distance of the metric.
  pub(crate) fn key(&self, distance: f32) -> f32 {
    match self.metric {
      Metric::Cosine => 1.0 - distance,
      Metric::Dot => -distance,
      Metric::L2 => self.length * self.length - distance * distance,
    }
  }
}
