//! The client itself.

use std::path::PathBuf;
use std::time::Duration;

use access::Secret;
use hypha_rpc::Token;
use outbound::Patience;
use outbound::Unread;
use outbound::printable;
use outbound::reason;
use outbound::shown;
use outbound::unreadable;
use reqwest::Client;
use reqwest::Request;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::Url;
use reqwest::header;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use crate::artifact::APP_TYPE;
use crate::artifact::Artifact;
use crate::artifact::Document;
use crate::artifact::Listing;
use crate::artifact::Page;
use crate::artifact::is_segment;
use crate::artifact::split_id;
use crate::error::ArtifactsError;

/// Most tries to list a collection that changes meanwhile.
const LISTINGS: usize = 3;

/// Settings: where apps are published.
#[derive(Debug, Clone)]
pub struct HyphaConfig {
  /// Address of the server; it may have a path.
  pub server_url: Url,
  /// The workspace that the apps' tokens are for; `None` if they get no tokens.
  pub workspace: Option<String>,
  /// `workspace/alias` of the collection.
  pub collection: String,
  /// `None` to ask the server anonymously.
  pub token: Option<Secret>,
  /// PEM file with certificate authorities to trust besides those of the platform.
  pub certificates: Option<PathBuf>,
  /// Whether apps may get tokens that administer the whole server.
  pub powerful_tokens: bool,
}

/// Limits of time and size.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
  pub(crate) patience: Patience,
  pub(crate) listing: Duration,
  /// Pauses before the second and the third try.
  pub(crate) waits: [Duration; 2],
  pub(crate) page: usize,
  pub(crate) apps: usize,
  /// Most bytes of all pages of a listing together, and of any other answer.
  pub(crate) body: usize,
}

impl Default for Limits {
  fn default() -> Self {
    Self {
      patience: Patience {
        connect: Duration::from_secs(5),
        request: Duration::from_secs(30),
      },
      listing: Duration::from_secs(120),
      waits: [Duration::from_millis(250), Duration::from_secs(1)],
      page: 100,
      apps: 10_000,
      body: 64 << 20,
    }
  }
}

/// A client of the artifact manager.
#[derive(Debug)]
pub struct Artifacts {
  http: Client,
  server_url: Url,
  workspace: Option<String>,
  collection: String,
  token: Option<Secret>,
  powerful_tokens: bool,
  limits: Limits,
}

impl Artifacts {
  /// # Errors
  /// When a setting cannot work, or the certificates cannot be read.
  pub fn new(config: HyphaConfig) -> Result<Self, ArtifactsError> {
    Self::with_limits(config, Limits::default())
  }

  pub(crate) fn with_limits(config: HyphaConfig, limits: Limits) -> Result<Self, ArtifactsError> {
    let wrong = |text: &str| Err(ArtifactsError::Setting(text.into()));
    let url = &config.server_url;
    if !matches!(url.scheme(), "http" | "https") {
      return wrong("HYPHA_SERVER_URL: write http://host or https://host");
    }
    if !url.username().is_empty() || url.password().is_some() {
      return wrong("HYPHA_SERVER_URL: leave out user name and password, and set HYPHA_TOKEN");
    }
    if url.query().is_some() || url.fragment().is_some() {
      return wrong("HYPHA_SERVER_URL: leave out what follows `?` or `#`");
    }
    if config
      .workspace
      .as_deref()
      .is_some_and(|workspace| !is_segment(workspace))
    {
      return wrong("HYPHA_WORKSPACE: write the name of a workspace");
    }
    if split_id(&config.collection).is_none() {
      let text = format!("collection `{}`: write workspace/alias", config.collection);
      return Err(ArtifactsError::Setting(text));
    }
    if let Some(token) = &config.token
      && !is_token(token.expose())
    {
      return wrong("HYPHA_TOKEN: not a token, it is empty or has blanks; unset it to have none");
    }
    let http = outbound::client(url, config.certificates.as_deref(), limits.patience)
      .map_err(ArtifactsError::Setting)?;
    Ok(Self {
      http,
      server_url: config.server_url,
      workspace: config.workspace,
      collection: config.collection,
      token: config.token,
      powerful_tokens: config.powerful_tokens,
      limits,
    })
  }

  /// Address of the server, without a slash at its end.
  pub fn server_url(&self) -> &str {
    self.server_url.as_str().trim_end_matches('/')
  }

  /// The workspace that tokens are for; `None` if there are none.
  pub fn workspace(&self) -> Option<&str> {
    self.workspace.as_deref()
  }

