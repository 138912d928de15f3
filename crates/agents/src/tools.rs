//! What a model may call besides writing tags: code, and search in indices.

use std::sync::Arc;

use access::Caller;
use access::Classified;
use kernels::Language;
use models::Tool;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use uuid::Uuid;
use vectordb::CreateIndex;
use vectordb::NewDocument;
use vectordb::QueryRequest;
use vectordb::VectorDb;
use vectordb::VectorError;

use crate::id::AgentId;
use crate::kernel;
use crate::mcp::Servers;

pub(crate) const RUN_CODE: &str = "run_code";
const SEARCH: &str = "search_knowledge";
const REMEMBER: &str = "remember";
const RECALL: &str = "recall";
/// Results of one search.
const MOST_RESULTS: usize = 5;
/// Most characters of one result.
const MOST_TEXT: usize = 2_000;

/// The tools of one agent besides code.
pub(crate) struct Tools {
  pub vectors: Arc<VectorDb>,
  pub caller: Caller,
  /// Full ids of the indices that may be searched.
  pub knowledge: Vec<String>,
  /// The index of what the agent remembers, if it does.
  pub memory: Option<String>,
  pub servers: Servers,
}

impl Tools {
  /// What the model is offered.
  pub(crate) fn offered(&self, language: Option<Language>) -> Vec<Tool> {
    let text = |name: &str, description: &str| {
      json!({
        "type": "object", "properties": { name: { "type": "string", "description": description } },
        "required": [name], "additionalProperties": false,
      })
    };
    let mut tools = Vec::new();
    if let Some(language) = language {
      let about =
        format!("Runs {language} code and returns what it prints. State is kept between calls.");
      tools.push(Tool::new(RUN_CODE, about, text("code", "The code to run")));
    }
    if !self.knowledge.is_empty() {
      let about = "Finds passages in the documents that this agent was given.";
      tools.push(Tool::new(
        SEARCH,
        about,
        text("query", "What to look for, in words"),
      ));
    }
    if self.memory.is_some() {
      let about = "Keeps a fact for later conversations.";
      tools.push(Tool::new(
        REMEMBER,
        about,
        text("text", "The fact, in a sentence of its own"),
      ));
      let about = "Finds facts that were kept with `remember`.";
      tools.push(Tool::new(
        RECALL,
        about,
        text("query", "What to look for, in words"),
      ));
    }
    tools.extend(self.servers.offered());
    tools
  }

  /// Calls a tool, and returns its result or what was wrong, for the model.
  pub(crate) async fn call(&self, name: &str, arguments: &Value) -> String {
    let argument = |name: &str| {
      let text = arguments[name]
        .as_str()
        .filter(|text| !text.trim().is_empty());
      text.ok_or_else(|| format!("The argument `{name}` is missing"))
    };
    let done = match (name, &self.memory) {
      (SEARCH, _) if !self.knowledge.is_empty() => match argument("query") {
        Ok(query) => self.search(&self.knowledge, query).await,
        Err(wrong) => Err(wrong),
      },
      (RECALL, Some(memory)) => match argument("query") {
        Ok(query) => self.search(std::slice::from_ref(memory), query).await,
        Err(wrong) => Err(wrong),
      },
      (REMEMBER, Some(memory)) => match argument("text") {
        Ok(text) => self.remember(memory, text).await,
        Err(wrong) => Err(wrong),
      },
      _ => {
        let output = self.servers.call(name, arguments).await;
        output
          .map(|output| kernel::cut(&output))
          .ok_or_else(|| format!("There is no tool `{name}`"))
      }
    };
    done.unwrap_or_else(|wrong| wrong)
  }

  async fn search(&self, indices: &[String], query: &str) -> Result<String, String> {
    let mut hits = Vec::new();
    for index in indices {
      let request = QueryRequest {
        text: Some(query.to_owned()),
        k: MOST_RESULTS,
        ..Default::default()
      };
      match self.vectors.query(&self.caller, index, request).await {
        Ok(found) => hits.extend(found),
        // Nothing was remembered so far.
        Err(_) if self.memory.as_ref() == Some(index) => {}
        Err(error) => {
          return Err(format!(
            "The index {index} cannot be searched: {}",
            told(&error)
          ));
        }
      }
    }
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits.truncate(MOST_RESULTS);
    if hits.is_empty() {
      return Ok("Nothing was found".into());
    }
    let shown = hits.iter().map(|hit| {
      let text: String = hit
        .text
        .as_deref()
        .unwrap_or_default()
        .chars()
        .take(MOST_TEXT)
        .collect();
      json!({ "id": hit.id, "score": hit.score, "text": text, "metadata": hit.metadata })
    });
    Ok(shown.collect::<Value>().to_string())
  }

  async fn remember(&self, memory: &str, text: &str) -> Result<String, String> {
    let document = || NewDocument {
      id: Uuid::new_v4().to_string(),
      text: Some(text.to_owned()),
      ..Default::default()
    };
    let add = || self.vectors.add(&self.caller, memory, vec![document()]);
    if add().await.is_err() {
      let (namespace, id) = memory.split_once(':').unwrap_or(("default", memory));
      let request = CreateIndex {
        id: Some(id.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..Default::default()
      };
      // It may be there, and what failed something else, which the second attempt tells.
      let _ = self.vectors.create(&self.caller, request).await;
      add()
        .await
        .map_err(|error| format!("It cannot be kept: {}", told(&error)))?;
    }
    Ok("Kept".into())
  }
}

/// The full id of the index in which an agent remembers.
pub(crate) fn memory_index(agent: &AgentId) -> String {
  let digest = hex::encode(Sha256::digest(agent.as_str()));
  let namespace = agent.namespace().unwrap_or("default");
  format!("{namespace}:agent-memory-{}", &digest[..32])
}

fn told(error: &VectorError) -> String {
  Classified::public(error).unwrap_or_else(|| error.to_string())
}
