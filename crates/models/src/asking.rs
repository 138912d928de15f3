//! One question to a model: attempts, time limits, and the stream of its answer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use outbound::network::not_public;
use outbound::reason;
use outbound::shown;
use reqwest::Client;
use reqwest::Response;
use reqwest::Url;
use reqwest::Version;
use reqwest::header;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::Reader;
use crate::completion::ChatDelta;
use crate::endpoint::Endpoint;
use crate::error::Awaited;
use crate::error::Fault;
use crate::error::ModelError;
use crate::error::Server;
use crate::limits::Limits;
use crate::redact::Redactor;
use crate::retry;
use crate::said;

/// After the model stopped, as long is waited for the usage and the end of the stream.
const AFTER_FINISH: Duration = Duration::from_secs(2);

/// What is sent, and where.
pub(crate) struct Question {
  pub(crate) http: Client,
  pub(crate) url: Url,
  pub(crate) endpoint: Endpoint,
  pub(crate) model: String,
  pub(crate) body: Bytes,
  pub(crate) connect: Duration,
}

pub(crate) struct Asking {
  question: Question,
  server: Server,
  redactor: Redactor,
  limits: Limits,
  cancel: CancellationToken,
  /// Of all attempts together; it is set when the first one begins.
  deadline: Option<Instant>,
  attempts: u32,
  answer: Option<Answer>,
  /// Read, and not yet delivered.
  ready: VecDeque<ChatDelta>,
  /// Whether anything was read: from then on, nothing is asked again.
  spoke: bool,
  /// Why it ended, until that is delivered.
  failed: Option<ModelError>,
  ended: bool,
}

/// An answer that is being read.
struct Answer {
  response: Response,
  reader: Reader,
  /// Whether its end is marked, so that it can be told from a cut.
  framed: bool,
  /// Until the next token.
  patience: Option<Instant>,
}

/// Why an attempt failed.
struct Failure {
  error: ModelError,
  /// Whether asking again may help.
  may_pass: bool,
  /// The pause that the server asks for.
  wait: Option<Duration>,
}

impl Failure {
  fn lasting(error: ModelError) -> Self {
    Self {
      error,
      may_pass: false,
      wait: None,
    }
  }

  fn passing(error: ModelError) -> Self {
    Self {
      error,
      may_pass: true,
      wait: None,
    }
  }
}

/// Why waiting for something was ended.
enum Stop {
  Cancelled,
  Late,
}

impl Asking {
  pub(crate) fn new(question: Question, limits: Limits, cancel: CancellationToken) -> Self {
    Self {
      server: question.endpoint.server(),
      redactor: question.endpoint.redactor(),
      question,
      limits,
      cancel,
      deadline: None,
      attempts: 0,
      answer: None,
      ready: VecDeque::new(),
      spoke: false,
      failed: None,
      ended: false,
    }
  }

  /// The next item of the stream; `None` after its end.
  pub(crate) async fn next(&mut self) -> Option<Result<ChatDelta, ModelError>> {
    loop {
      if !self.ended && self.cancel.is_cancelled() {
        self.ready.clear();
        self.fail(ModelError::Cancelled);
      }
      if let Some(delta) = self.ready.pop_front() {
        return Some(Ok(delta));
      }
      if self.ended {
        return self.failed.take().map(Err);
      }
      if let Err(failure) = self.step().await {
        self.recover(failure).await;
      }
    }
  }

  fn fail(&mut self, error: ModelError) {
    self.answer = None;
    self.ended = true;
    self.failed = Some(error);
  }

  /// Asks, or reads the next piece of the answer.
  async fn step(&mut self) -> Result<(), Failure> {
    match self.answer.take() {
      None => {
        self.answer = Some(self.ask().await?);
        Ok(())
      }
      Some(mut answer) => {
        if self.read(&mut answer).await? {
          self.answer = Some(answer);
        } else {
          self.ended = true;
        }
        Ok(())
      }
    }
  }

