//! Configuration of providers, as requests have it.

use access::Secret;
use access::exposed;
use outbound::shown;
use reqwest::Url;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::embedding::ProviderKind;
use crate::embedding::local::LOCAL_DIMENSION;
use crate::embedding::local::LOCAL_DIMENSIONS;
use crate::embedding::local::LOCAL_MODEL;
use crate::embedding::local::LocalConfig;
use crate::error::VectorError;

/// More would be no embedding of any known model.
const MAX_DIMENSION: usize = 65_536;

/// A provider that was added. Serialised it holds its secrets: that form is for the registry's
/// own file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "config", rename_all = "lowercase")]
pub enum ProviderConfig {
  Ollama(OllamaConfig),
  OpenAi(OpenAiConfig),
  /// Not outside, but of a dimension of its own.
  Local(LocalConfig),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OllamaConfig {
  /// Address of the server; it may have a path, and a password.
  #[serde(serialize_with = "exposed")]
  pub host: Secret,
  pub model: String,
  pub dimension: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAiConfig {
  /// `/embeddings` is appended to it.
  #[serde(rename = "baseURL", serialize_with = "exposed")]
  pub base_url: Secret,
  pub model: String,
  pub dimension: usize,
  #[serde(
    rename = "apiKey",
    default,
    skip_serializing_if = "Option::is_none",
    serialize_with = "exposed"
  )]
  pub api_key: Option<Secret>,
}

impl ProviderConfig {
  /// Reads the members `type` and `config` of a request.
  ///
  /// # Errors
  /// When the type is unknown, or a member is missing or invalid.
  pub fn parse(kind: &str, config: &Value) -> Result<Self, VectorError> {
    let (title, address) = match kind {
      "local" => return Ok(Self::Local(LocalConfig::parse(config)?)),
      "ollama" => ("Ollama", "host"),
      "openai" => ("OpenAI", "baseURL"),
      other => {
        return Err(VectorError::Invalid(format!(
          "Unsupported provider type: {other}; use local, ollama or openai"
        )));
      }
    };
    let missing = || {
      VectorError::Invalid(format!(
        "{title} provider requires {address}, model, and dimension"
      ))
    };
    let text = |name: &str| match config.get(name) {
      None | Some(Value::Null) => Ok(None),
      Some(Value::String(text)) if text.is_empty() => Ok(None),
      Some(Value::String(text)) => Ok(Some(text.clone())),
      Some(_) => Err(VectorError::Invalid(format!("config.{name}: not a string"))),
    };
    let at = text(address)?.ok_or_else(missing)?;
    let model = text("model")?.ok_or_else(missing)?;
    let dimension = match config.get("dimension") {
      None | Some(Value::Null) => return Err(missing()),
      Some(value) => dimension_of(value)?,
    };
    let parsed = match kind {
      "ollama" => Self::Ollama(OllamaConfig {
        host: Secret::new(at),
        model,
        dimension,
      }),
      _ => Self::OpenAi(OpenAiConfig {
        base_url: Secret::new(at),
        model,
        dimension,
        api_key: text("apiKey")?.map(Secret::new),
      }),
    };
    parsed.address()?;
    parsed.check_key()?;
    Ok(parsed)
  }

  pub fn kind(&self) -> ProviderKind {
    match self {
      Self::Ollama(_) => ProviderKind::Ollama,
      Self::OpenAi(_) => ProviderKind::OpenAi,
      Self::Local(_) => ProviderKind::Local,
    }
  }

  pub fn model(&self) -> &str {
    match self {
      Self::Ollama(config) => &config.model,
      Self::OpenAi(config) => &config.model,
      Self::Local(_) => LOCAL_MODEL,
    }
  }

  pub fn dimension(&self) -> usize {
    match self {
      Self::Ollama(config) => config.dimension,
      Self::OpenAi(config) => config.dimension,
      Self::Local(config) => config.dimension,
    }
  }

  /// The address as listings show it: without user, password and query.
  pub fn shown_host(&self) -> Option<String> {
    let url = self.address().ok().flatten()?;
    Some(shown(&url).trim_end_matches('/').to_owned())
  }

  /// The address it was given; `None` for one that needs none.
  ///
  /// # Errors
  /// When that is no http or https URL.
  fn address(&self) -> Result<Option<Url>, VectorError> {
    match self {
      Self::Ollama(config) => config.url().map(Some),
      Self::OpenAi(config) => config.url().map(Some),
      Self::Local(_) => Ok(None),
    }
  }

  /// Key of its embeddings in the cache.
  pub(crate) fn identity(&self) -> String {
    let url = self.address().ok().flatten();
    let url = url.map_or_else(String::new, String::from);
    format!(
      "{}\n{url}\n{}\n{}",
      self.kind(),
      self.model(),
      self.dimension()
    )
  }

  fn check_key(&self) -> Result<(), VectorError> {
    let Self::OpenAi(OpenAiConfig {
      api_key: Some(key), ..
    }) = self
    else {
      return Ok(());
    };
    if key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
      return Ok(());
    }
    Err(VectorError::Invalid(
      "config.apiKey: it holds a blank or a character that no key has".into(),
    ))
  }
}

