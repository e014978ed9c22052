//! Event listeners: each gets a copy of the events it wants, and nobody waits for it (`event-handlers` §9).
//!
//! Between the relay's thread and a sink stands a bounded queue; what does not fit makes the oldest leave, counted.
//! A thread of the listener's own empties it, so a disk that stalls holds up nothing else. It is started by the first
//! event and ends when the listener is gone and the queue is empty.

use bytes::Bytes;
use ringhub_protocol::name::HubName;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::StartError;
use crate::seldom::Seldom;
use crate::sink::{EventSink, FileSink, StdoutSink};
use crate::vital;

/// A sink is given this many bytes at a time, or one event that is larger.
const DELIVERY_BYTES: usize = 64 * 1024;

/// One listener, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Whose.
    pub hub: HubName,
    /// Its place among the hub's listeners, from 0.
    pub place: usize,
    /// Where its events go.
    pub destination: Destination,
    /// Events that may wait for the sink; one more makes the oldest leave.
    pub queue_max: usize,
    /// Their bytes; more make the oldest leave.
    pub queue_bytes_max: usize,
}

/// Where a listener's events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Lines of JSON at the end of this file, which may be moved away.
    File(PathBuf),
    /// Lines of JSON on standard output.
    Stdout,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}

/// What is known of a listener at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerReport {
    /// Its hub.
    pub hub: String,
    /// Its place among the hub's listeners, from 0.
    pub place: usize,
    /// Where its events go.
    pub destination: String,
    /// Events that the sink has taken.
    pub delivered: u64,
    /// Events that left because too many waited.
    pub dropped: u64,
    /// Events that the sink did not take.
    pub failed: u64,
    /// Events that wait, or are being delivered.
    pub queued: usize,
    /// Bytes of those that wait.
    pub queued_bytes: usize,
}

/// A listener. Behind [`ringhub_hub::event::Target`]; dropped, it still delivers what it has.
#[derive(Debug)]
pub struct Listener {
    settings: ListenerSettings,
    queue: Arc<Queue>,
}

/// What its two threads share.
pub(crate) struct Queue {
    name: String,
    events_max: usize,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    /// There is something, or it is to end.
    more: Condvar,
    /// There is nothing left.
    empty: Condvar,
    delivered: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// The relay knows it.
    pub(crate) is_known: AtomicBool,
    dropping: Seldom,
    failing: Seldom,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Bytes>,
    bytes: usize,
    /// Events that the sink is being given.
    in_hand: usize,
    /// Until the thread is started.
    sink: Option<Box<dyn EventSink>>,
    is_closed: bool,
}

impl Listener {
    /// A listener that has heard nothing yet. A file is opened, and made if there is none.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn new(settings: ListenerSettings) -> Result<Arc<Self>, StartError> {
        let sink: Box<dyn EventSink> = match &settings.destination {
            Destination::Stdout => Box::new(StdoutSink),
            Destination::File(path) => Box::new(FileSink::open(path).map_err(|error| {
                StartError::EventFile { file: path.display().to_string(), problem: error.to_string() }
            })?),
        };
        Ok(Self::with_sink(settings, sink))
    }

    /// The same, for a sink of one's own.
    pub fn with_sink(settings: ListenerSettings, sink: Box<dyn EventSink>) -> Arc<Self> {
        let queue = Queue {
            name: format!("{}[{}]", settings.hub.as_str(), settings.place),
            events_max: settings.queue_max,
            bytes_max: settings.queue_bytes_max,
            waiting: Mutex::new(Waiting { sink: Some(sink), ..Waiting::default() }),
            more: Condvar::new(),
            empty: Condvar::new(),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            dropping: Seldom::default(),
            failing: Seldom::default(),
        };
        Arc::new(Self { settings, queue: Arc::new(queue) })
    }

    /// As configured.
    pub fn settings(&self) -> &ListenerSettings {
        &self.settings
    }

    /// What is known of it at this moment.
    pub fn report(&self) -> ListenerReport {
        let waiting = self.queue.lock();
        let (queued, queued_bytes) = (waiting.lines.len() + waiting.in_hand, waiting.bytes);
        drop(waiting);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerReport {
            hub: self.settings.hub.as_str().to_owned(),
            place: self.settings.place,
            destination: self.settings.destination.to_string(),
            delivered: count(&self.queue.delivered),
            dropped: count(&self.queue.dropped),
            failed: count(&self.queue.failed),
            queued,
            queued_bytes,
        }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.more.notify_one();
    }
}

