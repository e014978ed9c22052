//! Handlers made of bytes or of hyper, and a core's side of the exchange.

pub(crate) mod handler;
pub(crate) mod hyper_handler;
pub(crate) mod world;

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use handler::PATIENCE;

/// Waits for what comes true without anything that could be waited for.
pub(crate) fn eventually(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it never came true");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Holds up a handler until the test opens it.
#[derive(Default)]
pub(crate) struct Door(Mutex<bool>, Condvar);

impl Door {
    pub(crate) fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }
}
