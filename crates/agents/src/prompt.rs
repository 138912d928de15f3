//! What a model is told before the conversation, and what the engine says to it in between.

use kernels::Language;

/// What the system prompt is made of, in this order.
pub(crate) struct Parts<'a> {
  pub instructions: &'a str,
  /// What the caller of one chat adds.
  pub addition: Option<&'a str>,
  /// What the start-up script printed.
  pub startup: Option<&'a str>,
  /// The language of the kernel, for an agent that has one.
  pub language: Option<Language>,
  /// Whether code is run through the tag protocol.
  pub tags: bool,
  /// Names and descriptions of services.
  pub services: Vec<(&'a str, &'a str)>,
  pub plan: Option<&'a str>,
  /// MCP servers that cannot be reached now, and why.
  pub missing: &'a [(String, String)],
}

pub(crate) fn system(parts: &Parts<'_>) -> String {
  let mut text = parts.instructions.trim().to_owned();
  let mut add = |gap: &str, part: &str| {
    if !part.is_empty() {
      text.push_str(if text.is_empty() { "" } else { gap });
      text.push_str(part);
    }
  };
  add("\n\n", parts.addition.unwrap_or_default().trim());
  add("\n", parts.startup.unwrap_or_default().trim());
  if let Some(language) = parts.language {
    add("\n\n", &coding(language, parts.tags));
  }
  if !parts.services.is_empty() {
    let list: Vec<String> = parts
      .services
      .iter()
      .map(|(name, description)| format!("- {name}: {description}"))
      .collect();
    add(
      "\n\n",
      &format!("Services that your code can use:\n{}", list.join("\n")),
    );
  }
  for (server, reason) in parts.missing {
    add(
      "\n\n",
      &format!("The tools of `{server}` are not there now: {reason}"),
    );
  }
  if let Some(plan) = parts.plan {
    add(
      "\n\n",
      &format!("Your plan for this task:\n{}", plan.trim()),
    );
  }
  text
}

fn coding(language: Language, tags: bool) -> String {
  let facts = match language {
    Language::Python => {
      "Your code runs in Python, in Pyodide (CPython compiled to WebAssembly). There are no threads and no \
       subprocesses. `await` works at the top level. Packages that you import are loaded by themselves where \
       they can be; `%pip install NAME` gets others."
    }
    Language::CPython => {
      "Your code runs in a CPython interpreter, as in a notebook. `await` works at the top level."
    }
    Language::TypeScript | Language::JavaScript => {
      "Your code runs in Deno, as TypeScript or JavaScript. `await` works at the top level. Import packages with \
       `npm:` and `jsr:` addresses, or from `https:`."
    }
  };
  let print = match language {
    Language::Python | Language::CPython => "print(…)",
    Language::TypeScript | Language::JavaScript => "console.log(…)",
  };
  if !tags {
    return format!(
      "You solve tasks by running code with the tool `run_code`. {facts} State is kept from one call to the \
       next. Print what you need to know with {print}: you see what was printed, and the value of the last \
       expression. When you are done, answer the user in plain text."
    );
  }
  let tag = script_tag(language);
  format!(
    "You solve tasks by running code. Each of your messages is made of these tags and nothing else:\n\
     - <thoughts>…</thoughts>: first, what you are about to do, in a few words.\n\
     - <{tag} id=\"name\">…</{tag}>: code to run. The user's side runs it and sends what it printed as an \
     <observation>. One script a message; end the message after it and wait.\n\
     - <returnToUser commit=\"name\">…</returnToUser>: your final answer, once you know it. `commit` names the \
     scripts whose results it rests on, separated by commas.\n\
     {facts} State is kept from one script to the next. You see only what code prints, so print what you need \
     with {print}. Code in Markdown fences is not run, and text outside of tags is not delivered. Never write \
     an <observation> yourself: only what really ran counts."
  )
}

/// The tag of scripts in a language.
pub(crate) fn script_tag(language: Language) -> &'static str {
  match language {
    Language::Python | Language::CPython => "py-script",
    Language::TypeScript | Language::JavaScript => "t-script",
  }
}

/// What code came to.
pub(crate) fn observation(output: &str) -> String {
  format!(
    "<observation>Your script ran. It gave:\n```\n{output}\n```\nGo on: run another script, or answer with \
     <returnToUser>.</observation>"
  )
}

pub(crate) fn failed_observation(error: &str) -> String {
  format!(
    "<observation>Your script could not be run: {error}\nTry something else, or answer with \
     <returnToUser>.</observation>"
  )
}

pub(crate) const NO_KERNEL: &str = "<observation>Code cannot be run: this agent has no kernel. Answer in text, \
  with <returnToUser>.</observation>";

/// Of code whose end nobody saw, when a run goes on after the server ended.
pub(crate) const UNKNOWN_OUTCOME: &str = "<observation>The engine was stopped while this script ran. Whether it \
  came to its end, and what it changed outside, is not known; it was not run again. The state of the kernel \
  is new: names that you defined are gone.</observation>";

pub(crate) const NEW_STATE: &str = "The kernel was started anew before this code ran: names that were defined \
  earlier are gone, unless the start-up script defines them.";

pub(crate) const FORGED: &str = "You wrote an <observation> yourself. It was removed, with all that followed. Only \
  what the engine sends is real.";

pub(crate) const IMAGES_SHOWN: &str = "<observation>Images that the code showed:</observation>";
pub(crate) const IMAGES_LEFT_OUT: &str = "\n<observation>Images that cannot be read, or cannot be made small enough, are left out.</observation>";

pub(crate) fn untagged(tag: Option<&str>) -> String {
  let script = tag.map_or_else(String::new, |tag| format!("<{tag}> to run code, "));
  format!(
    "Your message had no tags, so it was not delivered. Use <thoughts> to think, {script}and <returnToUser> for \
     your final answer."
  )
}

pub(crate) fn unfinished(tag: Option<&str>) -> String {
  match tag {
    Some(tag) => format!(
      "Your message asks for nothing. Complete it with a <{tag}> to run, or with <returnToUser> and your answer."
    ),
    None => {
      "Your message asks for nothing. Complete it with <returnToUser> and your answer.".into()
    }
  }
}

pub(crate) fn reminder(left: u32) -> String {
  format!(
    "{left} more {} can be taken. Come to your answer now, in <returnToUser>.",
    if left == 1 { "step" } else { "steps" }
  )
}

// ---- what the user is told where the model gives no answer

pub(crate) const EMPTY_TWICE: &str =
  "The model answered repeatedly with empty responses, so this task was stopped.";
pub(crate) const SAME_TWICE: &str = "The model repeated the same response, so this task was stopped: a repeated response pattern leads nowhere.";
pub(crate) const NO_FORMAT: &str =
  "The assistant cannot follow the format in which it must answer, so this task was stopped.";

pub(crate) fn out_of_steps(most: u32) -> String {
  format!(
    "The limit of {most} tool calls was reached before there was an answer. Ask again to go on from here, or allow \
     more steps."
  )
}
