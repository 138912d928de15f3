//! Values as they travel between peers.

mod json;
mod rtype;

use std::fmt;

use bytes::Bytes;

use crate::callback::Callback;
use crate::error::RemoteError;

/// A value that a peer sends or gets.
///
/// Maps with the member `_rtype` are the protocol's own encodings. Those that this crate knows have a
/// variant each; a map with another `_rtype`, or with one whose other members are not as they should be,
/// stays a [`Value::Map`] and passes through unchanged.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
  #[default]
  Nil,
  Bool(bool),
  Int(i64),
  /// An integer above `i64::MAX`; smaller ones are [`Value::Int`].
  UInt(u64),
  Float(f64),
  Text(String),
  Bytes(Bytes),
  List(Vec<Value>),
  Map(Map),
  /// A moment, as JavaScript's `Date` arrives.
  Date(Timestamp),
  /// Bytes of a MessagePack extension that this crate does not know, and its number.
  Extension(i8, Bytes),
  /// A method of a peer, which can be called.
  Method(Box<MethodRef>),
  /// A stream of a peer, which can be pulled.
  Generator(Box<GeneratorRef>),
  NdArray(Box<NdArray>),
  TypedArray(Box<TypedArray>),
  MemoryView(Bytes),
  Set(Vec<Value>),
  /// What an ordered map was sent as: a list of pairs, or of keys alone (the Python client).
  OrderedMap(Vec<Value>),
  Error(Box<RemoteError>),
  /// The end of a stream.
  StopIteration,
  /// A function of this program, which the peer that gets it may call until the call has ended.
  Callback(Callback),
}

/// Members of a value, in the order in which they were added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map(indexmap::IndexMap<String, Value>);

/// A moment, in seconds since 1970 and nanoseconds after those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
  pub seconds: i64,
  pub nanoseconds: u32,
}

/// A method of a peer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MethodRef {
  /// The peer: `workspace/client_id`.
  pub target: String,
  /// The path by which the peer finds it.
  pub method: String,
  /// Whether the peer answers calls; `false` for those that it only takes note of.
  pub answers: bool,
  pub name: Option<String>,
  pub description: Option<String>,
  /// JSON schema of the parameters, as OpenAI's function calls have it.
  pub schema: Option<Value>,
  /// All other members.
  pub more: Map,
  /// The peer that gave it to a handler of ours: it can be called only if it is one of that peer's own.
  pub(crate) given_by: Option<String>,
}

/// A stream of a peer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GeneratorRef {
  /// The peer: `workspace/client_id`.
  pub target: String,
  /// The method that answers the next item.
  pub method: String,
  /// The method that ends the stream early; `None` if the peer has none.
  pub close_method: Option<String>,
  /// All other members.
  pub more: Map,
  pub(crate) given_by: Option<String>,
}

/// An array of numbers, as NumPy has it in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NdArray {
  pub data: Bytes,
  pub shape: Vec<u64>,
  /// NumPy's name of the element type: `float32`.
  pub dtype: String,
}

/// A typed array of JavaScript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedArray {
  pub data: Bytes,
  pub dtype: String,
}

impl Map {
  pub fn new() -> Self {
    Self::default()
  }

  pub fn get(&self, name: &str) -> Option<&Value> {
    self.0.get(name)
  }

  pub fn contains(&self, name: &str) -> bool {
    self.0.contains_key(name)
  }

  /// Adds a member, or replaces its value. Returns the value that it had.
  pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
    self.0.insert(name.into(), value.into())
  }

  /// Removes a member and keeps the order of the others.
  pub fn remove(&mut self, name: &str) -> Option<Value> {
    self.0.shift_remove(name)
  }

  pub fn len(&self) -> usize {
    self.0.len()
  }

  pub fn is_empty(&self) -> bool {
    self.0.is_empty()
  }

  pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
    self.0.iter().map(|(name, value)| (name.as_str(), value))
  }

  pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
    self.0.values_mut()
  }

  /// The text of a member; `None` if it is not there or no text.
  pub fn text(&self, name: &str) -> Option<&str> {
    self.get(name).and_then(Value::as_str)
  }
}

impl IntoIterator for Map {
  type Item = (String, Value);
  type IntoIter = indexmap::map::IntoIter<String, Value>;

  fn into_iter(self) -> Self::IntoIter {
    self.0.into_iter()
  }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for Map {
  fn from_iter<I: IntoIterator<Item = (N, V)>>(members: I) -> Self {
    let members = members.into_iter();
    Self(members.map(|(n, v)| (n.into(), v.into())).collect())
  }
}

impl<N: Into<String>, V: Into<Value>, const SIZE: usize> From<[(N, V); SIZE]> for Map {
  fn from(members: [(N, V); SIZE]) -> Self {
    members.into_iter().collect()
  }
}

impl Value {
  pub fn is_nil(&self) -> bool {
    matches!(self, Self::Nil)
  }

  pub fn as_bool(&self) -> Option<bool> {
    match self {
      Self::Bool(value) => Some(*value),
      _ => None,
    }
  }

