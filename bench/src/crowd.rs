//! Members in groups, publishers, and the books over both: what all message workloads are made of.
//!
//! A [`Crowd`] opens the members, checks what they receive, acknowledges for reliable ones, and paces the
//! publishing, closed or open loop. Where messages go out, and what else happens between two turns, is
//! the [`Workload`]'s.

use std::time::{Duration, Instant};

use crate::cli::Protocol;
use crate::client::{Greeting, Spec, Swarm};
use crate::error::Error;
use crate::layout::{Layout, Source, group_name};
use crate::ledger::Ledger;
use crate::pace::{LATE_WAIT, Schedule, Stall, TURN_MAX};
use crate::peer::{self, Role};
use crate::report::Progress;
use crate::server::Server;
use crate::stamp::Stamp;
use crate::token;

/// What differs between workloads while messages flow.
pub(crate) trait Workload {
    /// Sends `count` messages of `publisher`, all due at `due_ns`.
    fn publish(&mut self, crowd: &mut Crowd, publisher: usize, count: u32, due_ns: u64) -> Result<(), Error> {
        crowd.publish(publisher, count, due_ns)
    }

    /// Does what is due, after every turn.
    fn tend(&mut self, _crowd: &mut Crowd) -> Result<(), Error> {
        Ok(())
    }
}

/// Publishing over WebSocket, and nothing else.
pub(crate) struct Plain;

impl Workload for Plain {}

/// All connections of a run and what they are to each other. Members are connections `0..members`.
pub(crate) struct Crowd {
    pub(crate) swarm: Swarm,
    pub(crate) ledger: Ledger,
    pub(crate) progress: Progress,
    pub(crate) patience: Duration,
    /// Whether open loops poll for punctuality; see [`Schedule::new`].
    pub(crate) spin: bool,
    /// An open loop ends as overloaded when more deliveries than this are outstanding.
    pub(crate) outstanding_max: u64,
    acker: Option<Acker>,
    message: Vec<u8>,
}

impl Crowd {
    /// Opens the members, as `specs` says.
    pub(crate) fn open(
        server: &Server,
        layout: Layout,
        specs: impl ExactSizeIterator<Item = Spec>,
        patience: Duration,
        what: &str,
    ) -> Result<Self, Error> {
        let mut progress = Progress::new(what);
        let mut swarm = Swarm::new(server.address, &server.host)?;
        swarm.open(specs, patience, &mut progress)?;
        let acker = (layout.protocol == Protocol::Reliable).then(|| Acker::new(layout.members));
        Ok(Self {
            swarm,
            ledger: Ledger::new(layout),
            progress,
            patience,
            spin: true,
            outstanding_max: u64::MAX,
            acker,
            message: Vec::new(),
        })
    }

    /// Opens the publishers' own connections.
    pub(crate) fn open_publishers(&mut self, server: &Server, hub: &str) -> Result<(), Error> {
        let layout = self.ledger.layout();
        let (protocol, publishers) = (layout.protocol, layout.publishers);
        let groups: Vec<String> =
            (0..publishers).map(|publisher| group_name(layout.group_of(publisher))).collect();
        let specs = groups.iter().map(|group| publisher_spec(server, hub, protocol, group));
        self.swarm.open(specs, self.patience, &mut self.progress)
    }

    /// Sequence acks sent so far; `None` if no member acknowledges.
    pub(crate) fn sequence_acks(&self) -> Option<u64> {
        self.acker.as_ref().map(|acker| acker.sent)
    }

    /// Sends `count` messages of a publisher in one write, over its WebSocket.
    pub(crate) fn publish(&mut self, publisher: usize, count: u32, at_ns: u64) -> Result<(), Error> {
        let layout = self.ledger.layout();
        let group = group_name(layout.group_of(publisher));
        let connection = match layout.source {
            Source::Members | Source::Events => publisher % layout.members,
            _ => layout.members + publisher,
        };
        for _ in 0..count {
            let sequence = self.ledger.publish(publisher);
            self.queue(connection, &group, Stamp { publisher: publisher as u16, sequence, at_ns });
        }
        self.swarm.flush(connection)
    }

