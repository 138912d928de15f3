//! Methods of the service, called as a Hypha server calls them, on an engine without kernels.

mod documents;
mod providers;
mod support;
mod vectors;
