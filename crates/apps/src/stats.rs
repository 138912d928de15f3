//! Processor time and memory of an instance, from `/proc`. Blocks for a few milliseconds at most.

#![expect(clippy::disallowed_methods, reason = "files of /proc wait for no disk")]

use std::fs;
use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

/// What an app uses now. Figures that are not known are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStats {
  /// Seconds since the running program was started.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub uptime: Option<f64>,
  pub restarts: u64,
  #[serde(flatten)]
  pub process: ProcessStats,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStats {
  /// Processor time of the process and its ended children, in seconds.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub cpu_seconds: Option<f64>,
  /// Share of one processor since the last sample, or since the process was started.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub cpu_percent: Option<f64>,
  /// Memory in RAM, in bytes, including what is shared with other processes.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub resident_bytes: Option<u64>,
  /// Memory in RAM, in bytes, where shared memory is divided among the processes that share it.
  #[serde(skip_serializing_if = "Option::is_none")]
  pub proportional_bytes: Option<u64>,
}

/// Remembers the last sample.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
  last: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
  pid: u32,
  time: Instant,
  cpu_seconds: f64,
}

impl Sampler {
  pub(crate) fn sample(&mut self, pid: u32) -> ProcessStats {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let stat = read("stat").and_then(|text| Stat::parse(&text));
    let now = Instant::now();
    let cpu_percent = stat.and_then(|stat| {
      let earlier = self.last.filter(|last| last.pid == pid);
      let (cpu, seconds) = match earlier {
        Some(last) => (
          last.cpu_seconds,
          now.duration_since(last.time).as_secs_f64(),
        ),
        None => (0.0, uptime_of_machine()? - stat.began),
      };
      (seconds > 0.0).then(|| ((stat.cpu_seconds - cpu) / seconds * 100.0).max(0.0))
    });
    self.last = stat.map(|stat| Sample {
      pid,
      time: now,
      cpu_seconds: stat.cpu_seconds,
    });
    ProcessStats {
      cpu_seconds: stat.map(|stat| stat.cpu_seconds),
      cpu_percent,
      resident_bytes: read("statm").and_then(|text| resident(&text)),
      proportional_bytes: read("smaps_rollup").and_then(|text| proportional(&text)),
    }
  }
}

/// The useful part of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
  cpu_seconds: f64,
  /// When the process was started, in seconds after the machine was booted.
  began: f64,
}

impl Stat {
  fn parse(text: &str) -> Option<Self> {
    // The name of the program may hold spaces and parentheses; what follows the last one is plain.
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^52")]
    let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    // utime, stime, cutime, cstime; the first field here is the third in the manual.
    let mut ticks = 0_u64;
    for field in fields.get(11..15)? {
      ticks = ticks.checked_add(field.parse().ok()?)?;
    }
    Some(Self {
      cpu_seconds: seconds(ticks),
      began: seconds(fields.get(19)?.parse().ok()?),
    })
  }
}

fn uptime_of_machine() -> Option<f64> {
  let text = fs::read_to_string("/proc/uptime").ok()?;
  text.split_whitespace().next()?.parse().ok()
}

fn resident(statm: &str) -> Option<u64> {
  let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
  pages.checked_mul(rustix::param::page_size() as u64)
}

fn proportional(smaps_rollup: &str) -> Option<u64> {
  let line = smaps_rollup
    .lines()
    .find_map(|line| line.strip_prefix("Pss:"))?;
  let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
  kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn a_program_may_have_any_name() {
    let ticks = rustix::param::clock_ticks_per_second();
    let stat = format!(
      "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 {ticks} {ticks} {ticks} {} 20 0 1 0 {} 9 9",
      ticks * 2,
      ticks * 4
    );
    let stat = Stat::parse(&stat).expect("parses");
    assert!(
      (stat.cpu_seconds - 5.0).abs() < 1e-9 && (stat.began - 4.0).abs() < 1e-9,
      "{stat:?}"
    );
    assert_eq!(Stat::parse("7 (a) S 1"), None);
  }

  #[test]
  fn proportional_memory_is_the_line_pss() {
    assert_eq!(
      proportional("00-ff ---p [rollup]\nRss: 9 kB\nPss:      3 kB\nPss_Dirty: 1 kB\n"),
      Some(3072)
    );
    assert_eq!(proportional("Pss_Dirty: 1 kB"), None);
  }

  #[test]
  #[cfg(target_os = "linux")]
  fn a_live_process_is_sampled_and_one_that_is_gone_has_nothing() {
    let mut sampler = Sampler::default();
    let first = sampler.sample(std::process::id());
    assert!(
      first.resident_bytes.is_some_and(|bytes| bytes > 1 << 20),
      "{first:?}"
    );
    assert!(
      first
        .proportional_bytes
        .is_some_and(|bytes| bytes <= first.resident_bytes.unwrap_or(0))
    );
    let used = |sampler: &mut Sampler| sampler.sample(std::process::id()).cpu_seconds;
    let goal = first.cpu_seconds.expect("is known") + 0.03;
    while used(&mut Sampler::default()).expect("is known") < goal {
      std::hint::spin_loop();
    }
    let second = sampler.sample(std::process::id());
    assert!(
      second.cpu_percent.is_some_and(|percent| percent > 0.0),
      "{second:?}"
    );
    // Above the largest process id there can be.
    assert_eq!(sampler.sample(u32::MAX), ProcessStats::default());
  }
}
