//! Work beside the caller's.

use super::VectorError;

/// Goes on when the caller stops waiting: half of it would leave something behind.
pub(super) async fn whole<T: Send + 'static>(
  work: impl Future<Output = Result<T, VectorError>> + Send + 'static,
) -> Result<T, VectorError> {
  flatten(tokio::spawn(work).await)
}

/// On a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
  work: impl FnOnce() -> Result<T, VectorError> + Send + 'static,
) -> Result<T, VectorError> {
  flatten(tokio::task::spawn_blocking(work).await)
}

fn flatten<T>(
  outcome: Result<Result<T, VectorError>, tokio::task::JoinError>,
) -> Result<T, VectorError> {
  outcome.unwrap_or_else(|error| {
    tracing::error!("work on a vector index ended early: {error}");
    Err(VectorError::Storage(
      "the work on the vector index ended early; the log of the server says why".into(),
    ))
  })
}
