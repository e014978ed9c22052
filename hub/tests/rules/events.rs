//! Events of connections: who is asked, in what order, and what comes of the answers (`event-handlers` §4, §5).

use crate::bench::{Bench, group, id_of};
use ringhub_hub::effect::{
    CloseCategory, Connect, Effect, Input, Introduction, Question, RefusedBy, Transport,
};
use ringhub_hub::event::{Event, EventSubject, Refusal, Reply, Route, Routes};
use ringhub_hub::{CoreId, Hub, Limits, MeshItem, SocketKey, Ticket, Time};
use ringhub_protocol::events::{
    Acceptance, EventFilter, GroupPatterns, Message, Presence, SystemEvents, UserEvents,
};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{Data, DataType, Subprotocol};
use ringhub_protocol::ws::CloseCode;
use std::sync::Arc;

fn every_event() -> EventFilter {
    EventFilter {
        system: SystemEvents { connect: true, connected: true, disconnected: true },
        user: UserEvents::All,
        presence: Presence::default(),
    }
}

fn routes(handlers: Vec<EventFilter>, listeners: Vec<EventFilter>) -> Routes {
    let all = |filters: Vec<EventFilter>| {
        let routes = filters.into_iter().enumerate();
        routes.map(|(place, filter)| Route { filter, target: Arc::new(place) }).collect()
    };
    Routes { handlers: all(handlers), listeners: all(listeners), ..Routes::default() }
}

fn bench_with(routes: Routes) -> Bench {
    let mut bench = Bench::new(Limits::default());
    bench.hub.set_routes(Some(Arc::new(routes)));
    bench
}

fn bench() -> Bench {
    bench_with(routes(vec![every_event()], vec![]))
}

/// One handler that hears only what clients say.
fn talking() -> Bench {
    bench_with(routes(vec![EventFilter { user: UserEvents::All, ..EventFilter::default() }], vec![]))
}

/// A client that comes in by way of its hub's handler.
fn knock(bench: &mut Bench, subprotocol: Subprotocol, offered: &[&str]) -> SocketKey {
    let socket = bench.socket();
    let question = Question {
        body: r#"{"claims":{}}"#.into(),
        websocket_key: "dGhlIHNhbXBsZSBub25jZQ==".into(),
        offered: offered.iter().map(|&name| name.into()).collect(),
    };
    let introduction = Introduction {
        origin: "example.com".into(),
        subprotocol: subprotocol.name().map(Arc::from),
        question: Some(question),
    };
    bench.handle(Input::Connect(Box::new(Connect {
        socket,
        subprotocol,
        random: 1 + u128::from(socket.slot),
        prologue: Vec::new(),
        user: UserId::parse("u").ok(),
        roles: vec!["webpubsub.joinLeaveGroup".into()],
        groups: vec![group("token")],
        raw_group: None,
        arrival: Default::default(),
        introduction: Some(Box::new(introduction)),
        deflate: None,
    })));
    socket
}

/// Everything asked and told since the last call.
fn events(bench: &mut Bench) -> Vec<Event> {
    let mut events = Vec::new();
    for effect in std::mem::take(&mut bench.effects) {
        match effect {
            Effect::Event(event) => events.push(*event),
            other => bench.effects.push(other),
        }
    }
    events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.subject.subject().name()).collect()
}

/// The one question asked since the last call.
fn question(bench: &mut Bench) -> (Event, Ticket) {
    let mut events = events(bench);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = events.remove(0);
    let ticket = event.ticket.expect("an answer is awaited");
    (event, ticket)
}

fn answer(bench: &mut Bench, ticket: Ticket, text: Option<&'static str>) {
    let message = text.map(|text| Message { data_type: DataType::Text, bytes: text.into(), metadata: None });
    bench.handle(Input::Reply(ticket, Reply::Answered(message)));
}

fn fail(bench: &mut Bench, ticket: Ticket, status: u16) {
    bench.handle(Input::Reply(ticket, Reply::Failed(status)));
}

