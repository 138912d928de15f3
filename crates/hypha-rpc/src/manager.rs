//! What the workspace manager does for clients.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::client::Client;
use crate::error::CallError;
use crate::options::Token;
use crate::remote::RemoteService;
use crate::value::Map;
use crate::value::Value;

/// Which token is made.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
  /// `None` for the client's own workspace.
  pub workspace: Option<String>,
  /// `read`, `read_write` or `admin`; `None` for what the server gives by itself.
  pub permission: Option<String>,
  /// How long the token is valid; `None` for what the server gives by itself.
  pub expires_in: Option<Duration>,
  /// The only client id that the token is for.
  pub client_id: Option<String>,
}

impl Client {
  /// Finds a service: `service_id`, `workspace/service_id` or `workspace/client_id:service_id`. `mode` says
  /// which one, if several match: `random`, `first`, `last` or `select:min:METHOD`.
  ///
  /// # Errors
  /// When there is no such service, several match and no mode was given, or the client may not use it.
  pub async fn get_service(
    &self,
    query: &str,
    mode: Option<&str>,
  ) -> Result<RemoteService, CallError> {
    let mut arguments = Arguments::none().with(query);
    if let Some(mode) = mode {
      arguments = arguments.with(Map::from([("mode", mode)]));
    }
    match self.manager("get_service", arguments).await? {
      Value::Map(members) => Ok(RemoteService::new(self.clone(), members)),
      _ => Err(CallError::Invalid(format!("`{query}` is no service"))),
    }
  }

  /// What the server knows of services: those that `query` matches, by `workspace`, `client_id`, `service_id`,
  /// `type` or `visibility`. `None` for those of the client's own workspace.
  ///
  /// # Errors
  /// When the call has no result: see [`CallError`].
  pub async fn list_services(&self, query: Option<Map>) -> Result<Vec<Map>, CallError> {
    let query: Vec<Value> = query.map(Value::from).into_iter().collect();
    match self.manager("list_services", query).await? {
      Value::List(services) => {
        let services = services.into_iter().filter_map(|service| match service {
          Value::Map(service) => Some(service),
          _ => None,
        });
        Ok(services.collect())
      }
      _ => Err(CallError::Invalid("the list of services is none".into())),
    }
  }

  /// Makes a token.
  ///
  /// # Errors
  /// When the client may not make such a token.
  pub async fn generate_token(&self, request: TokenRequest) -> Result<Token, CallError> {
    let mut config = Map::new();
    let texts = [
      ("workspace", request.workspace),
      ("permission", request.permission),
      ("client_id", request.client_id),
    ];
    for (name, text) in texts {
      if let Some(text) = text {
        config.insert(name, text);
      }
    }
    if let Some(time) = request.expires_in {
      // Zero would mean the server's default.
      config.insert("expires_in", time.as_secs().max(1));
    }
    match self
      .manager("generate_token", [Value::from(config)])
      .await?
    {
      Value::Text(token) => Ok(Token::new(token)),
      _ => Err(CallError::Invalid("the answer is no token".into())),
    }
  }

  /// Sends a value to the server and back.
  ///
  /// # Errors
  /// When the call has no result: see [`CallError`].
  pub async fn echo(&self, value: impl Into<Value>) -> Result<Value, CallError> {
    self.manager("echo", [value.into()]).await
  }
}
