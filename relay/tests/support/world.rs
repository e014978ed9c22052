//! A relay with one core that asks it.

use bytes::Bytes;
use ringhub_hub::event::{Caller, Event, EventSubject, Reply};
use ringhub_hub::{ConnectionId, CoreId, Ticket};
use ringhub_protocol::events::UrlTemplate;
use ringhub_protocol::name::HubName;
use ringhub_protocol::pubsub::DataType;
use ringhub_relay::exchange::{Answer, Ask, Exchange};
use ringhub_relay::upstream::{HandlerAuth, HttpVersion, Upstream, UpstreamSettings};
use ringhub_relay::{Relay, Settings, Signer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use super::handler::PATIENCE;

pub(crate) const CORE: CoreId = CoreId(0);
pub(crate) const HUB: u32 = 7;

pub(crate) struct World {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) signer: Arc<Signer>,
    relay: Option<Relay>,
    bell: Arc<(Mutex<u64>, Condvar)>,
    answers: Mutex<VecDeque<Answer>>,
    tickets: AtomicU64,
}

impl World {
    pub(crate) fn start() -> Self {
        let exchange = Arc::new(Exchange::new(1));
        let bell = Arc::new((Mutex::new(0), Condvar::new()));
        let rung = bell.clone();
        exchange.set_bell(Box::new(move |core| {
            assert_eq!(core, CORE);
            *rung.0.lock().unwrap() += 1;
            rung.1.notify_all();
        }));
        let signer = Signer::new(&["first", "second"]);
        let settings = Settings { issuers: Vec::new(), exchange: exchange.clone(), signer: signer.clone() };
        Self {
            exchange,
            signer,
            relay: Some(Relay::start(settings).unwrap()),
            bell,
            answers: Mutex::default(),
            tickets: AtomicU64::new(1),
        }
    }

    /// Asks for several events in one batch.
    pub(crate) fn send(&self, events: Vec<Event>) {
        self.give(events.into_iter().map(|event| Ask::Event(HUB, Box::new(event))).collect());
    }

    /// As a core does: what does not fit is kept until it does.
    fn give(&self, mut asks: Vec<Ask>) {
        while let Err(kept) = self.exchange.ask(CORE, asks) {
            asks = kept;
            std::thread::yield_now();
        }
    }

    /// Sends an event that is waited for.
    pub(crate) fn ask(&self, mut event: Event) -> Ticket {
        let ticket = self.ticket();
        event.ticket = Some(ticket);
        self.send(vec![event]);
        ticket
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn cancel(&self, ticket: Ticket) {
        self.give(vec![Ask::Cancel(HUB, ticket)]);
    }

    /// Waits for the answer to a question.
    pub(crate) fn reply(&self, ticket: Ticket) -> Reply {
        self.reply_within(ticket, PATIENCE).unwrap_or_else(|| panic!("no answer to {ticket:?}"))
    }

    pub(crate) fn reply_within(&self, ticket: Ticket, patience: Duration) -> Option<Reply> {
        let is_there = || {
            let mut answers = self.answers.lock().unwrap();
            while let Some(answer) = self.exchange.next_answer(CORE) {
                assert_eq!(answer.hub, HUB);
                answers.push_back(answer);
            }
            answers
                .iter()
                .position(|answer| answer.ticket == ticket)
                .map(|at| answers.remove(at).unwrap().reply)
        };
        let mut rung = self.bell.0.lock().unwrap();
        let end = std::time::Instant::now() + patience;
        loop {
            if let Some(reply) = is_there() {
                return Some(reply);
            }
            let left = end.checked_duration_since(std::time::Instant::now())?;
            rung = self.bell.1.wait_timeout(rung, left).unwrap().0;
        }
    }

    /// Sends an event and waits for what comes of it.
    pub(crate) fn call(&self, event: Event) -> Reply {
        self.reply(self.ask(event))
    }

    pub(crate) fn begin_stop(&self, grace: Duration) {
        if let Some(relay) = &self.relay {
            relay.stop(grace);
        }
    }

    /// Ends the relay, and waits for it; a stop that was begun goes on as it was.
    pub(crate) fn stop(&mut self, grace: Duration) {
        if let Some(relay) = self.relay.take() {
            relay.stop(grace);
            relay.join();
        }
    }

    /// Answers that came and were not waited for.
    pub(crate) fn left_answers(&self) -> usize {
        let _ = self.reply_within(Ticket(0), Duration::ZERO);
        self.answers.lock().unwrap().len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

pub(crate) fn settings(url: &str) -> UpstreamSettings {
    UpstreamSettings {
        hub: HubName::parse("chat").unwrap(),
        place: 0,
        template: UrlTemplate::parse(url, &mut |_| Ok("s3cret".to_owned())).unwrap(),
        auth: HandlerAuth::None,
        validate: false,
        http: HttpVersion::Auto,
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        retry_delays: vec![Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(30)],
        answer_bytes_max: 16 * 1024 * 1024,
        concurrency_max: 100,
        queue_max: 1000,
        queue_bytes_max: 16 * 1024 * 1024,
        breaker_failures: 0,
        ca_file: None,
        forward_refusals: true,
        inspect_bodies: true,
    }
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) caller: Arc<Caller>,
    pub(crate) upstream: Arc<Upstream>,
}

impl Client {
    pub(crate) fn new(upstream: &Arc<Upstream>) -> Self {
        static RANDOM: AtomicU64 = AtomicU64::new(1);
        let random = RANDOM.fetch_add(1, Ordering::Relaxed).into();
        let caller = Caller {
            hub: HubName::parse("chat").unwrap(),
            id: ConnectionId { node: 0, core: CORE, slot: 1, random },
            origin: "pubsub.example".into(),
            memory: OnceLock::new(),
        };
        Self { caller: Arc::new(caller), upstream: upstream.clone() }
    }

    pub(crate) fn event(&self, subject: EventSubject, data_type: DataType, body: impl Into<Bytes>) -> Event {
        Event {
            caller: self.caller.clone(),
            user: None,
            subprotocol: None,
            subject,
            data_type,
            body: body.into(),
            metadata: None,
            handler: Some(self.upstream.clone()),
            listeners: Vec::new(),
            ticket: None,
        }
    }

    pub(crate) fn connect(&self) -> Event {
        self.event(EventSubject::Connect, DataType::Json, r#"{"claims":{}}"#)
    }

    pub(crate) fn connected(&self) -> Event {
        self.event(EventSubject::Connected, DataType::Json, "{}")
    }

    pub(crate) fn user(&self, name: &str, text: &str) -> Event {
        self.event(EventSubject::User(name.into()), DataType::Text, text.to_owned())
    }
}
