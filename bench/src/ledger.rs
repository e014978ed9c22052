//! Who should have received what, and who did: the verification of every delivery.
//!
//! What must stay true: a message that is missing, doubled, out of order or damaged at any member is
//! counted, and a delivery costs a few array accesses. A gap counts the skipped messages as missing at
//! once and lets the closed loop go on; should they come after all, they become reorderings.
//!
//! A member may be set aside: nobody waits for it any more, but what it receives is still checked. And a
//! reliable member may come back on a new socket: what it is sent again under ids it has seen is dropped,
//! as clients do, and counted.

use std::collections::{HashSet, VecDeque};

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::cli::Protocol;
use crate::client::Delivery;
use crate::envelope::{Prefix, read_end};
use crate::facts;
use crate::layout::{Layout, Source, group_name};
use crate::report::Report;
use crate::stamp::{self, Stamp};

/// Missing messages remembered one by one, to tell a late one from a doubled one. Beyond it they are
/// only counted: a run that loses so much has failed anyhow.
const MISSING_MAX: usize = 100_000;

/// The books of one run. Members are connections `0..members`.
pub(crate) struct Ledger {
    layout: Layout,
    /// Per member, then per publisher of its group: the sequence number due next.
    due: Vec<u32>,
    flights: Vec<Flight>,
    outstanding: u64,
    /// Publishers with a message that just reached its last member; may name one twice.
    completed: Vec<u32>,
    /// Per group, the bytes that stand before the payload, learnt from a fully parsed message.
    prefixes: Vec<Prefix>,
    /// Per member, the highest sequence id seen.
    sequence_ids: Vec<u64>,
    /// Per member, the id due next on its socket; 0 on a fresh one, where ids seen before may repeat.
    ids_due: Vec<u64>,
    /// Per member, whether it is set aside; and per group, how many are.
    aside: Vec<bool>,
    aside_in_group: Vec<u32>,
    aside_deliveries: u64,
    replayed: u64,
    warm_up: Vec<u32>,
    acks: u64,
    deliveries: u64,
    frame_bytes: usize,
    latency: Histogram<u64>,
    violations: Violations,
}

/// One publisher's messages that are not yet with everybody.
#[derive(Default)]
struct Flight {
    /// Sequence number of the first of `remaining`.
    front: u32,
    /// Members still to be reached, per message.
    remaining: VecDeque<u32>,
}

impl Flight {
    /// Sequence number of the message that is published next.
    fn next(&self) -> u32 {
        self.front + self.remaining.len() as u32
    }
}

#[derive(Default)]
struct Violations {
    lost: u64,
    missing: HashSet<(u32, u16, u32)>,
    duplicated: u64,
    reordered: u64,
    damaged: u64,
    id_gaps: u64,
    first: Option<String>,
}

impl Violations {
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }
}

