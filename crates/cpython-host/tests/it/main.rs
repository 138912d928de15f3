//! Drives `cpython-host` over its protocol, as the server does. `CPYTHON_EXECUTABLE` names the
//! Python; packages that a test needs beyond IPython are asked for by name.

mod background;
mod binary;
mod cells;
mod interrupt;
mod packages;
mod processes;
mod starts;
mod support;
