//! `deno-app-engine apps`: lists and controls the apps of a running server.

use std::borrow::Cow;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use futures::StreamExt;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::Url;
use serde::Deserialize;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct AppsArgs {
  /// Address of the server.
  #[arg(
    long,
    env = "ENGINE_URL",
    value_name = "URL",
    default_value = "http://127.0.0.1:8000",
    global = true
  )]
  server: Url,

  /// Token for the server.
  #[arg(
    long,
    env = "ENGINE_TOKEN",
    value_name = "TOKEN",
    hide_env_values = true,
    global = true
  )]
  token: Option<String>,

  #[command(subcommand)]
  command: AppsCommand,
}

#[derive(Debug, Subcommand)]
enum AppsCommand {
  /// List all apps, their states and the reasons for them.
  List,
  /// Show what an app printed and what happened to it.
  Logs {
    /// Id of the app.
    id: String,
    /// Follow the log as it grows.
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines to show.
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: usize,
    /// Print control characters, such as those of colours, as they are instead of escaping them.
    #[arg(long)]
    raw: bool,
  },
  /// Start an app that does not run.
  Start {
    /// Id of the app.
    id: String,
  },
  /// Stop an app.
  Stop {
    /// Id of the app.
    id: String,
  },
  /// Read an app again and replace its running instance.
  Reload {
    /// Id of the app.
    id: String,
  },
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AppsError {
  #[error("{0} cannot be reached: {1}; is the server running, and is --server its address?")]
  Unreachable(Url, String),
  /// The server's own message.
  #[error("{0}")]
  Refused(String),
  #[error("{0} does not answer as a Deno App Engine: {1}; is --server its address?")]
  Malformed(Url, String),
  #[error("{0}")]
  Io(#[from] io::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
  id: String,
  status: String,
  language: Option<String>,
  #[serde(default)]
  restarts: u64,
  ready: bool,
  url: Option<String>,
  reason: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
  seq: u64,
  time: String,
  stream: String,
  text: String,
}

/// Item of a followed log.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
  Entry(Entry),
  Gap { missed: u64 },
}

pub(super) fn run(args: AppsArgs) -> Result<(), AppsError> {
  tokio::runtime::Builder::new_current_thread()
    .enable_all()
    .build()?
    .block_on(ask(args))
}

async fn ask(args: AppsArgs) -> Result<(), AppsError> {
  let server = Server::new(args.server, args.token)?;
  match args.command {
    AppsCommand::List => {
      let request = server.request(Method::GET, &[]);
      let apps: Vec<App> = server.read(server.send(request).await?).await?;
      show(&table(&apps))
    }
    AppsCommand::Logs {
      id,
      follow,
      lines,
      raw,
    } => {
      let request = server.request(Method::GET, &[&id, "logs"]);
      let request = request.query(&[("lines", lines)]);
      let entries: Vec<Entry> = server.read(server.send(request).await?).await?;
      for entry in &entries {
        show(&line(entry, raw))?;
      }
      if follow {
        let last = entries.last().map_or(0, |entry| entry.seq);
        server.follow(&id, last, raw).await?;
      }
      Ok(())
    }
    AppsCommand::Start { id } => server.act(&id, "start").await,
    AppsCommand::Stop { id } => server.act(&id, "stop").await,
    AppsCommand::Reload { id } => server.act(&id, "reload").await,
  }
}

struct Server {
  http: Client,
  url: Url,
  token: Option<String>,
}

impl Server {
  fn new(url: Url, token: Option<String>) -> Result<Self, AppsError> {
    let http = Client::builder()
      .connect_timeout(CONNECT_TIMEOUT)
      .no_proxy()
      .build();
    Ok(Self {
      http: http.map_err(io::Error::other)?,
      url,
      token,
    })
  }

  /// A request for what is below `/api/apps`.
  fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
    let mut url = outbound::below(&self.url, &[&["api", "apps"], path].concat());
    url.set_query(None);
    let request = self.http.request(method, url);
    match &self.token {
      Some(token) => request.bearer_auth(token),
      None => request,
    }
  }

  async fn act(&self, id: &str, what: &str) -> Result<(), AppsError> {
    let request = self.request(Method::POST, &[id, what]);
    let app: App = self.read(self.send(request).await?).await?;
    show(&format!("{}: {}\n", app.id, app.status))
  }

