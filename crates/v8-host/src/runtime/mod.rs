//! Everything that knows `deno_runtime`, `deno_core` and V8. It never knows of HTTP or kernels'
//! lives: it offers a configured worker and handles to steer it.

mod certificates;
mod extension;
pub(crate) mod forking;
mod fs;
mod identity;
mod limits;
mod listen;
mod modules;
mod permissions;
mod platform;
pub(crate) mod repl;
mod safe_point;
mod services;
mod stack;
mod sys;
mod vm;
mod web_worker;
mod worker;

pub use certificates::SYSTEM_AUTHORITIES;
pub(crate) use fs::Mount;
pub(crate) use fs::absolute as absolute_path;
pub(crate) use limits::HeapLimit;
pub(crate) use platform::optimise_wasm_late;
pub(crate) use platform::spawn_isolate_thread;
pub(crate) use safe_point::SafePoint;
pub(crate) use safe_point::at_safe_point;
pub(crate) use services::format_js_error;
pub(crate) use stack::CELL_URL_PREFIX;
pub(crate) use stack::CellMap;
pub(crate) use worker::JsWorker;