fn event(name: &str, rest: &str) -> String {
    format!(r#"{{"type":"event","event":"{name}","dataType":"text","data":"{name}"{rest}}}"#)
}

fn opened(bench: &Bench, socket: SocketKey) -> Option<Transport> {
    bench.effects.iter().find_map(|effect| match effect {
        Effect::Opened(transport) if transport.socket == socket => Some(*transport),
        _ => None,
    })
}

#[test]
fn a_handler_decides_who_comes_in_and_as_what() {
    let mut bench = bench();
    let socket = knock(&mut bench, Subprotocol::Json, &["json.webpubsub.azure.v1", "mine"]);
    let (asked, ticket) = question(&mut bench);
    assert_eq!(asked.subject, EventSubject::Connect);
    assert_eq!(&asked.body[..], br#"{"claims":{}}"#);
    assert_eq!((&*asked.caller.origin, asked.subprotocol.as_deref()), ("example.com", None));
    assert_eq!(asked.user, UserId::parse("u").ok());
    assert!(opened(&bench, socket).is_none() && bench.hub.connections(0, 9).is_empty());
    let accepted = Acceptance {
        user: Some(UserId::parse("v").ok()),
        groups: vec![GroupName::parse("mine").unwrap()],
        roles: Some(vec![]),
        subprotocol: Some("MINE".into()),
    };
    bench.handle(Input::Reply(ticket, Reply::Accepted(Box::new(accepted))));
    let transport = opened(&bench, socket).expect("it is in");
    let row = &bench.hub.connections(0, 9)[0];
    assert_eq!((row.id, row.user.clone()), (asked.caller.id, UserId::parse("v").ok()));
    assert_eq!((row.subprotocol, row.groups), (Subprotocol::Raw, 1));
    bench.flush();
    let wire = String::from_utf8(bench.wires.remove(&socket.slot).unwrap()).unwrap();
    assert!(
        wire.starts_with("HTTP/1.1 101 ") && wire.contains("\r\nSec-WebSocket-Protocol: mine\r\n"),
        "{wire}"
    );
    assert!(wire.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{wire}");
    let told = events(&mut bench);
    assert_eq!(names(&told), ["connected"]);
    assert_eq!((told[0].ticket, told[0].subprotocol.as_deref()), (None, Some("mine")));
    assert_eq!(told[0].user, UserId::parse("v").ok());
    bench.handle(Input::ClientClose(transport, Some(CloseCode::NORMAL)));
    let told = events(&mut bench);
    assert_eq!((names(&told), &told[0].body[..]), (vec!["disconnected"], &br#"{"reason":""}"#[..]));
    assert!(!bench.hub.awaits_replies());
}

#[test]
fn an_acceptance_without_content_keeps_what_the_token_has() {
    let mut bench = bench();
    let socket = knock(&mut bench, Subprotocol::ReliableJson, &["json.reliable.webpubsub.azure.v1"]);
    let (_, ticket) = question(&mut bench);
    bench.handle(Input::Reply(ticket, Reply::Accepted(Box::default())));
    let client = opened(&bench, socket).unwrap();
    let row = &bench.hub.connections(0, 9)[0];
    assert_eq!((row.subprotocol, row.groups), (Subprotocol::ReliableJson, 1));
    assert_eq!(row.user, UserId::parse("u").ok());
    bench.flush();
    bench.wires.clear();
    bench.say(client, r#"{"type":"joinGroup","group":"h","ackId":1}"#);
    assert_eq!(bench.short(client), ["ack 1"], "its roles are the token's");
}

#[test]
fn whoever_is_not_let_in_is_nowhere() {
    let mut bench = bench();
    let refusal = Refusal { status: 401, content_type: Some("text/plain".into()), body: "no".into() };
    for (reply, expected) in [
        (
            Reply::Refused(refusal.clone()),
            Effect::ConnectAnswered(SocketKey { slot: 0, generation: 0 }, refusal),
        ),
        (
            Reply::Failed(504),
            Effect::ConnectRefused(SocketKey { slot: 0, generation: 0 }, RefusedBy::Handler),
        ),
    ] {
        let socket = knock(&mut bench, Subprotocol::Raw, &[]);
        let (_, ticket) = question(&mut bench);
        bench.handle(Input::Reply(ticket, reply));
        match (bench.effects.last().unwrap(), expected) {
            (Effect::ConnectAnswered(to, refusal), Effect::ConnectAnswered(_, expected)) => {
                assert_eq!((*to, refusal), (socket, &expected));
            }
            (Effect::ConnectRefused(to, by), Effect::ConnectRefused(_, expected)) => {
                assert_eq!((*to, *by), (socket, expected));
            }
            (other, _) => panic!("{other:?}"),
        }
        assert!(events(&mut bench).is_empty() && opened(&bench, socket).is_none());
    }
    assert_eq!(bench.hub.group_counts(), (0, 0));
    assert!(bench.hub.connections(0, 9).is_empty() && !bench.hub.awaits_replies());
}

#[test]
fn a_subprotocol_nobody_offered_is_the_handlers_fault_and_the_end_is_told() {
    let mut bench = bench();
    let socket = knock(&mut bench, Subprotocol::Raw, &["other"]);
    let (_, ticket) = question(&mut bench);
    let accepted = Acceptance { subprotocol: Some("mine".into()), ..Acceptance::default() };
    bench.handle(Input::Reply(ticket, Reply::Accepted(Box::new(accepted))));
    assert!(
        bench
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::ConnectRefused(to, RefusedBy::Handler) if *to == socket))
    );
    assert_eq!(names(&events(&mut bench)), ["disconnected"]);
}

#[test]
fn a_stop_refuses_who_is_asked_about_and_tells_the_end_of_who_was_let_in_after_all() {
    let mut bench = bench();
    let (first, second) =
        (knock(&mut bench, Subprotocol::Raw, &[]), knock(&mut bench, Subprotocol::Raw, &[]));
    let asked = events(&mut bench);
    bench.handle(Input::Stop);
    let refused = bench.effects.iter().filter_map(|effect| match effect {
        Effect::ConnectRefused(to, RefusedBy::Stop) => Some(*to),
        _ => None,
    });
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused, [first, second]);
    // Nothing is cancelled: who is asked is to hear of the end.
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::CancelEvent(_))));
    bench.handle(Input::Reply(asked[0].ticket.unwrap(), Reply::Accepted(Box::default())));
    bench.handle(Input::Reply(asked[1].ticket.unwrap(), Reply::Failed(499)));
    let told = events(&mut bench);
    assert_eq!(names(&told), ["disconnected"]);
    assert_eq!(told[0].caller.id, asked[0].caller.id);
    assert!(!bench.hub.awaits_replies());
}

