//! `new Worker(…)` in a cell: another isolate on another thread of the same kernel process.

use std::rc::Rc;
use std::sync::Arc;

use deno_resolver::npm::DenoInNpmPackageChecker;
use deno_resolver::npm::NpmResolver;
use deno_runtime::WorkerExecutionMode;
use deno_runtime::ops::worker_host::CreateWebWorkerCb;
use deno_runtime::web_worker::WebWorker;
use deno_runtime::web_worker::WebWorkerOptions;
use deno_runtime::web_worker::WebWorkerServiceOptions;
use sys_traits::impls::RealSys;

use crate::runtime::limits::HeapLimit;
use crate::runtime::modules::KernelModuleLoader;
use crate::runtime::safe_point::LoadMark;
use crate::runtime::services::SharedServices;
use crate::runtime::services::bootstrap_options;
use crate::runtime::services::format_js_error;

/// Builds the callback that makes web workers like their kernel: same file system, environment and
/// output, permissions never wider than the parent's.
pub(super) fn factory(services: SharedServices) -> Arc<CreateWebWorkerCb> {
  Arc::new(move |args| {
    let modules = services.modules.for_worker(args.permissions.clone());
    let loader = KernelModuleLoader::new(modules.clone(), Rc::default(), LoadMark::default());
    let worker_services =
      WebWorkerServiceOptions::<DenoInNpmPackageChecker, NpmResolver<RealSys>, RealSys> {
        blob_store: services.local.blobs.clone(),
        broadcast_channel: services.broadcast_channel.clone(),
        deno_rt_native_addon_loader: None,
        compiled_wasm_module_store: Some(services.wasm_modules.clone()),
        feature_checker: services.features.clone(),
        fs: services.local.fs.clone(),
        main_inspector_session_tx: Default::default(),
        module_loader: Rc::new(loader),
        node_services: modules.node_services().ok(),
        npm_process_state_provider: None,
        permissions: args.permissions,
        root_cert_store_provider: Some(services.roots.clone()),
        shared_array_buffer_store: Some(services.shared_buffers.clone()),
        bundle_provider: None,
      };
    let options = WebWorkerOptions {
      name: args.name,
      worker_id: args.worker_id,
      bootstrap: deno_runtime::BootstrapOptions {
        location: Some(args.main_module.clone()),
        close_on_idle: args.close_on_idle,
        ..bootstrap_options(WorkerExecutionMode::Worker)
      },
      main_module: args.main_module,
      extensions: vec![services.extension()],
      startup_snapshot: deno_snapshots::CLI_SNAPSHOT,
      residual_lazy_js_sources: deno_snapshots::RESIDUAL_LAZY_JS,
      residual_lazy_esm_sources: deno_snapshots::RESIDUAL_LAZY_ESM,
      unsafely_ignore_certificate_errors: None,
      create_params: Some(HeapLimit::create_params()),
      seed: None,
      create_web_worker_cb: factory(services.clone()),
      format_js_error_fn: Some(Arc::new(format_js_error)),
      worker_type: args.worker_type,
      cache_storage_dir: None,
      stdio: services.stdio.clone(),
      trace_ops: None,
      close_on_idle: args.close_on_idle,
      maybe_worker_metadata: args.maybe_worker_metadata,
      maybe_main_module_blob: args.maybe_main_module_blob,
      maybe_coverage_dir: None,
      maybe_cpu_prof_config: None,
      enable_raw_imports: false,
      enable_stack_trace_arg_in_ops: false,
      wait_for_debugger_on_start: false,
      wait_for_page_wait_for_debugger: false,
    };
    let (mut worker, handle) = WebWorker::bootstrap_from_options(worker_services, options);
    services
      .heap
      .watch(&mut worker.js_runtime, services.sink.clone());
    (worker, handle)
  })
}
