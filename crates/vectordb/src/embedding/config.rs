//! Configuration of providers, as requests have it.

use access::Secret;
use access::exposed;
use outbound::shown;
use reqwest::Url;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::embedding::ProviderKind;
use crate::error::VectorError;

/// More would be no embedding of any known model.
const MAX_DIMENSION: usize = 65_536;

/// A provider outside the server. Serialised it holds its secrets: that form is for the registry's
/// own file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "config", rename_all = "lowercase")]
pub enum ProviderConfig {
  Ollama(OllamaConfig),
  OpenAi(OpenAiConfig),
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
      "ollama" => ("Ollama", "host"),
      "openai" => ("OpenAI", "baseURL"),
      other => {
        return Err(VectorError::Invalid(format!(
          "Unsupported provider type: {other}; use ollama or openai"
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
    parsed.url()?;
    parsed.check_key()?;
    Ok(parsed)
  }

  pub fn kind(&self) -> ProviderKind {
    match self {
      Self::Ollama(_) => ProviderKind::Ollama,
      Self::OpenAi(_) => ProviderKind::OpenAi,
    }
  }

  pub fn model(&self) -> &str {
    match self {
      Self::Ollama(config) => &config.model,
      Self::OpenAi(config) => &config.model,
    }
  }

  pub fn dimension(&self) -> usize {
    match self {
      Self::Ollama(config) => config.dimension,
      Self::OpenAi(config) => config.dimension,
    }
  }

  /// The address as listings show it: without user, password and query.
  pub fn shown_host(&self) -> String {
    match self.url() {
      Ok(url) => shown(&url).trim_end_matches('/').to_owned(),
      Err(_) => String::new(),
    }
  }

  /// The address it was given.
  ///
  /// # Errors
  /// When that is no http or https URL.
  pub fn url(&self) -> Result<Url, VectorError> {
    let (name, text) = match self {
      Self::Ollama(config) => ("host", &config.host),
      Self::OpenAi(config) => ("baseURL", &config.base_url),
    };
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

  /// Key of its embeddings in the cache.
  pub(crate) fn identity(&self) -> String {
    let url = self.url().map_or_else(|_| String::new(), String::from);
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
  fn no_secret_is_shown() {
    let config = json!({
      "baseURL": "https://me:hunter2@host/v1?key=hunter3", "model": "m", "dimension": "3",
      "apiKey": "sk-hunter4"
    });
    let config = ProviderConfig::parse("openai", &config).expect("good");
    assert_eq!(config.shown_host(), "https://host/v1");
    let ProviderConfig::OpenAi(inner) = &config else {
      panic!("an OpenAI provider");
    };
    assert!(!format!("{:?}", inner.api_key).contains("hunter"));
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
  }
}
