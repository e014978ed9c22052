//! The provided receive buffers of a core: one ring the kernel takes from, one block of memory.
//!
//! A buffer is in exactly one place: free (the kernel may write it), or lent (named by a completion that has
//! been reaped and not yet recycled). [`Buffers`] trusts ids from completions of its own ring only, and keeps
//! a bit per buffer to check that nobody recycles twice.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The group id of the only buffer ring of a core.
pub(crate) const GROUP: u16 = 0;

/// Receive buffers shared with the kernel.
pub(crate) struct Buffers {
    block: Rc<Block>,
    tail: u16,
    lent: Vec<bool>,
}

/// The memory: freed with the last [`Lent`] and [`Buffers`].
struct Block {
    /// `count` entries; the tail lives in the first one's reserved field.
    entries: NonNull<BufRingEntry>,
    /// `count` × `size` bytes.
    memory: NonNull<u8>,
    count: u16,
    size: u32,
}

/// A received buffer; give it to [`Buffers::recycle`], or the kernel has one less.
pub(crate) struct Lent {
    block: Rc<Block>,
    id: u16,
    len: usize,
}

impl Buffers {
    /// Allocates `count` (a power of two) buffers of `size` bytes, all free.
    pub(crate) fn new(count: u16, size: u32) -> Self {
        assert!(count.is_power_of_two(), "places are found by masking");
        let block = Block {
            entries: allocate(entries_layout(count)).cast(),
            memory: allocate(memory_layout(count, size)),
            count,
            size,
        };
        let mut buffers = Self { block: Rc::new(block), tail: 0, lent: vec![true; usize::from(count)] };
        for id in 0..count {
            buffers.put(id);
        }
        buffers.publish();
        buffers
    }

    /// Shares them with the kernel, which receives into them from now on.
    ///
    /// # Safety
    /// Before the value is dropped, `ring` must have no receive in flight and be gone; forgetting the value
    /// instead is always sound.
    pub(crate) unsafe fn register(&self, ring: &IoUring) -> io::Result<()> {
        let Block { entries, count, .. } = *self.block;
        // SAFETY: `entries` is page-aligned, has `count` entries, and outlives the ring (this function's
        // contract).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0) }
    }

    /// The size of each, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.block.size as usize
    }

    /// The first `len` bytes of buffer `id`, which a completion just named.
    ///
    /// # Panics
    /// If `id` or `len` cannot come from this ring, or the buffer is lent already.
    pub(crate) fn lend(&mut self, id: u16, len: usize) -> Lent {
        let lent = &mut self.lent[usize::from(id)];
        assert!(!*lent && len <= self.block.size as usize, "the kernel filled a buffer it did not have");
        *lent = true;
        Lent { block: Rc::clone(&self.block), id, len }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn recycle(&mut self, buffer: Lent) {
        assert!(Rc::ptr_eq(&self.block, &buffer.block), "a buffer goes back to its own ring");
        self.put(buffer.id);
        self.publish();
    }

    fn put(&mut self, id: u16) {
        assert!(std::mem::take(&mut self.lent[usize::from(id)]), "a buffer is recycled once");
        let Block { entries, memory, count, size } = *self.block;
        let at = usize::from(self.tail & (count - 1));
        // SAFETY: `at < count`. The kernel reads entries below the published tail only, and this one is at the
        // tail; at most `count` buffers exist, so it was consumed before. The field writes leave the tail,
        // which shares the first entry's reserved field, alone.
        let entry = unsafe { &mut *entries.as_ptr().add(at) };
        entry.set_addr(memory.as_ptr() as u64 + u64::from(id) * u64::from(size));
        entry.set_len(size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail is a valid, aligned u16 inside the first entry, shared with the kernel, so it is
        // only ever accessed as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.block.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = usize::from(self.id) * self.block.size as usize;
        // SAFETY: in bounds (checked by `lend`) of memory this value keeps alive. The kernel took the buffer
        // from the ring when it completed the receive and does not touch it until it is recycled, which
        // consumes this value; `lent` keeps it the only one.
        unsafe { std::slice::from_raw_parts(self.block.memory.as_ptr().add(start), self.len) }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.id) * self.block.size as usize;
        // SAFETY: as in `deref`; `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.block.memory.as_ptr().add(start), self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with these layouts; the kernel is done with it (`register`'s
        // contract) and every `Lent` holds a count.
        unsafe {
            std::alloc::dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            std::alloc::dealloc(self.memory.as_ptr(), memory_layout(self.count, self.size));
        }
    }
}

