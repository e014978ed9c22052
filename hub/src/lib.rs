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
//!
//! From a client's token to its bytes, without I/O: the sink is where sockets would be.
//!
//! ```
//! use ringhub_hub::{Arrival, Budget, Chunk, Connect, CoreId, Effect, Effects, Hub, Input, Limits};
//! use ringhub_hub::{Part, Sink, SocketKey, Time};
//! use ringhub_protocol::name::{GroupName, HubName};
//! use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
//!
//! #[derive(Default)]
//! struct Wire(Vec<(u32, Vec<u8>)>);
//! impl Sink for Wire {
//!     fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
//!         self.0.extend(sockets.iter().map(|socket| (socket.slot, bytes.to_vec())));
//!     }
//!     fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
//!         let part = |part: &Part| (part.socket.slot, bytes[part.start as usize..part.end as usize].to_vec());
//!         self.0.extend(parts.iter().map(part));
//!     }
//! }
//!
//! let name = HubName::parse("chat")?;
//! let mut hub = Hub::new(name, CoreId(0), 1, 42, Limits::default(), Box::new(|_| "a MAC".into()));
//! let (mut effects, mut wire) = (Effects::new(), Wire::default());
//!
//! // Two raw clients in one group; the first may publish to it.
//! for slot in [1, 2] {
//!     let connect = Connect {
//!         socket: SocketKey { slot, generation: 0 },
//!         subprotocol: Subprotocol::Raw,
//!         random: u128::from(slot),
//!         prologue: Vec::new(),
//!         user: None,
//!         roles: vec!["webpubsub.sendToGroup.g".into()],
//!         groups: vec![GroupName::parse("g")?],
//!         raw_group: None,
//!         arrival: Arrival::default(),
//!         introduction: None,
//!         deflate: None,
//!     };
//!     hub.handle(Time(0), Input::Connect(Box::new(connect)), &mut effects);
//! }
//! let Effect::Opened(ann) = effects[0] else { panic!("nobody else has to agree") };
//!
//! let group = GroupName::parse("g")?;
//! let data = Data::text("hi");
//! let message =
//!     ClientMessage::SendToGroup { group, ack_id: None, no_echo: true, data, metadata: None, ttl_seconds: 0 };
//! hub.handle(Time(5), Input::Message(ann, message), &mut effects);
//! hub.flush(Time(5), &mut wire, Budget::UNLIMITED);
//! // One frame, final and text, of two bytes; not for its sender.
//! assert_eq!(wire.0, [(2, b"\x81\x02hi".to_vec())]);
//! assert_eq!(hub.next_timeout(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod ack;
mod age;
mod batch;
pub mod chunk;
mod connection;
mod conversation;
mod directory;
pub mod effect;
mod encoding;
pub mod envelope;
pub mod event;
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
mod press;
mod request;
mod select;
mod session;
mod stamp;
mod turn;
mod users;

pub use chunk::{Chunk, Perishable};
pub use effect::{
    Answer, Arrival, CloseHow, Connect, Effect, Effects, Input, Member, MemberPage, MeshItem, Part, Pass,
    Recover, Sink, Transport,
};
pub use envelope::{Audience, Content, Envelope};
pub use fan::Budget;
pub use hub::Hub;
pub use id::{ConnectionId, ConnectionKey, CoreId, CoreSet, RequestId, SocketKey, Ticket, Time};
pub use limits::Limits;
pub use outbox::Outbox;
pub use paged::Paged;
pub use press::SharedDeflater;
pub use request::SHORT_OF_MEMORY;
