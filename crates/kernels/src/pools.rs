//! Which blank host each language takes, and where some wait.

use std::path::Path;
use std::sync::Arc;

use kernel_protocol::launch::ModuleCache;
use kernel_protocol::launch::PythonFiles;
use kernel_protocol::launch::Runtime;
use sandbox::Role;

use crate::KernelError;
use crate::KernelType;
use crate::Language;
use crate::Mode;
use crate::launch::Hosts;
use crate::launch::LaunchSpec;
use crate::options::KernelOptions;
use crate::pool::Pool;
use crate::pool::PoolStats;

/// The blank hosts of each runtime that are kept ready, where any are.
pub(crate) struct Pools {
  javascript: Pooled,
  /// Or why there are no Python kernels.
  python: Result<Pooled, String>,
}

/// A runtime in V8. CPython kernels are forked, so none waits.
struct Pooled {
  spec: LaunchSpec,
  pool: Option<Arc<Pool>>,
}

impl Pools {
  pub(crate) fn new(
    options: &KernelOptions,
    hosts: &Arc<dyn Hosts>,
    modules: ModuleCache,
    python: Result<PythonFiles, String>,
  ) -> Self {
    let preload = options.preload();
    let pooled = |runtime, languages: &[Language]| {
      let is_served =
        |kind: &KernelType| kind.mode == Mode::Worker && languages.contains(&kind.language);
      let wanted = options.pool.enabled && preload.iter().any(is_served);
      let spec = LaunchSpec::V8(runtime);
      let pool = wanted.then(|| {
        Pool::new(
          hosts.clone(),
          spec.clone(),
          options.pool.size,
          options.pool.auto_refill,
        )
      });
      Pooled { spec, pool }
    };
    Self {
      python: python.map(|files| {
        let modules = modules.clone();
        pooled(Runtime::Pyodide { files, modules }, &[Language::Python])
      }),
      javascript: pooled(
        Runtime::JavaScript {
          modules,
          main: None,
        },
        &[Language::TypeScript, Language::JavaScript],
      ),
    }
  }

  /// What a blank host of a language boots, and where some wait; `python` is the interpreter of
  /// CPython.
  pub(crate) fn of(
    &self,
    language: Language,
    python: &Path,
  ) -> Result<(LaunchSpec, Option<&Arc<Pool>>), KernelError> {
    let pooled = match language {
      Language::TypeScript | Language::JavaScript => &self.javascript,
      Language::Python => match &self.python {
        Ok(pooled) => pooled,
        Err(reason) => return Err(KernelError::Unsupported(reason.clone())),
      },
      Language::CPython => {
        let spec = LaunchSpec::CPython {
          executable: python.to_owned(),
          role: Role::Kernel,
        };
        return Ok((spec, None));
      }
    };
    Ok((pooled.spec.clone(), pooled.pool.as_ref()))
  }

  fn all(&self) -> impl Iterator<Item = &Arc<Pool>> {
    std::iter::once(&self.javascript)
      .chain(&self.python)
      .filter_map(|pooled| pooled.pool.as_ref())
  }

  pub(crate) fn fill(&self) {
    self.all().for_each(Pool::fill);
  }

  pub(crate) fn close(&self) {
    self.all().for_each(|pool| pool.close());
  }

  pub(crate) fn stats(&self) -> PoolStats {
    self
      .all()
      .map(|pool| pool.stats())
      .fold(PoolStats::default(), |sum, pool| PoolStats {
        available: sum.available + pool.available,
        total: sum.total + pool.total,
      })
  }
}
