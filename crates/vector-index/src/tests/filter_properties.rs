//! What holds for every filter: its SQL selects what the filter means, whatever a caller wrote is
//! bound, and what is no filter is an error.

use std::cmp::Ordering;

use proptest::collection::btree_map;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rusqlite::Connection;
use rusqlite::params_from_iter;
use serde_json::Number;

use super::*;

// ------------------------------------------------------------ what a filter means

/// Whether a filter takes metadata, as the documentation of `Filter` says it: without SQL.
fn takes(filter: &Value, metadata: Option<&Value>) -> bool {
  let members = filter.as_object().expect("a filter is an object");
  members.iter().all(|(name, condition)| {
    let mut list = condition.as_array().into_iter().flatten();
    match name.as_str() {
      "$and" => list.all(|filter| takes(filter, metadata)),
      "$or" => list.any(|filter| takes(filter, metadata)),
      "$nor" => !list.any(|filter| takes(filter, metadata)),
      "$not" => !takes(condition, metadata),
      path => holds(at(metadata, path), condition),
    }
  })
}

/// What a path leads to; dots lead into objects only.
fn at<'a>(metadata: Option<&'a Value>, path: &str) -> Option<&'a Value> {
  path
    .split('.')
    .try_fold(metadata?, |value, key| value.as_object()?.get(key))
}

fn holds(found: Option<&Value>, condition: &Value) -> bool {
  let Value::Object(operators) = condition else {
    return has(found, |value| is_equal(value, condition));
  };
  operators.iter().all(|(name, operand)| {
    let ordered = |expected: &[Ordering]| {
      has(found, |value| {
        order(value, operand).is_some_and(|order| expected.contains(&order))
      })
    };
    let mut list = operand.as_array().into_iter().flatten();
    match name.as_str() {
      "$eq" => holds(found, operand),
      "$ne" => !holds(found, operand),
      "$gt" => ordered(&[Ordering::Greater]),
      "$gte" => ordered(&[Ordering::Greater, Ordering::Equal]),
      "$lt" => ordered(&[Ordering::Less]),
      "$lte" => ordered(&[Ordering::Less, Ordering::Equal]),
      "$in" => list.any(|operand| holds(found, operand)),
      "$nin" => !list.any(|operand| holds(found, operand)),
      "$exists" => found.is_some() == (*operand == json!(true)),
      "$not" => !holds(found, operand),
      other => panic!("no operator: {other}"),
    }
  })
}

/// Whether the value passes, or an element of it when it is an array. What is missing is null.
fn has(found: Option<&Value>, passes: impl Fn(&Value) -> bool) -> bool {
  match found.unwrap_or(&Value::Null) {
    Value::Array(elements) => elements.iter().any(passes),
    value => passes(value),
  }
}

fn is_equal(value: &Value, operand: &Value) -> bool {
  match (value, operand) {
    (Value::Null, Value::Null) => true,
    (Value::Bool(a), Value::Bool(b)) => a == b,
    _ => order(value, operand) == Some(Ordering::Equal),
  }
}

