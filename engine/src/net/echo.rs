//! The conformance listener's endpoint: everything said comes back, over the production frame path.

use crate::core::socket::Kind;
use crate::core::turn::Core;
use ringhub_hub::SocketKey;
use ringhub_protocol::ws::close::write_close;
use ringhub_protocol::ws::frame::write_frame;
use ringhub_protocol::ws::{Event, Opcode};

impl Core {
    /// Bytes of an echo client.
    pub(crate) fn echo_input(&mut self, key: SocketKey, mut bytes: &mut [u8]) {
        let limits = self.settings.sockets.decoder;
        let Some(socket) = self.io.sockets.get(key) else { return };
        let Kind::Echo(decoder) = &mut socket.kind else { return };
        let mut out = Vec::new();
        let (mut over, mut farewell) = (false, false);
        while !bytes.is_empty() && !over {
            let consumed = match decoder.next(bytes, &limits) {
                Ok(step) => {
                    match step.event {
                        Some(Event::Text(text)) => write_frame(&mut out, Opcode::Text, text.as_bytes()),
                        Some(Event::Binary(payload)) => write_frame(&mut out, Opcode::Binary, payload),
                        Some(Event::Ping(payload)) => write_frame(&mut out, Opcode::Pong, payload),
                        Some(Event::Close { code, .. }) => {
                            write_close(&mut out, code, "");
                            (over, farewell) = (true, true);
                        }
                        Some(Event::Pong(_)) | None => {}
                    }
                    step.consumed
                }
                Err(fault) => {
                    // What was said before the fault has its echo in front of the close frame.
                    write_close(&mut out, Some(fault.code), fault.reason);
                    self.io.shared.counters.faults.add(1);
                    over = true;
                    0
                }
            };
            bytes = &mut bytes[consumed..];
        }
        decoder.release();
        self.io.send(key, out.into());
        if farewell {
            self.io.farewell(key);
        } else if over {
            self.io.finish(key);
        }
    }
}
