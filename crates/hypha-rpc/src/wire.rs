//! Frames: one or two MessagePack maps, one after the other.
//!
//! rmp-serde reads and writes them. It bounds nesting before it goes deeper, which rmpv does only by a
//! limit on all values together, and its visitor builds the final value in one pass, in which the number
//! of values is bounded too: a frame of one-byte values would be eighty times larger in memory.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use serde::de;
use serde::de::DeserializeSeed;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde::ser::SerializeMap;

use crate::value::Map;
use crate::value::Timestamp;
use crate::value::Value;

/// Number of the MessagePack extension for moments.
const TIMESTAMP: i8 = -1;

/// Bounds of what is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
  /// Most lists and maps inside each other.
  pub(crate) depth: usize,
  /// Most values in one frame.
  pub(crate) values: usize,
}

/// A frame that cannot be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// Reads a frame: the map with addresses, and the map with arguments, which may be missing.
pub(crate) fn read(frame: &[u8], bounds: Bounds) -> Result<(Map, Map), Malformed> {
  let left = Cell::new(bounds.values);
  let mut input = rmp_serde::Deserializer::new(frame);
  // The library counts one more than there are.
  input.set_max_depth(bounds.depth + 1);
  let mut next = |what: &str| match Seed(&left).deserialize(&mut input) {
    Ok(Value::Map(map)) => Ok((map, input.get_ref().is_empty())),
    Ok(_) => Err(Malformed(format!("{what} is no map"))),
    Err(error) => Err(Malformed(format!("{what}: {error}"))),
  };
  let (main, ended) = next("the first part")?;
  if ended {
    return Ok((main, Map::new()));
  }
  let (extra, ended) = next("the second part")?;
  if !ended {
    return Err(Malformed("it goes on after its second part".into()));
  }
  Ok((main, extra))
}

/// Writes a frame; `extra` is left out if it is empty.
pub(crate) fn write(main: &Map, extra: &Map) -> Result<Bytes, Malformed> {
  let mut frame = Vec::with_capacity(256);
  let mut put = |map: &Map| {
    let mut output = rmp_serde::Serializer::new(&mut frame);
    let written = Written::Map(map).serialize(&mut output);
    written.map_err(|error| Malformed(error.to_string()))
  };
  put(main)?;
  if !extra.is_empty() {
    put(extra)?;
  }
  Ok(frame.into())
}

/// Reads one value, and counts it.
#[derive(Clone, Copy)]
struct Seed<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
  type Value = Value;

  fn deserialize<D: de::Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
    let left = self.0.get().checked_sub(1);
    self
      .0
      .set(left.ok_or_else(|| de::Error::custom("it has too many values"))?);
    input.deserialize_any(self)
  }
}

impl<'de> Visitor<'de> for Seed<'_> {
  type Value = Value;

  fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("a value")
  }

  fn visit_unit<E>(self) -> Result<Value, E> {
    Ok(Value::Nil)
  }

  fn visit_none<E>(self) -> Result<Value, E> {
    Ok(Value::Nil)
  }

  fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
    Ok(value.into())
  }

  fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
    Ok(value.into())
  }

  fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
    Ok(value.into())
  }

  fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
    Ok(value.into())
  }

  fn visit_str<E>(self, value: &str) -> Result<Value, E> {
    Ok(value.into())
  }

  fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
    Ok(Value::Bytes(Bytes::copy_from_slice(value)))
  }

  fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
    // No room is made for as many as are announced: that costs the sender nothing.
    let mut list = Vec::new();
    while let Some(item) = items.next_element_seed(self)? {
      list.push(item);
    }
    Ok(Value::List(list))
  }

  fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
    let mut map = Map::new();
    while let Some(name) = members.next_key_seed(self)? {
      let name = match name {
        Value::Text(name) => name,
        // Python's dictionaries may have these.
        Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Bool(_) => name.to_string(),
        Value::Nil => "null".into(),
        _ => {
          return Err(de::Error::custom(
            "a member of a map is not named by a text",
          ));
        }
      };
      map.insert(name, members.next_value_seed(self)?);
    }
    Ok(Value::decoded(map))
  }

  fn visit_newtype_struct<D: de::Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
    let (number, data) = <(i8, serde_bytes::ByteBuf)>::deserialize(input)?;
    let date = (number == TIMESTAMP).then(|| timestamp(&data)).flatten();
    Ok(date.map_or_else(
      || Value::Extension(number, data.into_vec().into()),
      Value::Date,
    ))
  }
}

/// The moment in the three lengths that the MessagePack specification has.
fn timestamp(data: &[u8]) -> Option<Timestamp> {
  let (seconds, nanoseconds) = match data.len() {
    4 => (i64::from(u32::from_be_bytes(data.try_into().ok()?)), 0),
    8 => {
      let both = u64::from_be_bytes(data.try_into().ok()?);
      ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
    }
    12 => {
      let (nanoseconds, seconds) = data.split_at(4);
      (
        i64::from_be_bytes(seconds.try_into().ok()?),
        u32::from_be_bytes(nanoseconds.try_into().ok()?),
      )
    }
    _ => return None,
  };
  (nanoseconds < 1_000_000_000).then_some(Timestamp {
    seconds,
    nanoseconds,
  })
}

fn timestamp_data(date: Timestamp) -> Vec<u8> {
  match u32::try_from(date.seconds) {
    Ok(seconds) if date.nanoseconds == 0 => seconds.to_be_bytes().to_vec(),
    _ if (0..1 << 34).contains(&date.seconds) => {
      let both = (u64::from(date.nanoseconds) << 34) | date.seconds as u64;
      both.to_be_bytes().to_vec()
    }
    _ => [
      &date.nanoseconds.to_be_bytes()[..],
      &date.seconds.to_be_bytes(),
    ]
    .concat(),
  }
}

/// A value or a map on its way out.
enum Written<'a> {
  Value(&'a Value),
  Map(&'a Map),
}

impl Serialize for Written<'_> {
  fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
    let value = match self {
      Self::Map(map) => return members(map, output),
      Self::Value(value) => *value,
    };
    let extension = |number: i8, data: &[u8], output: S| {
      let content = (number, serde_bytes::Bytes::new(data));
      output.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &content)
    };
    match value {
      Value::Nil => output.serialize_unit(),
      Value::Bool(value) => output.serialize_bool(*value),
      Value::Int(value) => output.serialize_i64(*value),
      Value::UInt(value) => output.serialize_u64(*value),
      Value::Float(value) => output.serialize_f64(*value),
      Value::Text(value) => output.serialize_str(value),
      Value::Bytes(value) => output.serialize_bytes(value),
      Value::List(items) => output.collect_seq(items.iter().map(Written::Value)),
      Value::Map(map) => members(map, output),
      Value::Date(date) => extension(TIMESTAMP, &timestamp_data(*date), output),
      Value::Extension(number, data) => extension(*number, data, output),
      // Callbacks are replaced by references before a frame is written.
      Value::Callback(_) => output.serialize_unit(),
      encoded => match encoded.encoded() {
        Some(map) => members(&map, output),
        None => output.serialize_unit(),
      },
    }
  }
}

fn members<S: serde::Serializer>(map: &Map, output: S) -> Result<S::Ok, S::Error> {
  let mut members = output.serialize_map(Some(map.len()))?;
  for (name, value) in map.iter() {
    members.serialize_entry(name, &Written::Value(value))?;
  }
  members.end()
}