/// `None` for values that have no order: those of different types, and those that are neither numbers
/// nor strings.
fn order(value: &Value, operand: &Value) -> Option<Ordering> {
  match (value, operand) {
    (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
    (Value::Number(a), Value::Number(b)) => order_of_numbers(a, b),
    _ => None,
  }
}

/// Integers of 64 bits are exact; other numbers are of double precision.
fn order_of_numbers(a: &Number, b: &Number) -> Option<Ordering> {
  match (a.as_i64(), b.as_i64()) {
    (Some(a), Some(b)) => Some(a.cmp(&b)),
    (None, None) => a.as_f64()?.partial_cmp(&b.as_f64()?),
    (Some(a), None) => order_of_integer(a, b.as_f64()?),
    (None, Some(b)) => order_of_integer(b, a.as_f64()?).map(Ordering::reverse),
  }
}

fn order_of_integer(a: i64, b: f64) -> Option<Ordering> {
  let beyond = 2_f64.powi(63);
  if b >= beyond {
    return Some(Ordering::Less);
  }
  if b < -beyond {
    return Some(Ordering::Greater);
  }
  let whole = b.trunc();
  let order = a.cmp(&(whole as i64));
  Some(order.then(whole.partial_cmp(&b)?))
}

// ------------------------------------------------------------ filters and metadata

/// Few, so that filters meet metadata; odd ones, so that quoting is tried. A NUL is in none: to SQLite it
/// ends a key.
const KEYS: &[&str] = &[
  "a", "b", "", "A", "a\"", "\"", "\\", "'", "a'; --", "$", "[0]", "#", "\n", "é", "🦀", "?1",
  "a b", "rowid", "\\u0061",
];
const TEXTS: &[&str] = &[
  "a", "b", "ab", "", "1", "true", "null", "'", "\"", "\\", "\u{0}", "a\u{0}b", "é", "🦀",
];

fn key() -> BoxedStrategy<String> {
  prop_oneof![
    20 => select(&KEYS[..2]).prop_map(str::to_owned),
    4 => select(KEYS).prop_map(str::to_owned),
    1 => any::<String>().prop_map(|text| text.replace(['.', '\0'], "")),
  ]
  .boxed()
}

fn number() -> BoxedStrategy<Value> {
  prop_oneof![
    16 => (-1..2_i64).prop_map(Value::from),
    2 => select(&[0.5, -0.0, 1.0, 2.5, 1e300, -1e300, 0.1][..]).prop_map(Value::from),
    1 => any::<i64>().prop_map(Value::from),
    1 => any::<u64>().prop_map(Value::from),
    1 => select(&[i64::MAX, i64::MIN, 9_007_199_254_740_993][..]).prop_map(Value::from),
    1 => (-1000..1000_i64, 1..1000_i64).prop_map(|(a, b)| Value::from(a as f64 / b as f64)),
  ]
  .boxed()
}

fn text() -> BoxedStrategy<String> {
  prop_oneof![
    9 => select(TEXTS).prop_map(str::to_owned),
    1 => any::<String>(),
  ]
  .boxed()
}

fn scalar() -> BoxedStrategy<Value> {
  prop_oneof![
    1 => Just(Value::Null),
    2 => any::<bool>().prop_map(Value::from),
    4 => number(),
    4 => text().prop_map(Value::from),
  ]
  .boxed()
}

fn object(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
  let members = btree_map(key(), value, 0..4);
  members
    .prop_map(|members| Value::Object(members.into_iter().collect()))
    .boxed()
}

fn metadata() -> BoxedStrategy<Option<Value>> {
  let nested = scalar().prop_recursive(3, 16, 4, |inner| {
    prop_oneof![
      vec(inner.clone(), 0..4).prop_map(Value::from),
      object(inner)
    ]
  });
  let value = prop_oneof![
    6 => scalar(),
    2 => vec(scalar(), 0..4).prop_map(Value::from),
    1 => nested,
  ];
  prop::option::weighted(0.95, object(value)).boxed()
}

fn condition() -> BoxedStrategy<Value> {
  let ordered = prop_oneof![number(), text().prop_map(Value::from)];
  let operator = prop_oneof![
    2 => (select(&["$eq", "$ne"][..]), scalar()),
    4 => (select(&["$gt", "$gte", "$lt", "$lte"][..]), ordered),
    2 => (
      select(&["$in", "$nin"][..]),
      vec(scalar(), 0..4).prop_map(Value::from)
    ),
    1 => (Just("$exists"), any::<bool>().prop_map(Value::from)),
  ];
  let operators = vec(operator, 1..3).prop_map(|operators| {
    let named = operators
      .into_iter()
      .map(|(name, operand)| (name.to_owned(), operand));
    Value::Object(named.collect())
  });
  let condition = prop_oneof![1 => scalar(), 2 => operators];
  condition
    .prop_recursive(2, 4, 1, |inner| {
      inner.prop_map(|condition| json!({"$not": condition}))
    })
    .boxed()
}

/// Filters as callers may write them.
fn well_formed() -> BoxedStrategy<Value> {
  let path = prop_oneof![4 => vec(key(), 1), 1 => vec(key(), 2)]
    .prop_map(|keys| keys.join("."))
    .prop_filter("an operator is no field", |path| !path.starts_with('$'));
  let fields = btree_map(path, condition(), 0..3)
    .prop_map(|fields| Value::Object(fields.into_iter().collect()));
  fields
    .prop_recursive(3, 12, 3, |inner| {
      let list = vec(inner.clone(), 1..4).prop_map(Value::from);
      let connected = prop_oneof![
        (select(&["$and", "$or", "$nor"][..]), list),
        (Just("$not"), inner.clone()),
      ];
      (connected, inner).prop_map(|((name, value), mut filter)| {
        filter[name] = value;
        filter
      })
    })
    .boxed()
}

/// JSON of any kind, with operators wherever a key is.
fn anything() -> BoxedStrategy<Value> {
  let operators = [
    "$and", "$or", "$nor", "$not", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin",
    "$exists", "$where", "$",
  ];
  scalar()
    .prop_recursive(5, 40, 4, move |inner| {
      let name = prop_oneof![select(operators.to_vec()).prop_map(str::to_owned), key()];
      let members = btree_map(name, inner.clone(), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()));
      prop_oneof![2 => members, 1 => vec(inner, 0..4).prop_map(Value::from)]
    })
    .boxed()
}

// ------------------------------------------------------------ SQLite

/// Documents with this metadata, as an index keeps them; their rowids count from 1.
fn library(documents: &[Option<Value>]) -> Connection {
  let connection = Connection::open_in_memory().expect("opens");
  connection
    .execute_batch("CREATE TABLE document(rowid INTEGER PRIMARY KEY, metadata BLOB)")
    .expect("creates");
  let mut insert = connection
    .prepare("INSERT INTO document(metadata) VALUES (jsonb(?))")
    .expect("prepares");
  for metadata in documents {
    let metadata = metadata.as_ref().map(Value::to_string);
    insert.execute([metadata]).expect("inserts");
  }
  drop(insert);
  connection
}

