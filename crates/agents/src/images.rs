//! Images that code shows, in the form and size in which models take them.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::DynamicImage;
use image::ImageError;
use image::ImageFormat;
use image::ImageReader;
use image::imageops::FilterType;
use models::ContentPart;
use models::ImageUrl;
use tokio::sync::Semaphore;

/// Most images of one cell that a model sees.
pub(crate) const MAX_IMAGES: usize = 4;
/// Pixels of the longer side, from the largest that models look at (they scale down what is larger) to the smallest
/// that shows anything.
const SIDES: [u32; 3] = [1568, 1024, 512];
/// Most bytes of an image that is sent.
const MAX_BYTES: usize = 768 << 10;
/// Most bytes that an image has in memory, while it is scaled.
const MAX_DECODED: u64 = 64 << 20;
/// Images that are scaled at the same time.
static SCALING: Semaphore = Semaphore::const_new(2);

/// What of these images, which are in base64, can be sent; smaller where they are large.
pub(crate) async fn for_model(images: Vec<String>) -> Vec<ContentPart> {
  let mut parts = Vec::new();
  for image in images {
    let Ok(_turn) = SCALING.acquire().await else {
      break;
    };
    if let Ok(Some(url)) = tokio::task::spawn_blocking(move || data_url(&image)).await {
      parts.push(ContentPart::ImageUrl {
        image_url: ImageUrl { url, detail: None },
      });
    }
  }
  parts
}

fn data_url(base64: &str) -> Option<String> {
  let plain: String = base64.split_ascii_whitespace().collect();
  let bytes = STANDARD.decode(plain).ok()?;
  let (format, bytes) = scaled(bytes).ok()??;
  Some(format!(
    "data:{};base64,{}",
    format.to_mime_type(),
    STANDARD.encode(bytes)
  ))
}

/// The image as it is, or a smaller one; `None` when it is of no kind that models take, or cannot be made small
/// enough.
fn scaled(bytes: Vec<u8>) -> Result<Option<(ImageFormat, Vec<u8>)>, ImageError> {
  let reader = || ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
  let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = reader()?.format() else {
    return Ok(None);
  };
  let mut reader = reader()?;
  let mut limits = image::Limits::default();
  limits.max_alloc = Some(MAX_DECODED);
  reader.limits(limits);
  // Also what is not scaled: a model's server refuses the whole request when an image in it is broken.
  let mut image = reader.decode()?;
  let side = image.width().max(image.height());
  if side <= SIDES[0] && bytes.len() <= MAX_BYTES {
    return Ok(Some((format, bytes)));
  }
  for most in SIDES.into_iter().filter(|most| *most < side) {
    image = image.resize(most, most, FilterType::Triangle);
    let bytes = encoded(&image, format)?;
    if bytes.len() <= MAX_BYTES {
      return Ok(Some((format, bytes)));
    }
  }
  Ok(None)
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Result<Vec<u8>, ImageError> {
  let mut bytes = Cursor::new(Vec::new());
  image.write_to(&mut bytes, format)?;
  Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
  use super::*;

  fn size_of(bytes: &[u8]) -> (u32, u32) {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    reader
      .expect("reads")
      .into_dimensions()
      .expect("is an image")
  }

  fn image(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    encoded(&DynamicImage::new_rgb8(width, height), format).expect("can be written")
  }

  #[test]
  fn what_is_small_stays_as_it_is() {
    let small = image(640, 480, ImageFormat::Png);
    assert_eq!(
      scaled(small.clone()).expect("reads"),
      Some((ImageFormat::Png, small))
    );
  }

  #[test]
  fn what_is_large_keeps_its_proportions() {
    for (size, expected) in [
      ((4000, 2000), (1568, 784)),
      ((10, 5000), (3, 1568)),
      ((9000, 1), (1568, 1)),
    ] {
      for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let (kept, bytes) = scaled(image(size.0, size.1, format))
          .expect("reads")
          .expect("fits");
        assert_eq!((kept, size_of(&bytes)), (format, expected));
      }
    }
  }

  #[test]
  fn noise_is_made_small_enough() {
    let noise = image::RgbImage::from_fn(1500, 1500, |x, y| {
      let mut state = x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b);
      state ^= state >> 15;
      state = state.wrapping_mul(0x2c1b_3c6d);
      let [a, b, c, _] = state.to_le_bytes();
      image::Rgb([a, b, c])
    });
    let bytes = encoded(&noise.into(), ImageFormat::Png).expect("can be written");
    assert!(bytes.len() > MAX_BYTES);
    let (_, smaller) = scaled(bytes).expect("reads").expect("fits");
    assert!(smaller.len() <= MAX_BYTES);
  }

  #[test]
  fn what_would_not_fit_into_memory_is_refused_by_its_head() {
    let huge = image(4800, 4800, ImageFormat::Jpeg);
    assert!(huge.len() < 1 << 20);
    assert!(scaled(huge).is_err());
  }

  #[tokio::test]
  async fn what_is_no_image_is_left_out() {
    let small = STANDARD.encode(image(3, 2, ImageFormat::Png));
    let (head, tail) = small.split_at(20);
    let wrapped = format!("{head}\n{tail}\n");
    let given = vec![
      "%%%".into(),
      "AAAA".into(),
      small[..60].into(),
      String::new(),
      wrapped,
    ];
    let parts = for_model(given).await;
    let expected = format!("data:image/png;base64,{small}");
    assert_eq!(
      parts,
      [ContentPart::ImageUrl {
        image_url: ImageUrl {
          url: expected,
          detail: None
        }
      }]
    );
  }
}
