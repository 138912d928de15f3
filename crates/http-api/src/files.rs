//! `/api/kernels/{id}/files/…` and `/api/files/…`: files of kernels, and lasting ones.

use std::ops::Range;
use std::sync::Arc;

use access::Right;
use access::timestamp;
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::Response;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use chrono::DateTime;
use engine::files;
use engine::files::Content;
use engine::files::Store;
use futures::StreamExt;
use kernel_protocol::files::FileEntry;
use kernel_protocol::files::FileKind;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::Face;
use crate::access::By;
use crate::error::ApiError;
use crate::error::ApiResult;
use crate::error::ErrorBody;
use crate::file_watch::WireFileEvent;
use crate::file_watch::watch;
use crate::path::Path;
use crate::protection;
use crate::query::parameters;

/// What is in a directory.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listing {
  /// As it was asked for.
  path: String,
  entries: Vec<ListedFile>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ListedFile {
  name: String,
  /// `file`, `directory` or `other`.
  #[serde(rename = "type")]
  #[schema(value_type = String)]
  kind: FileKind,
  /// In bytes.
  size: u64,
  #[serde(skip_serializing_if = "Option::is_none")]
  modified: Option<String>,
}

impl From<FileEntry> for ListedFile {
  fn from(entry: FileEntry) -> Self {
    let modified = entry.modified.and_then(DateTime::from_timestamp_millis);
    Self {
      name: entry.name,
      kind: entry.kind,
      size: entry.size,
      modified: modified.map(timestamp),
    }
  }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct WrittenFile {
  path: String,
  /// In bytes.
  size: u64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct DeletedFile {
  success: bool,
  path: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteFileQuery {
  /// Deletes a directory with all that is in it.
  #[serde(default)]
  recursive: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetFileQuery {
  /// Streams what happens to the file, or to what is directly in the directory, as server-sent events.
  #[serde(default)]
  watch: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetLastingQuery {
  /// Whose files; the caller's own when left out.
  namespace: Option<String>,
  /// Streams what happens to the file, or to what is directly in the directory, as server-sent events.
  #[serde(default)]
  watch: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LastingQuery {
  /// Whose files; the caller's own when left out.
  namespace: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteLastingQuery {
  /// Whose files; the caller's own when left out.
  namespace: Option<String>,
  /// Deletes a directory with all that is in it.
  #[serde(default)]
  recursive: bool,
}

// ------------------------------------------------------------ of kernels

/// Lists the working directory of a kernel, or watches it.
#[utoipa::path(get, path = "/api/kernels/{id}/files", tag = "files", params(("id" = String, Path), GetFileQuery),
  responses((status = 200, description = "A listing, or what changes", content(
    (Listing = "application/json"), (WireFileEvent = "text/event-stream"))),
    (status = 404, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
    (status = 504, body = ErrorBody)))]
pub(crate) async fn list_of_kernel(
  State(face): State<Face>,
  By(caller): By,
  Path(id): Path<String>,
  query: Result<Query<GetFileQuery>, QueryRejection>,
) -> ApiResult<Response<Body>> {
  let query = parameters(query)?;
  let store = face.engine.kernels.files(&caller, Right::Read, &id)?;
  if query.watch {
    return watch(&store, String::new()).await;
  }
  get(Arc::new(store), "", &Method::GET, &HeaderMap::new()).await
}

/// Reads a file of a kernel, lists a directory, or watches either. The path is relative to the kernel's
/// working directory, or absolute after a second slash. One range of bytes can be asked for.
#[utoipa::path(get, path = "/api/kernels/{id}/files/{*path}", tag = "files",
  params(("id" = String, Path), ("path" = String, Path), GetFileQuery, ("Range" = Option<String>, Header)),
  responses((status = 200, description = "The file, a listing as JSON, or what changes", content(
    (Vec<u8> = "application/octet-stream"), (Listing = "application/json"),
    (WireFileEvent = "text/event-stream"))),
    (status = 206, description = "A part of the file", content_type = "application/octet-stream"),
    (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 416, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody),
    (status = 504, body = ErrorBody)))]
pub(crate) async fn get_of_kernel(
  State(face): State<Face>,
  By(caller): By,
  Path((id, path)): Path<(String, String)>,
  query: Result<Query<GetFileQuery>, QueryRejection>,
  method: Method,
  headers: HeaderMap,
) -> ApiResult<Response<Body>> {
  let query = parameters(query)?;
  let store = face.engine.kernels.files(&caller, Right::Read, &id)?;
  if query.watch {
    return watch(&store, path).await;
  }
  get(Arc::new(store), &path, &method, &headers).await
}

/// Writes a file of a kernel: the body is its content, whatever its type. Missing directories are made. The
/// file is there once all of it is.
#[utoipa::path(put, path = "/api/kernels/{id}/files/{*path}", tag = "files",
  params(("id" = String, Path), ("path" = String, Path)),
  request_body(content = Vec<u8>, content_type = "application/octet-stream"),
  responses((status = 200, body = WrittenFile), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 413, body = ErrorBody), (status = 504, body = ErrorBody)))]
pub(crate) async fn put_to_kernel(
  State(face): State<Face>,
  By(caller): By,
  Path((id, path)): Path<(String, String)>,
  body: Body,
) -> ApiResult<Json<WrittenFile>> {
  let store = face.engine.kernels.files(&caller, Right::Use, &id)?;
  put(Arc::new(store), path, body, face.options.max_file_bytes).await
}

/// Deletes a file or directory of a kernel.
#[utoipa::path(delete, path = "/api/kernels/{id}/files/{*path}", tag = "files",
  params(("id" = String, Path), ("path" = String, Path), DeleteFileQuery),
  responses((status = 200, body = DeletedFile), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 504, body = ErrorBody)))]
