//! Integration tests: they drive the built binary over HTTP. One file a capability, one behaviour a
//! test; `support` holds the server and the client, `../cells` the table of cells.

mod access;
mod apps;
mod bad_input;
mod cells;
mod cli;
mod cpython;
mod engine_events;
mod environment;
mod escapes;
mod executions;
mod faults;
mod hypha_apps;
mod input;
mod intelligence;
mod interrupt;
mod lifecycle;
mod memory;
mod modes;
mod modules;
mod mounts;
mod namespaces;
mod openapi;
mod output;
mod permissions;
mod pool;
mod process_layers;
mod python;
mod shutdown;
mod streaming;
mod support;
mod timeouts;
mod vectordb;
mod web_workers;
