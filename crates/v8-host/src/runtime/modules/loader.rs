//! The module loader of an isolate.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use data_url::DataUrl;
use deno_ast::MediaType;
use deno_cache_dir::file_fetcher::CacheSetting;
use deno_cache_dir::file_fetcher::FetchLocalOptions;
use deno_cache_dir::file_fetcher::FileOrRedirect;
use deno_core::ModuleLoadOptions;
use deno_core::ModuleLoadReferrer;
use deno_core::ModuleLoadResponse;
use deno_core::ModuleLoader;
use deno_core::ModuleSource;
use deno_core::ModuleSourceCode;
use deno_core::ModuleSpecifier;
use deno_core::RequestedModuleType;
use deno_core::ResolutionKind;
use deno_core::SourceCodeCacheInfo;
use deno_core::error::ModuleLoaderError;
use deno_core::v8;
use deno_error::JsErrorBox;
use deno_graph::Position;
use deno_lib::loader::as_deno_resolver_requested_module_type;
use deno_lib::loader::loaded_module_source_to_module_source_code;
use deno_lib::loader::module_type_from_media_and_requested_type;
use deno_resolver::file_fetcher::FetchNoFollowOptions;
use deno_resolver::file_fetcher::FetchPermissionsOptionRef;
use deno_resolver::graph::DefaultDenoResolverRc;
use deno_resolver::graph::ResolveWithGraphErrorKind;
use deno_resolver::graph::ResolveWithGraphOptions;
use deno_resolver::loader::LoadedModuleOrAsset;
use deno_runtime::deno_node::create_host_defined_options;
use deno_semver::npm::NpmPackageReqReference;
use futures::FutureExt;
use node_resolver::InNpmPackageChecker;
use node_resolver::NodeResolutionKind;
use node_resolver::ResolutionMode;
use node_resolver::analyze::CjsAnalysisSourceProvider;
use sys_traits::impls::RealSys;

use crate::runtime::modules::Modules;
use crate::runtime::modules::builtin;
use crate::runtime::modules::configuration::ImportMaps;
use crate::runtime::modules::graph::Graph;
use crate::runtime::modules::http::MAX_REDIRECTS;
use crate::runtime::safe_point::LoadMark;
use crate::runtime::stack::CELL_URL_PREFIX;
use crate::runtime::stack::SourceMaps;

/// The name that a module has for what imports it in a cell.
const CELL_MODULE: &str = "cell.ts";

pub(crate) struct KernelModuleLoader {
  modules: Arc<Modules>,
  graph: Rc<Graph>,
  source_maps: Rc<SourceMaps>,
  load_mark: LoadMark,
  /// Loads that have begun and not ended.
  loading: Cell<usize>,
  /// Whether modules come from the web only, as those of a page do.
  web_only: Cell<bool>,
}

impl KernelModuleLoader {
  pub(crate) fn new(
    modules: Arc<Modules>,
    source_maps: Rc<SourceMaps>,
    load_mark: LoadMark,
  ) -> Self {
    Self {
      graph: Rc::new(Graph::new(&modules)),
      modules,
      source_maps,
      load_mark,
      loading: Cell::new(0),
      web_only: Cell::new(false),
    }
  }

  /// From now on modules come from the web only: none of Node.js, no packages, no files.
  pub(crate) fn allow_web_only(&self) {
    self.web_only.set(true);
  }

  /// Gives up what is being fetched.
  pub(crate) fn cancel(&self) {
    self.graph.cancel();
  }

  /// Cells are no files: what they import is relative to the working directory.
  fn referrer(&self, referrer: &str) -> Result<ModuleSpecifier, ModuleLoaderError> {
    let module = ModuleSpecifier::parse(referrer).ok();
    match module.filter(|url| !referrer.starts_with(CELL_URL_PREFIX) && !is_relative(url)) {
      Some(url) => Ok(url),
      None => {
        let cell = self.modules.local.working_directory().join(CELL_MODULE);
        ModuleSpecifier::from_file_path(&cell)
          .map_err(|()| JsErrorBox::generic(format!("not an absolute path: {}", cell.display())))
      }
    }
  }

