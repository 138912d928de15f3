//! Takes secrets out of what other servers say.

use std::fmt;

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// Texts that no message may hold.
#[derive(Clone)]
pub(crate) struct Redactor(Vec<String>);

impl fmt::Debug for Redactor {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("[secrets]")
  }
}

impl Redactor {
  /// For a key, the user and the password of a URL, and the values of its query, which may be keys.
  pub(crate) fn new(key: Option<&str>, url: &Url) -> Self {
    let mut secrets: Vec<String> = key.map(str::to_owned).into_iter().collect();
    for encoded in [url.username(), url.password().unwrap_or_default()] {
      secrets.push(encoded.to_owned());
      secrets.push(percent_decode_str(encoded).decode_utf8_lossy().into_owned());
    }
    secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    secrets.retain(|secret| !secret.is_empty());
    // One that is part of another would leave the rest of that behind.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    Self(secrets)
  }

  /// Without secrets.
  pub(crate) fn redact(&self, text: &str) -> String {
    self.0.iter().fold(text.to_owned(), |text, secret| {
      text.replace(secret.as_str(), "[secret]")
    })
  }

  /// Without secrets, on one line, and not too much of it.
  pub(crate) fn clean(&self, text: &str) -> String {
    outbound::printable(self.redact(text).trim())
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn no_secret_of_an_endpoint_is_left() {
    let url = "https://me%40a:pass%20word@host/v1?code=c0de&empty=";
    let redactor = Redactor::new(Some("sk-1"), &Url::parse(url).expect("a URL"));
    let said = "key sk-1, me@a or me%40a, pass word or pass%20word, c0de\nsk-1-more";
    assert_eq!(
      redactor.clean(said),
      "key [secret], [secret] or [secret], [secret] or [secret], [secret] [secret]-more"
    );
    assert_eq!(format!("{redactor:?}"), "[secrets]");
  }

  #[test]
  fn a_secret_is_taken_out_before_the_text_is_cut() {
    let url = Url::parse("https://host/").expect("a URL");
    let redactor = Redactor::new(Some("hunter2"), &url);
    let said = format!("{}hunter2", "a".repeat(297));
    assert!(!redactor.clean(&said).contains("hun"));
  }
}
