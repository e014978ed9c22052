//! Clients that come and go: who does what next, at a stated rate.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::cli::Protocol;
use crate::client::{Change, Ending, Greeting, Spec, Swarm};
use crate::crowd::client_spec;
use crate::cuts::recovery_spec;
use crate::error::Error;
use crate::layout::group_name;
use crate::pace::{LATE_WAIT, TURN_MAX};
use crate::random::Random;
use crate::report::{Progress, Report};
use crate::server::Server;
use crate::soak::SoakArgs;
use crate::soak::books::{Books, Kind};
use crate::stamp::Stamp;
use crate::token;

/// Keep-alive connections for REST sends, each with one request on its way.
pub(crate) const HTTP_CONNECTIONS: usize = 4;

/// Longest time a cut reliable client stays away, ms; the rest of its session's window is reserve.
const AWAY_MAX_MS: u64 = 1_000;

/// Messages a reliable client may have unacknowledged before it acknowledges.
const UNACKNOWLEDGED: u64 = 16;

/// How far behind its schedule the churn may fall before it skips what is due: a pause of the machine must not
/// become a burst that no rate stands for.
const BEHIND_MAX_NS: u64 = 200_000_000;

/// How often each thing was done.
#[derive(Default)]
pub(crate) struct Counts {
    connects: u64,
    joins: u64,
    leaves: u64,
    published: u64,
    rest: u64,
    closes: u64,
    cuts: u64,
    abandoned: u64,
    recoveries: u64,
    given_up: u64,
}

impl Counts {
    pub(crate) fn all(&self) -> u64 {
        let Self { connects, joins, leaves, published, rest, closes, cuts, recoveries, .. } = self;
        connects + joins + leaves + published + rest + closes + cuts + recoveries
    }

    pub(crate) fn state(&self, report: &mut Report) {
        report.fact("operations", "operations", self.all());
        for (key, label, count) in [
            ("connects", "connects", self.connects),
            ("joins", "joins", self.joins),
            ("leaves", "leaves", self.leaves),
            ("published", "publications", self.published),
            ("rest_sends", "REST sends", self.rest),
            ("closes", "closes", self.closes),
            ("cuts", "cuts", self.cuts),
            ("abandoned", "of them sockets the server still believed in", self.abandoned),
            ("recoveries", "recoveries", self.recoveries),
            ("sessions_given_up", "sessions nobody came back for", self.given_up),
        ] {
            report.fact(key, label, count);
        }
    }
}

/// Where a client is.
enum Place {
    Empty,
    /// Connecting.
    OnTheWay,
    /// Coming back for its session.
    Returning,
    Open,
    /// Its close frame is out.
    Closing,
    /// Cut, and coming back.
    Away,
}

struct Client {
    kind: Kind,
    spec: Spec,
    place: Place,
    incarnation: u16,
    next: u16,
    /// The one request that is not answered: its ack id, and the group joined (true) or left.
    asked: Option<(u64, usize, bool)>,
    next_ack: u64,
    acknowledged: u64,
}

/// All clients, publishers and REST senders. Clients are connections `0..clients`, then come the publishers, then
/// HTTP.
pub(crate) struct Churn<'a> {
    server: &'a Server,
    args: &'a SoakArgs,
    swarm: Swarm,
    random: Random,
    clients: Vec<Client>,
    /// Clients that come back, by when.
    away: BTreeSet<(u64, usize)>,
    /// By HTTP connection, whether its request is on its way, and for which group.
    http: Vec<Option<usize>>,
    /// REST sends that wait for a connection.
    waiting: VecDeque<usize>,
    next_ns: u64,
    pub(crate) books: Books,
    pub(crate) counts: Counts,
    wrong: Wrong,
    changes: Vec<Change>,
    acks: Vec<(usize, u64, bool)>,
    message: Vec<u8>,
}

/// What the server did that it must not, beside deliveries.
#[derive(Default)]
struct Wrong {
    refused_recoveries: u64,
    refused_requests: u64,
    ended: u64,
    first: Option<String>,
}

