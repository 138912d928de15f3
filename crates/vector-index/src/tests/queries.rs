//! What queries can ask for, and many at once.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use super::*;
use crate::snapshot::Lookup;

fn row(count: usize) -> Fixture {
  let fixture = Fixture::new(&IndexOptions::default());
  let documents =
    (0..count).map(|i| with_metadata(&i.to_string(), &[1.0, i as f32 / 100.0], &json!({"i": i})));
  fixture.index.upsert(documents.collect()).expect("inserts");
  fixture
}

#[test]
fn pages_follow_one_another() {
  let fixture = row(25);
  let all = fixture
    .index
    .query(&near(&[1.0, 0.0], 100))
    .expect("queries");
  assert_eq!(all.len(), 25);
  let mut pages = Vec::new();
  for offset in (0..30).step_by(10) {
    let page = Query {
      offset,
      ..near(&[1.0, 0.0], 10)
    };
    pages.extend(fixture.index.query(&page).expect("queries"));
  }
  assert_eq!(pages, all);
  let far = Query {
    offset: usize::MAX,
    ..near(&[1.0, 0.0], usize::MAX)
  };
  assert_eq!(fixture.index.query(&far).expect("queries"), []);
}

#[test]
fn the_threshold_leaves_out_what_is_less_similar() {
  let fixture = row(25);
  let all = fixture
    .index
    .query(&near(&[1.0, 0.0], 25))
    .expect("queries");
  let threshold = all[9].score;
  let query = Query {
    threshold,
    ..near(&[1.0, 0.0], 25)
  };
  let hits = fixture.index.query(&query).expect("queries");
  assert_eq!(hits, all[..10]);
  let impossible = Query {
    threshold: 1.5,
    ..near(&[1.0, 0.0], 25)
  };
  assert_eq!(fixture.index.query(&impossible).expect("queries"), []);
}

#[test]
fn metadata_and_vectors_come_when_asked_for() {
  let fixture = row(3);
  let query = Query {
    include_vectors: true,
    ..near(&[1.0, 0.0], 1)
  };
  let hit = fixture.index.query(&query).expect("queries").remove(0);
  assert_eq!(hit.vector, Some(vec![1.0, 0.0]));
  assert_eq!(hit.metadata, json!({"i": 0}).as_object().cloned());
  let query = Query {
    include_metadata: false,
    ..near(&[1.0, 0.0], 1)
  };
  let hit = fixture.index.query(&query).expect("queries").remove(0);
  assert_eq!((hit.vector, hit.metadata), (None, None));
}

#[test]
fn sixty_four_queries_at_once_get_their_own_answers() {
  let fixture = Fixture::new(&IndexOptions::default());
  let vectors = random_vectors(2000, 64, 3);
  let documents = vectors
    .iter()
    .enumerate()
    .map(|(i, v)| document(&i.to_string(), v));
  fixture.index.upsert(documents.collect()).expect("inserts");
  let (index, barrier) = (&fixture.index, Barrier::new(64));
  thread::scope(|scope| {
    for (i, vector) in vectors.iter().enumerate().step_by(2000 / 64).take(64) {
      let barrier = &barrier;
      scope.spawn(move || {
        barrier.wait();
        let hits = index.query(&near(vector, 2)).expect("queries");
        assert_eq!(hits[0].id, i.to_string());
      });
    }
  });
}

/// Every batch gives all of the same documents one new direction, so whoever sees two directions
/// has seen half of a batch.
#[test]
fn readers_see_whole_batches_while_a_writer_writes() {
  let fixture = Fixture::new(&IndexOptions::default());
  let batch = |round: usize| -> Vec<Document> {
    let angle = round as f32 * 0.01;
    let documents = (0..300).map(|i| {
      let vector = [angle.cos(), angle.sin()];
      with_metadata(&format!("{i}"), &vector, &json!({"round": round}))
    });
    documents.collect()
  };
  fixture.index.upsert(batch(0)).expect("inserts");
  let (index, done) = (&fixture.index, AtomicBool::new(false));
  thread::scope(|scope| {
    for _ in 0..3 {
      scope.spawn(|| {
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
          let hits = index.query(&near(&[1.0, 0.0], 300)).expect("queries");
          assert_eq!(hits.len(), 300);
          let round = |hit: &Hit| {
            let round = hit.metadata.as_ref().and_then(|m| m.get("round")?.as_u64());
            round.expect("a round")
          };
          let seen = round(&hits[0]);
          assert!(seen >= last, "{seen} after {last}");
          for hit in &hits {
            assert_eq!(round(hit), seen);
            let distance = 1.0 - (seen as f32 * 0.01).cos();
            assert!((hit.distance.expect("a distance") - distance).abs() < 1e-4);
          }
          last = seen;
        }
      });
    }
    for round in 1..60 {
      index.upsert(batch(round)).expect("replaces");
    }
    done.store(true, Ordering::Release);
  });
}

#[test]
fn a_reader_does_not_wait_for_a_transaction_that_writes() {
  let fixture = row(10);
  let mut writer = fixture.index.shared.writer();
  let transaction = writer.transaction().expect("begins");
  transaction
    .execute("DELETE FROM document", ())
    .expect("deletes");
  // The writer is locked and in the middle of a change while these run on its own thread.
  assert_eq!(
    fixture
      .index
      .query(&near(&[1.0, 0.0], 20))
      .expect("queries")
      .len(),
    10
  );
  assert_eq!(fixture.index.list(None, 0, 20).expect("lists").len(), 10);
}