  /// A module that comes with the engine. A package means what it depends on, by whatever name.
  fn builtin(&self, name: &str, referrer: &ModuleSpecifier) -> Option<ModuleSpecifier> {
    let packages = self.modules.resolver.in_npm_package_checker();
    let in_package = packages.is_ok_and(|packages| packages.in_npm_package(referrer));
    builtin::resolve(name).filter(|_| !in_package && !self.web_only.get())
  }

  fn resolve_import(
    &self,
    specifier: &str,
    referrer: &str,
    keep_packages: bool,
  ) -> Result<ModuleSpecifier, ModuleLoaderError> {
    let referrer = self.referrer(referrer)?;
    let graph = self.graph.current();
    // What was mapped when the graph was built is in it.
    let mapped = if keep_packages || graph.get(&referrer).is_none() {
      ImportMaps::new(self.modules.local.clone())
        .map(specifier, &referrer)?
        .or_else(|| self.builtin(specifier, &referrer))
    } else {
      None
    };
    let resolved = self.modules.resolver()?.resolve_with_graph(
      &graph,
      mapped.as_ref().map_or(specifier, ModuleSpecifier::as_str),
      &referrer,
      Position::zeroed(),
      ResolveWithGraphOptions {
        mode: ResolutionMode::Import,
        kind: NodeResolutionKind::Execution,
        // Installed when they are loaded.
        maintain_npm_specifiers: keep_packages,
      },
    );
    let resolved = resolved.map_err(|error| match error.into_kind() {
      ResolveWithGraphErrorKind::Resolution(error) => {
        JsErrorBox::type_error(error.to_string_with_range())
      }
      error => JsErrorBox::from_err(error),
    })?;
    if self.web_only.get() && !matches!(resolved.scheme(), "http" | "https" | "data" | "blob") {
      return Err(JsErrorBox::type_error(format!(
        "\"{specifier}\" cannot be imported here: JavaScript in a Python kernel imports from the web only"
      )));
    }
    let jsr = self.modules.jsr_url.as_str();
    if referrer.as_str().starts_with(jsr)
      && !resolved.as_str().starts_with(jsr)
      && matches!(resolved.scheme(), "http" | "https")
    {
      return Err(JsErrorBox::generic(format!(
        "Importing {resolved} blocked. JSR packages cannot import non-JSR remote modules for security reasons."
      )));
    }
    Ok(resolved)
  }
}

/// What the analysis of a CommonJS module may look into: what it re-exports is read before it runs.
struct AnalysedSources<'a>(&'a Modules);

impl CjsAnalysisSourceProvider for AnalysedSources<'_> {
  fn load_source<'a>(&'a self, specifier: &ModuleSpecifier) -> Option<Cow<'a, str>> {
    let path = specifier.to_file_path().ok()?;
    let bytes = if self.0.is_package_file(specifier).ok()? {
      std::fs::read(path).ok()?
    } else {
      self.0.local.read_permitted(&path).ok()?
    };
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
  }
}

/// The source map that a translated module ends with, and what comes before it.
fn split_source_map(code: &[u8]) -> Option<(usize, Vec<u8>)> {
  const PREFIX: &str = "//# sourceMappingURL=";
  let code = std::str::from_utf8(code).ok()?.trim_end();
  let start = code.rfind('\n').map_or(0, |newline| newline + 1);
  let url = DataUrl::process(code[start..].strip_prefix(PREFIX)?).ok()?;
  let (map, _) = url.decode_to_vec().ok()?;
  Some((start, map))
}

/// V8 is slower with source maps, which are asked for when there is an error.
fn without_source_map(code: ModuleSourceCode) -> ModuleSourceCode {
  match code {
    ModuleSourceCode::String(mut text) => {
      if let Some((start, _)) = split_source_map(text.as_bytes()) {
        text.truncate(start);
      }
      ModuleSourceCode::String(text)
    }
    bytes @ ModuleSourceCode::Bytes(_) => bytes,
  }
}

