//! Client for the artifact manager of a Hypha server, over plain HTTP: lists the apps of a collection, and
//! makes tokens that let them work in a workspace, and reads files with the tokens of others.

mod artifact;
mod client;
mod error;
mod files;
mod server;
#[cfg(test)]
#[expect(
  clippy::disallowed_methods,
  reason = "a test is all that its thread does"
)]
mod tests;

pub use self::artifact::Artifact;
pub use self::client::Artifacts;
pub use self::client::HyphaConfig;
pub use self::error::ArtifactsError;
pub use self::files::ArtifactFile;
pub use self::files::ArtifactFiles;
