//! Sockets that end at any moment, while their slots and descriptors are given to others at once (`reliability` check
//! 78): nobody ever gets what another one sent.
//!
//! `RINGHUB_RACES=1000000 cargo test --release -p ringhub-engine --lib races` is the long run.

use super::*;
use socket2::SockRef;
use std::net::Shutdown;

/// Connections in the quick run.
const QUICK: usize = 1000;
/// Threads that connect.
const THREADS: usize = 4;
/// Sockets of one thread at a time.
const SOCKETS: usize = 16;

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

/// Everything that comes in over `client` is whole frames of `name`, but for what stands behind a cut.
fn check(client: &Client, name: &str) {
    let mut bytes = &client.received[..];
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match (len, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (126, _) => return,
            (len, rest) => (usize::from(*len), rest),
        };
        let payload = &rest[..rest.len().min(len)];
        let expected = name.bytes().cycle().take(payload.len());
        assert!(first & 15 == 8 || payload.iter().copied().eq(expected), "{name} got another one's bytes");
        bytes = &rest[payload.len()..];
    }
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

/// Ends it; what it received must be its own.
fn end((mut client, whole): (Client, bool), name: &str, dice: &mut Dice) {
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
    check(&client, name);
}

#[test]
fn whoever_comes_in_another_one_s_place_gets_nothing_of_theirs() {
    let races = std::env::var("RINGHUB_RACES").map_or(QUICK, |races| races.parse().expect("a number"));
    let running = Running::new(Mode::Echo, |settings| {
        tiny(settings);
        settings.sockets.send_buffer_bytes = Some(4 << 10);
        settings.sockets.close_deadline = Duration::from_millis(20);
    });
    let address = running.address();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + thread as u64);
                let mut alive = Vec::new();
                for n in 0..races / THREADS {
                    let name = format!("<{thread}:{n}>");
                    let client = live(address, &name, &mut dice);
                    alive.push((client, name));
                    if alive.len() > SOCKETS {
                        let (client, name) = alive.swap_remove(dice.throw(alive.len() as u64) as usize);
                        end(client, &name, &mut dice);
                    }
                }
                for (client, name) in alive {
                    end(client, &name, &mut dice);
                }
            });
        }
    });
    running.settle(0, |counters| counters.sockets.get());
    assert!(running.sum(|counters| counters.accepts.get()) >= (races / THREADS * THREADS) as u64);
    for shared in running.stop() {
        assert_eq!((shared.counters.outbox_bytes.get(), shared.counters.panics.get()), (0, 0));
    }
}