pub(crate) async fn delete_of_kernel(
  State(face): State<Face>,
  By(caller): By,
  Path((id, path)): Path<(String, String)>,
  query: Result<Query<DeleteFileQuery>, QueryRejection>,
) -> ApiResult<Json<DeletedFile>> {
  let query = parameters(query)?;
  let store = face.engine.kernels.files(&caller, Right::Use, &id)?;
  delete(&store, path, query.recursive).await
}

// ------------------------------------------------------------ lasting ones

/// Lists the lasting files of a namespace, or watches them.
#[utoipa::path(get, path = "/api/files", tag = "files", params(GetLastingQuery),
  responses((status = 200, description = "A listing, or what changes", content(
    (Listing = "application/json"), (WireFileEvent = "text/event-stream"))),
    (status = 403, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn list_lasting(
  State(face): State<Face>,
  By(caller): By,
  query: Result<Query<GetLastingQuery>, QueryRejection>,
) -> ApiResult<Response<Body>> {
  let query = parameters(query)?;
  let asked = query.namespace.filter(|n| !n.is_empty());
  let files = &face.engine.files;
  let store = files.of(&caller, Right::Read, asked.as_deref()).await?;
  if query.watch {
    return watch(&store, String::new()).await;
  }
  get(Arc::new(store), "", &Method::GET, &HeaderMap::new()).await
}

/// Reads a lasting file, lists a directory, or watches either. One range of bytes can be asked for.
#[utoipa::path(get, path = "/api/files/{*path}", tag = "files",
  params(("path" = String, Path), GetLastingQuery, ("Range" = Option<String>, Header)),
  responses((status = 200, description = "The file, a listing as JSON, or what changes", content(
    (Vec<u8> = "application/octet-stream"), (Listing = "application/json"),
    (WireFileEvent = "text/event-stream"))),
    (status = 206, description = "A part of the file", content_type = "application/octet-stream"),
    (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 416, body = ErrorBody),
    (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn get_lasting(
  State(face): State<Face>,
  By(caller): By,
  Path(path): Path<String>,
  query: Result<Query<GetLastingQuery>, QueryRejection>,
  method: Method,
  headers: HeaderMap,
) -> ApiResult<Response<Body>> {
  let query = parameters(query)?;
  let asked = query.namespace.filter(|n| !n.is_empty());
  let files = &face.engine.files;
  let store = files.of(&caller, Right::Read, asked.as_deref()).await?;
  if query.watch {
    return watch(&store, path).await;
  }
  get(Arc::new(store), &path, &method, &headers).await
}

/// Writes a lasting file: the body is its content, whatever its type. Missing directories are made. The
/// file is there once all of it is.
#[utoipa::path(put, path = "/api/files/{*path}", tag = "files", params(("path" = String, Path), LastingQuery),
  request_body(content = Vec<u8>, content_type = "application/octet-stream"),
  responses((status = 200, body = WrittenFile), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody),
    (status = 413, body = ErrorBody)))]
pub(crate) async fn put_lasting(
  State(face): State<Face>,
  By(caller): By,
  Path(path): Path<String>,
  query: Result<Query<LastingQuery>, QueryRejection>,
  body: Body,
) -> ApiResult<Json<WrittenFile>> {
  let asked = parameters(query)?.namespace.filter(|n| !n.is_empty());
  let files = &face.engine.files;
  let store = files.of(&caller, Right::Use, asked.as_deref()).await?;
  put(Arc::new(store), path, body, face.options.max_file_bytes).await
}

/// Deletes a lasting file or directory.
#[utoipa::path(delete, path = "/api/files/{*path}", tag = "files",
  params(("path" = String, Path), DeleteLastingQuery),
  responses((status = 200, body = DeletedFile), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody)))]