/// What the expression of a filter is for each document.
fn results(connection: &Connection, filter: &Filter) -> Vec<rusqlite::types::Value> {
  let sql = filter.sql(1);
  let text = format!("SELECT {} FROM document ORDER BY rowid", sql.expression);
  let mut select = connection.prepare(&text).expect(&text);
  let rows = select.query_map(params_from_iter(sql.parameters), |row| row.get(0));
  let rows = rows.expect(&text).collect::<rusqlite::Result<_>>();
  rows.expect(&text)
}

/// The words of an expression, and the numbers of its parameters.
fn words(expression: &str) -> (Vec<String>, Vec<usize>) {
  let (mut words, mut parameters) = (Vec::new(), Vec::new());
  let mut rest = expression.trim_start();
  while let Some(first) = rest.chars().next() {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let length = match first {
      '?' => {
        1 + rest[1..]
          .find(|c: char| !c.is_ascii_digit())
          .unwrap_or(rest.len() - 1)
      }
      '\'' => 2 + rest[1..].find('\'').expect("a quote ends"),
      c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
      c => c.len_utf8(),
    };
    let (word, after) = rest.split_at(length);
    match word.strip_prefix('?') {
      Some(number) => parameters.push(number.parse().expect("a number")),
      None => words.push(word.to_owned()),
    }
    rest = after.trim_start();
  }
  (words, parameters)
}

/// All that SQL of a filter is made of, besides parameters.
const VOCABULARY: &str = "( ) , . = < > 0 1 AND AS EXISTS FROM IN IS NOT NULL OR SELECT TRUE WHERE \
  'array' 'false' 'integer' 'null' 'real' 'text' 'true' coalesce element json_each json_extract \
  json_type metadata type value";

proptest! {
  #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

  #[test]
  fn the_sql_of_a_filter_selects_exactly_what_the_filter_means(
    filter in well_formed(),
    documents in vec(metadata(), 0..12),
  ) {
    let connection = library(&documents);
    let parsed = Filter::parse(&filter).expect("parses");
    let expected: Vec<i64> = documents
      .iter()
      .map(|metadata| i64::from(takes(&filter, metadata.as_ref())))
      .collect();
    let found: Vec<_> = results(&connection, &parsed);
    let whole: Vec<_> = expected.iter().map(|taken| (*taken).into()).collect();
    prop_assert_eq!(found, whole);
    let rowids: Vec<i64> = (1..).zip(expected).filter(|(_, taken)| *taken == 1).map(|(id, _)| id).collect();
    prop_assert_eq!(&parsed.rowids(&connection).expect("selects"), &rowids);
    let among = parsed.taken(&connection, 2..4).expect("selects");
    prop_assert_eq!(among, rowids.into_iter().filter(|id| (2..4).contains(id)).collect());
  }

}

proptest! {
  #[test]
  fn every_value_is_found_by_itself(
    value in prop_oneof![
      any::<f64>().prop_filter("JSON has no other", |number| number.is_finite()).prop_map(Value::from),
      scalar(),
    ],
  ) {
    let connection = library(&[Some(json!({"a": value})), Some(json!({"a": ["x", value]}))]);
    let taken = |condition: Value| {
      let filter = filter(&json!({"a": condition}));
      filter.rowids(&connection).expect("selects").len()
    };
    prop_assert_eq!(taken(value.clone()), 2);
    prop_assert_eq!(taken(json!({"$in": [value]})), 2);
    prop_assert_eq!(taken(json!({"$nin": [value]})), 0);
    if value.is_number() {
      prop_assert_eq!(taken(json!({"$gte": value, "$lte": value})), 2);
      prop_assert_eq!(taken(json!({"$gt": value})) + taken(json!({"$lt": value})), 0);
    }
  }

  #[test]
  fn nothing_that_a_caller_wrote_is_in_the_sql(filter in well_formed(), first in 1..9_usize) {
    let sql = Filter::parse(&filter).expect("parses").sql(first);
    let (words, parameters) = words(&sql.expression);
    let vocabulary: Vec<&str> = VOCABULARY.split_whitespace().collect();
    for word in words {
      prop_assert!(vocabulary.contains(&word.as_str()), "{} in {}", word, sql.expression);
    }
    let bound = first..first + sql.parameters.len();
    for number in &parameters {
      prop_assert!(bound.contains(number), "?{} in {}", number, sql.expression);
    }
    for number in bound {
      prop_assert!(parameters.contains(&number), "?{} is not in {}", number, sql.expression);
    }
  }

  #[test]
  fn whatever_is_no_filter_is_an_error_that_names_the_place(
    json in anything(),
    documents in vec(metadata(), 1..3),
  ) {
    match Filter::parse(&json) {
      Ok(filter) => {
        for taken in results(&library(&documents), &filter) {
          prop_assert!(matches!(taken, rusqlite::types::Value::Integer(0 | 1)), "{:?}", taken);
        }
      }
      Err(IndexError::Invalid(message)) => prop_assert!(message.starts_with("filter"), "{}", message),
      Err(other) => prop_assert!(false, "{}", other),
    }
  }
}
