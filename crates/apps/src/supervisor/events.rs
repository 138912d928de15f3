//! The events of an app's instances, and what follows from them.

use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use crate::error::AppError;
use crate::instance::End;
use crate::instance::InstanceEvent;
use crate::log::Level;
use crate::restart::Backoff;
use crate::runner::Runner;
use crate::runner::StopLevel;
use crate::status::AppState;
use crate::supervisor::READY_TIME;
use crate::supervisor::Supervisor;

impl Supervisor {
  pub(super) fn on_event(&mut self, number: u64, event: InstanceEvent) {
    let Some(runner) = self.runners.get_mut(&number) else {
      return;
    };
    match event {
      InstanceEvent::Launched(instance) => runner.instance = Some(instance),
      InstanceEvent::PortTaken { port } => self.note_port_taken(number, port),
      InstanceEvent::Started => {
        runner.started = Some((Instant::now(), Utc::now()));
        self.on_running(number);
      }
      InstanceEvent::Listening { upstream, port } => {
        runner.listens(upstream, port);
        self.on_running(number);
        if self.is_replacement(number) {
          self.replace();
        }
      }
      InstanceEvent::Finished { code } => self.on_finished(number, code),
      InstanceEvent::Ended(end) => self.on_ended(number, end),
    }
  }

  fn is_replacement(&self, number: u64) -> bool {
    self
      .replacement
      .as_ref()
      .is_some_and(|replacement| replacement.number == number)
  }

  fn on_running(&mut self, number: u64) {
    let waited_for = matches!(self.state, AppState::Starting | AppState::Restarting);
    if self.serving == Some(number) && waited_for {
      self.log.note(number, Level::Info, "started");
      self.set_state(AppState::Running, None, None);
    }
    if let Some(replacement) = self
      .replacement
      .as_mut()
      .filter(|replacement| replacement.number == number)
    {
      replacement
        .serves_at
        .get_or_insert(Instant::now() + READY_TIME);
    }
  }

  /// The main program has ended; its process lives on.
  fn on_finished(&mut self, number: u64, code: i32) {
    let reason = format!("the program ended with code {code}");
    if self.is_replacement(number) {
      if code != 0 {
        let error = AppError::Host(self.not_reloaded(&reason));
        return self.replacement_failed(error);
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
      self.set_state(AppState::Exited, None, Some(code));
    }
  }

  /// The process is gone.
  fn on_ended(&mut self, number: u64, end: End) {
    self.log.end_instance(number);
    let (reason, code, error, hopeless) = match end {
      End::Ended { reason, code } => {
        let error = AppError::Host(self.not_reloaded(&reason));
        (reason, code, error, false)
      }
      End::Refused(error) => {
        // Trying again does not help against what is not allowed or makes no sense.
        let hopeless = matches!(error, AppError::Invalid(_) | AppError::Forbidden(_));
        (error.to_string(), None, error, hopeless)
      }
    };
    if self.is_replacement(number) {
      self.replacement_failed(error);
    } else if self.serving == Some(number) {
      let listened = self
        .runners
        .get(&number)
        .is_some_and(|runner| runner.route.is_some());
      if self.state == AppState::Failed {
        // The reason was noted when the program ended.
        self.log.note(number, Level::Info, reason);
      } else if self.state == AppState::Exited && (!listened || code == Some(0)) {
        // Its program had ended well; the process was kept only to execute code in it.
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

  fn not_reloaded(&self, reason: &str) -> String {
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

  /// The replacement serves from now on; what served finishes its requests and stops.
  pub(super) fn replace(&mut self) {
    let Some(replacement) = self.replacement.take() else {
      return;
    };
    let old = self.serving.replace(replacement.number);
    if let Some(runner) = old.and_then(|n| self.runners.get(&n)) {
      runner.stop(StopLevel::Drain);
    }
    self.spec = replacement.spec;
    self.backoff = Backoff::default();
    self
      .log
      .note(replacement.number, Level::Info, "serves from now on");
    self.set_state(AppState::Running, None, None);
    self.replies.push((replacement.reply, Ok(())));
  }

  fn replacement_failed(&mut self, error: AppError) {
    let Some(replacement) = self.replacement.take() else {
      return;
    };
    if let Some(runner) = self.runners.get(&replacement.number) {
      runner.stop(StopLevel::Kill);
    }
    self
      .log
      .note(replacement.number, Level::Error, error.to_string());
    self.replies.push((replacement.reply, Err(error)));
    if self.serving.is_none() {
      // The instance that served has failed meanwhile, and this one was to take over.
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
      self.set_state(AppState::Failed, Some(reason), code);
    }
  }

  fn restart(&mut self, reason: String, code: Option<i32>) {
    let number = self.serving.take();
    let old = number.and_then(|n| self.runners.get(&n));
    let uptime = old.map_or(Duration::ZERO, Runner::uptime);
    if let Some(runner) = old {
      runner.stop(StopLevel::Kill);
    }
    let level = if code == Some(0) {
      Level::Info
    } else {
      Level::Error
    };
    let number = number.unwrap_or(self.number);
    if self.replacement.is_some() {
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
    self.set_state(AppState::Restarting, Some(reason), code);
  }

  pub(super) fn set_state(&mut self, state: AppState, reason: Option<String>, code: Option<i32>) {
    if self.state != state {
      self.since = Utc::now();
      tracing::debug!(app = %self.id, ?state, reason, "app");
    }
    self.state = state;
    self.reason = reason;
    self.exit_code = code;
  }
}
