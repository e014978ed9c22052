//! The core's own io_uring: a safe face over submissions and completions.
//!
//! What must stay true, so that the kernel never reads freed memory:
//! - a **fast send** (`MSG_DONTWAIT`) ends inside the submit that takes it; its bytes are kept in `turn_buffers`
//!   until [`Ring::settle`], which submits what is still queued, and its error completions are drained (rule 1);
//! - a **write** (poll-armed) owns its bytes in `writes` until its completion is reaped;
//! - receives write only into [`Buffers`], which live until the ring has nothing in flight and is gone.
//!
//! Descriptors are not memory: a stale one can hit a wrong socket but not break soundness. Keeping a socket
//! open while anything of it is in flight is the caller's duty (rule 2, [`crate::core::io`]).

use crate::core::buffers::{Buffers, GROUP};
#[cfg(test)]
use crate::core::faults::Faults;
use crate::core::settings::RingSettings;
use bytes::Bytes;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode};
use ringhub_hub::Chunk;
use std::collections::VecDeque;
use std::collections::hash_map::{Entry as Place, HashMap};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What a completion is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// A listener has a connection; `slot` is the listener's number.
    Accept = 1,
    /// A socket received.
    Receive,
    /// A fast send fell short.
    Send,
    /// A write, or the wait for one, ended.
    Write,
    /// A cancel ended.
    Cancel,
    /// Another core could not be rung; `slot` is its number. That another core rang is no completion of ours.
    Doorbell,
    /// Another thread rang.
    Bell,
}

impl Op {
    fn from_user_data(user_data: u64) -> Self {
        match user_data >> 56 {
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Send,
            4 => Self::Write,
            5 => Self::Cancel,
            6 => Self::Doorbell,
            7 => Self::Bell,
            other => unreachable!("no request has operation {other}"),
        }
    }
}

/// Completions that one call hands out, in their order, if there are as many and nobody waits for more
/// (`IO_LOCAL_TW_DEFAULT_MAX` in Linux 6.13 and later; before, there was no such bound).
const AT_A_TIME: usize = 20;
/// Calls made in a turn for more of them.
const MORE_MAX: usize = 64;

fn user_data(op: Op, index: u32, slot: u32) -> u64 {
    debug_assert!(index < 1 << 24);
    (op as u64) << 56 | u64::from(index) << 32 | u64::from(slot)
}

/// One reaped completion. There is no second one of it: an accept's owns a descriptor until [`accepted`] takes it.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) op: Op,
    pub(crate) slot: u32,
    result: i32,
    index: u32,
    flags: u32,
}

impl Completion {
    /// Bytes, a descriptor, or a negated error number.
    pub(crate) fn result(&self) -> i32 {
        self.result
    }

