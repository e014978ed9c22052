//! An answer that is asked for by one at a time and kept for a while.
//!
//! Who needs it gets the kept one as long as that is usable, even while a newer one is asked for; without one,
//! everybody waits for the same question. The question is a task of its own: it goes on when who asked is cancelled.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// One answer, perhaps.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    state: Mutex<State<T>>,
    settled: Notify,
}

#[derive(Debug)]
struct State<T> {
    answer: Option<Answer<T>>,
    asking: bool,
}

/// An answer, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    /// What it is.
    pub(crate) value: T,
    /// From then on a newer one is asked for, once somebody needs it.
    pub(crate) due: Instant,
    /// Until then it is used; `None` for as long as there is no other.
    pub(crate) usable_until: Option<Instant>,
}

impl<T: Clone + Send + 'static> Kept<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { answer: None, asking: false }), settled: Notify::new() })
    }

    /// The answer; `ask` finds a new one if one is due, and is told the last one, usable or not.
    pub(crate) async fn get<F>(self: &Arc<Self>, ask: impl Fn(Option<Answer<T>>) -> F) -> T
    where
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        loop {
            // Made before the look: what settles after it is not missed.
            let settled = self.settled.notified();
            if let Some(value) = self.look(&ask) {
                return value;
            }
            settled.await;
            // However short it is usable: it is what was waited for.
            if let Some(answer) = &self.lock().answer {
                return answer.value.clone();
            }
        }
    }

    /// The usable answer, if there is one; begins to ask if it is time.
    fn look<F>(self: &Arc<Self>, ask: &impl Fn(Option<Answer<T>>) -> F) -> Option<T>
    where
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let now = Instant::now();
        let mut state = self.lock();
        let usable =
            state.answer.as_ref().filter(|answer| answer.usable_until.is_none_or(|until| now < until));
        let is_due = usable.is_none_or(|answer| answer.due <= now);
        let usable = usable.map(|answer| answer.value.clone());
        if is_due && !state.asking {
            state.asking = true;
            let question = ask(state.answer.clone());
            let asking = Asking(self.clone());
            tokio::spawn(async move {
                let answer = question.await;
                asking.0.lock().answer = Some(answer);
                drop(asking);
            });
        }
        usable
    }

    /// Forgets the answer if it is one of these.
    pub(crate) fn forget(&self, is_it: impl Fn(&T) -> bool) {
        let mut state = self.lock();
        if state.answer.as_ref().is_some_and(|answer| is_it(&answer.value)) {
            state.answer = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The question is open; dropping this ends it, with an answer or without.
struct Asking<T: Clone + Send + 'static>(Arc<Kept<T>>);

impl<T: Clone + Send + 'static> Drop for Asking<T> {
    fn drop(&mut self) {
        self.0.lock().asking = false;
        self.0.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;
    use tokio::time::sleep;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers with its number after a second; due after 10 seconds, usable for 20.
    fn ask(count: &Arc<AtomicU64>) -> impl Fn(Option<Answer<u64>>) -> BoxFuture + use<> {
        let count = count.clone();
        move |_| {
            let count = count.clone();
            Box::pin(async move {
                let value = count.fetch_add(1, Ordering::Relaxed);
                sleep(SECOND).await;
                let now = Instant::now();
                Answer { value, due: now + 10 * SECOND, usable_until: Some(now + 20 * SECOND) }
            })
        }
    }

    type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Answer<u64>> + Send>>;

    /// Without sockets, the runtime's clock goes on by itself when there is nothing to do.
    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn all_wait_for_one_question_also_when_who_asked_is_gone() {
        run(async {
            let (kept, count) = (Kept::new(), Arc::new(AtomicU64::new(0)));
            let who_asked = tokio::time::timeout(SECOND / 2, kept.get(ask(&count))).await;
            assert!(who_asked.is_err());
            let begin = Instant::now();
            let (a, b) = tokio::join!(kept.get(ask(&count)), kept.get(ask(&count)));
            assert_eq!((a, b, begin.elapsed()), (0, 0, SECOND / 2));
            assert_eq!(count.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn a_due_answer_is_used_while_the_next_is_asked_for_and_an_old_one_is_not() {
        run(async {
            let (kept, count) = (Kept::new(), Arc::new(AtomicU64::new(0)));
            assert_eq!(kept.get(ask(&count)).await, 0);
            sleep(10 * SECOND).await;
            let begin = Instant::now();
            assert_eq!(kept.get(ask(&count)).await, 0);
            assert_eq!(begin.elapsed(), Duration::ZERO);
            sleep(2 * SECOND).await;
            assert_eq!(kept.get(ask(&count)).await, 1);
            sleep(20 * SECOND).await;
            let begin = Instant::now();
            assert_eq!((kept.get(ask(&count)).await, begin.elapsed()), (2, SECOND));
            kept.forget(|value| *value == 1);
            assert_eq!(kept.get(ask(&count)).await, 2);
            kept.forget(|value| *value == 2);
            assert_eq!(kept.get(ask(&count)).await, 3);
        });
    }

    #[test]
    fn who_waited_gets_an_answer_that_nobody_else_may_use() {
        run(async {
            let (kept, count) = (Kept::new(), Arc::new(AtomicU64::new(0)));
            let asked = count.clone();
            let ask = move |_| {
                let value = asked.fetch_add(1, Ordering::Relaxed);
                async move { Answer { value, due: Instant::now(), usable_until: Some(Instant::now()) } }
            };
            assert_eq!(tokio::join!(kept.get(&ask), kept.get(&ask)), (0, 0));
            assert_eq!((kept.get(&ask).await, count.load(Ordering::Relaxed)), (1, 2));
        });
    }

    #[test]
    fn a_question_that_panics_is_asked_again() {
        run(async {
            let (kept, count) = (Kept::new(), Arc::new(AtomicU64::new(0)));
            let asked = count.clone();
            let panics_once = move |_| {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    assert!(n > 0, "the first time");
                    Answer { value: n, due: Instant::now() + SECOND, usable_until: None }
                }
            };
            assert_eq!(kept.get(panics_once).await, 1);
        });
    }
}