impl<'a> Churn<'a> {
    /// Opens publishers and HTTP connections; clients come with the churn.
    pub(crate) fn open(
        server: &'a Server,
        args: &'a SoakArgs,
        seed: u64,
        progress: &mut Progress,
    ) -> Result<Self, Error> {
        let patience = Duration::from_secs(args.server.timeout);
        let mut swarm = Swarm::new(server.address, &server.host)?;
        let client = |client: usize| {
            let kind = [Kind::Raw, Kind::Json, Kind::Reliable][client % 3];
            let spec = Spec { path: String::new(), subprotocol: None, greeting: Greeting::None };
            let (place, incarnation, next, asked) = (Place::Empty, 0, 0, None);
            Client { kind, spec, place, incarnation, next, asked, next_ack: 0, acknowledged: 0 }
        };
        swarm.reserve(args.clients);
        (0..args.clients).for_each(|client| swarm.watch(client));
        let publisher = |_| client_spec(server, &args.hub, Protocol::Json, "publisher", &[]);
        swarm.open((0..args.groups).map(publisher), patience, progress)?;
        swarm.open_http(HTTP_CONNECTIONS, patience, progress)?;
        Ok(Self {
            server,
            args,
            next_ns: swarm.now_ns(),
            swarm,
            random: Random::seeded(seed),
            clients: (0..args.clients).map(client).collect(),
            away: BTreeSet::new(),
            http: vec![None; HTTP_CONNECTIONS],
            waiting: VecDeque::new(),
            books: Books::new(args.clients, args.groups, args.size),
            counts: Counts::default(),
            wrong: Wrong::default(),
            changes: Vec::new(),
            acks: Vec::new(),
            message: Vec::new(),
        })
    }

    /// What has come, and what is due.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), Error> {
        let now_ns = self.swarm.now_ns();
        self.next_ns = self.next_ns.max(now_ns.saturating_sub(BEHIND_MAX_NS));
        while self.next_ns <= now_ns {
            self.next_ns += (1e9 / self.args.rate) as u64;
            self.operate()?;
        }
        self.listen(wait.min(Duration::from_nanos(self.next_ns - now_ns).max(Duration::from_millis(1))))
    }

    /// Nothing new is begun; whoever is away comes back, everything arrives, and everybody leaves.
    pub(crate) fn finish(&mut self, patience: Duration) -> Result<(), Error> {
        let settled = |churn: &mut Self| {
            let away =
                |client: &Client| matches!(client.place, Place::Away | Place::OnTheWay | Place::Returning);
            let quiet = churn.waiting.is_empty() && churn.http.iter().all(Option::is_none);
            let open = |client: &usize| matches!(churn.clients[*client].place, Place::Open);
            quiet
                && !churn.clients.iter().any(|client| away(client) || client.asked.is_some())
                && !(0..churn.clients.len()).filter(open).any(|client| churn.books.missing(client) > 0)
        };
        // Whatever has not come by then is counted below.
        self.wait(patience, settled)?;
        let end = Instant::now();
        while end.elapsed() < LATE_WAIT {
            self.listen(TURN_MAX)?;
        }
        let asking = self.clients.iter().filter(|client| client.asked.is_some()).count();
        let calling = self.http.iter().flatten().count() + self.waiting.len();
        self.wrong.refused_requests += (asking + calling) as u64;
        for client in 0..self.clients.len() {
            if matches!(self.clients[client].place, Place::Open) {
                self.books.write_off(client);
                self.close(client)?;
            }
        }
        let first = self.clients.len();
        for publisher in first..first + self.args.groups {
            self.swarm.close(publisher)?;
        }
        let gone = |churn: &mut Self| {
            let placed = |client: &Client| !matches!(client.place, Place::Empty);
            let closing =
                (first..first + churn.args.groups).any(|publisher| churn.swarm.is_closing(publisher));
            !closing && !churn.clients.iter().any(placed)
        };
        if !self.wait(patience, gone)? {
            return Err(Error::Stalled("closes were not answered".into()));
        }
        for connection in first + self.args.groups..first + self.args.groups + HTTP_CONNECTIONS {
            self.swarm.cut(connection, false);
        }
        self.swarm.end_abandoned();
        Ok(())
    }

    pub(crate) fn report_violations(&self, report: &mut Report) {
        let violations = &self.books.violations;
        report.violation("lost", "lost", violations.lost);
        report.violation("duplicated", "duplicated", violations.duplicated);
        report.violation("reordered", "reordered", violations.reordered);
        report.violation("damaged", "damaged or not for us", violations.damaged);
        report.violation("sequence_id_gaps", "sequence ids not +1", violations.id_gaps);
        report.violation("refused_recoveries", "refused recoveries", self.wrong.refused_recoveries);
        report.violation(
            "refused_requests",
            "requests and joins refused, or not answered",
            self.wrong.refused_requests,
        );
        report.violation("ended", "connections that ended without a reason", self.wrong.ended);
        if let Some(first) = violations.first.as_ref().or(self.wrong.first.as_ref()) {
            report.fact("first_violation", "first violation", first.as_str());
        }
    }

    /// Whether `done` came true before patience ended.
    fn wait(&mut self, patience: Duration, done: impl Fn(&mut Self) -> bool) -> Result<bool, Error> {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > patience {
                return Ok(false);
            }
            self.listen(TURN_MAX)?;
        }
        Ok(true)
    }
}

