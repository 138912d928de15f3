//! Variables that kernels of agents get besides their own: who makes them, and for whom, is not known here.

use std::sync::Arc;
use std::sync::PoisonError;

use kernels::EnvironmentSource;

use crate::config::AgentConfig;
use crate::manager::AgentManager;

/// Makes variables for those for whom agents were made.
pub trait Environments: Send + Sync {
  /// The source of `whom`, a name that these environments have given (`environment` of
  /// [`CreateAgent`](crate::CreateAgent)).
  fn source(&self, whom: &str) -> Arc<dyn EnvironmentSource>;
}

impl AgentManager {
  /// Has the next kernels of agents get variables from there.
  pub fn set_environments(&self, environments: Arc<dyn Environments>) {
    let current = self.environments.write();
    *current.unwrap_or_else(PoisonError::into_inner) = Some(environments);
  }

  /// What makes variables for the kernel of an agent. None does while nobody offers it.
  pub(crate) fn environment_of(&self, config: &AgentConfig) -> Option<Arc<dyn EnvironmentSource>> {
    let whom = config.environment.as_deref()?;
    let environments = self.environments.read();
    let environments = environments.unwrap_or_else(PoisonError::into_inner);
    Some(environments.as_ref()?.source(whom))
  }
}
