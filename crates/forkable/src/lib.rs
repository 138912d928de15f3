//! Makes a process fit to be forked that has V8 and an event loop in it. Three things stand in the way:
//!
//! - V8 starts its worker threads with its platform, and only the thread that forks lives on in a child: [`threads`]
//!   starts them late, in each child.
//! - V8 tells the system to leave its memory out of children: [`memory`] keeps it from saying so.
//! - A child shares what it inherits, so that siblings wake each other and read each other's output: [`descriptors`] gives
//!   it pipes, counters and an event queue of its own, under the numbers that are in use.
//!
//! The first two replace functions of the C library in the whole program, `pthread_create` and `madvise`; both do what the
//! library's do until they are told otherwise.

pub mod descriptors;
pub mod memory;
pub mod threads;
