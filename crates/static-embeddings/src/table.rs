//! The vectors of all tokens, as they lie in their file.

use bytes::Bytes;
use half::f16;
use safetensors::Dtype;
use safetensors::SafeTensors;

use crate::LoadError;

/// A row a token, of 16-bit numbers: they stay as they are, and half as large.
#[derive(Debug)]
pub(crate) struct Table {
  numbers: Bytes,
  rows: usize,
  width: usize,
}

impl Table {
  pub(crate) fn load(file: &Bytes) -> Result<Self, LoadError> {
    let wrong = |what: String| LoadError(format!("the weights cannot be used: {what}"));
    let tensors = SafeTensors::deserialize(file).map_err(|e| wrong(e.to_string()))?;
    let [(name, tensor)] = tensors
      .tensors()
      .try_into()
      .map_err(|all: Vec<_>| wrong(format!("they are {} tables, and not one", all.len())))?;
    let &[rows, width] = tensor.shape() else {
      return Err(wrong(format!("{name} is not a table")));
    };
    if tensor.dtype() != Dtype::F16 {
      return Err(wrong(format!("{name} has no numbers of 16 bits")));
    }
    let numbers = file.slice_ref(tensor.data());
    if rows == 0 || width == 0 {
      return Err(wrong(format!("{name} is empty")));
    }
    Ok(Self {
      numbers,
      rows,
      width,
    })
  }

  pub(crate) fn rows(&self) -> usize {
    self.rows
  }

  pub(crate) fn width(&self) -> usize {
    self.width
  }

  /// Adds the first numbers of a token's vector to `sum`, which is no longer than it.
  pub(crate) fn add(&self, token: u32, sum: &mut [f64]) {
    let start = token as usize * self.width * 2;
    let row = self.numbers.get(start..start + self.width * 2);
    let numbers = row.unwrap_or_default().chunks_exact(2);
    for (sum, number) in sum.iter_mut().zip(numbers) {
      *sum += f16::from_le_bytes([number[0], number[1]]).to_f64();
    }
  }
}
