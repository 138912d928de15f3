//! Why there is no answer.

use std::fmt;
use std::time::Duration;

use access::Classified;
use access::ErrorKind;
use outbound::network::NotPublic;

use crate::endpoint::Trust;

/// Error between this server and a model. No message holds a key, or the user and password of a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
  /// A setting of the endpoint or the request that cannot work; nothing was sent.
  #[error("{0}")]
  Invalid(String),
  /// A tenant's endpoint that leads to this machine or a private network; nothing was sent.
  #[error(
    "baseURL: {0}; name a server on the public network, or ask the operator to offer the model"
  )]
  NotPublic(NotPublic),
  #[error("{}", self.message(Audience::Operator))]
  NoSuchModel {
    server: Server,
    model: String,
    detail: String,
  },
  #[error("{}", self.message(Audience::Operator))]
  Authentication {
    server: Server,
    status: u16,
    detail: String,
  },
  #[error("{}", self.message(Audience::Operator))]
  RateLimit {
    server: Server,
    /// The pause that the server asks for.
    wait: Option<Duration>,
    detail: String,
  },
  /// Nothing of an answer came in time.
  #[error("{}", self.message(Audience::Operator))]
  TimedOut {
    server: Server,
    awaited: Awaited,
    limit: Duration,
  },
  #[error("{}", self.message(Audience::Operator))]
  Unreachable { server: Server, reason: String },
  /// Redirections are not followed: neither keys nor conversations go where nobody sent them.
  #[error("{}", self.message(Audience::Operator))]
  Redirected {
    server: Server,
    status: u16,
    target: String,
  },
  /// Any other refusal. `status` is `None` if the server gave none.
  #[error("{}", self.message(Audience::Operator))]
  Api {
    server: Server,
    status: Option<u16>,
    detail: String,
  },
  /// The answer began, and what came of it was delivered; or it cannot be read.
  #[error("{}", self.message(Audience::Operator))]
  Broken { server: Server, fault: Fault },
  #[error("The request to the model was cancelled")]
  Cancelled,
  /// This machine can make no such connection.
  #[error("{0}")]
  NoClient(String),
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
  #[error("the answer was cut short: {0}")]
  CutShort(String),
  #[error("nothing more came within {0:?}")]
  Silent(Duration),
  #[error("the answer was not complete within {0:?}")]
  Late(Duration),
  /// `what` says of what there are too many, for instance bytes of text.
  #[error("the answer has more than {limit} {what}; reading it was stopped")]
  TooLong { what: &'static str, limit: u64 },
  /// It is not what the wire format says.
  #[error("{0}")]
  Malformed(String),
  /// The server reported an error instead of going on.
  #[error("{detail}")]
  Reported { status: Option<u16>, detail: String },
}

impl Fault {
  pub(crate) fn too_long(what: &'static str, limit: usize) -> Self {
    Self::TooLong {
      what,
      limit: limit as u64,
    }
  }

  /// With `clean` applied to what another server said.
  pub(crate) fn cleaned(self, clean: impl Fn(&str) -> String) -> Self {
    match self {
      Self::CutShort(reason) => Self::CutShort(clean(&reason)),
      Self::Malformed(reason) => Self::Malformed(clean(&reason)),
      Self::Reported { status, detail } => Self::Reported {
        status,
        detail: clean(&detail),
      },
      own @ (Self::Silent(_) | Self::Late(_) | Self::TooLong { .. }) => own,
    }
  }
}

/// What did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
  Connection,
  FirstToken,
  Answer,
}

/// The server of a model, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
  /// The base URL, without user, password and query.
  pub base_url: String,
  pub trust: Trust,
}

/// Who reads a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
  Operator,
  Caller,
}

impl Audience {
  /// The name of a server; that of an operator's is the operator's to know.
  fn name(self, server: &Server) -> &str {
    match self {
      Self::Operator => &server.base_url,
      Self::Caller => "the model's server",
    }
  }

