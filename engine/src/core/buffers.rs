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
    /// Allocates `count` (a power of two) buffers of `size` bytes and registers them with `ring`.
    ///
    /// # Safety
    /// Before the value is dropped, `ring` must have no receive in flight and be gone; forgetting the value
    /// instead is always sound.
    pub(crate) unsafe fn register(ring: &IoUring, count: u16, size: u32) -> io::Result<Self> {
        let block = Block {
            entries: allocate(entries_layout(count)).cast(),
            memory: allocate(memory_layout(count, size)),
            count,
            size,
        };
        let address = block.entries.as_ptr() as u64;
        // SAFETY: `entries` is page-aligned, has `count` entries, and outlives the ring (this function's
        // contract).
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        let mut buffers = Self { block: Rc::new(block), tail: 0, lent: vec![true; usize::from(count)] };
        for id in 0..count {
            buffers.put(id);
        }
        buffers.publish();
        Ok(buffers)
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
        // SAFETY: allocated in `register` with these layouts; the kernel is done with it (`register`'s
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
