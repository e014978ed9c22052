//! Every operation fails with every errno once (`reliability` check 80): no panic, one connection at most is lost, all
//! others go on, and it is counted.

use super::*;
use crate::core::faults::Faults;
use crate::core::ring::Op;

/// Errors that say nothing about the socket: what failed is done again.
const PASSING: [i32; 4] = [libc::EAGAIN, libc::EINTR, libc::ENOBUFS, libc::ENOMEM];

/// All errno values of Linux.
fn errnos() -> impl Iterator<Item = i32> {
    1..=133
}

/// A server whose ring fails as told, and two clients that must not notice.
struct Failing {
    running: Running,
    faults: &'static Faults,
    neighbours: [Client; 2],
}

impl Failing {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let faults = Faults::new();
        let running = Running::new(Mode::Serve, |settings| {
            settings.ring.faults = Some(faults);
            change(settings);
        });
        let neighbours = [running.connect(), running.connect()];
        running.settle(2, |counters| counters.websockets.get());
        Self { running, faults, neighbours }
    }

    /// One more client, in the hands of its hub. Its receive is armed.
    fn victim(&self) -> Client {
        let mut victim = self.running.connect();
        victim.send(9, b"armed");
        assert_eq!(victim.next(), Some((10, b"armed".to_vec())));
        victim
    }

    /// The neighbours reach each other, and nothing is left of the victim.
    fn check_neighbours(&mut self, what: &str) {
        self.running.settle(2, |counters| counters.websockets.get());
        assert_eq!(self.faults.pending(), 0, "{what}");
        let [one, other] = &mut self.neighbours;
        one.send(1, what.as_bytes());
        other.expect(what.as_bytes());
        other.send(1, what.as_bytes());
        one.expect(what.as_bytes());
    }

    fn stop(self) {
        drop(self.neighbours);
        self.running.settle(0, |counters| counters.sockets.get());
        for shared in self.running.stop() {
            assert_eq!(shared.counters.outbox_bytes.get(), 0);
        }
    }
}

/// Sends the request of an upgrade; whether it was answered.
fn is_upgraded(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = [0; 12];
    let answered =
        stream.write_all(&upgrade("/client/hubs/chat", None)).and_then(|()| stream.read_exact(&mut answer));
    answered.is_ok_and(|()| answer == *b"HTTP/1.1 101")
}

#[test]
fn a_receive_that_fails_loses_its_own_socket_at_most() {
    let mut failing = Failing::new(|_| {});
    for errno in errnos() {
        let goes_on = PASSING.contains(&errno) || errno == libc::ECANCELED;
        // Of the request's head, one at a time, then of the client, many at a time.
        failing.faults.fail(Op::Receive, 0, errno);
        assert_eq!(is_upgraded(failing.running.address()), goes_on, "errno {errno}");
        failing.check_neighbours(&format!("head {errno}"));

        failing.faults.fail(Op::Receive, 1, errno);
        let mut victim = failing.running.connect();
        if goes_on {
            victim.send(9, b"heard");
            assert_eq!(victim.next(), Some((10, b"heard".to_vec())), "errno {errno}");
            drop(victim);
        } else {
            assert_eq!(victim.next(), None, "errno {errno}");
        }
        failing.check_neighbours(&format!("client {errno}"));
    }
    failing.stop();
}

#[test]
fn a_send_that_fails_loses_its_own_socket_at_most() {
    let mut failing = Failing::new(|_| {});
    for errno in errnos() {
        let goes_on = PASSING.contains(&errno);
        let mut victim = failing.victim();
        failing.faults.fail(Op::Send, 0, errno);
        victim.send(9, b"answered");
        let answer = victim.next();
        assert_eq!(answer, goes_on.then(|| (10, b"answered".to_vec())), "errno {errno}");
        drop(victim);
        failing.check_neighbours(&format!("send {errno}"));
    }
    failing.stop();
}

#[test]
fn a_write_that_fails_loses_its_own_socket_at_most() {
    let mut failing = Failing::new(|_| {});
    for errno in errnos() {
        let goes_on = PASSING.contains(&errno);
        let mut victim = failing.victim();
        // So that there is one.
        failing.faults.cut(Op::Send, 1);
        failing.faults.fail(Op::Write, 0, errno);
        victim.send(9, b"answered");
        let answer = victim.next();
        assert_eq!(answer, goes_on.then(|| (10, b"answered".to_vec())), "errno {errno}");
        drop(victim);
        failing.check_neighbours(&format!("write {errno}"));
    }
    failing.stop();
}

