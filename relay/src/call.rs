//! One event's way: it waits for its turn and a place, is sent, perhaps again, and ends in a reply
//! (`event-handlers` §4, §5).
//!
//! What must stay true: one deadline is over everything from the event's coming to the last byte of its answer, and
//! whatever happens to it ends in [`Call::end`], which counts it, logs it and answers, once.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, SET_COOKIE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ringhub_hub::event::{Event, EventSubject, Refusal, Reply};
use ringhub_protocol::events::cloudevents::METADATA_PREFIX;
use ringhub_protocol::events::{connect_answer, user_answer};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Level;

use crate::answer::{BodyFault, read_start};
use crate::breaker::{Admission, BreakerState, End};
use crate::client::{EventBody, SendFault};
use crate::dispatch::{Question, event_attributes};
use crate::gate::Inside;
use crate::headers::{self, ORIGIN, REQUEST_ID, RequestId, SIGNATURE, STATE, Values};
use crate::memory::{Begun, Memory, STATE_BYTES_MAX, Turn};
use crate::report::{CallReport, Outcome, body_start};
use crate::upstream::{Authorization, Upstream};
use crate::validation::Denial;

/// What is shown of a cause in the log, in characters.
const CAUSE_SHOWN_MAX: usize = 300;

/// What of a refusal's body goes to the client, in bytes (§4.1).
pub(crate) const REFUSAL_BYTES_MAX: usize = 4096;

/// An event on its way to a handler.
pub(crate) struct Call {
    question: Question,
    upstream: Arc<Upstream>,
    event: Box<Event>,
    memory: Arc<Memory>,
    id: u64,
    state: Option<HeaderValue>,
    request_id: RequestId,
    time_unix_ms: u64,
    /// Until the request is handed over, or will not be for now.
    turn: Option<Turn>,
    inside: Option<Inside>,
    is_probe: bool,
    began: Instant,
    trace: Trace,
    has_ended: bool,
}

/// What the inspector is told.
#[derive(Default)]
struct Trace {
    attempts: u32,
    status: Option<u16>,
    queue: Option<Duration>,
    first_byte: Option<Duration>,
    answer_bytes: usize,
    answer_body: Option<Bytes>,
}

/// What became of an attempt, or of the whole call.
struct Verdict {
    outcome: Outcome,
    reply: Reply,
    /// For the operator.
    cause: Cow<'static, str>,
    /// Whether another attempt may do better (§5).
    again: bool,
}

impl Verdict {
    fn failed(outcome: Outcome, status: u16, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, reply: Reply::Failed(status), cause: cause.into(), again: false }
    }

    fn unreachable(cause: impl Into<Cow<'static, str>>) -> Self {
        Self { again: true, ..Self::failed(Outcome::Unreachable, 502, cause) }
    }

    fn success(reply: Reply) -> Self {
        Self { outcome: Outcome::Success, reply, cause: Cow::Borrowed(""), again: false }
    }
}

impl Call {
    pub(crate) fn new(
        question: Question,
        upstream: Arc<Upstream>,
        event: Box<Event>,
        memory: Arc<Memory>,
        begun: Begun,
        time_unix_ms: u64,
    ) -> Self {
        let request_id = question.desk.request_ids.next();
        Self {
            question,
            upstream,
            event,
            memory,
            id: begun.id,
            state: begun.state,
            request_id,
            time_unix_ms,
            turn: Some(begun.turn),
            inside: None,
            is_probe: false,
            began: Instant::now(),
            trace: Trace::default(),
            has_ended: false,
        }
    }

    /// Comes to the handler's gate; `None` if that was the end of it.
    pub(crate) fn enter(mut self) -> Option<Self> {
        if self.question.desk.is_closing() {
            self.end(Verdict::failed(Outcome::Cancelled, 503, "the server stops"));
            return None;
        }
        if let Err(verdict) = self.ask_breaker(self.began) {
            self.end(verdict);
            return None;
        }
        let may_go = self.turn.as_ref().is_none_or(Turn::is_first);
        self.inside = self.upstream.gate.enter(self.bytes(), may_go);
        if self.inside.is_none() {
            self.end(Verdict::failed(Outcome::Overloaded, 503, "too many events wait for the handler"));
            return None;
        }
        Some(self)
    }

    /// Goes all the way.
    pub(crate) async fn run(mut self) {
        let settings = self.upstream.settings();
        let timeout = match self.event.subject {
            EventSubject::Connect => settings.connect_timeout,
            _ => settings.timeout,
        };
        let verdict = match timeout_at(self.began + timeout, self.attempts()).await {
            Ok(verdict) => verdict,
            Err(_) => Verdict::failed(Outcome::Timeout, 504, self.timeout_cause()),
        };
        self.end(verdict);
    }

