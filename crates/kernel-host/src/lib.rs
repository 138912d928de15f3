//! What the process of a kernel and the server share, whatever language the kernel speaks: the
//! protocol, the request loop around a language, and how processes are started.

pub mod host;
pub mod json;
pub mod lang;
mod orphans;
pub mod protocol;
pub mod sandbox;
pub mod sink;
pub mod spawner;
pub mod wire;
