//! Puts tool calls together from their pieces.

use uuid::Uuid;

use crate::error::Fault;
use crate::message::FunctionCall;
use crate::message::ToolCall;
use crate::message::ToolKind;

/// A piece of a tool call; every member may be missing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Piece<'a> {
  pub(crate) index: Option<u64>,
  pub(crate) id: &'a str,
  pub(crate) name: &'a str,
  pub(crate) arguments: &'a str,
}

/// Tool calls that are being written.
pub(crate) struct ToolCalls {
  calls: Vec<Writing>,
  most: usize,
  bytes: usize,
  most_bytes: usize,
}

struct Writing {
  index: Option<u64>,
  id: String,
  name: String,
  arguments: String,
  json: Balance,
}

impl ToolCalls {
  pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
    Self {
      calls: Vec::new(),
      most,
      bytes: 0,
      most_bytes,
    }
  }

  /// Adds a piece, and returns the place of its call.
  pub(crate) fn add(&mut self, piece: Piece<'_>) -> Result<usize, Fault> {
    self.bytes += piece.id.len() + piece.name.len() + piece.arguments.len();
    if self.bytes > self.most_bytes {
      return Err(Fault::too_long("bytes of tool calls", self.most_bytes));
    }
    let place = match self.place(piece) {
      Some(place) => place,
      None => self.begin(piece)?,
    };
    let call = &mut self.calls[place];
    if call.id.is_empty() {
      piece.id.clone_into(&mut call.id);
    }
    // Some servers repeat the name with every piece, some split it.
    if call.name != piece.name {
      call.name.push_str(piece.name);
    }
    call.arguments.push_str(piece.arguments);
    call.json.add(piece.arguments);
    Ok(place)
  }

  fn begin(&mut self, piece: Piece<'_>) -> Result<usize, Fault> {
    if self.calls.len() >= self.most {
      return Err(Fault::too_long("tool calls", self.most));
    }
    self.calls.push(Writing {
      index: piece.index,
      id: String::new(),
      name: String::new(),
      arguments: String::new(),
      json: Balance::default(),
    });
    Ok(self.calls.len() - 1)
  }

  /// The call that a piece continues.
  fn place(&self, piece: Piece<'_>) -> Option<usize> {
    let last = self.calls.len().checked_sub(1);
    let place = match piece.index {
      Some(_) => self
        .calls
        .iter()
        .rposition(|call| call.index == piece.index),
      None if piece.id.is_empty() => last,
      None => {
        let same = self.calls.iter().rposition(|call| call.id == piece.id);
        same.or(last.filter(|_| piece.name.is_empty()))
      }
    };
    place.filter(|place| !self.calls[*place].ends_before(piece))
  }

  /// The whole calls. Ids that are missing are made, for their results need them.
  pub(crate) fn finish(&mut self) -> Result<Vec<ToolCall>, Fault> {
    let calls = std::mem::take(&mut self.calls).into_iter();
    calls
      .filter(|call| !(call.name.is_empty() && call.arguments.is_empty()))
      .map(|call| {
        if call.name.is_empty() {
          return Err(Fault::Malformed("a tool call has no name".to_owned()));
        }
        let id = match call.id.is_empty() {
          true => format!("call_{}", Uuid::new_v4().simple()),
          false => call.id,
        };
        // Servers that get it back as history read it as JSON.
        let arguments = match call.arguments.trim().is_empty() {
          true => "{}".to_owned(),
          false => call.arguments,
        };
        Ok(ToolCall {
          id,
          kind: ToolKind::Function,
          function: FunctionCall {
            name: call.name,
            arguments,
          },
        })
      })
      .collect()
  }
}

impl Writing {
  /// Whether a piece begins another call, although it has no index of its own: servers that send calls
  /// whole leave indices out, or call them all 0.
  fn ends_before(&self, piece: Piece<'_>) -> bool {
    // An id alone says nothing: some servers make a new one for every piece.
    if piece.name.is_empty() {
      return false;
    }
    if !piece.id.is_empty() && !self.id.is_empty() {
      return piece.id != self.id;
    }
    let complete = self.json.is_complete() && !piece.arguments.is_empty();
    let other = piece.index.is_none() && !self.name.is_empty() && piece.name != self.name;
    complete || other
  }
}

/// Tells whether JSON that arrives in pieces is complete, without reading it again for each.
#[derive(Default)]
struct Balance {
  begun: bool,
  open: usize,
  in_string: bool,
  escaped: bool,
}

impl Balance {
  fn add(&mut self, text: &str) {
    for byte in text.bytes() {
      if self.escaped {
        self.escaped = false;
      } else if self.in_string {
        match byte {
          b'\\' => self.escaped = true,
          b'"' => self.in_string = false,
          _ => {}
        }
      } else {
        match byte {
          b'"' => self.in_string = true,
          b'{' | b'[' => {
            self.begun = true;
            self.open += 1;
          }
          b'}' | b']' => self.open = self.open.saturating_sub(1),
          _ => {}
        }
      }
    }
  }