  /// Waits for another attempt, if there is one.
  async fn recover(&mut self, failure: Failure) {
    self.answer = None;
    let Failure {
      error,
      may_pass,
      wait,
    } = failure;
    let wait = match may_pass && !self.spoke {
      true => self.limits.retries.wait(self.attempts, wait),
      false => None,
    };
    let deadline = self.deadline();
    let Some(until) = wait
      .and_then(|wait| Instant::now().checked_add(wait))
      .filter(|until| *until < deadline)
    else {
      return self.fail(error);
    };
    tracing::debug!("{error}; asking again after {wait:?}");
    if let Err(Stop::Cancelled) = self.within(until, std::future::pending::<()>()).await {
      self.fail(ModelError::Cancelled);
    }
  }

  /// The end of all attempts.
  fn deadline(&mut self) -> Instant {
    let total = self.limits.total;
    *self.deadline.get_or_insert_with(|| after(total))
  }

  async fn within<T>(&self, until: Instant, work: impl Future<Output = T>) -> Result<T, Stop> {
    tokio::select! {
      biased;
      () = self.cancel.cancelled() => Err(Stop::Cancelled),
      done = tokio::time::timeout_at(until, work) => done.map_err(|_| Stop::Late),
    }
  }

  /// Sends the question.
  async fn ask(&mut self) -> Result<Answer, Failure> {
    let patience = after(self.limits.first_token);
    let deadline = self.deadline();
    self.attempts += 1;
    let question = &self.question;
    let mut request = question
      .http
      .post(question.url.clone())
      .header(header::CONTENT_TYPE, "application/json")
      .header(header::ACCEPT, "text/event-stream, application/json")
      .body(question.body.clone());
    if let Some(key) = question.endpoint.key() {
      request = request.bearer_auth(key.expose());
    }
    let work = async {
      let response = request.send().await.map_err(|e| self.unsent(&e))?;
      match response.status().is_success() {
        true => Ok(response),
        false => Err(self.refused(response).await),
      }
    };
    let response = match self.within(patience.min(deadline), work).await {
      Ok(response) => response?,
      Err(Stop::Cancelled) => return Err(Failure::lasting(ModelError::Cancelled)),
      Err(Stop::Late) => return Err(Failure::lasting(self.late(deadline))),
    };
    let headers = response.headers();
    let framed = response.version() >= Version::HTTP_2
      || headers.contains_key(header::TRANSFER_ENCODING)
      || headers.contains_key(header::CONTENT_LENGTH);
    Ok(Answer {
      response,
      reader: Reader::new(&self.limits),
      framed,
      patience: Some(patience),
    })
  }

  /// Reads the next piece; `false` after the last.
  async fn read(&mut self, answer: &mut Answer) -> Result<bool, Failure> {
    let deadline = self.deadline();
    let patience = *answer
      .patience
      .get_or_insert_with(|| after(self.limits.between_tokens));
    let chunk = answer.response.chunk();
    let chunk = match self.within(patience.min(deadline), chunk).await {
      Ok(chunk) => chunk,
      Err(Stop::Cancelled) => return Err(Failure::lasting(ModelError::Cancelled)),
      // Some servers never end their streams.
      Err(Stop::Late) if answer.reader.is_finished() => Ok(None),
      Err(Stop::Late) => return Err(Failure::lasting(self.late(deadline))),
    };
    let before = self.ready.len();
    let was_finished = answer.reader.is_finished();
    let read = match &chunk {
      Ok(Some(bytes)) => answer.reader.push(bytes, &mut self.ready),
      Ok(None) if was_finished => answer.reader.end(true, &mut self.ready),
      Ok(None) => answer.reader.end(answer.framed, &mut self.ready),
      // Nothing can be missing.
      Err(_) if was_finished => answer.reader.end(true, &mut self.ready),
      Err(error) => Err(Fault::CutShort(reason(error))),
    };
    let more = matches!(chunk, Ok(Some(_)));
    self.spoke |= self.ready.len() > before;
    read.map_err(|fault| self.broken(fault))?;
    if more && answer.reader.is_done() {
      answer
        .reader
        .conclude(&mut self.ready)
        .map_err(|fault| self.broken(fault))?;
      return Ok(false);
    }
    if answer.reader.is_finished() {
      if !was_finished {
        answer.patience = Some(after(AFTER_FINISH));
      }
    } else if self.ready.len() > before {
      answer.patience = None;
    }
    Ok(more)
  }