    /// Queues one message, in the books or not.
    pub(crate) fn queue(&mut self, connection: usize, group: &str, stamp: Stamp) {
        let Layout { protocol, source, size, .. } = *self.ledger.layout();
        let out = &mut self.message;
        out.clear();
        match protocol {
            Protocol::Raw => stamp.write(out, size),
            Protocol::Simple => {
                out.push(b'P');
                stamp.write(out, size);
            }
            Protocol::Json | Protocol::Reliable => {
                if source == Source::Events {
                    out.extend_from_slice(br#"{"type":"event","event":"echo"#);
                } else {
                    out.extend_from_slice(br#"{"type":"sendToGroup","group":""#);
                    out.extend_from_slice(group.as_bytes());
                }
                out.extend_from_slice(br#"","dataType":"text","data":""#);
                stamp.write(out, size);
                out.extend_from_slice(br#""}"#);
            }
            Protocol::Nats | Protocol::Mqtt | Protocol::Nchan => {
                peer::write_publication(protocol, out, stamp, size);
            }
        }
        self.swarm.queue(connection, &self.message);
    }

    /// One step of everything: messages in, acknowledgements out.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), Error> {
        let ledger = &mut self.ledger;
        self.swarm.pump(wait, &mut |delivery| ledger.receive(&delivery))?;
        if let Some(acker) = &mut self.acker {
            acker.run(&mut self.swarm, ledger)?;
        }
        self.progress.tick(|| format!("{} deliveries", ledger.deliveries()));
        Ok(())
    }

    /// Takes turns until `done`.
    ///
    /// # Errors
    /// It is not, although patience is at an end.
    pub(crate) fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), Error> {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > self.patience {
                return Err(Error::Stalled(format!("{what} did not come in {} s", self.patience.as_secs())));
            }
            self.turn(TURN_MAX)?;
        }
        Ok(())
    }

    /// Each publisher has at most `window` messages in flight, and sends when `batch` of them fit. Returns
    /// when all `messages` are delivered.
    pub(crate) fn closed_loop(
        &mut self,
        messages: u32,
        window: u32,
        batch: u32,
        workload: &mut impl Workload,
    ) -> Result<(), Error> {
        let mut left = messages;
        let mut ready: Vec<u32> = (0..self.ledger.layout().publishers as u32).collect();
        let mut stall = Stall::new(self.patience);
        // What completed before this round must not count as room twice.
        self.ledger.take_completed(&mut Vec::new());
        loop {
            for publisher in ready.drain(..) {
                let publisher = publisher as usize;
                let room = window - self.ledger.in_flight(publisher).min(window);
                if room < batch || left == 0 {
                    continue;
                }
                let count = room.min(left);
                let now = self.swarm.now_ns();
                workload.publish(self, publisher, count, now)?;
                left -= count;
            }
            if left == 0 && self.ledger.outstanding() == 0 {
                return Ok(());
            }
            self.turn(TURN_MAX)?;
            workload.tend(self)?;
            stall.check(&self.ledger)?;
            self.ledger.take_completed(&mut ready);
        }
    }

    /// Message k is due at k / rate, whatever has or has not arrived; publishers take turns. Returns when
    /// all are delivered.
    pub(crate) fn open_loop(
        &mut self,
        messages: u32,
        rate: f64,
        workload: &mut impl Workload,
    ) -> Result<(), Error> {
        let publishers = self.ledger.layout().publishers;
        let mut schedule = Schedule::new(self.swarm.now_ns(), rate, messages, self.spin);
        let mut stall = Stall::new(self.patience);
        while !schedule.is_over() || self.ledger.outstanding() > 0 {
            let now = self.swarm.now_ns();
            while let Some((index, due_ns)) = schedule.take(now) {
                workload.publish(self, index as usize % publishers, 1, due_ns)?;
            }
            self.turn(schedule.wait(now))?;
            workload.tend(self)?;
            stall.check(&self.ledger)?;
            let outstanding = self.ledger.outstanding();
            if outstanding > self.outstanding_max {
                return Err(Error::Overloaded(outstanding));
            }
        }
        // Nobody looks at these here; in a long open loop they would pile up.
        self.ledger.take_completed(&mut Vec::new());
        Ok(())
    }

    /// Waits for what should not come any more.
    pub(crate) fn linger(&mut self) -> Result<(), Error> {
        let end = Instant::now();
        while end.elapsed() < LATE_WAIT {
            self.turn(TURN_MAX)?;
        }
        Ok(())
    }
}

/// Acknowledges for reliable members as the SDKs do: once a second, if the id moved. Members take their
/// turns evenly over the second, as clients that connected at different times would.
struct Acker {
    members: usize,
    acked: Vec<u64>,
    start: Instant,
    /// Turns taken since `start`; member `turns % members` is next.
    turns: u64,
    sent: u64,
}

impl Acker {
    fn new(members: usize) -> Self {
        Self { members, acked: vec![0; members], start: Instant::now(), turns: 0, sent: 0 }
    }

