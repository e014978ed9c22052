//! Leaving: from the first word of it to the stop.
//!
//! A signal and `POST /drain` both begin a drain, of which there is one. From then on the server is not ready; new
//! clients are answered 503, those there are closed over a window, each core its own ([`crate::core::drain`]), while
//! calls of REST are answered and sessions are recovered as before, for somebody may still wait for what they bring.
//! The stop follows when nobody is left, or the window is over.

pub(crate) mod ask;

use crate::core::Server;
use crate::core::counters::CoreShared;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How often it is looked whether everybody is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The process's drain.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// The lock is for waiting; a look needs none.
    is_asked: AtomicBool,
    waiting: Mutex<()>,
    asked: Condvar,
    begun: OnceLock<Begun>,
}

/// What a drain began with.
#[derive(Debug)]
struct Begun {
    at: Instant,
    window: Duration,
    connections: u64,
}

impl Drain {
    /// Asks for it, from any thread; true for who asks first.
    pub(crate) fn ask(&self) -> bool {
        let _waiting = self.waiting.lock().expect("nothing panics with the lock");
        let is_first = !self.is_asked.swap(true, Ordering::Relaxed);
        self.asked.notify_all();
        is_first
    }

    /// Whether the server is on its way down.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// Waits until it is asked for, or the time is over; whether it was.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let waiting = self.waiting.lock().expect("nothing panics with the lock");
        let asked = self.asked.wait_timeout_while(waiting, timeout, |()| !self.is_asked());
        drop(asked.expect("nothing panics with the lock"));
        self.is_asked()
    }

    /// Closes the clients over the window, and says how far that is; returns when they are gone or it is over.
    /// `meanwhile` is called every [`LOOK_EVERY`].
    pub(crate) fn carry_out(&self, server: &Server, cores: &[Arc<CoreShared>], mut meanwhile: impl FnMut()) {
        let (window, connections) = (server.drain_window(), open(cores));
        let Begun { at, .. } = self.begun.get_or_init(|| Begun { at: Instant::now(), window, connections });
        tracing::info!(
            "draining: {} connections are closed over at most {} s; a second signal stops at once",
            grouped(connections),
            window.as_secs()
        );
        server.drain();
        let mut told = *at;
        let is_over = || at.elapsed() >= window || cores.iter().all(|core| core.drained.get() == 1);
        while !is_over() {
            std::thread::sleep(LOOK_EVERY.min(window.saturating_sub(at.elapsed())));
            meanwhile();
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tracing::info!(
                    "draining: {} of {} connections left",
                    grouped(open(cores)),
                    grouped(connections)
                );
            }
        }
        match open(cores) {
            0 => tracing::info!("drained in {:.1} s; stopping", at.elapsed().as_secs_f32()),
            left => tracing::info!("draining is over with {} connections left; stopping", grouped(left)),
        }
    }

    /// How far it is, for tools.
    pub(crate) fn progress(&self, cores: &[Arc<CoreShared>]) -> Value {
        let left = open(cores);
        let begun = self.begun.get();
        json!({
            "draining": self.is_asked(),
            "connections": begun.map_or(left, |begun| begun.connections),
            "connectionsLeft": left,
            "windowSeconds": begun.map(|begun| begun.window.as_secs()),
            "elapsedSeconds": begun.map(|begun| begun.at.elapsed().as_secs()),
        })
    }
}

/// Clients of all cores.
fn open(cores: &[Arc<CoreShared>]) -> u64 {
    cores.iter().map(|core| core.counters.websockets.get()).sum()
}

/// A number for people, with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let all = [0, 7, 999, 1_000, 10_000, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "7", "999", "1,000", "10,000", "1,234,567"]);
    }

    #[test]
    fn it_is_asked_for_once_and_whoever_waits_hears_of_it() {
        let drain = Drain::default();
        assert!(!drain.wait(Duration::ZERO) && !drain.is_asked());
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(drain.ask()));
            while !drain.wait(Duration::from_secs(60)) {}
        });
        assert!(!drain.ask() && drain.is_asked() && drain.wait(Duration::ZERO));
    }

    #[test]
    fn progress_before_and_while() {
        let cores: [Arc<CoreShared>; 2] = Default::default();
        cores[1].counters.websockets.set(3);
        let drain = Drain::default();
        let before = drain.progress(&cores);
        assert_eq!((&before["draining"], &before["connectionsLeft"]), (&json!(false), &json!(3)));
        drain.ask();
        let begun = Begun { at: Instant::now(), window: Duration::from_secs(5), connections: 10 };
        drain.begun.set(begun).unwrap();
        let while_draining = drain.progress(&cores);
        assert_eq!(
            while_draining,
            json!({ "draining": true, "connections": 10, "connectionsLeft": 3, "windowSeconds": 5, "elapsedSeconds": 0 })
        );
    }
}