/// It was opened behind the stop, and as a reliable client waited for in a hub that is gone.
#[test]
fn who_was_let_in_while_other_cores_hear_of_its_groups_is_refused_by_a_stop_and_its_end_is_told() {
    let mut bench = bench();
    let (routes, name) = (routes(vec![every_event()], vec![]), HubName::parse("chat").unwrap());
    bench.hub = Hub::new(name, CoreId(0), 2, 7, Limits::default(), Box::new(|_| "token".into()));
    bench.hub.set_routes(Some(Arc::new(routes)));
    let socket = knock(&mut bench, Subprotocol::ReliableJson, &[]);
    let (_, ticket) = question(&mut bench);
    bench.handle(Input::Reply(ticket, Reply::Accepted(Box::default())));
    let agreement = bench.effects.iter().find_map(|effect| match effect {
        Effect::Forward(CoreId(1), MeshItem::Interest(_, ticket)) => Some(*ticket),
        _ => None,
    });
    bench.handle(Input::Stop);
    let refused =
        |effect: &Effect| matches!(effect, Effect::ConnectRefused(to, RefusedBy::Stop) if *to == socket);
    assert!(bench.effects.iter().any(refused));
    assert_eq!(names(&events(&mut bench)), ["disconnected"]);
    bench.handle(Input::Mesh(CoreId(1), MeshItem::Agreed(agreement.expect("the other core is told"))));
    bench.flush();
    assert!(opened(&bench, socket).is_none() && events(&mut bench).is_empty());
    assert_eq!(bench.hub.group_counts(), (0, 0));
}

