//! Settings of apps.

use std::path::PathBuf;

use access::Secret;
use clap::Args;
use http_api::Authority;
use http_api::Malformed;
use hypha_client::Artifacts;
use hypha_client::HyphaConfig;
use outbound::is_loopback;

/// Which apps there are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Apps")]
pub(crate) struct AppArgs {
  /// Folder of apps: each folder in it, and each .ts, .js or .py file, is one.
  #[arg(long, env = "APPS_DIR", value_name = "DIR")]
  pub apps_dir: Option<PathBuf>,

  /// Run the apps that are published on the Hypha server.
  #[arg(long, env = "LOAD_APPS", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
  pub load_apps: bool,

  /// Address of the Hypha server.
  #[arg(
    long,
    env = "HYPHA_SERVER_URL",
    value_name = "URL",
    default_value = "https://hypha.aicell.io"
  )]
  pub hypha_server_url: reqwest::Url,

  /// Workspace that published apps work in, and get tokens for; without it they get none. It should hold
  /// nothing else.
  ///
  /// In particular it should not be the collection's own workspace, where an app could publish others.
  #[arg(long, env = "HYPHA_WORKSPACE", value_name = "NAME")]
  pub hypha_workspace: Option<String>,

  /// Token for the Hypha server; apps get tokens made from it.
  #[arg(
    long,
    env = "HYPHA_TOKEN",
    value_name = "TOKEN",
    hide_env_values = true
  )]
  pub hypha_token: Option<Secret>,

  /// Collection of published apps, as workspace/name.
  #[arg(
    long,
    env = "HYPHA_APPS_COLLECTION",
    value_name = "ID",
    default_value = "hypha-agents/agents"
  )]
  pub hypha_apps_collection: String,

  /// Seconds between looks at what is published.
  #[arg(long, env = "APPS_UPDATE_SECONDS", value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
  pub apps_update_seconds: u64,

  /// Most apps at one time.
  #[arg(long, env = "APPS_MAX_COUNT", value_name = "N", default_value_t = 100)]
  pub apps_max_count: usize,

  /// Pass requests on to apps without asking for a token, even those of pages of other origins.
  #[arg(long, env = "APPS_PUBLIC", value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
  pub apps_public: bool,

  /// Domain whose `*.` leads to this server; the pages of each app are at a name of their own below it
  /// [default: browsers on this machine find apps at {id}.localhost].
  ///
  /// Written as apps.example or apps.example:port.
  #[arg(long = "apps-domain", env = "ENGINE_APPS_DOMAIN", value_name = "NAME", value_parser = domain)]
  pub apps_domain: Option<Authority>,

  /// Port where only apps are served, so that without a domain their pages have another origin than the
  /// engine [default: none].
  #[arg(long = "apps-port", env = "ENGINE_APPS_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
  pub apps_port: Option<u16>,
}

fn domain(text: &str) -> Result<Authority, String> {
  text
    .parse()
    .map_err(|Malformed| "it is not the name of a domain, such as apps.example".to_owned())
}

impl AppArgs {
  /// Where published apps come from, when they are wanted.
  ///
  /// # Errors
  /// When the settings cannot work; the message names the one.
  pub(crate) fn artifacts(
    &self,
    certificates: Option<PathBuf>,
  ) -> Result<Option<Artifacts>, String> {
    if !self.load_apps {
      return Ok(None);
    }
    let config = HyphaConfig {
      server_url: self.hypha_server_url.clone(),
      workspace: self.hypha_workspace.clone(),
      collection: self.hypha_apps_collection.clone(),
      token: self.hypha_token.clone(),
      certificates,
      // A server on this machine is there to be tried out.
      powerful_tokens: is_loopback(&self.hypha_server_url),
    };
    Artifacts::new(config).map(Some).map_err(|e| e.to_string())
  }
}
