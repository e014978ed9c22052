//! WebSocket (RFC 6455) without I/O: bytes in, messages out.

pub mod close;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod utf8;

pub use close::CloseCode;
pub use frame::Opcode;
pub use message::{Decoder, DecoderLimits, Event, Fault, Step};
