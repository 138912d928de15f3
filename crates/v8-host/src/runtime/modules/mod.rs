//! Modules that kernels and apps import: `https:`, `http:`, `npm:`, `jsr:`, `node:`, `file:`, `data:`
//! and `blob:`, resolved, fetched and cached by Deno's own crates; and those that come with the engine.

mod access;
mod builtin;
mod configuration;
mod graph;
mod http;
mod loader;
mod local;
mod require;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use deno_cache_dir::file_fetcher::CacheSetting;
use deno_config::deno_json::NodeModulesDirMode;
use deno_core::ModuleSpecifier;
use deno_core::url::Url;
use deno_error::JsErrorBox;
use deno_lib::npm::NpmRegistryReadPermissionChecker;
use deno_lib::npm::NpmRegistryReadPermissionCheckerMode;
use deno_npm_cache::NpmCacheSetting;
use deno_npm_installer::LifecycleScriptsConfig;
use deno_npm_installer::LogReporter;
use deno_npm_installer::NpmInstallerFactory;
use deno_npm_installer::NpmInstallerFactoryOptions;
use deno_npm_installer::PackagesAllowedScripts;
use deno_npm_installer::graph::NpmCachingStrategy;
use deno_npm_installer::lifecycle_scripts::NullLifecycleScriptsExecutor;
use deno_resolver::cjs::IsCjsResolutionMode;
use deno_resolver::deno_json::CompilerOptionsOverrides;
use deno_resolver::factory::ConfigDiscoveryOption;
use deno_resolver::factory::ResolverFactory;
use deno_resolver::factory::ResolverFactoryOptions;
use deno_resolver::factory::WorkspaceFactory;
use deno_resolver::factory::WorkspaceFactoryOptions;
use deno_resolver::file_fetcher::PermissionedFileFetcher;
use deno_resolver::file_fetcher::PermissionedFileFetcherOptions;
use deno_resolver::loader::AllowJsonImports;
use deno_resolver::loader::MemoryFilesRc;
use deno_resolver::npm::DenoInNpmPackageChecker;
use deno_resolver::npm::NpmResolver;
use deno_runtime::deno_node::NodeExtInitServices;
use deno_runtime::deno_permissions::PermissionsContainer;
use kernel_protocol::RegistryAuth;
use kernel_protocol::launch::ModuleCache;
use node_resolver::InNpmPackageChecker;
use node_resolver::NodeResolverOptions;
use node_resolver::analyze::NodeCodeTranslatorMode;
use sys_traits::impls::RealSys;

use self::access::Registries;
use self::http::RemoteModules;
use self::require::RequireLoader;
use crate::runtime::certificates::TrustedRoots;

pub(super) use self::access::Access;
pub(super) use self::loader::KernelModuleLoader;
pub(super) use self::local::LocalModules;

/// The node layer's view of packages, as every worker of the engine has it.
pub(super) type NodeServices =
  NodeExtInitServices<DenoInNpmPackageChecker, NpmResolver<RealSys>, RealSys>;

type NpmInstaller = NpmInstallerFactory<RemoteModules, LogReporter, RealSys>;
type Fetcher = PermissionedFileFetcher<local::Blobs, RealSys, RemoteModules>;

/// What resolves, fetches and translates the modules of an isolate.
#[derive(Clone)]
pub(super) struct Modules {
  resolver: Arc<ResolverFactory<RealSys>>,
  remote: RemoteModules,
  fetcher: Arc<Fetcher>,
  packages: Arc<NpmRegistryReadPermissionChecker<RealSys>>,
  jsr_url: Url,
  npm_url: Url,
  cache: ModuleCache,
  local: LocalModules,
}