impl Ledger {
    /// Empty books: nothing published, nothing received.
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            due: vec![0; layout.members * layout.publishers_per_group()],
            flights: (0..layout.publishers).map(|_| Flight::default()).collect(),
            outstanding: 0,
            completed: Vec::new(),
            prefixes: vec![Prefix::default(); layout.groups],
            sequence_ids: vec![0; layout.members],
            ids_due: vec![1; layout.members],
            aside: vec![false; layout.members],
            aside_in_group: vec![0; layout.groups],
            aside_deliveries: 0,
            replayed: 0,
            warm_up: vec![0; layout.members],
            acks: 0,
            deliveries: 0,
            frame_bytes: 0,
            latency: facts::latencies(),
            violations: Violations::default(),
            layout,
        }
    }

    /// Enters one message as published and returns its sequence number.
    pub(crate) fn publish(&mut self, publisher: usize) -> u32 {
        let group = self.layout.group_of(publisher);
        let receivers = self.layout.members_of(group) - self.aside_in_group[group];
        let flight = &mut self.flights[publisher];
        let sequence = flight.next();
        if receivers == 0 {
            flight.front += 1;
            self.completed.push(publisher as u32);
            return sequence;
        }
        flight.remaining.push_back(receivers);
        self.outstanding += u64::from(receivers);
        sequence
    }

    /// Checks one data message that some connection received.
    pub(crate) fn receive(&mut self, delivery: &Delivery<'_>) {
        let member = delivery.connection;
        if member >= self.layout.members {
            let text = String::from_utf8_lossy(delivery.payload).into_owned();
            self.damaged(|| format!("a publisher, which is in no group, received {text}"));
            return;
        }
        let stamp = match self.layout.protocol {
            Protocol::Raw | Protocol::Simple | Protocol::Nats | Protocol::Mqtt | Protocol::Nchan => {
                Stamp::parse(delivery.payload, self.layout.size)
            }
            Protocol::Json | Protocol::Reliable => match self.open_envelope(member, delivery.payload) {
                Envelope::Stamp(stamp) => stamp,
                Envelope::Ack => {
                    self.acks += 1;
                    return;
                }
                Envelope::Replayed(stamp) => {
                    self.replay(member, stamp);
                    return;
                }
            },
        };
        match stamp {
            Some(stamp) if stamp.publisher == stamp::WARM_UP => self.warm_up[member] += 1,
            Some(stamp) if self.is_for(member, stamp.publisher) => self.count(member, stamp, delivery),
            _ => {
                let start = &delivery.payload[..delivery.payload.len().min(200)];
                let start = String::from_utf8_lossy(start).into_owned();
                self.damaged(|| format!("member {member} received {start}"));
            }
        }
    }

    /// Deliveries that are due but have not come.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// A publisher's messages that are not yet with everybody.
    pub(crate) fn in_flight(&self, publisher: usize) -> u32 {
        self.flights[publisher].remaining.len() as u32
    }

    /// Takes the publishers that may have room since the last call.
    pub(crate) fn take_completed(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.completed);
    }

    /// Deliveries that came, first copies only.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Size of the last measured frame that a member received, header included; 0 before the first.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// What the run's members and publishers are to each other.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Messages that came again under ids already seen.
    pub(crate) fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Deliveries to members set aside; not among [`Ledger::deliveries`].
    pub(crate) fn aside_deliveries(&self) -> u64 {
        self.aside_deliveries
    }

    /// From now on nobody waits for this member.
    pub(crate) fn set_aside(&mut self, member: usize) {
        if std::mem::replace(&mut self.aside[member], true) {
            return;
        }
        self.aside_in_group[self.layout.group_of_member(member)] += 1;
        for (publisher, slot) in self.slots(member) {
            for sequence in self.due[slot]..self.flights[publisher].next() {
                self.arrived(publisher, sequence);
            }
        }
    }

    /// Messages published so far that a member set aside has not received.
    pub(crate) fn missing(&self, member: usize) -> u64 {
        self.slots(member)
            .map(|(publisher, slot)| u64::from(self.flights[publisher].next() - self.due[slot]))
            .sum()
    }

    /// What the member has not received is lost.
    pub(crate) fn write_off(&mut self, member: usize) {
        self.violations.lost += self.missing(member);
        self.violations.note(|| format!("member {member} will not receive the rest"));
        for (publisher, slot) in self.slots(member) {
            self.due[slot] = self.flights[publisher].next();
        }
    }

    /// Waits for the member again, from the next message of every publisher on. Nothing may be in flight.
    pub(crate) fn take_back(&mut self, member: usize) {
        if std::mem::replace(&mut self.aside[member], false) {
            self.aside_in_group[self.layout.group_of_member(member)] -= 1;
        }
        for (publisher, slot) in self.slots(member) {
            self.due[slot] = self.flights[publisher].next();
        }
    }

    /// The member has a new socket: `same_session` if it recovered, else its ids begin anew.
    pub(crate) fn new_socket(&mut self, member: usize, same_session: bool) {
        if same_session {
            self.ids_due[member] = 0;
        } else {
            (self.sequence_ids[member], self.ids_due[member]) = (0, 1);
        }
    }

    /// The publishers whose messages a member receives, with the place of their next number in `due`.
    fn slots(&self, member: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (groups, per_group) = (self.layout.groups, self.layout.publishers_per_group());
        let publishers = (self.layout.group_of_member(member)..self.layout.publishers).step_by(groups);
        publishers.map(move |publisher| (publisher, member * per_group + publisher / groups))
    }

    /// Last sequence id a reliable member has seen.
    pub(crate) fn sequence_id(&self, member: usize) -> u64 {
        self.sequence_ids[member]
    }

    /// Warm-up messages a member has received.
    pub(crate) fn warmed_up(&self, member: usize) -> u32 {
        self.warm_up[member]
    }

    /// Successful `ack` messages so far.
    pub(crate) fn acks(&self) -> u64 {
        self.acks
    }

    /// Latencies since the last [`Ledger::forget_latency`], ns.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Forgets the latencies so far: those of the warm-up.
    pub(crate) fn forget_latency(&mut self) {
        self.latency.reset();
    }

    /// Closes the books: what is still outstanding is lost.
    pub(crate) fn report_violations(&self, report: &mut Report) {
        let violations = &self.violations;
        let lost = violations.lost + violations.missing.len() as u64 + self.outstanding;
        report.violation("lost", "lost", lost);
        report.violation("duplicated", "duplicated", violations.duplicated);
        report.violation("reordered", "reordered", violations.reordered);
        report.violation("damaged", "damaged or not for us", violations.damaged);
        if self.layout.protocol == Protocol::Reliable {
            report.violation("sequence_id_gaps", "sequence ids not +1", violations.id_gaps);
        }
        if let Some(first) = &violations.first {
            report.fact("first_violation", "first violation", first.as_str());
        }
    }

    fn is_for(&self, member: usize, publisher: u16) -> bool {
        let publisher = usize::from(publisher);
        publisher < self.layout.publishers
            && self.layout.group_of(publisher) == self.layout.group_of_member(member)
    }

    fn count(&mut self, member: usize, stamp: Stamp, delivery: &Delivery<'_>) {
        let publisher = usize::from(stamp.publisher);
        let slot = member * self.layout.publishers_per_group() + publisher / self.layout.groups;
        let due = self.due[slot];
        let key = (member as u32, stamp.publisher, stamp.sequence);
        let who = || format!("member {member}, publisher {publisher}: ");
        if stamp.sequence >= self.flights[publisher].next() {
            self.damaged(|| who() + &format!("{} was never published", stamp.sequence));
            return;
        }
        if stamp.sequence < due {
            if self.violations.missing.remove(&key) {
                self.violations.reordered += 1;
                self.violations.note(|| who() + &format!("{} after {}", stamp.sequence, due - 1));
            } else {
                self.violations.duplicated += 1;
                self.violations.note(|| who() + &format!("{} twice", stamp.sequence));
            }
            return;
        }
        for skipped in due..stamp.sequence {
            if self.violations.missing.len() < MISSING_MAX {
                self.violations.missing.insert((member as u32, stamp.publisher, skipped));
            } else {
                self.violations.lost += 1;
            }
            self.violations.note(|| who() + &format!("{} where {due} was due", stamp.sequence));
            if !self.aside[member] {
                self.arrived(publisher, skipped);
            }
        }
        self.due[slot] = stamp.sequence + 1;
        if self.aside[member] {
            self.aside_deliveries += 1;
            return;
        }
        self.arrived(publisher, stamp.sequence);
        self.deliveries += 1;
        self.frame_bytes = delivery.frame_bytes;
        self.latency.saturating_record(delivery.now_ns.saturating_sub(stamp.at_ns).max(1));
    }

    /// A message under an id seen before must be one received before.
    fn replay(&mut self, member: usize, stamp: Option<Stamp>) {
        self.replayed += 1;
        let seen = stamp.is_some_and(|stamp| {
            let slot = member * self.layout.publishers_per_group()
                + usize::from(stamp.publisher) / self.layout.groups;
            stamp.publisher == stamp::WARM_UP
                || self.is_for(member, stamp.publisher) && stamp.sequence < self.due[slot]
        });
        if !seen {
            self.damaged(|| {
                format!("member {member}: an id seen before came with another message, {stamp:?}")
            });
        }
    }

    fn arrived(&mut self, publisher: usize, sequence: u32) {
        self.outstanding -= 1;
        let flight = &mut self.flights[publisher];
        flight.remaining[(sequence - flight.front) as usize] -= 1;
        while flight.remaining.front() == Some(&0) {
            flight.remaining.pop_front();
            flight.front += 1;
            self.completed.push(publisher as u32);
        }
    }

    fn damaged(&mut self, what: impl FnOnce() -> String) {
        self.violations.damaged += 1;
        self.violations.note(what);
    }

    /// Takes the payload out of a JSON message. The first message of a group is parsed in full; later
    /// ones need only have the same bytes around their payload.
    fn open_envelope(&mut self, member: usize, message: &[u8]) -> Envelope {
        let group = self.layout.group_of_member(member);
        if let Some(rest) = self.prefixes[group].strip(message)
            && let Some((payload, end)) = rest.split_at_checked(self.layout.size)
            && let Some(id) = read_end(end)
        {
            let stamp = Stamp::parse(payload, self.layout.size);
            return self.check_id(member, id, stamp);
        }
        let Ok(parsed) = serde_json::from_slice::<Value>(message) else { return Envelope::Stamp(None) };
        if parsed["type"] == "ack" && parsed["success"] == true {
            return Envelope::Ack;
        }
        let data = parsed["data"].as_str().unwrap_or_default();
        let from = match self.layout.source {
            Source::RestDirect | Source::Events => "server",
            Source::Publishers | Source::Members | Source::RestToGroup => "group",
        };
        if parsed["type"] != "message" || parsed["from"] != from || parsed["dataType"] != "text" {
            return Envelope::Stamp(None);
        }
        let stamp = Stamp::parse(data.as_bytes(), self.layout.size);
        if stamp.is_some_and(|stamp| stamp.publisher != stamp::WARM_UP) {
            if from == "group" && parsed["group"] != group_name(group) {
                return Envelope::Stamp(None);
            }
            let start = message.windows(data.len()).position(|window| window == data.as_bytes());
            // Absent only if the server escaped a letter, which is legal; then no short cut.
            self.prefixes[group] = start.map(|start| Prefix::learn(&message[..start])).unwrap_or_default();
        }
        self.check_id(member, parsed["sequenceId"].as_u64(), stamp)
    }

    fn check_id(&mut self, member: usize, id: Option<u64>, stamp: Option<Stamp>) -> Envelope {
        if self.layout.protocol != Protocol::Reliable {
            if id.is_some() {
                // Plain clients must not get ids at all (reference client-protocols §3.3).
                self.damaged(|| format!("member {member}: sequence id {id:?} for a plain client"));
            }
            return Envelope::Stamp(stamp);
        }
        let (seen, due) = (self.sequence_ids[member], self.ids_due[member]);
        // What was seen before may be left out of a replay, but nothing comes twice on one socket, and what
        // is new begins where the old ended.
        let wanted = due.max(1)..=seen + 1;
        if !id.is_some_and(|id| wanted.contains(&id)) {
            self.violations.id_gaps += 1;
            self.violations.note(|| format!("member {member}: sequence id {id:?} where {wanted:?} was due"));
        }
        let Some(id) = id else { return Envelope::Stamp(stamp) };
        self.ids_due[member] = id + 1;
        if id <= seen {
            return Envelope::Replayed(stamp);
        }
        self.sequence_ids[member] = id;
        Envelope::Stamp(stamp)
    }
}

