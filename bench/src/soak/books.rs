//! What every client of a soak must, may and must not receive.
//!
//! Two kinds of streams. A group's *steady* ones (its own publisher, and REST) are never cut: whoever is a member
//! gets each of their messages, once, in order, from the first that was published after its join was acknowledged,
//! on any number of sockets if it is reliable. A *client's* publications may end anywhere, for it is cut while they
//! are under way: they must come in order and once. Memory is bounded by the clients and their groups, however long
//! the run.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::layout::group_name;
use crate::stamp::Stamp;

/// How a client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw,
    Json,
    Reliable,
}

/// Where a client stands with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Joining,
    Member,
    Leaving,
}

/// One of a member's groups.
struct Belonging {
    stage: Stage,
    /// Of the group's publisher and of REST.
    due: [Due; 2],
}

/// What comes next of a steady stream.
#[derive(Clone, Copy)]
struct Due {
    /// Nothing before this comes again.
    next: u32,
    /// From here on nothing may be left out: what was published when the join's ack was here. What came earlier may
    /// have met the server before the join did, or, while its cores agreed on it, only some of it.
    owed: u32,
}

impl Due {
    /// The first message that must still come.
    fn first(self) -> u32 {
        self.next.max(self.owed)
    }
}

/// One client, for as long as its connection or session lasts.
struct Member {
    kind: Kind,
    groups: BTreeMap<usize, Belonging>,
    /// The last number of each incarnation of a client that it was sent something of.
    last: HashMap<(u16, u16), u16>,
    /// The highest sequence id, and the one due on this socket; 0 on a fresh one, where known ones may come again.
    seen: u64,
    due: u64,
}

/// What an ack answered.
pub(crate) struct Acked {
    pub(crate) id: u64,
    pub(crate) success: bool,
}

#[derive(Default)]
pub(crate) struct Violations {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) damaged: u64,
    pub(crate) id_gaps: u64,
    pub(crate) first: Option<String>,
}

impl Violations {
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }
}

/// The books of a soak.
pub(crate) struct Books {
    size: usize,
    groups: usize,
    /// Per group: of its publisher; then per group: of REST.
    published: Vec<u32>,
    members: Vec<Option<Member>>,
    pub(crate) deliveries: u64,
    pub(crate) replayed: u64,
    pub(crate) violations: Violations,
}

impl Books {
    pub(crate) fn new(clients: usize, groups: usize, size: usize) -> Self {
        Self {
            size,
            groups,
            published: vec![0; 2 * groups],
            members: (0..clients).map(|_| None).collect(),
            deliveries: 0,
            replayed: 0,
            violations: Violations::default(),
        }
    }

    /// The stamp's name of a client.
    pub(crate) fn publisher(&self, client: usize) -> u16 {
        (2 * self.groups + client) as u16
    }

    /// Enters one message of a steady stream and returns its number. Streams `0..groups` are publishers', the next
    /// `groups` REST's.
    pub(crate) fn publish(&mut self, stream: usize) -> u32 {
        self.published[stream] += 1;
        self.published[stream] - 1
    }

    /// A client sets out with these groups in its token.
    pub(crate) fn begin(&mut self, client: usize, kind: Kind, groups: &[usize]) {
        let groups = groups.iter().map(|group| (*group, Belonging::joining())).collect();
        self.members[client] = Some(Member { kind, groups, last: HashMap::new(), seen: 0, due: 1 });
    }

    /// It is there: it is a member of what its token names.
    pub(crate) fn opened(&mut self, client: usize) {
        for group in 0..self.groups {
            self.joined(client, group);
        }
    }

    /// A reliable client is on its way back to its session.
    pub(crate) fn recovering(&mut self, client: usize) {
        self.member(client).due = 0;
    }

    /// Its connection or session is over.
    pub(crate) fn end(&mut self, client: usize) {
        self.members[client] = None;
    }

