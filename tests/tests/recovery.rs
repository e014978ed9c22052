//! Sessions outlive their sockets (`client-protocols` §6.2–6.4).

use ringhub_tests::{Client, Connection, History, KEY, Proxy, Server, Token, json_object};

use crate::reliable::numbered;

const SHORT_WINDOW: &str = "[hubs.chat.reliable]\nrecovery_window_seconds = 1\n";

fn sender(server: &Server) -> Connection {
    server.connect(Client::json().role("webpubsub.sendToGroup"))
}

fn recover(server: &Server, id: &str, token: &str) -> Connection {
    let mut recovered = server.open(Client::reliable().recover(id, token));
    assert_eq!(recovered.expect_connected().0, id, "the same connection");
    recovered
}

#[test]
fn what_was_not_acknowledged_comes_again_and_the_rest_follows() {
    let server = Server::start();
    let mut sender = sender(&server);
    let mut alice = server.connect(Client::reliable().user("alice").group("g").may_all());
    for n in 1..=3 {
        sender.publish_acked("g", &n.to_string());
        alice.expect(&numbered(n, &n.to_string()));
    }
    alice.acknowledge(1);
    alice.expect_silence();
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.cut();
    for n in 4..=5 {
        sender.publish_acked("g", &n.to_string());
    }

    let mut alice = recover(&server, &id, &token);
    assert_eq!(alice.user(), Some("alice"));
    for n in 2..=5 {
        alice.expect(&numbered(n, &n.to_string()));
    }
    sender.publish_acked("g", "6");
    alice.expect(&numbered(6, "6"));
    // Groups, roles and ack ids are as they were.
    alice.publish_acked("g", "7");
    alice.join("another");
    alice.expect_silence();

    // The fresh token works as well as the first one did.
    let token = alice.token().to_owned();
    alice.cut();
    recover(&server, &id, &token).expect(&numbered(2, "2"));
}

#[test]
fn ack_ids_are_remembered_over_a_recovery() {
    let server = Server::start();
    let mut alice = server.connect(Client::reliable().role("webpubsub.sendToGroup"));
    let send = r#"{"type":"sendToGroup","group":"g","ackId":1,"dataType":"text","data":"x"}"#;
    alice.send(send);
    alice.expect_ack(1);
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.cut();
    let mut alice = recover(&server, &id, &token);
    alice.send(send);
    alice.expect_failed_ack(1, "Duplicate");
}

/// The old access token is still in the URL, expired or worse, and is not looked at (§1.3).
#[test]
fn recovery_needs_no_access_token() {
    let server = Server::start();
    let alice = server.connect(Client::reliable());
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.cut();
    for client in [
        Client::reliable().no_token(),
        Client::reliable().token("garbage"),
        Client::reliable().claim("exp", 1.into()),
    ] {
        let mut recovered = server.open(client.recover(&id, &token));
        recovered.expect_connected();
        recovered.cut();
    }
}

#[test]
fn a_session_without_a_socket_is_still_there() {
    let server = Server::start();
    let alice = server.connect(Client::reliable().user("alice").group("g"));
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.cut();
    let exists = |path: &str| server.rest("HEAD", &format!("/api/hubs/chat/{path}")).send().status == 200;
    assert!(exists(&format!("connections/{id}")) && exists("users/alice") && exists("groups/g"));
    server.rest("PUT", &format!("/api/hubs/chat/groups/h/connections/{id}")).expect(200);
    server.rest("POST", "/api/hubs/chat/groups/h/:send").text("while away").expect(202);
    recover(&server, &id, &token).expect(
        r#"{"type":"message","from":"group","group":"h","fromUserId":null,"dataType":"text","data":"while away","sequenceId":1}"#,
    );
}

/// Upgraded with the offered subprotocol, then 1008: an HTTP error would make SDKs retry for 30 s (§6.3).
#[test]
fn recovery_is_refused_by_an_upgrade_and_1008() {
    let server = Server::start();
    let alice = server.connect(Client::reliable());
    let bob = server.connect(Client::reliable());
    let plain = server.connect(Client::json());
    let forged = Token::new(alice.id()).sign(KEY);
    let changed = {
        let mut token = alice.token().to_owned();
        let last = token.pop();
        token.push(if last == Some('A') { 'B' } else { 'A' });
        token
    };
    let cases = [
        ("an unknown id", "0123456789abcdef0123456789abcdef", alice.token()),
        ("a short id", "x", alice.token()),
        ("another's token", alice.id(), bob.token()),
        ("no token", alice.id(), ""),
        ("garbage", alice.id(), "garbage"),
        ("a forged token", alice.id(), &forged),
        ("a changed token", alice.id(), &changed),
        ("no session", plain.id(), alice.token()),
    ];
    for (what, id, token) in cases {
        println!("{what}");
        server.open(Client::reliable().recover(id, token)).expect_refused_recovery();
        server.open(Client::reliable().no_token().recover(id, token)).expect_refused_recovery();
    }
    let elsewhere = Client::reliable().hub("elsewhere").recover(alice.id(), alice.token());
    server.open(elsewhere).expect_refused_recovery();
    // None of this touched the session.
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    drop(alice);
    recover(&server, &id, &token).expect_silence();
}

