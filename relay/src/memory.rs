//! What is remembered of a connection from event to event, behind [`Caller::memory`]: the number of its next
//! event, its state, its cookies, its signature, and in which order its events leave.

use hyper::Uri;
use hyper::header::HeaderValue;
use ringhub_hub::event::{Caller, EventSubject};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::cookies::Jar;
use crate::order::Order;
use crate::signature::{Signature, Signer};

/// Largest connection state, in bytes (§4.4).
pub(crate) const STATE_BYTES_MAX: usize = 8 * 1024;

/// One connection's. The lock is held for a few instructions, and on the relay's thread only.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Events so far that are not `connect`.
    events: u64,
    order: Order,
    state: Option<HeaderValue>,
    signature: Option<Signature>,
    cookies: Jar,
}

/// An event's place in the order of its connection; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Turn {
    memory: Arc<Memory>,
    number: u64,
}

/// What an event has from its connection the moment it comes.
#[derive(Debug)]
pub(crate) struct Begun {
    /// `ce-id`.
    pub(crate) id: u64,
    /// `ce-connectionState`.
    pub(crate) state: Option<HeaderValue>,
    /// For who sends it.
    pub(crate) turn: Turn,
}

impl Memory {
    /// The memory of a connection.
    pub(crate) fn of(caller: &Caller) -> Arc<Self> {
        let memory = caller.memory.get_or_init(|| Arc::new(Self::default()));
        Arc::clone(memory).downcast().expect("nobody else remembers anything of a caller")
    }

    /// An event comes.
    pub(crate) fn begin(self: &Arc<Self>, subject: &EventSubject) -> Begun {
        let mut inner = self.lock();
        // §3: 0 for `connect`, whether there is one or not.
        let id = match subject {
            EventSubject::Connect => 0,
            _ => {
                inner.events += 1;
                inner.events
            }
        };
        let (state, number) = (inner.state.clone(), inner.order.take());
        drop(inner);
        Begun { id, state, turn: Turn { memory: self.clone(), number } }
    }

    /// From now on this is the connection's state; empty for none.
    pub(crate) fn set_state(&self, state: HeaderValue) {
        self.lock().state = (!state.is_empty()).then_some(state);
    }

    /// `ce-signature`.
    pub(crate) fn signature(&self, signer: &Signer, connection_id: &str) -> HeaderValue {
        signer.sign(connection_id, &mut self.lock().signature)
    }

    /// `Cookie` for a request to `uri`.
    pub(crate) fn cookies(&self, uri: &Uri, now_unix: u64) -> Option<HeaderValue> {
        self.lock().cookies.header(uri, now_unix)
    }

    /// Takes a `Set-Cookie` of an answer from `uri`.
    pub(crate) fn set_cookie(&self, uri: &Uri, value: &[u8], now_unix: u64) {
        self.lock().cookies.set(uri, value, now_unix);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock could only leave a cookie or a turn behind.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether it may be sent at once.
    pub(crate) fn is_first(&self) -> bool {
        self.memory.lock().order.is_first(self.number)
    }

    /// Waits until it may be sent.
    pub(crate) async fn comes(&self) {
        poll_fn(|cx| self.memory.lock().order.poll_first(self.number, cx.waker())).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.memory.lock().order.give_up(self.number);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}
