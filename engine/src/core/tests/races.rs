//! Sockets that end at any moment, while their slots and descriptors are given to others at once (`reliability` check
//! 78): nobody ever gets what another one sent, and no session loses or repeats what it was sent.
//!
//! `RINGHUB_RACES=1000000 cargo test --release -p ringhub-engine --lib races` is the long run.

use super::*;
use serde_json::Value;
use socket2::SockRef;
use std::collections::HashMap;
use std::net::Shutdown;

/// Connections in the quick run.
const QUICK: usize = 1000;
/// Threads that connect.
const THREADS: usize = 4;
/// Sockets of one thread at a time.
const SOCKETS: usize = 16;
/// Sessions of one thread.
const SESSIONS: usize = 6;
/// Messages that a session takes in before it acknowledges them.
const UNACKNOWLEDGED: u64 = 10;

/// Numbers that repeat with their seed (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Everything that comes in over `client` is whole frames of `name`, but for what stands behind a cut. Returns how many
/// bytes of its name it got.
fn check(client: &Client, name: &str) -> usize {
    let mut bytes = &client.received[..];
    let mut checked = 0;
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match (len, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (126, _) => break,
            (len, rest) => (usize::from(*len), rest),
        };
        let payload = &rest[..rest.len().min(len)];
        let expected = name.bytes().cycle().take(payload.len());
        if first & 15 != 8 {
            assert!(payload.iter().copied().eq(expected), "{name} got another one's bytes");
            checked += payload.len();
        }
        bytes = &rest[payload.len()..];
    }
    checked
}

/// A life but for its end: upgraded, says its name in messages of any size, reads some of what comes back. Whether all
/// it said is whole.
fn live(address: SocketAddr, name: &str, dice: &mut Dice) -> (Client, bool) {
    let mut client = Client::connect(address, "/", None);
    for _ in 0..dice.throw(4) {
        let len = [1, 40, 125, 126, 3000, 60_000][dice.throw(6) as usize];
        let message: Vec<u8> = name.bytes().cycle().take(len).collect();
        let frame = masked(2, &message);
        // Some stop in the middle of a message.
        let until = if dice.throw(4) == 0 { dice.throw(frame.len() as u64) as usize } else { frame.len() };
        client.stream.write_all(&frame[..until]).unwrap();
        if until < frame.len() {
            return (client, false);
        }
        if dice.throw(2) == 0 && !client.read() {
            break;
        }
    }
    (client, true)
}

/// Ends it; what it received must be its own. Returns how many bytes that were.
fn end((mut client, whole): (Client, bool), name: &str, dice: &mut Dice) -> usize {
    match dice.throw(5) {
        // With a reset, while the server may be receiving or sending.
        0 => SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap(),
        // With a frame that ends it, which the server closes.
        1 if whole => client.stream.write_all(&masked(3, b"reserved")).unwrap(),
        2 if whole => client.stream.write_all(&masked(8, b"")).unwrap(),
        // With half of it, until the server has closed too.
        3 => drop(client.stream.shutdown(Shutdown::Write)),
        _ => {}
    }
    if dice.throw(3) > 0 {
        let _ = client.stream.set_read_timeout(Some(Duration::from_millis(dice.throw(3) + 1)));
        let mut buffer = [0; 16 << 10];
        while let Ok(len @ 1..) = client.stream.read(&mut buffer) {
            client.received.extend_from_slice(&buffer[..len]);
        }
    }
    check(&client, name)
}

fn races() -> usize {
    std::env::var("RINGHUB_RACES").map_or(QUICK, |races| races.parse().expect("a number"))
}

#[test]
fn whoever_comes_in_another_one_s_place_gets_nothing_of_theirs() {
    let races = races();
    let checked = AtomicUsize::new(0);
    let running = Running::new(Mode::Echo, |settings| {
        tiny(settings);
        settings.sockets.send_buffer_bytes = Some(4 << 10);
        settings.sockets.close_deadline = Duration::from_millis(20);
    });
    let address = running.address();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let checked = &checked;
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + thread as u64);
                let mut alive = Vec::new();
                for n in 0..races / THREADS {
                    let name = format!("<{thread}:{n}>");
                    let client = live(address, &name, &mut dice);
                    alive.push((client, name));
                    if alive.len() > SOCKETS {
                        let (client, name) = alive.swap_remove(dice.throw(alive.len() as u64) as usize);
                        checked.fetch_add(end(client, &name, &mut dice), Ordering::Relaxed);
                    }
                }
                for (client, name) in alive {
                    checked.fetch_add(end(client, &name, &mut dice), Ordering::Relaxed);
                }
            });
        }
    });
    running.settle(0, |counters| counters.sockets.get());
    assert!(checked.into_inner() > races, "something came back");
    assert!(running.sum(|counters| counters.accepts.get()) >= (races / THREADS * THREADS) as u64);
    for shared in running.stop() {
        assert_eq!((shared.counters.outbox_bytes.get(), shared.counters.panics.get()), (0, 0));
    }
}

