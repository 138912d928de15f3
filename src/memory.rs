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
  use kernel_host::host::let_go_of_code;
  use kernels::resident_bytes;

  const MIB: u64 = 1 << 20;
  /// What is larger has pages of its own, which go back when it is freed.
  const OWN_PAGES: i32 = 2 << 20;
  const INTERVAL: Duration = Duration::from_secs(5);
  /// The server has started by then.
  const START: Duration = Duration::from_secs(1);
  /// Less is not worth the walk over all that is free.
  const WORTH_IT: u64 = 16 * MIB;

  /// Has freed memory given back for as long as the runtime lives.
  pub(crate) fn set_up() {
    // SAFETY: it changes a number of the allocator.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
    tokio::spawn(async {
      let mut trim = Trim {
        least: Some(Usage::now()),
      };
      let mut ticks = tokio::time::interval(INTERVAL);
      tokio::time::sleep(START).await;
      let _ = tokio::task::spawn_blocking(let_go_of_code).await;
      loop {
        ticks.tick().await;
        if trim.is_due(Usage::now()) {
          // Walks over all that is free.
          let _ = tokio::task::spawn_blocking(give_free_memory_back).await;
          trim.done(Usage::now());
        }
      }
    });
  }

  /// In bytes.
  #[derive(Clone, Copy)]
  struct Usage {
    resident: u64,
    /// Freed, and given back or not.
    free: u64,
  }

  impl Usage {
    fn now() -> Self {
      Self {
        resident: resident_bytes(std::process::id()).unwrap_or_default(),
        // SAFETY: it only reads the allocator's counts, under its locks.
        free: unsafe { libc::mallinfo2() }.fordblks as u64,
      }
    }
  }

  /// When there is something to give back. What was given back still counts as free, so it is growth that
  /// tells: of what is resident, or of what is free, for that may have been used when the rest was given
  /// back.
  #[derive(Default)]
  struct Trim {
    /// The least of each since the last time.
    least: Option<Usage>,
  }

  impl Trim {
    fn is_due(&mut self, now: Usage) -> bool {
      let least = self.least.unwrap_or(now);
      let least = Usage {
        resident: least.resident.min(now.resident),
        free: least.free.min(now.free),
      };
      self.least = Some(least);
      let grown = now.resident >= least.resident + WORTH_IT || now.free >= least.free + WORTH_IT;
      now.free >= WORTH_IT && grown
    }

    fn done(&mut self, now: Usage) {
      self.least = Some(now);
    }
  }

  #[cfg(test)]
  mod tests {
    use super::*;

    const fn mib(resident: u64, free: u64) -> Usage {
      Usage {
        resident: resident * MIB,
        free: free * MIB,
      }
    }

    #[test]
    fn memory_is_given_back_once_for_each_growth() {
      let mut trim = Trim {
        least: Some(Usage::now()),
      };
      assert!(!trim.is_due(mib(50, 0)));
      assert!(!trim.is_due(mib(200, 1)), "all of it is used");
      assert!(trim.is_due(mib(200, 150)));
      trim.done(mib(60, 150));
      assert!(!trim.is_due(mib(60, 150)), "free, but not resident");
      assert!(!trim.is_due(mib(70, 140)));
      assert!(trim.is_due(mib(80, 130)));
      trim.done(mib(80, 130));
      assert!(!trim.is_due(mib(55, 130)));
      assert!(trim.is_due(mib(75, 130)), "less than before is seen");
    }

    #[test]
    fn what_is_freed_while_memory_is_given_back_goes_the_next_time() {
      let mut trim = Trim {
        least: Some(Usage::now()),
      };
      assert!(!trim.is_due(mib(50, 0)));
      assert!(trim.is_due(mib(96, 20)));
      // A log of 26 MiB was still used.
      trim.done(mib(76, 20));
      assert!(trim.is_due(mib(76, 46)));
    }
  }
}