/// Whoever a slow handler had a question of was not told of: the core left with the question.
#[test]
fn a_stop_that_lasts_too_long_gives_up_questions_and_tells_the_ends_without_them() {
    let mut bench = bench();
    let clients = [bench.json(&[]), bench.json(&[])];
    let ids = clients.map(|client| id_of(&bench, client));
    events(&mut bench);
    for client in clients {
        bench.say(client, &event("asked", ""));
        bench.say(client, &event("waits", ""));
    }
    let asked = events(&mut bench);
    knock(&mut bench, Subprotocol::Raw, &[]);
    bench.handle(Input::Stop);
    assert_eq!(names(&events(&mut bench)), ["connect"], "handlers may answer until the deadline");
    bench.effects.clear();
    bench.handle(Input::GiveUp);
    let cancelled = bench.effects.iter().filter(|effect| matches!(effect, Effect::CancelEvent(_))).count();
    assert_eq!(cancelled, 3);
    let told = events(&mut bench);
    assert_eq!(
        (names(&told), told[0].caller.id, told[1].caller.id),
        (vec!["disconnected"; 2], ids[0], ids[1])
    );
    assert!(!bench.hub.awaits_replies());
    answer(&mut bench, asked[0].ticket.unwrap(), None);
    bench.handle(Input::GiveUp);
    assert!(events(&mut bench).is_empty(), "once");
}

