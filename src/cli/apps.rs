//! `deno-app-engine apps`: speaks to a running server about its apps.

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
use reqwest::Response;
use reqwest::Url;
use serde::Deserialize;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct AppsArgs {
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
  /// Show every app, its state and why it is in it.
  List,
  /// Show what an app printed and what happened to it.
  Logs {
    /// Id of the app.
    id: String,
    /// Go on with what the app prints from now on.
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines to show.
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: usize,
    /// Pass on what would control the terminal, such as colours, instead of showing it.
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
  /// Start an app anew, as it is in its folder now.
  Reload {
    /// Id of the app.
    id: String,
  },
}

#[derive(Debug, thiserror::Error)]
pub enum AppsError {
  #[error("{0} cannot be reached: {1}; is the server running, and is --server its address?")]
  Unreachable(Url, String),
  /// In the server's words.
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

/// What a stream of a log brings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
  Entry(Entry),
  Gap { missed: u64 },
}

pub fn run(args: AppsArgs) -> Result<(), AppsError> {
  tokio::runtime::Builder::new_current_thread()
    .enable_all()
    .build()?
    .block_on(speak(args))
}

async fn speak(args: AppsArgs) -> Result<(), AppsError> {
  let server = Server::new(args.server, args.token)?;
  match args.command {
    AppsCommand::List => {
      let apps: Vec<App> = server.read(server.get(&[]).await?).await?;
      show(&table(&apps))
    }
    AppsCommand::Logs {
      id,
      follow,
      lines,
      raw,
    } => {
      let query = format!("logs?lines={lines}");
      let entries: Vec<Entry> = server.read(server.get(&[&id, &query]).await?).await?;
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

  async fn get(&self, path: &[&str]) -> Result<Response, AppsError> {
    self.send(Method::GET, path, 0).await
  }

  async fn act(&self, id: &str, what: &str) -> Result<(), AppsError> {
    let answer = self.send(Method::POST, &[id, what], 0).await?;
    let app: App = self.read(answer).await?;
    show(&format!("{}: {}\n", app.id, app.status))
  }

  /// The last part of `path` may have a query.
  async fn send(&self, method: Method, path: &[&str], after: u64) -> Result<Response, AppsError> {
    let mut url = self.url.clone();
    let (last, query) = match path.last().and_then(|last| last.split_once('?')) {
      Some((last, query)) => (Some(last), Some(query)),
      None => (path.last().copied(), None),
    };
    if let Ok(mut segments) = url.path_segments_mut() {
      let first = path.split_last().map_or(&[][..], |(_, first)| first);
      segments
        .pop_if_empty()
        .extend(["api", "apps"])
        .extend(first)
        .extend(last);
    }
    url.set_query(query);
    let mut request = self.http.request(method, url);
    if let Some(token) = &self.token {
      request = request.bearer_auth(token);
    }
    if after > 0 {
      request = request.header("last-event-id", after);
    }
    let response = request
      .send()
      .await
      .map_err(|e| AppsError::Unreachable(self.url.clone(), e.without_url().to_string()))?;
    if response.status().is_success() {
      return Ok(response);
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let told = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = told.and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
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

  /// Shows the entries after `seq` until the app is gone.
  async fn follow(&self, id: &str, seq: u64, raw: bool) -> Result<(), AppsError> {
    let answer = self.send(Method::GET, &[id, "logs", "stream"], seq).await?;
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

/// A text that controls no terminal: not its title, its clipboard or what it has shown before.
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

/// One line of a log; what the engine says of the app is marked.
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

/// A reader that has seen enough closes the pipe, which is no error.
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
