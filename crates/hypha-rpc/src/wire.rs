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
#[error("{reason}")]
pub(crate) struct Malformed {
  reason: String,
  /// The first part, if that could be read: it says who waits for an answer.
  pub(crate) main: Option<Map>,
}

impl Malformed {
  fn new(reason: impl Into<String>) -> Self {
    let (reason, main) = (reason.into(), None);
    Self { reason, main }
  }
}

/// Reads a frame: the map with addresses, and the map with arguments, which may be missing.
pub(crate) fn read(frame: &[u8], bounds: Bounds) -> Result<(Map, Map), Malformed> {
  let left = Cell::new(bounds.values);
  let mut input = rmp_serde::Deserializer::new(frame);
  // The library counts one more than there are.
  input.set_max_depth(bounds.depth + 1);
  let mut next = |what: &str| match Seed(&left).deserialize(&mut input) {
    Ok(Value::Map(map)) => Ok((map, input.get_ref().is_empty())),
    Ok(_) => Err(Malformed::new(format!("{what} is no map"))),
    Err(error) => Err(Malformed::new(format!("{what}: {error}"))),
  };
  let (main, ended) = next("the first part")?;
  if ended {
    return Ok((main, Map::new()));
  }
  match next("the second part") {
    Ok((extra, true)) => Ok((main, extra)),
    Ok((_, false)) => Err(Malformed::new("it goes on after its second part")),
    Err(error) => Err(Malformed {
      main: Some(main),
      ..error
    }),
  }
}

