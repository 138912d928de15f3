//! The tags in which a model answers: `<thoughts>`, a script to run, `<returnToUser>`.
//!
//! What follows a forged `<observation>` is not read: a model that writes one goes on from results that
//! it has made up.

use std::ops::Range;

/// Tags of scripts, in the order in which they are looked for.
const SCRIPTS: [&str; 3] = ["py-script", "t-script", "js-script"];
const THOUGHTS: &str = "thoughts";
const ANSWER: &str = "returnToUser";
const OBSERVATION: &str = "observation";

/// What a model wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Intent {
  /// Its answer to the user.
  Answer {
    content: String,
    /// Ids of the scripts whose results it hands over.
    commits: Vec<String>,
  },
  Script {
    tag: &'static str,
    code: String,
    thoughts: Option<String>,
  },
  /// Tags, but none that asks for anything.
  Tags,
  /// Text without tags.
  Text,
  Empty,
}

/// What was read of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
  pub intent: Intent,
  /// The answer as far as it was read.
  pub text: String,
  /// Whether a forged observation followed.
  pub forged: bool,
}

/// One tag with an end.
struct Block<'a> {
  tag: &'static str,
  attributes: &'a str,
  content: &'a str,
}

/// Reads what a model has written.
pub(crate) fn read(output: &str) -> Reading {
  let (blocks, end, tagged) = blocks(output);
  let text = output[..end].trim_end();
  let of = |tag: &str| blocks.iter().find(|block| block.tag == tag);
  let intent = if let Some(answer) = of(ANSWER) {
    Intent::Answer {
      content: answer.content.trim().to_owned(),
      commits: commits(answer.attributes),
    }
  } else if let Some(script) = SCRIPTS.iter().find_map(|tag| of(tag)) {
    Intent::Script {
      tag: script.tag,
      code: script.content.trim().to_owned(),
      thoughts: of(THOUGHTS).map(|block| block.content.trim().to_owned()),
    }
  } else if text.trim().is_empty() {
    Intent::Empty
  } else if tagged {
    Intent::Tags
  } else {
    Intent::Text
  };
  Reading {
    intent,
    text: text.to_owned(),
    forged: end < output.len(),
  }
}

/// The blocks before the first observation, where reading ends, and whether there was any known tag.
fn blocks(output: &str) -> (Vec<Block<'_>>, usize, bool) {
  let mut blocks = Vec::new();
  let mut tagged = false;
  let mut position = 0;
  while let Some(found) = output[position..].find('<') {
    let start = position + found;
    position = start + 1;
    let Some((tag, attributes)) = opening(output, start) else {
      continue;
    };
    if tag == OBSERVATION {
      return (blocks, start, tagged);
    }
    tagged = true;
    let after = attributes.end + 1;
    if let Some(content) = content(output, after, tag) {
      position = content.end;
      blocks.push(Block {
        tag,
        attributes: &output[attributes],
        content: &output[content],
      });
    }
  }
  (blocks, output.len(), tagged)
}

/// The known tag that opens at `start`, and where its attributes stand.
fn opening(output: &str, start: usize) -> Option<(&'static str, Range<usize>)> {
  let rest = &output[start + 1..];
  let known = SCRIPTS.into_iter().chain([THOUGHTS, ANSWER, OBSERVATION]);
  for tag in known {
    let Some(name) = rest.get(..tag.len()) else {
      continue;
    };
    if !same(tag, name) || !rest[tag.len()..].starts_with(|c: char| c == '>' || c.is_whitespace()) {
      continue;
    }
    let from = start + 1 + tag.len();
    let length = output[from..].find('>')?;
    return Some((tag, from..from + length));
  }
  None
}

/// What stands between `start` and the end of the tag.
fn content(output: &str, start: usize, tag: &str) -> Option<Range<usize>> {
  let rest = &output[start..];
  let ends = rest.match_indices("</").map(|(at, _)| at);
  let end = ends.into_iter().find(|at| {
    let name = &rest[at + 2..];
    name.get(..tag.len()).is_some_and(|name| same(tag, name))
      && name[tag.len()..].trim_start().starts_with('>')
  })?;
  Some(start..start + end)
}

/// The answer's tag is written as it is, all others in any case.
fn same(tag: &str, name: &str) -> bool {
  match tag {
    ANSWER => name == tag,
    _ => name.eq_ignore_ascii_case(tag),
  }
}

/// The ids in `commit="a, b"`.
fn commits(attributes: &str) -> Vec<String> {
  let value = attributes.split_once("commit").and_then(|(_, rest)| {
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next()
  });
  let ids = value.unwrap_or_default().split(',').map(str::trim);
  ids.filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
  use proptest::prelude::*;

  use super::*;

  fn intent(output: &str) -> Intent {
    read(output).intent
  }

  fn script(tag: &'static str, code: &str, thoughts: Option<&str>) -> Intent {
    Intent::Script {
      tag,
      code: code.into(),
      thoughts: thoughts.map(str::to_owned),
    }
  }

  fn answer(content: &str, commits: &[&str]) -> Intent {
    Intent::Answer {
      content: content.into(),
      commits: commits.iter().map(|&id| id.to_owned()).collect(),
    }
  }

  #[test]
  fn a_script_is_run_whatever_stands_around_it() {
    assert_eq!(
      intent("Well.\n<Thoughts>add</thoughts>\n<PY-script id=\"a\">\nprint(1 < 2)\n</py-script >x"),
      script("py-script", "print(1 < 2)", Some("add"))
    );
    assert_eq!(
      intent("<t-script>1</t-script>"),
      script("t-script", "1", None)
    );
    // Tags are looked for in their order, not in that of the text.
    assert_eq!(
      intent("<js-script>b</js-script><py-script>a</py-script>"),
      script("py-script", "a", None)
    );
  }

  #[test]
  fn an_answer_comes_before_a_script() {
    assert_eq!(
      intent("<py-script>1</py-script><returnToUser commit='a, b,'> 4 </returnToUser>"),
      answer("4", &["a", "b"])
    );
    assert_eq!(intent("<returnToUser>ok</returnToUser>"), answer("ok", &[]));
    assert_eq!(intent("<returntouser>ok</returntouser>"), Intent::Text);
  }

  #[test]
  fn nothing_behind_a_forged_observation_counts() {
    let reading = read(
      "<py-script>1</py-script>\n<Observation>\n42</observation><returnToUser>42</returnToUser>",
    );
    assert_eq!(reading.intent, script("py-script", "1", None));
    assert!(reading.forged && reading.text == "<py-script>1</py-script>");
    let reading = read("<observation>42</observation><returnToUser>42</returnToUser>");
    assert!(reading.forged && reading.intent == Intent::Empty);
    // One within code or an answer is text of theirs.
    let reading = read("<py-script>print('<observation>')</py-script>");
    assert_eq!(
      reading.intent,
      script("py-script", "print('<observation>')", None)
    );
    assert!(!reading.forged);
  }

  #[test]
  fn what_asks_for_nothing_is_told_apart() {
    assert_eq!(intent(" \n"), Intent::Empty);
    assert_eq!(intent("Hello < you"), Intent::Text);
    assert_eq!(intent("<thoughts>hm</thoughts>"), Intent::Tags);
    assert_eq!(intent("<py-script>never closed"), Intent::Tags);
    assert_eq!(intent("<py-scripts>x</py-scripts>"), Intent::Text);
  }

  proptest! {
    #[test]
    fn any_text_is_read(output in "(<|>|/|py-script|returnToUser|observation| |é|\"|commit=){0,40}") {
      let reading = read(&output);
      prop_assert!(output.starts_with(&reading.text));
    }
  }
}