    pub(crate) fn joining(&mut self, client: usize, group: usize) {
        self.member(client).groups.insert(group, Belonging::joining());
    }

    /// A join was acknowledged; nothing if it is not under way.
    pub(crate) fn joined(&mut self, client: usize, group: usize) {
        let published = [self.published[group], self.published[self.groups + group]];
        let Some(belonging) = self.member(client).groups.get_mut(&group) else { return };
        if belonging.stage != Stage::Joining {
            return;
        }
        belonging.stage = Stage::Member;
        for (due, published) in belonging.due.iter_mut().zip(published) {
            due.owed = published;
        }
    }

    pub(crate) fn leaving(&mut self, client: usize, group: usize) {
        if let Some(belonging) = self.member(client).groups.get_mut(&group) {
            belonging.stage = Stage::Leaving;
        }
    }

    pub(crate) fn left(&mut self, client: usize, group: usize) {
        self.member(client).groups.remove(&group);
    }

    /// The groups it is a member of, acknowledged.
    pub(crate) fn groups_of(&self, client: usize) -> Vec<usize> {
        let groups = self.members[client].iter().flat_map(|member| &member.groups);
        groups.filter(|(_, belonging)| belonging.stage == Stage::Member).map(|(group, _)| *group).collect()
    }

    /// What its session has been sent.
    pub(crate) fn seen(&self, client: usize) -> u64 {
        self.members[client].as_ref().map_or(0, |member| member.seen)
    }

    /// Messages of steady streams that the client must still get.
    pub(crate) fn missing(&self, client: usize) -> u64 {
        let groups = self.members[client].iter().flat_map(|member| &member.groups);
        let members = groups.filter(|(_, belonging)| belonging.stage == Stage::Member);
        let missing = |(group, belonging): (&usize, &Belonging)| {
            let streams = [*group, self.groups + group];
            let due = streams.iter().zip(belonging.due);
            due.map(|(stream, due)| u64::from(self.published[*stream] - due.first())).sum::<u64>()
        };
        members.map(missing).sum()
    }

    /// What is missing will not come.
    pub(crate) fn write_off(&mut self, client: usize) {
        let missing = self.missing(client);
        self.violations.lost += missing;
        if missing > 0 {
            self.violations.note(|| format!("client {client} did not get {missing} messages"));
        }
    }

    /// Checks one message; an ack is the caller's.
    pub(crate) fn receive(&mut self, client: usize, payload: &[u8]) -> Option<Acked> {
        let Some(member) = &mut self.members[client] else {
            self.damaged(|| format!("client {client} has ended and received something"));
            return None;
        };
        if member.kind == Kind::Raw {
            self.message(client, None, Stamp::parse(payload, self.size));
            return None;
        }
        let message: Value = serde_json::from_slice(payload).unwrap_or_default();
        if message["type"] == "ack" {
            let (id, success) = (message["ackId"].as_u64().unwrap_or(0), message["success"] == true);
            return Some(Acked { id, success });
        }
        if message["type"] != "message" || message["from"] != "group" {
            self.damaged(|| format!("client {client} received {message}"));
            return None;
        }
        let id = message["sequenceId"].as_u64();
        if member.kind == Kind::Json && id.is_some() {
            self.damaged(|| format!("client {client} is not reliable: {message}"));
            return None;
        }
        if member.kind == Kind::Reliable {
            // As in the ledger: known ids may be left out of a replay, but nothing comes twice on one socket.
            let wanted = member.due.max(1)..=member.seen + 1;
            let Some(id) = id.filter(|id| wanted.contains(id)) else {
                self.violations.id_gaps += 1;
                self.violations.note(|| format!("client {client}: {wanted:?} was due: {message}"));
                return None;
            };
            member.due = id + 1;
            if id <= member.seen {
                self.replayed += 1;
                return None;
            }
            member.seen = id;
        }
        let stamp = message["data"].as_str().and_then(|data| Stamp::parse(data.as_bytes(), self.size));
        self.message(client, message["group"].as_str(), stamp);
        None
    }

