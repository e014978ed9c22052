//! What one turn does: of whom it hears how much, and that others are heard meanwhile. The tests turn a core themselves.

use super::*;
use crate::core::doorway::{COMING_MAX, LEAVING_MAX};
use crate::core::drain::{LOOKS_MAX, ROUND_MS};
use crate::core::input::FRAMES_MAX;
use crate::core::line::ANSWERS_MAX;
use crate::core::socket::{Kind, Socket};
use crate::core::turn::{Core, GOES_MAX, TURN_BYTES};
use crate::net::accept::Door;
use crate::net::{Listener, Scheme};
use ringhub_hub::effect::MeshItem;
use ringhub_hub::event::Reply;
use ringhub_hub::{Input, SocketKey, Ticket};
use ringhub_protocol::name::HubName;
use ringhub_relay::exchange::{Answer, Exchange};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

/// A client of a core that nobody runs: its socket's other end.
fn client_of(core: &mut Core) -> UnixStream {
    let (mut peer, end) = UnixStream::pair().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let key = core.io.adopt(Socket::new(end.into(), Listener::Service));
    core.io.arm(key);
    peer.write_all(&upgrade("/client/hubs/chat", None)).unwrap();
    while !matches!(core.io.sockets.peek(key).unwrap().kind, Kind::Client(_)) {
        turn(core);
    }
    core.io.submit(false, None);
    let mut head = [0; 1024];
    let head_bytes = peer.read(&mut head).unwrap();
    assert!(head[..head_bytes].starts_with(b"HTTP/1.1 101 ") && head[..head_bytes].ends_with(b"\r\n\r\n"));
    peer
}

/// Has a core that nobody runs accept; where.
fn open_a_door(core: &mut Core) -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    core.listeners.push(Door { socket, listener: Listener::Service, scheme: Scheme::Plain });
    core.accept_at.push((0, core.now));
    turn(core);
    core.io.submit(false, None);
    address
}

fn turn(core: &mut Core) {
    core.io.submit(false, None);
    assert!(!core.turn());
}

/// All that somebody had sent was heard, up to what the receive buffers hold, before whoever spoke next: beside two who
/// flooded others waited for 80 ms.
#[test]
fn a_client_is_heard_so_many_frames_and_then_the_others_and_to_the_end_when_it_is_alone() {
    let mut core = still(Arc::new(Exchange::new(1)), |_| {});
    let mut other = client_of(&mut core);
    let counters = core.io.shared.clone();
    let heard = || counters.counters.messages_in.get();
    let most = u64::from(FRAMES_MAX);
    // Of the large ones no buffer holds as many; some come in two parts.
    let mut flooders = [client_of(&mut core), client_of(&mut core)];
    for (flooder, (payload, parts)) in flooders.iter_mut().zip([(&[][..], 0), (&[b'x'; 100], 10)]) {
        let (before, put_off) = (heard(), counters.counters.inputs_put_off.get());
        flooder.write_all(&masked(9, payload).repeat(usize::from(4 * FRAMES_MAX))).unwrap();
        for turns in 1..=2 {
            core.io.submit(false, None);
            // Meanwhile.
            other.write_all(&masked(9, b"")).unwrap();
            core.turn();
            let of_flooder = heard() - before - (turns - 1);
            assert!((turns * most - parts * turns..=turns * most).contains(&of_flooder), "{of_flooder}");
            assert_eq!(counters.counters.inputs_put_off.get() - put_off, turns);
        }
        turn(&mut core);
        core.io.submit(false, None);
        let mut pongs = [0; 4];
        other.read_exact(&mut pongs).unwrap();
        assert_eq!(pongs, [0x8a, 0, 0x8a, 0], "the other one was heard as well");
        assert_eq!(heard(), before + 4 * most + 2, "and then, in one turn, all there was");
    }
}

