//! The methods of the service, called as a face calls them.

mod agents;
mod apps;
mod chats;
mod engine;
mod hosts;
mod model;
