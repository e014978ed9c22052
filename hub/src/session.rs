//! Reliable sessions: sequence ids, the replay log, what a socket still has to be sent
//! (`client-protocols` §6).
//!
//! The log holds runs of references to batches that all members of a group share, never copies. It is also
//! the outbox of a slow reliable socket: `sent` is the cursor, and while it is behind, the hub sends from the
//! log ([`Session::behind`]) instead of from the turn.
//!
//! Messages whose time is over leave the log ([`Session::purge`]) before anything is sent from it, and before a
//! session is ended for its bounds. Their ids are not given again: the client sees a gap.

use crate::batch::Batch;
use crate::{Limits, Perishable, Time};
use std::collections::VecDeque;
use std::rc::Rc;

/// Messages with consecutive ids and consecutive places in one batch.
#[derive(Debug, Clone)]
struct Run {
    first_id: u64,
    batch: Rc<Batch>,
    from: u32,
    count: u32,
}

impl Run {
    /// One past its last id.
    fn end(&self) -> u64 {
        self.first_id + u64::from(self.count)
    }

    /// Whether any of its messages is worth sending at `now`.
    fn keeps_any(&self, now: Time) -> bool {
        let mut places = self.from..self.from + self.count;
        self.batch.expires > now
            || places.any(|index| self.batch.until(index).is_none_or(|until| until > now))
    }
}

/// Control bytes that wait for the socket, to be sent once `after` has been.
#[derive(Debug)]
struct Control {
    after: u64,
    bytes: Box<[u8]>,
}

impl Control {
    /// What it counts for: to keep the shortest, a pong of two bytes, takes more than those.
    fn cost(&self) -> usize {
        self.bytes.len().max(CONTROL_BYTES_MIN)
    }
}

/// What a control message counts for at least.
const CONTROL_BYTES_MIN: usize = 32;
/// Room for runs an idle session keeps.
const IDLE_RUNS: usize = 4;

/// The reliable state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    log: VecDeque<Run>,
    /// Unacknowledged messages and their bytes.
    pub(crate) messages: u32,
    pub(crate) bytes: usize,
    /// No message of the log expires before this.
    expires: Time,
    /// The last id given.
    pub(crate) last: u64,
    /// The last id the client confirmed.
    pub(crate) acked: u64,
    /// The last id handed to the present socket.
    pub(crate) sent: u64,
    /// The socket did not take all it was given.
    pub(crate) congested: bool,
    /// The present socket's client can inflate.
    pub(crate) deflate: bool,
    /// The upgrade's answer and `connected`, before everything else on a new socket.
    greeting: Vec<u8>,
    controls: VecDeque<Control>,
    control_bytes: usize,
    /// A control message was lost because they were over their bound.
    controls_lost: bool,
    /// Without a socket: when the session ends.
    pub(crate) until: Option<Time>,
}

impl Session {
    pub(crate) fn new(deflate: bool) -> Self {
        Self {
            log: VecDeque::new(),
            messages: 0,
            bytes: 0,
            expires: Time::NEVER,
            last: 0,
            acked: 0,
            sent: 0,
            congested: false,
            deflate,
            greeting: Vec::new(),
            controls: VecDeque::new(),
            control_bytes: 0,
            controls_lost: false,
            until: None,
        }
    }

