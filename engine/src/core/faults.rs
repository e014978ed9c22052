//! What tests have a ring do wrong: requests that fail with any errno, submits that do, sends that are cut anywhere.
//!
//! A request that is to fail is replaced by one that does nothing, with the same user data; when that completes, it has
//! the errno. So the kernel and the core agree that it has ended, as they do of one that the kernel itself refused. A
//! send that is to be cut is made shorter, and what the kernel says of it is true.

use crate::core::ring::Op;
use std::sync::{Mutex, MutexGuard};

/// Faults to come. A test shares it with the rings of its cores and adds to it at any time.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    requests: Mutex<Vec<Fault>>,
    /// What the next submits fail with, the last one first.
    enters: Mutex<Vec<i32>>,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
struct Fault {
    op: Op,
    /// So many requests of this kind go well before.
    skip: u32,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Fail(i32),
    Cut(usize),
}

impl Faults {
    /// None yet. Rings live as long as the process may, so this does too.
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    /// After `skip` more requests of this kind, one fails with `errno`.
    pub(crate) fn fail(&self, op: Op, skip: u32, errno: i32) {
        self.plan().push(Fault { op, skip, what: What::Fail(errno) });
    }

    /// The next [`Op::Send`] or [`Op::Write`] of bytes takes at most `bytes` of them.
    pub(crate) fn cut(&self, op: Op, bytes: usize) {
        self.plan().push(Fault { op, skip: 0, what: What::Cut(bytes) });
    }

    /// So many submits in a row fail with `errno`: the kernel takes nothing of what is queued.
    pub(crate) fn fail_enters(&self, count: usize, errno: i32) {
        self.enters().extend(std::iter::repeat_n(errno, count));
    }

    /// How many are still to come.
    pub(crate) fn pending(&self) -> usize {
        self.plan().len() + self.enters().len()
    }

    /// No more faults.
    pub(crate) fn clear(&self) {
        self.plan().clear();
        self.enters().clear();
    }

    /// What the submit that is about to be made fails with, if it does.
    pub(super) fn enter(&self) -> Option<i32> {
        self.enters().pop()
    }

    /// What the request that is about to be queued fails with, if it does.
    pub(super) fn errno(&self, op: Op) -> Option<i32> {
        let mut plan = self.plan();
        let at = plan.iter().position(|fault| fault.op == op && matches!(fault.what, What::Fail(_)))?;
        let What::Fail(errno) = plan[at].what else { return None };
        let due = plan[at].skip == 0;
        if due {
            plan.remove(at);
        } else {
            plan[at].skip -= 1;
        }
        due.then_some(errno)
    }

    /// After how many bytes the send that is about to be queued is cut, if it is.
    pub(super) fn bytes(&self, op: Op) -> Option<usize> {
        let mut plan = self.plan();
        let at = plan.iter().position(|fault| fault.op == op && matches!(fault.what, What::Cut(_)))?;
        let What::Cut(bytes) = plan.remove(at).what else { return None };
        Some(bytes)
    }

    fn plan(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.requests.lock().expect("nothing panics with the lock")
    }

    fn enters(&self) -> MutexGuard<'_, Vec<i32>> {
        self.enters.lock().expect("nothing panics with the lock")
    }
}