    fn message(&mut self, client: usize, group: Option<&str>, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else {
            return self.damaged(|| format!("client {client}: a damaged message"));
        };
        let publisher = usize::from(stamp.publisher);
        let (groups, published) = (self.groups, &self.published);
        let who = || format!("client {client}, publisher {publisher}: {} ", stamp.sequence);
        let member = self.members[client].as_mut().expect("looked at above");
        if let Some(name) = group
            && !member.groups.keys().any(|group| group_name(*group) == name)
        {
            return self.damaged(|| who() + "of a group it is not in");
        }
        if publisher >= 2 * groups {
            let (incarnation, number) = ((stamp.sequence >> 16) as u16, stamp.sequence as u16);
            self.deliveries += 1;
            match member.last.insert((stamp.publisher, incarnation), number) {
                Some(last) if last == number => self.violations.duplicated += 1,
                Some(last) if last > number => self.violations.reordered += 1,
                _ => return,
            }
            return self.violations.note(|| who() + "after a later one, or twice");
        }
        let group = publisher % groups;
        let Some(belonging) = member.groups.get_mut(&group) else {
            return self.damaged(|| who() + "of a group it is not in");
        };
        if stamp.sequence >= published[publisher] {
            return self.damaged(|| who() + "was never published");
        }
        self.deliveries += 1;
        let due = &mut belonging.due[publisher / groups];
        if stamp.sequence < due.next {
            let next = due.next;
            self.violations.duplicated += 1;
            return self.violations.note(|| who() + &format!("after {next} was due"));
        }
        let first = due.first();
        due.next = stamp.sequence + 1;
        if stamp.sequence > first {
            self.violations.lost += u64::from(stamp.sequence - first);
            self.violations.note(|| who() + &format!("where {first} was due"));
        }
    }

    fn member(&mut self, client: usize) -> &mut Member {
        self.members[client].as_mut().expect("it has begun and not ended")
    }

    fn damaged(&mut self, what: impl FnOnce() -> String) {
        self.violations.damaged += 1;
        self.violations.note(what);
    }
}

