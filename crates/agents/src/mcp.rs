//! Tools of MCP servers, over streamable HTTP: connected to for one run, asked by the names of their servers.

use std::path::Path;
use std::time::Duration;

use access::Secret;
use access::exposed;
use models::Tool;
use outbound::Reach;
use outbound::network::check_literal;
use reqwest::Url;
use rmcp::RoleClient;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::model::ContentBlock;
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::AgentError;

/// How long a server has to say what tools it has, and to answer a call.
const CONNECT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(120);
/// Servers of one agent, and tools of all of them that a model is offered.
const MAX_SERVERS: usize = 8;
const MAX_TOOLS: usize = 64;
/// Most bytes of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// What stands between the name of a server and that of its tool.
const SEPARATOR: &str = "__";
/// The longest name of a tool that models take.
const MAX_NAME: usize = 64;

/// A server whose tools an agent may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
  /// Begins the names of its tools: at most 32 of `A-Z a-z 0-9 _ -`.
  pub name: String,
  /// Address of its streamable HTTP endpoint.
  pub url: String,
  /// Bearer token. Never shown.
  #[serde(
    default,
    skip_serializing_if = "Option::is_none",
    serialize_with = "exposed"
  )]
  #[schema(value_type = Option<String>)]
  pub token: Option<Secret>,
}

/// A server, and who has named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredServer {
  #[serde(flatten)]
  server: McpServer,
  /// Whether a tenant has given the address, which must then be a public one.
  of_tenant: bool,
}

impl StoredServer {
  pub(crate) fn name(&self) -> &str {
    &self.server.name
  }

  /// The address as listings show it.
  pub(crate) fn shown(&self) -> String {
    Url::parse(&self.server.url).map_or_else(|_| String::new(), |url| outbound::shown(&url))
  }

  fn url(&self) -> Result<Url, String> {
    let url = Url::parse(&self.server.url).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or("not an http or https URL")?;
    if self.of_tenant {
      check_literal(&url).map_err(|e| e.to_string())?;
    }
    Ok(url)
  }
}

