//! The pipes behind stdout and stderr: what `Deno.stdout.write`, child processes and native code
//! print, which the language does not see.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use kernel_protocol::StreamName;
use rustix::buffer::spare_capacity;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;

const CHUNK_BYTES: usize = 64 << 10;

/// Both ends, as they are made.
pub struct Capture {
  pub stdout: File,
  pub stderr: File,
  pub reader: CaptureReader,
}

impl Capture {
  /// # Errors
  /// When the process may open no more descriptors.
  pub fn pipes() -> io::Result<Self> {
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    let source = |name, fd| Source {
      name,
      fd,
      partial: Vec::new(),
    };
    Ok(Self {
      stdout: out_write.into(),
      stderr: err_write.into(),
      reader: CaptureReader {
        sources: [
          source(StreamName::Stdout, out_read),
          source(StreamName::Stderr, err_read),
        ],
      },
    })
  }
}

/// A pipe whose read end does not block.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
  let (read, write) = io::pipe()?;
  let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
  let flags = rustix::fs::fcntl_getfl(&read)?;
  rustix::fs::fcntl_setfl(&read, flags | rustix::fs::OFlags::NONBLOCK)?;
  Ok((read, write))
}

pub struct CaptureReader {
  sources: [Source; 2],
}

struct Source {
  name: StreamName,
  fd: OwnedFd,
  /// The start of a UTF-8 character whose rest is not written yet.
  partial: Vec<u8>,
}

impl CaptureReader {
  /// Hands over everything that is in the pipes now, without waiting.
  pub fn drain(&mut self, mut each: impl FnMut(StreamName, String)) {
    let readable = self.readable();
    for (source, _) in self.sources.iter_mut().zip(readable).filter(|(_, it)| *it) {
      // Bounded by what is in the pipe: a writer that never stops must not hold the reader here.
      for _ in 0..2 {
        source.partial.reserve_exact(CHUNK_BYTES);
        let before = source.partial.len();
        let read = match rustix::io::read(&source.fd, spare_capacity(&mut source.partial)) {
          Ok(read) if read > 0 => read,
          Err(Errno::INTR) => continue,
          _ => break,
        };
        debug_assert_eq!(source.partial.len(), before + read);
        let text = take_text(&mut source.partial);
        if !text.is_empty() {
          each(source.name, text);
        }
        if read < CHUNK_BYTES {
          break;
        }
      }
    }
  }

  /// Which pipes have something in them: nearly always none, and one question tells.
  fn readable(&self) -> [bool; 2] {
    let mut fds = self
      .sources
      .each_ref()
      .map(|source| PollFd::new(&source.fd, PollFlags::IN));
    match rustix::event::poll(&mut fds, Some(&Timespec::default())) {
      Ok(0) => [false; 2],
      Ok(_) => fds.map(|fd| fd.revents().contains(PollFlags::IN)),
      Err(_) => [true; 2],
    }
  }

  /// Descriptors to wait on with [`wait`], independent of this reader's lock; `alarm` besides the pipes.
  pub(super) fn watch(&self, alarm: OwnedFd) -> io::Result<Watched> {
    let [out, err] = &self.sources;
    Ok(Watched([out.fd.try_clone()?, err.fd.try_clone()?, alarm]))
  }
}

/// Two pipes and an alarm.
pub(super) struct Watched([OwnedFd; 3]);

/// Blocks until one of the pipes has something to read, or the alarm goes off. `false` when both pipes are closed.
pub(super) fn wait(watched: &Watched) -> bool {
  let mut fds = watched
    .0
    .each_ref()
    .map(|fd| PollFd::new(fd, PollFlags::IN));
  match rustix::event::poll(&mut fds, None) {
    Ok(_) => fds.iter().any(|fd| fd.revents().contains(PollFlags::IN)),
    Err(Errno::INTR) => true,
    Err(_) => false,
  }
}

/// Takes the text out of `bytes`, leaving only an incomplete last character behind.
fn take_text(bytes: &mut Vec<u8>) -> String {
  let cut = match std::str::from_utf8(bytes) {
    Ok(_) => bytes.len(),
    Err(e) if e.error_len().is_none() => e.valid_up_to(),
    Err(_) => {
      let tail = bytes.len().saturating_sub(3);
      (tail..bytes.len())
        .find(|&i| {
          std::str::from_utf8(&bytes[i..])
            .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
        })
        .unwrap_or(bytes.len())
    }
  };
  let rest = bytes.split_off(cut);
  String::from_utf8_lossy(&std::mem::replace(bytes, rest)).into_owned()
}

#[cfg(test)]
mod tests {
  use std::io::Write;

  use super::*;

  #[test]
  fn a_character_cut_in_two_writes_arrives_whole() {
    let mut bytes = "aé".as_bytes()[..2].to_vec();
    assert_eq!(take_text(&mut bytes), "a");
    bytes.push("é".as_bytes()[1]);
    assert_eq!(take_text(&mut bytes), "é");
  }

  #[test]
  fn bytes_that_are_not_text_are_replaced_not_kept() {
    let mut bytes = b"a\xff\xfeb".to_vec();
    assert_eq!(take_text(&mut bytes), "a\u{fffd}\u{fffd}b");
    assert!(bytes.is_empty());
  }

  #[test]
  fn what_was_written_can_be_drained_at_once() -> io::Result<()> {
    let mut capture = Capture::pipes()?;
    capture.stdout.write_all(b"out")?;
    capture.stderr.write_all(b"err")?;
    let mut seen = Vec::new();
    capture.reader.drain(|name, text| seen.push((name, text)));
    assert_eq!(
      seen,
      [
        (StreamName::Stdout, "out".into()),
        (StreamName::Stderr, "err".into())
      ]
    );
    Ok(())
  }
}
