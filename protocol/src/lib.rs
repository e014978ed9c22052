//! Bytes in, values out; values in, bytes out.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or draws a random number, and nothing is
//! `unsafe`: the same code runs in the server, in the simulator and under the fuzzers.
//!
//! | Module | Layer |
//! |---|---|
//! | [`ws`] | WebSocket: upgrade, frames, masking, UTF-8, messages, close codes (RFC 6455) |
//! | [`pubsub`] | the subprotocols `json.webpubsub.azure.v1` and `json.reliable.webpubsub.azure.v1`, raw clients |
//! | [`auth`] | token claims, audiences, roles |
//! | [`events`] | what application servers are told and what they answer: CloudEvents over HTTP |
//! | [`rest`] | a data-plane call as a value, and its error body |
//! | [`proxy`], [`forwarded`], [`origin`] | what proxies say of clients, and browsers of pages |
//! | [`http`] | request heads, read strictly (RFC 9112) |
//! | [`name`] | names that are legal once they exist |
//! | [`uri`] | percent-decoding of paths and queries |
//!
//! One layer after the other: a client's bytes become a frame's payload, a request and a group to publish to; the
//! message to its members becomes a frame.
//!
//! ```
//! use ringhub_protocol::pubsub::{ClientMessage, Message, Sender, json};
//! use ringhub_protocol::ws::{Decoder, DecoderLimits, Event, Opcode, frame, mask};
//!
//! // Clients mask what they send.
//! let request = br#"{"type":"sendToGroup","group":"chat","dataType":"text","data":"hi"}"#;
//! let mut input = vec![0x81, 0x80 | request.len() as u8, 1, 2, 3, 4];
//! input.extend_from_slice(request);
//! mask::unmask(&mut input[6..], [1, 2, 3, 4], 0);
//!
//! // `ws`: bytes in, messages out.
//! let limits = DecoderLimits { message_bytes_max: 1 << 20, fragments_max: 16 };
//! let mut decoder = Decoder::new();
//! let step = decoder.next(&mut input, &limits)?;
//! let Some(Event::Text(text)) = step.event else { panic!("a text message") };
//!
//! // `pubsub`: text in, requests out.
//! let ClientMessage::SendToGroup { group, data, .. } = json::parse(text)? else { panic!("a publication") };
//! assert_eq!((group.as_str(), &*data.plain()), ("chat", &b"hi"[..]));
//!
//! // And back: what every member of the group is sent.
//! let mut message = Vec::new();
//! json::open_message(&mut message, Message::new(Sender::Group { group: group.as_str(), user: None }, data));
//! message.push(b'}');
//! let mut out = Vec::new();
//! frame::write_frame(&mut out, Opcode::Text, &message);
//! assert_eq!(&out[2..], br#"{"type":"message","from":"group","group":"chat","fromUserId":null,"dataType":"text","data":"hi"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a token says, and what its roles allow:
//!
//! ```
//! use ringhub_protocol::auth::claims::ClientClaims;
//! use ringhub_protocol::auth::role::{Action, Role, Scope};
//!
//! let payload = br#"{"exp":1700000060,"sub":"ann","role":["webpubsub.sendToGroups.room-*"]}"#;
//! let claims = ClientClaims::parse(payload)?;
//! assert!(claims.lifetime.check_times(1_700_000_000, 0).is_ok());
//! let role = Role::parse(&claims.roles[0]).expect("a role of the service");
//! let (Action::SendToGroup, Scope::Pattern(pattern)) = (role.action, role.scope) else { panic!("a pattern") };
//! assert!(pattern.matches("room-1") && !pattern.matches("room-1.secret"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A REST call is a head, read strictly, and then a value:
//!
//! ```
//! use ringhub_protocol::http::{BodyLength, HeadLimits, parse_head};
//! use ringhub_protocol::rest::{Call, Filters, Operation, Target, route};
//!
//! let bytes = b"POST /api/hubs/chat/groups/g%2F1/:send?api-version=2024-12-01 HTTP/1.1\r\n\
//!     Host: localhost\r\nContent-Length: 2\r\n\r\nhi";
//! let head = parse_head(bytes, &HeadLimits { head_bytes_max: 16 << 10 }).expect("legal").expect("whole");
//! assert_eq!((head.body, &bytes[head.consumed..]), (BodyLength::Known(2), &b"hi"[..]));
//!
//! let mut filters = Filters::new(100);
//! let call = route(head.method, head.path(), head.query(), &mut filters).expect("a call of the service");
//! let Call::Hub { operation: Operation::Send { target, .. }, .. } = call else { panic!("a send") };
//! assert!(matches!(target, Target::Group(group) if group.as_str() == "g/1"));
//! ```
#![forbid(unsafe_code)]

pub mod auth;
pub mod events;
pub mod forwarded;
pub mod http;
pub mod name;
pub mod origin;
pub mod proxy;
pub mod pubsub;
pub mod rest;
pub mod uri;
pub mod ws;
