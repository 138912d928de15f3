//! Messages from a zygote, the process that kernels are forked from.

use serde::Deserialize;
use serde::Serialize;

/// What a zygote tells the server. It is asked with one byte, the role, and the new kernel's socket, and
/// answers `Forked` or `Refused` in the order it was asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum ZygoteReply {
  Ready,
  /// It could not start, and has ended.
  Failed {
    reason: String,
  },
  Forked {
    pid: u32,
  },
  Refused {
    reason: String,
  },
  /// A kernel has ended and what it left running was killed; `status` is the system's wait status.
  Exited {
    pid: u32,
    status: i32,
  },
}
