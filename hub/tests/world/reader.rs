//! What clients get, and whether it is right.

use super::acts::padding;
use super::client::{Asked, Byte, Expected, Member};
use super::protobuf;
use super::socket::frame;
use super::{Fault, World};
use ringhub_hub::{Input, Time};
use ringhub_protocol::pubsub::Subprotocol;

impl World {
    /// The client reads what its socket has, and the socket takes what was kept.
    pub(super) fn read(&mut self, client: usize) {
        let who = &mut self.clients[client];
        if !self.calm && who.deaf_until > self.tally.operations {
            return;
        }
        let Some(key) = who.socket else { return };
        let (core, hub) = (who.core, who.hub);
        let socket = &mut self.cores[core].sockets[key.slot as usize];
        if socket.generation != key.generation || socket.client != Some(client) {
            return;
        }
        let late = std::mem::take(&mut socket.congested);
        who.inbox.extend(socket.wire.drain(..));
        if late {
            self.tally.expired += socket.kept.expire(self.now);
            socket.take(socket.kept.bytes(), self.now, true);
            if let Some(transport) = who.transport {
                self.feed(core, hub, Input::Writable(transport));
            }
        }
        let who = &mut self.clients[client];
        if who.greeted == 0 && who.inbox.front().is_some_and(|first| first.value == b'H') {
            // A hub that asked first writes the upgrade's answer itself.
            let text: Vec<u8> = who.inbox.iter().map(|byte| byte.value).collect();
            let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            assert!(text.starts_with(b"HTTP/1.1 101 "));
            who.inbox.drain(..end + 4);
            who.greeted = 1 + u8::from(who.subprotocol == Subprotocol::Raw);
        }
        while let Some((opcode, payload, first)) = frame(&mut self.clients[client].inbox) {
            let is_deflated = first.value & 0x40 != 0;
            assert!(!is_deflated || self.clients[client].inflates, "client {client} takes nothing deflated");
            self.tally.inflated += u64::from(is_deflated);
            self.receive(client, opcode, &payload, first);
        }
    }

    fn receive(&mut self, client: usize, opcode: u8, payload: &[u8], first: Byte) {
        let who = &mut self.clients[client];
        if opcode == 8 {
            return;
        }
        if who.greeted == 0 {
            assert_eq!(payload, b"@", "the upgrade's answer comes first");
            who.greeted = 1 + u8::from(who.subprotocol == Subprotocol::Raw);
            return;
        }
        if opcode == 9 {
            return self.hear_ping(client, payload);
        }
        assert_eq!(opcode, if who.subprotocol.is_protobuf() { 2 } else { 1 });
        if who.subprotocol == Subprotocol::Raw {
            return self.message(client, std::str::from_utf8(payload).expect("text"), first);
        }
        let message = match who.subprotocol.is_protobuf() {
            true => protobuf::decode(payload),
            false => serde_json::from_slice(payload).expect("JSON"),
        };
        match message["type"].as_str().unwrap() {
            "system" if message["event"] == "connected" => {
                assert_eq!(who.greeted, 1, "connected comes second");
                assert_eq!(message["connectionId"], who.id.unwrap().to_string());
                who.greeted = 2;
            }
            "system" => {}
            "ack" => {
                let Some(asked) = who.asked.remove(&message["ackId"].as_u64().unwrap()) else {
                    // Asked over an earlier socket; its answer waited for the other cores.
                    assert!(who.subprotocol.is_reliable(), "an ack for what was not asked");
                    return;
                };
                let error = message["error"]["name"].as_str();
                assert_eq!(message["success"] == true, error.is_none());
                // An earlier request's ack says nothing about a later one.
                let is_last = |group| !who.asked.values().any(|asked| asked.group() == Some(group));
                match asked {
                    Asked::Join(group) | Asked::Leave(group) if error.is_none() => {
                        match (asked, who.groups[group]) {
                            _ if !is_last(group) => {}
                            (Asked::Join(_), Member::Joining) => who.groups[group] = Member::Yes,
                            (Asked::Leave(_), Member::Leaving) => who.groups[group] = Member::No,
                            _ => {}
                        }
                    }
                    Asked::Other(Expected::Either) => {}
                    Asked::Other(Expected::Error(expected)) => {
                        assert_eq!(error, Some(expected), "client {client}: {message}");
                        if expected == "InternalServerError" {
                            self.note(Fault::PublicationRefused);
                        }
                    }
                    Asked::Other(Expected::Success) if error.is_none() => {}
                    _ => panic!("client {client}: {asked:?} was refused without a reason: {message}"),
                }
            }
            "invokeResponse" => {
                let id = message["invocationId"].as_str().expect("an id").parse().unwrap();
                let is_awaited = who.invoked.remove(&id) || who.cancelled.remove(&id);
                // Or it was asked over an earlier socket.
                assert!(
                    is_awaited || who.subprotocol.is_reliable(),
                    "client {client}: {message} was not asked"
                );
                if let Some(data) = message["data"].as_str() {
                    assert_eq!(message["success"], true);
                    assert_eq!(data.split(' ').nth(3), Some(&*id.to_string()), "another's answer");
                }
            }
            "message" => {
                assert_eq!(who.greeted, 2);
                if who.subprotocol.is_reliable() {
                    let id = message["sequenceId"].as_u64().unwrap();
                    let is_next = self.setup.expiry || id <= who.sequence + 1;
                    assert!(is_next, "client {client}: id {id} after {}", who.sequence);
                    if id <= who.sequence {
                        return;
                    }
                    who.sequence = id;
                }
                let data = message["data"].as_str().unwrap().to_owned();
                self.message(client, &data, first);
            }
            other => panic!("{other}"),
        }
    }

