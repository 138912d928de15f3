//! Services that a client offers.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use indexmap::IndexMap;
use serde_json::Value as Json;
use serde_json::json;

use crate::arguments::Arguments;
use crate::context::Context;
use crate::error::CallError;
use crate::error::RemoteError;
use crate::reply::Reply;
use crate::value::Map;
use crate::value::MethodRef;
use crate::value::Value;

/// Most characters of a description: the server refuses longer ones.
const DESCRIPTION: usize = 1024;
/// The service that every client has for the protocol itself.
pub(crate) const BUILT_IN: &str = "built-in";

type Handler =
  dyn Fn(Context, Arguments) -> BoxFuture<'static, Result<Reply, RemoteError>> + Send + Sync;

/// Who may use a service. Clients of the same workspace always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
  /// Everyone, and everyone finds it.
  Public,
  /// The client's own workspace, and those that are authorised.
  #[default]
  Protected,
  /// Everyone who knows its id; it is not listed.
  Unlisted,
}

impl Visibility {
  fn name(self) -> &'static str {
    match self {
      Self::Public => "public",
      Self::Protected => "protected",
      Self::Unlisted => "unlisted",
    }
  }
}

/// A service: methods that others call, under one id.
#[derive(Debug, Clone)]
pub struct Service {
  id: String,
  name: String,
  kind: String,
  description: Option<String>,
  visibility: Visibility,
  authorized_workspaces: Vec<String>,
  config: Map,
  data: Map,
  methods: IndexMap<String, Method>,
}

impl Service {
  /// A protected service without methods. Its id is unique among those of the client.
  pub fn new(id: impl Into<String>) -> Self {
    let id = id.into();
    Self {
      name: id.clone(),
      id,
      kind: "generic".into(),
      description: None,
      visibility: Visibility::default(),
      authorized_workspaces: Vec::new(),
      config: Map::new(),
      data: Map::new(),
      methods: IndexMap::new(),
    }
  }

  /// The name that people see.
  #[must_use]
  pub fn name(mut self, name: impl Into<String>) -> Self {
    self.name = name.into();
    self
  }

  /// The type by which it is found among others.
  #[must_use]
  pub fn kind(mut self, kind: impl Into<String>) -> Self {
    self.kind = kind.into();
    self
  }

  /// What it is for, in at most 1024 characters.
  #[must_use]
  pub fn description(mut self, description: impl Into<String>) -> Self {
    self.description = Some(description.into());
    self
  }

  #[must_use]
  pub fn visibility(mut self, visibility: Visibility) -> Self {
    self.visibility = visibility;
    self
  }

  /// Lets another workspace use the service, though it is protected.
  #[must_use]
  pub fn share_with(mut self, workspace: impl Into<String>) -> Self {
    self.authorized_workspaces.push(workspace.into());
    self
  }

  /// Adds a member to the service's configuration, such as `flags`.
  #[must_use]
  pub fn config(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
    self.config.insert(name, value);
    self
  }

  /// Adds a member that is no method, which peers read beside the methods.
  #[must_use]
  pub fn data(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
    self.data.insert(name, value);
    self
  }

  /// Adds a method, or replaces the one with the same name.
  #[must_use]
  pub fn method(mut self, method: Method) -> Self {
    self.methods.insert(method.name.clone(), method);
    self
  }

  pub fn id(&self) -> &str {
    &self.id
  }

  /// Whether the service can be registered.
  pub(crate) fn check(&self) -> Result<(), CallError> {
    let invalid = |text: String| Err(CallError::Invalid(text));
    let wrong = self.id.is_empty() || self.id.contains(['/', ':', '@', '*', '.']);
    if wrong || self.id.contains(char::is_whitespace) {
      let text = "service id: it is empty or has `/`, `:`, `@`, `*`, `.` or blanks";
      return invalid(text.into());
    }
    if self.id == BUILT_IN {
      return invalid("service id: `built-in` is the client's own service".into());
    }
    let length = self.description.as_deref().unwrap_or("").chars().count();
    if length > DESCRIPTION {
      return invalid(format!(
        "description of `{}`: at most {DESCRIPTION} characters, not {length}",
        self.id
      ));
    }
    for (name, _) in self.data.iter() {
      let taken = self.methods.keys().any(|it| first(it) == name);
      if name.is_empty() || taken || MEMBERS.contains(&name) {
        return invalid(format!("`{name}` of `{}` is no name of a member", self.id));
      }
    }
    for name in self.methods.keys() {
      let above = name.match_indices('.').map(|(end, _)| &name[..end]);
      let taken = above.clone().any(|it| self.methods.contains_key(it));
      if name.split('.').any(str::is_empty) || taken || MEMBERS.contains(&first(name)) {
        return invalid(format!("`{name}` of `{}` is no name of a method", self.id));
      }
    }
    Ok(())
  }