    fn run(&mut self, swarm: &mut Swarm, ledger: &Ledger) -> Result<(), Error> {
        let members = self.members as u64;
        let due = (self.start.elapsed().as_nanos() * u128::from(members) / 1_000_000_000) as u64;
        // After a pause nobody has more than one turn to catch up.
        self.turns = self.turns.max(due.saturating_sub(members));
        while self.turns < due {
            let member = (self.turns % members) as usize;
            let id = ledger.sequence_id(member);
            if id != self.acked[member] && swarm.is_ready(member) {
                let ack = format!(r#"{{"type":"sequenceAck","sequenceId":{id}}}"#);
                swarm.queue(member, ack.as_bytes());
                swarm.flush(member)?;
                self.acked[member] = id;
                self.sent += 1;
            }
            self.turns += 1;
        }
        Ok(())
    }
}

/// How a receiving client connects, as user `member-{index}`.
pub(crate) fn member_spec(
    server: &Server,
    hub: &str,
    protocol: Protocol,
    index: usize,
    groups: &[String],
) -> Spec {
    client_spec(server, hub, protocol, &format!("member-{index}"), groups)
}

/// The same as any user.
pub(crate) fn client_spec(
    server: &Server,
    hub: &str,
    protocol: Protocol,
    user: &str,
    groups: &[String],
) -> Spec {
    if protocol == Protocol::Simple {
        let room = groups.first().map_or("", String::as_str);
        return Spec { path: room_path(server, room), subprotocol: None, greeting: Greeting::SubscribeOk };
    }
    if let Some(dialect) = protocol.dialect() {
        return dialect.spec(&server.path, Role::Member);
    }
    let token = token::sign(&server.key, &server.host, hub, user, groups);
    web_pubsub_spec(protocol, format!("/client/hubs/{hub}?access_token={token}"))
}

fn publisher_spec(server: &Server, hub: &str, protocol: Protocol, group: &str) -> Spec {
    if protocol == Protocol::Simple {
        return Spec { path: room_path(server, group), subprotocol: None, greeting: Greeting::None };
    }
    if let Some(dialect) = protocol.dialect() {
        return dialect.spec(&server.path, Role::Publisher);
    }
    // One user for all publishers: members then see the same bytes before every payload of a group.
    let token = token::sign(&server.key, &server.host, hub, "publisher", &[]);
    let mut path = format!("/client/hubs/{hub}?access_token={token}");
    if protocol == Protocol::Raw {
        path += &format!("&webpubsub_mode=sendToGroup&group={group}");
    }
    web_pubsub_spec(protocol, path)
}

/// Where a group meets on a server that knows no groups: the first at the URL given, others at rooms of their own
/// beside it.
fn room_path(server: &Server, group: &str) -> String {
    let first = group_name(0);
    format!("{}{}", server.path, if group == first { "" } else { group })
}

fn web_pubsub_spec(protocol: Protocol, path: String) -> Spec {
    let (subprotocol, greeting) = match protocol {
        Protocol::Json => (Some("json.webpubsub.azure.v1"), Greeting::Connected),
        Protocol::Reliable => (Some("json.reliable.webpubsub.azure.v1"), Greeting::Connected),
        // Of the service's protocols only this one has no subprotocol; foreign ones do not come here.
        _ => (None, Greeting::None),
    };
    Spec { path, subprotocol, greeting }
}
