//! Where modules come from in tests: registries and a web site on 127.0.0.1.

mod jsr;
mod loopback;
mod npm;
mod site;
mod sources;

pub(crate) use self::loopback::Loopback;
pub(crate) use self::loopback::Reply;
pub(crate) use self::loopback::Request;
pub(crate) use self::site::ADD_WASM;
pub(crate) use self::sources::Sources;
