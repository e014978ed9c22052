//! Between cores and the side thread: what cores ask goes one way in batches, what comes of it goes back.
//!
//! What must stay true: neither side waits for the other. A core that finds its queue full keeps the batch and takes
//! no new input until it fits (as between cores); answers need no bound of their own, for there is at most one for
//! each question that was taken.

use crossbeam::queue::{ArrayQueue, SegQueue};
use ringhub_hub::event::{Event, Reply};
use ringhub_hub::{CoreId, Ticket};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Batches of one core that wait for the side thread; a core that has more keeps them as one.
const BATCHES_MAX: usize = 64;

/// One thing a core wants. Hubs are named by their number on the core.
#[derive(Debug)]
pub enum Ask {
    /// An event is to be sent.
    Event(u32, Box<Event>),
    /// Nobody waits for the answer to this any more: give it up. Its reply comes all the same.
    Cancel(u32, Ticket),
}

/// What came of a question.
#[derive(Debug)]
pub struct Answer {
    /// The hub, as the core numbers it.
    pub hub: u32,
    /// Which question.
    pub ticket: Ticket,
    /// The answer.
    pub reply: Reply,
}

/// The lines of all cores.
pub struct Exchange {
    lines: Vec<Line>,
    asked: Notify,
    /// Whose batch is looked for first, next time.
    turn: AtomicUsize,
    bell: OnceLock<Box<dyn Fn(CoreId) + Send + Sync>>,
}

struct Line {
    asks: ArrayQueue<Vec<Ask>>,
    answers: SegQueue<Answer>,
}

impl Exchange {
    /// Lines for so many cores.
    pub fn new(cores: u16) -> Self {
        let line = |_| Line { asks: ArrayQueue::new(BATCHES_MAX), answers: SegQueue::new() };
        Self {
            lines: (0..cores).map(line).collect(),
            asked: Notify::new(),
            turn: AtomicUsize::new(0),
            bell: OnceLock::new(),
        }
    }

    /// How a core is told of an answer; it is called from the side thread, after the answer can be seen. Once.
    pub fn set_bell(&self, bell: Box<dyn Fn(CoreId) + Send + Sync>) {
        let _ = self.bell.set(bell);
    }

    /// Hands over what a core wants.
    ///
    /// # Errors
    /// The batch, if there is no room for it at present.
    pub fn ask(&self, core: CoreId, batch: Vec<Ask>) -> Result<(), Vec<Ask>> {
        self.line(core).asks.push(batch)?;
        self.asked.notify_one();
        Ok(())
    }

    /// Takes an answer for a core.
    pub fn next_answer(&self, core: CoreId) -> Option<Answer> {
        self.line(core).answers.pop()
    }

    /// Whether there are answers for a core.
    pub fn has_answers(&self, core: CoreId) -> bool {
        !self.line(core).answers.is_empty()
    }

    /// Gives a core its answer.
    pub fn answer(&self, core: CoreId, answer: Answer) {
        self.line(core).answers.push(answer);
        if let Some(bell) = self.bell.get() {
            bell(core);
        }
    }

    /// The next batch of any core; waits for one.
    pub(crate) async fn next_batch(&self) -> (CoreId, Vec<Ask>) {
        loop {
            // What is pushed after this look leaves a permit behind.
            if let Some(batch) = self.try_next_batch() {
                return batch;
            }
            self.asked.notified().await;
        }
    }

    /// The next batch of any core, if there is one; the cores take turns.
    pub(crate) fn try_next_batch(&self) -> Option<(CoreId, Vec<Ask>)> {
        let cores = self.lines.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..cores).map(|at| (first + at) % cores).find_map(|core| {
            let batch = self.lines[core].asks.pop()?;
            Some((CoreId(core as u16), batch))
        })
    }

    fn line(&self, core: CoreId) -> &Line {
        &self.lines[usize::from(core.0)]
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange of {} cores", self.lines.len())
    }
}
