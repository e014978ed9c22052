//! A history of reliable delivery, checked when it is over (`client-protocols` §6, `reliability` check 56).
//!
//! A test writes down what happened in the order in which it saw it: publications, the acks they got, joins, sockets
//! and receptions. [`History::check`] then holds it against the contract:
//!
//! - what was acknowledged, and published after the receiver's join was, is received; by who left at some time, what
//!   stands before the last it had of the same publisher;
//! - nothing is received twice by its content, each publisher's messages in their order, and nothing that was never
//!   published;
//! - sequence ids begin at 1 and go on by 1; a new socket of the same session begins at an id that is known or the
//!   next, and goes on by 1 from there; under one id comes one message only. Receivers without ids have one socket.
//!
//! Known ids may come again on a new socket; such repetitions are dropped, as clients do. What was published and not
//! acknowledged may be missing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::json_object;

/// Who published, and which of its messages, counted from 1.
type Message = (usize, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Published(Message),
    /// With all that its publisher sent before it.
    Acknowledged(Message),
    Joined(usize),
    /// A receiver has a new socket of the same session.
    Socket(usize),
    /// Nothing more is owed to the receiver.
    Left(usize),
    Received(usize, Message, Option<u64>),
}

/// What happened, in the order in which the test saw it.
#[derive(Debug, Clone, Default)]
pub struct History {
    events: Vec<Event>,
    published: HashMap<usize, u64>,
}