/// Writes a frame; `extra` is left out if it is empty.
pub(crate) fn write(main: &Map, extra: &Map) -> Result<Bytes, Malformed> {
  let mut frame = Vec::with_capacity(256);
  let mut put = |map: &Map| {
    let mut output = rmp_serde::Serializer::new(&mut frame);
    let written = Written::Map(map).serialize(&mut output);
    written.map_err(|error| Malformed::new(error.to_string()))
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
      let both = (u64::from(date.nanoseconds) << 34) | date.seconds.cast_unsigned();
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

#[cfg(test)]
mod tests {
  use proptest::collection::vec;
  use proptest::prelude::*;

  use super::*;
  use crate::error::RemoteError;
  use crate::value::GeneratorRef;
  use crate::value::MethodRef;
  use crate::value::NdArray;
  use crate::value::TypedArray;

  const BOUNDS: Bounds = Bounds {
    depth: 64,
    values: 10_000,
  };

  fn around(value: Value) -> Value {
    let frame = write(&Map::from([("v", value)]), &Map::new()).expect("written");
    let (mut main, extra) = read(&frame, BOUNDS).expect("read");
    assert!(extra.is_empty());
    main.remove("v").expect("the member")
  }

  fn nested(depth: usize) -> Vec<u8> {
    // A map with one member, and lists of one item inside each other in it.
    let mut frame = vec![0x81, 0xa1, b'v'];
    frame.extend(std::iter::repeat_n(0x91, depth));
    frame.push(0xc0);
    frame
  }

  #[test]
  fn nesting_is_bounded() {
    assert!(read(&nested(63), BOUNDS).is_ok());
    assert!(read(&nested(64), BOUNDS).is_err());
    for depth in [10_000, 1_000_000] {
      assert!(read(&nested(depth), BOUNDS).is_err());
    }
  }

  #[test]
  fn the_number_of_values_is_bounded() {
    let mut frame = vec![0x81, 0xa1, b'v', 0xdd];
    frame.extend(20_000_u32.to_be_bytes());
    frame.extend([0xc0; 20_000]);
    assert!(read(&frame, BOUNDS).is_err());
    // Announced, but not there.
    frame.truncate(100);
    assert!(read(&frame, BOUNDS).is_err());
  }

  #[test]
  fn both_parts_are_read_and_nothing_after_them() {
    let (one, two) = (Map::from([("a", 1)]), Map::from([("b", 2)]));
    let frame = write(&one, &two).expect("written");
    assert_eq!(read(&frame, BOUNDS).expect("read"), (one, two));
    let more = [&frame[..], &[0xc0]].concat();
    assert!(read(&more, BOUNDS).is_err());
    assert!(read(&[], BOUNDS).is_err());
    assert!(read(&[0xc0], BOUNDS).is_err());
  }

  #[test]
  fn keys_of_python_are_texts_here() {
    let frame = [0x82, 0x01, 0xc0, 0xc3, 0xc0];
    let (main, _) = read(&frame, BOUNDS).expect("read");
    let names: Vec<&str> = main.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["1", "true"]);
  }

  #[test]
  fn what_is_not_as_it_should_be_passes_through() {
    for kind in ["method", "ndarray", "set", "someone's own"] {
      let map = Value::from(Map::from([("_rtype", kind), ("x", "y")]));
      assert_eq!(around(map.clone()), map);
    }
  }

  #[test]
  fn large_arrays_come_in_pieces() {
    let pieces = vec![Value::from(vec![1_u8]), Value::from(vec![2_u8])];
    let map = Map::from([
      ("_rtype", Value::from("memoryview")),
      ("_rvalue", pieces.into()),
    ]);
    let expected = Value::MemoryView(vec![1, 2].into());
    assert_eq!(around(map.into()), expected);
  }

  fn values() -> impl Strategy<Value = Value> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let name = || "[a-z_#.]{0,8}";
    let leaf = prop_oneof![
      Just(Value::Nil),
      any::<bool>().prop_map(Value::from),
      any::<i64>().prop_map(Value::from),
      any::<u64>().prop_map(Value::from),
      any::<f64>()
        .prop_filter("equal to itself", |it| it.is_finite())
        .prop_map(Value::from),
      ".*".prop_map(Value::from),
      bytes().prop_map(Value::from),
      (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| {
        Value::Date(Timestamp {
          seconds,
          nanoseconds,
        })
      }),
      (0..100_i8, bytes()).prop_map(|(number, data)| Value::Extension(number, data)),
      (name(), name(), any::<bool>()).prop_map(|(target, method, answers)| MethodRef {
        target,
        method,
        answers,
        name: Some("n".into()),
        schema: Some(Map::from([("type", "object")]).into()),
        more: Map::from([("_rserver", "s")]),
        ..MethodRef::default()
      }
      .into()),
      (name(), name()).prop_map(|(target, method)| GeneratorRef {
        target,
        close_method: Some(format!("{method}:close")),
        method,
        ..GeneratorRef::default()
      }
      .into()),
      (bytes(), vec(any::<u32>(), 0..4)).prop_map(|(data, shape)| NdArray {
        data,
        shape: shape.into_iter().map(u64::from).collect(),
        dtype: "uint8".into(),
      }
      .into()),
      bytes().prop_map(|data| TypedArray {
        data,
        dtype: "float32".into(),
      }
      .into()),
      bytes().prop_map(Value::MemoryView),
      (".*", "(.+)?").prop_map(|(message, trace)| RemoteError {
        message,
        trace: Some(trace).filter(|it| !it.is_empty()),
      }
      .into()),
      Just(Value::StopIteration),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
      prop_oneof![
        vec(inner.clone(), 0..6).prop_map(Value::List),
        vec(inner.clone(), 0..6).prop_map(Value::Set),
        vec(inner.clone(), 0..6).prop_map(Value::OrderedMap),
        vec(("[a-zA-Z ]{0,6}", inner), 0..6)
          .prop_map(|members| members.into_iter().collect::<Map>().into()),
      ]
    })
  }

  mod properties {
    use super::*;

    proptest! {
      #[test]
      fn every_value_comes_back(value in values()) {
        prop_assert_eq!(around(value.clone()), value);
      }

      #[test]
      fn every_value_comes_back_from_json(value in values()) {
        prop_assert_eq!(Value::from(value.to_json()), value);
      }

      #[test]
      fn random_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes, BOUNDS);
      }

      #[test]
      fn frames_that_were_cut_or_changed_are_read_or_refused(
        value in values(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
      ) {
        let map = Map::from([("v", value)]);
        let frame = write(&map, &map).expect("written");
        let mut changed = frame.to_vec();
        let place = at.index(changed.len());
        changed[place] = byte;
        let _ = read(&changed, BOUNDS);
        changed.truncate(place);
        let _ = read(&changed, BOUNDS);
      }
    }
  }
}
