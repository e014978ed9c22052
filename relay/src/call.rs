//! One event's way: it waits for its turn and a place, is sent, perhaps again, and ends in a reply
//! (`event-handlers` §4, §5).
//!
//! What must stay true: one deadline is over everything from the event's coming to the last byte of its answer, and
//! whatever happens to it ends in [`Call::end`], which counts it, logs it and answers, once.

mod log;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use ringhub_hub::event::{Event, EventSubject, Refusal, Reply};
use ringhub_protocol::events::{connect_answer, user_answer};
use ringhub_protocol::pubsub::metadata::HEADER_PREFIX;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::{BodyFault, read_start};
use crate::breaker::{Admission, End};
use crate::client::{Answer, AnswerHeaders, Body, Outgoing, SendFault};
use crate::dispatch::{Question, event_attributes};
use crate::gate::Inside;
use crate::headers::{self, RequestId};
use crate::memory::{Begun, Memory, STATE_BYTES_MAX, Turn};
use crate::report::{CallReport, Outcome, body_start};
use crate::upstream::{Authorization, Upstream};
use crate::validation::Denial;

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
    /// Of an answer's body, when nobody needs it.
    rest: Option<Body>,
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
            rest: None,
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
        self.inside = match self.event.subject {
            // §4.3: it is always sent, also when everybody leaves at once. Connections bound how many there are.
            EventSubject::Disconnected => Some(self.upstream.gate.enter_always(self.event.bytes(), may_go)),
            _ => self.upstream.gate.enter(self.event.bytes(), may_go),
        };
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
        // What nobody waits for any more.
        if let Some(rest) = self.rest.take() {
            rest.pass_over().await;
        }
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
            let token = match &upstream.authorization {
                Authorization::Bearer(tokens) => match tokens.authorization().await {
                    Ok(token) => Some((tokens, token)),
                    Err(no_token) => {
                        let verdict = Verdict::unreachable(no_token.cause.to_string());
                        return Verdict { again: no_token.may_pass, ..verdict };
                    }
                },
                Authorization::None | Authorization::Header(..) => None,
            };
            let authorization = match (&upstream.authorization, &token) {
                (_, Some((_, token))) => Some((headers::AUTHORIZATION, token)),
                (Authorization::Header(name, value), _) => Some((name.as_str(), value)),
                _ => None,
            };
            self.trace.attempts += 1;
            (self.trace.status, self.trace.first_byte) = (None, None);
            let turn = self.turn.take();
            let connection_id = self.event.caller.id.text();
            let signature = self.memory.signature(&self.question.desk.signer, connection_id.as_str());
            let cookies = self.memory.cookies(&uri, self.time_unix_ms / 1000);
            let call = &*self;
            let put_headers = |put: &mut dyn FnMut(&str, &[u8])| {
                call.put_headers(connection_id.as_str(), put);
                put(headers::SIGNATURE, signature.as_bytes());
                if let Some(cookies) = &cookies {
                    put(headers::COOKIE, cookies.as_bytes());
                }
                if let Some((name, value)) = authorization {
                    put(name, value.as_bytes());
                }
            };
            let body = self.event.body.clone();
            let mut request = Outgoing { method: Method::POST, uri: &uri, headers: put_headers, body, turn };
            let answer = match upstream.client.send(&mut request).await {
                Ok(answer) => answer,
                Err(SendFault::Unreachable(cause) | SendFault::Broken(cause)) => {
                    return Verdict::unreachable(cause);
                }
                Err(SendFault::Nonsense(cause)) => return Verdict::failed(Outcome::Invalid, 502, cause),
            };
            self.trace.first_byte = Some(self.began.elapsed());
            self.trace.status = Some(answer.status);
            match token {
                Some((tokens, token)) if answer.status == 401 && may_renew => {
                    may_renew = false;
                    tokens.forget(&token);
                }
                _ => return self.answered(&uri, answer, is_last).await,
            }
        }
    }

    /// §3, but for what is found out for each attempt.
    fn put_headers(&self, connection_id: &str, put: &mut dyn FnMut(&str, &[u8])) {
        let attributes = event_attributes(&self.event, connection_id, self.id, self.time_unix_ms / 1000);
        attributes.headers(&mut |name, value| put(name, value.as_bytes()));
        attributes.metadata_headers(&mut |name, value| put(name, value.as_bytes()));
        put(headers::ORIGIN, self.event.caller.origin.as_bytes());
        put(headers::REQUEST_ID, &self.request_id);
        // It is opaque: it goes as it came, not through text.
        if let Some(state) = &self.state {
            put(headers::STATE, state.as_bytes());
        }
    }

    /// Judges an answer by its head, and reads what is needed of its body.
    async fn answered(&mut self, uri: &Uri, mut answer: Answer, is_last: bool) -> Verdict {
        let status = answer.status;
        let (outcome, again) = match status {
            200..=299 => return self.accepted(uri, answer).await,
            408 | 500..=599 => (Outcome::ServerError, true),
            400..=499 if matches!(self.event.subject, EventSubject::Connect) => (Outcome::Refused, false),
            400..=499 => (Outcome::ClientError, false),
            300..=399 => {
                let cause = format!("the handler answered {status}; redirects are not followed");
                return Verdict::failed(Outcome::Invalid, 502, cause);
            }
            _ => return Verdict::failed(Outcome::Invalid, 502, format!("the handler answered {status}")),
        };
        let reply = match self.event.subject {
            EventSubject::Connect if is_last || !again => Reply::Refused(self.refusal(&mut answer).await),
            _ => Reply::Failed(status),
        };
        self.rest = Some(answer.body).filter(|_| is_last || !again);
        Verdict { outcome, reply, cause: format!("the handler answered {status}").into(), again }
    }

    async fn refusal(&mut self, answer: &mut Answer) -> Refusal {
        let status = answer.status;
        if !self.upstream.settings().forward_refusals {
            return Refusal { status, content_type: None, body: Bytes::new() };
        }
        let body = read_start(&mut answer.body, REFUSAL_BYTES_MAX).await;
        self.note_body(&body);
        let mut content_type = None;
        answer.headers.each(|name, value| {
            if is(name, headers::CONTENT_TYPE) {
                content_type =
                    HeaderValue::from_bytes(value).ok().and_then(|value| value.to_str().map(Box::from).ok());
            }
        });
        Refusal { status, content_type, body }
    }

    /// A 2xx.
    async fn accepted(&mut self, uri: &Uri, mut answer: Answer) -> Verdict {
        let mut content_type = None;
        let mut state = None;
        let mut metadata = Vec::new();
        let headers = std::mem::replace(&mut answer.headers, AnswerHeaders::Lines(Box::default()));
        headers.each(|name, value| {
            if is(name, headers::SET_COOKIE) {
                self.memory.set_cookie(uri, value, crate::now_unix());
            } else if is(name, headers::CONTENT_TYPE) {
                content_type = Some(std::str::from_utf8(value).unwrap_or("not text"));
            } else if is(name, headers::STATE) {
                // §4.4: of repeated ones the last counts.
                state = Some(value);
            } else if let Some((prefix, _)) = name.split_at_checked(HEADER_PREFIX.len())
                && is(prefix, HEADER_PREFIX)
                && let Ok(name) = std::str::from_utf8(name)
            {
                metadata.push((name, value));
            }
        });
        let is_connect = match self.event.subject {
            EventSubject::Connect => true,
            EventSubject::User(_) => false,
            _ => {
                self.rest = Some(answer.body);
                return Verdict::success(Reply::Answered(None));
            }
        };
        let state = match state.map(|state| (state.len() <= STATE_BYTES_MAX, HeaderValue::from_bytes(state)))
        {
            None => None,
            Some((true, Ok(state))) => Some(state),
            Some(_) => {
                let cause = format!(
                    "the connection state is larger than {STATE_BYTES_MAX} bytes, or no header's value"
                );
                return Verdict::failed(Outcome::Invalid, 502, cause);
            }
        };
        let bytes_max = self.upstream.settings().answer_bytes_max;
        let body = match self.question.desk.room.read(&mut answer.body, bytes_max).await {
            Ok(body) => body,
            Err(BodyFault::TooLarge(max)) => {
                let cause = format!("the answer is larger than {max} bytes");
                return Verdict::failed(Outcome::TooLarge, 502, cause);
            }
            Err(BodyFault::Fault(SendFault::Nonsense(cause))) => {
                return Verdict::failed(Outcome::Invalid, 502, cause);
            }
            Err(BodyFault::Fault(fault)) => {
                return Verdict::failed(Outcome::Unreachable, 502, fault.into_text());
            }
        };
        // The connection is free again.
        drop(answer);
        self.note_body(&body);
        let reply = if is_connect {
            connect_answer(&body).map(|acceptance| Reply::Accepted(Box::new(acceptance)))
        } else {
            user_answer(content_type, body, metadata.into_iter()).map(Reply::Answered)
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

    /// The end, once.
    fn end(&mut self, verdict: Verdict) {
        self.has_ended = true;
        self.turn = None;
        // As long as the rest has to be waited for, its connection is one of those that may be open at a time.
        self.rest = self.rest.take().and_then(|mut rest| (!rest.is_over()).then_some(rest));
        if self.rest.is_none() {
            self.inside = None;
        }
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

/// Whether a header has this name.
fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Desk;
    use crate::exchange::Exchange;
    use crate::signature::Signer;
    use ringhub_hub::event::Caller;
    use ringhub_hub::{ConnectionId, CoreId, Ticket};
    use ringhub_protocol::events::UrlTemplate;
    use ringhub_protocol::name::HubName;
    use ringhub_protocol::pubsub::DataType;

    /// Whatever happens: an answer comes, the place is free, and the next of the connection may go.
    #[test]
    fn a_panic_on_its_way_is_an_answer() {
        let exchange = Arc::new(Exchange::new(1));
        let desk = Desk::new(exchange.clone(), Signer::new(&["key"]));
        let template = UrlTemplate::parse("http://127.0.0.1:1/", &mut |_| unreachable!()).unwrap();
        let upstream = Upstream::new(crate::upstream::tests::settings(template)).unwrap();
        let caller = Arc::new(Caller {
            hub: HubName::parse("chat").unwrap(),
            id: ConnectionId { node: 0, core: CoreId(0), slot: 0, random: 0 },
            origin: "localhost".into(),
            memory: std::sync::OnceLock::new(),
        });
        let memory = Memory::of(&caller);
        let event = Event {
            caller,
            user: None,
            subprotocol: None,
            subject: EventSubject::User("a".into()),
            data_type: DataType::Text,
            body: Bytes::new(),
            metadata: None,
            handler: None,
            listeners: Vec::new(),
            ticket: Some(Ticket(7)),
        };
        let begun = memory.begin(&event.subject);
        let question = Question::new(&desk, CoreId(0), 3, event.ticket);
        let call = Call::new(question, upstream.clone(), Box::new(event), memory.clone(), begun, 0);
        let call = call.enter().expect("there is a place");
        assert_eq!((upstream.report().in_flight, desk.report().events), (1, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = async move {
            let _call = call;
            panic!("as a bug would");
        };
        assert!(runtime.block_on(async { tokio::spawn(task).await }).is_err());
        let answer = exchange.next_answer(CoreId(0)).expect("an answer");
        assert_eq!((answer.hub, answer.ticket, answer.reply), (3, Ticket(7), Reply::Failed(500)));
        assert!(exchange.next_answer(CoreId(0)).is_none());
        let report = upstream.report();
        assert_eq!((report.in_flight, report.calls[0].outcome), (0, Outcome::Internal));
        assert_eq!(desk.report().events, 0);
        assert!(memory.begin(&EventSubject::Connected).turn.is_first());
    }
}
