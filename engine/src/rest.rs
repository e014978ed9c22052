//! The data-plane REST API: request → authorized call → the cores' answer → response (`rest-api`).
//!
//! The order of checks: what needs no token (health, paths of clients), the token (401), the route and its
//! parameters, the body. What must stay true: a send is answered 202 only after the cores have taken it, and
//! an answer that is not a success has the service's error body and `x-ms-error-code`.

use crate::auth::{Access, TokenRequest, Verifier};
use crate::core::counters::CoreShared;
use crate::drain::Drain;
use crate::net::http::{Answerer, Asker, Reply};
use crate::net::peer::{Named, Via};
use crate::net::{HttpAnswer, HttpCall, OwnedContent};
use crate::process::ProcessCounts;
use crate::throttle::Throttle;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use ringhub_hub::{Answer, CoreId, MemberPage, SHORT_OF_MEMORY};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{Data, Form, Metadata};
use ringhub_protocol::rest::body::{metadata, payload, payload_type};
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::rest::page::page_json;
use ringhub_protocol::rest::route::{RouteError, route};
use ringhub_protocol::rest::{Call, Filters, GenerateToken, GroupChange, Operation, Page, group_change};
use ringhub_protocol::uri::query_pairs;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What the REST API needs, shared by all cores.
pub(crate) struct RestApi {
    /// Whose calls are taken.
    pub(crate) verifier: Arc<Verifier>,
    /// Largest body, in bytes; more is answered 400.
    pub(crate) body_bytes_max: AtomicUsize,
    /// By core: filters compiled lately, and where their use is counted.
    pub(crate) filters: Box<[(Mutex<Filters>, Arc<CoreShared>)]>,
    /// How many calls are taken.
    pub(crate) throttle: Throttle,
    /// Counts those that are not.
    pub(crate) process: Arc<ProcessCounts>,
    /// Once it is asked for, health is 503 and every answer ends its connection, so that callers go elsewhere.
    pub(crate) drain: Arc<Drain>,
}

impl RestApi {
    /// What answers one connection's requests.
    pub(crate) fn answerer(self: &Arc<Self>, core: CoreId, via: Via) -> Answerer {
        let api = self.clone();
        Rc::new(move |request, asker| {
            let api = api.clone();
            Box::pin(async move { api.serve(request, &asker, core, via).await })
        })
    }

