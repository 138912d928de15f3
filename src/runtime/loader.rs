//! Modules that cells and web workers import: `node:`, `data:`, `blob:` and `file:`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use deno_ast::MediaType;
use deno_core::ModuleLoadOptions;
use deno_core::ModuleLoadReferrer;
use deno_core::ModuleLoadResponse;
use deno_core::ModuleLoader;
use deno_core::ModuleSource;
use deno_core::ModuleSourceCode;
use deno_core::ModuleSpecifier;
use deno_core::ModuleType;
use deno_core::RequestedModuleType;
use deno_core::ResolutionKind;
use deno_core::SourceCodeCacheInfo;
use deno_core::error::ModuleLoaderError;
use deno_error::JsErrorBox;
use deno_error::JsErrorClass;
use deno_runtime::deno_fs::FileSystem;
use deno_runtime::deno_fs::OpenOptions;
use deno_runtime::deno_permissions::OpenAccessKind;
use deno_runtime::deno_permissions::PermissionsContainer;
use deno_runtime::deno_web::BlobStoreTrait;

use data_url::DataUrl;

use super::fs::KernelFs;
use super::safe_point::LoadMark;
use super::stack::CELL_URL_PREFIX;
use super::stack::CellMap;
use super::stack::SourceMaps;

/// What every loader of one kernel shares: the main isolate's and its web workers'.
#[derive(Clone)]
pub struct LoaderServices {
  pub fs: Arc<KernelFs>,
  pub blobs: Arc<dyn BlobStoreTrait>,
  /// Replaced when the kernel is claimed.
  pub permissions: Arc<Mutex<PermissionsContainer>>,
}

impl LoaderServices {
  pub fn permissions(&self) -> PermissionsContainer {
    self
      .permissions
      .lock()
      .unwrap_or_else(PoisonError::into_inner)
      .clone()
  }
}

pub struct KernelModuleLoader {
  services: LoaderServices,
  source_maps: Rc<SourceMaps>,
  load_mark: LoadMark,
}

impl KernelModuleLoader {
  pub fn new(services: LoaderServices, source_maps: Rc<SourceMaps>, load_mark: LoadMark) -> Self {
    Self {
      services,
      source_maps,
      load_mark,
    }
  }

  /// The base of relative specifiers in a cell: the kernel's working directory.
  fn cell_base(&self) -> Result<ModuleSpecifier, ModuleLoaderError> {
    let cwd = self
      .services
      .fs
      .cwd()
      .unwrap_or_else(|_| PathBuf::from("/"));
    ModuleSpecifier::from_directory_path(&cwd)
      .map_err(|()| JsErrorBox::generic(format!("not an absolute path: {}", cwd.display())))
  }
}

impl ModuleLoader for KernelModuleLoader {
  fn resolve(
    &self,
    specifier: &str,
    referrer: &str,
    _kind: ResolutionKind,
  ) -> Result<ModuleSpecifier, ModuleLoaderError> {
    if let Ok(url) = ModuleSpecifier::parse(specifier) {
      return Ok(url);
    }
    let relative = ["./", "../", "/"]
      .iter()
      .any(|prefix| specifier.starts_with(prefix));
    if !relative {
      return Err(JsErrorBox::type_error(bare_specifier_message(specifier)));
    }
    let base = match ModuleSpecifier::parse(referrer) {
      Ok(url) if url.scheme() == "file" && !referrer.starts_with(CELL_URL_PREFIX) => url,
      Ok(url) if url.scheme() != "file" && !url.cannot_be_a_base() => url,
      _ => self.cell_base()?,
    };
    base.join(specifier).map_err(|e| {
      JsErrorBox::type_error(format!(
        "cannot resolve \"{specifier}\" from \"{referrer}\": {e}"
      ))
    })
  }

  fn load(
    &self,
    specifier: &ModuleSpecifier,
    _referrer: Option<&ModuleLoadReferrer>,
    options: ModuleLoadOptions,
  ) -> ModuleLoadResponse {
    let specifier = specifier.clone();
    let services = self.services.clone();
    let maps = self.source_maps.clone();
    ModuleLoadResponse::Async(Box::pin(async move {
      let (text, media_type) = read(&services, &specifier).await?;
      source(
        &specifier,
        text,
        media_type,
        &options.requested_module_type,
        &maps,
      )
    }))
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
    self
      .source_maps
      .get(file_name)
      .map(|map| Cow::Owned(map.json))
  }
}

fn bare_specifier_message(specifier: &str) -> String {
  if deno_runtime::deno_node::is_builtin_node_module(specifier) {
    return format!(
      "Import \"{specifier}\" is not a dependency; for the Node.js built-in write \"node:{specifier}\""
    );
  }
  format!(
    "Import \"{specifier}\" is not a dependency; use a URL, a path that starts with \"./\", \"../\" \
     or \"/\", or a \"node:\" specifier"
  )
}

