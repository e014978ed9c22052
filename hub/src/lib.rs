//! One core's share of one hub, as a state machine: inputs in, effects out, no I/O, no clock, no thread.
//!
//! [`Hub`] has four verbs. [`Hub::handle`] feeds one input and appends what must be done outside to
//! [`Effects`]; what must be *delivered* goes to the turn's log. [`Hub::flush`] ends the turn: it walks the
//! receivers once and hands their bytes to a [`Sink`]. [`Hub::next_timeout`] and [`Hub::handle_timeout`] are
//! the clock's side. Time ([`Time`]) and randomness are arguments, so a run is a pure function of its inputs.
//!
//! What must stay true: effects name targets, never receivers; nothing is allocated, counted atomically or
//! queued per receiver of a plain group; a receiver gets its bytes in the order of the log, though a large
//! fan-out is delivered in slices; nobody outside the hub's name, its group's members as of publication, and
//! its permissions is reached.
#![forbid(unsafe_code)]

mod ack;
mod connection;
mod directory;
pub mod effect;
pub mod envelope;
mod fan;
mod flush;
mod group;
pub mod hub;
pub mod id;
mod interest;
mod lifecycle;
pub mod limits;
mod mixed;
mod operation;
pub mod outbox;
pub mod paged;
mod permission;
mod request;
mod session;
mod stamp;
mod turn;
mod users;

pub use effect::{
    Answer, CloseHow, Connect, Effect, Effects, Input, MeshItem, Part, Recover, Sink, Transport,
};
pub use envelope::Envelope;
pub use fan::Budget;
pub use hub::Hub;
pub use id::{ConnectionId, ConnectionKey, CoreId, CoreSet, RequestId, SocketKey, Ticket, Time};
pub use limits::Limits;
pub use outbox::Outbox;
pub use paged::Paged;
