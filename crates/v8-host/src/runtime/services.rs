//! What the main isolate and its web workers have in common.

use crate::runtime::HeapLimit;
use crate::runtime::certificates::TrustedRoots;
use crate::runtime::extension;
use crate::runtime::identity::DENO_VERSION;
use crate::runtime::identity::user_agent;
use crate::runtime::modules::LocalModules;
use crate::runtime::modules::Modules;
use crate::runtime::sys::KernelSys;
use deno_core::CompiledWasmModuleStore;
use deno_core::SharedArrayBufferStore;
use deno_core::error::JsError;
use deno_runtime::BootstrapOptions;
use deno_runtime::FeatureChecker;
use deno_runtime::WorkerExecutionMode;
use deno_runtime::deno_io::Stdio;
use deno_runtime::deno_web::InMemoryBroadcastChannel;
use kernel_host::sink::ProcessOwner;
use kernel_host::sink::SharedSink;
use std::sync::Arc;

/// What the main isolate and its web workers share.
#[derive(Clone)]
pub(super) struct SharedServices {
  pub sink: SharedSink,
  pub owner: ProcessOwner,
  pub sys: KernelSys,
  pub heap: HeapLimit,
  pub modules: Arc<Modules>,
  pub local: LocalModules,
  pub broadcast_channel: InMemoryBroadcastChannel,
  pub features: Arc<FeatureChecker>,
  pub shared_buffers: SharedArrayBufferStore,
  pub wasm_modules: CompiledWasmModuleStore,
  pub stdio: Stdio,
  pub roots: Arc<TrustedRoots>,
}

impl SharedServices {
  pub(super) fn extension(&self) -> deno_core::Extension {
    extension::extension(
      self.sink.clone(),
      self.sys.env.clone(),
      self.sys.fs.clone(),
      self.owner,
    )
  }
}

pub(super) fn bootstrap_options(mode: WorkerExecutionMode) -> BootstrapOptions {
  BootstrapOptions {
    deno_version: DENO_VERSION.to_owned(),
    user_agent: user_agent(),
    color_level: deno_runtime::colors::ColorLevel::None,
    mode,
    ..Default::default()
  }
}

pub(crate) fn format_js_error(error: &JsError) -> String {
  deno_runtime::fmt_errors::format_js_error(error, None)
}
