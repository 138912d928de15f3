//! The client itself.

use std::path::PathBuf;
use std::time::Duration;

use access::Secret;
use hypha_rpc::Token;
use outbound::reason;
use outbound::shown;
use outbound::unreadable;
use reqwest::RequestBuilder;
use reqwest::Url;
use reqwest::header;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::artifact::APP_TYPE;
use crate::artifact::Artifact;
use crate::artifact::Document;
use crate::artifact::Listing;
use crate::artifact::Page;
use crate::artifact::is_segment;
use crate::artifact::split_id;
use crate::error::ArtifactsError;
use crate::server::Limits;
use crate::server::Server;

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

/// A client of the artifact manager.
#[derive(Debug)]
pub struct Artifacts {
  server: Server,
  workspace: Option<String>,
  collection: String,
  token: Option<Secret>,
  powerful_tokens: bool,
}

impl Artifacts {
  /// # Errors
  /// When a setting cannot work, or the certificates cannot be read.
  pub fn new(config: HyphaConfig) -> Result<Self, ArtifactsError> {
    Self::with_limits(config, Limits::default())
  }

  pub(crate) fn with_limits(config: HyphaConfig, limits: Limits) -> Result<Self, ArtifactsError> {
    let wrong = |text: &str| Err(ArtifactsError::Setting(text.into()));
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
    let server = Server::new(config.server_url, config.certificates.as_deref(), limits)?;
    Ok(Self {
      server,
      workspace: config.workspace,
      collection: config.collection,
      token: config.token,
      powerful_tokens: config.powerful_tokens,
    })
  }

  /// Address of the server, without a slash at its end.
  pub fn server_url(&self) -> &str {
    self.server.address.as_str().trim_end_matches('/')
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
    let limit = self.server.limits.listing;
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
    let request = self.server.http.get(url).query(&[("silent", "true")]);
    let mut budget = self.server.limits.body;
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
    let request = self.server.http.post(url).json(&json!({"config": {
      // By default the server would take the workspace of our own token.
      "workspace": workspace,
      "permission": "read_write",
      // Zero would mean the server's default.
      "expires_in": ttl.as_secs().max(1),
    }}));
    let mut budget = self.server.limits.body;
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
    let limit = self.server.limits.page.to_string();
    let mut budget = self.server.limits.body;
    let mut listing = Listing::default();
    loop {
      let request = self.server.http.get(url.clone()).query(&[
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
      if page.items.len() > self.server.limits.page {
        return Err(ArtifactsError::Malformed {
          url: url.to_string(),
          reason: format!("{} artifacts on a page of {limit}", page.items.len()),
        });
      }
      if page.total > self.server.limits.apps {
        return Err(ArtifactsError::TooMany {
          url: url.to_string(),
          limit: self.server.limits.apps,
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
    let request = request
      .header(header::ACCEPT, "application/json")
      .build()
      .map_err(|e| ArtifactsError::Setting(reason(&e)))?;
    let url = shown(request.url());
    let body = self
      .server
      .ask(request, self.token.as_ref(), *budget)
      .await?;
    *budget -= body.len();
    serde_json::from_slice(&body).map_err(|error| ArtifactsError::Malformed {
      url,
      reason: unreadable(&body, &error),
    })
  }

  fn collection_parts(&self) -> Result<(&str, &str), ArtifactsError> {
    split_id(&self.collection).ok_or_else(|| ArtifactsError::Id(self.collection.clone()))
  }

  fn url(&self, segments: &[&str]) -> Url {
    self.server.url(segments)
  }
}

fn is_token(text: &str) -> bool {
  !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
