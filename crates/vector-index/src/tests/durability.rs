//! What was acknowledged stays, whatever happens to the process or the disk.

use std::env;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use super::*;

/// The environment variable that turns the test below into the process that is killed.
const CHILD: &str = "VECTORDB_TEST_KILLED_INDEX";
const BATCH: usize = 100;

fn batch(number: usize) -> Vec<Document> {
  let vectors = random_vectors(BATCH, 64, number as u64);
  let documents = vectors.iter().enumerate().map(|(i, vector)| Document {
    text: Some(format!("batch {number}")),
    ..with_metadata(&format!("{number}-{i}"), vector, &json!({"batch": number}))
  });
  // One document that every batch replaces.
  let last = with_metadata("last", &[1.0; 64], &json!({"batch": number}));
  documents.chain([last]).collect()
}

/// Writes batches, and says each that was acknowledged, until it is killed.
fn write_until_killed(path: &Path) {
  let index = Index::open(path, &memory()).expect("opens");
  let first = index.count() as usize / BATCH;
  let mut out = std::io::stdout();
  for number in first..10_000 {
    index.upsert(batch(number)).expect("inserts");
    writeln!(out, "acknowledged {number}")
      .and_then(|()| out.flush())
      .expect("writes");
  }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
  if let Some(path) = env::var_os(CHILD) {
    write_until_killed(Path::new(&path));
    return;
  }
  let fixture = Fixture::new(&IndexOptions::default());
  let path = fixture.path();
  let folder = fixture.folder;
  drop(fixture.index);
  let name = concat!(
    module_path!(),
    "::nothing_acknowledged_is_lost_when_the_process_is_killed"
  );
  let (_, name) = name.split_once("::").expect("a crate");
  let mut acknowledged = 0;
  for round in 0..10 {
    let mut child = Command::new(env::current_exe().expect("this program"))
      .args(["--exact", name, "--nocapture"])
      .env(CHILD, &path)
      .stdout(Stdio::piped())
      .stderr(Stdio::null())
      .spawn()
      .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = 0;
    for line in lines {
      let line = line.expect("reads");
      if let Some((_, number)) = line.split_once("acknowledged ") {
        acknowledged = number.parse::<usize>().expect("a number") + 1;
        seen += 1;
        // Killed while it writes the next, at another place in every round.
        if seen == 3 + round {
          child.kill().expect("is killed");
        }
      }
    }
    child.wait().expect("has ended");
    assert!(
      seen >= 3 + round,
      "the child ended by itself after {seen} batches"
    );
    let index = Index::open(&path, &memory()).expect("opens");
    index.verify().expect("is whole");
    let batches = index.count() as usize / BATCH;
    assert_eq!(index.count() as usize % BATCH, 1, "half a batch");
    assert!(batches >= acknowledged, "{batches} of {acknowledged}");
    for number in [0, acknowledged / 2, acknowledged - 1, batches - 1] {
      for written in batch(number).into_iter().take(BATCH) {
        let stored = index
          .get(std::slice::from_ref(&written.id), true)
          .expect("gets");
        assert_eq!(stored.len(), 1, "{}", written.id);
        assert_eq!(stored[0].vector.as_ref(), Some(&written.vector));
        assert_eq!(stored[0].metadata, written.metadata);
      }
      let sample = &batch(number)[BATCH / 2];
      let hits = index.query(&near(&sample.vector, 1)).expect("queries");
      assert_eq!(hits[0].id, sample.id);
    }
    let last = index.get(&["last".into()], false).expect("gets").remove(0);
    assert_eq!(
      last.metadata,
      json!({"batch": batches - 1}).as_object().cloned()
    );
    let texts = Query {
      text: Some(format!("{}", batches - 1)),
      k: 500,
      ..Query::default()
    };
    assert_eq!(index.query(&texts).expect("searches").len(), BATCH);
  }
  drop(folder);
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_half_written() {
  let fixture = Fixture::new(&IndexOptions::default());
  let vectors = random_vectors(2000, 64, 1);
  let documents = |ids: std::ops::Range<usize>| -> Vec<Document> {
    ids.map(|i| document(&i.to_string(), &vectors[i])).collect()
  };
  fixture.index.upsert(documents(0..100)).expect("inserts");
  fixture.index.query(&near(&vectors[0], 1)).expect("queries");
  let pages = |most: i64| {
    let sql = format!("PRAGMA max_page_count = {most}");
    let writer = fixture.index.shared.writer();
    writer
      .query_row(&sql, (), |row| row.get::<_, i64>(0))
      .expect("a number")
  };
  // SQLite answers as it does when the disk has no room for a page.
  let now = pages(1);
  let refused = fixture
    .index
    .upsert(documents(50..2000))
    .expect_err("is full");
  assert!(matches!(refused, IndexError::Storage(_)), "{refused:?}");
  assert!(
    refused.to_string().contains("the disk is full"),
    "{refused}"
  );
  assert_eq!(fixture.index.count(), 100);
  let hits = fixture
    .index
    .query(&near(&vectors[1500], 200))
    .expect("queries");
  assert_eq!(hits.len(), 100);
  fixture.index.verify().expect("is whole");
  pages(now + 10_000);
  let done = fixture
    .index
    .upsert(documents(50..2000))
    .expect("has room again");
  assert_eq!((done.added, done.replaced), (1900, 50));
  let hits = fixture
    .index
    .query(&near(&vectors[1500], 1))
    .expect("queries");
  assert_eq!(hits[0].id, "1500");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
  let folder = tempfile::tempdir().expect("a folder");
  let path = folder.path().join("missing").join("a.db");
  let made =
    Index::create(&path, &IndexOptions::default(), &json!({}), &memory()).expect_err("no folder");
  assert!(matches!(made, IndexError::Storage(_)), "{made:?}");
  assert!(
    made
      .to_string()
      .starts_with("index file missing/a.db: cannot be opened"),
    "{made}"
  );
  let fixture = Fixture::new(&IndexOptions::default());
  fixture
    .index
    .upsert(vec![document("a", &[1.0])])
    .expect("inserts");
  fixture
    .index
    .shared
    .writer()
    .execute_batch("PRAGMA query_only = ON")
    .expect("sets");
  let refused = fixture
    .index
    .upsert(vec![document("b", &[1.0])])
    .expect_err("read only");
  assert!(
    refused.to_string().contains("cannot be written"),
    "{refused}"
  );
  assert_eq!(fixture.index.count(), 1);
  assert_eq!(
    fixture
      .index
      .query(&near(&[1.0], 5))
      .expect("queries")
      .len(),
    1
  );
}

#[test]
fn a_closed_index_leaves_one_file_with_everything() {
  let fixture = Fixture::new(&IndexOptions::default());
  fixture.index.upsert(batch(0)).expect("inserts");
  fixture.index.query(&near(&[1.0; 64], 1)).expect("queries");
  let folder = fixture.folder;
  drop(fixture.index);
  let left = std::fs::read_dir(folder.path()).expect("reads");
  let left: Vec<_> = left
    .map(|entry| entry.expect("an entry").file_name())
    .collect();
  assert_eq!(left, ["index.db"]);
}
