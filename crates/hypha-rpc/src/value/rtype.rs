//! The protocol's own encodings: maps with the member `_rtype`.

use bytes::Bytes;
use bytes::BytesMut;

use super::GeneratorRef;
use super::Map;
use super::MethodRef;
use super::NdArray;
use super::TypedArray;
use super::Value;
use crate::error::RemoteError;

impl Value {
  /// The value that a map stands for.
  pub(crate) fn decoded(map: Map) -> Self {
    let Some(kind) = map.text("_rtype") else {
      return Self::Map(map);
    };
    let value = match kind {
      "method" => method(&map),
      "generator" => generator(&map),
      "ndarray" => ndarray(&map),
      "typedarray" => typed_array(&map),
      "memoryview" => binary(&map).map(Self::MemoryView),
      "set" => items(&map).map(Self::Set),
      "orderedmap" => items(&map).map(Self::OrderedMap),
      "error" => error(&map),
      "stop_iteration" => Some(Self::StopIteration),
      _ => None,
    };
    value.unwrap_or(Self::Map(map))
  }

  /// The map that stands for the value; `None` if it stands for itself.
  pub(crate) fn encoded(&self) -> Option<Map> {
    let map = |kind: &str, members: Map| {
      let mut map = Map::from([("_rtype", kind)]);
      for (name, value) in members {
        map.insert(name, value);
      }
      Some(map)
    };
    let simple = |kind: &str, value: Value| map(kind, Map::from([("_rvalue", value)]));
    match self {
      Self::Method(method) => map("method", method.members()),
      Self::Generator(generator) => map("generator", generator.members()),
      Self::NdArray(array) => {
        let shape: Vec<Value> = array.shape.iter().copied().map(Value::from).collect();
        map(
          "ndarray",
          Map::from([
            ("_rvalue", Self::Bytes(array.data.clone())),
            ("_rshape", Self::List(shape)),
            ("_rdtype", Self::from(array.dtype.as_str())),
          ]),
        )
      }
      Self::TypedArray(array) => map(
        "typedarray",
        Map::from([
          ("_rvalue", Self::Bytes(array.data.clone())),
          ("_rdtype", Self::from(array.dtype.as_str())),
        ]),
      ),
      Self::MemoryView(bytes) => simple("memoryview", Self::Bytes(bytes.clone())),
      Self::Set(items) => simple("set", Self::List(items.clone())),
      Self::OrderedMap(items) => simple("orderedmap", Self::List(items.clone())),
      Self::Error(error) => map(
        "error",
        Map::from([
          ("_rvalue", error.message.clone()),
          ("_rtrace", error.trace.clone().unwrap_or_default()),
        ]),
      ),
      Self::StopIteration => map("stop_iteration", Map::new()),
      _ => None,
    }
  }
}

impl MethodRef {
  fn members(&self) -> Map {
    let mut map = self.more.clone();
    map.insert("_rtarget", self.target.as_str());
    map.insert("_rmethod", self.method.as_str());
    // What the official clients write for methods that answer.
    let promise = if self.answers {
      "*".into()
    } else {
      Value::Bool(false)
    };
    map.insert("_rpromise", promise);
    let texts = [("_rname", &self.name), ("_rdoc", &self.description)];
    for (name, text) in texts {
      if let Some(text) = text {
        map.insert(name, text.as_str());
      }
    }
    if let Some(schema) = &self.schema {
      map.insert("_rschema", schema.clone());
    }
    map
  }
}

impl GeneratorRef {
  fn members(&self) -> Map {
    let mut map = self.more.clone();
    map.insert("_rtarget", self.target.as_str());
    map.insert("_rmethod", self.method.as_str());
    if let Some(close) = &self.close_method {
      map.insert("_rclose_method", close.as_str());
    }
    map.insert("_rpromise", "*");
    map
  }
}

/// All members but those named.
fn others(map: &Map, known: &[&str]) -> Map {
  let others = map.iter().filter(|(name, _)| !known.contains(name));
  others.map(|(n, v)| (n, v.clone())).collect()
}

fn method(map: &Map) -> Option<Value> {
  const KNOWN: [&str; 7] = [
    "_rtype",
    "_rtarget",
    "_rmethod",
    "_rpromise",
    "_rname",
    "_rdoc",
    "_rschema",
  ];
  let answers = !matches!(
    map.get("_rpromise"),
    None | Some(Value::Nil | Value::Bool(false))
  );
  Some(Value::from(MethodRef {
    target: map.text("_rtarget")?.to_owned(),
    method: map.text("_rmethod")?.to_owned(),
    answers,
    name: map.text("_rname").map(str::to_owned),
    description: map.text("_rdoc").map(str::to_owned),
    schema: map.get("_rschema").filter(|it| !it.is_nil()).cloned(),
    more: others(map, &KNOWN),
    given_by: None,
  }))
}

fn generator(map: &Map) -> Option<Value> {
  const KNOWN: [&str; 5] = [
    "_rtype",
    "_rtarget",
    "_rmethod",
    "_rclose_method",
    "_rpromise",
  ];
  Some(Value::from(GeneratorRef {
    target: map.text("_rtarget")?.to_owned(),
    method: map.text("_rmethod")?.to_owned(),
    close_method: map.text("_rclose_method").map(str::to_owned),
    more: others(map, &KNOWN),
    given_by: None,
  }))
}

/// The bytes of `_rvalue`, which large arrays have in several pieces.
fn binary(map: &Map) -> Option<Bytes> {
  match map.get("_rvalue")? {
    Value::Bytes(bytes) => Some(bytes.clone()),
    Value::List(pieces) => {
      let mut all = BytesMut::new();
      for piece in pieces {
        all.extend_from_slice(piece.as_bytes()?);
      }
      Some(all.freeze())
    }
    _ => None,
  }
}

fn ndarray(map: &Map) -> Option<Value> {
  let shape = map.get("_rshape")?.as_list()?.iter();
  let shape = shape.map(|size| u64::try_from(size.as_i64()?).ok());
  Some(Value::from(NdArray {
    data: binary(map)?,
    shape: shape.collect::<Option<_>>()?,
    dtype: map.text("_rdtype")?.to_owned(),
  }))
}

fn typed_array(map: &Map) -> Option<Value> {
  Some(Value::from(TypedArray {
    data: binary(map)?,
    dtype: map.text("_rdtype")?.to_owned(),
  }))
}

fn items(map: &Map) -> Option<Vec<Value>> {
  Some(map.get("_rvalue")?.as_list()?.to_vec())
}

fn error(map: &Map) -> Option<Value> {
  let trace = map.text("_rtrace").filter(|trace| !trace.is_empty());
  Some(Value::from(RemoteError {
    message: map.text("_rvalue")?.to_owned(),
    trace: trace.map(str::to_owned),
  }))
}
