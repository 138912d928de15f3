//! A clock for a thread that waits for other things as well.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(super) struct Alarm {
  timer: OwnedFd,
  set: bool,
}

impl Alarm {
  pub(super) fn new() -> io::Result<Self> {
    // SAFETY: takes numbers.
    let timer = unsafe {
      libc::timerfd_create(
        libc::CLOCK_MONOTONIC,
        libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
      )
    };
    if timer < 0 {
      return Err(io::Error::last_os_error());
    }
    Ok(Self {
      // SAFETY: just made, and nobody else's.
      timer: unsafe { OwnedFd::from_raw_fd(timer) },
      set: false,
    })
  }

  /// A descriptor that can be read once the alarm goes off.
  pub(super) fn watch(&self) -> io::Result<OwnedFd> {
    self.timer.try_clone()
  }

  /// Goes off after `time`; earlier when it was set before, where setting it once more costs nothing. `false` when the
  /// system does not let it.
  pub(super) fn set(&mut self, time: Duration) -> bool {
    self.set = self.set || self.arm(time);
    self.set
  }

  /// Does not go off any more. That costs less than a thread that wakes up for nothing.
  pub(super) fn clear(&mut self) {
    if self.set {
      self.arm(Duration::ZERO);
      self.set = false;
    }
  }

  /// Zero disarms.
  fn arm(&self, time: Duration) -> bool {
    let value = libc::itimerspec {
      it_interval: libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
      },
      it_value: libc::timespec {
        tv_sec: time.as_secs().cast_signed(),
        tv_nsec: time.subsec_nanos().into(),
      },
    };
    let timer = self.timer.as_raw_fd();
    // SAFETY: the descriptor is a timer, and the time is valid for the call.
    unsafe { libc::timerfd_settime(timer, 0, &raw const value, std::ptr::null_mut()) == 0 }
  }
}
