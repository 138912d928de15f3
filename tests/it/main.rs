//! Integration tests: they drive the built binary over HTTP. One file a capability, one behaviour a
//! test; `support` holds the server and the client, `../cells` the table of cells.

mod bad_input;
mod cells;
mod executions;
mod input;
mod intelligence;
mod interrupt;
mod lifecycle;
mod namespaces;
mod output;
mod streaming;
mod support;
