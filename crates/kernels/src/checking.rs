//! Reads whole programs without running them. That happens in a kernel, for a parser is no wall against hostile input.

use std::time::Duration;

use access::Caller;
use kernel_protocol::Checked;
use kernel_protocol::Question;

use crate::KernelError;
use crate::Language;
use crate::manager::KernelManager;
use crate::options::CreateKernel;

/// When a kernel whose asker has gone ends by itself.
const ABANDONED: Duration = Duration::from_secs(60);

impl KernelManager {
  /// Checks whether a program can be read, in a kernel of the caller's that lives for that long. The extension of
  /// `name` tells what kind of program it is.
  ///
  /// # Errors
  /// When the caller may not have a kernel of the language, or it has no time to answer.
  pub async fn check_syntax(
    &self,
    caller: &Caller,
    language: Language,
    name: &str,
    code: &str,
  ) -> Result<Checked, KernelError> {
    let kernel = CreateKernel {
      language,
      inactivity_timeout: Some(ABANDONED),
      ..Default::default()
    };
    let kernel = self.create(caller, kernel).await?;
    let (name, code) = (name.to_owned(), code.to_owned());
    let answer = kernel.ask(Question::Check { name, code }).await;
    self.delete(caller, kernel.id.as_str(), false).await?;
    serde_json::from_str(answer?.as_str())
      .map_err(|e| KernelError::Host(format!("the answer about a program cannot be read: {e}")))
  }
}
