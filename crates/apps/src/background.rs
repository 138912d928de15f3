//! Code that runs beside an app's program and whose caller does not wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel_protocol::KernelEvent;
use kernel_protocol::json::JsonText;
use kernels::LogReader;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::log::AppLog;
use crate::log::Level;

/// Most bytes of one result or error in a log.
const MAX_NOTE: usize = 8 << 10;

/// Notes results and errors of an execution in the log of its app, and its end. What it prints gets there by itself.
pub(crate) async fn note(log: Arc<AppLog>, instance: u64, mut events: LogReader) {
  let id = events.execution().id;
  while let Some((_, event)) = events.next().await {
    let (level, text) = match (&*event, event.error()) {
      (_, Some(report)) => (Level::Error, format!("{}: {}", report.ename, report.evalue)),
      (KernelEvent::ExecuteResult(shown) | KernelEvent::DisplayData(shown), _) => {
        (Level::Info, in_words(shown))
      }
      _ => continue,
    };
    let cut = text.floor_char_boundary(MAX_NOTE);
    log.note(instance, level, format!("{id}: {}", &text[..cut]));
  }
  log.note(instance, Level::Info, format!("{id} has ended"));
}

/// The text of what was shown; of what has none, its types.
fn in_words(shown: &JsonText) -> String {
  #[derive(Deserialize)]
  struct Shown<'a> {
    #[serde(borrow)]
    data: BTreeMap<String, &'a RawValue>,
  }
  let Ok(Shown { data }) = serde_json::from_str(shown.as_str()) else {
    return String::new();
  };
  let plain = data.get("text/plain");
  let text = plain.and_then(|text| serde_json::from_str::<String>(text.get()).ok());
  text.unwrap_or_else(|| {
    let types: Vec<String> = data.into_keys().collect();
    format!("[{}]", types.join(", "))
  })
}