/// Drives a future while this thread is blocked: `require` of an ES module cannot wait.
fn on_another_runtime<T: Send + 'static>(
  future: impl Future<Output = Result<T, ModuleLoaderError>> + 'static,
) -> Result<T, ModuleLoaderError> {
  // SAFETY: the future is moved to the thread before it is first polled, lives and ends there, and
  // this thread, which owns what it captured, waits meanwhile.
  let future = unsafe { deno_core::unsync::MaskFutureAsSend::new(future) };
  let result = std::thread::scope(|scope| {
    let thread = scope.spawn(move || {
      let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(JsErrorBox::from_err)?;
      runtime.block_on(future).into_inner()
    });
    thread.join()
  });
  result.unwrap_or_else(|_| Err(JsErrorBox::generic("the module loader panicked")))
}

/// Nothing can be resolved against such a URL.
fn is_relative(url: &ModuleSpecifier) -> bool {
  url.cannot_be_a_base() && !matches!(url.scheme(), "data" | "blob" | "npm" | "jsr" | "node")
}

impl Modules {
  fn resolver(&self) -> Result<DefaultDenoResolverRc<RealSys>, ModuleLoaderError> {
    // Waits for nothing: there is no lock file, and the import map is read at once.
    let resolver = self.resolver.deno_resolver().now_or_never();
    resolver
      .ok_or_else(|| JsErrorBox::generic("the module resolver is not ready"))?
      .cloned()
      .map_err(|e| JsErrorBox::type_error(format!("{e:#}")))
  }

  /// The file that an `npm:` specifier names.
  fn package_file(
    &self,
    reference: &NpmPackageReqReference,
    referrer: &ModuleSpecifier,
  ) -> Result<ModuleSpecifier, ModuleLoaderError> {
    self
      .resolver()?
      .resolve_non_workspace_npm_req_ref_to_file(
        reference,
        referrer,
        ResolutionMode::Import,
        NodeResolutionKind::Execution,
      )
      .map_err(JsErrorBox::from_err)?
      .into_url()
      .map_err(JsErrorBox::from_err)
  }

  async fn load(
    &self,
    graph: &Graph,
    specifier: &ModuleSpecifier,
    referrer: &ModuleSpecifier,
    requested: &RequestedModuleType,
  ) -> Result<ModuleSource, ModuleLoaderError> {
    if specifier.path().ends_with(".node") {
      return Err(JsErrorBox::type_error(format!(
        "\"{specifier}\" is a native add-on, which is loaded with require()"
      )));
    }
    let file = match NpmPackageReqReference::from_specifier(specifier) {
      Ok(reference) => Cow::Owned(self.package_file(&reference, referrer)?),
      Err(_) => Cow::Borrowed(specifier),
    };
    self.is_package_file(&file)?;
    let graph = graph.current();
    let loader = self
      .resolver
      .module_loader()
      .map_err(|e| JsErrorBox::generic(format!("{e:#}")))?;
    let loaded = loader
      .load(
        &graph,
        &file,
        Some(referrer),
        &as_deno_resolver_requested_module_type(requested),
        Some(&AnalysedSources(self)),
      )
      .await
      .map_err(JsErrorBox::from_err)?;
    let (found, module_type, code) = match loaded {
      LoadedModuleOrAsset::Module(module) => (
        module.specifier.into_owned(),
        module_type_from_media_and_requested_type(module.media_type, requested),
        loaded_module_source_to_module_source_code(module.source),
      ),
      LoadedModuleOrAsset::ExternalAsset { specifier, .. } => {
        let (found, bytes) = self.read_asset(&specifier).await?;
        let module_type =
          module_type_from_media_and_requested_type(MediaType::from_specifier(&found), requested);
        (
          found,
          module_type,
          ModuleSourceCode::Bytes(bytes.into_boxed_slice().into()),
        )
      }
    };
    Ok(ModuleSource::new_with_redirect(
      module_type,
      without_source_map(code),
      specifier,
      &found,
      None,
    ))
  }

