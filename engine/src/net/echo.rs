//! The conformance listener's endpoint: everything said comes back, over the production frame path.

use crate::core::socket::{Echo, Kind};
use crate::core::turn::Core;
use ringhub_hub::SocketKey;
use ringhub_protocol::ws::close::write_close;
use ringhub_protocol::ws::frame::{mark_deflated, write_frame};
use ringhub_protocol::ws::{Deflater, Event, Opcode};

impl Core {
    /// Bytes of an echo client.
    pub(crate) fn echo_input(&mut self, key: SocketKey, mut bytes: &mut [u8]) {
        let limits = self.settings.sockets.decoder;
        let Some(socket) = self.io.sockets.get(key) else { return };
        let Kind::Echo(Echo { decoder, window_bits }) = &mut socket.kind else { return };
        let window_bits = *window_bits;
        let mut deflater = self.deflater.borrow_mut();
        let mut say = |out: &mut Vec<u8>, opcode, message: &[u8]| match window_bits {
            Some(window_bits) => write_deflated(out, opcode, message, &mut deflater, window_bits),
            None => write_frame(out, opcode, message),
        };
        let mut out = Vec::new();
        let (mut over, mut farewell) = (false, false);
        while !bytes.is_empty() && !over {
            let consumed = match decoder.next_with(bytes, &limits, &mut self.inflater) {
                Ok(step) => {
                    match step.event {
                        Some(Event::Text(text)) => say(&mut out, Opcode::Text, text.as_bytes()),
                        Some(Event::Binary(payload)) => say(&mut out, Opcode::Binary, payload),
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
        drop(deflater);
        self.count_inflated();
        self.io.send(key, out.into());
        if farewell {
            self.io.farewell(key);
        } else if over {
            self.io.finish(key);
        }
    }
}

/// Appends one message, deflated if that makes it shorter.
fn write_deflated(
    out: &mut Vec<u8>,
    opcode: Opcode,
    message: &[u8],
    deflater: &mut Deflater,
    window_bits: u8,
) {
    let (start, mut payload) = (out.len(), Vec::new());
    if deflater.deflate(&mut payload, message, window_bits) {
        write_frame(out, opcode, &payload);
        mark_deflated(out, start);
    } else {
        write_frame(out, opcode, message);
    }
}
