#![doc = include_str!("../README.md")]
//!
//! # Where to begin
//!
//! [`Client::connect`] with [`Options`]; [`Client::register`] with a [`Service`] of [`Method`]s;
//! [`Client::get_service`] and [`RemoteService::call`]. [`Value`] is what travels.

mod arguments;
mod built_in;
mod callback;
mod chunks;
mod client;
mod context;
mod core;
mod departures;
mod dispatch;
mod driver;
mod error;
mod link;
mod manager;
mod options;
mod overflow;
mod rate;
mod registry;
mod remote;
mod reply;
mod request;
mod responder;
mod service;
mod sessions;
mod state;
mod transport;
mod value;
mod wire;

pub use self::arguments::Arguments;
pub use self::callback::Callback;
pub use self::client::Client;
pub use self::context::Context;
pub use self::context::User;
pub use self::error::CallError;
pub use self::error::ConnectError;
pub use self::error::Refusal;
pub use self::error::RemoteError;
pub use self::manager::TokenRequest;
pub use self::options::Limits;
pub use self::options::Options;
pub use self::options::Token;
pub use self::remote::RemoteService;
pub use self::remote::RemoteStream;
pub use self::reply::Reply;
pub use self::service::Method;
pub use self::service::Service;
pub use self::service::Visibility;
pub use self::state::State;
pub use self::value::GeneratorRef;
pub use self::value::Map;
pub use self::value::MethodRef;
pub use self::value::NdArray;
pub use self::value::Timestamp;
pub use self::value::TypedArray;
pub use self::value::Value;
