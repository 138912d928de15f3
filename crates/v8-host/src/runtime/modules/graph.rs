//! The graph of the modules of one isolate: a module is analysed, with all it imports, before any of
//! it runs.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use deno_core::ModuleSpecifier;
use deno_core::anyhow;
use deno_core::url::Url;
use deno_error::JsErrorBox;
use deno_graph::BuildOptions;
use deno_graph::CheckJsOption;
use deno_graph::GraphKind;
use deno_graph::ModuleGraph;
use deno_graph::ModuleGraphError;
use deno_graph::WalkOptions;
use deno_graph::ast::ParserModuleAnalyzer;
use deno_graph::source::JsrUrlProvider;
use deno_graph::source::LoadError;
use deno_graph::source::LoadFuture;
use deno_graph::source::LoadOptions;
use deno_graph::source::LoadResponse;
use deno_graph::source::Loader;
use deno_npm::resolution::NpmResolutionSnapshot;
use deno_resolver::deno_json::JsxImportSourceConfigResolver;
use deno_resolver::file_fetcher::DenoGraphLoader;
use deno_resolver::file_fetcher::DenoGraphLoaderOptions;
use deno_resolver::graph::EnhanceGraphErrorMode;
use deno_resolver::graph::NpmTypesResolutionMode;
use deno_resolver::graph::enhance_graph_error;
use deno_resolver::graph::format_deno_graph_error;
use futures::FutureExt;
use sys_traits::impls::RealSys;
use tokio_util::sync::CancellationToken;

use crate::runtime::modules::Modules;
use crate::runtime::modules::NpmInstaller;
use crate::runtime::modules::builtin;
use crate::runtime::modules::configuration::ImportMaps;
use crate::runtime::modules::configuration::MappedResolver;
use crate::runtime::modules::http::RemoteModules;
use crate::runtime::modules::local::Blobs;

pub(super) struct Graph {
  npm: NpmInstaller,
  current: RefCell<Arc<ModuleGraph>>,
  /// One module is added at a time, each to what the one before has left.
  adding: tokio::sync::Mutex<()>,
  /// Ends what is being added now.
  cancel: RefCell<CancellationToken>,
}

impl Graph {
  pub(super) fn new(modules: &Modules) -> Self {
    Self {
      npm: modules.installer(),
      current: RefCell::new(Arc::new(ModuleGraph::new(GraphKind::CodeOnly))),
      adding: tokio::sync::Mutex::default(),
      cancel: RefCell::default(),
    }
  }

  pub(super) fn current(&self) -> Arc<ModuleGraph> {
    self.current.borrow().clone()
  }

  /// Gives up what is being fetched: a server that never answers would keep later imports waiting.
  pub(super) fn cancel(&self) {
    self.cancel.take().cancel();
  }

  /// Fetches a module and what it imports, unless that has been done. Nothing changes on failure, so
  /// that the next attempt starts afresh.
  ///
  /// # Errors
  /// Naming the first module that is wrong, where it was imported, and why.
  pub(super) async fn add(
    &self,
    modules: &Modules,
    specifier: &ModuleSpecifier,
    is_main: bool,
  ) -> Result<(), JsErrorBox> {
    let cancelled = self.cancel.borrow().clone();
    tokio::select! {
      biased;
      () = cancelled.cancelled() => Err(JsErrorBox::generic(format!(
        "The import of \"{specifier}\" was interrupted"
      ))),
      result = self.build(modules, specifier, is_main) => result,
    }
  }

  async fn build(
    &self,
    modules: &Modules,
    specifier: &ModuleSpecifier,
    is_main: bool,
  ) -> Result<(), JsErrorBox> {
    if self.current().get(specifier).is_some() {
      return Ok(());
    }
    let _adding = self.adding.lock().await;
    let mut graph = (*self.current()).clone();
    let packages = PackagesKept::of(modules);
    modules
      .build(&self.npm, &mut graph, specifier, is_main)
      .await
      .map_err(|e| JsErrorBox::generic(format!("{e:#}")))?;
    valid(&graph, specifier)?;
    packages.accept();
    *self.current.borrow_mut() = Arc::new(graph);
    self.npm.has_js_execution_started_flag().raise();
    Ok(())
  }
}

/// Puts back the packages that were known before, unless what was added is accepted: one that cannot
/// be installed would be tried again, and fail, with every later one.
struct PackagesKept<'a> {
  modules: &'a Modules,
  before: Option<NpmResolutionSnapshot>,
}

impl<'a> PackagesKept<'a> {
  fn of(modules: &'a Modules) -> Self {
    Self {
      before: Some(modules.resolver.npm_resolution().snapshot()),
      modules,
    }
  }

  fn accept(mut self) {
    self.before = None;
  }
}

impl Drop for PackagesKept<'_> {
  fn drop(&mut self) {
    if let Some(before) = self.before.take() {
      self.modules.resolver.npm_resolution().set_snapshot(before);
    }
  }
}

