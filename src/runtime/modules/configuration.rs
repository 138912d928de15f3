//! The import map of user code: `imports` and `scopes` of the `deno.json` in its working directory.

use std::path::PathBuf;

use deno_core::anyhow::Context;
use deno_core::anyhow::Error;
use deno_core::anyhow::anyhow;
use deno_core::url::Url;
use deno_resolver::factory::SpecifiedImportMapProvider;
use deno_resolver::workspace::SpecifiedImportMap;
use serde_json::Value;
use serde_json::json;

use super::local::LocalModules;

const FILE_NAMES: [&str; 3] = ["deno.json", "deno.jsonc", "import_map.json"];

/// Read when the first module is resolved. Everything else that a configuration of Deno's can say is
/// ignored: it would make the loader read and write files that user code may not.
#[derive(Debug)]
pub struct OwnImportMap {
  local: LocalModules,
}

impl OwnImportMap {
  pub fn new(local: LocalModules) -> Self {
    Self { local }
  }

  fn read(&self) -> Result<Option<(PathBuf, String)>, Error> {
    let folder = self.local.working_directory();
    for name in FILE_NAMES {
      let path = folder.join(name);
      if let Some(text) = self.local.read_configuration(&path)? {
        return Ok(Some((path, text)));
      }
    }
    Ok(None)
  }
}

#[async_trait::async_trait(?Send)]
impl SpecifiedImportMapProvider for OwnImportMap {
  async fn get(&self) -> Result<Option<SpecifiedImportMap>, Error> {
    let Some((path, text)) = self.read()? else {
      return Ok(None);
    };
    let context = || path.display().to_string();
    let parsed = jsonc_parser::parse_to_serde_value::<Value>(&text, &Default::default());
    let Value::Object(mut file) = parsed.with_context(context)? else {
      return Err(anyhow!("not a JSON object")).with_context(context);
    };
    let mut map = json!({});
    for member in ["imports", "scopes"] {
      if let Some(value) = file.remove(member) {
        map[member] = value;
      }
    }
    let base_url = Url::from_file_path(&path).map_err(|()| anyhow!("not an absolute path"));
    Ok(Some(SpecifiedImportMap {
      base_url: base_url.with_context(context)?,
      value: import_map::ext::expand_import_map_value(map),
    }))
  }
}
