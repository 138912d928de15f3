//! CPython cells in a process that has an interpreter embedded: the binary `cpython-host`.
//!
//! This is the server's side, which needs no Python: it asks an installation about itself ([`installation`]) and
//! starts hosts from it ([`start`]). The interpreter's side is the crate `cpython-host`.

pub mod installation;
pub mod start;
