//! Integration tests: they drive the built binary over HTTP. One file a capability, one behaviour a
//! test; `support` holds the server and the client, `../cells` the table of cells.

mod cells;
mod support;
