//! JavaScript modules that come with the engine, so that kernels without a network have them. They are part of the
//! binary, and cost nothing before they are asked for.

/// Name and source of each.
const MODULES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// The source of the module of this name.
pub fn source(name: &str) -> Option<&'static str> {
  let found = MODULES.iter().find(|(known, _)| *known == name);
  found.map(|(_, source)| *source)
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn the_client_of_hypha_is_there_and_others_are_not() {
    let source = source("hypha-rpc").expect("scripts/setup.sh has prepared it");
    assert!(source.contains("as connectToServer"));
    // What it refers to is not here, and would be looked for.
    assert!(!source.contains("sourceMappingURL"));
    assert!(super::source("left-pad").is_none());
  }
}
