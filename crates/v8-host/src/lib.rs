//! The languages that run in V8: TypeScript, JavaScript, and Python in WebAssembly. The only crate that
//! knows Deno and V8; of the server it knows what `kernel-host` and `kernel-protocol` say.

mod environment;
mod event_loop;
#[doc(hidden)]
pub mod inside;
pub mod process;
mod pyodide;
mod runtime;
mod typescript;

pub use self::runtime::SYSTEM_AUTHORITIES;