/// Not a byte of a refusal tells whether there is such a session (`reliability` check 46): a stranger learns the same
/// of one that is there, one that was, one that never was, and one of another hub.
#[test]
fn a_refused_recovery_tells_nothing_of_the_session() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let alice = server.connect(Client::reliable().user("alice"));
        let suspended = server.connect(Client::reliable());
        let bob = server.connect(Client::reliable());
        let gone = server.connect(Client::reliable());
        let plain = server.connect(Client::json());
        let elsewhere = server.connect(Client::reliable().hub("elsewhere"));
        let of = |one: &Connection| (one.id().to_owned(), one.token().to_owned());
        let (here, away, other, ended, there) =
            (of(&alice), of(&suspended), of(&bob), of(&gone), of(&elsewhere));
        suspended.cut();
        gone.close(1000);
        let forged = Token::new(&here.0).sign(KEY);
        // Unknown, but of the right form: another's with a letter changed.
        let unknown = {
            let first = if here.0.starts_with('A') { "B" } else { "A" };
            format!("{first}{}", &here.0[1..])
        };
        for client in
            [Client::reliable(), Client::reliable().subprotocols("protobuf.reliable.webpubsub.azure.v1")]
        {
            let answer = |id: &str, token: &str| {
                let mut socket = server.raw();
                socket.write(client.clone().recover(id, token).request(&server));
                // The goodbye is answered, so that the socket ends at once.
                let (head, frame) = (socket.read_response(), socket.read_frame());
                assert_eq!((head.status, frame.close_code()), (101, Some(1008)), "{id}, {token}");
                socket.write(ringhub_tests::masked_frame(0x88, &frame.payload));
                socket.expect_end();
                (head.headers, frame)
            };
            let nobody = answer(&unknown, &forged);
            for (what, id, token) in [
                ("another's token", &here.0, other.1.as_str()),
                ("a forged token", &here.0, &forged),
                ("no token", &here.0, ""),
                ("a prefix of the token", &here.0, &here.1[..here.1.len() - 1]),
                ("the token and more", &here.0, &format!("{}A", here.1)),
                ("padding", &here.0, &format!("{}=", here.1)),
                ("the access token's kind", &here.0, "a.b.c"),
                ("without a socket, another's token", &away.0, other.1.as_str()),
                ("without a socket, a forged token", &away.0, &forged),
                ("ended, its own token", &ended.0, ended.1.as_str()),
                ("ended, another's token", &ended.0, other.1.as_str()),
                ("never there, another's token", &unknown, other.1.as_str()),
                ("no session, another's token", &plain.id().to_owned(), other.1.as_str()),
                ("another hub's, its own token", &there.0, there.1.as_str()),
                ("no id", &"x".to_owned(), "x"),
            ] {
                assert_eq!(answer(id, token), nobody, "{what}");
            }
        }
        // And the sessions are as they were; a token is good as often as it is needed.
        for _ in 0..3 {
            recover(&server, &away.0, &away.1).cut();
            recover(&server, &here.0, &here.1).cut();
        }
    }
}

#[test]
fn a_token_without_an_id_is_an_ordinary_new_connection() {
    let server = Server::start();
    let alice = server.connect(Client::reliable());
    let mut other = server.open(Client::reliable().query("awps_reconnection_token", alice.token()));
    assert_ne!(other.expect_connected().0, alice.id());
    server.refuse(Client::reliable().no_token().query("awps_reconnection_token", alice.token()), 401);
    let mut other = server.open(Client::reliable().recover("", alice.token()));
    assert_ne!(other.expect_connected().0, alice.id());
}

/// The newest transport wins, even while the old one looks alive.
#[test]
fn a_recovery_takes_over_from_an_open_socket() {
    let server = Server::start();
    let mut sender = sender(&server);
    let mut old = server.connect(Client::reliable().group("g"));
    sender.publish_acked("g", "1");
    old.expect(&numbered(1, "1"));
    let mut new = recover(&server, old.id(), old.token());
    new.expect(&numbered(1, "1"));
    old.expect_thrown_out();
    sender.publish_acked("g", "2");
    new.expect(&numbered(2, "2"));
    new.expect_silence();
}

#[test]
fn only_a_close_with_1000_is_final() {
    let server = Server::start();
    for (code, is_final) in [(Some(1000), true), (Some(1001), false), (Some(3000), false), (None, false)] {
        let alice = server.connect(Client::reliable().user("alice"));
        let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
        match code {
            Some(code) => alice.close(code),
            None => alice.close_without_code(),
        }
        let mut again = server.open(Client::reliable().recover(&id, &token));
        if is_final {
            again.expect_refused_recovery();
            server.rest("HEAD", &format!("/api/hubs/chat/connections/{id}")).expect(404);
        } else {
            again.expect_connected();
            again.close(1000);
        }
    }
}