impl OllamaConfig {
  /// # Errors
  /// When its host is no http or https URL.
  pub(crate) fn url(&self) -> Result<Url, VectorError> {
    http_url("host", &self.host)
  }
}

impl OpenAiConfig {
  /// # Errors
  /// When its address is no http or https URL.
  pub(crate) fn url(&self) -> Result<Url, VectorError> {
    http_url("baseURL", &self.base_url)
  }
}

impl LocalConfig {
  fn parse(config: &Value) -> Result<Self, VectorError> {
    let dimension = match config.get("dimension") {
      None | Some(Value::Null) => LOCAL_DIMENSION,
      Some(value) => dimension_of(value)?,
    };
    if !LOCAL_DIMENSIONS.contains(&dimension) {
      return Err(VectorError::Invalid(format!(
        "config.dimension: {LOCAL_MODEL} makes vectors of the dimension 64, 128 or 256"
      )));
    }
    let others = config.as_object().into_iter().flatten();
    for (name, value) in others.filter(|(name, _)| *name != "dimension") {
      if name != "model" || value != LOCAL_MODEL {
        return Err(VectorError::Invalid(format!(
          "config.{name}: a local provider has only a dimension"
        )));
      }
    }
    Ok(Self { dimension })
  }
}

fn http_url(name: &str, text: &Secret) -> Result<Url, VectorError> {
  let url = Url::parse(text.expose())
    .ok()
    .filter(|url| matches!(url.scheme(), "http" | "https"));
  url.ok_or_else(|| {
    // The text may hold a password.
    VectorError::Invalid(format!(
      "config.{name}: not an http or https URL, e.g. http://localhost:11434"
    ))
  })
}

/// Forms send numbers as text.
fn dimension_of(value: &Value) -> Result<usize, VectorError> {
  let number = match value {
    Value::String(text) => text.trim().parse().ok(),
    other => other.as_u64().and_then(|n| usize::try_from(n).ok()),
  };
  number
    .filter(|n| (1..=MAX_DIMENSION).contains(n))
    .ok_or_else(|| {
      VectorError::Invalid(format!(
        "config.dimension: not a whole number from 1 to {MAX_DIMENSION}"
      ))
    })
}

#[cfg(test)]
mod tests {
  use serde_json::json;

  use super::*;

  fn refused(kind: &str, config: &Value) -> String {
    let error = ProviderConfig::parse(kind, config).expect_err("not a configuration");
    error.to_string()
  }

  #[test]
  fn what_is_missing_is_said_as_the_original_said_it() {
    let ollama = "Ollama provider requires host, model, and dimension";
    assert_eq!(refused("ollama", &json!({})), ollama);
    assert_eq!(
      refused("ollama", &json!({"host": "http://a", "model": "m"})),
      ollama
    );
    assert_eq!(refused("ollama", &json!(null)), ollama);
    assert_eq!(
      refused("openai", &json!({"model": "m", "dimension": 3})),
      "OpenAI provider requires baseURL, model, and dimension"
    );
    assert!(refused("generic", &json!({})).starts_with("Unsupported provider type: generic"));
  }

  #[test]
  fn members_that_cannot_be_meant_are_named() {
    let with = |name: &str, value: Value| {
      let mut config = json!({"baseURL": "http://a/v1", "model": "m", "dimension": 3});
      config[name] = value;
      refused("openai", &config)
    };
    assert!(with("dimension", json!(0)).starts_with("config.dimension"));
    assert!(with("dimension", json!(1.5)).starts_with("config.dimension"));
    assert!(with("dimension", json!("many")).starts_with("config.dimension"));
    assert!(with("dimension", json!(1_000_000)).starts_with("config.dimension"));
    assert!(with("model", json!(7)).starts_with("config.model"));
    assert!(with("apiKey", json!("a b")).starts_with("config.apiKey"));
    let message = with("baseURL", json!("user:hunter2@host"));
    assert!(message.starts_with("config.baseURL") && !message.contains("hunter2"));
    assert!(with("baseURL", json!("file:///etc/passwd")).starts_with("config.baseURL"));
  }

  #[test]
  fn a_local_provider_has_only_a_dimension() {
    let parsed = |config: Value| ProviderConfig::parse("local", &config).map(|it| it.dimension());
    assert_eq!(parsed(json!({})), Ok(256));
    assert_eq!(
      parsed(json!({"dimension": "64", "model": LOCAL_MODEL})),
      Ok(64)
    );
    assert!(refused("local", &json!({"dimension": 100})).starts_with("config.dimension"));
    assert!(refused("local", &json!({"host": "http://a"})).starts_with("config.host"));
    assert!(refused("local", &json!({"model": "m"})).starts_with("config.model"));
  }

  #[test]
  fn no_secret_is_shown() {
    let config = json!({
      "baseURL": "https://me:hunter2@host/v1?key=hunter3", "model": "m", "dimension": "3",
      "apiKey": "sk-hunter4"
    });
    let config = ProviderConfig::parse("openai", &config).expect("good");
    assert_eq!(config.shown_host().as_deref(), Some("https://host/v1"));
    let ProviderConfig::OpenAi(inner) = &config else {
      panic!("an OpenAI provider");
    };
    assert!(!format!("{:?}", inner.api_key).contains("hunter"));
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
  }
}
