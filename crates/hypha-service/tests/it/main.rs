//! Methods of the service, called as a face calls them, on an engine without kernels.

mod agents;
mod apps;
mod chats;
mod documents;
mod engine;
mod hosts;
mod kernels;
mod model;
mod parameters;
mod providers;
mod support;
mod vectors;
