//! The languages that run in V8. What a language is, and the one that does not run in V8, is in the
//! crate `kernel-host`.

mod event_loop;
pub mod pyodide;
mod typescript;

pub use kernel_host::lang::Cell;
pub use kernel_host::lang::Interrupt;
pub use kernel_host::lang::Language;

pub use self::pyodide::Pyodide;
pub use self::typescript::TypeScript;
