//! The HTTP client of one handler: its connections, HTTP/1.1 or HTTP/2, TLS. Redirects are not followed.
//!
//! A handler has one origin, so its idle HTTP/1.1 connections are a stack: the warmest is used first, and what is
//! not needed grows cold and is closed. Over HTTP/2 there is one connection for everything.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http2;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use crate::StartError;
use crate::headers::{self, Values};
use crate::http1::{self, Fault, Framing, Progress};
use crate::https::{self, whole};
use crate::lookup::Lookup;
use crate::memory::Turn;
use crate::upstream::{HttpVersion, UpstreamSettings};

/// Until a handler has taken a connection, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// An idle connection is kept this long: less than the 5 seconds of Node's servers, so that none is used just when
/// its server closes it.
const IDLE: Duration = Duration::from_secs(4);
/// What is passed over of an answer that nobody needs, in bytes: more costs more than another connection.
const PASSED_OVER_BYTES_MAX: usize = 64 * 1024;
/// It is waited for so long.
const PASSED_OVER_PATIENCE: Duration = Duration::from_secs(1);
/// A silent HTTP/2 connection is asked this often whether it is there, and given up when it says nothing as long.
const PING: Duration = Duration::from_secs(10);

/// A client for one handler.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: HttpsConnector<HttpConnector<Lookup>>,
    http: HttpVersion,
    is_https: bool,
    /// The value of `Host`.
    host: Box<str>,
    idle_max: usize,
    idle: Mutex<Idle>,
    http2: Mutex<Option<http2::SendRequest<EventBody>>>,
    /// Held while a connection is made that may turn out to be one for everything; in it, when and why the last one
    /// was not made.
    connecting: tokio::sync::Mutex<Option<(Instant, String)>>,
    /// The last connection that could have become HTTP/2 did not.
    chose_http1: AtomicBool,
}

#[derive(Debug, Default)]
struct Idle {
    /// The coldest first.
    connections: Vec<(Box<Http1>, Instant)>,
    /// Somebody closes those that grew cold.
    is_watched: bool,
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Http1 = http1::Connection<Stream>;

/// A request.
pub(crate) struct Outgoing<'a, H> {
    pub(crate) method: Method,
    pub(crate) uri: &'a Uri,
    /// Gives every header but those of HTTP itself: lower-case names, legal values.
    pub(crate) headers: H,
    pub(crate) body: Bytes,
    /// Given up when the request has been handed to a connection.
    pub(crate) turn: Option<Turn>,
}

/// An answer, its body unread.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: AnswerHeaders,
    pub(crate) body: Body,
}

/// The headers of an answer.
pub(crate) enum AnswerHeaders {
    /// Lines, checked.
    Lines(Box<[u8]>),
    /// HTTP/2's.
    Map(HeaderMap),
}

/// The body of an answer. Dropped before its end, it costs the connection, unless the end has been received.
pub(crate) struct Body(Kind);

enum Kind {
    Http1 { client: Client, connection: Option<Box<Http1>>, framing: Framing, is_last: bool },
    Http2(Incoming),
}

/// Why there is no answer, or not all of it; for the operator.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// Nobody there, or gone before the answer. Another attempt may find somebody.
    Unreachable(String),
    /// It broke off.
    Broken(String),
    /// What is there does not speak HTTP.
    Nonsense(String),
}