/// What the contract does not allow, at which receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Violation {
    Lost {
        receiver: usize,
        message: (usize, u64),
    },
    Doubled {
        receiver: usize,
        message: (usize, u64),
    },
    Reordered {
        receiver: usize,
        message: (usize, u64),
        after: u64,
    },
    Invented {
        receiver: usize,
        message: (usize, u64),
    },
    /// An id that is not the next one.
    Gap {
        receiver: usize,
        id: Option<u64>,
        due: u64,
    },
    /// A known id with another message.
    Changed {
        receiver: usize,
        id: u64,
        message: (usize, u64),
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl History {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A publisher's next message sets out; returns the text to be sent. A space and anything may be put behind it.
    pub fn publish(&mut self, publisher: usize) -> String {
        let number = self.published.entry(publisher).or_default();
        *number += 1;
        self.events.push(Event::Published((publisher, *number)));
        format!("{publisher}.{number}")
    }

    /// The publisher's last message was acknowledged, and so are those before it: they went the same way.
    #[track_caller]
    pub fn acknowledged(&mut self, publisher: usize) {
        let number = *self.published.get(&publisher).expect("it has published something");
        self.events.push(Event::Acknowledged((publisher, number)));
    }

    /// The receiver's join was acknowledged: what is acknowledged of later publications is owed to it.
    pub fn joined(&mut self, receiver: usize) {
        self.events.push(Event::Joined(receiver));
    }

    /// The receiver recovered its session on a new socket.
    pub fn recovered(&mut self, receiver: usize) {
        self.events.push(Event::Socket(receiver));
    }

    /// Nothing more is owed to the receiver, which left or was closed for good, than no gap in what it had.
    pub fn left(&mut self, receiver: usize) {
        self.events.push(Event::Left(receiver));
    }

    /// The receiver was sent this JSON message; returns its publisher and number.
    #[track_caller]
    pub fn receive(&mut self, receiver: usize, json: &str) -> (usize, u64) {
        let message = json_object(json);
        let text = message.get("data").and_then(|data| data.as_str());
        let parsed = text.and_then(|text| {
            let (publisher, number) = text.split(' ').next()?.split_once('.')?;
            Some((publisher.parse().ok()?, number.parse().ok()?))
        });
        let parsed = parsed.unwrap_or_else(|| panic!("not a message of this history: {json}"));
        let id = message.get("sequenceId").map(|id| id.as_u64().expect("an id is a number"));
        self.events.push(Event::Received(receiver, parsed, id));
        parsed
    }

    /// Panics with the first violation.
    #[track_caller]
    pub fn check(&self) {
        if let Err(violation) = self.find_violation() {
            panic!("{violation} in a history of {} events", self.events.len());
        }
    }

    /// The first violation, if there is one; else how many messages were received, repetitions not counted.
    pub fn find_violation(&self) -> Result<usize, Violation> {
        let mut receivers: BTreeMap<usize, Receiver> = BTreeMap::new();
        let mut published = HashSet::new();
        let mut received = 0;
        for event in &self.events {
            match *event {
                Event::Published(message) => drop(published.insert(message)),
                Event::Acknowledged(_) => {}
                Event::Joined(receiver) => {
                    let who = receivers.entry(receiver).or_insert_with(|| Receiver::new(receiver));
                    // What was published before is not owed.
                    who.before.clone_from(&published);
                }
                Event::Socket(receiver) => {
                    receivers.entry(receiver).or_insert_with(|| Receiver::new(receiver)).due = None;
                }
                Event::Left(receiver) => {
                    receivers.entry(receiver).or_insert_with(|| Receiver::new(receiver)).has_left = true;
                }
                Event::Received(receiver, message, id) => {
                    let who = receivers.entry(receiver).or_insert_with(|| Receiver::new(receiver));
                    if !published.contains(&message) {
                        return Err(Violation::Invented { receiver, message });
                    }
                    received += usize::from(who.receive(message, id)?);
                }
            }
        }
        let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
        for event in &self.events {
            if let Event::Acknowledged((publisher, number)) = *event {
                acknowledged.insert(publisher, number);
            }
        }
        for (receiver, who) in receivers {
            let owed = if who.has_left { &who.last } else { &acknowledged };
            let mut owed = owed.iter().flat_map(|(by, last)| (1..=*last).map(|number| (*by, number)));
            let lost = |message: &Message| !who.before.contains(message) && !who.messages.contains(message);
            if let Some(message) = owed.find(lost) {
                return Err(Violation::Lost { receiver, message });
            }
        }
        Ok(received)
    }
}

/// What one receiver has had.
struct Receiver {
    name: usize,
    /// Published before its join was acknowledged.
    before: HashSet<Message>,
    messages: HashSet<Message>,
    /// By publisher, the last number.
    last: BTreeMap<usize, u64>,
    /// By sequence id less one.
    ids: Vec<Message>,
    /// The id due next on this socket, if it has had one.
    due: Option<u64>,
    has_left: bool,
}

impl Receiver {
    fn new(name: usize) -> Self {
        Self {
            name,
            before: HashSet::new(),
            messages: HashSet::new(),
            last: BTreeMap::new(),
            ids: Vec::new(),
            // The first socket has seen nothing.
            due: Some(1),
            has_left: false,
        }
    }

    /// True if it is no repetition.
    fn receive(&mut self, message: Message, id: Option<u64>) -> Result<bool, Violation> {
        let receiver = self.name;
        if id.is_some() || !self.ids.is_empty() {
            let next = self.ids.len() as u64 + 1;
            let due = self.due.unwrap_or_else(|| id.map_or(next, |id| id.min(next)).max(1));
            let Some(id) = id.filter(|id| *id == due) else {
                return Err(Violation::Gap { receiver, id, due });
            };
            self.due = Some(id + 1);
            if id < next {
                return match self.ids[id as usize - 1] == message {
                    true => Ok(false),
                    false => Err(Violation::Changed { receiver, id, message }),
                };
            }
            self.ids.push(message);
        }
        if !self.messages.insert(message) {
            return Err(Violation::Doubled { receiver, message });
        }
        let (publisher, number) = message;
        match self.last.insert(publisher, number) {
            Some(after) if after > number => Err(Violation::Reordered { receiver, message, after }),
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What happens in a history without faults: a server with one log per receiver.
    #[derive(Debug, Clone)]
    enum Step {
        Publish(usize),
        Deliver(usize),
        /// Cut; comes back with so many of its messages sent again.
        Cut(usize, usize),
    }

    const RECEIVERS: usize = 3;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..2_usize).prop_map(Step::Publish),
            8 => (0..RECEIVERS).prop_map(Step::Deliver),
            1 => (0..RECEIVERS, 0..5_usize).prop_map(|(receiver, again)| Step::Cut(receiver, again)),
        ];
        vec(step, 1..60)
    }

    /// Receiver 2 has no ids and is not cut; receiver 1 joins when some was published.
    fn history(steps: &[Step]) -> History {
        let mut history = History::new();
        let mut log: Vec<Message> = Vec::new();
        let (mut joined, mut sent) = ([0, usize::MAX, 0], [0; RECEIVERS]);
        history.joined(0);
        history.joined(2);
        let deliver =
            |history: &mut History, log: &[Message], joined: usize, sent: &mut usize, receiver: usize| {
                let id = (receiver < 2).then_some(*sent as u64 + 1);
                let Some(message) = log.get(joined.saturating_add(*sent)) else { return };
                history.events.push(Event::Received(receiver, *message, id));
                *sent += 1;
            };
        for (at, step) in steps.iter().enumerate() {
            if at == steps.len() / 3 {
                history.joined(1);
                joined[1] = log.len();
            }
            match *step {
                Step::Publish(publisher) => {
                    history.publish(publisher);
                    log.push((publisher, history.published[&publisher]));
                    history.acknowledged(publisher);
                }
                Step::Deliver(receiver) => {
                    deliver(&mut history, &log, joined[receiver], &mut sent[receiver], receiver);
                }
                Step::Cut(2, _) => {}
                Step::Cut(receiver, again) => {
                    history.recovered(receiver);
                    sent[receiver] = sent[receiver].saturating_sub(again);
                }
            }
        }
        for receiver in 0..RECEIVERS {
            for _ in 0..log.len() {
                deliver(&mut history, &log, joined[receiver], &mut sent[receiver], receiver);
            }
        }
        history
    }

    /// Places of receptions that are no repetitions.
    fn fresh(history: &History) -> Vec<usize> {
        let mut seen = HashSet::new();
        let is_fresh = |event: &Event| match event {
            Event::Received(receiver, message, _) => seen.insert((*receiver, *message)),
            _ => false,
        };
        let events = history.events.iter().map(is_fresh).collect::<Vec<_>>();
        (0..events.len()).filter(|at| events[*at]).collect()
    }

    /// From a place on, a receiver's ids are one higher: as if the server had counted something in between.
    fn shift_ids(history: &mut History, from: usize, whose: usize) {
        for event in &mut history.events[from..] {
            if let Event::Received(receiver, _, Some(id)) = event
                && *receiver == whose
            {
                *id += 1;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_a_right_server_does_is_right(steps in steps()) {
            let history = history(&steps);
            prop_assert_eq!(history.find_violation(), Ok(fresh(&history).len()));
        }

        #[test]
        fn a_history_with_one_fault_is_found_out(steps in steps(), which in any::<prop::sample::Index>(), kind in 0..6) {
            let mut history = history(&steps);
            let fresh = fresh(&history);
            prop_assume!(!fresh.is_empty());
            let at = fresh[which.index(fresh.len())];
            let Event::Received(receiver, message, id) = history.events[at] else { unreachable!("fresh") };
            let another = |event: &Event| matches!(event, Event::Received(other, (by, _), _) if *other == receiver && *by == message.0);
            match kind {
                // Lost: never received, in a replay neither.
                0 => history.events.retain(|event| !matches!(event, Event::Received(r, m, _) if (*r, *m) == (receiver, message))),
                // Doubled on the same socket, and under an id of its own.
                1 => history.events.insert(at + 1, history.events[at].clone()),
                2 => {
                    let next = id.map(|id| id + 1);
                    // Repetitions further on would be of other ids than they were.
                    prop_assume!(!history.events[at..].contains(&Event::Socket(receiver)));
                    shift_ids(&mut history, at + 1, receiver);
                    history.events.insert(at + 1, Event::Received(receiver, message, next));
                }
                // Reordered: with the publisher's next one, ids as they were.
                3 => {
                    let later = fresh.iter().copied().find(|place| *place > at && another(&history.events[*place]));
                    prop_assume!(later.is_some());
                    let later = later.unwrap();
                    let Event::Received(_, other, other_id) = history.events[later] else { unreachable!("fresh") };
                    history.events[at] = Event::Received(receiver, other, id);
                    history.events[later] = Event::Received(receiver, message, other_id);
                }
                // Invented.
                4 => {
                    history.events[at] = Event::Received(receiver, (message.0, 1_000_000), id);
                }
                // Its id is not the next one.
                _ => {
                    prop_assume!(id.is_some());
                    history.events[at] = Event::Received(receiver, message, id.map(|id| id + 1));
                }
            }
            prop_assert!(history.find_violation().is_err(), "{:?}", history.events);
        }
    }

    #[test]
    fn what_is_not_acknowledged_may_be_missing_and_what_was_before_the_join_is_not_owed() {
        let mut history = History::new();
        history.publish(0);
        history.acknowledged(0);
        history.joined(7);
        assert_eq!(history.publish(0), "0.2");
        assert_eq!(history.find_violation(), Ok(0));
        history.acknowledged(0);
        assert_eq!(history.find_violation(), Err(Violation::Lost { receiver: 7, message: (0, 2) }));
        history.receive(7, r#"{"data":"0.2","sequenceId":1}"#);
        assert_eq!(history.find_violation(), Ok(1));
        history.publish(0);
        history.acknowledged(0);
        history.left(7);
        assert_eq!(history.find_violation(), Ok(1));
    }

    #[test]
    fn who_leaves_is_owed_no_end_but_no_gap_either() {
        let mut history = History::new();
        history.joined(7);
        (0..4).for_each(|_| drop(history.publish(0)));
        history.acknowledged(0);
        history.receive(7, r#"{"data":"0.1"}"#);
        history.receive(7, r#"{"data":"0.3"}"#);
        history.left(7);
        assert_eq!(history.find_violation(), Err(Violation::Lost { receiver: 7, message: (0, 2) }));
    }
}