    /// Attempts, until one is the last.
    async fn attempts(&mut self) -> Verdict {
        if let Some(turn) = &self.turn {
            turn.comes().await;
        }
        let upstream = self.upstream.clone();
        let mut delays = upstream.settings().retry_delays.iter();
        loop {
            if let Some(inside) = &mut self.inside
                && !inside.has_place()
            {
                inside.take_place().await;
                // It may have come to need a rest meanwhile; but what is tried again is tried to the end.
                if self.trace.attempts == 0
                    && !self.is_probe
                    && let Err(verdict) = self.ask_breaker(Instant::now())
                {
                    return verdict;
                }
            }
            let delay = delays.next();
            let verdict = self.attempt(delay.is_none()).await;
            // Handed over or not: who comes behind may go.
            self.turn = None;
            let Some(delay) = delay.filter(|_| verdict.again) else { return verdict };
            if let Some(inside) = &mut self.inside {
                inside.give_back();
            }
            sleep(*delay).await;
        }
    }

    async fn attempt(&mut self, is_last: bool) -> Verdict {
        let upstream = self.upstream.clone();
        self.trace.queue.get_or_insert_with(|| self.began.elapsed());
        if upstream.settings().validate {
            match upstream.validations.check(&upstream.client, &self.event.caller.origin).await {
                Ok(()) => {}
                Err(Denial::Unreachable(cause)) => return Verdict::unreachable(cause.to_string()),
                Err(Denial::Refused(cause)) => {
                    return Verdict::failed(Outcome::NotValidated, 502, cause.to_string());
                }
            }
        }
        let uri = upstream.uri(self.event.subject.subject());
        let mut may_renew = true;
        loop {
            let mut headers = self.headers(&uri);
            let token = match &upstream.authorization {
                Authorization::None => None,
                Authorization::Header(name, value) => {
                    headers.insert(name.clone(), value.clone());
                    None
                }
                Authorization::Bearer(tokens) => match tokens.authorization().await {
                    Ok(token) => {
                        headers.insert(AUTHORIZATION, token.clone());
                        Some((tokens, token))
                    }
                    Err(no_token) => {
                        let verdict = Verdict::unreachable(no_token.cause.to_string());
                        return Verdict { again: no_token.may_pass, ..verdict };
                    }
                },
            };
            self.trace.attempts += 1;
            let mut request = Request::new(EventBody::new(self.event.body.clone(), self.turn.take()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers;
            let answer = match upstream.client.send(request).await {
                Ok(answer) => answer,
                Err(SendFault::Unreachable(cause)) => return Verdict::unreachable(cause),
                Err(SendFault::Nonsense(cause)) => return Verdict::failed(Outcome::Invalid, 502, cause),
            };
            self.trace.first_byte = Some(self.began.elapsed());
            self.trace.status = Some(answer.status().as_u16());
            match token {
                Some((tokens, token)) if answer.status() == StatusCode::UNAUTHORIZED && may_renew => {
                    may_renew = false;
                    tokens.forget(&token);
                }
                _ => return self.answered(&uri, answer, is_last).await,
            }
        }
    }

    /// §3.
    fn headers(&self, uri: &Uri) -> HeaderMap {
        let id = self.event.caller.id.text();
        // The state is opaque: it goes as it came, not through text.
        let attributes = event_attributes(&self.event, id.as_str(), self.id, self.time_unix_ms / 1000);
        let desk = &self.question.desk;
        // What an event has at most, without its metadata: the map takes room once.
        let mut headers = HeaderMap::with_capacity(24);
        let mut values = Values::with_capacity(512);
        attributes.headers(&mut |name, value| {
            if let Some(value) = values.value(value.as_bytes()) {
                headers.append(headers::name(name), value);
            }
        });
        attributes.metadata_headers(&mut |name, value| {
            if let (Ok(name), Some(value)) =
                (HeaderName::from_bytes(name.as_bytes()), values.value(value.as_bytes()))
            {
                headers.append(name, value);
            }
        });
        headers.insert(SIGNATURE, self.memory.signature(&desk.signer, id.as_str()));
        if let Some(origin) = values.value(self.event.caller.origin.as_bytes()) {
            headers.insert(ORIGIN, origin);
        }
        if let Some(request_id) = values.value(&self.request_id) {
            headers.insert(REQUEST_ID, request_id);
        }
        if let Some(state) = &self.state {
            headers.insert(STATE, state.clone());
        }
        if let Some(cookies) = self.memory.cookies(uri, self.time_unix_ms / 1000) {
            headers.insert(COOKIE, cookies);
        }
        headers
    }

    /// Judges an answer by its head, and reads what is needed of its body.
    async fn answered(&mut self, uri: &Uri, mut answer: Response<Incoming>, is_last: bool) -> Verdict {
        let status = answer.status();
        if status.is_success() {
            return self.accepted(uri, answer).await;
        }
        let (outcome, again) = match status.as_u16() {
            408 | 500..=599 => (Outcome::ServerError, true),
            400..=499 if matches!(self.event.subject, EventSubject::Connect) => (Outcome::Refused, false),
            400..=499 => (Outcome::ClientError, false),
            300..=399 => {
                let cause = format!("the handler answered {}; redirects are not followed", status.as_u16());
                return Verdict::failed(Outcome::Invalid, 502, cause);
            }
            _ => {
                let cause = format!("the handler answered {}, which is no end", status.as_u16());
                return Verdict::failed(Outcome::Invalid, 502, cause);
            }
        };
        let reply = match self.event.subject {
            EventSubject::Connect if is_last || !again => Reply::Refused(self.refusal(&mut answer).await),
            _ => Reply::Failed(status.as_u16()),
        };
        Verdict { outcome, reply, cause: format!("the handler answered {}", status.as_u16()).into(), again }
    }

    async fn refusal(&mut self, answer: &mut Response<Incoming>) -> Refusal {
        let status = answer.status().as_u16();
        if !self.upstream.settings().forward_refusals {
            return Refusal { status, content_type: None, body: Bytes::new() };
        }
        let body = read_start(answer, REFUSAL_BYTES_MAX).await;
        self.note_body(&body);
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Refusal { status, content_type: content_type.map(Box::from), body }
    }

    /// A 2xx.
    async fn accepted(&mut self, uri: &Uri, mut answer: Response<Incoming>) -> Verdict {
        let now_unix = crate::now_unix();
        for cookie in answer.headers().get_all(SET_COOKIE) {
            self.memory.set_cookie(uri, cookie, now_unix);
        }
        let is_connect = match self.event.subject {
            EventSubject::Connect => true,
            EventSubject::User(_) => false,
            // Nobody waits for more.
            _ => return Verdict::success(Reply::Answered(None)),
        };
        // §4.4: of repeated ones the last counts.
        let state = answer.headers().get_all(STATE).into_iter().next_back().cloned();
        if state.as_ref().is_some_and(|state| state.len() > STATE_BYTES_MAX) {
            let cause = format!("the connection state is larger than {STATE_BYTES_MAX} bytes");
            return Verdict::failed(Outcome::Invalid, 502, cause);
        }
        let bytes_max = self.upstream.settings().answer_bytes_max;
        let desk = self.question.desk.clone();
        let body = match desk.room.read(&mut answer, bytes_max).await {
            Ok(body) => body,
            Err(BodyFault::TooLarge(max)) => {
                let cause = format!("the answer is larger than {max} bytes");
                return Verdict::failed(Outcome::TooLarge, 502, cause);
            }
            Err(BodyFault::Broken(cause)) => {
                return Verdict::failed(Outcome::Unreachable, 502, format!("the answer broke off: {cause}"));
            }
        };
        self.note_body(&body);
        let reply = if is_connect {
            connect_answer(&body).map(|acceptance| Reply::Accepted(Box::new(acceptance)))
        } else {
            let headers = answer.headers();
            let content_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("not ASCII"));
            let metadata = headers.iter().filter_map(|(name, value)| {
                Some((name.as_str().strip_prefix(METADATA_PREFIX)?, value.to_str().ok()?))
            });
            user_answer(content_type, body, metadata).map(Reply::Answered)
        };
        match reply {
            Ok(reply) => {
                if let Some(state) = state {
                    self.memory.set_state(state);
                }
                Verdict::success(reply)
            }
            Err(invalid) => Verdict::failed(Outcome::Invalid, 502, invalid.0),
        }
    }

    fn note_body(&mut self, body: &Bytes) {
        self.trace.answer_bytes = body.len();
        if self.upstream.settings().inspect_bodies {
            self.trace.answer_body = Some(body_start(body));
        }
    }

    fn ask_breaker(&mut self, now: Instant) -> Result<(), Verdict> {
        match self.upstream.breaker.admit(now) {
            Admission::Usual => Ok(()),
            Admission::Probe => {
                self.is_probe = true;
                Ok(())
            }
            Admission::Resting => Err(Verdict::failed(
                Outcome::Resting,
                503,
                "the handler is given a rest, for it failed too often",
            )),
        }
    }

    fn timeout_cause(&self) -> &'static str {
        match (self.trace.attempts, self.trace.first_byte) {
            (0, _) => "no place at the handler in time",
            (_, None) => "no answer in time",
            (_, Some(_)) => "no usable answer in time",
        }
    }

