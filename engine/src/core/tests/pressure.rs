//! Queues and buffers of the ring that are full (`reliability` checks 73 to 75).

use super::*;
use std::sync::atomic::AtomicBool;

/// A server with a tiny ring whose core can be stopped in the middle of a turn: it waits while a client asks for
/// `hold`, and what all others do meanwhile meets it at once.
struct Stoppable {
    running: Running,
    entered: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Stoppable {
    fn new() -> Self {
        let (enter, entered) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let (enter, released) = (Mutex::new(enter), Mutex::new(released));
        let gate = move |target: &str| {
            if target.contains("hold") {
                enter.lock().unwrap().send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
        };
        Self { running: Running::gated(Mode::Serve, None, gate, tiny), entered, release }
    }

    /// Does something while the core stands still.
    fn during_a_stop(&self, act: impl FnOnce()) {
        let address = self.running.address();
        let holder =
            std::thread::spawn(move || drop(Client::connect(address, "/client/hubs/chat?hold", None)));
        self.entered.recv_timeout(Duration::from_secs(20)).expect("the core came to the gate");
        act();
        self.release.send(()).unwrap();
        holder.join().unwrap();
    }
}

/// Three hundred receives complete at once, for a completion queue of 16 and with 8 buffers. Most find no buffer and
/// end; that the second round is answered shows that they were armed again.
#[test]
fn an_overflow_of_completions_and_buffers_loses_nothing_twice() {
    let stoppable = Stoppable::new();
    let running = &stoppable.running;
    let mut clients: Vec<_> = (0..300).map(|_| running.connect()).collect();
    running.settle(300, |counters| counters.websockets.get());
    let mut overflowed = 0;
    for round in ["first", "second"] {
        let ping = |n: usize| format!("{round} {n}").into_bytes();
        stoppable.during_a_stop(|| {
            for (n, client) in clients.iter_mut().enumerate() {
                client.send(9, &ping(n));
            }
        });
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.next(), Some((10, ping(n))), "client {n}");
        }
        running.wait(overflowed + 1, |counters| counters.completions_overflowed.get());
        overflowed = running.sum(|counters| counters.completions_overflowed.get());
    }
    assert!(running.sum(|counters| counters.buffers_exhausted.get()) > 100);
    stoppable.running.stop();
}

/// Two clients send without end, more in every turn than there are buffers. Each of the others was answered in turns,
/// never: who had just emptied the buffers was the first to be armed again and emptied them again.
#[test]
fn who_floods_the_buffers_starves_nobody() {
    let running = Running::new(Mode::Serve, tiny);
    let mut quiet: Vec<_> = (0..20).map(|_| running.connect()).collect();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut flooder = running.connect();
            let end = &end;
            scope.spawn(move || {
                // Nobody answers a pong.
                let pongs = masked(10, &[b'x'; 125]).repeat(500);
                while !end.load(Ordering::Relaxed) {
                    flooder.stream.write_all(&pongs).unwrap();
                }
            });
        }
        running.wait(1 << 20, |counters| counters.bytes_in.get());
        let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..10 {
                for (n, client) in quiet.iter_mut().enumerate() {
                    client.send(9, format!("{round} {n}").as_bytes());
                }
                for (n, client) in quiet.iter_mut().enumerate() {
                    assert_eq!(client.next(), Some((10, format!("{round} {n}").into_bytes())));
                }
            }
        }));
        end.store(true, Ordering::Relaxed);
        answered.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(running.sum(|counters| counters.buffers_exhausted.get()) > 0, "there was a flood");
    running.stop();
}

/// It goes on talking, so it is no silent client, and what waits for it is below the bound of slow ones (check 36).
#[test]
fn a_client_that_takes_nothing_is_ended_by_the_clock() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.send_buffer_bytes = Some(4 << 10);
        settings.sockets.write_deadline = Duration::from_millis(500);
    });
    let mut sender = running.connect();
    let stuck = running.connect();
    socket2::SockRef::from(&stuck.stream).set_recv_buffer_size(4 << 10).unwrap();
    running.settle(2, |counters| counters.websockets.get());
    let mut speaker = Client { stream: stuck.stream.try_clone().unwrap(), received: Vec::new() };
    for _ in 0..12 {
        sender.send(2, &[7; 64 << 10]);
    }
    running.wait(1, |counters| counters.outbox_bytes.get());
    let started = Instant::now();
    while running.sum(|counters| counters.websockets.get()) == 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "it is still there");
        if speaker.stream.write_all(&masked(10, b"")).is_err() {
            break;
        }
    }
    running.settle(1, |counters| counters.websockets.get());
    assert_eq!(running.sum(|counters| counters.slow_consumers.get()), 0);
    running.settle(0, |counters| counters.outbox_bytes.get());
    running.stop();
}

/// It was reset: sockets that were ended for want of memory were closed before their goodbye was sent.
#[test]
fn who_is_shed_and_reads_is_told_1008() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.close_deadline = Duration::from_secs(20);
    });
    let mut neighbour = running.connect();
    let mut shed = running.connect();
    running.settle(2, |counters| counters.websockets.get());
    let message = masked(2, &[7; 200 << 10]);
    let before = running.sum(|counters| counters.bytes_in.get());
    let (most, rest) = message.split_at(message.len() / 2);
    shed.stream.write_all(most).unwrap();
    running.wait(before + most.len() as u64, |counters| counters.bytes_in.get());
    running.shared[0].pressure.set(1, true, 1);
    neighbour.send(9, b"turn");
    assert_eq!(neighbour.next(), Some((10, b"turn".to_vec())));
    running.settle(1, |counters| counters.clients_shed.get());
    // What it goes on to say is no reason to reset it.
    shed.stream.write_all(rest).unwrap();
    let (opcode, payload) = shed.next().expect("a goodbye");
    assert_eq!((opcode, &payload[..2]), (8, &1008u16.to_be_bytes()[..]));
    assert_eq!(shed.stream.read(&mut [0; 1]).unwrap(), 0, "it ends without a reset");
    drop(shed);
    running.settle(1, |counters| counters.sockets.get());
    running.stop();
}

/// A handler that is busy for 50 ms shows (check 81).
#[test]
fn a_long_turn_is_counted() {
    let gate = |target: &str| {
        if target.contains("busy") {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(50) {
                std::hint::spin_loop();
            }
        }
    };
    let running = Running::gated(Mode::Serve, None, gate, |_| {});
    let before = running.sum(|counters| counters.turns_long.get());
    let _client = Client::connect(running.address(), "/client/hubs/chat?busy", None);
    running.wait(before + 1, |counters| counters.turns_long.get());
    running.stop();
}