  pub(crate) fn find(&self, path: &str) -> Option<&Method> {
    self.methods.get(path)
  }

  /// Whether a caller may use the service. All of it is what the server attests.
  pub(crate) fn admits(&self, workspace: &str, own_workspace: &str) -> bool {
    match self.visibility {
      Visibility::Public | Visibility::Unlisted => true,
      Visibility::Protected => {
        workspace == own_workspace || self.authorized_workspaces.iter().any(|it| it == workspace)
      }
    }
  }

  /// What the workspace manager is told.
  pub(crate) fn registration(&self, workspace: &str, client_id: &str) -> Map {
    let mut schema = Map::new();
    for method in self.methods.values() {
      put(&mut schema, &method.name, Value::from(method.function()));
    }
    Map::from([
      (
        "id",
        Value::from(format!("{workspace}/{client_id}:{}", self.id)),
      ),
      ("name", self.name.as_str().into()),
      ("type", self.kind.as_str().into()),
      ("description", self.description.clone().into()),
      ("docs", Value::Nil),
      ("app_id", "*".into()),
      ("config", self.whole_config(workspace).into()),
      ("service_schema", schema.into()),
    ])
  }

  /// What a peer is told: the methods, as references to them.
  pub(crate) fn api(&self, workspace: &str, client_id: &str, server: &str) -> Map {
    let mut api = Map::from([
      ("id", Value::from(self.id.as_str())),
      ("name", self.name.as_str().into()),
      ("type", self.kind.as_str().into()),
      ("description", self.description.clone().into()),
      ("app_id", "*".into()),
      ("config", self.whole_config(workspace).into()),
    ]);
    for (name, value) in self.data.iter() {
      api.insert(name, value.clone());
    }
    for method in self.methods.values() {
      let reference = MethodRef {
        target: format!("{workspace}/{client_id}"),
        method: format!("services.{}.{}", self.id, method.name),
        answers: true,
        name: Some(last(&method.name).to_owned()),
        description: Some(method.description.clone()),
        schema: Some(Value::from(method.function())),
        more: Map::from([
          ("_rserver", Value::from(server)),
          ("_rasync", Value::Bool(true)),
        ]),
        given_by: None,
      };
      put(&mut api, &method.name, reference.into());
    }
    api
  }

  fn whole_config(&self, workspace: &str) -> Map {
    let mut config = self.config.clone();
    config.insert("visibility", self.visibility.name());
    config.insert("require_context", true);
    config.insert("workspace", workspace);
    if !self.authorized_workspaces.is_empty() {
      let names = self.authorized_workspaces.iter();
      let names: Vec<Value> = names.map(|it| it.as_str().into()).collect();
      config.insert("authorized_workspaces", names);
    }
    config
  }
}

/// Members of a service that are not its methods.
const MEMBERS: [&str; 8] = [
  "id",
  "name",
  "type",
  "description",
  "docs",
  "app_id",
  "config",
  "service_schema",
];

fn first(path: &str) -> &str {
  path.split('.').next().unwrap_or(path)
}

fn last(path: &str) -> &str {
  path.rsplit('.').next().unwrap_or(path)
}

/// Adds a value at a dotted path, in maps inside each other.
fn put(map: &mut Map, path: &str, value: Value) {
  let Some((name, rest)) = path.split_once('.') else {
    map.insert(path, value);
    return;
  };
  let mut inner = match map.remove(name) {
    Some(Value::Map(inner)) => inner,
    _ => Map::new(),
  };
  put(&mut inner, rest, value);
  map.insert(name, inner);
}