  async fn send(&self, request: RequestBuilder) -> Result<Response, AppsError> {
    let response = request
      .send()
      .await
      .map_err(|e| AppsError::Unreachable(self.url.clone(), e.without_url().to_string()))?;
    if response.status().is_success() {
      return Ok(response);
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let body = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = body.and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
    Err(match message {
      Some(message) => AppsError::Refused(message),
      None => AppsError::Malformed(self.url.clone(), status.to_string()),
    })
  }

  async fn read<T: serde::de::DeserializeOwned>(&self, answer: Response) -> Result<T, AppsError> {
    answer
      .json()
      .await
      .map_err(|e| AppsError::Malformed(self.url.clone(), e.without_url().to_string()))
  }

  /// Shows the entries after `seq` until the app is deleted.
  async fn follow(&self, id: &str, seq: u64, raw: bool) -> Result<(), AppsError> {
    let mut request = self.request(Method::GET, &[id, "logs", "stream"]);
    if seq > 0 {
      request = request.header("last-event-id", seq);
    }
    let answer = self.send(request).await?;
    let mut stream = answer.bytes_stream();
    let mut rest = Vec::new();
    while let Some(bytes) = stream.next().await {
      let bytes =
        bytes.map_err(|e| AppsError::Unreachable(self.url.clone(), e.without_url().to_string()))?;
      rest.extend_from_slice(&bytes);
      while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line_of_stream: Vec<u8> = rest.drain(..=end).collect();
        let Some(data) = line_of_stream.strip_prefix(b"data: ") else {
          continue;
        };
        match serde_json::from_slice(data) {
          Ok(Item::Entry(entry)) => show(&line(&entry, raw))?,
          Ok(Item::Gap { missed }) => show(&format!("[{missed} lines were missed]\n"))?,
          Err(error) => return Err(AppsError::Malformed(self.url.clone(), error.to_string())),
        }
      }
    }
    Ok(())
  }
}

/// Escapes control characters, which could change a terminal's title, its clipboard or what it showed
/// before.
fn printable(text: &str) -> Cow<'_, str> {
  let controls = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
  if !text.contains(controls) {
    return text.into();
  }
  let shown = text.chars().map(|c| match controls(c) {
    true => c.escape_debug().to_string(),
    false => c.to_string(),
  });
  shown.collect::<String>().into()
}

/// One line of a log, with a mark for what the engine or stderr says.
fn line(entry: &Entry, raw: bool) -> String {
  let time = entry.time.get(..19).unwrap_or(&entry.time);
  let mark = match entry.stream.as_str() {
    "engine" => "* ",
    "stderr" => "! ",
    _ => "  ",
  };
  let text = match raw {
    true => Cow::from(&entry.text),
    false => printable(&entry.text),
  };
  format!("{} {mark}{text}\n", printable(time))
}

fn table(apps: &[App]) -> String {
  let mut rows = vec![["APP", "STATUS", "LANGUAGE", "RESTARTS", "URL"].map(str::to_owned)];
  let mut notes = Vec::new();
  for app in apps {
    let url = app.url.as_deref().filter(|_| app.ready).unwrap_or("-");
    rows.push([
      app.id.clone(),
      app.status.clone(),
      app.language.clone().unwrap_or_else(|| "-".into()),
      app.restarts.to_string(),
      url.to_owned(),
    ]);
    if let Some(reason) = &app.reason {
      notes.push(format!(
        "{}: {}\n",
        app.id,
        reason.lines().next().unwrap_or_default()
      ));
    }
  }
  let widths: [usize; 5] = std::array::from_fn(|column| {
    let cells = rows.iter().map(|row| row[column].chars().count());
    cells.max().unwrap_or(0)
  });
  let mut text = String::new();
  for row in &rows {
    let cells = row.iter().zip(widths);
    let padded: Vec<String> = cells
      .map(|(cell, width)| format!("{cell:width$}"))
      .collect();
    text.push_str(padded.join("  ").trim_end());
    text.push('\n');
  }
  if !notes.is_empty() {
    text.push('\n');
  }
  text.extend(notes);
  printable(&text).into_owned()
}

/// Writes to stdout. A reader that closes the pipe has seen enough, which is no error.
fn show(text: &str) -> Result<(), AppsError> {
  let mut out = io::stdout();
  let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
  match written {
    Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !out.is_terminal() =>
    {
      #[expect(
        clippy::exit,
        clippy::disallowed_methods,
        reason = "nobody reads any more, and nothing is held"
      )]
      std::process::exit(0)
    }
    written => Ok(written?),
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn what_would_control_the_terminal_is_shown() {
    assert_eq!(printable("a\tb\nc é"), "a\tb\nc é");
    assert_eq!(
      printable("\x1b]0;title\x07\r\u{9b}2J"),
      "\\u{1b}]0;title\\u{7}\\r\\u{9b}2J"
    );
  }

  #[test]
  fn apps_are_shown_in_columns_and_reasons_below() {
    let app = |id: &str, status: &str, reason: Option<&str>| App {
      id: id.into(),
      status: status.into(),
      language: Some("typescript".into()),
      restarts: 2,
      ready: reason.is_none(),
      url: Some(format!("/apps/{id}/")),
      reason: reason.map(str::to_owned),
    };
    let shown = table(&[
      app("shop", "running", None),
      app("a-long-name", "failed", Some("boom\nat line 1")),
    ]);
    let expected = "\
APP          STATUS   LANGUAGE    RESTARTS  URL
shop         running  typescript  2         /apps/shop/
a-long-name  failed   typescript  2         -

a-long-name: boom
";
    assert_eq!(shown, expected);
  }
}
