//! The engine as Hypha's service `deno-app-engine`. Each method maps a call to a manager of the engine and its answer to
//! the shape that clients of the original read; it decides nothing.

mod connection;
mod method;
mod methods;
mod rpc;
mod tokens;
mod worker;

pub use self::connection::HyphaError;
pub use self::connection::HyphaOptions;
pub use self::connection::serve;
pub use self::method::Answer;
pub use self::method::Asker;
pub use self::method::Failure;
pub use self::method::Method;
pub use self::method::Service;
pub use self::methods::all as methods;
pub use self::rpc::SERVICE_ID;
pub use self::tokens::TokenOptions;
pub use self::worker::WorkerOptions;
pub use hypha_rpc::Refusal;
pub use hypha_rpc::Token;