/// A session, and all that may come to it.
struct Session {
    address: SocketAddr,
    client: Client,
    id: String,
    /// No two sessions of a run have the same.
    number: u64,
    /// Messages it published, and those of them that were not acknowledged yet.
    published: u64,
    pending: Vec<u64>,
    /// The last message it got on any socket, the last it got on this one, and the last it acknowledged.
    last: u64,
    last_here: Option<u64>,
    acknowledged: u64,
    /// The last message of each other session that it got.
    heard: HashMap<u64, u64>,
    messages: usize,
}

impl Session {
    fn open(address: SocketAddr, number: u64) -> Self {
        let mut client = Client::connect(address, "/client/hubs/chat", Some(RELIABLE));
        let id = connected(&mut client).expect("a new session");
        Self {
            address,
            client,
            id,
            number,
            published: 0,
            pending: Vec::new(),
            last: 0,
            last_here: None,
            acknowledged: 0,
            heard: HashMap::new(),
            messages: 0,
        }
    }

    /// What is said is lost if the socket is, and said again.
    fn say(&mut self, text: &str) {
        let _ = self.client.stream.write_all(&masked(1, text.as_bytes()));
    }

    fn publish(&mut self) {
        self.published += 1;
        self.pending.push(self.published);
        self.say(&self.publication(self.published));
    }

    fn publication(&self, n: u64) -> String {
        let (number, ack) = (self.number, self.number << 32 | n);
        format!(
            r#"{{"type":"sendToGroup","group":"g","ackId":{ack},"dataType":"json","data":{{"of":{number},"n":{n}}}}}"#
        )
    }

