//! Sockets: accepting, upgrading, WebSocket clients, HTTP.
//!
//! HTTP is a protocol on the same sockets as WebSocket: a [`HttpHandler`] is fed bytes and gives bytes back;
//! the core does all I/O. This module holds the boundary, so that the codec knows nothing of rings.

pub(crate) mod accept;
mod address;
pub(crate) mod client;
mod echo;
pub(crate) mod gate;
pub(crate) mod http;
mod introduce;
pub(crate) mod patience;
pub(crate) mod peer;
pub(crate) mod request;
pub(crate) mod tls;

pub(crate) use address::{Address, Scheme};

use crate::core::counters::ConnectionPage;
use crate::net::patience::Stage;
use crate::net::peer::Via;
use bytes::Bytes;
use ringhub_hub::{Answer, Content, CoreId};
use ringhub_protocol::name::HubName;
use ringhub_protocol::pubsub::{Data, DataType, Form, Metadata};
use ringhub_protocol::rest::Operation;

/// Which listener a socket came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Clients and REST.
    Service,
    /// Metrics, lists, the page.
    Admin,
}

/// Makes the HTTP side of sockets. One for all cores.
pub(crate) trait HttpFactory: Send + Sync {
    /// The handler of one socket, made on the core that owns the socket and never leaving it.
    fn open(&self, core: CoreId, listener: Listener, via: Via) -> Box<dyn HttpHandler>;
}

/// One HTTP connection without I/O.
///
/// Its requests are handled one after another: at most one [`HttpCall`] waits for its answer at any time.
pub(crate) trait HttpHandler {
    /// Takes bytes from the peer, any split. The first request's head has passed the strict check already;
    /// later ones are the handler's to check.
    fn feed(&mut self, bytes: &[u8]);

    /// Goes as far as it can; called after every feed and answer. `now_unix`: seconds since 1970.
    fn poll(&mut self, now_unix: u64) -> HttpProgress;

    /// The answer to the call [`HttpHandler::poll`] gave out.
    fn answer(&mut self, answer: HttpAnswer);

    /// Whether it wants no more bytes for now (its input buffer is at its bound).
    fn is_full(&self) -> bool;

    /// How far the conversation is; decides how long it may stay there.
    fn stage(&self) -> Stage;

    /// Bytes it holds of what has come and of what is to be sent; ending it gives them back.
    fn held_bytes(&self) -> usize {
        self.stage().body_bytes as usize
    }

    /// Whether a request is in progress: received in part or not answered yet. An idle connection is closed
    /// after a while and at once when the server stops.
    fn is_busy(&self) -> bool {
        self.stage().awaits != patience::Awaits::Request
    }
}

/// What became of polling.
#[derive(Debug, Default)]
pub(crate) struct HttpProgress {
    /// Bytes for the peer, in order.
    pub(crate) output: Bytes,
    /// How many answers of the service in it have a status from 400 on.
    pub(crate) refusals: u64,
    /// A call to carry out.
    pub(crate) call: Option<HttpCall>,
    /// Close after the output is sent.
    pub(crate) close: bool,
    /// The next request is a WebSocket upgrade: everything not yet read, its head first. The handler is
    /// dropped when the output is sent.
    pub(crate) upgrade: Option<Vec<u8>>,
    /// What of the peer's the output refuses and ends the connection for.
    pub(crate) refused: Option<Refused>,
}

/// What a connection is ended for, by an answer of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A request's head is at fault.
    Head,
    /// A request's body is.
    Body,
    /// A WebSocket is wanted where there are none.
    Upgrade,
}

/// Something only cores can answer.
#[derive(Debug)]
pub(crate) enum HttpCall {
    /// A data-plane call.
    Operation {
        /// The hub.
        hub: HubName,
        /// What to do.
        operation: Operation,
        /// The body of a send.
        body: Option<OwnedContent>,
    },
    /// The list of connections, at most so many rows a core.
    Connections(usize),
}

/// Its answer.
#[derive(Debug)]
pub(crate) enum HttpAnswer {
    /// To [`HttpCall::Operation`].
    Operation(Answer),
    /// To [`HttpCall::Connections`]: every core's part.
    Connections(Vec<ConnectionPage>),
    /// To an operation in a hub that would be one too many.
    HubsFull,
}

/// The body of a send, owning its bytes.
#[derive(Debug, Clone)]
pub(crate) struct OwnedContent {
    /// What it is.
    pub(crate) data_type: DataType,
    /// How it is written.
    pub(crate) form: Form,
    /// The bytes in that form.
    pub(crate) bytes: Bytes,
    /// Travels with it.
    pub(crate) metadata: Option<Metadata>,
}

impl OwnedContent {
    /// Borrows it.
    pub(crate) fn content(&self) -> Content<'_> {
        let data = Data::from_parts(self.data_type, self.form, &self.bytes);
        Content { data, metadata: self.metadata.as_ref(), until: None }
    }
}