/// What is begun.
impl Churn<'_> {
    /// One operation, of whoever can do one.
    fn operate(&mut self) -> Result<(), Error> {
        match self.random.below(100) {
            0..20 => {
                let group = self.group();
                let connection = self.clients.len() + group;
                let sequence = self.books.publish(group);
                self.counts.published += 1;
                self.send(connection, group, Stamp { publisher: group as u16, sequence, at_ns: 1 })
            }
            20..28 => {
                let group = self.group();
                // More would only wait for the answers to earlier ones.
                if self.waiting.len() < 2 * HTTP_CONNECTIONS {
                    self.waiting.push_back(group);
                }
                self.send_waiting()
            }
            dice => {
                // Those on their way do nothing; somebody else is found soon.
                for _ in 0..8 {
                    let client = self.random.below(self.clients.len() as u64) as usize;
                    match self.clients[client].place {
                        Place::Empty => return self.connect(client),
                        Place::Open => return self.act(client, dice),
                        Place::OnTheWay | Place::Returning | Place::Closing | Place::Away => {}
                    }
                }
                Ok(())
            }
        }
    }

    fn act(&mut self, client: usize, dice: u64) -> Result<(), Error> {
        let kind = self.clients[client].kind;
        let is_asking = self.clients[client].asked.is_some();
        match dice {
            28..40 if kind != Kind::Raw && !is_asking => {
                let group = self.group();
                match self.books.groups_of(client).contains(&group) {
                    true => self.ask(client, group, false),
                    false => self.ask(client, group, true),
                }
            }
            40..50 if kind != Kind::Raw && !is_asking => {
                let groups = self.books.groups_of(client);
                match self.one_of(&groups) {
                    None => Ok(()),
                    Some(group) => self.ask(client, group, false),
                }
            }
            50..56 => self.close(client),
            // What became of a request over a lost socket, a session's owner cannot know.
            56..64 if !(kind == Kind::Reliable && is_asking) => self.cut(client),
            _ => {
                let groups = self.books.groups_of(client);
                let group = self.one_of(&groups).unwrap_or_else(|| self.group());
                let who = &mut self.clients[client];
                who.next = who.next.wrapping_add(1);
                let sequence = u32::from(who.incarnation) << 16 | u32::from(who.next);
                let publisher = self.books.publisher(client);
                self.counts.published += 1;
                self.send(client, group, Stamp { publisher, sequence, at_ns: 1 })
            }
        }
    }

    fn connect(&mut self, client: usize) -> Result<(), Error> {
        let group = self.group();
        let groups = [group_name(group)];
        let (server, hub, user) = (self.server, &self.args.hub, format!("user-{client}"));
        let who = &mut self.clients[client];
        let protocol = match who.kind {
            Kind::Raw => Protocol::Raw,
            Kind::Json => Protocol::Json,
            Kind::Reliable => Protocol::Reliable,
        };
        let mut spec = client_spec(server, hub, protocol, &user, &groups);
        match who.kind {
            Kind::Raw => spec.path += &format!("&webpubsub_mode=sendToGroup&group={}", groups[0]),
            Kind::Json => {}
            Kind::Reliable => spec.greeting = Greeting::Session,
        }
        who.spec = spec.clone();
        who.place = Place::OnTheWay;
        who.incarnation = who.incarnation.wrapping_add(1);
        (who.next, who.asked, who.acknowledged) = (0, None, 0);
        self.books.begin(client, who.kind, &[group]);
        self.counts.connects += 1;
        self.swarm.restart(client, spec)
    }

    fn ask(&mut self, client: usize, group: usize, join: bool) -> Result<(), Error> {
        let who = &mut self.clients[client];
        who.next_ack += 1;
        who.asked = Some((who.next_ack, group, join));
        let verb = if join { "joinGroup" } else { "leaveGroup" };
        let text = format!(r#"{{"type":"{verb}","group":"{}","ackId":{}}}"#, group_name(group), who.next_ack);
        if join {
            self.counts.joins += 1;
            self.books.joining(client, group);
        } else {
            self.counts.leaves += 1;
            self.books.leaving(client, group);
        }
        self.swarm.queue(client, text.as_bytes());
        self.swarm.flush(client)
    }

    fn close(&mut self, client: usize) -> Result<(), Error> {
        self.counts.closes += 1;
        self.clients[client].place = Place::Closing;
        self.clients[client].asked = None;
        self.books.end(client);
        self.swarm.close(client)
    }

    fn cut(&mut self, client: usize) -> Result<(), Error> {
        self.counts.cuts += 1;
        match self.random.below(3) {
            0 => self.swarm.cut(client, true),
            1 => self.swarm.cut(client, false),
            _ => {
                self.counts.abandoned += 1;
                self.swarm.abandon(client);
            }
        }
        let who = &mut self.clients[client];
        who.asked = None;
        if who.kind == Kind::Reliable && self.random.below(8) > 0 {
            let back_ns = self.swarm.now_ns() + self.random.below(AWAY_MAX_MS * 1_000_000);
            who.place = Place::Away;
            self.away.insert((back_ns, client));
        } else {
            self.counts.given_up += u64::from(who.kind == Kind::Reliable);
            who.place = Place::Empty;
            self.books.end(client);
        }
        Ok(())
    }

    fn recover(&mut self, client: usize) -> Result<(), Error> {
        let session = self.swarm.session(client).expect("it was greeted with one");
        let spec = recovery_spec(&self.clients[client].spec, session);
        self.clients[client].place = Place::Returning;
        self.books.recovering(client);
        self.counts.recoveries += 1;
        self.swarm.restart(client, spec)
    }

    fn send(&mut self, connection: usize, group: usize, stamp: Stamp) -> Result<(), Error> {
        let is_raw = self.clients.get(connection).is_some_and(|client| client.kind == Kind::Raw);
        let out = &mut self.message;
        out.clear();
        if is_raw {
            stamp.write(out, self.args.size);
        } else {
            out.extend_from_slice(br#"{"type":"sendToGroup","group":""#);
            out.extend_from_slice(group_name(group).as_bytes());
            out.extend_from_slice(br#"","dataType":"text","data":""#);
            stamp.write(out, self.args.size);
            out.extend_from_slice(br#""}"#);
        }
        self.swarm.queue(connection, out);
        self.swarm.flush(connection)
    }

    /// A sender that waits for nothing. In turns, for one that is not used is closed by the server in time.
    fn free_sender(&self) -> Option<usize> {
        let (first, senders) = (self.counts.rest as usize, self.http.len());
        (first..first + senders).map(|sender| sender % senders).find(|&sender| self.http[sender].is_none())
    }

    /// A REST send's order is its answers': one of a group is on its way at a time.
    fn send_waiting(&mut self) -> Result<(), Error> {
        while let Some(free) = self.free_sender() {
            let ready = self.waiting.iter().position(|group| !self.http.contains(&Some(*group)));
            let Some(group) = ready.and_then(|at| self.waiting.remove(at)) else { return Ok(()) };
            let stream = self.args.groups + group;
            let sequence = self.books.publish(stream);
            let path = token::send_path(&self.args.hub, &format!("groups/{}", group_name(group)));
            let (host, size) = (&self.server.host, self.args.size);
            let token = token::sign_request(&self.server.key, host, &path, token::now_s());
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
            );
            self.message.clear();
            self.message.extend_from_slice(head.as_bytes());
            Stamp { publisher: stream as u16, sequence, at_ns: 1 }.write(&mut self.message, size);
            let connection = self.clients.len() + self.args.groups + free;
            self.swarm.queue_bytes(connection, &self.message);
            self.http[free] = Some(group);
            self.counts.rest += 1;
            self.swarm.flush(connection)?;
        }
        Ok(())
    }

    fn one_of(&mut self, groups: &[usize]) -> Option<usize> {
        let at = self.random.below(groups.len().max(1) as u64) as usize;
        groups.get(at).copied()
    }

    fn group(&mut self) -> usize {
        self.random.below(self.args.groups as u64) as usize
    }
}

/// What comes.
impl Churn<'_> {
    fn listen(&mut self, wait: Duration) -> Result<(), Error> {
        let (books, acks, clients) = (&mut self.books, &mut self.acks, self.clients.len());
        let mut stray = 0;
        self.swarm.pump(wait, &mut |delivery| {
            if delivery.connection >= clients {
                stray += 1;
            } else if let Some(ack) = books.receive(delivery.connection, delivery.payload) {
                acks.push((delivery.connection, ack.id, ack.success));
            }
        })?;
        self.books.violations.damaged += stray;
        for (client, id, success) in std::mem::take(&mut self.acks) {
            self.acked(client, id, success);
        }
        let mut changes = std::mem::take(&mut self.changes);
        self.swarm.take_changes(&mut changes);
        for change in changes.drain(..) {
            match change {
                Change::Ready { connection, .. } => {
                    self.clients[connection].place = Place::Open;
                    self.books.opened(connection);
                }
                Change::Ended { connection, ending } => self.ended(connection, ending),
                Change::Answer { connection, status, .. } => self.answered(connection, status)?,
            }
        }
        self.changes = changes;
        let now_ns = self.swarm.now_ns();
        while let Some(&(back_ns, client)) = self.away.first()
            && back_ns <= now_ns
        {
            self.away.pop_first();
            self.recover(client)?;
        }
        self.acknowledge()
    }

    fn acked(&mut self, client: usize, id: u64, success: bool) {
        // A request of an earlier socket may be answered over this one.
        let Some((_, group, join)) = self.clients[client].asked.take_if(|asked| asked.0 == id) else {
            return;
        };
        if !success {
            self.wrong.refused_requests += 1;
            self.wrong.first.get_or_insert_with(|| format!("client {client}: a request for g{group} failed"));
        }
        match join {
            true => self.books.joined(client, group),
            false => self.books.left(client, group),
        }
    }

    fn ended(&mut self, connection: usize, ending: Ending) {
        // Publishers are closed at the end only.
        let Some(client) = self.clients.get_mut(connection) else { return };
        let is_answer = matches!(ending, Ending::Closed { code: Some(1000), .. });
        match client.place {
            Place::Closing if is_answer => {}
            Place::Returning => self.wrong.refused_recoveries += 1,
            _ => self.wrong.ended += 1,
        }
        if !is_answer {
            self.wrong.first.get_or_insert_with(|| ending.into_error(connection).to_string());
        }
        client.place = Place::Empty;
        client.asked = None;
        self.away.retain(|(_, client)| *client != connection);
        self.books.end(connection);
    }

    fn answered(&mut self, connection: usize, status: u16) -> Result<(), Error> {
        let sender = connection - self.clients.len() - self.args.groups;
        let group = self.http[sender].take();
        if status != 202 || group.is_none() {
            self.wrong.refused_requests += 1;
            self.wrong.first.get_or_insert_with(|| format!("a send was answered {status}"));
        }
        self.send_waiting()
    }

    /// Reliable clients acknowledge what they have, not each message at once.
    fn acknowledge(&mut self) -> Result<(), Error> {
        for client in (2..self.clients.len()).step_by(3) {
            let seen = self.books.seen(client);
            let who = &mut self.clients[client];
            if matches!(who.place, Place::Open) && seen >= who.acknowledged + UNACKNOWLEDGED {
                who.acknowledged = seen;
                let ack = format!(r#"{{"type":"sequenceAck","sequenceId":{seen}}}"#);
                self.swarm.queue(client, ack.as_bytes());
                self.swarm.flush(client)?;
            }
        }
        Ok(())
    }
}