    async fn serve(&self, request: Request<Incoming>, asker: &Asker, core: CoreId, via: Via) -> Reply {
        let answer = self.serve_or_refuse(request, asker, core, via).await;
        let mut reply = answer.unwrap_or_else(|refusal| refusal.reply());
        if self.drain.is_asked() {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    async fn serve_or_refuse(
        &self,
        request: Request<Incoming>,
        asker: &Asker,
        core: CoreId,
        via: Via,
    ) -> Result<Reply, Refusal> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let last =
            |name: &str| head.headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok());
        let named = Named::new(via, header(HOST).unwrap_or_default(), last);
        // What is no text is no known type.
        let content_type = head.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        let checked = if path == "/api/health" {
            Ok(())
        } else if !path.starts_with("/api/") {
            Err(outside(path))
        } else {
            self.verifier
                .authorize_rest(asker.now_unix(), header(AUTHORIZATION), &named, path)
                .and_then(|access| may_call(access, &head.method))
                .map_err(Refusal::from)
                .and_then(|()| self.take_one(core))
        };
        let routed = checked.and_then(|()| {
            let call = self
                .with_filters(core, |filters| route(head.method.as_str(), path, head.uri.query(), filters))?;
            if takes_memory(&call) {
                self.check_memory(core)?;
            }
            let kind = match &call {
                Call::Hub { operation: Operation::Send { .. }, .. } => {
                    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                    Some((payload_type(content_type)?, metadata(headers)?))
                }
                _ => None,
            };
            Ok((call, kind))
        });
        let (call, kind) = match routed {
            Ok(routed) => routed,
            Err(refusal) => {
                self.discard(body).await;
                return Err(refusal);
            }
        };
        let body = self.collect(body).await?;
        let call = match call {
            Call::ChangeGroups { hub, change } => {
                let operation = self
                    .with_filters(core, |filters| group_change::read(change, content_type, &body, filters))?;
                Call::Hub { hub, operation }
            }
            call => call,
        };
        match call {
            Call::Health => Ok(self.health()),
            Call::ChangeGroups { .. } => unreachable!("its operation was read from the body"),
            Call::Hub { hub, operation: Operation::GenerateToken(claims) } => {
                Ok(self.generate_token(asker.now_unix(), &named, &hub, &claims))
            }
            Call::Hub { operation: Operation::NotYet { name }, .. } => {
                let message = format!("{name} is not built yet.");
                Err(ErrorBody::new(ErrorCode::NotImplemented, message).into())
            }
            Call::Hub { hub, operation } => {
                let data = match kind {
                    Some(((data_type, charset), metadata)) => {
                        let payload = payload(data_type, charset, &body)?;
                        Some(owned(&payload.data(), metadata, &body))
                    }
                    None => None,
                };
                let (done, not_found) = outcomes(&operation);
                let listed = match &operation {
                    Operation::ListMembers { group, page } => {
                        Some((hub.clone(), group.clone(), page.clone()))
                    }
                    _ => None,
                };
                let full = match &operation {
                    Operation::AddToGroup { .. } => "The connection is in as many groups as it may be in.",
                    _ => "The connection has as many rules for single groups as it may have.",
                };
                match asker.ask(HttpCall::Operation { hub, operation, body: data }).await {
                    HttpAnswer::Operation(Answer::Done) => Ok(empty(done)),
                    HttpAnswer::Operation(Answer::NotFound) => match not_found {
                        Some(message) => Err(ErrorBody::new(ErrorCode::NotFound, message).into()),
                        None => Ok(empty(done)),
                    },
                    HttpAnswer::Operation(Answer::Full) => {
                        Err(ErrorBody::new(ErrorCode::Conflict, full).into())
                    }
                    HttpAnswer::Operation(Answer::Members(members)) => {
                        let (hub, group, page) = listed.expect("only a list is answered with members");
                        Ok(self.members(&hub, &group, &page, &members, &named, &head.uri))
                    }
                    HttpAnswer::HubsFull => Err(hubs_full()),
                    HttpAnswer::Connections(_) => unreachable!("it asked for an operation"),
                }
            }
        }
    }

    /// Reads something that may hold a filter. Nobody but this core ever takes the lock.
    fn with_filters<T>(&self, core: CoreId, read: impl FnOnce(&mut Filters) -> T) -> T {
        let (filters, shared) = &self.filters[usize::from(core.0)];
        let mut filters = filters.lock().expect("reading a filter does not panic");
        let found = read(&mut filters);
        shared.counters.filter_hits.set(filters.hits);
        shared.counters.filter_misses.set(filters.misses);
        found
    }

    /// Counts a call against the rate. Asked only of those with a good token: strangers use up nothing.
    fn take_one(&self, core: CoreId) -> Result<(), Refusal> {
        if self.throttle.admits(core, Instant::now) {
            return Ok(());
        }
        self.process.rest_throttled.up();
        Err(ErrorBody::new(ErrorCode::TooManyRequests, "There are too many calls in a second.").into())
    }

    /// Whether there is memory for a call that takes some.
    fn check_memory(&self, core: CoreId) -> Result<(), Refusal> {
        let shared = &self.filters[usize::from(core.0)].1;
        if !shared.pressure.is_on() {
            return Ok(());
        }
        shared.counters.memory_calls_refused.add(1);
        Err(ErrorBody::new(ErrorCode::ServiceUnavailable, SHORT_OF_MEMORY).into())
    }

    fn health(&self) -> Reply {
        if self.drain.is_asked() { unavailable().reply() } else { empty(StatusCode::OK) }
    }