pub(crate) async fn delete_lasting(
  State(face): State<Face>,
  By(caller): By,
  Path(path): Path<String>,
  query: Result<Query<DeleteLastingQuery>, QueryRejection>,
) -> ApiResult<Json<DeletedFile>> {
  let query = parameters(query)?;
  let asked = query.namespace.filter(|n| !n.is_empty());
  let files = &face.engine.files;
  let store = files.of(&caller, Right::Use, asked.as_deref()).await?;
  delete(&store, path, query.recursive).await
}

// ------------------------------------------------------------ both

async fn get(
  store: Arc<dyn Store>,
  path: &str,
  method: &Method,
  headers: &HeaderMap,
) -> ApiResult<Response<Body>> {
  let asked = headers.get(header::RANGE).and_then(|it| it.to_str().ok());
  let found = files::read(store, path, |size| wanted(asked, size)).await?;
  let (entry, range, bytes) = match found {
    Content::Directory(entries) => {
      let listing = Listing {
        path: path.to_owned(),
        entries: entries.into_iter().map(Into::into).collect(),
      };
      return Ok(Json(listing).into_response());
    }
    Content::File {
      entry,
      range,
      bytes,
    } => (entry, range, bytes),
  };
  let size = entry.size;
  let Some(range) = range else {
    let message = format!("`{path}` has {size} bytes, none of which are in the range");
    let mut response = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, message).into_response();
    response
      .headers_mut()
      .insert(header::CONTENT_RANGE, text(format!("bytes */{size}")));
    return Ok(response);
  };
  let partial = asked.is_some_and(|asked| parse_range(asked).is_some());
  let body = match *method {
    Method::HEAD => Body::empty(),
    // A file that cannot be read to its end breaks the connection off: its length was promised.
    _ => Body::from_stream(bytes.map(|piece| piece.inspect_err(|e| tracing::debug!("{e}")))),
  };
  let mut response = Response::new(body);
  let answered = response.headers_mut();
  // Whatever is in it, no browser takes it for a page of this server's.
  answered.insert(
    header::CONTENT_TYPE,
    HeaderValue::from_static("application/octet-stream"),
  );
  answered.insert(header::CONTENT_DISPOSITION, attachment(&entry.name));
  answered.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
  answered.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
  if let Some(modified) = entry.modified.and_then(DateTime::from_timestamp_millis) {
    let modified = modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    answered.insert(header::LAST_MODIFIED, text(modified));
  }
  if partial {
    let value = format!(
      "bytes {}-{}/{size}",
      range.start,
      range.end.saturating_sub(1)
    );
    answered.insert(header::CONTENT_RANGE, text(value));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
  }
  protection::protect(response.headers_mut());
  Ok(response)
}

