//! What one socket could not take yet.
//!
//! An outbox never blocks and never copies payload: it holds references to encoded chunks and a running byte
//! count. It exists only after a short send. Being over the bound is reported, not handled, here.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;

/// Unsent bytes of one socket, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

/// What the caller learns from a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Within the bound.
    Low,
    /// Over it: the reader is a slow consumer.
    High,
}

impl Outbox {
    /// Queues `chunk` behind the rest; the caller's `bytes_max` is the bound.
    pub fn push(&mut self, chunk: Bytes, bytes_max: usize) -> Pressure {
        self.bytes += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
        if self.bytes > bytes_max { Pressure::High } else { Pressure::Low }
    }

    /// The next chunk to send.
    pub fn front(&self) -> Option<&Bytes> {
        self.chunks.front()
    }

    /// The chunks in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// The first `sent` bytes are in the kernel's hands.
    ///
    /// # Panics
    /// If `sent` is more than [`Outbox::bytes`].
    pub fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while sent > 0 {
            let chunk = self.chunks.front_mut().expect("no more was sent than was queued");
            if chunk.len() > sent {
                chunk.advance(sent);
                return;
            }
            sent -= chunk.len();
            self.chunks.pop_front();
        }
    }

    /// Unsent bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // The oracle is a plain vector of bytes.
        #[test]
        fn sends_the_bytes_it_was_given_in_order(ops in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), 0usize..12), 0..60)) {
            let (mut outbox, mut oracle) = (Outbox::default(), Vec::new());
            for (chunk, take) in ops {
                let pressure = outbox.push(Bytes::from(chunk.clone()), 20);
                oracle.extend(chunk);
                prop_assert_eq!(pressure == Pressure::High, oracle.len() > 20);
                let take = take.min(oracle.len());
                let front: Vec<u8> = outbox.chunks().flat_map(|c| c.to_vec()).take(take).collect();
                prop_assert_eq!(&front[..], &oracle[..take]);
                outbox.advance(take);
                oracle.drain(..take);
                prop_assert_eq!(outbox.bytes(), oracle.len());
                prop_assert_eq!(outbox.is_empty(), oracle.is_empty());
            }
        }
    }
}