    /// Whether the request goes on.
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer it filled.
    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// What the kernel did not take of a fast send.
#[derive(Debug)]
pub(crate) struct Short {
    pub(crate) slot: u32,
    /// The rest.
    pub(crate) rest: Chunk,
    /// The socket's end, if the send failed for good.
    pub(crate) failed: bool,
}

/// Index of a turn buffer, see [`Ring::keep`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TurnBuffer(u32);

struct FastSend {
    buffer: TurnBuffer,
    start: u32,
    end: u32,
}

/// A gathered, poll-armed send and all it points to.
struct Write {
    /// Held for `iovecs`.
    _chunks: Vec<Bytes>,
    /// Held for `header`.
    _iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// A core's ring.
pub(crate) struct Ring {
    ring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    sends: Vec<FastSend>,
    turn_buffers: Vec<Chunk>,
    /// By socket slot: each has at most one.
    writes: HashMap<u32, Box<Write>>,
    inbox: VecDeque<Completion>,
    /// The last call handed out as many as one does.
    may_have_more: bool,
    failed_sends: Vec<Completion>,
    /// Another core rang since the last [`Ring::submit`]. It does so once, so whoever waits must know.
    rung: bool,
    /// Requests that will still complete, fast sends not counted.
    in_flight: usize,
    /// Times the submission queue was full.
    pub(crate) full: u64,
    /// Times the completion queue overflowed.
    pub(crate) overflows: u64,
    /// Times the kernel had no memory to take what was queued, not yet counted by the core.
    pub(crate) starved: u64,
    #[cfg(test)]
    faults: Option<&'static Faults>,
    /// User data of requests that are to fail, and with what.
    #[cfg(test)]
    failing: Vec<(u64, i32)>,
}

/// After this time the kernel is asked again to take what is queued, if it had no memory for that.
const MEMORY_PAUSE: Duration = Duration::from_millis(1);
/// Most chunks of one write.
pub(crate) const CHUNKS_MAX: usize = 64;

impl Ring {
    /// Makes the ring and its buffers. Must be called on the thread that will use it (`SINGLE_ISSUER`).
    pub(crate) fn new(settings: &RingSettings) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(settings.completions)
            .build(settings.submissions)?;
        let buffers = Buffers::new(settings.buffers, settings.buffer_bytes);
        // SAFETY: `Drop` ends every request and drops the ring before it frees the buffers; if it cannot, it
        // leaks them. Should this fail, the kernel has not got them.
        unsafe { buffers.register(&ring) }?;
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            buffers: ManuallyDrop::new(buffers),
            sends: Vec::new(),
            turn_buffers: Vec::new(),
            writes: HashMap::new(),
            inbox: VecDeque::new(),
            may_have_more: false,
            failed_sends: Vec::new(),
            rung: false,
            in_flight: 0,
            full: 0,
            overflows: 0,
            starved: 0,
            #[cfg(test)]
            faults: settings.faults,
            #[cfg(test)]
            failing: Vec::new(),
        })
    }

    /// Which operations the kernel has, asked after a submit of nothing: what forbids one would forbid the other.
    pub(crate) fn probe(&self) -> io::Result<Probe> {
        let submitter = self.ring.submitter();
        submitter.submit()?;
        let mut probe = Probe::new();
        submitter.register_probe(&mut probe)?;
        Ok(probe)
    }

    /// The descriptor other cores ring.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// The receive buffers.
    pub(crate) fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// Keeps `bytes` until the sends made from it are done.
    pub(crate) fn keep(&mut self, bytes: Chunk) -> TurnBuffer {
        self.turn_buffers.push(bytes);
        TurnBuffer(self.turn_buffers.len() as u32 - 1)
    }

    /// Whether one more fast send fits without submitting first.
    pub(crate) fn has_room(&mut self) -> bool {
        let has_room = self.sends.len() < (1 << 24) - 1 && !self.ring.submission().is_full();
        self.full += u64::from(!has_room);
        has_room
    }

    /// A send of a range of a turn buffer that ends inside the next submit. A full success is silent;
    /// anything else is among [`Ring::settle`]'s results. At most one per socket between two settles.
    pub(crate) fn send(&mut self, fd: RawFd, slot: u32, buffer: TurnBuffer, start: u32, end: u32) {
        debug_assert!(start < end);
        let bytes = &self.turn_buffers[buffer.0 as usize][start as usize..end as usize];
        let (len, flags) = (bytes.len(), Flags::SKIP_SUCCESS);
        #[cfg(test)]
        let (len, flags) = match self.faults.and_then(|faults| faults.bytes(Op::Send)) {
            Some(cut) => (len.min(cut), Flags::empty()),
            None => (len, flags),
        };
        let entry = opcode::Send::new(Fd(fd), bytes.as_ptr(), len as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(flags)
            .user_data(user_data(Op::Send, self.sends.len() as u32, slot));
        self.sends.push(FastSend { buffer, start, end });
        // SAFETY: the bytes stay in `turn_buffers` until the submission queue is empty (`settle`), and
        // MSG_DONTWAIT makes the request end inside the submit that empties it.
        unsafe { self.push(&entry) };
    }

    /// A gathered send of `chunks` (at most [`CHUNKS_MAX`]); completes as [`Op::Write`] with the bytes sent. It
    /// waits until the socket takes them all, or, if `wait` is false, takes what the socket takes now.
    ///
    /// # Panics
    /// If the socket has one in flight already.
    pub(crate) fn write<'a>(
        &mut self,
        fd: RawFd,
        slot: u32,
        chunks: impl Iterator<Item = &'a Bytes>,
        wait: bool,
    ) {
        let chunks: Vec<Bytes> = chunks.take(CHUNKS_MAX).cloned().collect();
        let iovecs: Vec<_> = chunks
            .iter()
            .map(|c| libc::iovec { iov_base: c.as_ptr().cast_mut().cast(), iov_len: c.len() })
            .collect();
        #[cfg(test)]
        let iovecs = match self.faults.and_then(|faults| faults.bytes(Op::Write)) {
            Some(mut cut) => iovecs
                .into_iter()
                .map(|iovec| {
                    let iov_len = iovec.iov_len.min(cut);
                    cut -= iov_len;
                    libc::iovec { iov_len, ..iovec }
                })
                .collect(),
            None => iovecs,
        };
        // SAFETY: all zero is a valid msghdr (null pointers, no lengths).
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = iovecs.as_ptr().cast_mut();
        header.msg_iovlen = iovecs.len() as _;
        let write = Box::new(Write { _chunks: chunks, _iovecs: iovecs, header });
        let entry = opcode::SendMsg::new(Fd(fd), &raw const write.header)
            .flags((libc::MSG_NOSIGNAL | if wait { libc::MSG_WAITALL } else { libc::MSG_DONTWAIT }) as u32)
            .build();
        match self.writes.entry(slot) {
            Place::Vacant(place) => place.insert(write),
            Place::Occupied(_) => panic!("a socket has one write at a time"),
        };
        self.in_flight += 1;
        // SAFETY: header, vectors and bytes are owned by the boxed write (a stable address), which stays in
        // `writes` until its completion is reaped: none replaces it.
        unsafe { self.push(&entry.user_data(user_data(Op::Write, 0, slot))) };
    }

    /// Completes as [`Op::Write`] once the socket takes something. [`Ring::cancel_write`] ends it too.
    pub(crate) fn poll_writable(&mut self, fd: RawFd, slot: u32) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build();
        self.in_flight += 1;
        // SAFETY: names no memory.
        unsafe { self.push(&entry.user_data(user_data(Op::Write, 0, slot))) };
    }

    /// Receives once into a provided buffer.
    pub(crate) fn receive_once(&mut self, fd: RawFd, slot: u32) {
        let entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        let entry = entry.flags(Flags::BUFFER_SELECT).user_data(user_data(Op::Receive, 0, slot));
        self.in_flight += 1;
        // SAFETY: names no memory; the kernel picks a provided buffer.
        unsafe { self.push(&entry) };
    }

    /// Receives into provided buffers until cancelled.
    pub(crate) fn receive(&mut self, fd: RawFd, slot: u32) {
        let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data(user_data(Op::Receive, 0, slot));
        self.in_flight += 1;
        // SAFETY: as in `receive_once`.
        unsafe { self.push(&entry) };
    }

    /// Accepts until it fails; `listener` comes back as the completions' slot.
    pub(crate) fn accept(&mut self, fd: RawFd, listener: u32) {
        let entry = opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build();
        self.in_flight += 1;
        // SAFETY: names no memory.
        unsafe { self.push(&entry.user_data(user_data(Op::Accept, 0, listener))) };
    }

    /// Ends the receive of `slot`. Requests are found by their user data, which the kernel hashes: naming the
    /// descriptor instead would have it look at every socket there is.
    pub(crate) fn cancel_receive(&mut self, slot: u32) {
        let target = CancelBuilder::user_data(user_data(Op::Receive, 0, slot));
        self.cancel(target, slot);
    }

    /// Ends the write of `slot`.
    pub(crate) fn cancel_write(&mut self, slot: u32) {
        self.cancel(CancelBuilder::user_data(user_data(Op::Write, 0, slot)), slot);
    }

    fn cancel(&mut self, target: CancelBuilder, slot: u32) {
        let entry = opcode::AsyncCancel2::new(target).build().user_data(user_data(Op::Cancel, 0, slot));
        self.in_flight += 1;
        // SAFETY: names no memory.
        unsafe { self.push(&entry) };
    }

    /// Rings the core `core`, whose ring is `descriptor`. Completes, as [`Op::Doorbell`], only if that fails.
    pub(crate) fn ring_doorbell(&mut self, descriptor: RawFd, core: u16) {
        let entry = opcode::MsgRingData::new(Fd(descriptor), 0, user_data(Op::Doorbell, 0, 0), None).build();
        let entry = entry.flags(Flags::SKIP_SUCCESS).user_data(user_data(Op::Doorbell, 0, core.into()));
        // SAFETY: names no memory.
        unsafe { self.push(&entry) };
    }

    /// Completes as [`Op::Bell`] once `fd` is readable.
    pub(crate) fn poll_bell(&mut self, fd: RawFd) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).build();
        self.in_flight += 1;
        // SAFETY: names no memory.
        unsafe { self.push(&entry.user_data(user_data(Op::Bell, 0, 0))) };
    }

    /// Queues an entry, submitting first if the queue is full.
    ///
    /// # Safety
    /// What the entry points to must stay valid until its request is done.
    unsafe fn push(&mut self, entry: &Entry) {
        while self.ring.submission().is_full() {
            self.full += 1;
            self.enter(0, None);
        }
        #[cfg(test)]
        let entry = &self.faulty(entry);
        // SAFETY: this function's contract.
        unsafe { self.ring.submission().push(entry) }.expect("there is room");
    }

    /// The entry, or one that does nothing in its place, if it is to fail.
    #[cfg(test)]
    fn faulty(&mut self, entry: &Entry) -> Entry {
        let data = entry.get_user_data();
        match self.faults.and_then(|faults| faults.errno(Op::from_user_data(data))) {
            Some(errno) => {
                self.failing.push((data, errno));
                opcode::Nop::new().build().user_data(data)
            }
            None => entry.clone(),
        }
    }

    /// Submits what is queued and, if `wait`, sleeps until there is a completion, another core rings or `timeout` is
    /// over. What came since the last submit, when a full queue had to be emptied, counts.
    pub(crate) fn submit(&mut self, wait: bool, timeout: Option<Duration>) {
        let wait = wait && self.inbox.is_empty() && self.failed_sends.is_empty() && !self.rung;
        self.enter(usize::from(wait), timeout);
        self.enter_until_empty();
        self.rung = false;
    }

    /// Takes in what has completed since the last call, or was left by it, as far as one call hands it out. None is made
    /// if there is nothing: whether one was.
    pub(crate) fn take_some(&mut self) -> bool {
        let has_completed = self.ring.submission().taskrun() || !self.ring.completion().is_empty();
        let is_worth_it = self.may_have_more || has_completed;
        if is_worth_it {
            self.enter(0, None);
        }
        is_worth_it
    }

    /// The same, call after call, until nothing is left.
    pub(crate) fn take_more(&mut self) {
        let starved = self.starved;
        for _ in 0..MORE_MAX {
            // Without memory in the kernel it would rest between two calls, and the core with it.
            if !self.take_some() || self.starved != starved {
                break;
            }
        }
    }

    /// Whether among the completions that wait there is more than what our own cancels bring about, and the socket in
    /// this slot said.
    pub(crate) fn has_news(&self, beside: Option<u32>) -> bool {
        self.inbox.iter().any(|next| match next.op {
            Op::Receive => next.result != -libc::ECANCELED && Some(next.slot) != beside,
            op => op != Op::Cancel,
        })
    }

    fn enter_until_empty(&mut self) {
        while !self.ring.submission().is_empty() {
            self.enter(0, None);
        }
    }

    /// One system call and a drain of the completion queue. A submit the kernel cuts short (its completion
    /// backlog is full, memory is tight) leaves entries in the queue: the caller comes again.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) {
        match self.call(want, timeout).map_err(|error| error.raw_os_error()) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            // The kernel is short of memory for a request. Nothing else can be done here before it has some, but others
            // can give some back.
            Err(Some(libc::EAGAIN | libc::ENOMEM)) => {
                self.starved += 1;
                std::thread::sleep(MEMORY_PAUSE);
            }
            Err(error) => panic!("io_uring_enter failed for good: errno {error:?}"),
        }
        let before = self.inbox.len();
        self.reap();
        self.may_have_more = self.inbox.len() >= before + AT_A_TIME;
    }

    fn call(&self, want: usize, timeout: Option<Duration>) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(errno) = self.faults.and_then(Faults::enter) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        match timeout {
            Some(timeout) if want > 0 => {
                let timespec = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&timespec))
            }
            _ => self.ring.submit_and_wait(want),
        }
    }

    /// Moves completions to the inbox until queue and backlog are empty.
    fn reap(&mut self) {
        loop {
            let Self { ring, writes, inbox, failed_sends, rung, in_flight, .. } = self;
            for entry in ring.completion() {
                let data = entry.user_data();
                let result = entry.result();
                #[cfg(test)]
                let result = match self.failing.iter().position(|(failing, _)| *failing == data) {
                    Some(at) => -self.failing.remove(at).1,
                    None => result,
                };
                let completion = Completion {
                    op: Op::from_user_data(data),
                    index: (data >> 32) as u32 & 0xff_ffff,
                    slot: data as u32,
                    result,
                    flags: entry.flags(),
                };
                match completion.op {
                    Op::Send => {
                        failed_sends.push(completion);
                        continue;
                    }
                    Op::Doorbell => {
                        // One of ours that was not heard, or another core's.
                        if completion.result < 0 {
                            inbox.push_back(completion);
                        } else {
                            *rung = true;
                        }
                        continue;
                    }
                    Op::Write => drop(writes.remove(&completion.slot)),
                    _ => {}
                }
                *in_flight -= usize::from(!completion.more());
                inbox.push_back(completion);
            }
            if !ring.submission().cq_overflow() {
                return;
            }
            // Flushes the kernel's backlog into the queue just emptied.
            self.overflows += 1;
            let _ = self.ring.submit_and_wait(0);
        }
    }

    /// After a submit: what fast sends left over, in the order they were made; then lets the turn's buffers
    /// go. Until this is called, no socket may get a second fast send.
    pub(crate) fn settle(&mut self, mut each: impl FnMut(Short)) {
        // Nothing that is let go here may still be about to be read.
        self.enter_until_empty();
        for completion in self.failed_sends.drain(..) {
            let send = &self.sends[completion.index as usize];
            let sent = completion.result.max(0) as u32;
            let rest = self.turn_buffers[send.buffer.0 as usize]
                .slice((send.start + sent) as usize..send.end as usize);
            let failed = completion.result < 0
                && !matches!(-completion.result, libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM);
            each(Short { slot: completion.slot, rest, failed });
        }
        self.sends.clear();
        self.turn_buffers.clear();
    }

    /// The next completion.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        self.inbox.pop_front()
    }

    /// How many completions wait to be handled.
    pub(crate) fn completions(&self) -> usize {
        self.inbox.len()
    }
}

