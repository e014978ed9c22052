//! WebSocket (RFC 6455) and its compression (RFC 7692) without I/O: bytes in, messages out.

pub mod close;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod utf8;

pub use close::CloseCode;
pub use deflate::{Deflater, Inflater};
pub use extension::DeflateOffer;
pub use frame::Opcode;
pub use message::{Decoder, DecoderLimits, Event, Fault, Step};
