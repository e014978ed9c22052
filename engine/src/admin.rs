//! The admin listener: metrics, health, who is connected, who was and why not any more, what event handlers do, and
//! one page to look at it and try a client.
//!
//! It has no authentication: it belongs on loopback or a private network. What must stay true: nothing here
//! changes anything, but for the page's tokens and the drain; those are to be had only on loopback, for a request that
//! names loopback as its host and comes from no other site's page (a drain: from no page at all), or a page elsewhere
//! on the web could have its reader's browser ask for one.

mod upstreams;

use crate::auth::{TokenRequest, Verifier};
use crate::core::counters::{ClosedRow, ConnectionPage, CoreShared};
use crate::drain::Drain;
use crate::metrics;
use crate::net::http::{Answerer, Asker, Reply};
use crate::net::peer::Via;
use crate::net::{Address, HttpAnswer, HttpCall};
use crate::process::ProcessCounts;
use crate::rest::{Refusal, json_reply};
use crate::upstreams::Upstreams;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::rest::{ClientType, GenerateToken};
use ringhub_protocol::uri::query_pairs;
use ringhub_relay::RelayReport;
use rust_embed::RustEmbed;
use serde_json::{Map, Value, json};
use std::fmt::Display;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// What the admin listener shows, shared by all cores.
pub(crate) struct Admin {
    /// Makes the page's tokens.
    pub(crate) verifier: Arc<Verifier>,
    /// What the cores count.
    pub(crate) cores: Vec<Arc<CoreShared>>,
    /// Once it is asked for, the server is not ready.
    pub(crate) drain: Arc<Drain>,
    /// Where clients connect; set once the listeners are bound.
    pub(crate) service: OnceLock<Address>,
    /// Whether the admin listener is reachable from this machine only.
    pub(crate) on_loopback: bool,
    /// Rows of the two lists, per core.
    pub(crate) rows_max: AtomicUsize,
    /// What the process counts.
    pub(crate) process: Arc<ProcessCounts>,
    /// Event handlers and listeners.
    pub(crate) upstreams: Arc<Upstreams>,
    /// What the side thread has in hand; set once it runs.
    pub(crate) relay: OnceLock<Box<dyn Fn() -> RelayReport + Send + Sync>>,
    /// When the server started.
    pub(crate) started: Instant,
}

/// The page's files.
#[derive(RustEmbed)]
#[folder = "../console/"]
struct Console;

/// Life of a token for the page's clients, in minutes.
const TOKEN_MINUTES: u32 = 60;

impl Admin {
    /// What answers one connection's requests.
    pub(crate) fn answerer(self: &Arc<Self>, via: Via) -> Answerer {
        let admin = self.clone();
        Rc::new(move |request, asker| {
            let admin = admin.clone();
            Box::pin(async move {
                admin.serve(request, via, &asker).await.unwrap_or_else(|refusal| refusal.reply())
            })
        })
    }

    async fn serve(&self, request: Request<Incoming>, via: Via, asker: &Asker) -> Result<Reply, Refusal> {
        let (head, _) = request.into_parts();
        let path = head.uri.path();
        match path {
            "/token" => return self.token(&head, via, asker.now_unix()),
            "/drain" if head.method == Method::POST => return self.begin_drain(&head),
            _ => {}
        }
        let file = if path == "/" { "index.html" } else { &path[1..] };
        let reply = match path {
            "/metrics" => text(metrics::CONTENT_TYPE, self.metrics(asker.now_unix())),
            "/healthz" => text("text/plain", "ok\n"),
            "/readyz" if self.drain.is_asked() => {
                return Err(ErrorBody::new(ErrorCode::ServiceUnavailable, "The server is stopping.").into());
            }
            "/readyz" => text("text/plain", "ready\n"),
            "/stats" => json_reply(StatusCode::OK, self.stats().to_string()),
            "/drain" => json_reply(StatusCode::OK, self.drain.progress(&self.cores).to_string()),
            "/upstreams" => json_reply(StatusCode::OK, self.upstreams(&head)?.to_string()),
            "/closed" => json_reply(StatusCode::OK, self.closed().to_string()),
            "/connections" => match asker
                .ask(HttpCall::Connections(self.rows_max.load(Ordering::Relaxed)))
                .await
            {
                HttpAnswer::Connections(pages) => json_reply(StatusCode::OK, connections(&pages).to_string()),
                HttpAnswer::HubsFull | HttpAnswer::Operation(_) => unreachable!("it asked for connections"),
            },
            _ => match Console::get(file) {
                Some(found) => asset(file, Bytes::from(found.data.into_owned())),
                None => return Err(ErrorBody::new(ErrorCode::NotFound, "There is no such path.").into()),
            },
        };
        match head.method {
            Method::GET | Method::HEAD => Ok(reply),
            _ => Err(ErrorBody::new(ErrorCode::MethodNotAllowed, "This path takes GET.").into()),
        }
    }