/// Takes the descriptor that an accept reported out of its completion.
///
/// # Errors
/// What the accept failed with; `EBADF` if the descriptor was taken before.
pub(crate) fn accepted(completion: &mut Completion) -> Result<OwnedFd, io::Error> {
    assert_eq!(completion.op, Op::Accept, "only accepts have descriptors");
    let result = std::mem::replace(&mut completion.result, -libc::EBADF);
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: a successful accept hands a new descriptor to the process. Its completion is the only one to name it and
    // cannot be copied, and it has just forgotten it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Bounded: what cannot be ended is leaked rather than freed under the kernel's hands.
        for _ in 0..100 {
            self.reap();
            self.inbox.clear();
            if self.in_flight == 0 {
                break;
            }
            let _ = self.ring.submitter().register_sync_cancel(Some(Timespec::new()), CancelBuilder::any());
            let timespec = Timespec::from(Duration::from_millis(10));
            let _ = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec));
        }
        if self.in_flight == 0 && self.ring.submission().is_empty() {
            // SAFETY: neither field is used again, and the ring goes first.
            unsafe {
                ManuallyDrop::drop(&mut self.ring);
                ManuallyDrop::drop(&mut self.buffers);
            }
        } else {
            std::mem::take(&mut self.writes).into_iter().for_each(std::mem::forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    const TINY: RingSettings =
        RingSettings { submissions: 8, completions: 16, buffers: 8, buffer_bytes: 256, faults: None };

    fn pairs(count: usize) -> Vec<(UnixStream, UnixStream)> {
        (0..count).map(|_| UnixStream::pair().unwrap()).collect()
    }

    /// 40 receives become ready at once: 8 find a buffer, 32 do not, and 40 completions meet a queue of 16.
    #[test]
    fn an_overflowing_completion_queue_and_an_empty_buffer_ring_lose_nothing() {
        let mut ring = Ring::new(&TINY).unwrap();
        let mut pairs = pairs(40);
        for (slot, (_, receiver)) in pairs.iter().enumerate() {
            ring.receive_once(receiver.as_raw_fd(), slot as u32);
        }
        ring.submit(false, None);
        for (sender, _) in &mut pairs {
            sender.write_all(b"x").unwrap();
        }
        let mut received = [false; 40];
        let mut exhausted = 0;
        while received.contains(&false) {
            ring.submit(true, Some(Duration::from_secs(20)));
            assert!(ring.completions() > 0, "all forty complete");
            while let Some(completion) = ring.next() {
                let slot = completion.slot;
                if let Some(id) = completion.buffer() {
                    let buffer = ring.buffers().lend(id, completion.result as usize);
                    assert_eq!(&*buffer, b"x");
                    assert!(!std::mem::replace(&mut received[slot as usize], true));
                    ring.buffers().recycle(buffer);
                } else {
                    assert_eq!(completion.result, -libc::ENOBUFS);
                    exhausted += 1;
                    ring.receive_once(pairs[slot as usize].1.as_raw_fd(), slot);
                }
            }
        }
        assert!(exhausted >= 32, "eight buffers for forty sockets");
        assert!(ring.overflows > 0, "forty completions do not fit into sixteen");
    }

    /// More sends than the submission queue has room for; every one falls short and says by how much.
    #[test]
    fn short_sends_report_their_rest_in_order() {
        let mut ring = Ring::new(&TINY).unwrap();
        let pairs = pairs(20);
        let bytes = Bytes::from(vec![7; 4 << 20]);
        let buffer = ring.keep(bytes.clone().into());
        for (slot, (sender, _)) in pairs.iter().enumerate() {
            ring.send(sender.as_raw_fd(), slot as u32, buffer, 0, bytes.len() as u32);
        }
        ring.submit(false, None);
        let mut shorts = Vec::new();
        ring.settle(|short| shorts.push((short.slot, short.rest.len(), short.failed)));
        assert_eq!(shorts.iter().map(|(slot, ..)| *slot).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        assert!(shorts.iter().all(|(_, rest, failed)| *rest > 0 && *rest < bytes.len() && !failed));
    }

    /// A full queue is submitted before the core waits; that another core had rung was read with it and forgotten, and
    /// the core slept on what it was rung for: nobody rings twice.
    #[test]
    fn who_was_rung_while_the_queue_was_full_does_not_wait() {
        let (mut ring, mut other) = (Ring::new(&TINY).unwrap(), Ring::new(&TINY).unwrap());
        let pairs = pairs(9);
        let (eight, ninth) = pairs.split_at(8);
        for (slot, (_, receiver)) in (0..).zip(eight) {
            ring.receive_once(receiver.as_raw_fd(), slot);
        }
        other.ring_doorbell(ring.descriptor(), 0);
        other.submit(false, None);
        ring.receive_once(ninth[0].1.as_raw_fd(), 8);
        let (timeout, began) = (Duration::from_secs(20), Instant::now());
        ring.submit(true, Some(timeout));
        assert!(began.elapsed() < timeout, "it waited for somebody to ring again");
        // One ring is one waking.
        ring.submit(true, Some(Duration::from_millis(1)));
        assert!(!ring.rung && ring.completions() == 0);
    }

    #[test]
    fn a_send_to_a_closed_peer_fails_for_good() {
        let mut ring = Ring::new(&TINY).unwrap();
        let (sender, receiver) = UnixStream::pair().unwrap();
        drop(receiver);
        let buffer = ring.keep(Bytes::from_static(b"x").into());
        ring.send(sender.as_raw_fd(), 0, buffer, 0, 1);
        ring.submit(false, None);
        let mut failed = 0;
        ring.settle(|short| failed += u32::from(short.failed));
        assert_eq!(failed, 1);
    }

    /// What it was sending from was let go while the kernel was still to read it.
    #[test]
    fn nothing_that_is_queued_is_let_go() {
        let mut ring = Ring::new(&TINY).unwrap();
        let (sender, mut receiver) = UnixStream::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        let buffer = ring.keep(Bytes::from(vec![7; 1000]).into());
        ring.send(sender.as_raw_fd(), 0, buffer, 0, 1000);
        ring.settle(|short| panic!("{short:?}"));
        let mut received = [0; 1001];
        assert_eq!(receiver.read(&mut received).unwrap(), 1000, "it is sent by then");
        assert!(received[..1000].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_descriptor_is_taken_once() {
        let mut ring = Ring::new(&TINY).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        ring.accept(listener.as_raw_fd(), 0);
        ring.submit(false, None);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ring.submit(true, Some(Duration::from_secs(20)));
        let mut completion = ring.next().unwrap();
        accepted(&mut completion).unwrap();
        assert_eq!(accepted(&mut completion).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_ring_with_requests_in_flight_is_dropped_cleanly() {
        let mut ring = Ring::new(&TINY).unwrap();
        let (sender, receiver) = UnixStream::pair().unwrap();
        ring.receive(receiver.as_raw_fd(), 0);
        ring.write(sender.as_raw_fd(), 1, [Bytes::from(vec![1; 8 << 20])].iter(), true);
        ring.submit(false, None);
        assert!(ring.in_flight > 0);
        drop(ring);
        drop((sender, receiver));
    }
}
