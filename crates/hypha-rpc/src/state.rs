//! Whether a client is connected.

/// The state of a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
  /// It connects, for the first time or again, and registers its services.
  Connecting,
  /// It is connected, and its services are registered, unless the server refuses them.
  Connected,
  /// The connection was lost for this reason; the next attempt follows by itself.
  Lost(String),
  /// The server does not let the client in any more. There are no further attempts.
  Refused(String),
  /// This program has disconnected the client.
  Disconnected,
}