    /// What it takes while it waits.
    fn bytes(&self) -> usize {
        self.event.body.len() + self.event.metadata.as_ref().map_or(0, |metadata| metadata.bytes())
    }

    /// The end, once.
    fn end(&mut self, verdict: Verdict) {
        self.has_ended = true;
        self.turn = None;
        self.inside = None;
        let end = match verdict.outcome {
            Outcome::ServerError | Outcome::Unreachable => End::Failed,
            Outcome::Timeout if self.trace.attempts > 0 => End::Failed,
            Outcome::Timeout
            | Outcome::Resting
            | Outcome::Overloaded
            | Outcome::Cancelled
            | Outcome::Internal => End::Unknown,
            _ => End::Answered,
        };
        if let Some(state) = self.upstream.breaker.end(self.is_probe, end, Instant::now()) {
            self.log_breaker(state);
        }
        self.log(&verdict);
        let trace = std::mem::take(&mut self.trace);
        let total = self.began.elapsed();
        self.upstream.record.add(CallReport {
            time_unix_ms: self.time_unix_ms,
            subject: std::mem::replace(&mut self.event.subject, EventSubject::Connect),
            connection: self.event.caller.id,
            id: self.id,
            attempts: trace.attempts,
            status: trace.status,
            outcome: verdict.outcome,
            cause: verdict.cause,
            queue: trace.queue.unwrap_or(total),
            first_byte: trace.first_byte,
            total,
            request_bytes: self.event.body.len(),
            answer_bytes: trace.answer_bytes,
            bodies: self
                .upstream
                .settings()
                .inspect_bodies
                .then(|| (body_start(&self.event.body), trace.answer_body.unwrap_or_default())),
        });
        // Last: who gets it finds everything as it is from then on.
        self.question.answer(verdict.reply);
    }
}