    fn metrics(&self, now_unix: u64) -> String {
        let relay = self.relay.get().map(|report| report()).unwrap_or_default();
        let events = (self.upstreams.views(), relay);
        metrics::page(&self.cores, &self.process, self.verifier.issuers(), events, now_unix)
    }

    /// Every counter summed over the cores, and each core's; the hubs; what the page wants to know.
    fn stats(&self) -> Value {
        let mut totals = Map::new();
        let mut cores = Vec::new();
        for core in &self.cores {
            let mut row = Map::new();
            for (name, _, _, value) in core.counters.rows() {
                let total = totals.get(name).and_then(Value::as_u64).unwrap_or_default();
                totals.insert(name.to_owned(), total.wrapping_add(value).into());
                row.insert(name.to_owned(), value.into());
            }
            cores.push(Value::Object(row));
        }
        for (name, _, _, value) in self.process.rows() {
            totals.insert(name.to_owned(), value.into());
        }
        let hubs = metrics::hubs(&self.cores).into_iter().map(|(hub, rows)| {
            let rows = rows.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            (hub, Value::Object(rows))
        });
        let hubs: Map<String, Value> = hubs.collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeSeconds": self.started.elapsed().as_secs(),
            "service": self.service.get().map(Address::short),
            "canTry": self.on_loopback,
            "totals": totals,
            "cores": cores,
            "hubs": hubs,
        })
    }

    /// The last closed connections, newest first.
    fn closed(&self) -> Value {
        let mut rows: Vec<(usize, ClosedRow)> = Vec::new();
        for (core, shared) in self.cores.iter().enumerate() {
            let closed = shared.closed.lock().expect("nothing panics with the lock");
            rows.extend(
                closed
                    .iter()
                    .rev()
                    .take(self.rows_max.load(Ordering::Relaxed))
                    .map(|row| (core, row.clone())),
            );
        }
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.closed_unix));
        let rows: Vec<Value> = rows
            .iter()
            .map(|(core, row)| {
                json!({
                    "hub": row.hub.as_str(),
                    "connectionId": row.id.text().as_str(),
                    "userId": row.user.as_ref().map(UserId::as_str),
                    "address": row.address,
                    "code": row.code,
                    "reason": row.reason,
                    "category": row.category.name(),
                    "closedUnix": row.closed_unix,
                    "core": core,
                })
            })
            .collect();
        json!({ "closed": rows })
    }

    /// Event handlers and listeners, `GET /upstreams?hub=&handler=`: with both, calls are of that handler only.
    fn upstreams(&self, head: &Parts) -> Result<Value, Refusal> {
        let (mut hub, mut handler) = (None, None);
        for pair in query_pairs(head.uri.query().unwrap_or_default()) {
            let (name, value) = pair.map_err(bad_query)?;
            match &*name {
                "hub" => hub = Some(value),
                "handler" => handler = Some(value.parse()),
                _ => {}
            }
        }
        let handler = handler.transpose().map_err(|_| {
            ErrorBody::bad_parameter(
                "handler",
                "It is the place of a handler among those of its hub, from 0.",
            )
        })?;
        Ok(upstreams::list(&self.upstreams.views(), hub.as_deref().zip(handler)))
    }

    /// Begins the drain, `POST /drain`; asked again it only tells how far that is.
    fn begin_drain(&self, head: &Parts) -> Result<Reply, Refusal> {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.on_loopback || head.headers.contains_key(ORIGIN) || !is_loopback(host) {
            let message =
                "A drain is asked for from this machine itself, and by no page; or send the process SIGTERM.";
            return Err(ErrorBody::new(ErrorCode::Forbidden, message).into());
        }
        if self.drain.ask() {
            tracing::info!("the admin listener was asked for a drain");
        }
        Ok(json_reply(StatusCode::ACCEPTED, self.drain.progress(&self.cores).to_string()))
    }

    /// A client URL for the page, `POST /token?hub=&user=`.
    fn token(&self, head: &Parts, via: Via, now_unix: u64) -> Result<Reply, Refusal> {
        if head.method != Method::POST {
            return Err(ErrorBody::new(ErrorCode::MethodNotAllowed, "This path takes POST.").into());
        }
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let host = header(HOST).unwrap_or_default();
        let is_same_site = match header(ORIGIN) {
            Some(origin) => {
                origin.split_once("://") == Some((if via.secure { "https" } else { "http" }, host))
            }
            None => !head.headers.contains_key(ORIGIN),
        };
        let service = self.service.get().filter(|_| self.on_loopback && is_same_site && is_loopback(host));
        let Some(service) = service else {
            let message = "Tokens are made here only for this machine itself; use `ringhub token`.";
            return Err(ErrorBody::new(ErrorCode::Forbidden, message).into());
        };
        let (mut hub, mut user) = (None, None);
        for pair in query_pairs(head.uri.query().unwrap_or_default()) {
            let (name, value) = pair.map_err(bad_query)?;
            match &*name {
                "hub" => hub = Some(value),
                "user" if !value.is_empty() => user = Some(value),
                _ => {}
            }
        }
        let hub = HubName::parse(hub.as_deref().unwrap_or_default())
            .map_err(|invalid| ErrorBody::bad_parameter("hub", invalid.rule))?;
        let user = user
            .map(|user| UserId::parse(&user))
            .transpose()
            .map_err(|invalid| ErrorBody::bad_parameter("user", invalid.rule))?;
        let claims = GenerateToken {
            user,
            roles: ["webpubsub.joinLeaveGroup".into(), "webpubsub.sendToGroup".into()].into(),
            groups: [].into(),
            minutes_to_expire: TOKEN_MINUTES,
            client_type: ClientType::Default,
        };
        let endpoint = service.to_string();
        let request = TokenRequest { hub: &hub, endpoint: &endpoint, claims: &claims };
        let token = self.verifier.client_token(now_unix, &request);
        let (scheme, path) = (service.scheme.websocket(), ClientType::Default.path(&hub));
        let url = format!("{scheme}://{}{path}?access_token={token}", service.socket);
        Ok(json_reply(StatusCode::OK, json!({ "url": url }).to_string()))
    }
}

