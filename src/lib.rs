//! Deno App Engine: runs other people's code behind one HTTP API, each kernel in a process of its own.
//!
//! `docs/architecture.md` tells which room holds what.

mod app_origins;
mod apps;
mod authority;
pub mod cli;
mod descriptors;
mod digest;
mod engine;
mod host;
mod http;
mod kernel;
mod lang;
mod log_budget;
mod memory;
mod outbound;
mod registries;
mod runtime;
mod secret;
mod settings;
mod tokens;
mod vectordb;

use kernel_host::protocol;