/// One of many receivers of a message.
#[test]
fn a_fan_out_goes_on_behind_a_send_that_fails() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, |settings| settings.ring.faults = Some(faults));
    for (n, errno) in [libc::EPIPE, libc::ECONNRESET, libc::EIO, libc::ENOMEM].into_iter().enumerate() {
        let mut sender = running.connect();
        let mut receivers: Vec<_> = (0..5).map(|_| running.connect()).collect();
        running.settle(6, |counters| counters.websockets.get());
        faults.fail(Op::Send, n as u32, errno);
        sender.send(1, b"to all");
        let got = receivers.iter_mut().filter_map(Client::next).filter(|(_, text)| text == b"to all").count();
        assert_eq!(got, if PASSING.contains(&errno) { 5 } else { 4 }, "errno {errno}");
        drop((sender, receivers));
        running.settle(0, |counters| counters.websockets.get());
    }
    running.stop();
}

/// What may expire waits for its socket by a poll before it is written.
#[test]
fn a_poll_that_fails_loses_its_own_socket_at_most() {
    let mut failing = Failing::new(|_| {});
    for errno in errnos() {
        let mut victim = Client::connect(failing.running.address(), "/client/hubs/chat", None);
        failing.running.settle(3, |counters| counters.websockets.get());
        // One of them is for the caller's answer, three for the other members.
        (0..4).for_each(|_| failing.faults.cut(Op::Send, 1));
        (0..4).for_each(|_| failing.faults.fail(Op::Write, 0, errno));
        let mut caller = TcpStream::connect(failing.running.address()).unwrap();
        caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        caller.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nexpire").unwrap();
        let goes_on = PASSING.contains(&errno);
        for client in failing.neighbours.iter_mut().chain([&mut victim]) {
            let message = client.next().map(|(_, text)| text);
            assert_eq!(message, goes_on.then(|| b"expire".to_vec()), "errno {errno}");
        }
        let _ = caller.read_to_end(&mut Vec::new());
        drop(victim);
        if !goes_on {
            failing.running.settle(0, |counters| counters.websockets.get());
            failing.neighbours = [failing.running.connect(), failing.running.connect()];
        }
        failing.check_neighbours(&format!("poll {errno}"));
    }
    failing.stop();
}

/// A record is made once: what the kernel did not take of it is kept, or its connection ends.
#[test]
fn a_record_that_fails_loses_its_own_socket_at_most() {
    let faults = Faults::new();
    let (store, config) = certificate();
    let running = Running::with(Mode::Serve, Some(store), |settings| {
        settings.ring.faults = Some(faults);
        settings.listen = vec![Address::parse("https://127.0.0.1:0").unwrap()];
    });
    let connect = || connect_over_tls(&running, 0, &config);
    let mut neighbour = connect();
    for errno in errnos() {
        let goes_on = PASSING.contains(&errno);
        for op in [Op::Send, Op::Write] {
            let mut victim = connect();
            if op == Op::Write {
                // So that there is one.
                faults.cut(Op::Send, 7);
            }
            faults.fail(op, 0, errno);
            victim.send(9, b"answered");
            if goes_on {
                assert_eq!(victim.next(), Some((10, b"answered".to_vec())), "{op:?} {errno}");
            } else {
                // Without TLS's goodbye, for it cannot be sent any more.
                let error = victim.stream.read(&mut [0; 1]).unwrap_err();
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "{op:?} {errno}");
            }
            drop(victim);
            running.settle(1, |counters| counters.websockets.get());
            assert_eq!(faults.pending(), 0, "{op:?} {errno}");
            neighbour.send(9, b"still there");
            assert_eq!(neighbour.next(), Some((10, b"still there".to_vec())), "{op:?} {errno}");
        }
    }
    running.stop();
}

/// How often in a row the kernel has no memory in [`a_kernel_without_memory_is_asked_now_and_then`].
const LACKS: u32 = 20;