const PAGE: usize = 4096;

fn entries_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE).expect("at most 512 KiB")
}

fn memory_layout(count: u16, size: u32) -> Layout {
    Layout::from_size_align(usize::from(count) * size as usize, PAGE).expect("well below the address space")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0);
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

/// `cargo +nightly miri test -p ringhub-engine --lib core::buffers` watches them.
#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::with_exposed_provenance_mut;

    const COUNT: u16 = 4;
    const SIZE: u32 = 8;

    /// What the kernel does with a buffer ring, so that Miri can watch: it takes the entries in order, up to the tail.
    struct Kernel {
        entries: NonNull<BufRingEntry>,
        head: u16,
    }

    impl Kernel {
        fn of(buffers: &Buffers) -> Self {
            Self { entries: buffers.block.entries, head: 0 }
        }

        /// Fills the next buffer and says which it was and how much; nothing if none is free.
        fn receive(&mut self, bytes: &[u8]) -> Option<(u16, usize)> {
            // SAFETY: the entries live as long as the buffers, which the test keeps; the tail is an atomic.
            let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
            if tail.load(Ordering::Acquire) == self.head {
                return None;
            }
            // SAFETY: in bounds, and below the tail, so nobody writes it.
            let entry = unsafe { &*self.entries.as_ptr().add(usize::from(self.head & (COUNT - 1))) };
            self.head = self.head.wrapping_add(1);
            let len = bytes.len().min(entry.len() as usize);
            let memory = with_exposed_provenance_mut::<u8>(entry.addr() as usize);
            // SAFETY: a free buffer of that many bytes, which nobody else has.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory, len) };
            Some((entry.bid(), len))
        }
    }

    #[test]
    fn every_buffer_is_filled_lent_and_given_back_in_any_order() {
        let mut buffers = Buffers::new(COUNT, SIZE);
        let mut kernel = Kernel::of(&buffers);
        let mut lent: Vec<(u16, Lent)> = Vec::new();
        // Round the 16 bits of head and tail more than once, in steps; all of it natively.
        let rounds = if cfg!(miri) { 50 } else { 70_000 };
        for round in 0..rounds {
            while let Some((id, len)) = kernel.receive(&[round as u8; SIZE as usize]) {
                let mut buffer = buffers.lend(id, len);
                assert_eq!(*buffer, [round as u8; SIZE as usize]);
                // Parsing in place writes.
                buffer[0] = id as u8;
                lent.push((id, buffer));
            }
            assert_eq!(lent.len(), usize::from(COUNT), "none free, all lent");
            assert!(lent.iter().all(|(id, buffer)| buffer[0] == *id as u8), "no two share memory");
            for _ in 0..=round % 3 {
                let (_, buffer) = lent.swap_remove((round * 7) as usize % lent.len());
                buffers.recycle(buffer);
            }
        }
    }

    #[test]
    fn a_lent_buffer_outlives_the_ring() {
        let mut buffers = Buffers::new(COUNT, SIZE);
        let (id, len) = Kernel::of(&buffers).receive(b"kept").unwrap();
        let lent = buffers.lend(id, len);
        drop(buffers);
        assert_eq!(&*lent, b"kept");
    }

    #[test]
    #[should_panic(expected = "the kernel filled a buffer it did not have")]
    fn a_buffer_is_lent_once() {
        let mut buffers = Buffers::new(COUNT, SIZE);
        let (_first, _second) = (buffers.lend(1, 1), buffers.lend(1, 1));
    }

    #[test]
    #[should_panic(expected = "a buffer goes back to its own ring")]
    fn a_buffer_of_another_ring_is_not_taken_back() {
        let (mut one, mut other) = (Buffers::new(COUNT, SIZE), Buffers::new(COUNT, SIZE));
        let buffer = one.lend(0, 1);
        other.recycle(buffer);
    }
}
