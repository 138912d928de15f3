//! What Deno's `require` needs to read.

use std::borrow::Cow;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use deno_ast::MediaType;
use deno_ast::ModuleKind;
use deno_core::FastString;
use deno_core::url::Url;
use deno_error::JsErrorBox;
use deno_resolver::cjs::CjsTrackerRc;
use deno_resolver::emit::EmitterRc;
use deno_resolver::loader::StrippingTypesNodeModulesError;
use deno_resolver::npm::DenoInNpmPackageChecker;
use deno_resolver::npm::NpmResolver;
use deno_runtime::deno_node::NodeRequireLoader;
use deno_runtime::deno_node::default_resolve_require_node_module_paths;
use deno_runtime::deno_permissions::PermissionsContainer;
use deno_semver::package::PackageReq;
use node_resolver::InNpmPackageChecker;
use node_resolver::errors::PackageJsonLoadError;
use sys_traits::impls::RealSys;

use crate::runtime::modules::Modules;

pub(super) struct RequireLoader {
  modules: Arc<Modules>,
  cjs: CjsTrackerRc<DenoInNpmPackageChecker, RealSys>,
  emitter: EmitterRc<DenoInNpmPackageChecker, RealSys>,
  in_package: DenoInNpmPackageChecker,
  npm: NpmResolver<RealSys>,
}

impl RequireLoader {
  pub(super) fn new(modules: Arc<Modules>) -> Result<Self, deno_core::anyhow::Error> {
    let resolver = &modules.resolver;
    Ok(Self {
      cjs: resolver.cjs_tracker()?.clone(),
      emitter: resolver.emitter()?.clone(),
      in_package: resolver.in_npm_package_checker()?.clone(),
      npm: resolver.npm_resolver()?.clone(),
      modules,
    })
  }
}

impl NodeRequireLoader for RequireLoader {
  fn ensure_read_permission<'a>(
    &self,
    permissions: &mut PermissionsContainer,
    path: Cow<'a, Path>,
  ) -> Result<Cow<'a, Path>, JsErrorBox> {
    self
      .modules
      .packages
      .ensure_read_permission(permissions, path)
  }

  fn load_text_file_lossy(&self, path: &Path) -> Result<FastString, JsErrorBox> {
    let specifier = Url::from_file_path(path)
      .map_err(|()| JsErrorBox::type_error(format!("{} is not a local path", path.display())))?;
    let bytes = if self.in_package.in_npm_package(&specifier) {
      std::fs::read(path).map_err(JsErrorBox::from_err)?
    } else {
      self.modules.local.read_now(path)?
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let media_type = MediaType::from_path(path);
    if !media_type.is_emittable() {
      return Ok(text.into());
    }
    if self.in_package.in_npm_package(&specifier) {
      return Err(JsErrorBox::from_err(StrippingTypesNodeModulesError {
        specifier,
      }));
    }
    let emitted = self
      .emitter
      .maybe_emit_source_sync(&specifier, media_type, ModuleKind::Cjs, &text.into())
      .map_err(JsErrorBox::from_err)?;
    Ok(emitted.into())
  }

  fn is_maybe_cjs(&self, specifier: &Url) -> Result<bool, PackageJsonLoadError> {
    self
      .cjs
      .is_maybe_cjs(specifier, MediaType::from_specifier(specifier))
  }

  fn is_maybe_cjs_from_require(&self, specifier: &Url) -> Result<bool, PackageJsonLoadError> {
    self
      .cjs
      .is_maybe_cjs_from_require(specifier, MediaType::from_specifier(specifier))
  }

  fn resolve_require_node_module_paths(&self, from: &Path) -> Vec<String> {
    let cache = self
      .npm
      .as_managed()
      .map(|npm| npm.global_cache_root_path());
    if cache.is_some_and(|cache| from.starts_with(cache)) {
      Vec::new()
    } else {
      default_resolve_require_node_module_paths(from)
    }
  }

  fn resolve_package_folder_from_name(&self, name: &str) -> Option<PathBuf> {
    let request = PackageReq::from_str(name).ok()?;
    let npm = self.npm.as_managed()?;
    npm.resolve_pkg_folder_from_deno_module_req(&request).ok()
  }
}