/// It was asked again at once, and nothing else was done while memory was short.
#[test]
fn a_kernel_without_memory_is_asked_now_and_then() {
    let faults = Faults::new();
    let (store, config) = certificate();
    let running = Running::with(Mode::Serve, Some(store), |settings| {
        settings.ring.faults = Some(faults);
        settings.listen.push(Address::parse("https://127.0.0.1:0").unwrap());
    });
    let lasts = |what: &str, op: Op, act: &mut dyn FnMut()| {
        let before = running.sum(|counters| counters.requests_without_memory.get());
        let began = Instant::now();
        (0..LACKS).for_each(|_| faults.fail(op, 0, libc::ENOMEM));
        act();
        // No more than the least it must take: how long more it takes is the machine's affair.
        assert!(began.elapsed() >= Duration::from_millis(9) * LACKS, "{what}: {:?}", began.elapsed());
        assert_eq!(faults.pending(), 0, "{what}");
        if op != Op::Bell {
            running.wait(before + u64::from(LACKS), |counters| counters.requests_without_memory.get());
        }
    };
    let ping = |client: &mut Client| {
        client.send(9, b"answered");
        assert_eq!(client.next(), Some((10, b"answered".to_vec())));
    };
    lasts("a receive", Op::Receive, &mut || assert!(is_upgraded(running.address())));
    let mut plain = running.connect();
    ping(&mut plain);
    // So that there is a write.
    faults.cut(Op::Send, 1);
    lasts("a write", Op::Write, &mut || ping(&mut plain));
    let mut sealed = connect_over_tls(&running, 1, &config);
    sealed.send(9, b"armed");
    assert_eq!(sealed.next(), Some((10, b"armed".to_vec())));
    faults.cut(Op::Send, 1);
    lasts("a record", Op::Write, &mut || {
        sealed.send(9, b"answered");
        assert_eq!(sealed.next(), Some((10, b"answered".to_vec())));
    });
    lasts("a bell", Op::Bell, &mut || {
        while faults.pending() > 0 {
            running.server.control().wake();
            ping(&mut plain);
        }
    });
    drop((plain, sealed));
    running.stop();
}

/// What was to be cancelled ends by the socket's being shut down; the slot is free again.
#[test]
fn a_cancel_that_fails_keeps_no_socket() {
    let mut failing = Failing::new(|_| {});
    for errno in errnos() {
        let mut victim = failing.victim();
        failing.faults.fail(Op::Cancel, 0, errno);
        victim.send(8, &1000u16.to_be_bytes());
        assert_eq!(victim.next(), Some((8, 1000u16.to_be_bytes().to_vec())), "errno {errno}");
        assert_eq!(victim.next(), None, "errno {errno}");
        failing.running.settle(2, |counters| counters.sockets.get());
        failing.check_neighbours(&format!("cancel {errno}"));
    }
    failing.stop();
}

/// It counted as ending from then on: nothing cancelled it any more, and what a client sent that was not to be heard
/// yet grew without bound.
#[test]
fn a_receive_that_could_not_be_cancelled_is_cancelled_again() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, |settings| {
        settings.ring.faults = Some(faults);
        let filter = EventFilter { user: UserEvents::All, ..EventFilter::default() };
        let handlers = vec![Route { filter, target: Arc::new(()) }];
        settings.hub_default.routes = Some(Arc::new(Routes { handlers, ..Routes::default() }));
        // Nobody answers, so the third event is not heard.
        settings.hub_default.limits.events_waiting_max = 1;
        settings.stop_deadline = Duration::from_millis(10);
    });
    let mut client = Client::connect(running.address(), "/client/hubs/chat", Some("json.webpubsub.azure.v1"));
    running.settle(1, |counters| counters.websockets.get());
    faults.fail(Op::Cancel, 0, libc::EALREADY);
    let started = Instant::now();
    while running.sum(|counters| counters.receive_pauses.get()) < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "it is not tried again");
        client.send(1, br#"{"type":"event","event":"e","dataType":"text","data":"d"}"#);
    }
    assert_eq!(faults.pending(), 0);
    running.stop();
}

