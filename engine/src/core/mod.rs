//! One pinned thread and everything it owns: ring, buffers, sockets, hubs, timers.
//!
//! | File | Holds |
//! |---|---|
//! | `host` | starting and joining cores; glommio lives there and only there |
//! | `turn` | the loop: completions, mesh, timers, flush, submit |
//! | `input` | what sockets say, by what they are |
//! | `doors` | accepting sockets, and stopping |
//! | `drain` | closing clients over a window before that |
//! | `relief` | what it does when memory is short |
//! | `hubs` | the hubs of a core and what they ask for |
//! | `io`, `receive` | sockets on the ring: sending, ending, receiving |
//! | `sealed` | the same for sockets that speak TLS |
//! | `ring`, `buffers` | the kernel's side, and all the unsafe code of the data plane |
//! | `faults` | what tests have the kernel's side do wrong |
//! | `line` | the way to the side thread and back |
//! | `socket`, `timer`, `mesh`, `sleep` | slots, deadlines, other cores |
//!
//! What must stay true: nothing here is shared with another core but what `mesh` and `counters` hold.

pub(crate) mod buffers;
pub(crate) mod counters;
pub(crate) mod doors;
mod doorway;
pub(crate) mod drain;
#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod host;
pub(crate) mod hubs;
mod input;
pub(crate) mod io;
pub(crate) mod line;
pub(crate) mod mesh;
mod receive;
mod relief;
pub(crate) mod ring;
mod sealed;
pub(crate) mod settings;
pub(crate) mod sleep;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod timer;
pub(crate) mod turn;

pub(crate) use host::{Control, Mode, Server, start};