/// A client that said more than it is heard at one go, of which the first part is heard; the rest is parked, for somebody
/// else speaks, who is returned, too. It does `last` before all that.
fn who_has_said_much(last: impl FnOnce(&UnixStream)) -> (Core, SocketKey, [UnixStream; 2]) {
    let mut core = still(Arc::new(Exchange::new(1)), |_| {});
    let (mut other, mut one) = (client_of(&mut core), client_of(&mut core));
    let key = core.io.sockets.keys()[1];
    one.write_all(&masked(9, b"").repeat(4 * usize::from(FRAMES_MAX))).unwrap();
    last(&one);
    core.io.submit(false, None);
    other.write_all(&masked(9, b"")).unwrap();
    core.turn();
    assert_eq!(core.io.shared.counters.messages_in.get(), u64::from(FRAMES_MAX));
    (core, key, [one, other])
}

/// However much others say all the time; and what it says meanwhile waits in the kernel, not here: all that two who
/// flooded had said was copied before others were heard.
#[test]
fn who_was_put_off_has_a_go_in_every_turn_and_nothing_more_is_received_from_it() {
    let (mut core, key, [mut one, mut other]) = who_has_said_much(|_| {});
    let go = masked(9, b"").repeat(usize::from(FRAMES_MAX));
    let parked =
        |core: &Core| core.io.sockets.peek(key).unwrap().unread.as_ref().map_or(0, |unread| unread.len());
    for left in [3, 2, 1] {
        assert_eq!(parked(&core), left * go.len());
        one.write_all(&go).unwrap();
        core.io.submit(false, None);
        other.write_all(&masked(9, b"")).unwrap();
        core.turn();
    }
    assert_eq!(parked(&core), 0);
    while core.io.shared.counters.messages_in.get() < 3 + 7 * u64::from(FRAMES_MAX) + 1 {
        turn(&mut core);
    }
}

/// Who had just come, or was received from anew, or left, was looked for in vain.
#[test]
fn nobody_is_heard_on_while_others_come_and_leave() {
    let (mut core, _, _peers) = who_has_said_much(|_| {});
    core.io.submit(false, None);
    let (mut peer, end) = UnixStream::pair().unwrap();
    peer.write_all(&upgrade("/client/hubs/chat", None)).unwrap();
    let newcomer = core.io.adopt(Socket::new(end.into(), Listener::Service));
    core.io.arm(newcomer);
    core.turn();
    let heard = |core: &Core| core.io.shared.counters.messages_in.get() - 1;
    assert_eq!(heard(&core), 2 * u64::from(FRAMES_MAX), "one go in each turn");

    let (mut core, _, _peers) = who_has_said_much(|_| {});
    for _ in 0..=LEAVING_MAX {
        let (_, end) = UnixStream::pair().unwrap();
        let key = core.io.adopt(Socket::new(end.into(), Listener::Service));
        core.io.arm(key);
    }
    turn(&mut core);
    assert!(!core.doorway.is_empty());
    assert_eq!(heard(&core), 2 * u64::from(FRAMES_MAX));
}

/// They were put behind those who flood: one of them a turn.
#[test]
fn who_was_not_heard_for_want_of_room_is_heard_as_soon_as_there_is_some() {
    let mut core = still(Arc::new(Exchange::new(1)), |settings| settings.mesh.batch_bytes_max = 1);
    let mut clients: Vec<_> = (0..4).map(|_| client_of(&mut core)).collect();
    core.mesh.forward(core.id, &HubName::parse("chat").unwrap(), MeshItem::Agreed(Ticket(0)));
    assert!(!core.admits());
    let (last, first) = clients.split_last_mut().unwrap();
    first.iter_mut().for_each(|client| client.write_all(&masked(9, b"")).unwrap());
    for heard in [0, 4] {
        core.io.submit(false, None);
        last.write_all(&masked(9, b"")).unwrap();
        core.turn();
        assert_eq!(core.io.shared.counters.messages_in.get(), heard);
        assert!(core.admits());
    }
}

/// Its hub had it wait and go on while it was put off: it had two goes from then on where others had one.
#[test]
fn who_is_put_off_is_so_once() {
    let (mut core, key, [_one, mut other]) = who_has_said_much(|_| {});
    core.hold(key);
    core.release(key);
    core.io.submit(false, None);
    other.write_all(&masked(9, b"")).unwrap();
    core.turn();
    assert!(core.io.sockets.peek(key).unwrap().unread.is_some());
    assert_eq!(core.put_off, [key]);
    assert!(core.resume.is_empty());
}

