//! Encoded bytes on their way to sockets, and which of their frames lose their worth with time.

use crate::Time;
use bytes::Bytes;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// A whole frame that is not worth sending any more from some time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perishable {
    /// Its first byte.
    pub start: u32,
    /// One past its last.
    pub end: u32,
    /// From then on it is to be dropped, if none of it was sent.
    pub until: Time,
}

/// Shared bytes. Clones share everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    bytes: Bytes,
    /// In order; `None` in the ordinary case.
    perishable: Option<Rc<[Perishable]>>,
}

impl Chunk {
    /// Bytes with the frames in them that can be dropped, in order; takes those out of `perishable`.
    pub(crate) fn new(bytes: Bytes, perishable: &mut Vec<Perishable>) -> Self {
        let frames = (!perishable.is_empty()).then(|| perishable.drain(..).collect());
        Self { bytes, perishable: frames }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The frames that can be dropped, in order.
    pub fn perishable(&self) -> &[Perishable] {
        self.perishable.as_deref().unwrap_or_default()
    }

    /// A part of it. Frames that are not whole in there are not perishable any more.
    pub fn slice(&self, range: Range<usize>) -> Self {
        if range == (0..self.len()) {
            return self.clone();
        }
        let perishable = self.perishable.as_deref().and_then(|frames| {
            // They are in order and do not overlap. Of a part of one frame, the first comes after the last.
            let first = frames.partition_point(|frame| (frame.start as usize) < range.start);
            let end = frames.partition_point(|frame| frame.end as usize <= range.end);
            let whole = frames.get(first..end).filter(|whole| !whole.is_empty())?;
            let moved = whole.iter().map(|frame| Perishable {
                start: frame.start - range.start as u32,
                end: frame.end - range.start as u32,
                until: frame.until,
            });
            Some(moved.collect())
        });
        Self { bytes: self.bytes.slice(range), perishable }
    }

    /// A part of it for one receiver that takes its time: a small part of much is copied, so that it does not keep all
    /// the rest alive.
    pub fn keep(&self, range: Range<usize>) -> Self {
        let part = self.slice(range);
        if part.len() >= self.len() / 2 {
            return part;
        }
        Self { bytes: Bytes::copy_from_slice(&part.bytes), ..part }
    }

    /// Until when the frame that starts at `start` is worth sending, if that ends.
    pub(crate) fn until(&self, start: usize) -> Option<Time> {
        let frames = self.perishable.as_deref()?;
        let at = frames.binary_search_by_key(&start, |frame| frame.start as usize).ok()?;
        Some(frames[at].until)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, perishable: None }
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_knows_the_frames_that_are_whole_in_it() {
        let frame = |start, end, until| Perishable { start, end, until: Time(until) };
        let mut frames = vec![frame(2, 4, 1), frame(4, 7, 2), frame(9, 10, 3)];
        let chunk = Chunk::new(Bytes::from_static(b"0123456789"), &mut frames);
        assert!(frames.is_empty());
        assert_eq!((chunk.until(4), chunk.until(5)), (Some(Time(2)), None));
        let part = chunk.slice(3..10);
        assert_eq!(&*part, b"3456789");
        assert_eq!(part.perishable(), [frame(1, 4, 2), frame(6, 7, 3)]);
        assert_eq!(chunk.slice(0..10).perishable(), chunk.perishable());
        assert_eq!(chunk.slice(5..6).perishable(), []);
        assert_eq!(chunk.slice(7..9), Chunk::from(Bytes::from_static(b"78")));
        assert_eq!(Chunk::from(vec![1]).until(0), None);
    }

    /// A slow reader's two bytes kept all alive that had been gathered for others in the same turn.
    #[test]
    fn a_small_part_that_is_kept_keeps_nothing_else_alive() {
        let mut frames = vec![Perishable { start: 2, end: 4, until: Time(1) }];
        let chunk = Chunk::new(vec![b'x'; 64 << 10].into(), &mut frames);
        let shares = |part: &Chunk| chunk.as_ptr_range().contains(&part.as_ptr());
        let small = chunk.keep(1..5);
        assert!(!shares(&small) && small == chunk.slice(1..5) && small.perishable().len() == 1);
        assert!(shares(&chunk.keep(0..64 << 10)) && shares(&chunk.keep(0..32 << 10)));
    }
}
