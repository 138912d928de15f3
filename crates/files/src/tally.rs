//! What has become of the names in a folder since it was last told, however often they changed meanwhile.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use kernel_protocol::files::ChangeKind;
use kernel_protocol::files::FileChange;
use kernel_protocol::files::FileChanges;
use kernel_protocol::files::MAX_CHANGES;
use kernel_protocol::files::MAX_ENTRIES;

/// Changes of one watch that wait to be told. Bounded, whatever happens in the folder.
#[derive(Default)]
pub(crate) struct Tally {
  /// Hashes of the names that were there when it was last told; `None` where that is not known.
  known: Option<HashSet<u64>>,
  hasher: RandomState,
  touched: BTreeMap<String, Touched>,
  too_many: bool,
}

/// One thing that happens to a name.
#[derive(Clone, Copy)]
pub(crate) enum Step {
  /// It is new.
  Made,
  /// Something was renamed to it: it may have been there before.
  Arrived,
  Changed,
  Left,
}

struct Touched {
  /// Whether it was there when it was last told, if that is known.
  was_there: Option<bool>,
  is_there: bool,
}

impl Tally {
  /// `names` are those that are there, or `None` where they are too many to know.
  pub(crate) fn new(names: Option<Vec<String>>) -> Self {
    let mut tally = Self::default();
    tally.known = names.map(|names| {
      let hashes = names.iter().map(|name| tally.hasher.hash_one(name));
      hashes.collect()
    });
    tally
  }

  pub(crate) fn note(&mut self, name: &str, step: Step) {
    if self.too_many {
      return;
    }
    if let Some(touched) = self.touched.get_mut(name) {
      match step {
        Step::Made | Step::Arrived => touched.is_there = true,
        Step::Left => touched.is_there = false,
        Step::Changed => {}
      }
      return;
    }
    if self.touched.len() == MAX_CHANGES {
      self.overflow();
      return;
    }
    let was_there = match step {
      Step::Made => Some(false),
      Step::Arrived => {
        let known = self.known.as_ref();
        known.map(|names| names.contains(&self.hasher.hash_one(name)))
      }
      Step::Changed | Step::Left => Some(true),
    };
    let touched = Touched {
      was_there,
      is_there: !matches!(step, Step::Left),
    };
    self.touched.insert(name.to_owned(), touched);
  }

  /// Something was missed.
  pub(crate) fn overflow(&mut self) {
    self.too_many = true;
    self.touched.clear();
    self.known = None;
  }

  /// What there is to tell, if anything.
  pub(crate) fn take(&mut self) -> Option<FileChanges> {
    if std::mem::take(&mut self.too_many) {
      return Some(FileChanges::TooMany);
    }
    let mut changes = Vec::new();
    for (name, touched) in std::mem::take(&mut self.touched) {
      self.remember(&name, touched.is_there);
      let change = match (touched.was_there, touched.is_there) {
        (Some(true), true) => ChangeKind::Modified,
        (Some(false) | None, true) => ChangeKind::Created,
        (Some(true) | None, false) => ChangeKind::Removed,
        // It came and went.
        (Some(false), false) => continue,
      };
      changes.push(FileChange { name, change });
    }
    (!changes.is_empty()).then(|| FileChanges::of(changes))
  }

  fn remember(&mut self, name: &str, is_there: bool) {
    let hash = self.hasher.hash_one(name);
    if let Some(known) = &mut self.known {
      if is_there {
        known.insert(hash);
      } else {
        known.remove(&hash);
      }
      if known.len() > MAX_ENTRIES {
        self.known = None;
      }
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  /// What is told when these steps were noted in a folder that has `old`.
  fn told(steps: &[(&str, Step)]) -> Vec<(String, ChangeKind)> {
    let mut tally = Tally::new(Some(vec!["old".into()]));
    for (name, step) in steps {
      tally.note(name, *step);
    }
    match tally.take() {
      Some(FileChanges::Names(changes)) => {
        let pairs = changes.into_iter().map(|it| (it.name, it.change));
        pairs.collect()
      }
      None => Vec::new(),
      other => panic!("{other:?}"),
    }
  }

  #[test]
  fn a_name_is_told_once_as_what_it_came_to() {
    use ChangeKind::Created;
    use ChangeKind::Modified;
    use ChangeKind::Removed;
    use Step::Arrived;
    use Step::Changed;
    use Step::Left;
    use Step::Made;
    for (steps, change) in [
      (&[Made, Changed, Changed][..], Some(Created)),
      (&[Changed, Changed], Some(Modified)),
      (&[Changed, Left], Some(Removed)),
      (&[Left, Made, Changed], Some(Modified)),
      (&[Made, Left], None),
      (&[Made, Left, Made], Some(Created)),
    ] {
      let steps: Vec<_> = steps.iter().map(|step| ("x", *step)).collect();
      let expected: Vec<_> = change.into_iter().map(|it| ("x".to_owned(), it)).collect();
      assert_eq!(told(&steps), expected);
    }
    assert_eq!(
      told(&[
        ("old", Arrived),
        ("new", Arrived),
        ("part", Made),
        ("part", Left)
      ]),
      [("new".to_owned(), Created), ("old".to_owned(), Modified)]
    );
  }

  #[test]
  fn what_was_told_is_known_from_then_on() {
    let mut tally = Tally::new(Some(Vec::new()));
    for expected in [ChangeKind::Created, ChangeKind::Modified] {
      tally.note("x", Step::Arrived);
      let change = FileChange {
        name: "x".into(),
        change: expected,
      };
      assert_eq!(tally.take(), Some(FileChanges::Names(vec![change])));
      assert_eq!(tally.take(), None);
    }
  }

  #[test]
  fn more_names_than_can_be_told_are_told_as_too_many_and_take_no_memory() {
    let mut tally = Tally::new(Some(Vec::new()));
    for number in 0..100 * MAX_CHANGES {
      tally.note(&number.to_string(), Step::Made);
      assert!(tally.touched.len() <= MAX_CHANGES);
    }
    assert_eq!(tally.take(), Some(FileChanges::TooMany));
    tally.note("x", Step::Changed);
    assert!(matches!(tally.take(), Some(FileChanges::Names(_))));
  }
}