/// The listener is armed again and again until it is: at once where only the one connection is concerned, after a
/// pause otherwise. A pause for each of 133 would be long: many listeners rest at the same time.
#[test]
fn an_accept_that_fails_is_made_again() {
    const LISTENERS: usize = 16;
    let lacking = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    let faults = Faults::new();
    errnos().for_each(|errno| faults.fail(Op::Accept, 0, errno));
    let running = Running::new(Mode::Serve, |settings| {
        settings.ring.faults = Some(faults);
        settings.listen = vec![Address::plain(([127, 0, 0, 1], 0)); LISTENERS];
    });
    running.wait(lacking.len() as u64, |counters| counters.accepts_out_of_files.get());
    running.wait((errnos().count() - lacking.len()) as u64, |counters| counters.accepts_failed.get());
    assert_eq!(faults.pending(), 0);
    assert!(running.server.service.iter().all(|address| is_upgraded(address.socket)));
    assert_eq!(running.sum(|counters| counters.accepts.get()), LISTENERS as u64);
    running.stop();
}

/// It was made again at once whatever the error was, a thousand times in a moment.
#[test]
fn a_listener_that_is_broken_does_not_spin() {
    let faults = Faults::new();
    for _ in 0..1000 {
        faults.fail(Op::Accept, 0, libc::EINVAL);
    }
    let running = Running::new(Mode::Serve, |settings| settings.ring.faults = Some(faults));
    running.wait(3, |counters| counters.accepts_failed.get());
    let turns = running.sum(|counters| counters.turns.get());
    assert!(turns < 100, "{turns} turns for three failures");
    faults.clear();
    assert!(is_upgraded(running.address()));
    running.stop();
}

/// A core that could not be rung by its ring was not rung at all, and slept on what was for it until it woke by itself.
#[test]
fn a_doorbell_that_fails_is_rung_another_way() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, |settings| {
        settings.cores = 2;
        settings.ring.faults = Some(faults);
    });
    let mut clients: Vec<_> = (0..8).map(|_| running.connect()).collect();
    running.settle(8, |counters| counters.websockets.get());
    for errno in errnos() {
        faults.fail(Op::Doorbell, 0, errno);
        // A core that is awake needs no bell.
        for n in 0.. {
            if faults.pending() == 0 {
                break;
            }
            let text = format!("{errno} {n}");
            clients[n % 8].send(1, text.as_bytes());
            for (_, client) in clients.iter_mut().enumerate().filter(|(other, _)| *other != n % 8) {
                client.expect(text.as_bytes());
            }
        }
        running.wait(errno as u64, |counters| counters.mesh_wakes_failed.get());
    }
    running.stop();
}

/// What is queued stays queued, and what waits is looked at: a submit that fails costs a turn at most.
#[test]
fn a_submit_that_fails_loses_nothing() {
    const SUBMITS: usize = 50;
    let mut failing = Failing::new(|_| {});
    let turns = |failing: &Failing| failing.running.sum(|counters| counters.turns.get());
    let without_memory =
        |failing: &Failing| failing.running.sum(|counters| counters.requests_without_memory.get());
    for errno in [libc::EBUSY, libc::EAGAIN, libc::ENOMEM, libc::EINTR, libc::ETIME] {
        let before = turns(&failing);
        let counted = without_memory(&failing);
        failing.faults.fail_enters(SUBMITS, errno);
        let mut messages = 0;
        while failing.faults.pending() > 0 {
            let [one, other] = &mut failing.neighbours;
            one.send(1, b"all the same");
            other.expect(b"all the same");
            messages += 1;
        }
        failing.check_neighbours(&format!("submit {errno}"));
        let lacks = if [libc::EAGAIN, libc::ENOMEM].contains(&errno) { SUBMITS as u64 } else { 0 };
        failing.running.settle(counted + lacks, |counters| counters.requests_without_memory.get());
        // A message takes a turn or two, and a second without one takes one too.
        let (turns, most) = (turns(&failing) - before, (SUBMITS + 10 * messages + 100) as u64);
        assert!(turns <= most, "errno {errno}: {turns} turns for {messages} messages");
    }
    failing.stop();
}

/// How other threads wake a core.
#[test]
fn a_bell_that_fails_is_listened_to_again() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, |settings| settings.ring.faults = Some(faults));
    errnos().for_each(|errno| faults.fail(Op::Bell, 0, errno));
    let mut client = running.connect();
    while faults.pending() > 0 {
        running.server.control().apply(Settings { cores: 1, ..Settings::default() });
        client.send(9, b"turn");
        assert_eq!(client.next(), Some((10, b"turn".to_vec())));
    }
    drop(client);
    // It hears this.
    running.stop();
}