enum Envelope {
    /// A message, with its stamp if it carries a whole one.
    Stamp(Option<Stamp>),
    /// The same, under a sequence id seen before.
    Replayed(Option<Stamp>),
    /// A successful ack.
    Ack,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(protocol: Protocol) -> Ledger {
        let source = Source::Publishers;
        Ledger::new(Layout { protocol, source, size: 40, members: 3, groups: 1, publishers: 1, skew: false })
    }

    fn payload(sequence: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Stamp { publisher: 0, sequence, at_ns: 5 }.write(&mut out, 40);
        out
    }

    fn give(ledger: &mut Ledger, connection: usize, payload: &[u8]) {
        ledger.receive(&Delivery { connection, payload, frame_bytes: 42, now_ns: 2_000 });
    }

    fn counts(ledger: &Ledger) -> [u64; 4] {
        let v = &ledger.violations;
        [
            v.missing.len() as u64 + v.lost + ledger.outstanding,
            v.duplicated,
            v.reordered,
            v.damaged + v.id_gaps,
        ]
    }

    #[test]
    fn in_order_and_complete_is_clean() {
        let mut ledger = ledger(Protocol::Raw);
        for sequence in 0..10 {
            assert_eq!(ledger.publish(0), sequence);
        }
        for sequence in 0..10 {
            (0..3).for_each(|member| give(&mut ledger, member, &payload(sequence)));
            assert_eq!(ledger.in_flight(0), 9 - sequence);
        }
        assert_eq!((counts(&ledger), ledger.deliveries(), ledger.frame_bytes()), ([0; 4], 30, 42));
        let mut completed = Vec::new();
        ledger.take_completed(&mut completed);
        assert_eq!(completed, [0; 10]);
    }

