//! The protobuf subprotocols: requests in, messages out (`client-protocols` §3.9, §3.10).
//!
//! Written by hand, without generated code: the messages are few and flat, requests borrow from the receive
//! buffer, and a payload is passed on as the bytes it is. [`parse`] nests as deep as the schema does and no
//! deeper.
//!
//! Writers mirror those of [`super::json`]. A data message is written in two steps, so that it can be shared by
//! receivers that number it differently: [`data_body`] makes what all of them get, [`data_message`] wraps it with
//! or without a sequence id.
//!
//! ```
//! use ringhub_protocol::pubsub::{ClientMessage, Data, Message, Sender, protobuf};
//!
//! // send_to_group_message { group: "g", data { text_data: "hi" } }
//! let request = b"\x0a\x09\x0a\x01g\x1a\x04\x0a\x02hi";
//! let Ok(ClientMessage::SendToGroup { group, data, .. }) = protobuf::parse(request) else { panic!() };
//! assert_eq!(data, Data::text("hi"));
//!
//! let mut body = Vec::new();
//! protobuf::data_body(&mut body, Message::new(Sender::Group { group: group.as_str(), user: None }, data));
//! let mut frame = Vec::new();
//! protobuf::data_message(&mut frame, &body, Some(7));
//! assert_eq!(frame.len(), protobuf::data_message_len(body.len(), Some(7)));
//! // data_message { from: "group", group: "g", data { text_data: "hi" }, sequence_id: 7 }
//! assert_eq!(frame, b"\x12\x12\x0a\x05group\x12\x01g\x1a\x04\x0a\x02hi\x20\x07");
//! ```

mod read;
mod wire;
mod write;

pub use read::parse;
pub(super) use wire::is_any;
pub use wire::varint_len;
pub use write::{
    ack, connected, data_body, data_head, data_message, data_message_len, data_tail, disconnected,
    invoke_refused, invoke_response, pong, stream_closed,
};
