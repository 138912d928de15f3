//! Requests through a real server, with the proxy in it, to real servers of apps and to sockets on
//! which the tests write every byte themselves.

mod bodies;
mod connections;
mod failures;
mod heads;
mod leases;
mod properties;
mod retries;
mod support;
mod upgrades;