  /// Whether the tokens of apps are for the workspace that apps come from.
  pub fn apps_may_publish(&self) -> bool {
    let own = split_id(&self.collection).map(|(workspace, _)| workspace);
    self.token.is_some() && self.workspace.is_some() && self.workspace() == own
  }

  /// Lists the published apps of the collection, in the server's order.
  ///
  /// # Errors
  /// When the server cannot be reached, refuses, or answers nonsense.
  pub async fn list(&self) -> Result<Vec<Artifact>, ArtifactsError> {
    let (workspace, alias) = self.collection_parts()?;
    let url = self.url(&[workspace, "artifacts", alias, "children"]);
    let limit = self.limits.listing;
    match tokio::time::timeout(limit, self.list_steadily(&url)).await {
      Ok(apps) => apps,
      Err(_) => Err(ArtifactsError::TimedOut {
        url: url.to_string(),
        limit,
      }),
    }
  }

  /// Reads one published app.
  ///
  /// # Errors
  /// When the server cannot be reached or refuses, or the artifact is not a published app of the
  /// collection.
  pub async fn read(&self, id: &str) -> Result<Artifact, ArtifactsError> {
    let (workspace, alias) = split_id(id).ok_or_else(|| ArtifactsError::Id(id.to_owned()))?;
    let url = self.url(&[workspace, "artifacts", alias]);
    // Without this the server counts a view.
    let request = self.http.get(url).query(&[("silent", "true")]);
    let mut budget = self.limits.body;
    let document: Document = self.ask(request, &mut budget).await?;
    let ours = document.parent_id.as_deref() == Some(&self.collection) && document.id == id;
    document
      .published()
      .filter(|_| ours)
      .ok_or_else(|| ArtifactsError::NotPublished {
        id: id.to_owned(),
        collection: self.collection.clone(),
      })
  }

  /// Makes a token with which `app` can register services in the workspace, for `ttl`.
  ///
  /// The token may change the workspace too: one that may only read can connect, but not register. It
  /// does not work in other workspaces and makes no other tokens, unless the workspace names the e-mail
  /// address of our own token among its owners.
  ///
  /// # Errors
  /// When there is no token to make it with, the server refuses, or the token would administer the whole
  /// server.
  pub async fn token_for(&self, app: &str, ttl: Duration) -> Result<Secret, ArtifactsError> {
    if self.token.is_none() {
      return Err(ArtifactsError::NoToken);
    }
    let Some(workspace) = self.workspace() else {
      return Err(ArtifactsError::NoWorkspace);
    };
    let url = self.url(&[workspace, "services", "ws", "generate_token"]);
    let shown = url.to_string();
    let request = self.http.post(url).json(&json!({"config": {
      // By default the server would take the workspace of our own token.
      "workspace": workspace,
      "permission": "read_write",
      // Zero would mean the server's default.
      "expires_in": ttl.as_secs().max(1),
    }}));
    let mut budget = self.limits.body;
    let token: String = self.ask(request, &mut budget).await?;
    if !is_token(&token) {
      return Err(ArtifactsError::Malformed {
        url: shown,
        reason: "the answer is not a token".into(),
      });
    }
    if Token::new(&token).administers_server() && !self.powerful_tokens {
      return Err(ArtifactsError::TooPowerful);
    }
    tracing::debug!(app, "made a Hypha token");
    Ok(Secret::new(token))
  }

  async fn list_steadily(&self, url: &Url) -> Result<Vec<Artifact>, ArtifactsError> {
    let mut attempt = 1;
    loop {
      let listing = self.list_once(url).await?;
      if listing.is_steady() || (attempt == LISTINGS && listing.is_complete()) {
        return Ok(listing.apps);
      }
      if attempt == LISTINGS {
        return Err(ArtifactsError::Unsteady {
          url: url.to_string(),
          listed: listing.items,
          total: listing.total,
        });
      }
      attempt += 1;
      tracing::debug!(%url, "changed while it was listed, listing it again");
    }
  }