  /// The integer; `None` if it is none or does not fit. A float without a fraction counts: JavaScript has
  /// no other numbers.
  #[expect(
    clippy::cast_possible_truncation,
    reason = "the float is whole, and far within the range of i64"
  )]
  pub fn as_i64(&self) -> Option<i64> {
    match self {
      Self::Int(value) => Some(*value),
      Self::Float(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
        Some(*value as i64)
      }
      _ => None,
    }
  }

  pub fn as_f64(&self) -> Option<f64> {
    match self {
      Self::Int(value) => Some(*value as f64),
      Self::UInt(value) => Some(*value as f64),
      Self::Float(value) => Some(*value),
      _ => None,
    }
  }

  pub fn as_str(&self) -> Option<&str> {
    match self {
      Self::Text(value) => Some(value),
      _ => None,
    }
  }

  /// The bytes of a binary string or a memory view.
  pub fn as_bytes(&self) -> Option<&Bytes> {
    match self {
      Self::Bytes(value) | Self::MemoryView(value) => Some(value),
      _ => None,
    }
  }

  pub fn as_list(&self) -> Option<&[Value]> {
    match self {
      Self::List(value) => Some(value),
      _ => None,
    }
  }

  pub fn as_map(&self) -> Option<&Map> {
    match self {
      Self::Map(value) => Some(value),
      _ => None,
    }
  }

  pub fn as_method(&self) -> Option<&MethodRef> {
    match self {
      Self::Method(value) => Some(value),
      _ => None,
    }
  }

  pub fn as_generator(&self) -> Option<&GeneratorRef> {
    match self {
      Self::Generator(value) => Some(value),
      _ => None,
    }
  }

  /// A member of a map; `None` if this is no map or has no such member.
  pub fn get(&self, name: &str) -> Option<&Value> {
    self.as_map()?.get(name)
  }

  /// Makes the addresses in references to methods and streams absolute, and notes who gave them.
  pub(crate) fn anchor(&mut self, workspace: &str, given_by: Option<&str>) {
    let absolute = |target: &mut String| {
      if !target.contains('/') {
        *target = format!("{workspace}/{target}");
      }
    };
    match self {
      Self::Method(method) => {
        absolute(&mut method.target);
        method.given_by = given_by.map(str::to_owned);
      }
      Self::Generator(generator) => {
        absolute(&mut generator.target);
        generator.given_by = given_by.map(str::to_owned);
      }
      Self::List(items) | Self::Set(items) | Self::OrderedMap(items) => {
        for item in items {
          item.anchor(workspace, given_by);
        }
      }
      Self::Map(map) => {
        for value in map.values_mut() {
          value.anchor(workspace, given_by);
        }
      }
      _ => {}
    }
  }

  /// Puts the id of a session before the paths of methods that have one of `names`.
  pub(crate) fn prefix_methods(&mut self, names: &[String], session: &str) {
    match self {
      Self::Method(method) if names.contains(&method.method) => {
        method.method = format!("{session}.{}", method.method);
      }
      Self::List(items) | Self::Set(items) | Self::OrderedMap(items) => {
        for item in items {
          item.prefix_methods(names, session);
        }
      }
      Self::Map(map) => {
        for value in map.values_mut() {
          value.prefix_methods(names, session);
        }
      }
      _ => {}
    }
  }

  /// Replaces every callback by what `export` makes of it.
  pub(crate) fn replace_callbacks(&mut self, export: &mut impl FnMut(Callback) -> Value) {
    match self {
      Self::Callback(callback) => *self = export(callback.clone()),
      Self::List(items) | Self::Set(items) | Self::OrderedMap(items) => {
        for item in items {
          item.replace_callbacks(export);
        }
      }
      Self::Map(map) => {
        for value in map.values_mut() {
          value.replace_callbacks(export);
        }
      }
      _ => {}
    }
  }
}

macro_rules! from {
  ($($source:ty => $make:expr;)*) => {$(
    impl From<$source> for Value {
      fn from(value: $source) -> Self {
        let make: fn($source) -> Value = $make;
        make(value)
      }
    }
  )*};
}

from! {
  () => |()| Value::Nil;
  bool => Value::Bool;
  i32 => |value| Value::Int(value.into());
  u32 => |value| Value::Int(value.into());
  i64 => Value::Int;
  u64 => |value| i64::try_from(value).map_or(Value::UInt(value), Value::Int);
  usize => |value| Value::from(value as u64);
  f64 => Value::Float;
  &str => |value| Value::Text(value.to_owned());
  String => Value::Text;
  Bytes => Value::Bytes;
  Vec<u8> => |value| Value::Bytes(value.into());
  Vec<Value> => Value::List;
  Map => Value::Map;
  Timestamp => Value::Date;
  MethodRef => |value| Value::Method(Box::new(value));
  GeneratorRef => |value| Value::Generator(Box::new(value));
  NdArray => |value| Value::NdArray(Box::new(value));
  TypedArray => |value| Value::TypedArray(Box::new(value));
  RemoteError => |value| Value::Error(Box::new(value));
  Callback => Value::Callback;
}

impl<T: Into<Value>> From<Option<T>> for Value {
  fn from(value: Option<T>) -> Self {
    value.map_or(Self::Nil, Into::into)
  }
}

impl fmt::Display for Value {
  /// Writes the value as JSON.
  fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    self.to_json().fmt(f)
  }
}
