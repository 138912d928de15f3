//! The main isolate of a kernel: a Deno `MainWorker` that boots blank and is configured later.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::CompiledWasmModuleStore;
use deno_core::ModuleSpecifier;
use deno_core::SharedArrayBufferStore;
use deno_core::v8;
use deno_resolver::npm::DenoInNpmPackageChecker;
use deno_resolver::npm::NpmResolver;
use deno_runtime::BootstrapOptions;
use deno_runtime::FeatureChecker;
use deno_runtime::WorkerExecutionMode;
use deno_runtime::deno_io::Stdio;
use deno_runtime::deno_io::StdioPipe;
use deno_runtime::deno_os::WatcherExitHandle;
use deno_runtime::deno_os::WatcherExited;
use deno_runtime::deno_permissions::PermissionsContainer;
use deno_runtime::deno_web::BlobStore;
use deno_runtime::deno_web::InMemoryBroadcastChannel;
use deno_runtime::worker::MainWorker;
use deno_runtime::worker::WorkerOptions;
use deno_runtime::worker::WorkerServiceOptions;
use kernel_host::host::Surroundings;
use kernel_host::sink::ProcessOwner;
use kernel_protocol::HostConfig;
use kernel_protocol::MainProgram;
use kernel_protocol::launch::ModuleCache;
use sys_traits::impls::RealSys;

use crate::runtime::HeapLimit;
use crate::runtime::Mount;
use crate::runtime::certificates::TrustedRoots;
use crate::runtime::extension::KernelEnv;
use crate::runtime::extension::RunningCell;
use crate::runtime::fs::KernelFs;
use crate::runtime::listen;
use crate::runtime::modules::Access;
use crate::runtime::modules::KernelModuleLoader;
use crate::runtime::modules::LocalModules;
use crate::runtime::modules::Modules;
use crate::runtime::permissions;
use crate::runtime::safe_point;
use crate::runtime::safe_point::LoadMark;
use crate::runtime::services::SharedServices;
use crate::runtime::services::bootstrap_options;
use crate::runtime::services::format_js_error;
use crate::runtime::stack;
use crate::runtime::stack::SourceMaps;
use crate::runtime::sys::KernelSys;
use crate::runtime::web_worker;

/// A booted isolate. Lives on the thread that made it.
pub(crate) struct JsWorker {
  pub worker: MainWorker,
  pub source_maps: Rc<SourceMaps>,
  loader: Rc<KernelModuleLoader>,
  services: SharedServices,
}

impl JsWorker {
  /// Boots a blank runtime that may do nothing yet. Must be called inside a tokio runtime, on a
  /// thread of [`super::spawn_isolate_thread`].
  ///
  /// # Errors
  /// When the null device cannot be opened, or the module settings are unusable.
  pub(crate) fn boot(options: Surroundings, modules: &ModuleCache) -> std::io::Result<Self> {
    Self::boot_with(options, modules, Vec::new())
  }

  /// Boots a runtime for the main program of an app.
  ///
  /// # Errors
  /// When the null device cannot be opened, or the module settings are unusable.
  pub(crate) fn boot_program(
    options: Surroundings,
    modules: &ModuleCache,
    main: &MainProgram,
  ) -> std::io::Result<Self> {
    let program = vec![listen::extension(main.behind_engine)];
    Self::boot_as(options, modules, Some(main), program)
  }

  /// From now on code imports from the web only, as a page does.
  pub(crate) fn allow_web_modules_only(&self) {
    self.loader.allow_web_only();
  }

  /// The same with more extensions than every kernel has.
  ///
  /// # Errors
  /// When the null device cannot be opened, or the module settings are unusable.
  pub(crate) fn boot_with(
    options: Surroundings,
    cache: &ModuleCache,
    more_extensions: Vec<deno_core::Extension>,
  ) -> std::io::Result<Self> {
    Self::boot_as(options, cache, None, more_extensions)
  }