  /// A module of the graph that needs no more work.
  fn load_now(
    &self,
    graph: &Graph,
    specifier: &ModuleSpecifier,
    requested: &RequestedModuleType,
  ) -> Result<Option<ModuleSource>, ModuleLoaderError> {
    let graph = graph.current();
    let loader = self
      .resolver
      .module_loader()
      .map_err(|e| JsErrorBox::generic(format!("{e:#}")))?;
    let loaded = loader
      .try_load_prepared_module_sync(
        &graph,
        specifier,
        &as_deno_resolver_requested_module_type(requested),
      )
      .map_err(JsErrorBox::from_err)?;
    Ok(loaded.map(|module| {
      ModuleSource::new_with_redirect(
        module_type_from_media_and_requested_type(module.media_type, requested),
        without_source_map(loaded_module_source_to_module_source_code(module.source)),
        specifier,
        &module.specifier,
        None,
      )
    }))
  }

  /// What is imported as text or bytes: user code sees all of it, so it needs to be allowed to.
  async fn read_asset(
    &self,
    specifier: &ModuleSpecifier,
  ) -> Result<(ModuleSpecifier, Vec<u8>), ModuleLoaderError> {
    match specifier.scheme() {
      "file" => match self.local.read(specifier).await? {
        Some(bytes) => Ok((specifier.clone(), bytes)),
        None => Err(JsErrorBox::type_error(format!(
          "Module not found \"{specifier}\"."
        ))),
      },
      _ => self.fetch_asset(specifier).await,
    }
  }

  /// Follows redirects itself: each hop needs to be allowed, also where the cache knows where it leads.
  async fn fetch_asset(
    &self,
    specifier: &ModuleSpecifier,
  ) -> Result<(ModuleSpecifier, Vec<u8>), ModuleLoaderError> {
    let mut url = specifier.clone();
    for _ in 0..=MAX_REDIRECTS {
      if matches!(url.scheme(), "http" | "https") {
        self.check(&url)?;
      } else if url != *specifier {
        return Err(JsErrorBox::type_error(format!(
          "\"{specifier}\" redirects to what is no web address"
        )));
      }
      let options = FetchNoFollowOptions {
        maybe_cache_setting: Some(if self.cache.cached_only {
          &CacheSetting::Only
        } else {
          &CacheSetting::Use
        }),
        local: FetchLocalOptions::default(),
        maybe_auth: None,
        maybe_accept: None,
        maybe_checksum: None,
      };
      let fetched = self
        .fetcher
        .fetch_no_follow(&url, FetchPermissionsOptionRef::AllowAll, options)
        .await
        .map_err(JsErrorBox::from_err)?;
      match fetched {
        FileOrRedirect::File(file) => return Ok((file.url, file.source.to_vec())),
        FileOrRedirect::Redirect(next) => url = next,
      }
    }
    Err(JsErrorBox::generic(format!(
      "\"{specifier}\": more than {MAX_REDIRECTS} redirects"
    )))
  }
}

impl ModuleLoader for KernelModuleLoader {
  fn resolve(
    &self,
    specifier: &str,
    referrer: &str,
    kind: ResolutionKind,
  ) -> Result<ModuleSpecifier, ModuleLoaderError> {
    if matches!(kind, ResolutionKind::MainModule) {
      return ModuleSpecifier::parse(specifier).map_err(JsErrorBox::from_err);
    }
    self.resolve_import(
      specifier,
      referrer,
      matches!(kind, ResolutionKind::DynamicImport),
    )
  }

  fn import_meta_resolve(
    &self,
    specifier: &str,
    referrer: &str,
  ) -> Result<ModuleSpecifier, ModuleLoaderError> {
    self.resolve_import(specifier, referrer, false)
  }

