//! Connections that read. Each sees the file as it was when its transaction began, so no reader
//! waits for a writer.

use std::ops::Deref;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use rusqlite::Connection;

use crate::schema;

pub(crate) struct Pool {
  path: PathBuf,
  most: usize,
  connections: Mutex<Connections>,
  returned: Condvar,
}

#[derive(Default)]
struct Connections {
  idle: Vec<Connection>,
  open: usize,
}

impl Pool {
  pub(crate) fn new(path: &Path) -> Self {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Self {
      path: path.to_owned(),
      most: (2 * cores).max(4),
      connections: Mutex::default(),
      returned: Condvar::new(),
    }
  }

  /// A connection; when all are in use it waits for another reader to end.
  pub(crate) fn take(&self) -> rusqlite::Result<Reader<'_>> {
    let mut connections = self.lock();
    loop {
      if let Some(connection) = connections.idle.pop() {
        return Ok(Reader {
          pool: self,
          connection: Some(connection),
        });
      }
      if connections.open < self.most {
        connections.open += 1;
        drop(connections);
        let connection = schema::open_reader(&self.path);
        // Counted as open already, so that it is given back even when it failed.
        let reader = |connection| Reader {
          pool: self,
          connection,
        };
        return match connection {
          Ok(connection) => Ok(reader(Some(connection))),
          Err(error) => {
            drop(reader(None));
            Err(error)
          }
        };
      }
      connections = self
        .returned
        .wait(connections)
        .unwrap_or_else(PoisonError::into_inner);
    }
  }

  fn lock(&self) -> MutexGuard<'_, Connections> {
    self
      .connections
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
  }
}

pub(crate) struct Reader<'a> {
  pool: &'a Pool,
  connection: Option<Connection>,
}

impl Deref for Reader<'_> {
  type Target = Connection;

  fn deref(&self) -> &Connection {
    self
      .connection
      .as_ref()
      .expect("a reader has its connection until it is dropped")
  }
}

impl Drop for Reader<'_> {
  fn drop(&mut self) {
    let mut connections = self.pool.lock();
    match self.connection.take() {
      Some(connection) => connections.idle.push(connection),
      None => connections.open -= 1,
    }
    drop(connections);
    self.pool.returned.notify_one();
  }
}