/// Its pongs were among what it had said.
#[test]
fn who_is_not_heard_to_the_end_is_not_taken_for_silent() {
    let (mut core, key, _peers) = who_has_said_much(|_| {});
    let periods = u64::from(core.settings.sockets.pings_missed_max) + 2;
    (0..periods).for_each(|_| core.deadline(key));
    assert_eq!(core.io.shared.counters.ping_timeouts.get(), 0);
    while core.io.sockets.peek(key).unwrap().unread.is_some() {
        turn(&mut core);
    }
    (0..periods).for_each(|_| core.deadline(key));
    assert_eq!(core.io.shared.counters.ping_timeouts.get(), 1);
}

/// Who went away with a reset was not heard to the end if others spoke meanwhile.
#[test]
fn what_was_said_before_a_reset_is_heard() {
    let (mut core, key, [one, mut other]) = who_has_said_much(|_| {});
    core.io.submit(false, None);
    // With pongs that it has not read, and some that cannot be sent.
    drop(one);
    other.write_all(&masked(9, b"")).unwrap();
    core.turn();
    assert!(core.io.sockets.peek(key).unwrap().unread.is_some());
    while core.io.sockets.peek(key).is_some() {
        turn(&mut core);
    }
    assert_eq!(core.io.shared.counters.messages_in.get(), 2 + 4 * u64::from(FRAMES_MAX));
}

/// Nobody answers the goodbye to a client whose end was put off for what it had said: the socket stayed until its
/// deadline.
#[test]
fn who_has_left_is_not_waited_for_when_its_hub_closes_it() {
    let leave = |one: &UnixStream| one.shutdown(std::net::Shutdown::Write).unwrap();
    let (mut core, key, _peers) = who_has_said_much(leave);
    let socket = core.io.sockets.peek(key).unwrap();
    assert!(socket.ended && socket.unread.is_some());
    let hub = core.hub(&HubName::parse("chat").unwrap()).unwrap();
    core.feed(hub, Input::Stop);
    // The time of a core that nobody runs stands still.
    for _ in 0..10 {
        turn(&mut core);
    }
    assert!(core.io.sockets.peek(key).is_none());
}

