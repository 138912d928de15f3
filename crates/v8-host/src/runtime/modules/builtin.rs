//! Modules that come with the engine, under bare names of their own.

use deno_core::ModuleSpecifier;

/// Nothing else has such addresses, so that nothing is fetched from them.
const SCHEME: &str = "engine";

/// What a bare name stands for where no import map says otherwise.
pub(super) fn resolve(name: &str) -> Option<ModuleSpecifier> {
  builtin_modules::source(name)?;
  ModuleSpecifier::parse(&format!("{SCHEME}:{name}")).ok()
}

/// The source behind such an address.
pub(super) fn source(specifier: &ModuleSpecifier) -> Option<&'static str> {
  let builtin = specifier.scheme() == SCHEME;
  builtin_modules::source(specifier.path()).filter(|_| builtin)
}
