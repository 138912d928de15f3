//! Import maps of user code: `imports` and `scopes` of the nearest `deno.json`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use deno_core::ModuleSpecifier;
use deno_core::anyhow::Context;
use deno_core::anyhow::Error;
use deno_core::anyhow::anyhow;
use deno_error::JsErrorBox;
use deno_graph::Range;
use deno_graph::source::ResolutionKind;
use deno_graph::source::ResolveError;
use deno_graph::source::Resolver;
use import_map::ImportMap;
use serde_json::Value;
use serde_json::json;

use crate::runtime::modules::builtin;
use crate::runtime::modules::local::LocalModules;

const FILE_NAMES: [&str; 3] = ["deno.json", "deno.jsonc", "import_map.json"];

/// The import maps that apply while one module is resolved, or one graph is built. Everything else
/// that a configuration of Deno's can say is ignored: it would make the loader read and write files
/// that user code may not.
#[derive(Debug)]
pub(super) struct ImportMaps {
  local: LocalModules,
  /// By folder: its own, or that of the nearest folder above.
  known: RefCell<HashMap<PathBuf, Option<Rc<ImportMap>>>>,
}

impl ImportMaps {
  pub(super) fn new(local: LocalModules) -> Self {
    Self {
      local,
      known: RefCell::default(),
    }
  }

  /// What a specifier is mapped to, if it is. A file has the map that is nearest to it, anything else
  /// that of the working directory.
  ///
  /// # Errors
  /// When the map cannot be read; the message names the file.
  pub(super) fn map(
    &self,
    specifier: &str,
    referrer: &ModuleSpecifier,
  ) -> Result<Option<ModuleSpecifier>, JsErrorBox> {
    let file = (referrer.scheme() == "file").then(|| referrer.to_file_path().ok());
    let folder = match file.flatten() {
      Some(file) => file.parent().map(Path::to_owned),
      None => Some(self.local.working_directory()),
    };
    let map = self
      .nearest(&folder.unwrap_or_default())
      .map_err(|e| JsErrorBox::type_error(format!("{e:#}")))?;
    // What a map does not know is resolved as without one.
    Ok(map.and_then(|map| map.resolve(specifier, referrer).ok()))
  }

  fn nearest(&self, folder: &Path) -> Result<Option<Rc<ImportMap>>, Error> {
    if let Some(known) = self.known.borrow().get(folder) {
      return Ok(known.clone());
    }
    let map = match self.read(folder)? {
      Some(map) => Some(Rc::new(map)),
      None => match folder.parent() {
        Some(above) => self.nearest(above)?,
        None => None,
      },
    };
    self
      .known
      .borrow_mut()
      .insert(folder.to_owned(), map.clone());
    Ok(map)
  }

  fn read(&self, folder: &Path) -> Result<Option<ImportMap>, Error> {
    for name in FILE_NAMES {
      let path = folder.join(name);
      if let Some(text) = self.local.read_configuration(&path)? {
        return parse(&path, &text)
          .with_context(|| path.display().to_string())
          .map(Some);
      }
    }
    Ok(None)
  }
}

fn parse(path: &Path, text: &str) -> Result<ImportMap, Error> {
  let parsed = jsonc_parser::parse_to_serde_value::<Value>(text, &Default::default())?;
  let Value::Object(mut file) = parsed else {
    return Err(anyhow!("not a JSON object"));
  };
  let mut map = json!({});
  for member in ["imports", "scopes"] {
    if let Some(value) = file.remove(member) {
      map[member] = value;
    }
  }
  let base = ModuleSpecifier::from_file_path(path).map_err(|()| anyhow!("not an absolute path"))?;
  let map = import_map::ext::expand_import_map_value(map);
  Ok(import_map::parse_from_value(base, map)?.import_map)
}

/// Maps the imports of modules, and names what comes with the engine, before Deno resolves them.
#[derive(Debug)]
pub(super) struct MappedResolver<'a, R> {
  pub maps: ImportMaps,
  pub inner: &'a R,
}

impl<R: Resolver> Resolver for MappedResolver<'_, R> {
  fn default_jsx_import_source(&self, referrer: &ModuleSpecifier) -> Option<String> {
    self.inner.default_jsx_import_source(referrer)
  }

  fn jsx_import_source_module(&self, referrer: &ModuleSpecifier) -> &str {
    self.inner.jsx_import_source_module(referrer)
  }

  fn resolve(
    &self,
    specifier: &str,
    referrer: &Range,
    kind: ResolutionKind,
  ) -> Result<ModuleSpecifier, ResolveError> {
    let mapped = self.maps.map(specifier, &referrer.specifier);
    match mapped.map_err(ResolveError::from_err)? {
      Some(mapped) => self.inner.resolve(mapped.as_str(), referrer, kind),
      None => match builtin::resolve(specifier) {
        Some(builtin) => Ok(builtin),
        None => self.inner.resolve(specifier, referrer, kind),
      },
    }
  }
}