  fn boot_as(
    options: Surroundings,
    cache: &ModuleCache,
    main: Option<&MainProgram>,
    more_extensions: Vec<deno_core::Extension>,
  ) -> std::io::Result<Self> {
    let blobs = Arc::new(BlobStore::default());
    let source_maps = Rc::<SourceMaps>::default();
    let mut features = FeatureChecker::default();
    // The default ends the process; unstable APIs that ask are simply available.
    features.set_exit_cb(Box::new(|_, _| {}));
    let sys = KernelSys {
      fs: Arc::new(KernelFs::new()),
      env: KernelEnv::new(options.owner),
    };
    let roots = Arc::<TrustedRoots>::default();
    let local = LocalModules {
      fs: sys.fs.clone(),
      blobs,
      access: Access::new(permissions::none(sys.clone()), None),
    };
    let modules =
      Modules::new(cache, local.clone(), roots.clone()).map_err(std::io::Error::other)?;
    let services = SharedServices {
      sink: options.sink,
      owner: options.owner,
      heap: HeapLimit::default(),
      modules,
      local,
      sys,
      broadcast_channel: InMemoryBroadcastChannel::default(),
      features: Arc::new(features),
      shared_buffers: SharedArrayBufferStore::default(),
      wasm_modules: CompiledWasmModuleStore::default(),
      stdio: Stdio {
        stdin: StdioPipe::file(stdin(main)?),
        stdout: StdioPipe::file(options.stdout),
        stderr: StdioPipe::file(options.stderr),
      },
      roots,
    };
    let load_mark = LoadMark::default();
    let loader = Rc::new(KernelModuleLoader::new(
      services.modules.clone(),
      source_maps.clone(),
      load_mark.clone(),
    ));
    let mut worker = bootstrap(&services, loader.clone(), main, more_extensions)?;
    stack::install(&mut worker.js_runtime, source_maps.clone());
    safe_point::install(&mut worker.js_runtime, load_mark);
    services
      .heap
      .watch(&mut worker.js_runtime, services.sink.clone());
    if services.owner == ProcessOwner::Server {
      // `Deno.exit` then ends this isolate, not the process.
      let handle = worker.js_runtime.v8_isolate().thread_safe_handle();
      worker
        .js_runtime
        .op_state()
        .borrow_mut()
        .put(WatcherExitHandle(handle));
    }
    Ok(Self {
      worker,
      source_maps,
      loader,
      services,
    })
  }

  /// The code `Deno.exit` was called with, when that did not end the process.
  pub(crate) fn exited(&mut self) -> Option<i32> {
    let state = self.worker.js_runtime.op_state();
    let exited = state.borrow().try_borrow::<WatcherExited>().is_some();
    exited.then(|| self.worker.exit_code())
  }

  /// Applies what a kernel was created with. Once, before any user code. `roots` are the mounts'
  /// directories, in their order.
  ///
  /// # Errors
  /// When a permission entry or a mount is unusable; the message names it.
  pub(crate) fn configure(
    &mut self,
    config: &HostConfig,
    roots: Vec<OwnedFd>,
  ) -> Result<(), String> {
    if roots.len() != config.mounts.len() {
      return Err("filesystem: a mount came without its directory".into());
    }
    let mounts = config.mounts.iter().zip(roots).map(|(mount, root)| Mount {
      root,
      mount_point: mount.mount_point.clone(),
    });
    let mounts = mounts.collect();
    self
      .services
      .local
      .fs
      .configure(&config.scratch, mounts)
      .map_err(|e| format!("filesystem: {e}"))?;
    self
      .services
      .roots
      .choose(config.ca_stores.clone(), config.certificates.clone());
    self.services.modules.open_registries(&config.registry_auth);
    let permissions = permissions::container(self.services.sys.clone(), &config.permissions)?;
    let isolate = self.worker.js_runtime.v8_isolate();
    self.services.sys.env.replace(config.env.clone(), isolate);
    self.services.heap.set(config.max_heap_bytes);
    listen::set_own_address(
      &mut self.worker.js_runtime.op_state().borrow_mut(),
      config.permissions.own_address,
    );
    let hosts = config.permissions.import.clone();
    self
      .services
      .local
      .access
      .replace(permissions.clone(), hosts);
    self
      .worker
      .js_runtime
      .op_state()
      .borrow_mut()
      .put::<PermissionsContainer>(permissions);
    Ok(())
  }