  fn is_complete(&self) -> bool {
    self.begun && self.open == 0 && !self.in_string
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn piece<'a>(index: Option<u64>, id: &'a str, name: &'a str, arguments: &'a str) -> Piece<'a> {
    Piece {
      index,
      id,
      name,
      arguments,
    }
  }

  /// Name and arguments of the calls, and the ids that were not made.
  fn assembled(pieces: &[Piece<'_>]) -> Vec<(String, String, String)> {
    let mut calls = ToolCalls::new(256, 10_000);
    for piece in pieces {
      calls.add(*piece).expect("within limits");
    }
    let calls = calls.finish().expect("named").into_iter();
    calls
      .map(|call| {
        let made = call.id.starts_with("call_") && call.id.len() == 37;
        let id = if made { String::new() } else { call.id };
        (id, call.function.name, call.function.arguments)
      })
      .collect()
  }

  fn owned(calls: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let owned = |(a, b, c): &(&str, &str, &str)| ((*a).into(), (*b).into(), (*c).into());
    calls.iter().map(owned).collect()
  }

  #[test]
  fn pieces_go_where_their_index_says() {
    let pieces = [
      piece(Some(0), "a", "run", ""),
      piece(Some(1), "b", "look", "{"),
      piece(Some(0), "", "", "{\"x\""),
      piece(Some(1), "", "", "}"),
      piece(Some(0), "", "", ":1}"),
    ];
    let calls = [("a", "run", "{\"x\":1}"), ("b", "look", "{}")];
    assert_eq!(assembled(&pieces), owned(&calls));
  }

  #[test]
  fn without_an_index_a_name_begins_a_call() {
    let pieces = [
      piece(None, "a", "run", "{\"x\""),
      piece(None, "", "", ":1}"),
      piece(None, "b", "run", "{}"),
      piece(None, "", "look", "{}"),
      piece(None, "", "look", "{\"y\":2}"),
      piece(None, "", "stop", ""),
    ];
    let calls = [
      ("a", "run", "{\"x\":1}"),
      ("b", "run", "{}"),
      ("", "look", "{}"),
      ("", "look", "{\"y\":2}"),
      ("", "stop", "{}"),
    ];
    assert_eq!(assembled(&pieces), owned(&calls));
  }

  #[test]
  fn calls_that_all_have_index_0_are_told_apart() {
    let pieces = [
      piece(Some(0), "a", "run", "{\"x\":1}"),
      piece(Some(0), "b", "run", "{\"x\":2}"),
      piece(Some(0), "", "look", "{}"),
      piece(Some(0), "", "look", "{}"),
    ];
    let calls = [
      ("a", "run", "{\"x\":1}"),
      ("b", "run", "{\"x\":2}"),
      ("", "look", "{}"),
      ("", "look", "{}"),
    ];
    assert_eq!(assembled(&pieces), owned(&calls));
  }

  #[test]
  fn a_new_id_with_every_piece_begins_no_new_call() {
    let pieces = [
      piece(Some(0), "a1", "run", ""),
      piece(Some(0), "a2", "", "{\"x\":"),
      piece(Some(0), "a3", "", "1}"),
    ];
    assert_eq!(assembled(&pieces), owned(&[("a1", "run", "{\"x\":1}")]));
  }

  #[test]
  fn names_that_are_repeated_or_split_are_one_name() {
    let repeated = [
      piece(Some(0), "a", "run", "{\"x\":"),
      piece(Some(0), "a", "run", "\"}\""),
      piece(Some(0), "a", "run", "}"),
    ];
    assert_eq!(
      assembled(&repeated),
      owned(&[("a", "run", "{\"x\":\"}\"}")])
    );
    let split = [
      piece(Some(0), "a", "run_", ""),
      piece(Some(0), "", "code", "{}"),
    ];
    assert_eq!(assembled(&split), owned(&[("a", "run_code", "{}")]));
  }

  #[test]
  fn ids_that_are_missing_are_made_and_differ() {
    let mut calls = ToolCalls::new(9, 100);
    for index in 0..2 {
      calls.add(piece(Some(index), "", "run", "{}")).expect("few");
    }
    let calls = calls.finish().expect("named");
    assert!(calls[0].id.starts_with("call_") && calls[0].id != calls[1].id);
  }

  #[test]
  fn a_call_without_a_name_is_reported_and_one_without_anything_left_out() {
    let mut calls = ToolCalls::new(9, 100);
    calls.add(piece(Some(0), "a", "", "")).expect("few");
    assert_eq!(calls.finish(), Ok(Vec::new()));
    calls.add(piece(Some(0), "a", "", "{}")).expect("few");
    assert!(matches!(calls.finish(), Err(Fault::Malformed(_))));
  }

  #[test]
  fn calls_are_limited_in_number_and_size() {
    let mut calls = ToolCalls::new(2, 100);
    for index in 0..2 {
      calls.add(piece(Some(index), "", "a", "")).expect("few");
    }
    assert_eq!(
      calls.add(piece(Some(2), "", "a", "")),
      Err(Fault::too_long("tool calls", 2))
    );
    assert_eq!(
      calls.add(piece(Some(0), "", "", &"x".repeat(98))),
      Err(Fault::too_long("bytes of tool calls", 100))
    );
  }
}