/// A method of a service.
#[derive(Clone)]
pub struct Method {
  name: String,
  description: String,
  schema: Json,
  handler: Arc<Handler>,
}

impl Method {
  /// A method without parameters that are known. Calls of it run at the same time, in no order. Dots in its name make maps inside each other:
  /// `files.read` is called as `service.files.read`.
  pub fn new<F, A, R>(name: impl Into<String>, handler: F) -> Self
  where
    F: Fn(Context, Arguments) -> A + Send + Sync + 'static,
    A: Future<Output = Result<R, RemoteError>> + Send + 'static,
    R: Into<Reply>,
  {
    let handler: Arc<Handler> = Arc::new(move |context, arguments| {
      let answer = handler(context, arguments);
      async move { answer.await.map(Into::into) }.boxed()
    });
    Self {
      name: name.into(),
      description: String::new(),
      schema: json!({"type": "object", "properties": {}, "required": []}),
      handler,
    }
  }

  /// What it does, for people and for models.
  #[must_use]
  pub fn description(mut self, description: impl Into<String>) -> Self {
    self.description = description.into();
    self
  }

  /// JSON schema of the parameters: an object, as OpenAI's function calls have it.
  #[must_use]
  pub fn schema(mut self, schema: Json) -> Self {
    self.schema = schema;
    self
  }

  pub(crate) fn call(
    &self,
    context: Context,
    arguments: Arguments,
  ) -> BoxFuture<'static, Result<Reply, RemoteError>> {
    (self.handler)(context, arguments)
  }

  fn function(&self) -> Json {
    json!({
      "type": "function",
      "function": {
        "name": last(&self.name),
        "description": self.description,
        "parameters": self.schema,
      },
    })
  }
}

impl fmt::Debug for Method {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "Method({})", self.name)
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn method(name: &str) -> Method {
    Method::new(name, |_, _| async { Ok(()) })
  }

  #[test]
  fn names_that_cannot_be_reached_are_refused() {
    for id in ["", "a b", "a/b", "a:b", "a@b", "a.b", "*", "built-in"] {
      assert!(Service::new(id).check().is_err(), "{id}");
    }
    for name in ["", "a..b", ".a", "config", "name.x"] {
      let service = Service::new("s").method(method(name));
      assert!(service.check().is_err(), "{name}");
    }
    // A name is a method or has methods below it.
    let both = Service::new("s").method(method("a")).method(method("a.b"));
    assert!(both.check().is_err());
    let nested = Service::new("s")
      .method(method("a.b"))
      .method(method("a.c.d"));
    assert_eq!(nested.check(), Ok(()));
    let long = Service::new("s").description("x".repeat(1025));
    assert!(long.check().is_err());
  }

  #[test]
  fn nested_methods_are_maps_inside_each_other() {
    let service = Service::new("s")
      .method(method("a.b"))
      .method(method("a.c"))
      .method(method("d"));
    let api = Value::from(service.api("w", "c", "http://server"));
    for (path, wanted) in [("b", "services.s.a.b"), ("c", "services.s.a.c")] {
      let found = api
        .get("a")
        .and_then(|it| it.get(path))
        .and_then(Value::as_method);
      let found = found.expect("a method");
      assert_eq!(
        (found.method.as_str(), found.target.as_str()),
        (wanted, "w/c")
      );
    }
    let registration = service.registration("w", "c");
    assert_eq!(registration.text("id"), Some("w/c:s"));
    let schema = registration
      .get("service_schema")
      .and_then(|it| it.get("a"));
    assert!(schema.and_then(|it| it.get("b")).is_some());
  }

  #[test]
  fn only_those_that_a_service_is_for_are_admitted() {
    let protected = Service::new("s").share_with("friends");
    assert!(protected.admits("own", "own"));
    assert!(protected.admits("friends", "own"));
    assert!(!protected.admits("others", "own"));
    for visibility in [Visibility::Public, Visibility::Unlisted] {
      assert!(
        Service::new("s")
          .visibility(visibility)
          .admits("others", "own")
      );
    }
  }
}
