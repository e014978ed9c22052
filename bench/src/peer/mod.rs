//! Protocols of other servers, spoken so that those can be measured beside ours.
//!
//! A [`Talk`] turns the frames of one connection into the payloads they carry, and says what has to be
//! sent in return. What must stay true: a payload reaches the books exactly as often and in the order as
//! it came, whatever the framing (NATS and MQTT treat WebSocket as a stream of bytes, so a message may
//! begin in one frame and end in the next); and what a server says against the protocol ends the run.

mod mqtt;
mod nats;

use crate::cli::Protocol;
use crate::client::{Greeting, Spec};
use crate::stamp::Stamp;
use crate::wire::opcode;

/// The one subject or topic that every member subscribes to.
const CHANNEL: &str = "bench";

/// Longest unfinished message kept between frames, bytes: above every payload of the workloads.
const PARTIAL_MAX: usize = 2 * 1024 * 1024;

/// A protocol that needs more than bare payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// NATS client protocol in WebSocket frames.
    Nats,
    /// MQTT 3.1.1 (section 6 of it: binary frames, subprotocol `mqtt`).
    Mqtt,
    /// nchan's WebSocket publisher and subscriber locations.
    Nchan,
}

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Subscribes and receives.
    Member,
    /// Publishes; what is said to it is no delivery.
    Publisher,
}

impl Dialect {
    /// How a client of this protocol connects. `path` is the one of the server's URL.
    pub(crate) fn spec(self, path: &str, role: Role) -> Spec {
        let path = match (self, role) {
            (Self::Nchan, Role::Member) => format!("{}/sub", path.trim_end_matches('/')),
            (Self::Nchan, Role::Publisher) => format!("{}/pub", path.trim_end_matches('/')),
            _ => path.to_owned(),
        };
        let subprotocol = (self == Self::Mqtt).then_some("mqtt");
        Spec { path, subprotocol, greeting: Greeting::Foreign(self, role) }
    }
}

/// Appends the message that publishes one stamped payload; `protocol` is a foreign one.
pub(crate) fn write_publication(protocol: Protocol, out: &mut Vec<u8>, stamp: Stamp, size: usize) {
    match protocol.dialect() {
        Some(Dialect::Nats) => {
            nats::push_head(out, size);
            stamp.write(out, size);
            out.extend_from_slice(b"\r\n");
        }
        Some(Dialect::Mqtt) => {
            mqtt::push_head(out, size);
            stamp.write(out, size);
        }
        Some(Dialect::Nchan) | None => stamp.write(out, size),
    }
}

/// One connection's side of a foreign protocol.
pub(crate) struct Talk {
    dialect: Dialect,
    role: Role,
    ready: bool,
    /// The beginning of a message whose end has not come; empty almost always.
    partial: Vec<u8>,
}

/// What one unit of a byte stream means, as a dialect reads it.
#[derive(Debug, PartialEq, Eq)]
enum Unit<'a> {
    /// A message for a subscriber.
    Payload(&'a [u8]),
    /// Something to answer.
    Answer(Vec<u8>),
    /// The subscription stands, or a publisher may begin.
    Ready,
    /// Nothing to do.
    Nothing,
}

impl Talk {
    /// The state right after the upgrade.
    pub(crate) fn new(dialect: Dialect, role: Role) -> Self {
        Self { dialect, role, ready: dialect == Dialect::Nchan, partial: Vec::new() }
    }

    /// Whether the connection may be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Opcode of the data frames this protocol wants.
    pub(crate) fn opcode(&self) -> u8 {
        match self.dialect {
            Dialect::Nats | Dialect::Mqtt => opcode::BINARY,
            Dialect::Nchan => opcode::TEXT,
        }
    }

    /// What the client says first; empty where the server begins.
    pub(crate) fn first_message(&self) -> Vec<u8> {
        match self.dialect {
            Dialect::Mqtt => mqtt::CONNECT.to_vec(),
            Dialect::Nats | Dialect::Nchan => Vec::new(),
        }
    }

