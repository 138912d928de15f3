//! The stored vectors, read where sqlite-vec keeps them: chunks of many vectors in one blob. Its
//! own reading of single rows opens a blob for every row, which is slower by half.

use rusqlite::Connection;

/// Adds, replaces and removes vectors through sqlite-vec.
pub(crate) struct VectorWriter<'a> {
  connection: &'a Connection,
  bytes: Vec<u8>,
}

impl<'a> VectorWriter<'a> {
  pub(crate) fn new(connection: &'a Connection) -> Self {
    Self {
      connection,
      bytes: Vec::new(),
    }
  }

  pub(crate) fn insert(&mut self, rowid: i64, vector: &[f32]) -> rusqlite::Result<()> {
    to_bytes(vector, &mut self.bytes);
    self
      .connection
      .prepare_cached("INSERT INTO vector(rowid, embedding) VALUES (?, ?)")?
      .execute((rowid, &self.bytes))?;
    Ok(())
  }

  pub(crate) fn replace(&mut self, rowid: i64, vector: &[f32]) -> rusqlite::Result<()> {
    to_bytes(vector, &mut self.bytes);
    self
      .connection
      .prepare_cached("UPDATE vector SET embedding = ?2 WHERE rowid = ?1")?
      .execute((rowid, &self.bytes))?;
    Ok(())
  }

  pub(crate) fn delete(&self, rowid: i64) -> rusqlite::Result<()> {
    self
      .connection
      .prepare_cached("DELETE FROM vector WHERE rowid = ?")?
      .execute([rowid])?;
    Ok(())
  }
}

/// Gives each of the vectors of `rowids` to `take`, in the order in which they are stored.
pub(crate) fn read(
  connection: &Connection,
  dimension: usize,
  rowids: impl IntoIterator<Item = i64>,
  mut take: impl FnMut(i64, &[f32]),
) -> rusqlite::Result<()> {
  let mut find = connection
    .prepare_cached("SELECT chunk_id, chunk_offset FROM vector_rowids WHERE rowid = ?")?;
  let mut places = Vec::new();
  for rowid in rowids {
    let place: (i64, usize) = find.query_row([rowid], |row| Ok((row.get(0)?, row.get(1)?)))?;
    places.push((place, rowid));
  }
  places.sort_unstable();
  let mut blob: Option<(i64, rusqlite::blob::Blob<'_>)> = None;
  let mut bytes = vec![0; 4 * dimension];
  let mut vector = vec![0.0; dimension];
  for ((chunk, offset), rowid) in places {
    match &mut blob {
      Some((open, _)) if *open == chunk => {}
      Some((open, blob)) => {
        blob.reopen(chunk)?;
        *open = chunk;
      }
      None => {
        let opened =
          connection.blob_open("main", "vector_vector_chunks00", "vectors", chunk, true)?;
        blob = Some((chunk, opened));
      }
    }
    if let Some((_, blob)) = &blob {
      blob.read_at_exact(&mut bytes, offset * 4 * dimension)?;
      from_bytes(&bytes, &mut vector);
      take(rowid, &vector);
    }
  }
  Ok(())
}

/// Gives every stored vector to `take`, chunk by chunk, until it returns `false`.
pub(crate) fn read_all(
  connection: &Connection,
  dimension: usize,
  mut take: impl FnMut(i64, &[f32]) -> bool,
) -> rusqlite::Result<()> {
  let mut chunks = connection.prepare_cached(
    "SELECT c.validity, c.rowids, v.vectors FROM vector_chunks c
     JOIN vector_vector_chunks00 v ON v._rowid_ = c.chunk_id",
  )?;
  let mut rows = chunks.query(())?;
  let mut vector = vec![0.0; dimension];
  while let Some(row) = rows.next()? {
    let blob = |column| {
      row
        .get_ref(column)?
        .as_blob()
        .map_err(rusqlite::Error::from)
    };
    let (validity, rowids, vectors) = (blob(0)?, blob(1)?, blob(2)?);
    let slots = rowids
      .chunks_exact(8)
      .zip(vectors.chunks_exact(4 * dimension));
    for (slot, (rowid, bytes)) in slots.enumerate() {
      let valid = validity
        .get(slot / 8)
        .is_some_and(|byte| byte >> (slot % 8) & 1 == 1);
      let Ok(rowid) = <[u8; 8]>::try_from(rowid) else {
        continue;
      };
      if valid {
        from_bytes(bytes, &mut vector);
        if !take(i64::from_ne_bytes(rowid), &vector) {
          return Ok(());
        }
      }
    }
  }
  Ok(())
}

/// Moves vectors out of chunks that deletions left nearly empty, so that the file does not keep
/// space for deleted ones: sqlite-vec fills only its last chunk.
pub(crate) fn compact(
  connection: &Connection,
  dimension: usize,
  count: u64,
) -> rusqlite::Result<()> {
  let chunk_size = super::schema::chunk_size(dimension) as u64;
  let chunks: u64 = connection
    .prepare_cached("SELECT count(*) FROM vector_chunks")?
    .query_row((), |row| row.get(0))?;
  if chunks * chunk_size <= count + count / 8 + 2 * chunk_size {
    return Ok(());
  }
  let mut by_chunk = std::collections::BTreeMap::<i64, Vec<i64>>::new();
  {
    let mut all = connection.prepare_cached("SELECT chunk_id, rowid FROM vector_rowids")?;
    let mut rows = all.query(())?;
    while let Some(row) = rows.next()? {
      by_chunk.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
  }
  by_chunk.pop_last();
  by_chunk.retain(|_, rowids| (rowids.len() as u64) < chunk_size - chunk_size / 16);
  let mut writer = VectorWriter::new(connection);
  for rowids in by_chunk.into_values() {
    let mut moved = Vec::with_capacity(rowids.len());
    read(connection, dimension, rowids, |rowid, vector| {
      moved.push((rowid, vector.to_vec()));
    })?;
    for (rowid, vector) in moved {
      writer.delete(rowid)?;
      writer.insert(rowid, &vector)?;
    }
  }
  Ok(())
}

pub(crate) fn to_bytes(vector: &[f32], bytes: &mut Vec<u8>) {
  bytes.clear();
  bytes.extend(vector.iter().flat_map(|number| number.to_ne_bytes()));
}

fn from_bytes(bytes: &[u8], vector: &mut [f32]) {
  for (number, bytes) in vector.iter_mut().zip(bytes.as_chunks::<4>().0) {
    *number = f32::from_ne_bytes(*bytes);
  }
}
