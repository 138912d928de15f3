//! What an answer that is no completion says.

use std::borrow::Cow;

use crate::chunk::Chunk;
use crate::chunk::Trouble;
use crate::lenient::Several;

/// Google's servers put an error into a list.
pub(crate) type Whole<'a> = Several<Chunk<'a>, 16>;

/// Takes the error out of JSON, if it is one.
pub(crate) fn trouble(chunk: &mut Chunk<'_>) -> Option<Trouble> {
  if let Some(trouble) = std::mem::take(&mut chunk.error).reported() {
    return Some(trouble);
  }
  // vLLM; with `choices`, a message is none.
  if chunk.object.text == "error" {
    return Some(Trouble::saying(std::mem::take(&mut chunk.message).joined()));
  }
  None
}

/// Takes the reason out of JSON that has no choices.
pub(crate) fn reason(chunk: &mut Chunk<'_>) -> Option<Trouble> {
  trouble(chunk).or_else(|| {
    let words = [&mut chunk.message, &mut chunk.detail];
    let found = words.into_iter().find(|words| !words.is_empty())?;
    Some(Trouble::saying(std::mem::take(found).joined()))
  })
}

/// The message in the body of a refusal: that of its JSON, or its text. Empty if it says nothing, or is
/// a web page.
pub(crate) fn refusal(body: &[u8]) -> String {
  let text: Cow<'_, str> = String::from_utf8_lossy(body);
  let text = text.trim();
  if let Ok(Several(chunks)) = serde_json::from_str::<Whole<'_>>(text)
    && let Some(mut first) = chunks.into_iter().next()
    && let Some(trouble) = reason(&mut first)
  {
    return trouble.detail;
  }
  match text.starts_with('<') {
    true => String::new(),
    false => text.to_owned(),
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn refusals_say_why_in_many_ways() {
    for (body, reason) in [
      (
        r#"{"error": {"message": "no model m", "code": 404}}"#,
        "no model m",
      ),
      (r#"{"error": "no model m"}"#, "no model m"),
      (r#"[{"error": {"message": "no model m"}}]"#, "no model m"),
      (
        r#"{"object": "error", "message": "no model m"}"#,
        "no model m",
      ),
      (
        r#"{"detail": [{"loc": ["model"], "msg": "no model m"}]}"#,
        "no model m",
      ),
      (r#"{"detail": "Not Found"}"#, "Not Found"),
      ("404 page not found\n", "404 page not found"),
      ("<html>404</html>", ""),
      ("", ""),
      (r#"{"else": 1}"#, r#"{"else": 1}"#),
    ] {
      assert_eq!(refusal(body.as_bytes()), reason, "{body}");
    }
  }
}
