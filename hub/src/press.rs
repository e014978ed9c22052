//! Messages for clients with permessage-deflate, deflated once for all of them (RFC 7692).
//!
//! What a message becomes depends on it alone: nothing is taken over from an earlier one. So the codec may be
//! shared with all other hubs of the core.

use ringhub_protocol::ws::extension::WINDOW_BITS_MAX;
use ringhub_protocol::ws::{Deflater, Opcode, frame};
use std::cell::RefCell;
use std::rc::Rc;

/// What all hubs of a core deflate with.
pub type SharedDeflater = Rc<RefCell<Deflater>>;

/// What a hub deflated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pressed {
    /// Messages that became shorter.
    pub(crate) messages: u64,
    /// Their bytes before.
    pub(crate) bytes_in: u64,
    /// Their bytes afterwards.
    pub(crate) bytes_out: u64,
}

/// Deflates what is worth it.
#[derive(Default)]
pub(crate) struct Press {
    pub(crate) deflater: SharedDeflater,
    /// Shorter messages stay as they are.
    pub(crate) bytes_min: usize,
    pub(crate) pressed: Pressed,
    /// Reused.
    scratch: Vec<u8>,
}

/// Capacity of the scratch that is kept.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

impl Press {
    pub(crate) fn new(bytes_min: usize) -> Self {
        Self { bytes_min, ..Self::default() }
    }

    /// Appends the payload of `message` to `out`; false, with nothing appended, if it is to stay as it is.
    pub(crate) fn deflate(&mut self, out: &mut Vec<u8>, message: &[u8]) -> bool {
        let start = out.len();
        let is_shorter = message.len() >= self.bytes_min
            && self.deflater.borrow_mut().deflate(out, message, WINDOW_BITS_MAX);
        if is_shorter {
            self.pressed.messages += 1;
            self.pressed.bytes_in += message.len() as u64;
            self.pressed.bytes_out += (out.len() - start) as u64;
        }
        is_shorter
    }

    /// Deflates the plain frame that stands at the end of `out` from `start` on, if that is worth it.
    pub(crate) fn deflate_frame(&mut self, out: &mut Vec<u8>, opcode: Opcode, start: usize) {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        // The header says how long it is itself by its second byte.
        let header_len = match out[start + 1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if self.deflate(&mut payload, &out[start + header_len..]) {
            out.truncate(start);
            frame::write_frame(out, opcode, &payload);
            frame::mark_deflated(out, start);
        }
        payload.shrink_to(SCRATCH_BYTES_KEPT);
        self.scratch = payload;
    }
}
