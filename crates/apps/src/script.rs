//! Files that hold a program.

#![expect(
  clippy::disallowed_methods,
  reason = "called where threads may wait: on the blocking pool"
)]

use std::fs;
use std::path::Path;

use kernels::Language;

/// Extensions of programs and their languages. Where a folder has several, the first comes first.
pub const EXTENSIONS: [(&str, Language); 8] = [
  ("ts", Language::TypeScript),
  ("mts", Language::TypeScript),
  ("tsx", Language::TypeScript),
  ("js", Language::JavaScript),
  ("mjs", Language::JavaScript),
  ("cjs", Language::JavaScript),
  ("jsx", Language::JavaScript),
  ("py", Language::Python),
];

/// Longest program, in bytes.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// The language of a program by the name of its file; `None` if the name does not tell.
pub fn language_of(path: &Path) -> Option<Language> {
  let extension = path.extension()?.to_str()?;
  let known = EXTENSIONS.iter().find(|(known, _)| *known == extension);
  known.map(|(_, language)| *language)
}

/// The extensions as messages list them.
pub fn extensions() -> String {
  let dotted = EXTENSIONS.map(|(extension, _)| format!(".{extension}"));
  let [others @ .., last] = &dotted;
  format!("{} or {last}", others.join(", "))
}

/// The extension that a program in this language is stored with.
pub fn extension_of(language: Language) -> &'static str {
  match language {
    Language::TypeScript => "ts",
    Language::JavaScript => "js",
    Language::Python | Language::CPython => "py",
  }
}

/// Checks that a file can be a program. `Err` says what is wrong with it.
pub(crate) fn check_file(path: &Path) -> Result<(), String> {
  let metadata = fs::metadata(path).map_err(|e| format!("cannot be used: {e}"))?;
  if !metadata.is_file() {
    return Err("is not a file; name the file that the app starts with".into());
  }
  if metadata.len() == 0 {
    return Err("is empty; write the program of the app into it".into());
  }
  if metadata.len() > MAX_BYTES {
    return Err(format!(
      "is larger than {} MiB, the most a program may have; load data from other files",
      MAX_BYTES >> 20
    ));
  }
  Ok(())
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn every_extension_tells_its_language_and_others_none() {
    for (extension, language) in EXTENSIONS {
      let path = format!("some.folder/main.{extension}");
      assert_eq!(language_of(Path::new(&path)), Some(language), "{path}");
    }
    for name in [
      "main",
      "main.",
      ".ts",
      "main.TS",
      "main.d",
      "main.ts.bak",
      "",
    ] {
      assert_eq!(language_of(Path::new(name)), None, "{name}");
    }
  }

  #[test]
  fn messages_list_every_extension() {
    assert_eq!(
      extensions(),
      ".ts, .mts, .tsx, .js, .mjs, .cjs, .jsx or .py"
    );
  }

  #[test]
  fn a_stored_program_keeps_its_language_but_for_cpython() {
    for language in [Language::TypeScript, Language::JavaScript, Language::Python] {
      let path = format!("main.{}", extension_of(language));
      assert_eq!(language_of(Path::new(&path)), Some(language));
    }
    assert_eq!(extension_of(Language::CPython), "py");
  }
}