    fn generate_token(
        &self,
        now_unix: u64,
        named: &Named<'_>,
        hub: &HubName,
        claims: &GenerateToken,
    ) -> Reply {
        let endpoint = self.verifier.endpoint(named);
        let token = self.verifier.client_token(now_unix, &TokenRequest { hub, endpoint: &endpoint, claims });
        // A token has no character that JSON would escape.
        json_reply(StatusCode::OK, format!(r#"{{"token":"{token}"}}"#))
    }

    /// One page of a list, with a link to the next that callers follow as it is.
    fn members(
        &self,
        hub: &HubName,
        group: &GroupName<'_>,
        page: &Page,
        found: &MemberPage,
        named: &Named<'_>,
        uri: &Uri,
    ) -> Reply {
        let ids: Vec<_> = found.members.iter().map(|member| member.id.text()).collect();
        let last = ids.last().filter(|_| found.more);
        let next = last.and_then(|last| {
            let version = query_pairs(uri.query().unwrap_or_default())
                .flatten()
                .find_map(|(name, value)| name.eq_ignore_ascii_case("api-version").then_some(value));
            let query = page.next_query(hub, group, last.as_str(), version.as_deref())?;
            Some(format!("{}{}?{query}", self.verifier.endpoint(named), uri.path()))
        });
        let users = found.members.iter().map(|member| member.user.as_ref().map(UserId::as_str));
        let rows = ids.iter().map(|id| id.as_str()).zip(users);
        json_reply(StatusCode::OK, page_json(rows, next.as_deref()))
    }

    /// The whole body, or 400 when it is too large (`rest-api` §1.4).
    async fn collect(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let body_bytes_max = self.body_bytes_max.load(Ordering::Relaxed);
        if body.size_hint().lower() > body_bytes_max as u64 {
            return Err(too_large());
        }
        match Limited::new(body, body_bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(ErrorBody::new(ErrorCode::BadRequest, "The request body is cut short.").into()),
        }
    }

    /// Reads past the body of a refused request, so that its sender reads the answer and can go on; one that
    /// is too large is left, and the connection with it.
    async fn discard(&self, mut body: Incoming) {
        let mut left = self.body_bytes_max.load(Ordering::Relaxed) as u64;
        if body.size_hint().lower() > left {
            return;
        }
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    body: ErrorBody,
    allow: Option<&'static str>,
}

impl From<ErrorBody> for Refusal {
    fn from(body: ErrorBody) -> Self {
        Self { body, allow: None }
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        Self { body: error.body, allow: error.allow }
    }
}

impl Refusal {
    /// The response, with the headers that go with its status.
    pub(crate) fn reply(&self) -> Reply {
        let code = self.body.code;
        let status = StatusCode::from_u16(code.status()).expect("error codes have legal statuses");
        let mut reply = json_reply(status, self.body.to_json());
        let headers = reply.headers_mut();
        headers.insert("x-ms-error-code", HeaderValue::from_static(code.name()));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        for &(name, value) in code.headers() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        reply
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: a 204 has none.
        reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    reply
}

/// An answer with a JSON body.
pub(crate) fn json_reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Readers may only look (`rest-api` §3.2).
fn may_call(access: Access, method: &Method) -> Result<(), ErrorBody> {
    if access == Access::Owner || [Method::GET, Method::HEAD].contains(method) {
        return Ok(());
    }
    Err(ErrorBody::new(ErrorCode::Forbidden, "The token's holder may only read: GET and HEAD."))
}

/// Whether a call takes memory: for new members, or for what slow readers do not take of a send.
fn takes_memory(call: &Call) -> bool {
    use Operation::{AddToGroup, ChangeGroups, Send};
    let Call::Hub { operation, .. } = call else { return false };
    matches!(operation, Send { .. } | AddToGroup { .. } | ChangeGroups { change: GroupChange::Add, .. })
}

/// What a path outside `/api/` says to a request that is no WebSocket.
fn outside(path: &str) -> Refusal {
    let clients = ["/client", "/clients/mqtt/", "/clients/socketio/", "/server/tunnel"];
    let code_and_message = if path == clients[0] || path.starts_with("/client/") {
        (ErrorCode::BadRequest, "This is the clients' address: it takes WebSocket upgrades only.")
    } else if clients[1..].iter().any(|prefix| path.starts_with(prefix)) {
        (ErrorCode::NotImplemented, "This is not built yet.")
    } else {
        (ErrorCode::NotFound, "There is no such path.")
    };
    ErrorBody::new(code_and_message.0, code_and_message.1).into()
}

fn unavailable() -> Refusal {
    ErrorBody::new(ErrorCode::ServiceUnavailable, "The server is stopping.").into()
}

fn hubs_full() -> Refusal {
    let message = "The server has as many hubs as it may have (limits.hubs_max).";
    ErrorBody::new(ErrorCode::TooManyRequests, message).into()
}

fn too_large() -> Refusal {
    ErrorBody::new(ErrorCode::BadRequest, "The request body is larger than the limit.").into()
}

/// The one success status of an operation, and what to say when there is nothing there, if that is an error
/// (`rest-api` §2).
fn outcomes(operation: &Operation) -> (StatusCode, Option<&'static str>) {
    match operation {
        Operation::Send { .. } => (StatusCode::ACCEPTED, None),
        Operation::Close { .. }
        | Operation::RemoveFromGroup { .. }
        | Operation::RemoveFromAllGroups { .. }
        | Operation::Revoke(_) => (StatusCode::NO_CONTENT, None),
        Operation::Exists { .. } => (StatusCode::OK, Some("It does not exist.")),
        Operation::AddToGroup { .. } | Operation::Grant(_) => {
            (StatusCode::OK, Some("The connection or user doesn't exist."))
        }
        Operation::Check(_) => (StatusCode::OK, Some("It is not allowed.")),
        Operation::ChangeGroups { .. }
        | Operation::ListMembers { .. }
        | Operation::GenerateToken(_)
        | Operation::NotYet { .. } => (StatusCode::OK, None),
    }
}

/// The payload with its bytes, which are the body's own unless they had to be converted.
fn owned(data: &Data<'_>, metadata: Option<Metadata>, body: &Bytes) -> OwnedContent {
    let bytes = data.bytes();
    let is_body = std::ptr::eq(bytes.as_ptr(), body.as_ptr()) && bytes.len() == body.len();
    OwnedContent {
        data_type: data.data_type(),
        form: Form::Plain,
        bytes: if is_body { body.clone() } else { Bytes::copy_from_slice(bytes) },
        metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::generate_key;
    use crate::config::{Config, Secret};
    use crate::net::HttpHandler;
    use crate::net::http::{HttpConnection, Upgrades};
    use ringhub_protocol::pubsub::DataType;
    use ringhub_protocol::rest::Target;
    use serde_json::json;

    const NOW: u64 = 1_700_000_000;

    struct Setup {
        key: Secret,
        drain: Arc<Drain>,
        connection: HttpConnection,
    }

    fn setup() -> Setup {
        setup_with(0)
    }

    fn setup_with(rate: u64) -> Setup {
        let key = generate_key();
        let drain = Arc::new(Drain::default());
        let verifier = Arc::new(Verifier::new(&Config::default(), &key));
        let filters = [(Mutex::new(Filters::new(1)), Arc::default())].into();
        let api = Arc::new(RestApi {
            verifier,
            body_bytes_max: 1000.into(),
            filters,
            drain: drain.clone(),
            throttle: Throttle::new(1, rate),
            process: Arc::default(),
        });
        Setup {
            key,
            drain,
            connection: HttpConnection::new(
                16 << 10,
                Upgrades::Allowed,
                api.answerer(CoreId(0), Via { from_proxy: true, secure: false }),
            ),
        }
    }

    impl Setup {
        fn token(&self, path: &str) -> String {
            let payload = json!({ "aud": format!("http://localhost{path}"), "exp": NOW + 60 });
            crate::auth::sign_with_access_key(&self.key, &payload)
        }

        /// Sends one authorized request; returns the answer without its date, and the calls it made.
        fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> (String, Vec<HttpCall>) {
            let token = self.token(path);
            let headers = format!("Authorization: Bearer {token}\r\n{headers}");
            self.ask_bare(method, path, &headers, body, Answer::Done)
        }

        fn ask_bare(
            &mut self,
            method: &str,
            path: &str,
            headers: &str,
            body: &str,
            answer: Answer,
        ) -> (String, Vec<HttpCall>) {
            let length = body.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            );
            self.connection.feed(request.as_bytes());
            let (mut output, mut calls) = (Vec::new(), Vec::new());
            loop {
                let progress = self.connection.poll(NOW);
                output.extend_from_slice(&progress.output);
                let Some(call) = progress.call else { break };
                calls.push(call);
                self.connection.answer(HttpAnswer::Operation(answer.clone()));
            }
            let text = String::from_utf8(output).unwrap();
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("date: ")).collect();
            (lines.join("\n"), calls)
        }
    }

    #[test]
    fn sends_reach_the_cores_as_their_type() {
        let mut setup = setup();
        for (content_type, body, data_type) in [
            ("application/json; charset=utf-8", "{\"a\":1}", DataType::Json),
            ("text/plain", "hi", DataType::Text),
            ("application/octet-stream", "\u{1}", DataType::Binary),
            ("", "x", DataType::Binary),
        ] {
            let header = format!("Content-Type: {content_type}\r\n");
            let (answer, calls) =
                setup.ask("POST", "/api/hubs/Chat/groups/g/:send?excluded=c", &header, body);
            assert!(answer.starts_with("HTTP/1.1 202 Accepted\ncontent-length: 0"), "{answer}");
            let [HttpCall::Operation { hub, operation, body: Some(sent) }] = calls.as_slice() else {
                panic!("{calls:?}")
            };
            assert_eq!(hub.as_str(), "chat");
            assert!(
                matches!(operation, Operation::Send { target: Target::Group(_), excluded, .. } if excluded.len() == 1)
            );
            assert_eq!((sent.data_type, &sent.bytes[..]), (data_type, body.as_bytes()));
        }
    }

    #[test]
    fn every_operation_has_its_status() {
        let mut setup = setup();
        for (method, path, done, absent) in [
            ("POST", "/api/hubs/h/:send", 202, 202),
            ("POST", "/api/hubs/h/users/u/:send", 202, 202),
            ("POST", "/api/hubs/h/connections/c/:send", 202, 202),
            ("DELETE", "/api/hubs/h/connections/c", 204, 204),
            ("POST", "/api/hubs/h/:closeConnections", 204, 204),
            ("HEAD", "/api/hubs/h/connections/c", 200, 404),
            ("HEAD", "/api/hubs/h/groups/g", 200, 404),
            ("HEAD", "/api/hubs/h/users/u", 200, 404),
            ("PUT", "/api/hubs/h/groups/g/connections/c", 200, 404),
            ("DELETE", "/api/hubs/h/groups/g/connections/c", 204, 204),
            ("PUT", "/api/hubs/h/users/u/groups/g", 200, 404),
            ("DELETE", "/api/hubs/h/users/u/groups/g", 204, 204),
            ("DELETE", "/api/hubs/h/connections/c/groups", 204, 204),
            ("DELETE", "/api/hubs/h/users/u/groups", 204, 204),
            ("PUT", "/api/hubs/h/permissions/sendToGroup/connections/c?targetName=g", 200, 404),
            ("DELETE", "/api/hubs/h/permissions/sendToGroup/connections/c?targetName=g", 204, 204),
            ("HEAD", "/api/hubs/h/permissions/joinLeaveGroup/connections/c?targetName=g", 200, 404),
        ] {
            for (answer, status) in [(Answer::Done, done), (Answer::NotFound, absent)] {
                let authorization = format!("Authorization: Bearer {}\r\n", setup.token(path));
                let (text, calls) = setup.ask_bare(method, path, &authorization, "", answer);
                assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {text}");
                assert_eq!(calls.len(), 1, "{method} {path}");
                if method == "HEAD" {
                    assert!(!text.contains('{'), "{text}");
                }
            }
        }
    }

    #[test]
    fn refusals_read_well() {
        let mut setup = setup();
        let mut text = String::new();
        let long = "x".repeat(1001);
        for (method, path, headers, body) in [
            ("POST", "/api/hubs/1/:send", "", ""),
            ("POST", "/api/hubs/h/:send", "Content-Type: application/json\r\n", "{"),
            ("POST", "/api/hubs/h/:send", "Content-Type: application/xml\r\n", "<a/>"),
            ("POST", "/api/hubs/h/:send?api-version=2099-01-01", "", ""),
            ("POST", "/api/hubs/h/:send?messageTtlSeconds=301", "", ""),
            ("GET", "/api/hubs/h/:send", "", ""),
            ("POST", "/api/hubs/h/groups/g/:invoke", "", ""),
            ("POST", "/api/hubs/h/:addToGroups", "", "{}"),
            ("POST", "/api/hubs/h/:addToGroups", "Content-Type: application/json\r\n", "{}"),
            ("GET", "/api/hubs/h/groups/g/connections?continuationToken=x", "", ""),
            ("GET", "/api/nothing", "", ""),
            ("GET", "/client/hubs/h", "", ""),
            ("GET", "/clients/mqtt/hubs/h", "", ""),
            ("GET", "/", "", ""),
            ("POST", "/api/hubs/h/:send", "", long.as_str()),
        ] {
            let (answer, calls) = setup.ask(method, path, headers, body);
            assert!(calls.is_empty());
            text.push_str(&format!("> {method} {path}\n{answer}\n\n"));
        }
        let mut setup = self::setup();
        let (answer, _) = setup.ask_bare("POST", "/api/hubs/h/:send", "", "body", Answer::Done);
        text.push_str(&format!("> without a token\n{answer}\n\n"));
        setup.drain.ask();
        let (answer, _) = setup.ask_bare("GET", "/api/health", "", "", Answer::Done);
        text.push_str(&format!("> health while draining\n{answer}\n"));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_refused_request_leaves_the_connection_usable() {
        let mut setup = setup();
        let (answer, _) = setup.ask_bare("POST", "/api/hubs/h/:send", "", "body", Answer::Done);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        for method in ["GET", "HEAD"] {
            let (answer, _) = setup.ask_bare(method, "/api/health", "", "", Answer::Done);
            assert!(answer.starts_with("HTTP/1.1 200 OK\ncontent-length: 0"), "{answer}");
        }
    }

    #[test]
    fn over_the_rate_calls_are_to_be_tried_again_and_health_and_strangers_do_not_count() {
        let mut setup = setup_with(2);
        let (health, stranger) = ("/api/health", "/api/hubs/h/:send");
        for _ in 0..5 {
            assert!(setup.ask_bare("GET", health, "", "", Answer::Done).0.starts_with("HTTP/1.1 200"));
            assert!(setup.ask_bare("POST", stranger, "", "", Answer::Done).0.starts_with("HTTP/1.1 401"));
        }
        let answers: Vec<_> = (0..20).map(|_| setup.ask("POST", stranger, "", "body").0).collect();
        assert!(answers[..2].iter().all(|answer| answer.starts_with("HTTP/1.1 202")), "{answers:?}");
        let refused: Vec<_> = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).collect();
        assert!(refused.len() >= 17, "{answers:?}");
        for part in ["x-ms-error-code: Error.TooManyRequests\n", "retry-after: 1\n"] {
            assert!(refused[0].contains(part), "{}", refused[0]);
        }
    }

    #[test]
    fn tokens_are_made_for_the_name_a_proxy_was_called_by() {
        let mut setup = setup();
        let forwarded = "X-Forwarded-Host: pubsub.example.com\r\nX-Forwarded-Proto: https\r\n";
        let (answer, _) = setup.ask("POST", "/api/hubs/h/:generateToken", forwarded, "");
        let body: serde_json::Value = serde_json::from_str(answer.rsplit('\n').next().unwrap()).unwrap();
        let token = body["token"].as_str().unwrap();
        let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], "https://pubsub.example.com/client/hubs/h");
    }

    #[test]
    fn generated_tokens_open_the_hub() {
        let mut setup = setup();
        let path = "/api/hubs/h/:generateToken?userId=u&role=webpubsub.sendToGroup&group=g&minutesToExpire=7";
        let (answer, calls) = setup.ask("POST", path, "", "");
        assert!(calls.is_empty() && answer.starts_with("HTTP/1.1 200 OK\n"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(answer.rsplit('\n').next().unwrap()).unwrap();
        let token = body["token"].as_str().unwrap();
        let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            claims,
            json!({
                "role": ["webpubsub.sendToGroup"], "webpubsub.group": ["g"], "iat": NOW,
                "exp": NOW + 420, "aud": "http://localhost/client/hubs/h", "sub": "u",
            })
        );
    }
}