  /// What the server says: it may name accounts and machines of the operator.
  fn said(self, detail: &str) -> Said<'_> {
    match self {
      Self::Operator => Said(detail),
      Self::Caller => Said(""),
    }
  }
}

struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match self.0 {
      "" => Ok(()),
      detail => write!(f, "; it says: {detail}"),
    }
  }
}

/// Statuses that speak of the request itself, so that its caller may read why.
const ABOUT_THE_REQUEST: [u16; 3] = [400, 413, 422];

impl ModelError {
  fn message(&self, audience: Audience) -> String {
    match self {
      Self::NoSuchModel {
        server,
        model,
        detail,
      } => format!(
        "Invalid endpoint or model: {} has no model `{}`, or is not where the API is: check baseURL and model{}",
        audience.name(server),
        outbound::printable(model),
        audience.said(detail)
      ),
      Self::Authentication {
        server,
        status,
        detail,
      } => format!(
        "Authentication error: {} answered {status}: check apiKey{}",
        audience.name(server),
        audience.said(detail)
      ),
      Self::RateLimit {
        server,
        wait,
        detail,
      } => {
        let later = match wait {
          Some(wait) => format!("in {} s", wait.as_secs_f64().ceil()),
          None => "later".to_owned(),
        };
        format!(
          "Rate limit exceeded at {}: try again {later}{}",
          audience.name(server),
          audience.said(detail)
        )
      }
      Self::TimedOut {
        server,
        awaited,
        limit,
      } => {
        let what = match awaited {
          Awaited::Connection => "accepted no connection",
          Awaited::FirstToken => "sent nothing of an answer",
          Awaited::Answer => "did not complete its answer",
        };
        format!(
          "Connection timeout: {} {what} within {limit:?}",
          audience.name(server)
        )
      }
      Self::Unreachable { server, reason } => format!(
        "Connection failed: no answer from {}: {reason}; check baseURL, and whether a server runs there",
        audience.name(server)
      ),
      Self::Redirected {
        server,
        status,
        target,
      } => {
        let target = match audience {
          Audience::Operator => target,
          Audience::Caller => "elsewhere",
        };
        format!(
          "API error: {} answered {status} and points to {target}; no redirection is followed: set baseURL to \
           where the API is",
          audience.name(server)
        )
      }
      Self::Api {
        server,
        status,
        detail,
      } => {
        let answered = match status {
          Some(status) => format!("answered {status}"),
          None => "reported an error".to_owned(),
        };
        let detail = match status {
          Some(status) if ABOUT_THE_REQUEST.contains(status) => Said(detail),
          _ => audience.said(detail),
        };
        format!("API error: {} {answered}{detail}", audience.name(server))
      }
      Self::Broken { server, fault } => match (fault, audience) {
        (Fault::Reported { .. }, Audience::Caller) => {
          "Error processing response: the model's server reported an error".to_owned()
        }
        (fault, _) => format!(
          "Error processing response: {}: {fault}",
          audience.name(server)
        ),
      },
      Self::Invalid(_) | Self::NotPublic(_) | Self::Cancelled | Self::NoClient(_) => {
        self.to_string()
      }
    }
  }

  fn server(&self) -> Option<&Server> {
    match self {
      Self::NoSuchModel { server, .. }
      | Self::Authentication { server, .. }
      | Self::RateLimit { server, .. }
      | Self::TimedOut { server, .. }
      | Self::Unreachable { server, .. }
      | Self::Redirected { server, .. }
      | Self::Api { server, .. }
      | Self::Broken { server, .. } => Some(server),
      Self::Invalid(_) | Self::NotPublic(_) | Self::Cancelled | Self::NoClient(_) => None,
    }
  }
}

