//! Lists that are refused where they are longer than honest hosts make them.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use serde::de::SeqAccess;
use serde::de::Visitor;

/// Reads a list, refusing one of more than `MOST` elements: each would cost the server far more than the
/// bytes that it takes in a frame.
pub(crate) fn few<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
  D: Deserializer<'de>,
  T: Deserialize<'de>,
{
  struct Few<T, const MOST: usize>(PhantomData<T>);
  impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Few<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
      write!(f, "at most {MOST} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
      let mut list = Vec::new();
      while let Some(element) = elements.next_element()? {
        if list.len() == MOST {
          return Err(A::Error::invalid_length(MOST + 1, &self));
        }
        list.push(element);
      }
      Ok(list)
    }
  }
  deserializer.deserialize_seq(Few::<T, MOST>(PhantomData))
}
