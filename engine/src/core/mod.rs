//! One pinned thread and everything it owns: ring, buffers, sockets, hubs, timers.

pub mod counters;
pub mod settings;