impl Modules {
  async fn build(
    &self,
    npm: &NpmInstaller,
    graph: &mut ModuleGraph,
    root: &ModuleSpecifier,
    is_main: bool,
  ) -> Result<(), anyhow::Error> {
    npm.initialize_npm_resolution_if_managed().await?;
    let loader = GraphLoader {
      modules: self.clone(),
      files: DenoGraphLoader::new(
        self.fetcher.clone(),
        self
          .resolver
          .workspace_factory()
          .global_http_cache()?
          .clone(),
        self.resolver.in_npm_package_checker()?.clone(),
        RealSys,
        DenoGraphLoaderOptions {
          file_header_overrides: Default::default(),
          include_npm_sources: false,
          // Checked by `GraphLoader`.
          permissions: None,
          file_permission_api_name: None,
          reporter: None,
        },
      ),
    };
    let jsx = JsxImportSourceConfigResolver::from_compiler_options_resolver(
      self.resolver.compiler_options_resolver()?,
    )?;
    let deno_resolver = self.resolver.deno_resolver().await?;
    let resolver = deno_resolver.as_graph_resolver(
      self.resolver.cjs_tracker()?,
      &jsx,
      None,
      NpmTypesResolutionMode::FallbackToExecution,
    );
    let resolver = MappedResolver {
      maps: ImportMaps::new(self.local.clone()),
      inner: &resolver,
    };
    let parser = self.resolver.parsed_source_cache().as_capturing_parser();
    let npm = npm.npm_deno_graph_resolver().await?;
    let options = BuildOptions {
      is_dynamic: !is_main,
      // Fetched when they are reached.
      skip_dynamic_deps: true,
      file_system: &RealSys,
      jsr_url_provider: &JsrUrl(self.jsr_url.clone()),
      jsr_version_resolver: Cow::Borrowed(self.resolver.jsr_version_resolver()?),
      prefer_cached_jsr_versions: self.cache.cached_only,
      module_analyzer: &ParserModuleAnalyzer::new(&parser),
      npm_resolver: Some(npm.as_ref()),
      resolver: Some(&resolver),
      unstable_bytes_imports: true,
      ..Default::default()
    };
    graph
      .build(vec![root.clone()], Vec::new(), &loader, options)
      .await;
    graph.prune_types();
    Ok(())
  }
}

fn valid(graph: &ModuleGraph, root: &ModuleSpecifier) -> Result<(), JsErrorBox> {
  let walk = graph.walk(
    std::iter::once(root),
    WalkOptions {
      check_js: CheckJsOption::False,
      follow_dynamic: false,
      kind: GraphKind::CodeOnly,
      prefer_fast_check_graph: false,
    },
  );
  if let Some(error) = walk.errors().next() {
    let is_root =
      matches!(&error, ModuleGraphError::ModuleError(error) if error.specifier() == root);
    let mode = if is_root {
      EnhanceGraphErrorMode::HideRange
    } else {
      EnhanceGraphErrorMode::ShowRange
    };
    return Err(JsErrorBox::from_err(enhance_graph_error(
      &RealSys,
      error,
      mode,
      &[],
    )));
  }
  match &graph.npm_dep_graph_result {
    Ok(()) => Ok(()),
    Err(error) => Err(JsErrorBox::new(
      error.get_class(),
      format_deno_graph_error(error),
    )),
  }
}

#[derive(Debug)]
struct JsrUrl(Url);

impl JsrUrlProvider for JsrUrl {
  fn url(&self) -> &Url {
    &self.0
  }
}

/// What comes with the engine from memory, files through the kernel's file system, the rest through Deno's
/// fetcher; the latter two with the kernel's permissions, cached or not.
struct GraphLoader {
  modules: Modules,
  files: DenoGraphLoader<Blobs, RealSys, RemoteModules>,
}

impl Loader for GraphLoader {
  fn load(&self, specifier: &ModuleSpecifier, options: LoadOptions) -> LoadFuture {
    if let Some(source) = builtin::source(specifier) {
      let headers = [("content-type".to_owned(), "text/javascript".to_owned())];
      let module = LoadResponse::Module {
        content: source.as_bytes().into(),
        mtime: None,
        specifier: specifier.clone(),
        maybe_headers: Some(headers.into()),
      };
      return std::future::ready(Ok(Some(module))).boxed_local();
    }
    let in_package = match specifier.scheme() {
      "file" => self.modules.is_package_file(specifier),
      _ => Ok(false),
    };
    let in_package = match in_package {
      Ok(in_package) => in_package,
      Err(error) => return std::future::ready(Err(load_error(error))).boxed_local(),
    };
    match specifier.scheme() {
      "file" if !in_package => {
        let (local, specifier) = (self.modules.local.clone(), specifier.clone());
        async move {
          let content = local.read(&specifier).await.map_err(load_error)?;
          Ok(content.map(|content| LoadResponse::Module {
            content: content.into(),
            mtime: None,
            specifier,
            maybe_headers: None,
          }))
        }
        .boxed_local()
      }
      "http" | "https" => match self.modules.check(specifier) {
        Ok(()) => self.files.load(specifier, options),
        Err(error) => std::future::ready(Err(load_error(error))).boxed_local(),
      },
      _ => self.files.load(specifier, options),
    }
  }
}

fn load_error(error: JsErrorBox) -> LoadError {
  LoadError::Other(Arc::new(error))
}