    /// Gives the next ids to `count` messages of `batch` and keeps them for replay; returns the first id.
    #[inline(always)]
    pub(crate) fn append(&mut self, batch: &Rc<Batch>, from: u32, count: u32) -> u64 {
        let first_id = self.last + 1;
        self.last += u64::from(count);
        self.messages += count;
        self.bytes += batch.bytes(from, count);
        self.expires = self.expires.min(batch.expires);
        match self.log.back_mut() {
            Some(run)
                if Rc::ptr_eq(&run.batch, batch) && run.from + run.count == from && run.end() == first_id =>
            {
                run.count += count;
            }
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

    /// Whether the log has anything that is worth sending at `now`.
    pub(crate) fn keeps_any(&self, now: Time) -> bool {
        self.messages > 0 && (self.expires > now || self.log.iter().any(|run| run.keeps_any(now)))
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

    /// Queues control bytes behind everything logged so far; beyond `bytes_max` they are lost, and the session
    /// is over its bounds.
    pub(crate) fn queue_control(&mut self, bytes: &[u8], bytes_max: usize) {
        let control = Control { after: self.last, bytes: bytes.into() };
        if self.control_bytes + control.cost() > bytes_max {
            self.controls_lost = true;
            return;
        }
        self.control_bytes += control.cost();
        self.controls.push_back(control);
    }

    /// The socket is gone: what it was sent is unknown, its control messages are void.
    pub(crate) fn detach(&mut self) {
        self.sent = self.acked;
        self.congested = false;
        self.greeting = Vec::new();
        self.controls = VecDeque::new();
        self.control_bytes = 0;
        self.controls_lost = false;
    }

    /// Whether it is over a bound.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        self.messages > limits.replay_messages_max
            // One message alone says nothing of its reader.
            || (self.messages > 1 && self.bytes > limits.replay_bytes_max)
            || self.controls_lost
    }

    /// Takes messages out of the log whose time is over at `now`; returns how many of them the present socket
    /// was not sent.
    pub(crate) fn purge(&mut self, now: Time) -> u64 {
        if now < self.expires {
            return 0;
        }
        let mut dropped = 0;
        self.expires = Time::NEVER;
        for run in std::mem::take(&mut self.log) {
            if run.batch.expires == Time::NEVER {
                self.log.push_back(run);
                continue;
            }
            let mut kept: Option<Run> = None;
            for (id, index) in (run.first_id..).zip(run.from..run.from + run.count) {
                match run.batch.until(index) {
                    Some(until) if until <= now => {
                        self.messages -= 1;
                        self.bytes -= run.batch.bytes(index, 1);
                        dropped += u64::from(id > self.sent);
                        self.log.extend(kept.take());
                        continue;
                    }
                    Some(until) => self.expires = self.expires.min(until),
                    None => {}
                }
                match &mut kept {
                    Some(kept) => kept.count += 1,
                    None => {
                        kept = Some(Run { first_id: id, batch: Rc::clone(&run.batch), from: index, count: 1 })
                    }
                }
            }
            self.log.extend(kept);
        }
        if self.log.back().is_none_or(|run| run.end() <= self.sent + 1) {
            self.sent = self.last;
        }
        dropped
    }

    /// Appends frames from the cursor on until `out` has `bytes_max` or nothing waits, without what has expired
    /// at `now`, and notes which of them are perishable. A message larger than that goes alone. Returns how many
    /// messages were dropped.
    pub(crate) fn pump(
        &mut self,
        now: Time,
        out: &mut Vec<u8>,
        perishable: &mut Vec<Perishable>,
        bytes_max: usize,
    ) -> u64 {
        let dropped = self.purge(now);
        out.append(&mut self.greeting);
        let mut at = self.log.partition_point(|run| run.end() <= self.sent + 1);
        loop {
            // Ids that were dropped are passed over.
            self.sent = self.log.get(at).map_or(self.last, |run| self.sent.max(run.first_id - 1));
            while let Some(control) = self.controls.front()
                && control.after <= self.sent
            {
                out.extend_from_slice(&control.bytes);
                self.control_bytes -= control.cost();
                self.controls.pop_front();
            }
            if self.sent == self.last || out.len() >= bytes_max {
                return dropped;
            }
            let run = &self.log[at];
            let index = run.from + (self.sent + 1 - run.first_id) as u32;
            if !out.is_empty() && out.len() + run.batch.written_len(index, self.deflate) > bytes_max {
                return dropped;
            }
            self.sent += 1;
            let start = out.len() as u32;
            run.batch.write_frame(out, index, self.sent, self.deflate);
            run.batch.note_perishable(perishable, start, (index, 1), self.sent, self.deflate);
            if self.sent + 1 == run.end() {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use proptest::prelude::*;

    fn batch(bodies: &[&str]) -> Rc<Batch> {
        let mut ends = Vec::new();
        let mut all = String::new();
        for body in bodies {
            all.push_str(body);
            ends.push(all.len() as u32);
        }
        Rc::new(Batch::new(Encoding::Json, all.into_bytes().into(), ends, Box::default()))
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
        let mut session = Session::new(false);
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
        session.pump(Time(0), &mut out, &mut Vec::new(), 1 << 16);
        assert_eq!(texts(&out), [r#"{b,"sequenceId":2}"#, r#"{d,"sequenceId":3}"#, r#"{c,"sequenceId":4}"#]);
        assert!(!session.behind());
        session.acknowledge(4);
        assert_eq!((session.messages, session.bytes), (0, 0));
        assert!(session.log.capacity() <= IDLE_RUNS);
    }

    #[test]
    fn pumps_in_chunks_with_controls_in_their_place() {
        let mut session = Session::new(false);
        let all = batch(&["{a", "{b", "{c"]);
        session.append(&all, 0, 2);
        session.queue_control(b"\x81\x01!", 40);
        assert!(!session.is_over(&Limits::default()));
        session.queue_control(b"\x81\x01!", 40);
        assert!(session.is_over(&Limits::default()), "over the bound");
        session.append(&all, 2, 1);
        let mut got = Vec::new();
        while session.behind() {
            let mut out = Vec::new();
            session.pump(Time(0), &mut out, &mut Vec::new(), 10);
            assert!(!out.is_empty(), "every call gets on");
            got.extend(texts(&out));
        }
        assert_eq!(got, [r#"{a,"sequenceId":1}"#, r#"{b,"sequenceId":2}"#, "!", r#"{c,"sequenceId":3}"#]);
    }

    #[test]
    fn an_acknowledgement_from_before_a_cut_skips_what_arrived() {
        let mut session = Session::new(false);
        session.append(&batch(&["{a", "{b"]), 0, 2);
        session.detach();
        session.acknowledge(2);
        assert!(!session.behind());
    }

    fn perishable(bodies: &[&str], deadlines: &[(u32, u64)]) -> Rc<Batch> {
        let plain = batch(bodies);
        let deadlines = deadlines.iter().map(|&(index, until)| (index, Time(until))).collect();
        Rc::new(Batch::new(Encoding::Json, plain.bodies.clone(), plain.ends.clone(), deadlines))
    }

    #[test]
    fn what_has_expired_is_not_replayed_and_its_ids_are_a_gap() {
        let mut session = Session::new(false);
        session.append(&perishable(&["{a", "{b", "{c", "{d"], &[(1, 5), (3, 9)]), 0, 4);
        session.queue_control(b"\x81\x01!", 40);
        session.sent = 1;
        assert_eq!(session.purge(Time(4)), 0);
        let (mut out, mut noted) = (Vec::new(), Vec::new());
        assert_eq!(session.pump(Time(5), &mut out, &mut noted, 1), 1);
        assert_eq!(texts(&out), [r#"{c,"sequenceId":3}"#]);
        assert_eq!((session.messages, session.bytes, noted.len()), (3, 6, 0));
        // The last one expires too: the control behind it is due.
        out.clear();
        assert_eq!(session.pump(Time(9), &mut out, &mut noted, 1 << 16), 1);
        assert_eq!(texts(&out), ["!"]);
        assert!(!session.behind());
        assert_eq!(session.append(&batch(&["{e"]), 0, 1), 5, "ids are not given again");
        session.detach();
        assert!(session.behind());
        out.clear();
        session.pump(Time(9), &mut out, &mut noted, 1 << 16);
        assert_eq!(texts(&out), [r#"{a,"sequenceId":1}"#, r#"{c,"sequenceId":3}"#, r#"{e,"sequenceId":5}"#]);
        session.acknowledge(4);
        assert_eq!((session.messages, session.bytes), (1, 2));
    }

    #[test]
    fn pumped_frames_say_until_when_they_are_worth_sending() {
        let mut session = Session::new(false);
        session.append(&perishable(&["{a", "{b"], &[(1, 5)]), 0, 2);
        let (mut out, mut noted) = (Vec::new(), Vec::new());
        session.pump(Time(0), &mut out, &mut noted, 1 << 16);
        let half = out.len() as u32 / 2;
        assert_eq!(noted, [Perishable { start: half, end: 2 * half, until: Time(5) }]);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Append(Vec<u8>),
        Acknowledge(u8),
        Pump(u8),
        Detach,
        Purge,
        Wait(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => prop::collection::vec(prop_oneof![Just(0u8), 1u8..30], 1..5).prop_map(Op::Append),
            1 => (0u8..40).prop_map(Op::Acknowledge),
            3 => (0u8..80).prop_map(Op::Pump),
            1 => Just(Op::Detach),
            1 => Just(Op::Purge),
            1 => (0u8..8).prop_map(Op::Wait),
        ]
    }

    proptest! {
        // The oracle is a list of messages with their ids and deadlines.
        #[test]
        fn sends_every_message_that_has_not_expired_once_and_in_order(ops in prop::collection::vec(op(), 0..60)) {
            let (mut session, mut now) = (Session::new(false), Time(0));
            let mut oracle: Vec<(u64, Option<Time>)> = Vec::new();
            let (mut last, mut seen) = (0u64, 0u64);
            for op in ops {
                match op {
                    Op::Append(deadlines) => {
                        let bodies: Vec<String> = (1..=deadlines.len() as u64).map(|n| format!("{{{}", last + n)).collect();
                        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
                        let until = |ms: u8| (ms > 0).then(|| now.after_ms(u64::from(ms)));
                        let placed: Vec<(u32, u64)> = (0..).zip(&deadlines)
                            .filter_map(|(index, &ms)| Some((index, until(ms)?.0))).collect();
                        let batch = perishable(&bodies, &placed);
                        // In two runs, as turns with several streams make them.
                        let half = deadlines.len() as u32 / 2;
                        session.append(&batch, 0, half);
                        session.append(&batch, half, deadlines.len() as u32 - half);
                        for ms in deadlines {
                            last += 1;
                            oracle.push((last, until(ms)));
                        }
                    }
                    Op::Acknowledge(id) => {
                        let id = u64::from(id);
                        session.acknowledge(id);
                        if id <= last {
                            oracle.retain(|(known, _)| *known > id);
                            seen = seen.max(id);
                        }
                    }
                    Op::Detach => {
                        session.detach();
                        seen = session.acked;
                    }
                    Op::Purge => {
                        session.purge(now);
                        oracle.retain(|(_, until)| until.is_none_or(|until| until > now));
                        prop_assert_eq!(session.messages as usize, oracle.len());
                    }
                    Op::Wait(ms) => now = now.after_ms(u64::from(ms)),
                    Op::Pump(bytes) => {
                        let mut out = Vec::new();
                        session.pump(now, &mut out, &mut Vec::new(), usize::from(bytes));
                        oracle.retain(|(_, until)| until.is_none_or(|until| until > now));
                        let got = texts(&out);
                        let due = oracle.iter().map(|(id, _)| *id).filter(|id| *id > seen).take(got.len());
                        let due: Vec<u64> = due.collect();
                        let expected: Vec<String> = due.iter().map(|id| format!("{{{id},\"sequenceId\":{id}}}")).collect();
                        prop_assert_eq!(&got, &expected);
                        seen = due.last().copied().unwrap_or(seen);
                        let waits = oracle.iter().any(|(id, _)| *id > seen);
                        prop_assert_eq!(session.behind(), waits);
                        prop_assert!(bytes == 0 || !got.is_empty() || !waits, "every pump gets on");
                    }
                }
                prop_assert!(session.messages as usize >= oracle.len());
            }
        }
    }
}
