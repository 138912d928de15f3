//! What runs in a kernel process around its language: the request loop, the outbox, and the trait
//! that a language implements.

mod files;
pub mod host;
pub mod language;
mod listings;
pub mod sink;
