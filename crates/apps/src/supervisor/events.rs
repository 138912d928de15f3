//! What a supervisor hears of its instances, and what follows from it.

use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use crate::AppError;
use crate::instance::InstanceEvent;
use crate::log::Level;
use crate::restart::Backoff;
use crate::runner::End;
use crate::runner::News;
use crate::runner::Order;
use crate::runner::Runner;
use crate::status::AppState;
use crate::supervisor::READY_TIME;
use crate::supervisor::Supervisor;

impl Supervisor {
  pub(super) fn hear(&mut self, number: u64, news: News) {
    let Some(runner) = self.runners.get_mut(&number) else {
      return;
    };
    match news {
      News::Launched(instance) => runner.instance = Some(instance),
      News::Said(InstanceEvent::PortTaken { port }) => self.note_port_taken(number, port),
      News::Said(InstanceEvent::Started) => {
        runner.started = Some((Instant::now(), Utc::now()));
        self.runs(number);
      }
      News::Said(InstanceEvent::Listening { upstream, port }) => {
        runner.listens(upstream, port);
        self.runs(number);
        if self.is_coming(number) {
          self.replace();
        }
      }
      News::Said(InstanceEvent::Finished { code }) => self.finished(number, code),
      // The runner ends with it.
      News::Said(InstanceEvent::Ended { .. }) => {}
      News::Gone(end) => self.gone(number, end),
    }
  }

  fn is_coming(&self, number: u64) -> bool {
    self
      .coming
      .as_ref()
      .is_some_and(|coming| coming.number == number)
  }

  fn runs(&mut self, number: u64) {
    let waited_for = matches!(self.state, AppState::Starting | AppState::Restarting);
    if self.serving == Some(number) && waited_for {
      self.log.note(number, Level::Info, "started");
      self.become_state(AppState::Running, None, None);
    }
    if let Some(coming) = self
      .coming
      .as_mut()
      .filter(|coming| coming.number == number)
    {
      coming.serves_at.get_or_insert(Instant::now() + READY_TIME);
    }
  }

  /// The main program has ended, its process lives.
  fn finished(&mut self, number: u64, code: i32) {
    let reason = format!("the program ended with code {code}");
    if self.is_coming(number) {
      if code != 0 {
        let error = AppError::Host(self.did_not_come(&reason));
        return self.coming_failed(error);
      }
      self.replace();
    }
    if self.serving != Some(number) {
      return;
    }
    if code != 0 {
      self.failed(reason, Some(code), false);
    } else if self.spec.manifest.restart.after_success() {
      self.restart(reason, Some(code));
    } else {
      self.log.note(number, Level::Info, reason);
      self.become_state(AppState::Exited, None, Some(code));
    }
  }

  /// The process is gone.
  fn gone(&mut self, number: u64, end: End) {
    self.log.end_instance(number);
    let (reason, code, error, hopeless) = match end {
      End::Ended { reason, code } => {
        let error = AppError::Host(self.did_not_come(&reason));
        (reason, code, error, false)
      }
      End::Refused(error) => {
        // What is not allowed or makes no sense does not come right by trying again.
        let hopeless = matches!(error, AppError::Invalid(_) | AppError::Forbidden(_));
        (error.to_string(), None, error, hopeless)
      }
    };
    if self.is_coming(number) {
      self.coming_failed(error);
    } else if self.serving == Some(number) {
      let listened = self
        .runners
        .get(&number)
        .is_some_and(|runner| runner.route.is_some());
      if self.state == AppState::Failed {
        // Why was told when the program ended.
        self.log.note(number, Level::Info, reason);
      } else if self.state == AppState::Exited && (!listened || code == Some(0)) {
        // Its program had done its work; the process was only kept for code to be executed in.
        self.log.note(number, Level::Info, reason);
      } else {
        self.failed(reason, code, hopeless);
      }
      self.serving = self.serving.filter(|serving| *serving != number);
    } else {
      self.log.note(number, Level::Debug, reason);
    }
    self.runners.remove(&number);
  }

  fn did_not_come(&self, reason: &str) -> String {
    format!(
      "app {} was not reloaded, it goes on as before: {reason}",
      self.id
    )
  }

  fn note_port_taken(&self, number: u64, port: u16) {
    let holder = (self.holder_of)(port);
    let who = match holder {
      Some(holder) if holder == self.id => "an instance of this app".to_owned(),
      Some(holder) => format!("app {holder}"),
      None => "another program".to_owned(),
    };
    let text = format!("port {port} is taken: {who} holds it; listen on another port");
    self.log.note(number, Level::Error, text);
  }

  // ------------------------------------------------------------ changes

  /// What was coming serves from now on; what served finishes its requests and ends.
  pub(super) fn replace(&mut self) {
    let Some(coming) = self.coming.take() else {
      return;
    };
    let old = self.serving.replace(coming.number);
    if let Some(runner) = old.and_then(|n| self.runners.get(&n)) {
      runner.order(Order::Drain);
    }
    self.spec = coming.spec;
    self.backoff = Backoff::default();
    self
      .log
      .note(coming.number, Level::Info, "serves from now on");
    self.become_state(AppState::Running, None, None);
    self.answers.push((coming.answer, Ok(())));
  }

  fn coming_failed(&mut self, error: AppError) {
    let Some(coming) = self.coming.take() else {
      return;
    };
    if let Some(runner) = self.runners.get(&coming.number) {
      runner.order(Order::Kill);
    }
    self
      .log
      .note(coming.number, Level::Error, error.to_string());
    self.answers.push((coming.answer, Err(error)));
    if self.serving.is_none() {
      // What served has failed meanwhile, and relied on this one.
      let reason = self.reason.take().unwrap_or_default();
      self.failed(reason, self.exit_code, false);
    }
  }

  fn failed(&mut self, reason: String, code: Option<i32>, hopeless: bool) {
    if self.spec.manifest.restart.after_failure() && !hopeless {
      self.restart(reason, code);
    } else {
      self.log.note(
        self.serving.unwrap_or(self.number),
        Level::Error,
        reason.as_str(),
      );
      self.become_state(AppState::Failed, Some(reason), code);
    }
  }

  fn restart(&mut self, reason: String, code: Option<i32>) {
    let number = self.serving.take();
    let old = number.and_then(|n| self.runners.get(&n));
    let uptime = old.map_or(Duration::ZERO, Runner::uptime);
    if let Some(runner) = old {
      runner.order(Order::Kill);
    }
    let level = if code == Some(0) {
      Level::Info
    } else {
      Level::Error
    };
    let number = number.unwrap_or(self.number);
    if self.coming.is_some() {
      self.log.note(
        number,
        level,
        format!("{reason}; a new instance is on its way"),
      );
    } else {
      let delay = self.backoff.next(uptime);
      self.restarts += 1;
      self.launch_at = Some(Instant::now() + delay);
      self.log.note(
        number,
        level,
        format!("{reason}; it is started again in {delay:?}"),
      );
    }
    self.become_state(AppState::Restarting, Some(reason), code);
  }

  pub(super) fn become_state(
    &mut self,
    state: AppState,
    reason: Option<String>,
    code: Option<i32>,
  ) {
    if self.state != state {
      self.since = Utc::now();
      tracing::debug!(app = %self.id, ?state, reason, "app");
    }
    self.state = state;
    self.reason = reason;
    self.exit_code = code;
  }
}
