//! Reliable sessions: sequence ids, the replay log, what a socket still has to be sent
//! (`client-protocols` §6).
//!
//! The log holds runs of references to batches that all members of a group share, never copies. It is also
//! the outbox of a slow reliable socket: `sent` is the cursor, and while it is behind, the hub sends from the
//! log ([`Session::behind`]) instead of from the turn.

use crate::Time;
use bytes::Bytes;
use ringhub_protocol::pubsub::json;
use ringhub_protocol::ws::{Opcode, frame};
use std::collections::VecDeque;
use std::rc::Rc;

/// One turn's messages of one group (or one direct message), encoded without sequence ids.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Bodies as [`json::open_message`] writes them, one after the other.
    pub(crate) bodies: Bytes,
    /// Where each ends.
    pub(crate) ends: Vec<u32>,
}

impl Batch {
    /// The place of one body in the batch.
    pub(crate) fn range(&self, index: u32) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index as usize - 1] as usize };
        start..self.ends[index as usize] as usize
    }

    /// Bytes of `count` bodies from `from` on.
    pub(crate) fn bytes(&self, from: u32, count: u32) -> usize {
        if count == 0 { 0 } else { self.range(from + count - 1).end - self.range(from).start }
    }
}

/// Messages with consecutive ids and consecutive places in one batch.
#[derive(Debug, Clone)]
struct Run {
    first_id: u64,
    batch: Rc<Batch>,
    from: u32,
    count: u32,
}

/// Control bytes that wait for the socket, to be sent once `after` has been.
#[derive(Debug)]
struct Control {
    after: u64,
    bytes: Box<[u8]>,
}

/// Room for runs an idle session keeps.
const IDLE_RUNS: usize = 4;

/// The reliable state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    log: VecDeque<Run>,
    /// Unacknowledged messages and their bytes.
    pub(crate) messages: u32,
    pub(crate) bytes: usize,
    /// The last id given.
    pub(crate) last: u64,
    /// The last id the client confirmed.
    pub(crate) acked: u64,
    /// The last id handed to the present socket.
    pub(crate) sent: u64,
    /// The socket did not take all it was given.
    pub(crate) congested: bool,
    /// The upgrade's answer and `connected`, before everything else on a new socket.
    greeting: Vec<u8>,
    controls: VecDeque<Control>,
    control_bytes: usize,
    /// Without a socket: when the session ends.
    pub(crate) until: Option<Time>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            log: VecDeque::new(),
            messages: 0,
            bytes: 0,
            last: 0,
            acked: 0,
            sent: 0,
            congested: false,
            greeting: Vec::new(),
            controls: VecDeque::new(),
            control_bytes: 0,
            until: None,
        }
    }

    /// Gives the next ids to `count` messages of `batch` and keeps them for replay; returns the first id.
    #[inline]
    pub(crate) fn append(&mut self, batch: &Rc<Batch>, from: u32, count: u32) -> u64 {
        let first_id = self.last + 1;
        self.last += u64::from(count);
        self.messages += count;
        self.bytes += batch.bytes(from, count);
        match self.log.back_mut() {
            Some(run) if Rc::ptr_eq(&run.batch, batch) && run.from + run.count == from => run.count += count,
            _ => self.log.push_back(Run { first_id, batch: Rc::clone(batch), from, count }),
        }
        first_id
    }

    /// The client has everything up to `id`. Ids never sent or confirmed before change nothing.
    pub(crate) fn acknowledge(&mut self, id: u64) {
        if id <= self.acked || id > self.last {
            return;
        }
        self.acked = id;
        while let Some(run) = self.log.front_mut() {
            let done = id.saturating_sub(run.first_id - 1).min(u64::from(run.count)) as u32;
            self.messages -= done;
            self.bytes -= run.batch.bytes(run.from, done);
            if done < run.count {
                run.first_id += u64::from(done);
                run.from += done;
                run.count -= done;
                break;
            }
            self.log.pop_front();
        }
        if self.log.is_empty() && self.log.capacity() > IDLE_RUNS {
            // An idle session owns little heap; a busy one does not ask for it every turn.
            self.log.shrink_to(IDLE_RUNS);
        }
        // Confirmed but not yet sent on this socket: it arrived over an earlier one.
        self.sent = self.sent.max(id);
    }

    /// Whether messages or controls wait in here rather than in the turn.
    pub(crate) fn behind(&self) -> bool {
        self.sent < self.last || !self.controls.is_empty() || !self.greeting.is_empty()
    }

    /// A new socket: `greeting` goes first, then everything not acknowledged.
    pub(crate) fn greet(&mut self, greeting: Vec<u8>) {
        self.detach();
        self.greeting = greeting;
    }

    /// Queues control bytes behind everything logged so far; returns whether they fit `bytes_max`.
    pub(crate) fn queue_control(&mut self, bytes: &[u8], bytes_max: usize) -> bool {
        self.control_bytes += bytes.len();
        if self.control_bytes > bytes_max {
            return false;
        }
        self.controls.push_back(Control { after: self.last, bytes: bytes.into() });
        true
    }

    /// The socket is gone: what it was sent is unknown, its control messages are void.
    pub(crate) fn detach(&mut self) {
        self.sent = self.acked;
        self.congested = false;
        self.greeting = Vec::new();
        self.controls = VecDeque::new();
        self.control_bytes = 0;
    }

    /// Appends frames from the cursor on until `out` has `bytes_max` or nothing waits. A message larger than
    /// that goes alone.
    pub(crate) fn pump(&mut self, out: &mut Vec<u8>, bytes_max: usize) {
        out.append(&mut self.greeting);
        let mut at = self.log.partition_point(|run| run.first_id + u64::from(run.count) <= self.sent + 1);
        loop {
            while let Some(control) = self.controls.front()
                && control.after <= self.sent
            {
                out.extend_from_slice(&control.bytes);
                self.control_bytes -= control.bytes.len();
                self.controls.pop_front();
            }
            if self.sent == self.last || out.len() >= bytes_max {
                return;
            }
            let run = &self.log[at];
            let index = run.from + (self.sent + 1 - run.first_id) as u32;
            let body = &run.batch.bodies[run.batch.range(index)];
            if !out.is_empty() && out.len() + body.len() > bytes_max {
                return;
            }
            self.sent += 1;
            write_frame(out, body, self.sent);
            if self.sent + 1 == run.first_id + u64::from(run.count) {
                at += 1;
            }
        }
    }
}

