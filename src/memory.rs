//! Freed memory goes back to the system.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use self::glibc::set_up;

/// Other allocators do that by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_up() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
  use std::time::Duration;

  use kernel_host::host::give_free_memory_back;

  use kernels::resident_bytes;

  const MIB: u64 = 1 << 20;
  /// What is larger has pages of its own, which go back when it is freed.
  const OWN_PAGES: i32 = 2 << 20;
  const INTERVAL: Duration = Duration::from_secs(5);
  /// Less is not worth the walk over all that is free.
  const WORTH_IT: u64 = 16 * MIB;

  /// Has freed memory given back for as long as the runtime lives.
  pub(crate) fn set_up() {
    // SAFETY: it changes a number of the allocator.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
    tokio::spawn(async {
      let mut trim = Trim::default();
      let mut ticks = tokio::time::interval(INTERVAL);
      loop {
        ticks.tick().await;
        let resident = || resident_bytes(std::process::id()).unwrap_or_default();
        if trim.is_due(resident(), free_bytes()) {
          // Walks over all that is free.
          let _ = tokio::task::spawn_blocking(give_free_memory_back).await;
          trim.done(resident());
        }
      }
    });
  }

  /// When there is something to give back. What was given back still counts as free, so growth is what
  /// tells.
  #[derive(Default)]
  struct Trim {
    /// Least resident memory since the last time.
    least: Option<u64>,
  }

  impl Trim {
    fn is_due(&mut self, resident: u64, free: u64) -> bool {
      let least = self.least.map_or(resident, |least| least.min(resident));
      self.least = Some(least);
      free >= WORTH_IT && resident >= least + WORTH_IT
    }

    fn done(&mut self, resident: u64) {
      self.least = Some(resident);
    }
  }

  fn free_bytes() -> u64 {
    // SAFETY: it only reads the allocator's counts, under its locks.
    unsafe { libc::mallinfo2() }.fordblks as u64
  }

  #[cfg(test)]
  mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_for_each_growth() {
      let mut trim = Trim::default();
      assert!(!trim.is_due(50 * MIB, 0));
      assert!(!trim.is_due(200 * MIB, MIB), "all of it is used");
      assert!(trim.is_due(200 * MIB, 150 * MIB));
      trim.done(60 * MIB);
      // Free, but not resident.
      assert!(!trim.is_due(60 * MIB, 150 * MIB));
      assert!(!trim.is_due(70 * MIB, 140 * MIB));
      assert!(trim.is_due(80 * MIB, 130 * MIB));
      trim.done(80 * MIB);
      assert!(!trim.is_due(55 * MIB, 130 * MIB));
      assert!(trim.is_due(75 * MIB, 130 * MIB), "less than before is seen");
    }
  }
}
