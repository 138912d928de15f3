//! Methods of the service, called as a Hypha server calls them, on an engine without kernels.

mod documents;
mod parameters;
mod providers;
mod support;
mod vectors;
