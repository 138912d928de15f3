//! Cache of embeddings, by provider and text.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use sha2::Digest;
use sha2::Sha256;

/// Approximate bytes of an entry besides its numbers.
const OVERHEAD: usize = 160;

/// A digest of a provider's identity and a text.
pub(crate) type Key = [u8; 32];

/// Evicts the least recently used.
pub struct EmbeddingCache {
  limit: usize,
  entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
  by_key: HashMap<Key, (u64, Arc<[f32]>)>,
  /// Keys by when they were last used.
  by_use: BTreeMap<u64, Key>,
  clock: u64,
  bytes: usize,
}

impl EmbeddingCache {
  /// `limit` is in bytes; 0 turns the cache off.
  pub fn new(limit: usize) -> Self {
    Self {
      limit,
      entries: Mutex::default(),
    }
  }

  /// Bytes it takes now.
  #[cfg(test)]
  pub fn bytes(&self) -> usize {
    self.lock().bytes
  }

  pub(crate) fn key(identity: &str, text: &str) -> Key {
    let mut digest = Sha256::new();
    digest.update((identity.len() as u64).to_le_bytes());
    digest.update(identity);
    digest.update(text);
    digest.finalize().into()
  }

  pub(crate) fn get(&self, key: &Key) -> Option<Arc<[f32]>> {
    let mut entries = self.lock();
    let now = entries.tick();
    let (used, vector) = entries.by_key.get_mut(key)?;
    let vector = vector.clone();
    let before = std::mem::replace(used, now);
    entries.by_use.remove(&before);
    entries.by_use.insert(now, *key);
    Some(vector)
  }

  pub(crate) fn put(&self, key: Key, vector: Arc<[f32]>) {
    let cost = cost(&vector);
    if cost > self.limit {
      return;
    }
    let mut entries = self.lock();
    let now = entries.tick();
    entries.remove(&key);
    entries.bytes += cost;
    entries.by_use.insert(now, key);
    entries.by_key.insert(key, (now, vector));
    while entries.bytes > self.limit
      && let Some((_, oldest)) = entries.by_use.first_key_value()
    {
      let oldest = *oldest;
      entries.remove(&oldest);
    }
  }

  fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
    self.entries.lock().unwrap_or_else(PoisonError::into_inner)
  }
}

impl Entries {
  fn tick(&mut self) -> u64 {
    self.clock += 1;
    self.clock
  }

  fn remove(&mut self, key: &Key) {
    if let Some((used, vector)) = self.by_key.remove(key) {
      self.by_use.remove(&used);
      self.bytes -= cost(&vector);
    }
  }
}

fn cost(vector: &[f32]) -> usize {
  size_of_val(vector) + OVERHEAD
}

#[cfg(test)]
mod tests {
  use super::*;

  fn put(cache: &EmbeddingCache, text: &str) {
    cache.put(EmbeddingCache::key("m", text), Arc::from([1.0, 2.0]));
  }

  fn has(cache: &EmbeddingCache, text: &str) -> bool {
    cache.get(&EmbeddingCache::key("m", text)).is_some()
  }

  #[test]
  fn the_longest_unused_goes_first() {
    let cache = EmbeddingCache::new(2 * (OVERHEAD + 8));
    put(&cache, "a");
    put(&cache, "b");
    assert!(has(&cache, "a"));
    put(&cache, "c");
    assert!(has(&cache, "a") && has(&cache, "c") && !has(&cache, "b"));
    put(&cache, "c");
    assert_eq!(cache.bytes(), 2 * (OVERHEAD + 8));
  }

  #[test]
  fn providers_do_not_share_and_nothing_is_kept_without_room() {
    let cache = EmbeddingCache::new(1 << 20);
    put(&cache, "a");
    assert!(cache.get(&EmbeddingCache::key("other", "a")).is_none());
    assert_ne!(
      EmbeddingCache::key("ab", "c"),
      EmbeddingCache::key("a", "bc")
    );
    let none = EmbeddingCache::new(0);
    put(&none, "a");
    assert!(!has(&none, "a"));
    assert_eq!(none.bytes(), 0);
  }
}