#[test]
fn the_session_ends_with_its_window() {
    let server = Server::with(|setup| setup.config(SHORT_WINDOW));
    let alice = server.connect(Client::reliable().user("alice").group("g"));
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.cut();
    // The window and its grace of 2 s; asking does not prolong it.
    let path = format!("/api/hubs/chat/connections/{id}");
    ringhub_tests::wait_until("the session is gone", || server.rest("HEAD", &path).send().status == 404);
    server.rest("HEAD", "/api/hubs/chat/users/alice").expect(404);
    server.rest("HEAD", "/api/hubs/chat/groups/g").expect(404);
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();
}

#[test]
fn a_session_overflows_while_nobody_reads_it() {
    let server = Server::with(|setup| setup.config("[hubs.chat.reliable]\nbuffer_messages = 5\n"));
    let mut sender = sender(&server);
    let alice = server.connect(Client::reliable().group("g"));
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.cut();
    for n in 1..=6 {
        sender.publish_acked("g", &n.to_string());
    }
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();
    server.rest("HEAD", &format!("/api/hubs/chat/connections/{id}")).expect(404);
}

#[test]
fn a_protocol_error_and_a_close_by_rest_are_final() {
    let server = Server::start();
    let mut alice = server.connect(Client::reliable());
    let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
    alice.send("x");
    alice.expect_disconnected(1007);
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();

    let mut bob = server.connect(Client::reliable());
    let (id, token) = (bob.id().to_owned(), bob.token().to_owned());
    server.rest("DELETE", &format!("/api/hubs/chat/connections/{id}")).query("reason", "bye").expect(204);
    assert_eq!(bob.expect_disconnected(1008), "bye");
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();

    let suspended = server.connect(Client::reliable());
    let (id, token) = (suspended.id().to_owned(), suspended.token().to_owned());
    suspended.cut();
    server.rest("POST", "/api/hubs/chat/:closeConnections").expect(204);
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();
}

/// Each round cuts one of three clients behind a random byte of what two publishers send meanwhile; it comes back
/// and has lost nothing, and nobody has anything twice (`reliability` checks 45 and 56).
#[test]
fn nothing_is_lost_wherever_the_cut_falls() {
    const CLIENTS: usize = 3;
    const ROUNDS: usize = 100;
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let proxies: Vec<Proxy> = (0..CLIENTS).map(|_| Proxy::start(&server)).collect();
        let mut publishers = [sender(&server), sender(&server)];
        let mut history = History::new();
        let mut clients: Vec<Reader> = Vec::new();
        for (client, proxy) in proxies.iter().enumerate() {
            let connection = proxy.endpoint().connect(Client::reliable().group("g"));
            history.joined(client);
            clients.push(Reader { client, connection, seen: 0 });
        }
        let mut random = cores as u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % bound
        };
        let mut sent = 0;
        for _ in 0..ROUNDS {
            let victim = below(CLIENTS);
            // The messages below are longer than this together.
            proxies[victim].cut_after_bytes(below(1_200));
            for publisher in [0, 1].repeat(5) {
                publishers[publisher].publish("g", &history.publish(publisher));
            }
            for (publisher, connection) in publishers.iter_mut().enumerate() {
                connection.publish_acked("g", &history.publish(publisher));
                history.acknowledged(publisher);
            }
            sent += 12;
            let reader = &mut clients[victim];
            let (id, token) = (reader.connection.id().to_owned(), reader.connection.token().to_owned());
            while let Some(text) = reader.connection.next_text_or_end() {
                reader.take(&mut history, &text);
            }
            let back = Client::reliable().recover(&id, &token);
            let mut connection = proxies[victim].endpoint().open(back);
            assert_eq!(connection.expect_connected().0, id, "the same connection");
            history.recovered(victim);
            // Acknowledging lags behind, as the SDKs do once a second.
            connection.acknowledge(reader.seen.saturating_sub(below(20) as u64));
            reader.connection = connection;
            for reader in &mut clients {
                reader.catch_up(&mut history, sent);
            }
        }
        assert_eq!(proxies.iter().map(Proxy::cuts).sum::<usize>(), ROUNDS);
        history.check();
    }
}

/// A client that reads up to a number of messages, known ones not counted.
struct Reader {
    client: usize,
    connection: Connection,
    seen: u64,
}

impl Reader {
    fn take(&mut self, history: &mut History, text: &str) {
        history.receive(self.client, text);
        let id = json_object(text)["sequenceId"].as_u64().expect("a number");
        self.seen = self.seen.max(id);
    }

    fn catch_up(&mut self, history: &mut History, sent: u64) {
        while self.seen < sent {
            let text = self.connection.next_text();
            self.take(history, &text);
        }
    }
}