impl Modules {
  /// Reads NPM_CONFIG_REGISTRY, JSR_URL and the cache's `.npmrc`, so it must run before the
  /// environment of the process is the kernel's: that names no registry the operator did not.
  ///
  /// # Errors
  /// When one of these is unusable.
  pub(super) fn new(
    cache: &ModuleCache,
    local: LocalModules,
    roots: Arc<TrustedRoots>,
  ) -> Result<Arc<Self>, Box<dyn std::error::Error + Send + Sync>> {
    let workspace = Arc::new(WorkspaceFactory::new(
      RealSys,
      cache.folder.clone(),
      WorkspaceFactoryOptions {
        // A deno.json of user code may name files to read and folders to write: only its import map
        // is taken, see `ImportMaps`.
        config_discovery: ConfigDiscoveryOption::Disabled,
        maybe_custom_deno_dir_root: Some(cache.folder.clone()),
        node_modules_dir: Some(NodeModulesDirMode::None),
        no_lock: true,
        vendor: Some(false),
        ..Default::default()
      },
    ));
    let resolver = Arc::new(ResolverFactory::new(
      workspace.clone(),
      ResolverFactoryOptions {
        allow_json_imports: AllowJsonImports::WithAttribute,
        compiler_options_overrides: CompilerOptionsOverrides::default(),
        is_cjs_resolution_mode: IsCjsResolutionMode::ExplicitTypeCommonJs,
        newest_dependency_date: None,
        node_analysis_cache: None,
        node_code_translator_mode: NodeCodeTranslatorMode::ModuleLoader,
        node_resolver_options: NodeResolverOptions::default(),
        node_resolution_cache: None,
        npm_system_info: Default::default(),
        on_mapped_resolution_diagnostic: None,
        package_json_cache: None,
        package_json_dep_resolution: None,
        require_modules: Vec::new(),
        specified_import_map: None,
        unstable_sloppy_imports: false,
      },
    ));
    let npm_url = workspace.npmrc()?.default_config.registry_url.clone();
    let jsr_url = workspace.jsr_url().clone();
    let registries = Registries::new(workspace.npmrc()?, &jsr_url);
    let remote = RemoteModules::new(local.access.clone(), registries, roots);
    let fetcher = Arc::new(PermissionedFileFetcher::new(
      local.blobs(),
      Arc::new(workspace.http_cache()?.clone()),
      remote.clone(),
      MemoryFilesRc::default(),
      RealSys,
      PermissionedFileFetcherOptions {
        allow_remote: true,
        cache_setting: if cache.cached_only {
          CacheSetting::Only
        } else {
          CacheSetting::Use
        },
      },
    ));
    let packages = Arc::new(NpmRegistryReadPermissionChecker::new(
      RealSys,
      NpmRegistryReadPermissionCheckerMode::Global(
        workspace.npm_cache_dir()?.root_dir().to_owned(),
      ),
    ));
    Ok(Arc::new(Self {
      resolver,
      remote,
      fetcher,
      packages,
      jsr_url,
      npm_url,
      cache: cache.clone(),
      local,
    }))
  }

  /// What installs packages for one isolate. Cannot be sent to another thread.
  fn installer(&self) -> NpmInstaller {
    NpmInstallerFactory::new(
      self.resolver.clone(),
      Arc::new(self.remote.clone()),
      Arc::new(NullLifecycleScriptsExecutor),
      LogReporter,
      None,
      NpmInstallerFactoryOptions {
        cache_setting: if self.cache.cached_only {
          NpmCacheSetting::Only
        } else {
          NpmCacheSetting::Use
        },
        caching_strategy: NpmCachingStrategy::Eager,
        clean_on_install: false,
        dedup_lockfile_peer_variants: false,
        lifecycle_scripts_config: LifecycleScriptsConfig {
          allowed: PackagesAllowedScripts::None,
          denied: Vec::new(),
          initial_cwd: self.cache.folder.clone(),
          root_dir: self.cache.folder.clone(),
          explicit_install: false,
        },
        production: true,
        skip_types: true,
        resolve_npm_resolution_snapshot: Box::new(|| Ok(None)),
      },
    )
  }

  /// The same, with the permissions of a web worker.
  pub(super) fn for_worker(&self, permissions: PermissionsContainer) -> Arc<Self> {
    let access = self.local.access.narrowed_to(permissions);
    Arc::new(Self {
      local: LocalModules {
        access,
        ..self.local.clone()
      },
      ..self.clone()
    })
  }

  /// Has what opens registries sent to them.
  pub(super) fn open_registries(&self, auth: &[RegistryAuth]) {
    self.remote.open(auth);
  }

  /// # Errors
  /// When a module may not come from there.
  fn check(&self, url: &Url) -> Result<(), JsErrorBox> {
    // What `jsr:` specifiers become.
    let registry = url.as_str().starts_with(self.jsr_url.as_str());
    self.local.access.check(url, registry)
  }

  /// Whether a file belongs to a package, which is then read without asking for permission.
  ///
  /// # Errors
  /// When it only looks so: an address may hide separators (`..%2f`), and lead anywhere.
  fn is_package_file(&self, specifier: &ModuleSpecifier) -> Result<bool, JsErrorBox> {
    let packages = self
      .resolver
      .in_npm_package_checker()
      .map_err(|e| JsErrorBox::generic(format!("{e:#}")))?;
    if !packages.in_npm_package(specifier) {
      return Ok(false);
    }
    let path = specifier
      .to_file_path()
      .map_err(|()| JsErrorBox::type_error(format!("\"{specifier}\" is not a local path")))?;
    let mut permissions = self.local.access.permissions();
    self
      .packages
      .ensure_read_permission(&mut permissions, Cow::Owned(path))?;
    Ok(true)
  }

  /// What `require` and `node:module` of one isolate need.
  ///
  /// # Errors
  /// When the npm configuration is unusable.
  pub(super) fn node_services(
    self: &Arc<Self>,
  ) -> Result<NodeServices, Box<dyn std::error::Error + Send + Sync>> {
    Ok(NodeExtInitServices {
      node_require_loader: Rc::new(RequireLoader::new(self.clone())?),
      node_resolver: self.resolver.node_resolver()?.clone(),
      pkg_json_resolver: self.resolver.pkg_json_resolver().clone(),
      sys: RealSys,
    })
  }
}
