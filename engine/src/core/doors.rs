//! How a core opens and closes its doors: accepting sockets, and stopping.
//!
//! What must stay true: an accept that failed for another reason than its one connection is not tried again at once,
//! or it would spin; clients cannot take the last descriptors of the process; once the server stops, nothing more
//! comes in, and everybody is told.

use crate::core::ring::{Completion, accepted};
use crate::core::socket::{Kind, Socket, Tls};
use crate::core::turn::Core;
use crate::net::accept::Door;
use crate::net::tls::TlsStream;
use crate::net::{Listener, Scheme};
use ringhub_hub::Input;
use ringhub_protocol::ws::CloseCode;
use ringhub_protocol::ws::close::write_close;
use std::os::fd::{AsRawFd, RawFd};

/// Pause after an accept that failed for another reason than its one connection, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Lacks of the process and of the system: of descriptors, of memory.
const LACKS: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
/// What concerns one connection only, or nothing: it was gone before it was taken, or its network was (accept(2),
/// "Error handling").
const PASSING: [i32; 13] = [
    libc::EINTR,
    libc::EAGAIN,
    libc::ECANCELED,
    libc::ECONNABORTED,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::ENONET,
    libc::ETIMEDOUT,
];

/// Descriptors that clients do not get: half of them are for REST calls too, half for the admin listener only, and all
/// for what the server opens itself. Of a process that may have few, it is an eighth.
const FILES_KEPT: u64 = 64;

/// Whom a socket may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Everybody,
    /// HTTP, but no clients: a WebSocket is answered 503.
    Calls,
    /// The admin listener; others are closed at once.
    Admin,
}

/// Whom a socket may serve, by its descriptor: the kernel gives the lowest number that is free, so the number says how
/// many are left.
fn room(fd: RawFd, files_max: u64) -> Room {
    let kept = FILES_KEPT.min(files_max / 8);
    match fd as u64 {
        fd if fd < files_max - kept => Room::Everybody,
        fd if fd < files_max - kept / 2 => Room::Calls,
        _ => Room::Admin,
    }
}

/// Sockets over the maximum of a core that are heard all the same: who asks for a WebSocket is answered 503 instead of
/// finding the connection gone, and application servers get on with their work. Still more are closed at once.
pub(super) const SURPLUS_MAX: usize = 1024;

impl Core {
    /// Whom a socket with this descriptor may serve.
    pub(crate) fn room(&self, fd: RawFd) -> Room {
        room(fd, self.settings.files_max)
    }

    /// Whether an accept is seen to as soon as it is there: that is no work, and the last descriptors are wanted back.
    pub(super) fn is_seen_to_at_once(&self, completion: &Completion) -> bool {
        let is_surplus =
            self.io.sockets.len() >= self.settings.sockets.sockets_max.saturating_add(SURPLUS_MAX);
        let fd = completion.result();
        fd < 0 || self.is_stopping() || is_surplus || self.room(fd) == Room::Admin
    }

    /// A listener has a socket, or could not make one.
    pub(super) fn accept(&mut self, mut completion: Completion) {
        match accepted(&mut completion) {
            Ok(fd) => {
                let counters = &self.io.shared.counters;
                counters.accepts.add(1);
                if self.is_stopping() {
                    return;
                }
                let Door { listener, scheme, .. } = self.listeners[completion.slot as usize];
                let open = self.io.sockets.len();
                let sockets_max = self.settings.sockets.sockets_max;
                let surplus = open >= sockets_max;
                let is_kept = self.room(fd.as_raw_fd()) == Room::Admin && listener != Listener::Admin;
                if is_kept || open >= sockets_max.saturating_add(SURPLUS_MAX) {
                    counters.accepts_refused.add(1);
                } else {
                    let mut socket = Socket::new(fd, listener);
                    socket.surplus = surplus;
                    socket.kind = self.first_kind(&socket);
                    if scheme == Scheme::Tls {
                        let store = self.tls.as_ref().expect("checked at start");
                        socket.tls = Some(Box::new(Tls::new(TlsStream::new(store.current()))));
                    }
                    let key = self.io.adopt(socket);
                    let allowed = self.settings.sockets.head_deadline.as_millis() as u64;
                    self.io.deadlines.set(key.slot, self.now.after_ms(allowed));
                    self.io.arm(key);
                }
                if !completion.more() {
                    self.accept_at.push((completion.slot, self.now));
                }
            }
            Err(error) if !self.is_stopping() => {
                let errno = error.raw_os_error().unwrap_or_default();
                let counters = &self.io.shared.counters;
                let lacks = LACKS.contains(&errno);
                if lacks { &counters.accepts_out_of_files } else { &counters.accepts_failed }.add(1);
                let pause = if PASSING.contains(&errno) { 0 } else { ACCEPT_PAUSE_MS };
                let at = self.now.after_ms(pause);
                if !completion.more() {
                    self.accept_at.push((completion.slot, at));
                }
            }
            Err(_) => {}
        }
    }

    /// Accepts again where that has ended and its pause is over.
    pub(crate) fn arm_listeners(&mut self) {
        if self.is_stopping() {
            return self.accept_at.clear();
        }
        let Self { accept_at, listeners, io, now, .. } = self;
        accept_at.retain(|&(listener, at)| {
            if at <= *now {
                io.ring.accept(listeners[listener as usize].socket.as_raw_fd(), listener);
            }
            at > *now
        });
    }

    /// Whether the server is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Does what the server was told: drains, or stops.
    pub(crate) fn heed(&mut self) {
        if self.is_stopping() {
            return;
        }
        if self.mesh.stopping() {
            self.stop();
        } else if self.mesh.leaving() && self.drain.is_none() {
            self.begin_drain();
        }
    }

    /// Stops accepting, tells every client, and gives them until the deadline.
    pub(crate) fn stop(&mut self) {
        let allowed = self.settings.stop_deadline.as_millis() as u64;
        self.stopping = Some(self.now.after_ms(allowed));
        self.drain = None;
        self.accept_at.clear();
        self.empty_the_doorway();
        for door in &self.listeners {
            // Refuses what comes from now on; the descriptor lives until the core ends.
            let _ = socket2::SockRef::from(&door.socket).shutdown(std::net::Shutdown::Both);
        }
        for hub in 0..self.hubs.slots.len() as u32 {
            self.feed(hub, Input::Stop);
        }
        for key in self.io.sockets.keys() {
            let has_unsent = self.io.has_unsent(key);
            let Some(socket) = self.io.sockets.get(key) else { continue };
            match &socket.kind {
                Kind::Http(http) if http.handler.is_busy() => {}
                // It has its answer, and may not have taken all of it.
                Kind::Http(_) if has_unsent => self.io.finish(key),
                Kind::Proxy | Kind::Head | Kind::Http(_) | Kind::Opening => self.io.kill(key),
                Kind::Echo(_) => {
                    let mut out = Vec::new();
                    write_close(&mut out, Some(CloseCode::GOING_AWAY), "The server is shutting down.");
                    self.io.send(key, out.into());
                    self.io.finish(key);
                }
                Kind::Client(_) | Kind::Closing(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_kept() {
        for (files_max, calls, admin) in [(20_000, 19_936, 19_968), (64, 56, 60), (8, 7, 8)] {
            assert_eq!(room(calls - 1, files_max), Room::Everybody);
            assert_eq!(room(calls, files_max), Room::Calls);
            assert_eq!(room(admin - 1, files_max), Room::Calls);
            assert_eq!(room(admin, files_max), Room::Admin);
        }
        assert_eq!(room(RawFd::MAX, u64::MAX), Room::Everybody, "without a limit");
    }
}
