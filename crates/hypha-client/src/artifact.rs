//! Artifacts as a server describes them, and the published apps among them.

use std::collections::HashSet;

use outbound::printable;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::Digest;
use sha2::Sha256;

/// The type of artifacts that the engine runs.
pub(crate) const APP_TYPE: &str = "deno-app";

/// A published app.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
  /// `workspace/alias`.
  pub id: String,
  pub workspace: String,
  pub alias: String,
  /// Changes whenever another version or another manifest is published, and only then.
  pub version: String,
  /// Any JSON: the manifest as its publisher wrote it.
  pub manifest: Value,
}

/// One pass over all pages of a collection.
#[derive(Default)]
pub(crate) struct Listing {
  pub apps: Vec<Artifact>,
  ids: HashSet<String>,
  pub items: usize,
  pub total: usize,
  totals_differ: bool,
}

impl Listing {
  /// Adds a page. Returns whether there are more.
  pub(crate) fn take(&mut self, page: Page) -> bool {
    let ended = page.items.is_empty();
    self.totals_differ |= self.items > 0 && page.total != self.total;
    self.total = page.total;
    self.items += page.items.len();
    for document in page.items {
      if self.ids.insert(document.id.clone()) {
        self.apps.extend(document.published());
      }
    }
    !ended && self.items < self.total
  }

  pub(crate) fn is_complete(&self) -> bool {
    !self.totals_differ && self.items == self.total
  }

  /// Whether nothing was added or removed between two pages, as far as can be told.
  pub(crate) fn is_steady(&self) -> bool {
    self.is_complete() && self.ids.len() == self.items
  }
}

#[derive(Deserialize)]
pub(crate) struct Page {
  pub items: Vec<Document>,
  pub total: usize,
}

/// An artifact as the server describes it.
#[derive(Deserialize)]
pub(crate) struct Document {
  pub id: String,
  #[serde(rename = "type")]
  kind: Option<String>,
  pub parent_id: Option<String>,
  /// Parsed later: a manifest that one publisher got wrong must not hide the other apps.
  manifest: Option<Box<RawValue>>,
  /// Empty while there is only a draft.
  versions: Option<Vec<Version>>,
}

#[derive(Deserialize)]
struct Version {
  version: String,
}

impl Document {
  /// The app; `None` if it is not one, or not published.
  pub(crate) fn published(self) -> Option<Artifact> {
    let last = self.versions?.pop()?;
    if self.kind.as_deref() != Some(APP_TYPE) {
      return None;
    }
    let skip = |why: &str| tracing::warn!("not run: `{}` {why}", printable(&self.id));
    let Some((workspace, alias)) = split_id(&self.id) else {
      skip("cannot be addressed");
      return None;
    };
    let manifest = self.manifest.as_deref().map_or("null", RawValue::get);
    let Ok(manifest) = serde_json::from_str::<Value>(manifest) else {
      skip("has a manifest that cannot be read");
      return None;
    };
    // Not the time of the last change: drafts move it, and two changes may share a second.
    let digest = Sha256::digest(manifest.to_string());
    let digest: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    Some(Artifact {
      workspace: workspace.to_owned(),
      alias: alias.to_owned(),
      version: format!("{}-{digest}", last.version),
      manifest,
      id: self.id,
    })
  }
}

/// `workspace` and `alias` of `workspace/alias`.
pub(crate) fn split_id(id: &str) -> Option<(&str, &str)> {
  id.split_once('/')
    .filter(|(workspace, alias)| is_segment(workspace) && is_segment(alias))
}

/// Whether a text is unchanged as one segment of a URL's path.
pub(crate) fn is_segment(text: &str) -> bool {
  !matches!(text, "" | "." | "..")
    && !text.contains(['/', '\\'])
    && !text.contains(char::is_control)
}