impl Queue {
    /// Puts a line at the end.
    pub(crate) fn push(self: &Arc<Self>, line: Bytes) {
        let mut waiting = self.lock();
        let mut dropped = 0;
        while waiting.lines.len() >= self.events_max || waiting.bytes + line.len() > self.bytes_max {
            let Some(oldest) = waiting.lines.pop_front() else { break };
            waiting.bytes -= oldest.len();
            dropped += 1;
        }
        if self.events_max == 0 || line.len() > self.bytes_max {
            dropped += 1;
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line);
        }
        let sink = waiting.sink.take();
        drop(waiting);
        self.more.notify_one();
        if let Some(sink) = sink {
            self.start(sink);
        }
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            if let Some(left_out) = self.dropping.admits(tokio::time::Instant::now()) {
                tracing::warn!(
                    listener = self.name,
                    left_out,
                    "the event listener is too slow; its oldest events are dropped"
                );
            }
        }
    }

    /// Waits until nothing is left, or until `end`.
    pub(crate) fn flush(&self, end: Instant) {
        let mut waiting = self.lock();
        while !waiting.lines.is_empty() || waiting.in_hand > 0 {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                let lost = waiting.lines.len() + waiting.in_hand;
                tracing::warn!(
                    listener = self.name,
                    lost,
                    "the event listener did not take all of its events in time"
                );
                return;
            };
            waiting = self.empty.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn start(self: &Arc<Self>, sink: Box<dyn EventSink>) {
        let queue = self.clone();
        if let Err(error) = vital::spawn("ringhub-events", move || queue.deliver_all(sink)) {
            // Its events leave as too old from now on.
            tracing::error!(listener = self.name, "the event listener has no thread: {error}");
        }
    }

    fn deliver_all(&self, mut sink: Box<dyn EventSink>) {
        let mut lines = Vec::new();
        while let Some(events) = self.take(&mut lines) {
            match sink.deliver(&lines) {
                Ok(()) => {
                    self.delivered.fetch_add(events, Ordering::Relaxed);
                }
                Err(error) => {
                    // First: who has read the record finds it counted.
                    self.failed.fetch_add(events, Ordering::Relaxed);
                    if let Some(left_out) = self.failing.admits(tokio::time::Instant::now()) {
                        tracing::warn!(
                            listener = self.name,
                            events,
                            left_out,
                            "events were not delivered: {error}"
                        );
                    }
                }
            }
        }
    }

    /// Takes what a sink is given at a time, and says that it has taken what it was given before; waits for more.
    /// `None` at the end.
    fn take(&self, lines: &mut Vec<u8>) -> Option<u64> {
        lines.clear();
        let mut waiting = self.lock();
        waiting.in_hand = 0;
        while waiting.lines.is_empty() {
            self.empty.notify_all();
            if waiting.is_closed {
                return None;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        while let Some(line) = waiting.lines.front()
            && (lines.is_empty() || lines.len() + line.len() <= DELIVERY_BYTES)
        {
            lines.extend_from_slice(line);
            waiting.bytes -= line.len();
            waiting.in_hand += 1;
            waiting.lines.pop_front();
        }
        Some(waiting.in_hand as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue of {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// Takes nothing while there may be a word.
    struct Stalled(Receiver<()>);

    impl EventSink for Stalled {
        fn deliver(&mut self, _: &[u8]) -> io::Result<()> {
            let _ = self.0.recv();
            Ok(())
        }
    }

    #[test]
    fn who_does_not_take_its_events_is_waited_for_until_the_end_and_no_longer() {
        let settings = ListenerSettings {
            hub: HubName::parse("chat").unwrap(),
            place: 0,
            destination: Destination::Stdout,
            queue_max: 10,
            queue_bytes_max: 1000,
        };
        let (word, stalled) = channel();
        let listener = Listener::with_sink(settings, Box::new(Stalled(stalled)));
        (0..3).for_each(|_| listener.queue().push(Bytes::from_static(b"{}\n")));
        let end = Instant::now() + Duration::from_millis(20);
        listener.queue().flush(end);
        assert!(Instant::now() >= end && listener.report().delivered == 0);
        drop(word);
        listener.queue().flush(Instant::now() + Duration::from_secs(20));
        let report = listener.report();
        assert_eq!((report.delivered, report.queued), (3, 0));
    }
}
