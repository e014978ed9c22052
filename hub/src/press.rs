//! Messages for clients with permessage-deflate, deflated once for all of them (RFC 7692).
//!
//! What a message becomes depends on it alone: nothing is taken over from an earlier one. So the codec may be
//! shared with all other hubs of the core.
//!
//! Both forms of a message are made in scratch, and only the one that is sent is copied into a turn's log: what the
//! log's buffers grow by is what receivers keep alive.

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
    /// Scratch for a message as it is.
    plain: Vec<u8>,
    /// Scratch for what it becomes.
    payload: Vec<u8>,
}

/// Capacity of each scratch that is kept from turn to turn.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

impl Press {
    pub(crate) fn new(bytes_min: usize) -> Self {
        Self { bytes_min, ..Self::default() }
    }

    /// The payload of `message`; none if it is to stay as it is.
    pub(crate) fn deflate(&mut self, message: &[u8]) -> Option<&[u8]> {
        self.payload.clear();
        let is_shorter = message.len() >= self.bytes_min
            && self.deflater.borrow_mut().deflate(&mut self.payload, message, WINDOW_BITS_MAX);
        if !is_shorter {
            return None;
        }
        self.pressed.messages += 1;
        self.pressed.bytes_in += message.len() as u64;
        self.pressed.bytes_out += self.payload.len() as u64;
        Some(&self.payload)
    }

    /// Appends the frame of the message that `write` appends to what it is given: deflated, if that is worth it.
    pub(crate) fn write_frame(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        write(&mut plain);
        let start = out.len();
        match self.deflate(&plain) {
            Some(payload) => {
                frame::write_frame(out, opcode, payload);
                frame::mark_deflated(out, start);
            }
            None => frame::write_frame(out, opcode, &plain),
        }
        self.plain = plain;
    }

    /// Gives back the memory that large messages took.
    pub(crate) fn release(&mut self) {
        for scratch in [&mut self.plain, &mut self.payload] {
            scratch.clear();
            scratch.shrink_to(SCRATCH_BYTES_KEPT);
        }
    }
}