#[test]
fn what_another_process_writes_is_found() {
  let fixture = row(10);
  assert_eq!(
    fixture
      .index
      .query(&near(&[1.0, 0.0], 20))
      .expect("queries")
      .len(),
    10
  );
  let other = Index::open(&fixture.path(), &memory()).expect("opens");
  other
    .upsert(vec![document("new", &[1.0, -0.5])])
    .expect("inserts");
  for _ in 0..3 {
    let hits = fixture
      .index
      .query(&near(&[1.0, -0.5], 20))
      .expect("queries");
    assert_eq!(hits.len(), 11);
    assert_eq!(hits[0].id, "new");
  }
  fixture
    .index
    .upsert(vec![document("newer", &[0.0, -1.0])])
    .expect("inserts");
  assert_eq!(fixture.index.count(), 12);
  assert_eq!(
    other.query(&near(&[0.0, -1.0], 1)).expect("queries")[0].id,
    "newer"
  );
}

#[test]
fn what_is_written_while_the_file_is_read_into_memory_is_found() {
  for turn in 0..20 {
    let fixture = row(1500);
    let index = &fixture.index;
    let Lookup::Load(ticket) = index.shared.cache.look_up(1, 1500, 2) else {
      panic!("nobody else reads it");
    };
    index.load_aside(ticket);
    for i in 0..=turn {
      let new = document(&format!("new {i}"), &[1.0, -1.0 - i as f32]);
      index.upsert(vec![new]).expect("inserts");
      index.delete(&[i.to_string()]).expect("deletes");
      let hits = index
        .query(&near(&[1.0, -1.0 - i as f32], 2000))
        .expect("queries");
      assert_eq!(hits.len(), 1500);
      assert_eq!(hits[0].id, format!("new {i}"));
    }
    let loader = index.loader.lock().expect("not poisoned").take();
    loader.expect("a thread").join().expect("ends");
    assert!(index.stats().memory_bytes > 0);
    let hits = index.query(&near(&[1.0, -1.0], 2000)).expect("queries");
    assert_eq!(hits.len(), 1500);
    assert_eq!(hits[0].id, "new 0");
  }
}

#[test]
fn an_index_can_be_closed_while_it_is_read_into_memory() {
  let fixture = row(3000);
  if let Lookup::Load(ticket) = fixture.index.shared.cache.look_up(1, 3000, 2) {
    fixture.index.load_aside(ticket);
  }
  let folder = fixture.folder;
  drop(fixture.index);
  assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 1);
}

#[test]
fn an_index_for_which_no_memory_is_left_is_searched_in_its_file() {
  let memory = Memory::new(100_000);
  let folder = tempfile::tempdir().expect("a folder");
  let index = |name: &str| {
    let path = folder.path().join(name);
    Index::create(&path, &IndexOptions::default(), &json!({}), &memory).expect("creates")
  };
  let (small, large) = (index("small.db"), index("large.db"));
  let vectors = random_vectors(3000, 32, 9);
  let add = |index: &Index, count: usize| {
    let documents = vectors[..count].iter().enumerate();
    let documents = documents.map(|(i, vector)| document(&i.to_string(), vector));
    index.upsert(documents.collect()).expect("inserts");
    for i in [0, count / 2, count - 1] {
      let hits = index.query(&near(&vectors[i], 1)).expect("queries");
      assert_eq!(ids(&hits), [i.to_string()]);
    }
    index.stats().memory_bytes
  };
  let held = add(&small, 1000);
  assert!(held > 0 && memory.lent() as u64 == held);
  assert_eq!(add(&large, 3000), 0);
  // One that grows out of what there is gives back what it had.
  assert_eq!(add(&small, 3000), 0);
  assert_eq!(memory.lent(), 0);
  assert!(add(&index("another.db"), 1000) > 0);
  drop((small, large));
}

#[test]
fn all_documents_are_read_as_they_were_when_it_began_while_others_write() {
  let fixture = Fixture::new(&IndexOptions::default());
  let documents = (0..2500).map(|i| document(&i.to_string(), &[1.0, i as f32]));
  fixture.index.upsert(documents.collect()).expect("inserts");
  let mut read = Vec::new();
  let begin = |_: &mut Vec<Stored>, count| -> Result<(), IndexError> {
    assert_eq!(count, 2500);
    Ok(())
  };
  let take = |read: &mut Vec<Stored>, stored| {
    if read.is_empty() {
      fixture
        .index
        .upsert(vec![
          document("2000", &[7.0, 7.0]),
          document("new", &[1.0, 1.0]),
        ])
        .expect("inserts");
    }
    read.push(stored);
    Ok(())
  };
  fixture.index.each(&mut read, begin, take).expect("reads");
  let expected: Vec<String> = (0..2500).map(|i| i.to_string()).collect();
  assert_eq!(
    read.iter().map(|one| &one.id).collect::<Vec<_>>(),
    expected.iter().collect::<Vec<_>>()
  );
  assert_eq!(read[2000].vector, Some(vec![1.0, 2000.0]));
  assert_eq!(fixture.index.count(), 2501);
}