/// However many knock, who is not let in gives the descriptor back at once.
#[test]
fn who_is_not_let_in_does_not_wait_for_it() {
    let mut core = still(Arc::new(Exchange::new(1)), |settings| {
        // Fewer than the process has open.
        settings.files_max = 8;
    });
    let address = open_a_door(&mut core);
    let peers: Vec<_> = (0..4 * COMING_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
    core.io.ring.take_more();
    core.turn();
    let counters = &core.io.shared.counters;
    assert_eq!(counters.accepts_refused.get() as usize, peers.len());
}

/// Timers have their turn even if nobody else says anything.
#[test]
fn a_turn_has_so_many_goes() {
    let mut core = still(Arc::new(Exchange::new(1)), |_| {});
    let _flooder = client_of(&mut core);
    let key = core.io.sockets.keys()[0];
    let most = usize::from(FRAMES_MAX) * GOES_MAX;
    core.io.park(key, &masked(9, b"").repeat(2 * most));
    core.put_off.push_back(key);
    core.turn();
    assert_eq!(core.io.shared.counters.messages_in.get() as usize, most);
    while core.io.sockets.peek(key).unwrap().unread.is_some() {
        turn(&mut core);
    }
    assert_eq!(core.io.shared.counters.messages_in.get() as usize, 2 * most);
}

/// The kernel told of the ends of thousands before it told of a message behind them, and each of them was seen to
/// first: while 10,000 clients were cut others waited for 30 ms.
#[test]
fn a_turn_sees_to_so_many_who_leave_and_who_come_and_others_are_heard_meanwhile() {
    const TURNS: usize = 4;
    let mut core = still(Arc::new(Exchange::new(1)), |_| {});
    let mut other = client_of(&mut core);
    let mut is_heard_in_time = |core: &mut Core| {
        other.write_all(&masked(9, b"")).unwrap();
        // In the first turn the kernel hands out a few ends, in the next all there is.
        turn(core);
        turn(core);
        core.io.submit(false, None);
        let mut pong = [0; 2];
        other.read_exact(&mut pong).unwrap();
        assert_eq!(pong, [0x8a, 0]);
    };
    let leaving = TURNS * LEAVING_MAX;
    let mut peers = Vec::new();
    for _ in 0..leaving {
        let (peer, end) = UnixStream::pair().unwrap();
        let key = core.io.adopt(Socket::new(end.into(), Listener::Service));
        core.io.arm(key);
        peers.push(peer);
    }
    turn(&mut core);
    drop(peers);
    is_heard_in_time(&mut core);
    assert_eq!(core.io.sockets.len(), 1 + leaving - 2 * LEAVING_MAX);
    (2..TURNS).for_each(|_| turn(&mut core));
    core.io.submit(false, None);
    assert_eq!(core.io.sockets.len(), 1);

    let address = open_a_door(&mut core);
    let peers: Vec<_> = (0..TURNS * COMING_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
    is_heard_in_time(&mut core);
    let accepts = core.io.shared.counters.accepts.get() as usize;
    assert!(accepts <= 2 * COMING_MAX, "{accepts}");
    while core.io.sockets.len() <= peers.len() {
        turn(&mut core);
    }
    assert_eq!(core.io.shared.counters.accepts.get() as usize, peers.len());
}

/// However much comes in at once, what a turn has to send does not pile up until all of it is heard.
#[test]
fn a_turn_is_flushed_when_so_much_has_come_in() {
    let mut core = still(Arc::new(Exchange::new(1)), |_| {});
    let half = vec![b'x'; TURN_BYTES / 2 - 1000];
    let mut clients: Vec<UnixStream> = (0..3).map(|_| client_of(&mut core)).collect();
    let flushed = |core: &Core| core.io.shared.counters.turns_flushed_early.get();
    let said = |core: &mut Core, clients: &mut [UnixStream]| {
        clients.iter_mut().for_each(|client| client.write_all(&masked(1, &half)).unwrap());
        turn(core);
        flushed(core)
    };
    assert_eq!(said(&mut core, &mut clients[..1]), 0);
    assert_eq!(said(&mut core, &mut clients), 1);
    assert_eq!(core.io.shared.counters.messages_in.get(), 4, "in one turn each");
    // What stood in front of a fault was not counted.
    let key = core.io.sockets.keys()[0];
    core.io.park(key, &[masked(1, &vec![b'x'; TURN_BYTES]), masked(3, b"")].concat());
    core.put_off.push_back(key);
    core.turn();
    assert_eq!((flushed(&core), core.io.shared.counters.faults.get()), (2, 1));
}

/// However many come at once, clients are heard in between.
#[test]
fn a_turn_takes_so_many_answers_and_leaves_the_rest_to_the_next() {
    let exchange = Arc::new(Exchange::new(1));
    let mut core = still(exchange.clone(), |_| {});
    let hub = core.hub(&HubName::parse("chat").unwrap()).unwrap();
    // Nobody waits for them any more: they are taken all the same.
    for ticket in (0..=ANSWERS_MAX as u64).map(Ticket) {
        exchange.answer(core.id, Answer { hub, ticket, reply: Reply::Failed(499) });
    }
    core.take_answers();
    assert!(core.line.has_answers(), "for which the core does not wait");
    let last = exchange.next_answer(core.id).expect("one is left");
    assert_eq!(last.ticket, Ticket(ANSWERS_MAX as u64));
    exchange.answer(core.id, last);
    core.take_answers();
    assert!(!core.line.has_answers());
}

/// However many sockets there are, nobody has to wait while all of them are looked at.
#[test]
fn a_turn_of_a_drain_looks_at_so_many_sockets_and_the_next_goes_on() {
    let mut core = still(Arc::new(Exchange::new(1)), |settings| settings.drain = Duration::ZERO);
    for _ in 0..=LOOKS_MAX {
        let (_, end) = UnixStream::pair().unwrap();
        core.io.adopt(Socket::new(end.into(), Listener::Service));
    }
    core.begin_drain();
    let next = |core: &Core| core.drain.as_ref().unwrap().next();
    core.go_on_draining();
    assert!(next(&core) <= core.now, "one has not been looked at: there is no pause");
    core.go_on_draining();
    assert_eq!(next(&core), core.now.after_ms(ROUND_MS), "that was all of them");
}
