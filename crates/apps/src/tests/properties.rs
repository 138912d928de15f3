//! What holds for every id and manifest that a client may send.

use kernels::Language;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use serde_json::json;

use crate::id::AppId;
use crate::label;
use crate::manifest::WrittenManifest;
use crate::spec::AppSpec;
use crate::spec::Source;

/// Ids of every kind, many of them near to what labels look like.
fn id() -> impl Strategy<Value = AppId> {
  let text = prop_oneof![
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}",
    "[aA._-]{1,4}",
    "[a-z]{0,3}-[0-9a-f]{23,25}",
    "xn--[a-z]{1,4}",
    "[a-z]{60,66}",
  ];
  text.prop_filter_map("not an id", |text| AppId::new(&text).ok())
}

/// An id and another that differs little from it.
fn two_ids() -> impl Strategy<Value = (AppId, AppId)> {
  let other = |id: AppId| {
    let text = id.as_str();
    let near = vec![
      text.to_ascii_lowercase(),
      text.to_ascii_uppercase(),
      text.replace(['.', '_'], "-"),
      text.trim_matches('-').to_owned(),
      format!("{text}-"),
      id.label(),
      format!("app-{text}"),
    ];
    (Just(id.clone()), select(near))
  };
  let near = id().prop_flat_map(other);
  let near = near.prop_filter_map("not an id", |(id, near)| {
    Some((id, AppId::new(&near).ok()?))
  });
  prop_oneof![near, (id(), id())]
}

fn any_json() -> impl Strategy<Value = Value> {
  let leaf = prop_oneof![
    Just(Value::Null),
    any::<bool>().prop_map(Value::from),
    any::<i64>().prop_map(Value::from),
    any::<f64>().prop_map(Value::from),
    "\\PC{0,8}".prop_map(Value::from),
  ];
  leaf.prop_recursive(3, 16, 4, |inner| {
    let members = vec(("\\PC{0,6}", inner.clone()), 0..4);
    prop_oneof![
      vec(inner, 0..4).prop_map(Value::from),
      members.prop_map(|members| members.into_iter().collect()),
    ]
  })
}

/// A manifest whose members are mostly right.
fn manifest() -> impl Strategy<Value = Value> {
  let grant = || {
    prop_oneof![
      any::<bool>().prop_map(Value::from),
      vec("[a-z.:0-9]{1,8}", 0..3).prop_map(Value::from),
    ]
  };
  let member = prop_oneof![
    id().prop_map(|id| ("id", json!(id.as_str()))),
    "\\PC{0,8}".prop_map(|text| ("name", json!(text))),
    "\\PC{0,8}".prop_map(|text| ("description", json!(text))),
    "\\PC{0,8}".prop_map(|text| ("version", json!(text))),
    select(
      &[
        "typescript",
        "ts",
        "javascript",
        "js",
        "python",
        "cpython",
        "cobol"
      ][..]
    )
    .prop_map(|lang| ("lang", json!(lang))),
    "\\PC{1,8}".prop_map(|text| ("startup_script", json!(text))),
    "[a-z./]{0,6}\\.(ts|cjs|py|md)".prop_map(|path| ("entry", json!(path))),
    ("\\PC{0,4}", "\\PC{0,4}").prop_map(|(name, value)| ("env", json!({ name: value }))),
    (grant(), grant()).prop_map(|(net, read)| ("permissions", json!({"net": net, "read": read}))),
    any::<u32>().prop_map(|mb| ("limits", json!({ "memoryMb": mb }))),
    select(&["never", "on-failure", "always"][..]).prop_map(|it| ("restart", json!(it))),
    any::<u16>().prop_map(|port| ("port", json!(port))),
    (
      select(&["id", "lang", "env", "limits", "port", "restart", "other"][..]),
      any_json()
    ),
  ];
  let script = json!({"id": "a", "startup_script": "1"});
  vec(member, 0..6).prop_map(move |members| {
    let mut manifest = script.clone();
    for (name, value) in members {
      manifest[name] = value;
    }
    manifest
  })
}

proptest! {
  #[test]
  fn every_label_is_one_of_a_host_name(id in id()) {
    let label = id.label();
    prop_assert!((1..=63).contains(&label.len()), "{label}");
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    prop_assert!(label.chars().all(usual), "{label}");
    prop_assert!(!label.starts_with('-') && !label.ends_with('-'), "{label}");
    prop_assert!(!label.starts_with("xn--"), "{label}");
  }

  #[test]
  fn no_two_ids_share_a_label((a, b) in two_ids()) {
    prop_assert_eq!(a == b, a.label() == b.label(), "{} {}", a.label(), b.label());
  }

  #[test]
  fn a_label_leads_to_its_id_and_to_no_other(id in id()) {
    let label = id.label();
    match label::plain(&label) {
      Some(found) => prop_assert_eq!(found, id),
      None => prop_assert_ne!(label, id.as_str()),
    }
  }

  #[test]
  fn no_text_and_no_json_makes_reading_a_manifest_panic(text in "\\PC{0,64}", json in any_json()) {
    for text in [&text, &format!("{{{text}}}"), &json.to_string()] {
      let _ = WrittenManifest::parse(text).and_then(|written| written.check(None));
    }
    let _ = WrittenManifest::of_artifact(&json).and_then(|written| written.check(None));
  }

  #[test]
  fn a_manifest_that_passes_is_read_again_as_it_is(json in manifest()) {
    let Ok(checked) = WrittenManifest::parse(&json.to_string()).and_then(|it| it.check(None)) else {
      return Ok(());
    };
    let written = serde_json::to_value(&checked).expect("is JSON");
    let again = WrittenManifest::parse(&written.to_string()).and_then(|it| it.check(None));
    prop_assert_eq!(again.as_ref(), Ok(&checked), "{}", written);
    let _ = AppSpec::of_script(checked, Source::Posted);
  }

  #[test]
  fn a_published_manifest_is_taken_as_a_posted_one_is(json in manifest()) {
    let id = AppId::new("of-the-artifact").expect("an id");
    let known = WrittenManifest::parse(&json.to_string());
    let published = WrittenManifest::of_artifact(&json);
    if let (Ok(known), Ok(published)) = (known, published) {
      prop_assert_eq!(&published.id, &None);
      let own = WrittenManifest { id: None, ..known };
      prop_assert_eq!(own.check(Some(id.clone())), published.check(Some(id)));
    }
  }
}

#[test]
fn every_language_that_is_written_is_read() {
  for language in [
    Language::TypeScript,
    Language::JavaScript,
    Language::Python,
    Language::CPython,
  ] {
    assert_eq!(language.to_string().parse(), Ok(language));
  }
}