    fn message(&mut self, client: usize, data: &str, first: Byte) {
        self.tally.deliveries += 1;
        let who = &mut self.clients[client];
        let mut words: Vec<&str> = data.split(' ').collect();
        if let Some(pad) = words.last().and_then(|last| last.strip_prefix('~')) {
            assert!(pad == padding(words[3].parse().unwrap(), pad.len()), "client {client}: other bytes");
            self.tally.large += u64::from(pad.len() > 1 << 15);
            words.pop();
        }
        let [hub, group, publisher, number, until, ref chosen @ ..] = words[..] else {
            panic!("delivered though denied: {data}")
        };
        assert_eq!(hub, format!("h{}", who.hub), "delivered across hubs");
        if let Some(group) = group.strip_prefix('g') {
            let group: usize = group.parse().unwrap();
            assert_ne!(who.groups[group], Member::No, "client {client} is not a member: {data}");
        }
        let maybe =
            if let [chosen] = chosen { who.is_chosen(chosen, |member| member != Member::No) } else { true };
        assert!(maybe, "client {client} is not among the chosen: {data}");
        let until: u64 = until[1..].parse().unwrap();
        let fresh = until == 0 || !first.waited || first.taken < Time(until);
        assert!(fresh, "client {client}: {data} waited until {:?}", first.taken);
        let publisher: usize = publisher[1..].parse().unwrap();
        let number: u64 = number.parse().unwrap();
        let last = who.seen.insert(publisher, number).unwrap_or(0);
        assert!(number > last, "client {client} {:?}: {data} after {last}", who.subprotocol);
        if let Some(owed) = who.owed.get_mut(&publisher) {
            owed.remove(&number);
            let lost: Vec<_> = owed.range(..number).collect();
            assert!(lost.is_empty(), "client {client}: lost {lost:?} of p{publisher}");
        }
    }

    /// A ping says that everything sent before it has been read.
    fn hear_ping(&mut self, client: usize, payload: &[u8]) {
        let who = &mut self.clients[client];
        let number: u64 = std::str::from_utf8(payload).unwrap().parse().unwrap();
        // What is to be said to a reliable client beside messages has a bound; over it the session ends.
        let is_next = number == who.heard + 1 || who.subprotocol.is_reliable() && number > who.heard;
        assert!(is_next && number <= who.pinged, "client {client}: ping {number} after {}", who.heard);
        who.heard = number;
        let passed: Vec<_> = who.fences.extract_if(.., |&mut (ping, _)| ping <= number).collect();
        for (_, group) in passed {
            assert_eq!(who.groups[group], Member::Unsure);
            who.groups[group] = Member::No;
            self.tally.note("known to be out");
        }
    }
}