  /// Sets variables of the kernel's environment, and leaves others.
  pub(crate) fn set_environment(&mut self, variables: &BTreeMap<String, String>) {
    let isolate = self.worker.js_runtime.v8_isolate();
    self.services.sys.env.extend(variables, isolate);
  }

  /// Tells the prelude which cell runs; 0 is none.
  pub(crate) fn set_running_cell(&mut self, number: u32) {
    self
      .worker
      .js_runtime
      .op_state()
      .borrow_mut()
      .put(RunningCell(number));
  }

  /// Gives up the modules that are being fetched.
  pub(crate) fn cancel_imports(&self) {
    self.loader.cancel();
  }

  pub(crate) fn isolate_handle(&mut self) -> v8::IsolateHandle {
    self.worker.js_runtime.v8_isolate().thread_safe_handle()
  }
}

fn bootstrap(
  services: &SharedServices,
  loader: Rc<KernelModuleLoader>,
  main: Option<&MainProgram>,
  more_extensions: Vec<deno_core::Extension>,
) -> std::io::Result<MainWorker> {
  let main_module = main
    .and_then(|main| ModuleSpecifier::from_file_path(&main.path).ok())
    .unwrap_or_else(|| ModuleSpecifier::parse("file:///kernel.ts").expect("a constant URL"));
  let bootstrap = match main {
    Some(main) => BootstrapOptions {
      args: main.args.clone(),
      ..bootstrap_options(WorkerExecutionMode::Run)
    },
    None => bootstrap_options(WorkerExecutionMode::Jupyter),
  };
  let node_services = services.modules.node_services();
  let worker =
    MainWorker::bootstrap_from_options::<DenoInNpmPackageChecker, NpmResolver<RealSys>, RealSys>(
      &main_module,
      WorkerServiceOptions {
        blob_store: services.local.blobs.clone(),
        broadcast_channel: services.broadcast_channel.clone(),
        deno_rt_native_addon_loader: None,
        feature_checker: services.features.clone(),
        fs: services.local.fs.clone(),
        module_loader: loader,
        node_services: Some(node_services.map_err(std::io::Error::other)?),
        npm_process_state_provider: None,
        permissions: services.local.access.permissions(),
        root_cert_store_provider: Some(services.roots.clone()),
        fetch_dns_resolver: Default::default(),
        shared_array_buffer_store: Some(services.shared_buffers.clone()),
        compiled_wasm_module_store: Some(services.wasm_modules.clone()),
        v8_code_cache: None,
        bundle_provider: None,
      },
      WorkerOptions {
        bootstrap,
        extensions: std::iter::once(services.extension())
          .chain(more_extensions)
          .collect(),
        startup_snapshot: deno_snapshots::CLI_SNAPSHOT,
        residual_lazy_js_sources: deno_snapshots::RESIDUAL_LAZY_JS,
        residual_lazy_esm_sources: deno_snapshots::RESIDUAL_LAZY_ESM,
        create_params: Some(HeapLimit::create_params()),
        create_web_worker_cb: web_worker::factory(services.clone()),
        format_js_error_fn: Some(Arc::new(format_js_error)),
        stdio: services.stdio.clone(),
        ..Default::default()
      },
    );
  Ok(worker)
}

/// What a main program reads from; cells read nothing.
fn stdin(main: Option<&MainProgram>) -> std::io::Result<File> {
  match main.and_then(|main| main.stdin) {
    // SAFETY: the server opened it for this process, which learns of it here, once.
    Some(descriptor) => Ok(unsafe { File::from_raw_fd(descriptor) }),
    None => File::open("/dev/null"),
  }
}
