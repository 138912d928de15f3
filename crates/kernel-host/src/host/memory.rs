//! Memory that a process holds and does not need.

use std::ops::Range;

/// Returns what glibc keeps of freed memory.
pub fn give_free_memory_back() {
  // SAFETY: takes no pointers and is thread-safe.
  #[cfg(all(target_os = "linux", target_env = "gnu"))]
  unsafe {
    libc::malloc_trim(0);
  }
}

/// Lets go of the program's code and constants, most of which only a start needs; what is used again comes back from the
/// system's cache. Without /proc it does nothing.
pub fn let_go_of_code() {
  let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
    return;
  };
  for range in unchanged_mappings(&maps) {
    // SAFETY: nothing was written there, so that the file has all of it.
    unsafe { libc::madvise(range.start as *mut _, range.len(), libc::MADV_DONTNEED) };
  }
}

/// Where files are mapped that cannot be written to there and have no page of this process's own, from `/proc/self/smaps`
/// (proc(5)).
fn unchanged_mappings(maps: &str) -> Vec<Range<usize>> {
  let mut found = Vec::new();
  let mut candidate = None;
  for line in maps.lines() {
    if let Some(range) = mapping_of_file(line) {
      candidate = range;
    } else if line.starts_with("Anonymous:") && line.split_ascii_whitespace().nth(1) == Some("0") {
      found.extend(candidate.take());
    }
  }
  found
}

/// `None` when the line begins no mapping, `Some(None)` when it is none of a file that is only read.
fn mapping_of_file(line: &str) -> Option<Option<Range<usize>>> {
  let mut words = line.split_ascii_whitespace();
  let (start, end) = words.next()?.split_once('-')?;
  let start = usize::from_str_radix(start, 16).ok()?;
  let end = usize::from_str_radix(end, 16).ok()?;
  let permissions = words.next()?;
  let is_read = matches!(permissions, "r-xp" | "r--p");
  let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
  Some((is_read && is_file).then_some(start..end))
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn only_what_a_file_has_is_let_go_of() {
    let maps = "\
1000-3000 r--p 00000000 fe:00 12 /bin/program
Rss:                   8 kB
Anonymous:             0 kB
3000-5000 r-xp 00003000 fe:00 12 /bin/program
Anonymous:             0 kB
5000-6000 r--p 00005000 fe:00 12 /bin/program
Anonymous:             4 kB
6000-7000 rw-p 00006000 fe:00 12 /bin/program
Anonymous:             0 kB
7000-8000 r--p 00000000 00:00 0
Anonymous:             0 kB
8000-9000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
    assert_eq!(unchanged_mappings(maps), [0x1000..0x3000, 0x3000..0x5000]);
  }

  #[test]
  fn a_process_goes_on_without_its_code() {
    let before = std::hint::black_box("a constant").len();
    let_go_of_code();
    assert_eq!(std::hint::black_box("a constant").len(), before);
  }
}
