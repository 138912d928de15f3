//! Addresses of instances.

use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::gate::Gate;

/// The server of an instance.
#[derive(Clone)]
pub struct Upstream {
  pub(crate) address: SocketAddr,
  /// The gate, if only the engine can connect.
  pub(crate) gate: Option<Arc<Gate>>,
}

impl Upstream {
  /// A server that every process of this machine can connect to.
  pub fn open(address: SocketAddr) -> Self {
    Self {
      address,
      gate: None,
    }
  }

  /// A server that only the engine can connect to.
  pub fn gated(gate: Gate) -> Self {
    Self {
      address: gate.address(),
      gate: Some(Arc::new(gate)),
    }
  }
}

impl PartialEq for Upstream {
  fn eq(&self, other: &Self) -> bool {
    let gate = |upstream: &Self| upstream.gate.as_ref().map(Arc::as_ptr);
    self.address == other.address && gate(self) == gate(other)
  }
}

impl Eq for Upstream {}

impl Hash for Upstream {
  fn hash<H: Hasher>(&self, state: &mut H) {
    self.address.hash(state);
  }
}

impl fmt::Debug for Upstream {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "Upstream({})", self.address)
  }
}