    /// Takes the payload of one data frame. Each message in it goes to `each` with its length in bytes on
    /// the wire; what has to be sent in return is appended to `answer`.
    ///
    /// # Errors
    /// What the server said against the protocol, or that it refused something.
    pub(crate) fn receive(
        &mut self,
        frame: &[u8],
        answer: &mut Vec<u8>,
        each: &mut impl FnMut(&[u8], usize),
    ) -> Result<(), String> {
        if self.dialect == Dialect::Nchan {
            // To publishers nchan reports the channel's state after every message.
            if self.role == Role::Member {
                each(frame, frame.len());
            }
            return Ok(());
        }
        if self.partial.is_empty() {
            let used = self.units(frame, answer, each)?;
            self.partial.extend_from_slice(&frame[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(frame);
            let used = self.units(&joined, answer, each)?;
            joined.drain(..used);
            self.partial = joined;
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        match self.partial.len() {
            0..=PARTIAL_MAX => Ok(()),
            len => Err(format!("a message of more than {len} bytes")),
        }
    }

    /// Handles the whole units at the start of `bytes`; returns how many bytes they were.
    fn units(
        &mut self,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        each: &mut impl FnMut(&[u8], usize),
    ) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let unit = match self.dialect {
                Dialect::Mqtt => mqtt::read(rest, self.role)?,
                _ => nats::read(rest, self.role)?,
            };
            let Some((unit, len)) = unit else { return Ok(used) };
            used += len;
            match unit {
                Unit::Payload(payload) => each(payload, len),
                Unit::Answer(bytes) => answer.extend_from_slice(&bytes),
                Unit::Ready => self.ready = true,
                Unit::Nothing => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `stream` to a fresh member in frames of `size` bytes; payloads, answers and readiness.
    fn member(dialect: Dialect, stream: &[u8], size: usize) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
        let mut talk = Talk::new(dialect, Role::Member);
        let (mut payloads, mut answer) = (Vec::new(), Vec::new());
        for frame in stream.chunks(size) {
            talk.receive(frame, &mut answer, &mut |payload, _| payloads.push(payload.to_vec())).unwrap();
        }
        assert!(talk.partial.is_empty(), "nothing is left over");
        (payloads, answer, talk.is_ready())
    }

    #[test]
    fn messages_may_be_cut_and_joined_anywhere() {
        let nats = b"INFO {\"max_payload\":1048576}\r\nPONG\r\nMSG bench 1 5\r\nhe\r\no\r\nPING\r\nMSG bench 1 0\r\n\r\n";
        let mqtt =
            [&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0][..], b"\x30\x0c\0\x05benchhe\r\no", b"\x30\x07\0\x05bench"]
                .concat();
        for (dialect, stream) in [(Dialect::Nats, &nats[..]), (Dialect::Mqtt, &mqtt[..])] {
            let whole = member(dialect, stream, stream.len());
            assert_eq!(whole.0, [b"he\r\no".to_vec(), Vec::new()], "{dialect:?}");
            assert!(whole.2, "{dialect:?}");
            for size in 1..stream.len() {
                assert_eq!(member(dialect, stream, size), whole, "{dialect:?} in frames of {size}");
            }
        }
    }

    #[test]
    fn publications_are_what_the_servers_specifications_say() {
        let stamp = Stamp { publisher: 0, sequence: 0, at_ns: 0 };
        let mut payload = Vec::new();
        stamp.write(&mut payload, 130);
        for (protocol, head, tail) in [
            (Protocol::Nats, &b"PUB bench 130\r\n"[..], &b"\r\n"[..]),
            // 130 + 7 bytes remain: 0x89 0x01 in base 128.
            (Protocol::Mqtt, b"\x30\x89\x01\0\x05bench", b""),
            (Protocol::Nchan, b"", b""),
        ] {
            let mut out = Vec::new();
            write_publication(protocol, &mut out, stamp, 130);
            assert_eq!(out, [head, &payload, tail].concat(), "{protocol:?}");
        }
    }

    #[test]
    fn nchan_members_get_frames_as_they_are_and_publishers_nothing() {
        assert_eq!(member(Dialect::Nchan, b"abc", 3), (vec![b"abc".to_vec()], Vec::new(), true));
        let mut publisher = Talk::new(Dialect::Nchan, Role::Publisher);
        publisher.receive(b"queued messages: 0", &mut Vec::new(), &mut |_, _| panic!("no delivery")).unwrap();
        let paths = [Role::Member, Role::Publisher].map(|role| Dialect::Nchan.spec("/all/", role).path);
        assert_eq!(paths, ["/all/sub", "/all/pub"]);
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let mut talk = Talk::new(Dialect::Nats, Role::Member);
        let frame = vec![b'x'; PARTIAL_MAX + 1];
        assert!(talk.receive(&frame, &mut Vec::new(), &mut |_, _| {}).unwrap_err().contains("bytes"));
    }
}