impl Client {
    /// For a handler at `uri`.
    pub(crate) fn new(settings: &UpstreamSettings, uri: &Uri) -> Result<Self, StartError> {
        let is_https = uri.scheme_str() == Some("https");
        let roots = if is_https { https::system_roots() } else { rustls::RootCertStore::empty() };
        let tls = https::tls(roots, settings.ca_file.as_deref())?;
        let mut tcp = HttpConnector::new_with_resolver(Lookup::new());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = match settings.http {
            HttpVersion::Auto => connector.enable_all_versions().wrap_connector(tcp),
            HttpVersion::Http1 => connector.enable_http1().wrap_connector(tcp),
            HttpVersion::Http2 => connector.enable_http2().wrap_connector(tcp),
        };
        let host = uri.host().unwrap_or_default();
        let host = match uri.port_u16() {
            Some(port) if port != if is_https { 443 } else { 80 } => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        Ok(Self(Arc::new(Shared {
            connector,
            http: settings.http,
            is_https,
            host: host.into(),
            idle_max: settings.concurrency_max,
            idle: Mutex::default(),
            http2: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            chose_http1: AtomicBool::new(false),
        })))
    }

    /// Sends a request; its answer begins.
    pub(crate) async fn send<H>(&self, request: &mut Outgoing<'_, H>) -> Result<Answer, SendFault>
    where
        H: Fn(&mut dyn FnMut(&str, &[u8])),
    {
        if let Some(sender) = self.http2_sender() {
            return Box::pin(self.send_over_http2(sender, request)).await;
        }
        // One that ends under the request is not replaced here: the handler may have heard it.
        if let Some(connection) = self.take_idle() {
            return Ok(self.send_over_http1(connection, request).await?);
        }
        // Boxed, for an event's way is to stay small where there is a connection already.
        match Box::pin(self.connect(request.uri)).await? {
            Connected::Http1(connection) => Ok(self.send_over_http1(connection, request).await?),
            Connected::Http2(sender) => Box::pin(self.send_over_http2(sender, request)).await,
        }
    }

    async fn send_over_http1<H>(
        &self,
        mut connection: Box<Http1>,
        request: &mut Outgoing<'_, H>,
    ) -> Result<Answer, Fault>
    where
        H: Fn(&mut dyn FnMut(&str, &[u8])),
    {
        let Outgoing { method, uri, headers: give_headers, body, turn } = request;
        let write_head = |out: &mut Vec<u8>| {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            // RFC 9112 §3.2.1.
            let slash = if path.starts_with('/') { "" } else { "/" };
            for part in [method.as_str(), " ", slash, path, " HTTP/1.1\r\nhost: ", &self.0.host, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
            give_headers(&mut |name, value| {
                // As over HTTP/2: what no header can hold is left out.
                debug_assert!(headers::name(name).is_some(), "{name:?} is no header's name");
                if !http1::is_value(value) {
                    return;
                }
                for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            });
            // RFC 9110 §8.6: whoever has a body says how long it is; nothing is a body of a POST.
            if *method == Method::POST {
                out.extend_from_slice(b"content-length: ");
                push_number(out, body.len());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
        };
        let head = connection.request(write_head, body, || drop(turn.take())).await?;
        let kind = Kind::Http1 {
            client: self.clone(),
            connection: Some(connection),
            framing: head.framing,
            is_last: head.is_last,
        };
        Ok(Answer { status: head.status, headers: AnswerHeaders::Lines(head.lines), body: Body(kind) })
    }

    async fn send_over_http2<H>(
        &self,
        mut sender: http2::SendRequest<EventBody>,
        request: &mut Outgoing<'_, H>,
    ) -> Result<Answer, SendFault>
    where
        H: Fn(&mut dyn FnMut(&str, &[u8])),
    {
        let body = EventBody { data: request.body.clone(), turn: request.turn.take() };
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = request.method.clone();
        *outgoing.uri_mut() = request.uri.clone();
        let mut values = Values::with_capacity(1024);
        // What an event has at most, without its metadata: the map takes room once.
        outgoing.headers_mut().reserve(24);
        (request.headers)(&mut |name, value| {
            if let (Some(name), Some(value)) = (headers::name(name), values.value(value)) {
                outgoing.headers_mut().append(name, value);
            }
        });
        let answer = match sender.try_send_request(outgoing).await {
            Ok(answer) => answer,
            // It was not sent: the connection had ended.
            Err(mut error) => match error.take_message() {
                Some(outgoing) => {
                    let Connected::Http2(mut sender) = self.connect(request.uri).await? else {
                        return Err(SendFault::Unreachable("the handler speaks HTTP/2 no more".to_owned()));
                    };
                    sender.send_request(outgoing).await.map_err(|error| SendFault::from_http2(&error))?
                }
                None => return Err(SendFault::from_http2(error.error())),
            },
        };
        let (head, body) = answer.into_parts();
        let headers = AnswerHeaders::Map(head.headers);
        Ok(Answer { status: head.status.as_u16(), headers, body: Body(Kind::Http2(body)) })
    }

    /// A new connection, or the one for everything that was made meanwhile.
    async fn connect(&self, uri: &Uri) -> Result<Connected, SendFault> {
        if !self.may_become_http2() {
            return self.connect_alone(uri).await;
        }
        let since = Instant::now();
        let mut last_failure = self.0.connecting.lock().await;
        if let Some(sender) = self.http2_sender() {
            return Ok(Connected::Http2(sender));
        }
        if !self.may_become_http2() {
            drop(last_failure);
            return self.connect_alone(uri).await;
        }
        // One that failed while this one waited for it would have been this one's.
        if let Some((_, text)) = last_failure.as_ref().filter(|(at, _)| *at >= since) {
            return Err(SendFault::Unreachable(text.clone()));
        }
        let connected = self.connect_alone(uri).await;
        if let Err(SendFault::Unreachable(text)) = &connected {
            *last_failure = Some((Instant::now(), text.clone()));
        }
        connected
    }

    async fn connect_alone(&self, uri: &Uri) -> Result<Connected, SendFault> {
        let shared = &*self.0;
        let connecting = tokio::time::timeout(CONNECT_DEADLINE, shared.connector.clone().call(uri.clone()));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(SendFault::Unreachable(whole(&*error))),
            Err(_) => {
                let text = format!("no connection within {} seconds", CONNECT_DEADLINE.as_secs());
                return Err(SendFault::Unreachable(text));
            }
        };
        if shared.http != HttpVersion::Http2 && !stream.connected().is_negotiated_h2() {
            shared.chose_http1.store(true, Ordering::Relaxed);
            return Ok(Connected::Http1(Box::new(Http1::new(stream))));
        }
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_header_list_size(http1::HEAD_BYTES_MAX as u32)
            .handshake(stream);
        let (sender, connection) = handshake.await.map_err(|error| SendFault::from_http2(&error))?;
        // Its end shows where it is used.
        tokio::spawn(async move { drop(connection.await) });
        *lock(&shared.http2) = Some(sender.clone());
        Ok(Connected::Http2(sender))
    }

    /// Whether it is worth to wait for one connection, before making many.
    fn may_become_http2(&self) -> bool {
        match self.0.http {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::Auto => self.0.is_https && !self.0.chose_http1.load(Ordering::Relaxed),
        }
    }

    /// Connections that wait for a request.
    pub(crate) fn idle(&self) -> usize {
        lock(&self.0.idle).connections.len()
    }

    fn http2_sender(&self) -> Option<http2::SendRequest<EventBody>> {
        if self.0.http == HttpVersion::Http1 || !self.0.is_https && self.0.http == HttpVersion::Auto {
            return None;
        }
        let mut sender = lock(&self.0.http2);
        if sender.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *sender = None;
        }
        sender.clone()
    }

    /// The warmest idle connection that is open still.
    fn take_idle(&self) -> Option<Box<Http1>> {
        loop {
            let (mut connection, since) = lock(&self.0.idle).connections.pop()?;
            if since.elapsed() < IDLE && connection.is_idle() {
                return Some(connection);
            }
        }
    }

    fn put_idle(&self, mut connection: Box<Http1>) {
        connection.rest();
        // Without a runtime it ends: so does the process.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut idle = lock(&self.0.idle);
        if idle.connections.len() >= self.0.idle_max {
            return;
        }
        idle.connections.push((connection, Instant::now()));
        if !std::mem::replace(&mut idle.is_watched, true) {
            runtime.spawn(close_cold(Arc::downgrade(&self.0)));
        }
    }
}

/// Closes connections that nobody needed for long, as long as there are any.
async fn close_cold(client: Weak<Shared>) {
    loop {
        let next = {
            let Some(client) = client.upgrade() else { return };
            let mut idle = lock(&client.idle);
            let cold = idle.connections.partition_point(|(_, since)| since.elapsed() >= IDLE);
            idle.connections.drain(..cold);
            match idle.connections.first() {
                Some((_, since)) => *since + IDLE,
                None => {
                    idle.is_watched = false;
                    return;
                }
            }
        };
        sleep_until(next).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Connected {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<EventBody>),
}

impl AnswerHeaders {
    /// Gives every header, in order: its name, in whatever case, and its value.
    pub(crate) fn each<'a>(&'a self, mut give: impl FnMut(&'a [u8], &'a [u8])) {
        match self {
            Self::Lines(lines) => {
                for line in lines.split(|&byte| byte == b'\n') {
                    let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
                    give(&line[..colon], line[colon + 1..].trim_ascii());
                }
            }
            Self::Map(map) => map.iter().for_each(|(name, value)| give(name.as_ref(), value.as_bytes())),
        }
    }
}

impl Body {
    /// Bytes that it has at most, if it says so.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Http1 { framing: Framing::Length(length), .. } => Some(*length),
            Kind::Http1 { .. } => None,
            Kind::Http2(body) => body.size_hint().upper(),
        }
    }

