//! Where modules come from in tests: registries and a web site on 127.0.0.1.

mod jsr;
mod loopback;
mod npm;
mod site;
mod sources;

pub use self::loopback::Loopback;
pub use self::loopback::Reply;
pub use self::loopback::Request;
pub use self::site::ADD_WASM;
pub use self::sources::Sources;
