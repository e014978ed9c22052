//! What one socket could not take yet.
//!
//! An outbox never blocks and never copies payload: it holds references to encoded chunks and a running byte
//! count. It exists only after a short send. Being over the bound is reported, not handled, here. Frames whose
//! time is over are dropped when the owner asks for it, whole: never one of which the kernel has a byte, or may
//! take one.

use crate::{Chunk, Time};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;

/// What keeping one piece costs besides its own bytes, roughly: its place, and what counts who shares it.
const PIECE_BYTES: usize = 128;
/// So many pieces are no matter.
const PIECES_MIN: usize = 64;

/// Unsent bytes of one socket, in order.
#[derive(Debug)]
pub struct Outbox {
    chunks: VecDeque<Queued>,
    bytes: usize,
    /// So many bytes at the front are in flight: the kernel may take them any time.
    in_flight: usize,
    /// No frame expires before this.
    expires: Time,
}

/// The unsent rest of a chunk.
#[derive(Debug)]
struct Queued {
    rest: Bytes,
    chunk: Chunk,
}

impl Queued {
    /// Bytes of the chunk that were sent.
    fn sent(&self) -> usize {
        self.chunk.len() - self.rest.len()
    }

    /// When the first of the frames that can still be dropped expires.
    fn expires(&self) -> Time {
        let sent = self.sent();
        let unsent = self.chunk.perishable().iter().filter(|frame| frame.start as usize >= sent);
        unsent.map(|frame| frame.until).min().unwrap_or(Time::NEVER)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, in_flight: 0, expires: Time::NEVER }
    }
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
    pub fn push(&mut self, chunk: Chunk, bytes_max: usize) -> Pressure {
        self.bytes += chunk.len();
        if !chunk.is_empty() {
            let queued = Queued { rest: chunk.bytes().clone(), chunk };
            self.expires = self.expires.min(queued.expires());
            self.chunks.push_back(queued);
        }
        if self.is_over(bytes_max) { Pressure::High } else { Pressure::Low }
    }

    /// Whether the reader is a slow consumer: by the bytes that wait, or, where they are many small pieces, by what
    /// keeping those costs. One chunk that is larger than the bound says nothing of its reader (an
    /// event handler may answer with many megabytes): then only what waits behind it counts.
    pub fn is_over(&self, bytes_max: usize) -> bool {
        let front = self.chunks.front().map_or(0, |queued| queued.rest.len());
        let counted = if front > bytes_max { self.bytes - front } else { self.bytes };
        counted > bytes_max || self.chunks.len() > PIECES_MIN + bytes_max / PIECE_BYTES
    }

    /// The chunks in order.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter().map(|queued| &queued.rest)
    }

    /// Whether it may hold frames that will be dropped once their time is over.
    pub fn is_perishable(&self) -> bool {
        self.expires != Time::NEVER
    }

    /// So many bytes at the front are given to the kernel; [`Outbox::advance`] says how many it took.
    pub fn put_in_flight(&mut self, bytes: usize) {
        self.in_flight = bytes;
    }

    /// Drops the whole unsent frames whose time is over at `now` and that are not in flight; returns how many.
    pub fn expire(&mut self, now: Time) -> u64 {
        if now < self.expires {
            return 0;
        }
        let (mut dropped, before) = (0, std::mem::take(self));
        let mut in_flight = before.in_flight;
        self.in_flight = in_flight;
        for Queued { rest, chunk } in before.chunks {
            // What is kept goes from here on.
            let mut from = chunk.len() - rest.len();
            let untouched = from + in_flight;
            in_flight = in_flight.saturating_sub(rest.len());
            for frame in chunk.perishable() {
                if frame.until <= now && frame.start as usize >= untouched {
                    self.push(chunk.slice(from..frame.start as usize), usize::MAX);
                    from = frame.end as usize;
                    dropped += 1;
                }
            }
            self.push(chunk.slice(from..chunk.len()), usize::MAX);
        }
        dropped
    }

    /// The first `sent` bytes are in the kernel's hands, and nothing else is in flight.
    ///
    /// # Panics
    /// If `sent` is more than [`Outbox::bytes`].
    pub fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        self.in_flight = 0;
        while sent > 0 {
            let Queued { rest, .. } = self.chunks.front_mut().expect("no more was sent than was queued");
            if rest.len() > sent {
                rest.advance(sent);
                return;
            }
            sent -= rest.len();
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
    use crate::Perishable;
    use proptest::prelude::*;

    /// A frame of the oracle: its bytes not sent yet, whether none was sent, and its deadline.
    type Frame = (Vec<u8>, bool, Option<Time>);

    /// Frames as lengths and deadlines, where 0 is none.
    fn chunk(frames: &[(u8, u8)], fill: u8) -> (Chunk, Vec<Frame>) {
        let (mut bytes, mut perishable, mut oracle) = (Vec::new(), Vec::new(), Vec::new());
        for (at, &(len, until)) in frames.iter().enumerate() {
            let frame = vec![fill.wrapping_mul(7).wrapping_add(at as u8); usize::from(len)];
            let until = (until > 0).then_some(Time(u64::from(until)));
            let start = bytes.len() as u32;
            bytes.extend_from_slice(&frame);
            perishable.extend(until.map(|until| Perishable { start, end: bytes.len() as u32, until }));
            oracle.push((frame, true, until));
        }
        (Chunk::new(bytes.into(), &mut perishable), oracle)
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push(Vec<(u8, u8)>),
        Write(usize),
        Send(usize),
        Expire(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            prop::collection::vec((1u8..6, prop_oneof![Just(0u8), 1u8..40]), 0..6).prop_map(Op::Push),
            (0usize..16).prop_map(Op::Write),
            (0usize..16).prop_map(Op::Send),
            (0u8..5).prop_map(Op::Expire),
        ]
    }

    /// Two bytes a turn took fifty times their size until they were a mebibyte.
    #[test]
    fn many_small_pieces_are_over_the_bound_by_what_they_cost() {
        let mut outbox = Outbox::default();
        let pushes = (1..).take_while(|_| outbox.push(vec![0, 1].into(), 1 << 20) == Pressure::Low).count();
        assert_eq!(pushes, PIECES_MIN + (1 << 20) / PIECE_BYTES);
        assert!(outbox.bytes() < 20_000);
        outbox.advance(2);
        assert!(!outbox.is_over(1 << 20));
    }

    proptest! {
        // The oracle is a list of frames.
        #[test]
        fn sends_in_order_what_has_not_expired(ops in prop::collection::vec(op(), 0..60)) {
            let (mut outbox, mut oracle) = (Outbox::default(), Vec::<Frame>::new());
            let (mut now, mut fill, mut in_flight) = (Time(0), 0, 0);
            for op in ops {
                match op {
                    Op::Push(frames) => {
                        fill += 1;
                        let (chunk, frames) = chunk(&frames, fill);
                        oracle.extend(frames);
                        let bytes: usize = oracle.iter().map(|(bytes, ..)| bytes.len()).sum();
                        let pressure = outbox.push(chunk, 20);
                        let front = outbox.chunks().next().map_or(0, Bytes::len);
                        let counted = if front > 20 { bytes - front } else { bytes };
                        prop_assert_eq!(pressure == Pressure::High, counted > 20);
                    }
                    Op::Write(bytes) => {
                        in_flight = bytes.min(outbox.bytes());
                        outbox.put_in_flight(in_flight);
                    }
                    Op::Send(take) => {
                        in_flight = 0;
                        let mut take = take.min(outbox.bytes());
                        outbox.advance(take);
                        while take > 0 {
                            let (bytes, untouched, _) = &mut oracle[0];
                            *untouched = false;
                            let part = take.min(bytes.len());
                            bytes.drain(..part);
                            take -= part;
                            if oracle[0].0.is_empty() {
                                oracle.remove(0);
                            }
                        }
                    }
                    Op::Expire(ms) => {
                        now = now.after_ms(u64::from(ms));
                        let before = oracle.len();
                        let mut ahead = 0;
                        oracle.retain(|(bytes, untouched, until)| {
                            let is_in_flight = ahead < in_flight;
                            ahead += bytes.len();
                            is_in_flight || !untouched || until.is_none_or(|until| until > now)
                        });
                        prop_assert_eq!(outbox.expire(now), (before - oracle.len()) as u64);
                    }
                }
                let left: Vec<u8> = outbox.chunks().flat_map(|chunk| chunk.to_vec()).collect();
                let expected: Vec<u8> = oracle.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
                prop_assert_eq!(outbox.bytes(), left.len());
                prop_assert_eq!(outbox.is_empty(), left.is_empty());
                prop_assert_eq!(left, expected);
                let waits = oracle.iter().any(|(_, untouched, until)| *untouched && until.is_some());
                prop_assert!(outbox.is_perishable() || !waits);
            }
        }
    }
}
