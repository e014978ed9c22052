//! Takes what cores ask, in order, and sets it on its way.
//!
//! What must stay true: the events of a connection are numbered and lined up in the order in which its core gave
//! them; every question is answered exactly once, for a [`Question`] that is dropped answers by itself.

use bytes::Bytes;
use hashbrown::HashMap;
use ringhub_hub::event::{Event, Reply};
use ringhub_hub::{CoreId, Ticket};
use ringhub_protocol::events::Attributes;
use ringhub_protocol::name::UserId;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::RelayReport;
use crate::answer::{Room, SMALL_ANSWERS_MAX};
use crate::call::Call;
use crate::exchange::{Answer, Ask, Exchange};
use crate::headers::RequestIds;
use crate::listener::{Listener, Queue};
use crate::memory::{Begun, Memory};
use crate::signature::Signer;
use crate::upstream::Upstream;

/// What all events share. It is used on the relay's thread; others only look at it.
#[derive(Debug)]
pub(crate) struct Desk {
    exchange: Arc<Exchange>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) room: Room,
    pub(crate) request_ids: RequestIds,
    /// Where the questions are that may be cancelled.
    open: Mutex<Open>,
    /// Events that have not ended.
    events: AtomicUsize,
    /// The last of them ended.
    none_left: Notify,
    is_closing: AtomicBool,
    /// Of all listeners that heard of anything.
    queues: Mutex<Vec<Weak<Queue>>>,
}

/// When the relay ends, listeners are waited for this long, all together (§9).
const LISTENERS_FLUSH_MAX: Duration = Duration::from_secs(10);

/// Names a question: tickets are a hub's on its core.
type Key = (CoreId, u32, Ticket);

type Open = HashMap<Key, AbortHandle, foldhash::fast::RandomState>;

impl Desk {
    pub(crate) fn new(exchange: Arc<Exchange>, signer: Arc<Signer>) -> Arc<Self> {
        Arc::new(Self {
            exchange,
            signer,
            room: Room::new(SMALL_ANSWERS_MAX),
            request_ids: RequestIds::new(),
            open: Mutex::default(),
            events: AtomicUsize::new(0),
            none_left: Notify::new(),
            is_closing: AtomicBool::new(false),
            queues: Mutex::default(),
        })
    }

    /// Works until `stop` holds how long events in flight may take, and then as long. What was asked before is taken.
    pub(crate) async fn work(self: Arc<Self>, mut stop: watch::Receiver<Option<Duration>>) {
        let grace = tokio::select! {
            () = self.take_all() => return,
            grace = stop.wait_for(Option::is_some) => grace.map_or(None, |grace| *grace).unwrap_or_default(),
        };
        while let Some((core, batch)) = self.exchange.try_next_batch() {
            self.take_batch(core, batch);
        }
        self.is_closing.store(true, Ordering::Relaxed);
        let all_ended = async {
            while self.events.load(Ordering::Relaxed) > 0 {
                self.none_left.notified().await;
            }
        };
        tokio::select! {
            // To cancel what is cancelled, and to refuse what is new.
            () = self.take_all() => {}
            _ = timeout(grace, all_ended) => {}
        }
        self.flush_listeners();
    }

    /// Takes what is asked, for ever.
    async fn take_all(self: &Arc<Self>) {
        loop {
            let (core, batch) = self.exchange.next_batch().await;
            self.take_batch(core, batch);
            // However much cores ask: what was taken goes on.
            tokio::task::yield_now().await;
        }
    }

    fn take_batch(self: &Arc<Self>, core: CoreId, batch: Vec<Ask>) {
        let now_unix_ms = now_unix_ms();
        for ask in batch {
            match ask {
                Ask::Event(hub, event) => self.take(core, hub, event, now_unix_ms),
                Ask::Cancel(hub, ticket) => self.cancel(&(core, hub, ticket)),
            }
        }
    }