    #[test]
    fn each_kind_of_violation_is_told_apart() {
        let mut ledger = ledger(Protocol::Raw);
        (0..4).for_each(|sequence| assert_eq!(ledger.publish(0), sequence));
        // Member 0 gets 1 before 0, member 1 gets 0 twice and never 3, member 2 misses 1.
        [1, 0, 2, 3].iter().for_each(|&sequence| give(&mut ledger, 0, &payload(sequence)));
        [0, 0, 1, 2].iter().for_each(|&sequence| give(&mut ledger, 1, &payload(sequence)));
        [0, 2, 3].iter().for_each(|&sequence| give(&mut ledger, 2, &payload(sequence)));
        assert_eq!(counts(&ledger), [2, 1, 1, 0]);
        give(&mut ledger, 1, &payload(4));
        give(&mut ledger, 1, b"rubbish");
        give(&mut ledger, 3, &payload(0));
        assert_eq!(counts(&ledger), [2, 1, 1, 3]);
        assert_eq!(ledger.violations.first.as_deref(), Some("member 0, publisher 0: 1 where 0 was due"));
    }

    fn json(group: &str, sequence: u32, end: &str) -> Vec<u8> {
        let data = String::from_utf8(payload(sequence)).unwrap();
        let head = r#"{"type":"message","from":"group","group":""#;
        format!(r#"{head}{group}","fromUserId":"p","dataType":"text","data":"{data}"{end}"#).into_bytes()
    }

    #[test]
    fn sequence_ids_must_rise_by_one() {
        let mut ledger = ledger(Protocol::Reliable);
        (0..4).for_each(|sequence| assert_eq!(ledger.publish(0), sequence));
        give(&mut ledger, 0, &json("g0", 0, r#","sequenceId":1}"#));
        give(&mut ledger, 0, &json("g0", 1, r#","sequenceId":2}"#));
        assert_eq!((counts(&ledger)[3], ledger.sequence_id(0)), (0, 2));
        give(&mut ledger, 0, &json("g0", 2, r#","sequenceId":4}"#));
        give(&mut ledger, 0, &json("g0", 3, "}"));
        assert_eq!(counts(&ledger)[3], 2);
    }

    #[test]
    fn plain_json_has_no_ids_and_the_right_group() {
        let mut ledger = ledger(Protocol::Json);
        (0..4).for_each(|sequence| assert_eq!(ledger.publish(0), sequence));
        give(&mut ledger, 0, &json("g0", 0, "}"));
        give(&mut ledger, 0, &json("g0", 1, "}"));
        assert_eq!((counts(&ledger)[3], ledger.deliveries()), (0, 2));
        give(&mut ledger, 0, &json("g0", 2, r#","sequenceId":1}"#));
        give(&mut ledger, 0, &json("g1", 3, "}"));
        assert_eq!((counts(&ledger)[3], ledger.deliveries()), (2, 3));
        give(&mut ledger, 1, br#"{"type":"ack","ackId":1,"success":true}"#);
        assert_eq!(ledger.acks(), 1);
    }

    #[test]
    fn nobody_waits_for_a_member_set_aside_but_it_is_checked() {
        let mut ledger = ledger(Protocol::Raw);
        assert_eq!(ledger.publish(0), 0);
        (0..2).for_each(|member| give(&mut ledger, member, &payload(0)));
        ledger.set_aside(2);
        ledger.set_aside(2);
        assert_eq!((ledger.outstanding(), ledger.in_flight(0), ledger.missing(2)), (0, 0, 1));
        (1..4).for_each(|sequence| assert_eq!(ledger.publish(0), sequence));
        (1..4).for_each(|sequence| (0..2).for_each(|member| give(&mut ledger, member, &payload(sequence))));
        assert_eq!((ledger.outstanding(), ledger.missing(2), ledger.deliveries()), (0, 4, 8));
        give(&mut ledger, 2, &payload(0));
        give(&mut ledger, 2, &payload(1));
        assert_eq!((ledger.missing(2), ledger.aside_deliveries(), counts(&ledger)), (2, 2, [0; 4]));
        give(&mut ledger, 2, &payload(3));
        assert_eq!((ledger.missing(2), counts(&ledger)), (0, [1, 0, 0, 0]));
        ledger.take_back(2);
        assert_eq!(ledger.publish(0), 4);
        assert_eq!(ledger.outstanding(), 3);
        ledger.set_aside(2);
        ledger.write_off(2);
        assert_eq!((ledger.missing(2), counts(&ledger)), (0, [1 + 1 + 2, 0, 0, 0]));
    }

    #[test]
    fn what_is_sent_again_after_a_recovery_is_dropped_by_its_id() {
        let mut ledger = ledger(Protocol::Reliable);
        (0..6).for_each(|sequence| assert_eq!(ledger.publish(0), sequence));
        let message = |sequence: u32, id: u32| json("g0", sequence, &format!(r#","sequenceId":{id}}}"#));
        (0..3).for_each(|sequence| give(&mut ledger, 0, &message(sequence, sequence + 1)));
        ledger.new_socket(0, true);
        (1..4).for_each(|sequence| give(&mut ledger, 0, &message(sequence, sequence + 1)));
        assert_eq!(
            (ledger.replayed(), ledger.deliveries(), counts(&ledger)[1..].to_vec()),
            (2, 4, vec![0; 3])
        );
        // Twice on one socket; and another message under an old id.
        give(&mut ledger, 0, &message(3, 4));
        assert_eq!((ledger.replayed(), counts(&ledger)[1..].to_vec()), (3, vec![0, 0, 1]));
        ledger.new_socket(0, true);
        give(&mut ledger, 0, &message(5, 4));
        assert_eq!(counts(&ledger)[1..], [0, 0, 2]);
        // A gap right after the recovery.
        ledger.new_socket(0, true);
        give(&mut ledger, 0, &message(5, 6));
        assert_eq!(counts(&ledger)[1..], [0, 0, 3]);
    }

    #[test]
    fn envelopes_may_differ_by_the_publishers_name() {
        let mut ledger = ledger(Protocol::Json);
        (0..3).for_each(|sequence| assert_eq!(ledger.publish(0), sequence));
        for (sequence, name) in [(0, "p"), (1, "somebody else"), (2, "")] {
            let message = String::from_utf8(json("g0", sequence, "}")).unwrap();
            give(&mut ledger, 0, message.replace(r#"Id":"p""#, &format!(r#"Id":"{name}""#)).as_bytes());
        }
        assert_eq!((ledger.deliveries(), counts(&ledger)[3]), (3, 0));
    }
}
