//! How many files and connections this process may have open.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Files, indices, listeners and what the runtime has.
const OWN: u64 = 256;
/// Sockets and pipes of one kernel.
const EACH_KERNEL: u64 = 8;

/// Raises the limit to what the system allows, and returns it; `None` is no limit.
pub(crate) fn raise_limit() -> Option<u64> {
  let limit = getrlimit(Resource::Nofile);
  let raised = Rlimit {
    current: limit.maximum,
    maximum: limit.maximum,
  };
  match setrlimit(Resource::Nofile, raised) {
    Ok(()) => limit.maximum,
    Err(error) => {
      tracing::warn!("the limit of open files could not be raised: {error}");
      limit.current
    }
  }
}

/// How many connections of those `wanted` there may be, so that `kernels` can run as well. One to an
/// app takes a second one.
pub(crate) fn connections(wanted: usize, limit: Option<u64>, kernels: usize) -> usize {
  let Some(limit) = limit else {
    return wanted;
  };
  let reserve = OWN + EACH_KERNEL * kernels as u64;
  let most = (limit - reserve.min(limit / 2)) / 2;
  wanted
    .min(usize::try_from(most).unwrap_or(usize::MAX))
    .max(1)
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn kernels_keep_the_descriptors_that_they_need() {
    assert_eq!(connections(4096, None, 200), 4096);
    assert_eq!(connections(4096, Some(1 << 20), 200), 4096);
    assert_eq!(connections(4096, Some(4096), 200), (4096 - 256 - 1600) / 2);
    assert_eq!(connections(4096, Some(1024), 200), 256);
    assert_eq!(connections(10, Some(1024), 200), 10);
    assert_eq!(connections(10, Some(0), 200), 1);
  }
}
