//! Everything that knows `deno_runtime`, `deno_core` and V8. It never knows of HTTP or kernels'
//! lives: it offers a configured worker and handles to steer it.

mod certificates;
mod extension;
mod fs;
mod identity;
mod limits;
mod listen;
mod modules;
mod permissions;
mod platform;
mod safe_point;
mod services;
mod stack;
mod sys;
mod vm;
mod web_worker;
mod worker;

pub use certificates::SYSTEM_AUTHORITIES;
pub use fs::Mount;
pub(crate) use fs::absolute as absolute_path;
pub use limits::HeapLimit;
pub use platform::optimise_wasm_late;
pub use platform::spawn_isolate_thread;
pub use safe_point::SafePoint;
pub use safe_point::at_safe_point;
pub use services::format_js_error;
pub use stack::CELL_URL_PREFIX;
pub use stack::CellMap;
pub use worker::JsWorker;