/// Checks the servers of a request.
pub(crate) fn checked(
  servers: Vec<McpServer>,
  of_tenant: bool,
) -> Result<Vec<StoredServer>, AgentError> {
  if servers.len() > MAX_SERVERS {
    return Err(AgentError::Invalid(format!(
      "mcpServers: an agent has at most {MAX_SERVERS}"
    )));
  }
  let mut stored: Vec<StoredServer> = Vec::new();
  for (index, server) in servers.into_iter().enumerate() {
    let wrong = |what: &str| AgentError::Invalid(format!("mcpServers[{index}].{what}"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name = &server.name;
    if name.is_empty() || name.len() > 32 || !name.chars().all(allowed) {
      return Err(wrong("name: must be 1 to 32 characters of A-Z a-z 0-9 _ -"));
    }
    if stored.iter().any(|other| other.name() == name) {
      return Err(wrong("name: another server has it"));
    }
    let server = StoredServer { server, of_tenant };
    server.url().map_err(|e| wrong(&format!("url: {e}")))?;
    stored.push(server);
  }
  Ok(stored)
}

/// The servers of one run.
#[derive(Default)]
pub(crate) struct Servers {
  connected: Vec<Connected>,
  /// Servers that could not be reached, and why.
  pub missing: Vec<(String, String)>,
}

struct Connected {
  service: RunningService<RoleClient, ()>,
  tools: Vec<(String, rmcp::model::Tool)>,
}

impl Servers {
  /// Connects to all servers at once. One that cannot be reached is missed, and no more.
  pub(crate) async fn connect(servers: &[StoredServer], certificates: Option<&Path>) -> Self {
    let attempts = servers.iter().map(async |server| {
      let attempt = tokio::time::timeout(CONNECT, connect(server, certificates));
      let late = || format!("it did not answer within {} seconds", CONNECT.as_secs());
      (server.name(), attempt.await.unwrap_or_else(|_| Err(late())))
    });
    let mut all = Self::default();
    for (name, attempt) in futures::future::join_all(attempts).await {
      match attempt {
        Ok(connected) => all.connected.push(connected),
        Err(reason) => all
          .missing
          .push((name.to_owned(), outbound::printable(&reason))),
      }
    }
    all
  }

  /// What the model is offered.
  pub(crate) fn offered(&self) -> Vec<Tool> {
    let tools = self.connected.iter().flat_map(|server| &server.tools);
    let offered = tools.take(MAX_TOOLS).map(|(name, tool)| {
      let about = tool.description.as_deref().unwrap_or_default();
      let parameters = Value::Object((*tool.input_schema).clone());
      Tool::new(name.clone(), about, parameters)
    });
    offered.collect()
  }

  /// Calls a tool; `None` if there is no such one.
  pub(crate) async fn call(&self, name: &str, arguments: &Value) -> Option<String> {
    let (service, tool) = self.connected.iter().find_map(|server| {
      let found = server.tools.iter().find(|(known, _)| known == name);
      found.map(|(_, tool)| (&server.service, tool))
    })?;
    let mut request = CallToolRequestParams::new(tool.name.clone());
    request.arguments = arguments.as_object().cloned();
    let answer = tokio::time::timeout(CALL, service.call_tool(request));
    Some(match answer.await {
      Err(_) => format!("The tool did not answer within {} seconds", CALL.as_secs()),
      Ok(Err(error)) => format!(
        "The tool failed: {}",
        outbound::printable(&error.to_string())
      ),
      Ok(Ok(result)) => {
        let text: Vec<String> = result.content.iter().map(shown).collect();
        let text = match (text.is_empty(), &result.structured_content) {
          (true, Some(value)) => value.to_string(),
          _ => text.join("\n"),
        };
        match result.is_error {
          Some(true) => format!("The tool failed: {text}"),
          _ => text,
        }
      }
    })
  }
}

async fn connect(server: &StoredServer, certificates: Option<&Path>) -> Result<Connected, String> {
  let url = server.url()?;
  let reach = match server.of_tenant {
    true => Reach::PublicNetwork,
    false => Reach::Anywhere,
  };
  let client = outbound::streaming_client(&url, certificates, CONNECT, reach)?;
  let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
  config.max_sse_event_size = MAX_ANSWER;
  config.max_json_response_size = MAX_ANSWER;
  config.auth_header = server
    .server
    .token
    .as_ref()
    .map(|token| token.expose().to_owned());
  let transport = StreamableHttpClientTransport::with_client(client, config);
  let service = ().serve(transport).await.map_err(|e| e.to_string())?;
  let tools = service.list_all_tools().await.map_err(|e| e.to_string())?;
  let named = tools
    .into_iter()
    .map(|tool| (tool_name(server.name(), &tool.name), tool));
  Ok(Connected {
    tools: named.collect(),
    service,
  })
}

/// The name that models call a tool by.
fn tool_name(server: &str, tool: &str) -> String {
  let allowed = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
    true => c,
    false => '_',
  };
  let name: String = format!("{server}{SEPARATOR}{tool}")
    .chars()
    .map(allowed)
    .collect();
  name.chars().take(MAX_NAME).collect()
}

fn shown(content: &ContentBlock) -> String {
  match content {
    ContentBlock::Text(text) => text.text.clone(),
    ContentBlock::Image(_) => "[image]".into(),
    ContentBlock::Audio(_) => "[audio]".into(),
    ContentBlock::Resource(_) | ContentBlock::ResourceLink(_) => {
      serde_json::to_string(content).unwrap_or_default()
    }
    _ => "[content of another kind]".into(),
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn server(name: &str, url: &str) -> McpServer {
    McpServer {
      name: name.into(),
      url: url.into(),
      token: Some(Secret::new("t0")),
    }
  }

  #[test]
  fn servers_are_checked_before_anything_is_stored() {
    for (servers, words) in [
      (vec![server("a b", "http://x")], "mcpServers[0].name"),
      (
        vec![server("a", "http://x"), server("a", "http://y")],
        "mcpServers[1].name: another",
      ),
      (vec![server("a", "file:///x")], "mcpServers[0].url"),
      (vec![server("a", "http://127.0.0.1/")], "mcpServers[0].url"),
    ] {
      let error = checked(servers, true).expect_err("is wrong").to_string();
      assert!(error.starts_with(words), "{error}");
    }
    assert!(checked(vec![server("a", "http://127.0.0.1/")], false).is_ok());
  }

  #[test]
  fn names_of_tools_are_such_that_models_take_them() {
    assert_eq!(tool_name("git", "log.show"), "git__log_show");
    assert_eq!(tool_name("git", &"x".repeat(100)).len(), 64);
  }

  #[tokio::test]
  async fn a_server_that_is_down_is_missed_and_no_more() {
    let stored = checked(vec![server("down", "http://127.0.0.1:9/mcp")], false).expect("is fine");
    let servers = Servers::connect(&stored, None).await;
    assert_eq!(servers.missing[0].0, "down");
    assert!(servers.offered().is_empty());
    assert_eq!(servers.call("down__x", &Value::Null).await, None);
  }
}