/// One reliable data frame: the shared body and its id.
pub(crate) fn write_frame(out: &mut Vec<u8>, body: &[u8], id: u64) {
    frame::write_header(out, Opcode::Text, body.len() + tail_len(digits(id)));
    out.extend_from_slice(body);
    json::sequence_id(out, id);
}

/// Length of what [`json::sequence_id`] appends for an id of so many digits.
pub(crate) fn tail_len(digits: usize) -> usize {
    json::SEQUENCE_ID_PREFIX.len() + digits + 1
}

/// Decimal digits of an id.
pub(crate) fn digits(id: u64) -> usize {
    id.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bodies: &[&str]) -> Rc<Batch> {
        let mut ends = Vec::new();
        let mut all = String::new();
        for body in bodies {
            all.push_str(body);
            ends.push(all.len() as u32);
        }
        Rc::new(Batch { bodies: all.into_bytes().into(), ends })
    }

    /// Frames shorter than 126 bytes, as text without their headers.
    fn texts(mut bytes: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let [_, len, rest @ ..] = bytes {
            let (payload, rest) = rest.split_at(usize::from(*len));
            texts.push(String::from_utf8(payload.to_vec()).unwrap());
            bytes = rest;
        }
        texts
    }

    #[test]
    fn replays_what_is_not_acknowledged_with_its_ids() {
        let mut session = Session::new();
        let (a, b) = (batch(&["{a", "{b", "{c"]), batch(&["{d"]));
        assert_eq!(session.append(&a, 0, 2), 1);
        assert_eq!(session.append(&b, 0, 1), 3);
        assert_eq!(session.append(&a, 2, 1), 4);
        session.acknowledge(1);
        session.acknowledge(9); // never given
        session.acknowledge(1); // an old one
        assert_eq!((session.messages, session.bytes), (3, 6));
        session.detach();
        let mut out = Vec::new();
        session.pump(&mut out, 1 << 16);
        assert_eq!(texts(&out), [r#"{b,"sequenceId":2}"#, r#"{d,"sequenceId":3}"#, r#"{c,"sequenceId":4}"#]);
        assert!(!session.behind());
        session.acknowledge(4);
        assert_eq!((session.messages, session.bytes), (0, 0));
        assert!(session.log.capacity() <= IDLE_RUNS);
    }

    #[test]
    fn pumps_in_chunks_with_controls_in_their_place() {
        let mut session = Session::new();
        let all = batch(&["{a", "{b", "{c"]);
        session.append(&all, 0, 2);
        assert!(session.queue_control(b"\x81\x01!", 4));
        assert!(!session.queue_control(b"\x81\x01!", 4), "over the bound");
        session.append(&all, 2, 1);
        let mut got = Vec::new();
        while session.behind() {
            let mut out = Vec::new();
            session.pump(&mut out, 10);
            assert!(!out.is_empty(), "every call gets on");
            got.extend(texts(&out));
        }
        assert_eq!(got, [r#"{a,"sequenceId":1}"#, r#"{b,"sequenceId":2}"#, "!", r#"{c,"sequenceId":3}"#]);
    }

    #[test]
    fn an_acknowledgement_from_before_a_cut_skips_what_arrived() {
        let mut session = Session::new();
        session.append(&batch(&["{a", "{b"]), 0, 2);
        session.detach();
        session.acknowledge(2);
        assert!(!session.behind());
    }
}