fn bad_query(error: impl Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, format!("There is {error}."))
}

/// The open connections, by core.
fn connections(pages: &[ConnectionPage]) -> Value {
    let rows: Vec<Value> = pages
        .iter()
        .flat_map(|page| page.rows.iter().map(|(hub, row)| (hub, row, page.now)))
        .map(|(hub, row, now)| {
            json!({
                "hub": hub.as_str(),
                "connectionId": row.id.text().as_str(),
                "userId": row.user.as_ref().map(UserId::as_str),
                "address": row.address,
                "subprotocol": row.subprotocol.name(),
                "groups": row.groups,
                "attached": row.attached,
                "openSeconds": now.0.saturating_sub(row.opened.0) / 1000,
                "unacknowledged": row.unacknowledged,
                "core": row.id.core.0,
            })
        })
        .collect();
    json!({ "connections": rows })
}

/// Whether a `Host` header names this machine by an address nobody else can point elsewhere.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A file of the page. It may talk to this listener and to WebSockets, and runs no script but its own.
fn asset(file: &str, body: Bytes) -> Reply {
    let content_type = match file.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let mut reply = text(content_type, body);
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::generate_key;
    use crate::config::Config;
    use crate::net::HttpHandler;
    use crate::net::http::{HttpConnection, Upgrades};
    use ringhub_hub::effect::CloseCategory;
    use ringhub_hub::hub::ConnectionRow;
    use ringhub_hub::{ConnectionId, CoreId, Time};
    use ringhub_protocol::pubsub::Subprotocol;

    fn admin(on_loopback: bool) -> Arc<Admin> {
        let verifier = Arc::new(Verifier::new(&Config::default(), &generate_key()));
        let service = OnceLock::from(Address::plain(([127, 0, 0, 1], 8080)));
        Arc::new(Admin {
            verifier,
            cores: vec![Arc::default(), Arc::default()],
            drain: Arc::default(),
            service,
            on_loopback,
            rows_max: 2.into(),
            process: Arc::default(),
            upstreams: Arc::default(),
            relay: OnceLock::new(),
            started: Instant::now(),
        })
    }

    fn row() -> ConnectionRow {
        ConnectionRow {
            id: ConnectionId { node: 0, core: CoreId(1), slot: 0, random: 7 },
            user: UserId::parse("ann").ok(),
            subprotocol: Subprotocol::Json,
            groups: 3,
            attached: true,
            address: Some([203, 0, 113, 9].into()),
            opened: Time(1_000),
            unacknowledged: 0,
        }
    }

    /// Status line and body.
    fn ask(admin: &Arc<Admin>, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut connection = HttpConnection::new(16 << 10, Upgrades::Refused, admin.answerer(Via::default()));
        connection.feed(format!("{method} {path} HTTP/1.1\r\n{headers}\r\n").as_bytes());
        let mut output = Vec::new();
        loop {
            let progress = connection.poll(1_700_000_000);
            output.extend_from_slice(&progress.output);
            let Some(HttpCall::Connections(rows)) = progress.call else { break };
            assert_eq!(rows, 2);
            let hub = HubName::parse("chat").unwrap();
            let page = ConnectionPage { rows: vec![(hub, row())], now: Time(5_000) };
            connection.answer(HttpAnswer::Connections(vec![page]));
        }
        let text = String::from_utf8(output).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    const HOST_LINE: &str = "Host: localhost:8081\r\n";

    #[test]
    fn health_and_readiness() {
        let admin = admin(true);
        assert_eq!(ask(&admin, "GET", "/healthz", HOST_LINE), (200, "ok\n".into()));
        assert_eq!(ask(&admin, "GET", "/readyz", HOST_LINE).0, 200);
        admin.drain.ask();
        assert_eq!(ask(&admin, "GET", "/readyz", HOST_LINE).0, 503);
        assert_eq!(ask(&admin, "GET", "/healthz", HOST_LINE).0, 200);
    }

    #[test]
    fn pages_and_what_is_none() {
        let admin = admin(true);
        for path in ["/", "/console.js", "/console.css", "/upstreams.js", "/stats", "/upstreams", "/metrics"]
        {
            assert_eq!(ask(&admin, "GET", path, HOST_LINE).0, 200, "{path}");
        }
        assert_eq!(ask(&admin, "HEAD", "/", HOST_LINE), (200, String::new()));
        assert_eq!(ask(&admin, "POST", "/metrics", HOST_LINE).0, 405);
        for path in ["/nothing", "/../Cargo.toml", "/api/hubs/chat/:send"] {
            assert_eq!(ask(&admin, "GET", path, HOST_LINE).0, 404, "{path}");
        }
        let bytes: usize = Console::iter().map(|file| Console::get(&file).unwrap().data.len()).sum();
        assert!(bytes < 100_000, "{bytes}");
    }

    #[test]
    fn the_lists() {
        let admin = admin(true);
        let (_, open) = ask(&admin, "GET", "/connections", HOST_LINE);
        let open: Value = serde_json::from_str(&open).unwrap();
        assert_eq!(
            open["connections"][0],
            json!({
                "hub": "chat", "connectionId": row().id.text().as_str(), "userId": "ann",
                "address": "203.0.113.9", "subprotocol": "json.webpubsub.azure.v1", "groups": 3, "attached": true,
                "openSeconds": 4, "unacknowledged": 0, "core": 1,
            })
        );
        for closed_unix in 1..=3 {
            admin.cores[0].closed.lock().unwrap().push_back(ClosedRow {
                hub: HubName::parse("chat").unwrap(),
                id: row().id,
                user: None,
                address: None,
                code: 1007,
                reason: "not \"JSON\"".into(),
                category: CloseCategory::BadRequest,
                closed_unix,
            });
        }
        let (_, closed) = ask(&admin, "GET", "/closed", HOST_LINE);
        let closed: Value = serde_json::from_str(&closed).unwrap();
        let rows = closed["closed"].as_array().unwrap();
        assert_eq!(rows.len(), 2, "bounded");
        assert_eq!((rows[0]["closedUnix"].as_u64(), rows[0]["code"].as_u64()), (Some(3), Some(1007)));
        assert_eq!(rows[0]["reason"], "not \"JSON\"");
    }

    #[test]
    fn handlers_are_asked_for_by_hub_and_place() {
        let admin = admin(true);
        let empty = (200, r#"{"handlers":[],"listeners":[]}"#.to_owned());
        assert_eq!(ask(&admin, "GET", "/upstreams?hub=chat&handler=0", HOST_LINE), empty);
        for query in ["handler=first", "handler=-1", "hub=%"] {
            assert_eq!(ask(&admin, "GET", &format!("/upstreams?{query}"), HOST_LINE).0, 400, "{query}");
        }
    }

    #[test]
    fn a_drain_is_for_this_machine_only_and_for_no_page() {
        let admin = admin(true);
        for headers in [
            "Host: rebound.example.com:8081\r\n",
            "Host: localhost:8081\r\nOrigin: http://localhost:8081\r\n",
            "Host: localhost:8081\r\nOrigin: null\r\n",
        ] {
            assert_eq!(ask(&admin, "POST", "/drain", headers).0, 403, "{headers}");
        }
        assert_eq!(ask(&self::admin(false), "POST", "/drain", HOST_LINE).0, 403);
        let (status, body) = ask(&admin, "GET", "/drain", HOST_LINE);
        assert!(status == 200 && body.contains(r#""draining":false"#), "{body}");
        assert!(!admin.drain.is_asked());
        let (status, body) = ask(&admin, "POST", "/drain", HOST_LINE);
        assert!(status == 202 && body.contains(r#""draining":true"#), "{body}");
        assert!(admin.drain.is_asked());
        assert_eq!(ask(&admin, "POST", "/drain", HOST_LINE).0, 202);
        assert_eq!(ask(&admin, "DELETE", "/drain", HOST_LINE).0, 405);
    }

    #[test]
    fn tokens_are_for_this_machine_only() {
        let open = admin(true);
        let (status, body) = ask(&open, "POST", "/token?hub=chat&user=ann", HOST_LINE);
        assert!(
            status == 200 && body.contains("ws://127.0.0.1:8080/client/hubs/chat?access_token="),
            "{body}"
        );
        let same = "Host: 127.0.0.1:8081\r\nOrigin: http://127.0.0.1:8081\r\n";
        assert_eq!(ask(&open, "POST", "/token?hub=chat", same).0, 200);
        for headers in [
            "Host: rebound.example.com:8081\r\n",
            "Host: 127.0.0.1.example.com\r\n",
            "Host: localhost:8081\r\nOrigin: https://evil.example.com\r\n",
            "Host: localhost:8081\r\nOrigin: null\r\n",
        ] {
            assert_eq!(ask(&open, "POST", "/token?hub=chat", headers).0, 403, "{headers}");
        }
        assert_eq!(ask(&admin(false), "POST", "/token?hub=chat", HOST_LINE).0, 403);
        assert_eq!(ask(&open, "GET", "/token?hub=chat", HOST_LINE).0, 405);
        assert_eq!(ask(&open, "POST", "/token?hub=1", HOST_LINE).0, 400);
        assert_eq!(ask(&open, "POST", "/token?hub=chat&user=%20", HOST_LINE).0, 400);
        assert!(is_loopback("[::1]:8081") && is_loopback("127.0.0.1") && !is_loopback("[::2]:1"));
    }
}