impl Belonging {
    fn joining() -> Self {
        Self { stage: Stage::Joining, due: [Due { next: 0, owed: u32::MAX }; 2] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 40;

    /// One raw and one reliable client in group 1 of two.
    fn some_books() -> Books {
        let mut books = Books::new(3, 2, SIZE);
        for (client, kind) in [(0, Kind::Raw), (1, Kind::Reliable)] {
            books.begin(client, kind, &[1]);
        }
        books
    }

    fn payload(publisher: u16, sequence: u32) -> String {
        let mut out = Vec::new();
        Stamp { publisher, sequence, at_ns: 1 }.write(&mut out, SIZE);
        String::from_utf8(out).unwrap()
    }

    fn give(books: &mut Books, publisher: u16, sequence: u32, id: u64) {
        let data = payload(publisher, sequence);
        books.receive(0, data.as_bytes());
        let message = format!(
            r#"{{"type":"message","from":"group","group":"g1","dataType":"text","data":"{data}","sequenceId":{id}}}"#
        );
        assert!(books.receive(1, message.as_bytes()).is_none());
    }

    fn counts(books: &Books) -> [u64; 5] {
        let v = &books.violations;
        [v.lost, v.duplicated, v.reordered, v.damaged, v.id_gaps]
    }

    #[test]
    fn what_is_published_while_a_join_is_under_way_may_come_or_not() {
        for first in [0, 1, 2, 3] {
            let mut books = some_books();
            (0..3).for_each(|_| _ = books.publish(1));
            if first < 2 {
                give(&mut books, 1, first, 1);
            }
            (0..2).for_each(|client| books.opened(client));
            books.publish(1);
            if first >= 2 {
                give(&mut books, 1, first, 1);
            }
            (first + 1..4).for_each(|n| give(&mut books, 1, n, u64::from(n - first + 1)));
            assert_eq!((counts(&books), books.missing(0), books.missing(1)), ([0; 5], 0, 0));
        }
        let mut books = some_books();
        (0..2).for_each(|client| books.opened(client));
        (0..2).for_each(|_| _ = books.publish(1));
        assert_eq!(books.missing(0), 2);
        give(&mut books, 1, 1, 1);
        assert_eq!(
            counts(&books),
            [2, 0, 0, 0, 0],
            "after its join was acknowledged nothing may be left out"
        );

        // While the cores agree on a join, a publication between two may be left out.
        let mut books = some_books();
        (0..3).for_each(|_| _ = books.publish(1));
        [0, 2].iter().zip(1..).for_each(|(n, id)| give(&mut books, 1, *n, id));
        (0..2).for_each(|client| books.opened(client));
        books.publish(1);
        give(&mut books, 1, 3, 3);
        assert_eq!((counts(&books), books.missing(0)), ([0; 5], 0));
    }

    #[test]
    fn each_kind_of_violation_is_told_apart() {
        let mut books = some_books();
        (0..2).for_each(|client| books.opened(client));
        (0..5).for_each(|_| _ = books.publish(3));
        give(&mut books, 3, 0, 1);
        give(&mut books, 3, 0, 2);
        assert_eq!(counts(&books), [0, 2, 0, 0, 0]);
        give(&mut books, 3, 2, 3);
        assert_eq!(counts(&books), [2, 2, 0, 0, 0]);
        give(&mut books, 3, 7, 4);
        assert_eq!(counts(&books), [2, 2, 0, 2, 0]);
        give(&mut books, 0, 0, 5);
        assert_eq!(counts(&books), [2, 2, 0, 4, 0], "of the other group");
        // Clients' own: in order within an incarnation, which may end anywhere.
        for sequence in [1, 3, 1 << 16 | 2, 5] {
            let next = books.seen(1) + 1;
            give(&mut books, 4, sequence, next);
        }
        assert_eq!(counts(&books), [2, 2, 0, 4, 0]);
        for sequence in [5, 4] {
            let next = books.seen(1) + 1;
            give(&mut books, 4, sequence, next);
        }
        assert_eq!(counts(&books), [2, 4, 2, 4, 0]);
        books.write_off(0);
        assert_eq!(counts(&books)[0], 4);
    }

    #[test]
    fn a_recovered_session_goes_on_where_it_was() {
        let mut books = some_books();
        books.opened(1);
        (0..4).for_each(|_| _ = books.publish(1));
        give(&mut books, 1, 0, 1);
        give(&mut books, 1, 1, 2);
        books.recovering(1);
        give(&mut books, 1, 1, 2);
        give(&mut books, 1, 2, 3);
        // The raw client got number 1 twice.
        assert_eq!((books.replayed, counts(&books)), (1, [0, 1, 0, 0, 0]));
        books.recovering(1);
        give(&mut books, 1, 3, 5);
        assert_eq!(counts(&books), [0, 1, 0, 0, 1]);
    }

    #[test]
    fn nothing_comes_after_a_leave_was_acknowledged() {
        let mut books = some_books();
        books.opened(0);
        books.publish(1);
        books.leaving(0, 1);
        books.receive(0, payload(1, 0).as_bytes());
        assert_eq!((counts(&books), books.groups_of(0).len()), ([0; 5], 0));
        books.left(0, 1);
        books.publish(1);
        books.receive(0, payload(1, 1).as_bytes());
        assert_eq!(counts(&books), [0, 0, 0, 1, 0]);
        books.end(0);
        books.receive(0, payload(1, 1).as_bytes());
        assert_eq!(counts(&books), [0, 0, 0, 2, 0]);
    }
}