#[test]
fn one_question_at_a_time_in_order_and_the_answer_before_the_ack() {
    let mut bench = talking();
    let (a, b) = (bench.json(&[]), bench.json(&[]));
    for (at, name) in ["one", "two", "three"].into_iter().enumerate() {
        bench.say(a, &event(name, &format!(r#","ackId":{}"#, at + 1)));
    }
    let (asked, first) = question(&mut bench);
    assert_eq!((asked.subject.subject().name(), &asked.body[..]), ("one", &b"one"[..]));
    bench.say(b, &event("other", ""));
    let (asked, others) = question(&mut bench);
    assert_eq!(asked.subject.subject().name(), "other", "connections do not wait for each other");
    // What is no event goes on.
    bench.say(a, r#"{"type":"joinGroup","group":"g","ackId":9}"#);
    assert_eq!(bench.short(a), ["ack 9"]);
    answer(&mut bench, first, Some("hello"));
    let (asked, second) = question(&mut bench);
    assert_eq!(asked.subject.subject().name(), "two");
    let hello = r#"{"type":"message","from":"server","dataType":"text","data":"hello"}"#;
    assert_eq!(bench.texts(a), [hello, r#"{"type":"ack","ackId":1,"success":true}"#]);
    answer(&mut bench, second, None);
    let (_, third) = question(&mut bench);
    fail(&mut bench, third, 500);
    answer(&mut bench, others, None);
    let failed = r#"{"type":"ack","ackId":3,"success":false,"error":{"name":"InternalServerError","message":"The event handler failed."}}"#;
    assert_eq!(bench.texts(a), [r#"{"type":"ack","ackId":2,"success":true}"#, failed]);
    assert!(bench.texts(b).is_empty() && events(&mut bench).is_empty());
    assert_eq!((bench.hub.counters().events, bench.hub.counters().events_failed), (4, 1));
}

#[test]
fn an_event_is_asked_about_once_if_it_succeeds_and_again_if_not() {
    let mut bench = talking();
    let a = bench.json(&[]);
    bench.say(a, &event("x", r#","ackId":1"#));
    bench.say(a, &event("x", r#","ackId":1"#));
    let (_, ticket) = question(&mut bench);
    answer(&mut bench, ticket, None);
    assert!(events(&mut bench).is_empty(), "the second one waited and has succeeded already");
    assert_eq!(bench.short(a), ["ack 1", "ack 1"]);
    bench.say(a, &event("x", r#","ackId":1"#));
    assert!(events(&mut bench).is_empty());
    assert!(bench.texts(a)[0].contains("Duplicate"));
    bench.say(a, &event("x", r#","ackId":2"#));
    let (_, ticket) = question(&mut bench);
    fail(&mut bench, ticket, 502);
    bench.say(a, &event("x", r#","ackId":2"#));
    let (_, ticket) = question(&mut bench);
    answer(&mut bench, ticket, None);
    assert!(bench.texts(a)[1].contains("true"));
}

#[test]
fn a_failed_event_is_seen_as_its_client_sees_things() {
    let mut bench = talking();
    let (raw, json) = (bench.connect(Subprotocol::Raw, &[]).unwrap(), bench.json(&[]));
    bench.handle(Input::Raw(raw, Data::text("1")));
    bench.handle(Input::Raw(raw, Data::binary(b"2")));
    let (asked, ticket) = question(&mut bench);
    assert_eq!((asked.subject.subject().name(), asked.data_type), ("message", DataType::Text));
    fail(&mut bench, ticket, 500);
    assert_eq!(bench.texts(raw), ["close 1011"]);
    assert_eq!(bench.closed(), [(1011, CloseCategory::SendEventFailed)]);
    assert!(events(&mut bench).is_empty(), "what it said behind that is in order or not at all");
    bench.say(json, &event("x", ""));
    let (_, ticket) = question(&mut bench);
    fail(&mut bench, ticket, 500);
    assert!(bench.texts(json).is_empty(), "only counted");

    let mut strict = routes(vec![every_event()], vec![]);
    strict.close_on_failure = true;
    let mut bench = bench_with(strict);
    let json = bench.json(&[]);
    events(&mut bench);
    bench.say(json, &event("x", ""));
    let (_, ticket) = question(&mut bench);
    fail(&mut bench, ticket, 500);
    let texts = bench.texts(json);
    assert!(texts[0].contains("disconnected") && texts[1] == "close 1011", "{texts:?}");
    assert_eq!(names(&events(&mut bench)), ["disconnected"]);
}

#[test]
fn an_invocation_is_answered_as_one() {
    let mut bench = talking();
    let a = bench.json(&[]);
    let invoke = |id: &str| {
        format!(
            r#"{{"type":"invoke","invocationId":"{id}","target":"event","event":"ask","dataType":"text","data":"q"}}"#
        )
    };
    bench.say(a, &invoke("1"));
    let (_, ticket) = question(&mut bench);
    answer(&mut bench, ticket, Some("a"));
    assert_eq!(
        bench.texts(a),
        [r#"{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"text","data":"a"}"#]
    );
    for (status, name) in [
        (400, "BadRequest"),
        (401, "Forbidden"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (408, "Timeout"),
        (504, "Timeout"),
        (500, "InternalServerError"),
    ] {
        bench.say(a, &invoke("2"));
        let (_, ticket) = question(&mut bench);
        fail(&mut bench, ticket, status);
        let texts = bench.texts(a);
        assert!(texts[0].contains(&format!(r#""name":"{name}""#)), "{status}: {texts:?}");
    }
    // One is asked, one waits; both are given up.
    bench.say(a, &invoke("3"));
    bench.say(a, &invoke("4"));
    let (_, ticket) = question(&mut bench);
    for id in ["4", "3", "5"] {
        bench.say(a, &format!(r#"{{"type":"cancelInvocation","invocationId":"{id}"}}"#));
    }
    let cancelled =
        bench.effects.iter().filter(|effect| matches!(effect, Effect::CancelEvent(t) if *t == ticket));
    assert_eq!(cancelled.count(), 1);
    fail(&mut bench, ticket, 499);
    assert!(bench.texts(a).is_empty() && events(&mut bench).is_empty() && !bench.hub.awaits_replies());
}

#[test]
fn nobody_reads_on_while_as_many_events_wait_as_may() {
    let mut bench =
        Bench::new(Limits { events_waiting_max: 4, events_waiting_bytes_max: 100, ..Limits::default() });
    bench.hub.set_routes(Some(Arc::new(routes(
        vec![EventFilter { user: UserEvents::All, ..EventFilter::default() }],
        vec![],
    ))));
    let a = bench.reliable(&[]);
    for name in ["a", "b", "c", "d", "e"] {
        assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Hold(_))), "before {name}");
        bench.say(a, &event(name, ""));
    }
    assert!(matches!(bench.effects.last(), Some(Effect::Hold(socket)) if *socket == a.socket));
    // The hold goes with the session to its next socket.
    let id = id_of(&bench, a);
    bench.handle(Input::SocketLost(a));
    bench.flush();
    let socket = bench.recover(id, Subprotocol::ReliableJson);
    assert!(matches!(bench.effects.last(), Some(Effect::Hold(held)) if *held == socket));
    let mut asked = Vec::new();
    while bench.hub.awaits_replies() {
        let (event, ticket) = question(&mut bench);
        asked.extend_from_slice(&event.body);
        answer(&mut bench, ticket, None);
        let released =
            bench.effects.iter().any(|effect| matches!(effect, Effect::Release(to) if *to == socket));
        assert_eq!(released, asked.len() >= 2, "half of them are gone");
    }
    assert_eq!(asked, b"abcde");
    assert_eq!(bench.hub.counters().events_held, 1);
    // By bytes.
    let b = Transport { socket, ..a };
    bench.effects.clear();
    bench.say(b, &event("x", ""));
    bench
        .say(b, &format!(r#"{{"type":"event","event":"x","dataType":"text","data":"{}"}}"#, "y".repeat(100)));
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::Hold(_))));
}

#[test]
fn what_a_client_said_before_it_left_is_asked_about_and_then_its_end_is_told() {
    let mut bench = bench();
    let a = bench.json(&[]);
    assert_eq!(names(&events(&mut bench)), ["connected"]);
    for name in ["one", "two"] {
        bench.say(a, &event(name, r#","ackId":7"#));
    }
    let (_, ticket) = question(&mut bench);
    bench.handle(Input::SocketLost(a));
    bench.flush();
    assert!(events(&mut bench).is_empty() && bench.hub.connections(0, 9).is_empty());
    // Its place is another's now.
    let b = bench.json(&[]);
    assert_eq!(b.connection.slot, a.connection.slot);
    assert_eq!(names(&events(&mut bench)), ["connected"]);
    answer(&mut bench, ticket, Some("too late"));
    let (asked, ticket) = question(&mut bench);
    assert_eq!(asked.subject.subject().name(), "two");
    fail(&mut bench, ticket, 500);
    let told = events(&mut bench);
    assert_eq!(names(&told), ["disconnected"]);
    assert_eq!(told[0].caller.id, asked.caller.id);
    assert!(bench.texts(b).is_empty() && !bench.hub.awaits_replies());
}

/// Clients that spoke and left, over and over, left as much behind as there was memory.
#[test]
fn what_clients_leave_behind_has_a_bound_and_their_ends_are_told_all_the_same() {
    let mut bench = Bench::new(Limits { departed_bytes_max: 600, ..Limits::default() });
    bench.hub.set_routes(Some(Arc::new(routes(vec![every_event()], vec![]))));
    let speak_and_leave = |bench: &mut Bench| {
        let client = bench.json(&[]);
        for name in ["one", "two"] {
            bench.say(client, &event(name, ""));
        }
        bench.handle(Input::SocketLost(client));
        bench.flush();
        events(bench).remove(1).ticket.expect("an answer is awaited")
    };
    let [first, second, third] = [(); 3].map(|()| speak_and_leave(&mut bench));
    assert_eq!(bench.hub.counters().events_dropped, 1);
    answer(&mut bench, third, None);
    assert_eq!(names(&events(&mut bench)), ["disconnected"]);
    answer(&mut bench, first, None);
    assert_eq!(names(&events(&mut bench)), ["two"]);
    let fourth = speak_and_leave(&mut bench);
    assert_eq!(bench.hub.counters().events_dropped, 1, "there is room again");
    for ticket in [second, fourth] {
        answer(&mut bench, ticket, None);
        assert_eq!(names(&events(&mut bench)), ["two"]);
    }
}

/// Events that wait for a handler that hangs took memory where nobody looked, and clients that held less were closed
/// for it.
#[test]
fn events_that_wait_are_what_a_connection_keeps_and_go_when_it_is_shed() {
    let mut bench = bench();
    let client = bench.json(&[]);
    events(&mut bench);
    for name in ["one", "two", "three"] {
        bench.say(client, &event(name, ""));
    }
    let (_, ticket) = question(&mut bench);
    let kept: Vec<_> = bench.hub.kept_bytes().collect();
    assert!(kept.len() == 1 && kept[0].0 == client.connection && kept[0].1 >= 8, "{kept:?}");
    bench.handle(Input::Shed(client.connection));
    assert_eq!(bench.hub.counters().events_dropped, 2);
    answer(&mut bench, ticket, None);
    assert_eq!(names(&events(&mut bench)), ["disconnected"]);
    assert_eq!(bench.hub.kept_bytes().count(), 0);
}

#[test]
fn a_reliable_session_tells_of_its_end_only_when_it_is_over() {
    let mut bench = bench();
    let a = bench.reliable(&[]);
    let id = id_of(&bench, a);
    events(&mut bench);
    bench.say(a, &event("x", ""));
    let (_, ticket) = question(&mut bench);
    bench.handle(Input::SocketLost(a));
    answer(&mut bench, ticket, Some("kept for it"));
    bench.flush();
    let socket = bench.recover(id, Subprotocol::ReliableJson);
    let texts = bench.texts(Transport { socket, ..a });
    assert!(texts[1].contains("kept for it") && texts[1].contains(r#""sequenceId":1"#), "{texts:?}");
    assert!(events(&mut bench).is_empty(), "a recovery is no event");
    bench.handle(Input::SocketLost(Transport { socket, ..a }));
    bench.now = Time(60_000);
    bench.hub.handle_timeout(bench.now, &mut bench.effects);
    bench.flush();
    let told = events(&mut bench);
    assert_eq!(names(&told), ["disconnected"]);
    assert_eq!(&told[0].body[..], br#"{"reason":"The client did not come back in time."}"#);
}

#[test]
fn listeners_hear_but_do_not_answer() {
    let listener = EventFilter {
        system: SystemEvents { connect: true, connected: true, disconnected: true },
        user: UserEvents::parse("heard, both").unwrap(),
        ..EventFilter::default()
    };
    let handler = EventFilter { user: UserEvents::parse("asked,both").unwrap(), ..EventFilter::default() };
    let mut bench = bench_with(routes(vec![handler], vec![listener.clone(), listener]));
    let (a, raw) = (bench.json(&[]), bench.connect(Subprotocol::Raw, &[]).unwrap());
    let told = events(&mut bench);
    assert_eq!(names(&told), ["connected", "connected"]);
    assert!(told[0].handler.is_none() && told[0].listeners.len() == 2 && told[0].ticket.is_none());
    bench.say(a, &event("heard", r#","ackId":1"#));
    assert_eq!(bench.short(a), ["ack 1"]);
    assert_eq!(events(&mut bench)[0].ticket, None);
    bench.say(a, &event("both", r#","ackId":2"#));
    let (asked, ticket) = question(&mut bench);
    assert!(asked.handler.is_some() && asked.listeners.len() == 2);
    assert!(bench.short(a).is_empty());
    answer(&mut bench, ticket, None);
    assert_eq!(bench.short(a), ["ack 2"]);
    bench.say(a, &event("nobody", r#","ackId":3"#));
    assert!(bench.texts(a)[0].contains("InternalServerError"));
    bench.handle(Input::Raw(raw, Data::text("message is none of theirs")));
    assert_eq!(bench.texts(raw), ["close 1011"]);
    assert_eq!(bench.hub.counters().events_unhandled, 2);
}

#[test]
fn presence_is_told_when_membership_changes() {
    let presence = Presence { joined: true, left: true, groups: GroupPatterns::parse(["room-*"]).unwrap() };
    let mut bench = bench_with(routes(vec![EventFilter { presence, ..EventFilter::default() }], vec![]));
    let a = bench.json(&["room-1", "other"]);
    let told = events(&mut bench);
    assert_eq!(names(&told), ["joined"]);
    assert_eq!((&told[0].body[..], told[0].ticket), (&br#"{"group":"room-1"}"#[..], None));
    for _ in 0..2 {
        bench.say(a, r#"{"type":"joinGroup","group":"room-2"}"#);
        bench.say(a, r#"{"type":"leaveGroup","group":"other"}"#);
    }
    assert_eq!(names(&events(&mut bench)), ["joined"], "only what changed");
    bench.say(a, r#"{"type":"leaveGroup","group":"room-2"}"#);
    bench.handle(Input::SocketLost(a));
    let told = events(&mut bench);
    let subjects: Vec<_> = told.iter().map(|event| event.subject.clone()).collect();
    assert_eq!(subjects, [EventSubject::Left("room-2".into()), EventSubject::Left("room-1".into())]);
}

#[test]
fn the_first_handler_that_wants_an_event_gets_it() {
    let user =
        |names: &str| EventFilter { user: UserEvents::parse(names).unwrap(), ..EventFilter::default() };
    let mut bench = bench_with(routes(vec![user("a"), user("A,b"), user("*")], vec![]));
    for (name, place) in [("a", 0usize), ("B", 1), ("c", 2)] {
        let client = bench.json(&[]);
        bench.say(client, &event(name, ""));
        let (asked, _) = question(&mut bench);
        let target = asked.handler.unwrap().downcast::<usize>().unwrap();
        assert_eq!(*target, place, "{name}");
    }
}