  fn late(&self, deadline: Instant) -> ModelError {
    let whole = Instant::now() >= deadline;
    let server = self.server.clone();
    if self.spoke {
      let fault = match whole {
        true => Fault::Late(self.limits.total),
        false => Fault::Silent(self.limits.between_tokens),
      };
      return ModelError::Broken { server, fault };
    }
    let (awaited, limit) = match whole {
      true => (Awaited::Answer, self.limits.total),
      false => (Awaited::FirstToken, self.limits.first_token),
    };
    ModelError::TimedOut {
      server,
      awaited,
      limit,
    }
  }

  /// Why no answer began.
  fn unsent(&self, error: &reqwest::Error) -> Failure {
    let server = self.server.clone();
    if let Some(refused) = not_public(error) {
      return Failure::lasting(ModelError::NotPublic(refused.clone()));
    }
    if error.is_timeout() {
      return Failure::passing(ModelError::TimedOut {
        server,
        awaited: Awaited::Connection,
        limit: self.question.connect,
      });
    }
    let unreachable = ModelError::Unreachable {
      server,
      reason: self.redactor.clean(&reason(error)),
    };
    match error.is_builder() {
      true => Failure::lasting(unreachable),
      false => Failure::passing(unreachable),
    }
  }

  /// Why the server did not answer with success.
  async fn refused(&self, response: Response) -> Failure {
    let status = response.status();
    if status.is_redirection() {
      return Failure::lasting(ModelError::Redirected {
        server: self.server.clone(),
        status: status.as_u16(),
        target: self.target(&response),
      });
    }
    let wait = retry::asked(response.headers(), chrono::Utc::now());
    let detail = said::refusal(&outbound::error_bytes(response).await);
    self.status(status.as_u16(), wait, &detail)
  }

  /// Where a redirection leads.
  fn target(&self, response: &Response) -> String {
    let location = response.headers().get(header::LOCATION);
    let target = location
      .and_then(|location| location.to_str().ok())
      .and_then(|location| response.url().join(location).ok());
    match target {
      Some(target) => self.redactor.clean(&shown(&target)),
      None => "no readable address".to_owned(),
    }
  }

  /// What a status means, of an answer or of an error inside one.
  fn status(&self, status: u16, wait: Option<Duration>, detail: &str) -> Failure {
    let server = self.server.clone();
    let detail = self.redactor.clean(detail);
    let error = match status {
      404 => ModelError::NoSuchModel {
        server,
        model: self.question.model.clone(),
        detail,
      },
      401 | 403 => ModelError::Authentication {
        server,
        status,
        detail,
      },
      429 => ModelError::RateLimit {
        server,
        wait,
        detail,
      },
      _ => ModelError::Api {
        server,
        status: Some(status),
        detail,
      },
    };
    Failure {
      error,
      may_pass: retry::may_pass(status),
      wait,
    }
  }

  /// What is wrong with an answer, after it began with success.
  fn broken(&self, fault: Fault) -> Failure {
    let server = self.server.clone();
    match fault {
      // Gateways answer 200 before they know.
      Fault::Reported { status, detail } if !self.spoke => match status {
        Some(status) => self.status(status, None, &detail),
        None => Failure::lasting(ModelError::Api {
          server,
          status: None,
          detail: self.redactor.clean(&detail),
        }),
      },
      fault => {
        let may_pass = matches!(fault, Fault::CutShort(_));
        let fault = fault.cleaned(|text| self.redactor.clean(text));
        Failure {
          error: ModelError::Broken { server, fault },
          may_pass,
          wait: None,
        }
      }
    }
  }
}

/// The moment after `time`, or one that never comes.
fn after(time: Duration) -> Instant {
  // A century: what is longer cannot be added.
  const NEVER: Duration = Duration::from_secs(3_000_000_000);
  Instant::now() + time.min(NEVER)
}
