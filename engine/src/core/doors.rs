//! How a core opens and closes its doors: accepting sockets, and stopping.
//!
//! What must stay true: an accept that failed for lack of descriptors or memory is not tried again at once, or it
//! would spin; once the server stops, nothing more comes in, and everybody is told.

use crate::core::ring::{Completion, accepted};
use crate::core::socket::{Kind, Socket, Tls};
use crate::core::turn::Core;
use crate::net::accept::Door;
use crate::net::http::write_error;
use crate::net::tls::TlsStream;
use crate::net::{Listener, Scheme};
use ringhub_hub::Input;
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::ws::CloseCode;
use ringhub_protocol::ws::close::write_close;
use std::os::fd::AsRawFd;

/// Sockets beyond the maximum of a core: those of the admin listener, and those that are being answered 503. One more
/// is closed without a word, as it is if it speaks TLS: a handshake is much for so little.
const SPARE_SOCKETS: usize = 64;
/// Pause after an accept that failed for lack of descriptors or memory, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

impl Core {
    /// A listener has a socket, or could not make one.
    pub(crate) fn accept(&mut self, completion: &Completion) {
        match accepted(completion) {
            Ok(fd) => {
                let counters = &self.io.shared.counters;
                counters.accepts.add(1);
                if self.is_stopping() {
                    return;
                }
                let Door { listener, scheme, .. } = self.listeners[completion.slot as usize];
                let (open, allowed) = (self.io.sockets.len(), self.settings.sockets.sockets_max);
                // Whoever looks after the server gets in when it is full.
                let is_full = open >= allowed + if listener == Listener::Admin { SPARE_SOCKETS } else { 0 };
                if is_full {
                    counters.accepts_refused.add(1);
                }
                if is_full && (scheme == Scheme::Tls || open >= allowed + SPARE_SOCKETS) {
                    drop(fd);
                } else if is_full {
                    self.turn_away(Socket::new(fd, listener));
                } else {
                    let mut socket = Socket::new(fd, listener);
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
                // Tried again at once, a lack of descriptors would spin.
                let lacks = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].map(Some);
                let at = if lacks.contains(&error.raw_os_error()) {
                    self.io.shared.counters.accepts_out_of_files.add(1);
                    self.now.after_ms(ACCEPT_PAUSE_MS)
                } else {
                    self.now
                };
                if !completion.more() {
                    self.accept_at.push((completion.slot, at));
                }
            }
            Err(_) => {}
        }
    }

    /// Answers 503 to a socket that is one too many, before it has asked for anything.
    fn turn_away(&mut self, socket: Socket) {
        let key = self.io.adopt(socket);
        let mut out = Vec::new();
        write_error(&mut out, &ErrorBody::new(ErrorCode::ServiceUnavailable, "The server is full."));
        self.io.send(key, out.into());
        self.io.finish(key);
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
        for door in &self.listeners {
            // Refuses what comes from now on; the descriptor lives until the core ends.
            let _ = socket2::SockRef::from(&door.socket).shutdown(std::net::Shutdown::Both);
        }
        for hub in 0..self.hubs.slots.len() as u32 {
            self.feed(hub, Input::Stop);
        }
        for key in self.io.sockets.keys() {
            let Some(socket) = self.io.sockets.get(key) else { continue };
            match &socket.kind {
                Kind::Http(handler) if handler.is_busy() => {}
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