  fn get_host_defined_options<'s>(
    &self,
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
  ) -> Option<v8::Local<'s, v8::Data>> {
    let name = ModuleSpecifier::parse(name).ok()?;
    let packages = self.modules.resolver.in_npm_package_checker().ok()?;
    packages
      .in_npm_package(&name)
      .then(|| create_host_defined_options(scope))
  }

  fn prepare_load(
    &self,
    specifier: &ModuleSpecifier,
    _referrer: Option<String>,
    _code: Option<String>,
    options: ModuleLoadOptions,
  ) -> Pin<Box<dyn Future<Output = Result<(), ModuleLoaderError>>>> {
    self.loading.set(self.loading.get() + 1);
    let asset = !matches!(
      options.requested_module_type,
      RequestedModuleType::None | RequestedModuleType::Json
    );
    let in_package = self.modules.resolver.in_npm_package_checker();
    if asset || in_package.is_ok_and(|packages| packages.in_npm_package(specifier)) {
      return std::future::ready(Ok(())).boxed_local();
    }
    if specifier.scheme() == "npm"
      && let Err(error) = self.modules.local.access.check(&self.modules.npm_url, true)
    {
      return std::future::ready(Err(error)).boxed_local();
    }
    let (modules, graph) = (self.modules.clone(), self.graph.clone());
    let specifier = specifier.clone();
    let is_main = !options.is_dynamic_import;
    let build = async move { graph.add(&modules, &specifier, is_main).await };
    if options.is_synchronous {
      // `require` of an ES module blocks this thread: its runtime cannot drive the fetches.
      return std::future::ready(on_another_runtime(build)).boxed_local();
    }
    build.boxed_local()
  }

  fn finish_load(&self) {
    let left = self.loading.get().saturating_sub(1);
    self.loading.set(left);
    if left == 0 {
      self.modules.resolver.parsed_source_cache().free_all();
    }
  }

  fn load(
    &self,
    specifier: &ModuleSpecifier,
    referrer: Option<&ModuleLoadReferrer>,
    options: ModuleLoadOptions,
  ) -> ModuleLoadResponse {
    let requested = options.requested_module_type;
    let (modules, graph) = (self.modules.clone(), self.graph.clone());
    if options.is_synchronous
      && let Some(loaded) = modules.load_now(&graph, specifier, &requested).transpose()
    {
      return ModuleLoadResponse::Sync(loaded);
    }
    let specifier = specifier.clone();
    let referrer = referrer.map_or_else(|| self.referrer(""), |r| Ok(r.specifier.clone()));
    ModuleLoadResponse::Async(
      async move {
        modules
          .load(&graph, &specifier, &referrer?, &requested)
          .await
      }
      .boxed_local(),
    )
  }

  /// Deno asks for the code cache of its own modules, right before it loads them. There is none.
  fn get_code_cache(
    &self,
    _specifier: &ModuleSpecifier,
    _source: &str,
  ) -> Option<SourceCodeCacheInfo> {
    self.load_mark.set();
    None
  }

  fn get_source_map(&self, file_name: &str) -> Option<Cow<'_, [u8]>> {
    if let Some(map) = self.source_maps.get(file_name) {
      return map.json(file_name).map(Cow::Owned);
    }
    let specifier = ModuleSpecifier::parse(file_name).ok()?;
    let graph = self.graph.current();
    let loader = self.modules.resolver.module_loader().ok()?;
    let module = loader
      .load_prepared_module_for_source_map_sync(&graph, &specifier)
      .ok()??;
    let (_, map) = split_source_map(module.source.as_bytes())?;
    Some(Cow::Owned(map))
  }

  fn get_source_mapped_source_line(&self, file_name: &str, line: usize) -> Option<String> {
    let specifier = ModuleSpecifier::parse(file_name).ok()?;
    let graph = self.graph.current();
    let text = match graph.get(&specifier)? {
      deno_graph::Module::Js(module) => &module.source.text,
      deno_graph::Module::Json(module) => &module.source.text,
      _ => return None,
    };
    text.split('\n').nth(line).map(str::to_owned)
  }
}