async fn read(
  services: &LoaderServices,
  specifier: &ModuleSpecifier,
) -> Result<(String, MediaType), ModuleLoaderError> {
  match specifier.scheme() {
    "file" => {
      let path = specifier
        .to_file_path()
        .map_err(|()| JsErrorBox::type_error(format!("\"{specifier}\" is not a local path")))?;
      let checked = services
        .permissions()
        .check_open(Cow::Owned(path), OpenAccessKind::Read, Some("import()"))
        .map_err(JsErrorBox::from_err)?
        .into_owned();
      let bytes = services
        .fs
        .read_file_async(checked, OpenOptions::read())
        .await
        .map_err(|e| {
          JsErrorBox::new(
            e.get_class(),
            format!("Module \"{specifier}\" cannot be read: {e}"),
          )
        })?;
      Ok((
        utf8(specifier, bytes.into_owned())?,
        MediaType::from_specifier(specifier),
      ))
    }
    "data" => {
      let invalid = |e: String| JsErrorBox::type_error(format!("not a valid data: URL: {e}"));
      let url = DataUrl::process(specifier.as_str()).map_err(|e| invalid(e.to_string()))?;
      let media_type = MediaType::from_content_type(specifier, url.mime_type().to_string());
      let (bytes, _fragment) = url.decode_to_vec().map_err(|e| invalid(e.to_string()))?;
      Ok((utf8(specifier, bytes)?, media_type))
    }
    "blob" => {
      let blob = services
        .blobs
        .get_object_url(specifier.clone())
        .ok_or_else(|| JsErrorBox::type_error(format!("Blob URL \"{specifier}\" is not found")))?;
      let media_type = MediaType::from_content_type(specifier, &blob.media_type);
      let media_type = if media_type == MediaType::Unknown {
        MediaType::TypeScript
      } else {
        media_type
      };
      Ok((utf8(specifier, blob.read_all().await)?, media_type))
    }
    scheme => Err(JsErrorBox::type_error(format!(
      "Module \"{specifier}\" cannot be loaded: this version loads node:, data:, blob: and file: \
       modules, not {scheme}:"
    ))),
  }
}

fn utf8(specifier: &ModuleSpecifier, bytes: Vec<u8>) -> Result<String, ModuleLoaderError> {
  String::from_utf8(bytes)
    .map_err(|_| JsErrorBox::type_error(format!("Module \"{specifier}\" is not valid UTF-8")))
}

fn source(
  specifier: &ModuleSpecifier,
  text: String,
  media_type: MediaType,
  requested: &RequestedModuleType,
  maps: &SourceMaps,
) -> Result<ModuleSource, ModuleLoaderError> {
  let (module_type, code) = match requested {
    RequestedModuleType::Json => (ModuleType::Json, text),
    RequestedModuleType::Text => (ModuleType::Text, text),
    _ if media_type == MediaType::Json => {
      return Err(JsErrorBox::type_error(format!(
        "\"{specifier}\" is JSON: import it with {{ type: \"json\" }}"
      )));
    }
    _ => (
      ModuleType::JavaScript,
      javascript(specifier, text, media_type, maps)?,
    ),
  };
  Ok(ModuleSource::new(
    module_type,
    ModuleSourceCode::String(code.into()),
    specifier,
    None,
  ))
}

fn javascript(
  specifier: &ModuleSpecifier,
  text: String,
  media_type: MediaType,
  maps: &SourceMaps,
) -> Result<String, ModuleLoaderError> {
  let typed = matches!(
    media_type,
    MediaType::TypeScript | MediaType::Mts | MediaType::Cts | MediaType::Tsx | MediaType::Jsx
  );
  if !typed {
    return Ok(text);
  }
  let emitted = deno_ast::parse_module(deno_ast::ParseParams {
    specifier: specifier.clone(),
    text: text.into(),
    media_type,
    capture_tokens: false,
    scope_analysis: false,
    maybe_syntax: None,
  })
  .map_err(|e| JsErrorBox::new("SyntaxError", e.to_string()))?
  .transpile(
    &deno_ast::TranspileOptions::default(),
    &deno_ast::TranspileModuleOptions::default(),
    &deno_ast::EmitOptions {
      source_map: deno_ast::SourceMapOption::Separate,
      inline_sources: false,
      ..Default::default()
    },
  )
  .map_err(|e| JsErrorBox::new("SyntaxError", e.to_string()))?
  .into_source();
  if let Some(map) = emitted.source_map {
    let map = CellMap {
      json: map.into_bytes(),
      boxed: None,
    };
    maps.insert(specifier.to_string(), map);
  }
  Ok(emitted.text)
}