  async fn list_once(&self, url: &Url) -> Result<Listing, ArtifactsError> {
    let filters = json!({"type": APP_TYPE}).to_string();
    let limit = self.limits.page.to_string();
    let mut budget = self.limits.body;
    let mut listing = Listing::default();
    loop {
      let request = self.http.get(url.clone()).query(&[
        ("filters", filters.as_str()),
        ("pagination", "true"),
        ("limit", &limit),
        ("offset", &listing.items.to_string()),
        // The default, but written out: the server's cache confuses paged and plain listings whose other
        // parameters are equal, and clients that ask for plain ones leave it out.
        ("order_by", "id"),
        ("no_cache", "true"),
        ("silent", "true"),
      ]);
      let page: Page = self.ask(request, &mut budget).await?;
      if page.items.len() > self.limits.page {
        return Err(ArtifactsError::Malformed {
          url: url.to_string(),
          reason: format!("{} artifacts on a page of {limit}", page.items.len()),
        });
      }
      if page.total > self.limits.apps {
        return Err(ArtifactsError::TooMany {
          url: url.to_string(),
          limit: self.limits.apps,
        });
      }
      if !listing.take(page) {
        return Ok(listing);
      }
    }
  }

  /// Sends a request, again if that may help, and takes the size of the answer from `budget`.
  async fn ask<T: DeserializeOwned>(
    &self,
    request: RequestBuilder,
    budget: &mut usize,
  ) -> Result<T, ArtifactsError> {
    let mut request = request.header(header::ACCEPT, "application/json");
    if let Some(token) = &self.token {
      request = request.bearer_auth(token.expose());
    }
    let request = request
      .build()
      .map_err(|e| ArtifactsError::Setting(reason(&e)))?;
    let url = shown(request.url());
    let mut waits = self.limits.waits.iter();
    let body = loop {
      match (self.send(&request, *budget).await, waits.next()) {
        (Err(error), Some(wait)) if error.may_pass() => {
          tracing::debug!("{error}; trying again in {wait:?}");
          tokio::time::sleep(*wait).await;
        }
        (outcome, _) => break outcome?,
      }
    };
    *budget -= body.len();
    serde_json::from_slice(&body).map_err(|error| ArtifactsError::Malformed {
      url,
      reason: unreadable(&body, &error),
    })
  }

  async fn send(&self, request: &Request, limit: usize) -> Result<Vec<u8>, ArtifactsError> {
    let url = shown(request.url());
    let failed = |error: reqwest::Error| self.failure(&url, &error);
    let Some(request) = request.try_clone() else {
      // Only a request with a streamed body cannot be sent twice.
      return Err(ArtifactsError::Setting(
        "a request was not repeatable".into(),
      ));
    };
    let response = self.http.execute(request).await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
      let detail = self.detail(response).await;
      return Err(ArtifactsError::Status {
        url,
        status,
        detail,
      });
    }
    outbound::body(response, limit)
      .await
      .map_err(|unread| match unread {
        Unread::Failed(error) => failed(error),
        Unread::TooLarge => ArtifactsError::TooLarge {
          url: url.clone(),
          limit: self.limits.body,
        },
      })
  }

  fn failure(&self, url: &str, error: &reqwest::Error) -> ArtifactsError {
    let url = url.to_owned();
    if error.is_timeout() && !error.is_connect() {
      let limit = self.limits.patience.request;
      return ArtifactsError::TimedOut { url, limit };
    }
    let reason = if error.is_timeout() {
      format!("none within {:?}", self.limits.patience.connect)
    } else {
      reason(error)
    };
    let remedy = if reason.contains("certificate") {
      "name a PEM file with its authority in DENO_CERT"
    } else {
      "does the Hypha server run, and is HYPHA_SERVER_URL its address?"
    };
    ArtifactsError::Connection {
      url,
      reason: format!("{reason}; {remedy}"),
    }
  }

  /// Text of an error answer: the server's `detail`, or the target of a redirection.
  async fn detail(&self, response: Response) -> String {
    if response.status().is_redirection() {
      let target = response.headers().get(header::LOCATION);
      let target = target.and_then(|value| response.url().join(value.to_str().ok()?).ok());
      return target.map_or_else(
        || "a redirection to nowhere".into(),
        |url| format!("a redirection to {}", shown(&url)),
      );
    }
    let mut detail = match outbound::error_body(response).await["detail"].take() {
      Value::Null => String::new(),
      Value::String(text) => printable(&text),
      other => printable(&other.to_string()),
    };
    if let Some(token) = &self.token {
      detail = detail.replace(token.expose(), "[secret]");
    }
    if detail.is_empty() {
      detail = "the answer says no more".into();
    }
    detail
  }

  fn collection_parts(&self) -> Result<(&str, &str), ArtifactsError> {
    split_id(&self.collection).ok_or_else(|| ArtifactsError::Id(self.collection.clone()))
  }

  fn url(&self, segments: &[&str]) -> Url {
    outbound::below(&self.server_url, segments)
  }
}

fn is_token(text: &str) -> bool {
  !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
