//! Providers against servers of this process that misbehave as told.

mod providers;
mod registry;
pub(crate) mod server;
