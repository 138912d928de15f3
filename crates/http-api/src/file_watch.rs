//! What happens to watched files, as server-sent events.

use axum::body::Body;
use axum::http::Response;
use engine::files;
use engine::files::FileEvent;
use engine::files::Store;
use futures::StreamExt;
use futures::stream;
use kernel_protocol::files::ChangeKind;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::stream::sse_events;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub(crate) enum WireFileEvent {
  /// The watch stands: nothing is missed from here on.
  Watching {
    /// As it was asked for.
    path: String,
  },
  Created {
    path: String,
  },
  Modified {
    path: String,
  },
  /// Deleted, or renamed.
  Removed {
    path: String,
  },
  /// More has changed than is told: list the directory again.
  Overflow,
  /// Nothing more will come.
  Ended {
    reason: String,
  },
}

impl From<FileEvent> for WireFileEvent {
  fn from(event: FileEvent) -> Self {
    match event {
      FileEvent::Changed { path, change } => match change {
        ChangeKind::Created => Self::Created { path },
        ChangeKind::Modified => Self::Modified { path },
        ChangeKind::Removed => Self::Removed { path },
      },
      FileEvent::Overflow => Self::Overflow,
      FileEvent::Ended { reason } => Self::Ended { reason },
    }
  }
}

/// Watches a file or a directory for as long as the client reads.
pub(crate) async fn watch(store: &dyn Store, path: String) -> ApiResult<Response<Body>> {
  let watch = files::watch(store, &path).await?;
  let start = stream::iter([WireFileEvent::Watching { path }]);
  let changes = stream::unfold(watch, async |mut watch| {
    let event = watch.next().await?;
    Some((WireFileEvent::from(event), watch))
  });
  Ok(sse_events(start.chain(changes)))
}
