//! The client beside a real Hypha server with the official Python client, and beside a server that does what
//! a test tells it.

mod connecting;
mod encrypted;
mod hostile;
mod manager;
mod services;
mod support;
mod traffic;
