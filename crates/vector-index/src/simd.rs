//! The inner loops, compiled for every CPU and, on x86-64, for AVX2 too.

macro_rules! per_cpu {
  ($($(#[$meta:meta])* fn $name:ident / $avx2:ident / $generic:ident
    ($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => {
    $(
      $(#[$meta])*
      pub(crate) fn $name($($arg: $type),*) $(-> $out)? {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
          #[target_feature(enable = "avx2,fma")]
          fn $avx2($($arg: $type),*) $(-> $out)? {
            $generic($($arg),*)
          }
          // SAFETY: the CPU has both features, as was just asked.
          return unsafe { $avx2($($arg),*) };
        }
        $generic($($arg),*)
      }
    )*
  };
}

per_cpu! {
  /// Appends the codes of `vector * scale`. Returns the squares of the length of the vector and of the
  /// error of the codes.
  fn encode / encode_avx2 / encode_generic
    (vector: &[f32], scale: f32, codes: &mut Vec<i8>) -> (f32, f32);
  fn dot / dot_avx2 / dot_generic (a: &[f32], b: &[f32]) -> f32;
  /// The square of the Euclidean distance.
  fn squared_distance / squared_distance_avx2 / squared_distance_generic
    (a: &[f32], b: &[f32]) -> f32;
  /// The greatest absolute value.
  fn greatest / greatest_avx2 / greatest_generic (vector: &[f32]) -> f32;
}

/// Sums that run side by side: the order of additions is then free, so they use wide registers.
const LANES: usize = 16;

/// The product of `query` with each of the codes, which stand one behind the other.
pub(crate) fn code_products(codes: &[i8], query: &[i16], products: &mut Vec<i32>) {
  products.clear();
  let codes = codes.chunks_exact(query.len());
  #[cfg(target_arch = "x86_64")]
  if is_x86_feature_detected!("avx2") {
    // SAFETY: the CPU has the feature, as was just asked.
    products.extend(codes.map(|codes| unsafe { code_product_avx2(codes, query) }));
    return;
  }
  products.extend(codes.map(|codes| code_product(codes, query)));
}

fn code_product(codes: &[i8], query: &[i16]) -> i32 {
  let pairs = codes.iter().zip(query);
  pairs.map(|(c, q)| i32::from(*c) * i32::from(*q)).sum()
}

/// By hand, because the compiler uses only half of each register for it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn code_product_avx2(codes: &[i8], query: &[i16]) -> i32 {
  use std::arch::x86_64::{
    _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_shuffle_epi32, _mm256_add_epi32,
    _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_setzero_si256,
  };
  let (code_blocks, code_rest) = codes.as_chunks::<32>();
  let (query_blocks, query_rest) = query.as_chunks::<32>();
  let mut sums = [_mm256_setzero_si256(); 2];
  for (codes, query) in code_blocks.iter().zip(query_blocks) {
    for (half, sum) in sums.iter_mut().enumerate() {
      // SAFETY: both arrays have 32 numbers, of which each half is 16; no alignment is asked for.
      let (codes, query) = unsafe {
        (
          _mm_loadu_si128(codes.as_ptr().add(16 * half).cast()),
          _mm256_loadu_si256(query.as_ptr().add(16 * half).cast()),
        )
      };
      *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(codes), query));
    }
  }
  let sum = _mm256_add_epi32(sums[0], sums[1]);
  let sum = _mm_add_epi32(
    _mm256_castsi256_si128(sum),
    _mm256_extracti128_si256::<1>(sum),
  );
  let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b1110>(sum));
  let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b0001>(sum));
  _mm_cvtsi128_si32(sum) + code_product(code_rest, query_rest)
}

#[inline(always)]
fn encode_generic(vector: &[f32], scale: f32, codes: &mut Vec<i8>) -> (f32, f32) {
  let step = if scale > 0.0 { 1.0 / scale } else { 0.0 };
  let start = codes.len();
  codes.extend(vector.iter().map(|number| {
    // Rounded to the nearest; the scale keeps codes within 127.
    (number * scale).round_ties_even() as i8
  }));
  let mut missed = [0.0; LANES];
  let mut length = [0.0; LANES];
  let (numbers, rest) = vector.as_chunks::<LANES>();
  let (new, new_rest) = codes[start..].as_chunks::<LANES>();
  for (numbers, codes) in numbers.iter().zip(new) {
    for lane in 0..LANES {
      let error = numbers[lane] - step * f32::from(codes[lane]);
      missed[lane] += error * error;
      length[lane] += numbers[lane] * numbers[lane];
    }
  }
  for (lane, (number, code)) in rest.iter().zip(new_rest).enumerate() {
    let error = number - step * f32::from(*code);
    missed[lane] += error * error;
    length[lane] += number * number;
  }
  (length.iter().sum(), missed.iter().sum())
}

#[inline(always)]
fn sum_generic(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
  let mut sums = [0.0; LANES];
  let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
  for (a, b) in a.iter().zip(b) {
    for lane in 0..LANES {
      sums[lane] += term(a[lane], b[lane]);
    }
  }
  for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
    sums[lane] += term(*a, *b);
  }
  sums.iter().sum()
}

#[inline(always)]
fn dot_generic(a: &[f32], b: &[f32]) -> f32 {
  sum_generic(a, b, |a, b| a * b)
}

#[inline(always)]
fn squared_distance_generic(a: &[f32], b: &[f32]) -> f32 {
  sum_generic(a, b, |a, b| (a - b) * (a - b))
}

#[inline(always)]
fn greatest_generic(vector: &[f32]) -> f32 {
  let mut greatest = [0.0_f32; LANES];
  let (numbers, rest) = vector.as_chunks::<LANES>();
  for numbers in numbers {
    for lane in 0..LANES {
      greatest[lane] = greatest[lane].max(numbers[lane].abs());
    }
  }
  let rest = rest.iter().map(|number| number.abs());
  greatest.into_iter().chain(rest).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn products_of_codes_are_the_same_in_wide_registers_and_at_their_greatest() {
    for dimension in (1..100).chain([384, 1536, 8192]) {
      let most = (i32::MAX / (127 * dimension)).min(i32::from(i16::MAX)) as i16;
      let length = usize::try_from(dimension).expect("not negative");
      let greatest = vec![-127; length];
      let varied: Vec<i8> = (0..length).map(|i| (i * 37 % 255) as u8 as i8).collect();
      let codes = [greatest, varied].concat();
      let query: Vec<i16> = (0..length)
        .map(|i| if i % 3 == 0 { most } else { -most })
        .collect();
      let mut products = Vec::new();
      code_products(&codes, &query, &mut products);
      let expected = codes.chunks(length).map(|codes| {
        let pairs = codes.iter().zip(&query);
        pairs
          .map(|(c, q)| i64::from(*c) * i64::from(*q))
          .sum::<i64>()
      });
      let found: Vec<i64> = products.iter().map(|product| i64::from(*product)).collect();
      assert_eq!(found, expected.collect::<Vec<_>>(), "{dimension}");
      code_products(&codes, &vec![most; length], &mut products);
      assert_eq!(
        i64::from(products[0]),
        -127 * i64::from(most) * i64::from(dimension)
      );
    }
  }
}
