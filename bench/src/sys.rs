//! The few system calls that no safe crate in our tree offers. All unsafe code of this crate is here.

use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

/// CPUs this thread may run on, ascending.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live cpu_set_t and the size given is its own; 0 means this thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: CPU_ISSET reads the bit of an index below CPU_SETSIZE, which the range guarantees.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Pins this thread, and every process it starts from now on, to `cpus`.
pub(crate) fn pin_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no CPU {cpu}")));
        }
        // SAFETY: the index is below CPU_SETSIZE, checked above.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is a live cpu_set_t and the size given is its own; 0 means this thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From now on this thread runs as soon as it wakes, whoever else would have its CPU; false if that is not allowed
/// (`CAP_SYS_NICE`, `RLIMIT_RTPRIO`): then it may wait for others for some milliseconds.
pub(crate) fn be_prompt() -> bool {
    let least = libc::sched_param { sched_priority: 1 };
    // SAFETY: `least` is a live sched_param that the kernel only reads; 0 means this thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const least) == 0 }
}

/// CPU time this thread has used, user and system, ns.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; the clock exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit that the kernel fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a live rlimit that the kernel only reads.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(limit.rlim_cur),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks a process to end as Ctrl-C does; for a child that must still write something.
pub(crate) fn interrupt(pid: u32) -> io::Result<()> {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return Err(io::ErrorKind::InvalidInput.into()) };
    // SAFETY: takes two integers and touches no memory of ours.
    match unsafe { libc::kill(pid, libc::SIGINT) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The cheapest known way to send one buffer to many sockets: one request per socket, all of them
/// completed inside the submit, nothing posted on success (reference engine-feasibility §7.2).
pub(crate) struct BatchSender {
    ring: IoUring,
}

impl BatchSender {
    /// A ring with room for `sockets` requests in one submission, at most 4,096.
    pub(crate) fn new(sockets: usize) -> io::Result<Self> {
        let entries = sockets.next_power_of_two().clamp(8, 4_096) as u32;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(entries * 2)
            .build(entries)?;
        Ok(Self { ring })
    }

    /// Sends `bytes` once to each socket. Returns how many sends came up short: with receivers that
    /// keep up it is 0, and anything else spoils the figure.
    pub(crate) fn send_to_all<S: AsRawFd>(&mut self, sockets: &[S], bytes: &[u8]) -> io::Result<usize> {
        let mut short = 0;
        let chunk_max = self.ring.params().sq_entries() as usize;
        for chunk in sockets.chunks(chunk_max) {
            for socket in chunk {
                let request =
                    opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
                        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                        .build()
                        .flags(squeue::Flags::SKIP_SUCCESS);
                // SAFETY: DONTWAIT ends every request inside the submit below, and `bytes` and the
                // sockets are borrowed past it, so the kernel never sees a dead pointer or number.
                unsafe { self.ring.submission().push(&request) }
                    .map_err(|_| io::Error::other("submission queue full although sized for the chunk"))?;
            }
            // Returning early with requests still queued would leave `bytes` dangling in the ring, so
            // an interrupted submit is repeated until the queue is empty.
            while !self.ring.submission().is_empty() {
                match self.ring.submit() {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The ring is unusable; the process ends with it, before it could submit again.
                    Err(error) => panic!("io_uring submit: {error}"),
                }
            }
            short += self.ring.completion().count();
        }
        Ok(short)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn batch_reaches_every_socket_once() {
        let (near, mut far): (Vec<_>, Vec<_>) = (0..20).map(|_| UnixStream::pair().unwrap()).unzip();
        // Eight entries for twenty sockets: three submissions.
        let mut sender = BatchSender::new(8).unwrap();
        assert_eq!(sender.send_to_all(&near, b"once").unwrap(), 0);
        drop(near);
        for socket in &mut far {
            let mut got = Vec::new();
            socket.read_to_end(&mut got).unwrap();
            assert_eq!(got, b"once");
        }
    }

    #[test]
    fn pinning_narrows_what_is_allowed() {
        let before = allowed_cpus().unwrap();
        pin_to(&before[..1]).unwrap();
        assert_eq!(allowed_cpus().unwrap(), before[..1]);
        assert!(pin_to(&[usize::MAX]).is_err());
    }

    #[test]
    fn thread_clock_advances_with_work() {
        let start = thread_cpu_ns();
        let mut sum = 0u64;
        while thread_cpu_ns() - start < 1_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}
