//! Forwards requests to the apps' own HTTP servers, and their answers back. Bodies stream both ways
//! at the pace of the slower side; nothing is buffered.

mod connection;
mod error;
pub mod gate;
mod headers;
pub mod listener;
mod proxy;
pub mod retry;
pub mod route;
pub mod site;
#[cfg(test)]
mod tests;
mod upstream;

pub use self::error::ProxyError;
pub use self::headers::EngineToken;
pub use self::proxy::Proxy;
pub use self::upstream::Upstream;