    fn take(self: &Arc<Self>, core: CoreId, hub: u32, mut event: Box<Event>, now_unix_ms: u64) {
        let question = Question::new(self, core, hub, event.ticket);
        let memory = Memory::of(&event.caller);
        let begun = memory.begin(&event.subject);
        if !event.listeners.is_empty() {
            self.copy_to_listeners(&event, &begun, now_unix_ms / 1000);
        }
        let Some(handler) = event.handler.take() else { return };
        let Ok(upstream) = handler.downcast::<Upstream>() else {
            tracing::error!(?event, "the event's handler is none of the relay's");
            return;
        };
        let key = question.key;
        let call = Call::new(question, upstream, event, memory, begun, now_unix_ms);
        let Some(call) = call.enter() else { return };
        // Boxed, for the runtime moves a task several times before it runs.
        let task = tokio::spawn(Box::pin(call.run()));
        if let Some(key) = key {
            self.open().insert(key, task.abort_handle());
        }
    }

    /// One text for all of them. They hear of an event before or while its handler does, and nobody waits for them.
    fn copy_to_listeners(&self, event: &Event, begun: &Begun, now_unix: u64) {
        let connection_id = event.caller.id.text();
        let state = begun.state.as_ref().map(|state| String::from_utf8_lossy(state.as_bytes()));
        let attributes = Attributes {
            state: state.as_deref(),
            ..event_attributes(event, connection_id.as_str(), begun.id, now_unix)
        };
        let mut line = Vec::with_capacity(512 + event.body.len());
        attributes.write_json(&mut line, &event.body);
        line.push(b'\n');
        let line = Bytes::from(line);
        for target in &event.listeners {
            let Some(listener) = target.downcast_ref::<Listener>() else {
                tracing::error!(?event, "the event's listener is none of the relay's");
                continue;
            };
            let queue = listener.queue();
            if !queue.is_known.swap(true, Ordering::Relaxed) {
                let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
                queues.retain(|queue| queue.strong_count() > 0);
                queues.push(Arc::downgrade(queue));
            }
            queue.push(line.clone());
        }
    }

    /// Waits until listeners have what they are to have.
    fn flush_listeners(&self) {
        let end = std::time::Instant::now() + LISTENERS_FLUSH_MAX;
        let queues = std::mem::take(&mut *self.queues.lock().unwrap_or_else(PoisonError::into_inner));
        for queue in queues.iter().filter_map(Weak::upgrade) {
            queue.flush(end);
        }
    }

    fn cancel(&self, key: &Key) {
        let task = self.open().remove(key);
        if let Some(task) = task {
            // What the task drops, answers.
            task.abort();
        }
    }

    pub(crate) fn report(&self) -> RelayReport {
        let (answers, large_answer_bytes) = self.room.taken();
        let (events, questions) = (self.events.load(Ordering::Relaxed), self.open().len());
        RelayReport { events, questions, answers, large_answer_bytes }
    }

    /// Whether the relay is about to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event that has not ended, and who waits for its answer, if anybody.
pub(crate) struct Question {
    pub(crate) desk: Arc<Desk>,
    key: Option<Key>,
}

impl Question {
    pub(crate) fn new(desk: &Arc<Desk>, core: CoreId, hub: u32, ticket: Option<Ticket>) -> Self {
        desk.events.fetch_add(1, Ordering::Relaxed);
        Self { desk: desk.clone(), key: ticket.map(|ticket| (core, hub, ticket)) }
    }

    /// Answers, if somebody waits.
    pub(crate) fn answer(&mut self, reply: Reply) {
        if let Some(key) = self.key.take() {
            self.desk.open().remove(&key);
            let (core, hub, ticket) = key;
            self.desk.exchange.answer(core, Answer { hub, ticket, reply });
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.answer(Reply::Failed(500));
        if self.desk.events.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.desk.none_left.notify_one();
        }
    }
}

/// What is said with an event, but for the connection's state.
pub(crate) fn event_attributes<'a>(
    event: &'a Event,
    connection_id: &'a str,
    id: u64,
    time_unix: u64,
) -> Attributes<'a> {
    Attributes {
        hub: event.caller.hub.as_str(),
        connection_id,
        user: event.user.as_ref().map(UserId::as_str),
        subprotocol: event.subprotocol.as_deref(),
        subject: event.subject.subject(),
        id,
        time_unix,
        state: None,
        data_type: event.data_type,
        metadata: event.metadata.as_ref(),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