async fn put(
  store: Arc<dyn Store>,
  path: String,
  body: Body,
  most: u64,
) -> ApiResult<Json<WrittenFile>> {
  let size = files::write(&store, &path, body.into_data_stream(), most).await?;
  Ok(Json(WrittenFile { path, size }))
}

async fn delete(store: &dyn Store, path: String, recursive: bool) -> ApiResult<Json<DeletedFile>> {
  files::delete(store, &path, recursive).await?;
  Ok(Json(DeletedFile {
    success: true,
    path,
  }))
}

/// The bytes of a file of `size` that `Range` asks for (RFC 9110 section 14); all where it asks for
/// something else than one range of bytes, `None` where the file has none of them.
fn wanted(asked: Option<&str>, size: u64) -> Option<Range<u64>> {
  match asked.and_then(parse_range) {
    None => Some(0..size),
    Some((Some(first), last)) => {
      let end = last.map_or(size, |last| last.saturating_add(1).min(size));
      (first < size).then_some(first..end)
    }
    Some((None, last)) => {
      let length = last.unwrap_or_default().min(size);
      (length > 0).then_some(size - length..size)
    }
  }
}

/// The first and the last byte of a range; without a first one, the last bytes of the file.
fn parse_range(text: &str) -> Option<(Option<u64>, Option<u64>)> {
  let number = |digits: &str| {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // More than any file has.
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
  };
  let (first, last) = text.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
  match (first.trim(), last.trim()) {
    ("", last) => Some((None, Some(number(last)?))),
    (first, "") => Some((Some(number(first)?), None)),
    (first, last) => {
      let (first, last) = (number(first)?, number(last)?);
      (first <= last).then_some((Some(first), Some(last)))
    }
  }
}

/// Proposes a name to save the file under (RFC 6266).
fn attachment(name: &str) -> HeaderValue {
  let mut value = "attachment; filename*=UTF-8''".to_owned();
  for byte in name.bytes() {
    match byte {
      b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => value.push(byte.into()),
      byte => value.push_str(&format!("%{byte:02X}")),
    }
  }
  text(value)
}

fn text(value: String) -> HeaderValue {
  HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn one_range_of_bytes_is_understood_and_all_else_is_the_whole_file() {
    let of = |asked| wanted(Some(asked), 10);
    assert_eq!(of("bytes=0-3"), Some(0..4));
    assert_eq!(of("bytes=4-"), Some(4..10));
    assert_eq!(of("bytes=-3"), Some(7..10));
    assert_eq!(of("bytes=8-100"), Some(8..10));
    assert_eq!(of("bytes=-100"), Some(0..10));
    for none in ["bytes=10-", "bytes=-0", "bytes=99999999999999999999-"] {
      assert_eq!(of(none), None, "{none}");
    }
    for whole in [
      "bytes=0-1,4-5",
      "bytes=5-4",
      "bytes=a-",
      "lines=1-2",
      "bytes=-",
      "",
      "bytes=+1-2",
    ] {
      assert_eq!(of(whole), Some(0..10), "{whole}");
    }
    assert_eq!(wanted(None, 0), Some(0..0));
    assert_eq!(wanted(Some("bytes=0-"), 0), None);
  }

  #[test]
  fn names_are_written_so_that_no_header_is_made_of_them() {
    let value = attachment("a b\"\r\nX: y é.txt");
    assert_eq!(
      value.to_str().expect("plain"),
      "attachment; filename*=UTF-8''a%20b%22%0D%0AX%3A%20y%20%C3%A9.txt"
    );
  }
}