    /// Takes in what has come; false once the connection has ended.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        self.client.stream.set_nonblocking(true).unwrap();
        let is_open = loop {
            match self.client.stream.read(&mut buffer) {
                Ok(0) => break false,
                Ok(len) => self.client.received.extend_from_slice(&buffer[..len]),
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        self.client.stream.set_nonblocking(false).unwrap();
        while let Some((opcode, payload)) = self.client.frame() {
            match opcode {
                1 => self.hear(&serde_json::from_slice(&payload).expect("whole messages")),
                8 => return false,
                _ => panic!("session {} got opcode {opcode}", self.number),
            }
        }
        if self.last >= self.acknowledged + UNACKNOWLEDGED {
            self.acknowledged = self.last;
            self.say(&format!(r#"{{"type":"sequenceAck","sequenceId":{}}}"#, self.last));
        }
        is_open
    }

    fn hear(&mut self, message: &Value) {
        let number = self.number;
        if message["type"] == "ack" {
            let ack = message["ackId"].as_u64().unwrap();
            assert_eq!(ack >> 32, number, "session {number} got another one's ack");
            return self.pending.retain(|n| *n != ack & u64::from(u32::MAX));
        }
        assert_eq!(message["type"], "message", "{message}");
        let sequence = message["sequenceId"].as_u64().unwrap();
        let expected = self.last_here.map_or(self.last + 1, |last| last + 1);
        // Its acknowledgements may have been lost with the socket.
        let repeats = self.last_here.is_none() && sequence < expected;
        assert!(sequence == expected || repeats, "session {number} got {sequence} for {expected}");
        self.last_here = Some(sequence);
        if sequence <= self.last {
            return;
        }
        self.last = sequence;
        self.messages += 1;
        let (of, n) = (message["data"]["of"].as_u64().unwrap(), message["data"]["n"].as_u64().unwrap());
        if let Some(before) = self.heard.insert(of, n) {
            assert_eq!(n, before + 1, "of session {of}, to session {number}");
        }
    }

    /// Comes back over another socket, which the kernel gives to any core.
    fn recover(&mut self) {
        let path = format!("/client/hubs/chat?id={}", self.id);
        for attempt in 1.. {
            assert!(attempt <= 1_000, "session {} is not let in again", self.number);
            // An attempt that was given up may come later and take the session from this one.
            let Some(client) = Client::try_connect(self.address, &path, Some(RELIABLE)) else { continue };
            (self.client, self.last_here) = (client, None);
            let Some(id) = connected(&mut self.client) else { continue };
            assert_eq!(id, self.id, "session {} got another one's socket", self.number);
            break;
        }
        let pending: Vec<_> = self.pending.iter().map(|n| self.publication(*n)).collect();
        pending.iter().for_each(|publication| self.say(publication));
    }

    /// Goes away in one way or another.
    fn leave(&mut self, dice: &mut Dice) {
        match dice.throw(4) {
            0 => SockRef::from(&self.client.stream).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => drop(self.client.stream.shutdown(Shutdown::Write)),
            // It tries to come back, and does not wait for it.
            2 => {
                let mut stream = TcpStream::connect(self.address).unwrap();
                let path = format!("/client/hubs/chat?id={}", self.id);
                stream.write_all(&upgrade(&path, Some(RELIABLE))).unwrap();
            }
            // Its old socket is still there when it comes back.
            _ => {}
        }
    }
}

/// The id of the session that a client is told it has; `None` if the connection ends instead.
fn connected(client: &mut Client) -> Option<String> {
    let (opcode, payload) = client.next()?;
    if opcode == 8 {
        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
        assert!(!reason.contains("recovered"), "{reason}");
        return None;
    }
    let message: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(message["event"], "connected", "{message}");
    message["connectionId"].as_str().map(str::to_owned)
}

/// Two cores, whose sessions lose their sockets at any moment and come back by way of any core, while every message is
/// for all of them.
#[test]
fn sessions_whose_sockets_come_and_go_get_all_that_is_theirs_and_nothing_else() {
    let races = races();
    let running = Running::new(Mode::Serve, |settings| {
        tiny(settings);
        settings.cores = 2;
        settings.sockets.send_buffer_bytes = Some(4 << 10);
        settings.sockets.close_deadline = Duration::from_millis(20);
        // A thread that does not run for a while reads nothing.
        settings.hub_default.limits.replay_messages_max = u32::MAX;
        settings.hub_default.limits.replay_bytes_max = usize::MAX;
        settings.hub_default.limits.control_bytes_max = usize::MAX;
    });
    let address = running.address();
    let messages = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let messages = &messages;
            scope.spawn(move || {
                let mut dice = Dice(0x2545_f491_4f6c_dd1d + thread as u64);
                let mut numbers = (1..).map(|n| n * THREADS as u64 + thread as u64);
                let mut new = || Session::open(address, numbers.next().unwrap());
                let mut sessions: Vec<_> = (0..SESSIONS).map(|_| new()).collect();
                for _ in 0..races / THREADS {
                    let at = dice.throw(SESSIONS as u64) as usize;
                    match dice.throw(8) {
                        0..4 => (0..=dice.throw(3)).for_each(|_| sessions[at].publish()),
                        4..7 => {
                            sessions[at].leave(&mut dice);
                            sessions[at].recover();
                        }
                        _ => {
                            let mut old = std::mem::replace(&mut sessions[at], new());
                            let _ = old.client.stream.write_all(&masked(8, &1000u16.to_be_bytes()));
                            messages.fetch_add(old.messages, Ordering::Relaxed);
                        }
                    }
                    sessions
                        .iter_mut()
                        .filter_map(|session| (!session.listen()).then_some(session))
                        .for_each(Session::recover);
                }
                // What was published is acknowledged in the end.
                let started = Instant::now();
                for session in &mut sessions {
                    while !session.pending.is_empty() {
                        assert!(started.elapsed() < Duration::from_secs(60), "session {}", session.number);
                        if !session.listen() {
                            session.recover();
                        }
                        std::thread::yield_now();
                    }
                    messages.fetch_add(session.messages, Ordering::Relaxed);
                }
            });
        }
    });
    running.settle(0, |counters| counters.sockets.get());
    assert!(messages.into_inner() > races, "messages came");
    assert!(running.sum(|counters| counters.sockets_moved_in.get()) > 0, "sockets moved");
    for shared in running.stop() {
        assert_eq!((shared.counters.outbox_bytes.get(), shared.counters.panics.get()), (0, 0));
    }
}