impl Classified for ModelError {
  fn kind(&self) -> ErrorKind {
    match self {
      Self::Invalid(_) => ErrorKind::Invalid,
      Self::NotPublic(_) => ErrorKind::Forbidden,
      Self::RateLimit { .. } | Self::Cancelled => ErrorKind::Unavailable,
      Self::TimedOut { .. } => ErrorKind::TimedOut,
      Self::Broken { fault, .. } => match fault {
        Fault::Silent(_) | Fault::Late(_) => ErrorKind::TimedOut,
        _ => ErrorKind::Upstream,
      },
      Self::NoSuchModel { .. }
      | Self::Authentication { .. }
      | Self::Unreachable { .. }
      | Self::Redirected { .. }
      | Self::Api { .. } => ErrorKind::Upstream,
      Self::NoClient(_) => ErrorKind::Internal,
    }
  }

  fn public(&self) -> Option<String> {
    match self {
      Self::NoClient(_) => Some("This server cannot reach models at the moment".to_owned()),
      _ => {
        let server = self.server()?;
        (server.trust == Trust::Operator).then(|| self.message(Audience::Caller))
      }
    }
  }
}

#[cfg(test)]
mod tests {
  use super::*;

  fn server(trust: Trust) -> Server {
    Server {
      base_url: "http://gpu7.inside:8000/v1".to_owned(),
      trust,
    }
  }

  fn all(trust: Trust) -> Vec<ModelError> {
    let server = || server(trust);
    let detail = || "organisation org-17".to_owned();
    vec![
      ModelError::NoSuchModel {
        server: server(),
        model: "m7".to_owned(),
        detail: detail(),
      },
      ModelError::Authentication {
        server: server(),
        status: 401,
        detail: detail(),
      },
      ModelError::RateLimit {
        server: server(),
        wait: Some(Duration::from_millis(2500)),
        detail: detail(),
      },
      ModelError::TimedOut {
        server: server(),
        awaited: Awaited::FirstToken,
        limit: Duration::from_secs(9),
      },
      ModelError::Unreachable {
        server: server(),
        reason: "Connection refused".to_owned(),
      },
      ModelError::Redirected {
        server: server(),
        status: 302,
        target: "http://gpu8.inside/".to_owned(),
      },
      ModelError::Api {
        server: server(),
        status: Some(500),
        detail: detail(),
      },
      ModelError::Broken {
        server: server(),
        fault: Fault::Reported {
          status: None,
          detail: detail(),
        },
      },
    ]
  }

  #[test]
  fn messages_begin_as_agents_report_them() {
    let starts = [
      "Invalid endpoint or model: http://gpu7.inside:8000/v1 has no model `m7`",
      "Authentication error: ",
      "Rate limit exceeded at http://gpu7.inside:8000/v1: try again in 3 s; it says: organisation org-17",
      "Connection timeout: ",
      "Connection failed: ",
      "API error: http://gpu7.inside:8000/v1 answered 302 and points to http://gpu8.inside/",
      "API error: http://gpu7.inside:8000/v1 answered 500; it says: organisation org-17",
      "Error processing response: http://gpu7.inside:8000/v1: organisation org-17",
    ];
    for (error, start) in all(Trust::Operator).iter().zip(starts) {
      assert!(error.to_string().starts_with(start), "{error}");
    }
  }

  #[test]
  fn callers_learn_nothing_of_the_operators_servers_and_all_of_their_own() {
    for error in all(Trust::Operator) {
      let public = error.public().expect("another message");
      assert!(
        !public.contains("inside") && !public.contains("org-17"),
        "{public}"
      );
      assert!(
        public.split(':').next() == error.to_string().split(':').next()
          || public.starts_with("Rate limit exceeded at the model's server"),
        "{public}"
      );
    }
    for error in all(Trust::Tenant) {
      assert_eq!(error.public(), None);
    }
    let about_the_request = ModelError::Api {
      server: server(Trust::Operator),
      status: Some(400),
      detail: "too many tokens".to_owned(),
    };
    let public = about_the_request.public().expect("another message");
    assert!(
      public.ends_with("answered 400; it says: too many tokens"),
      "{public}"
    );
  }
}
