//! The HTTP client of one handler: its pool of connections, HTTP/1.1 or HTTP/2, TLS. Redirects are not followed.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::StartError;
use crate::https;
use crate::memory::Turn;
use crate::upstream::{HttpVersion, UpstreamSettings};

/// For one address: until it has taken the connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// An idle connection is kept this long: less than the 5 seconds of Node's servers, so that none is used just when
/// its server closes it.
const IDLE: Duration = Duration::from_secs(4);
/// A silent HTTP/2 connection is asked this often whether it is there, and given up when it says nothing as long.
const PING: Duration = Duration::from_secs(10);

/// A client for one handler.
#[derive(Debug, Clone)]
pub(crate) struct Client(legacy::Client<HttpsConnector<HttpConnector>, EventBody>);

/// Why there is no answer; for the operator.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// Nobody there, or gone before the answer. Another attempt may find somebody.
    Unreachable(String),
    /// What is there does not speak HTTP.
    Nonsense(String),
}

impl Client {
    /// For a handler at `uri`.
    pub(crate) fn new(settings: &UpstreamSettings, uri: &Uri) -> Result<Self, StartError> {
        let is_https = uri.scheme_str() == Some("https");
        let roots = if is_https { https::system_roots() } else { rustls::RootCertStore::empty() };
        let tls = https::tls(roots, settings.ca_file.as_deref())?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = match settings.http {
            HttpVersion::Auto => connector.enable_all_versions().wrap_connector(tcp),
            HttpVersion::Http1 => connector.enable_http1().wrap_connector(tcp),
            HttpVersion::Http2 => connector.enable_http2().wrap_connector(tcp),
        };
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.concurrency_max)
            .http2_only(settings.http == HttpVersion::Http2)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request; the head of its answer.
    pub(crate) async fn send(&self, request: Request<EventBody>) -> Result<Response<Incoming>, SendFault> {
        self.0.request(request).await.map_err(|error| {
            let is_nonsense = std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<hyper::Error>())
                .is_some_and(hyper::Error::is_parse);
            let text = https::whole(&error);
            if is_nonsense { SendFault::Nonsense(text) } else { SendFault::Unreachable(text) }
        })
    }
}

/// The body of a request. It holds the event's turn until the connection begins to take it, or it is dropped.
#[derive(Debug, Default)]
pub(crate) struct EventBody {
    data: Bytes,
    turn: Option<Turn>,
}

impl EventBody {
    /// Of an event.
    pub(crate) fn new(data: Bytes, turn: Option<Turn>) -> Self {
        Self { data, turn }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.turn = None;
        let data = std::mem::take(&mut self.data);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}