    /// Appends what comes to `into`, until the end or until that has `limit` bytes; true at the end. Over HTTP/2, what
    /// came in one piece may go over the limit.
    pub(crate) async fn read(&mut self, into: &mut Vec<u8>, limit: usize) -> Result<bool, SendFault> {
        match &mut self.0 {
            Kind::Http1 { connection: Some(connection), framing, .. } => {
                match connection.read_body(framing, into, limit).await? {
                    Progress::Full | Progress::Starved => Ok(false),
                    Progress::Done => Ok(true),
                }
            }
            Kind::Http1 { connection: None, .. } => Ok(true),
            Kind::Http2(body) => {
                while into.len() <= limit {
                    let Some(frame) = body.frame().await else { return Ok(true) };
                    let frame = frame.map_err(|error| SendFault::Broken(whole(&error)))?;
                    if let Ok(data) = frame.into_data() {
                        into.extend_from_slice(&data);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Body {
    /// Whether nothing has to be waited for any more: what has been received is passed over.
    pub(crate) fn is_over(&mut self) -> bool {
        match &mut self.0 {
            Kind::Http1 { connection: Some(connection), framing, is_last: false, .. } => !matches!(
                connection.decode(framing, &mut Vec::new(), PASSED_OVER_BYTES_MAX),
                Ok(Progress::Starved)
            ),
            // A connection that ends with its answer is not worth waiting for, a stream can be given up for itself.
            Kind::Http1 { .. } | Kind::Http2(_) => true,
        }
    }

    /// Passes over what is left, for a moment and if it is little, so that its connection can be used again.
    pub(crate) async fn pass_over(mut self) {
        if !self.is_over() {
            let _ =
                tokio::time::timeout(PASSED_OVER_PATIENCE, self.read(&mut Vec::new(), PASSED_OVER_BYTES_MAX))
                    .await;
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Kind::Http1 { client, connection, framing, is_last: false } = &mut self.0 else { return };
        let Some(mut connection) = connection.take() else { return };
        // What has been received may be the rest.
        if let Ok(Progress::Done) = connection.decode(framing, &mut Vec::new(), PASSED_OVER_BYTES_MAX) {
            client.put_idle(connection);
        }
    }
}

impl SendFault {
    fn from_http2(error: &hyper::Error) -> Self {
        if error.is_parse() { Self::Nonsense(whole(error)) } else { Self::Unreachable(whole(error)) }
    }

    /// In words.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Unreachable(text) | Self::Broken(text) | Self::Nonsense(text) => text,
        }
    }
}

impl From<Fault> for SendFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone(error) => Self::Unreachable(error.to_string()),
            Fault::Broken(error) => Self::Broken(error.to_string()),
            Fault::Nonsense(text) => Self::Nonsense(text.to_owned()),
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// The body of a request over HTTP/2. It holds the event's turn until the connection begins to take it, or it is
/// dropped.
#[derive(Debug)]
struct EventBody {
    data: Bytes,
    turn: Option<Turn>,
}

impl hyper::body::Body for EventBody {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that takes connections and says nothing, asked by many at once: all know after one deadline, not each
    /// after those before it.
    #[test]
    fn who_waits_for_a_connection_that_fails_fails_with_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let template =
            ringhub_protocol::events::UrlTemplate::parse(&uri.to_string(), &mut |_| unreachable!());
        let settings = crate::upstream::tests::settings(template.unwrap());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let client = Client::new(&settings, &uri).unwrap();
            let begin = Instant::now();
            let tries: Vec<_> = (0..5)
                .map(|_| {
                    let (client, uri) = (client.clone(), uri.clone());
                    tokio::spawn(async move { client.connect(&uri).await.map(drop) })
                })
                .collect();
            for tried in tries {
                assert!(
                    matches!(tried.await.unwrap(), Err(SendFault::Unreachable(text)) if text.contains("10 s"))
                );
            }
            assert!(begin.elapsed() < 2 * CONNECT_DEADLINE, "{:?}", begin.elapsed());
        });
    }
}
