//! Runs work on other tasks and threads.

use crate::error::VectorError;

/// Runs to completion even when the caller stops waiting: half of it would leave something behind.
pub(crate) async fn run_to_completion<T: Send + 'static>(
  work: impl Future<Output = Result<T, VectorError>> + Send + 'static,
) -> Result<T, VectorError> {
  flatten(tokio::spawn(work).await)
}

/// Runs on a thread that may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
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