impl Call {
    /// One record, in the words that the service's documentation has (`howto-troubleshoot-common-issues`).
    fn log(&self, verdict: &Verdict) {
        let is_failure = match verdict.outcome {
            Outcome::Success => return,
            Outcome::Refused | Outcome::Cancelled => false,
            _ => true,
        };
        let left_out = match (is_failure, tracing::enabled!(Level::DEBUG)) {
            (true, _) => self.upstream.failures.admits(Instant::now()),
            (false, is_wanted) => is_wanted.then_some(0),
        };
        let Some(left_out) = left_out else { return };
        let (kind, category, request_type) = match self.event.subject {
            EventSubject::Connect => ("sys", "connections", "Connect"),
            EventSubject::Connected => ("sys", "connections", "Connected"),
            EventSubject::Disconnected => ("sys", "connections", "Disconnected"),
            EventSubject::User(_) => ("user", "messages", "Message"),
            EventSubject::Joined(_) | EventSubject::Left(_) => ("gp", "groups", "Presence"),
        };
        let mut message = format!(
            "Sending message during operation hub:{},event:{},type:{kind},category:{category},requestType:{request_type} ",
            self.event.caller.hub.as_str(),
            self.event.subject.subject().name(),
        );
        match (verdict.outcome, self.trace.status) {
            (Outcome::Success | Outcome::Timeout | Outcome::Unreachable, _) | (_, None) => {
                message.push_str("got no response that could be used.");
            }
            (_, Some(status)) => {
                let _ = write!(message, "got unexpected response with status code {status}.");
            }
        }
        let settings = self.upstream.settings();
        // A part of it may be the handler's text: on one line, and short.
        let cause: String =
            verdict.cause.chars().take(CAUSE_SHOWN_MAX).flat_map(char::escape_debug).collect();
        let (handler, connection, attempts) = (settings.place, &self.event.caller.id, self.trace.attempts);
        let (url, outcome) = (&settings.template, verdict.outcome.name());
        if is_failure {
            tracing::warn!(handler, %url, %connection, id = self.id, attempts, outcome, cause, left_out, "{message}");
        } else {
            tracing::debug!(handler, %url, %connection, id = self.id, attempts, outcome, cause, "{message}");
        }
    }

    fn log_breaker(&self, state: BreakerState) {
        let settings = self.upstream.settings();
        let (hub, handler, url) = (settings.hub.as_str(), settings.place, &settings.template);
        match state {
            BreakerState::Closed => tracing::info!(hub, handler, %url, "the handler answers again"),
            BreakerState::Open => {
                tracing::warn!(hub, handler, %url, "the handler fails; its events fail at once until it had a rest");
            }
            BreakerState::Probing => {}
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.end(if std::thread::panicking() {
            Verdict::failed(Outcome::Internal, 500, "a fault of the server")
        } else if self.question.desk.is_closing() {
            Verdict::failed(Outcome::Cancelled, 503, "the server stopped")
        } else {
            Verdict::failed(Outcome::Cancelled, 499, "nobody waits for the answer any more")
        });
    }
}
