//! Two cores behave like one: interest, order, directed sends, recovery anywhere (`design` §3).

use ringhub_tests::{Client, Connection, History, Server};

/// Enough that both cores have some of them: the kernel spreads connections by a hash.
const MEMBERS: usize = 40;

fn members(server: &Server, client: impl Fn(usize) -> Client) -> Vec<Connection> {
    (0..MEMBERS).map(|n| server.connect(client(n))).collect()
}

#[test]
fn a_publication_reaches_the_members_of_every_core() {
    let server = Server::on_cores(2);
    let mut members =
        members(&server, |n| Client::json().user(&n.to_string()).group("g").role("webpubsub.sendToGroup"));
    for from in 0..MEMBERS {
        members[from].publish("g", &from.to_string());
        for member in &mut members {
            member.expect_group_text("g", Some(&from.to_string()), &from.to_string());
        }
    }
}

#[test]
fn one_publishers_order_holds_on_every_core_and_in_every_format() {
    let server = Server::on_cores(2);
    let mut plain = members(&server, |_| Client::json().group("g"));
    let mut reliable = members(&server, |_| Client::reliable().group("g"));
    let mut senders: Vec<_> =
        (0..4).map(|_| server.connect(Client::json().role("webpubsub.sendToGroup"))).collect();
    let mut history = History::new();
    (0..2 * MEMBERS).for_each(|member| history.joined(member));
    const EACH: usize = 100;
    for _ in 0..EACH {
        for (publisher, sender) in senders.iter_mut().enumerate() {
            sender.publish("g", &history.publish(publisher));
        }
    }
    for (publisher, sender) in senders.iter_mut().enumerate() {
        sender.publish_acked("g", &history.publish(publisher));
        history.acknowledged(publisher);
    }
    for (member, connection) in plain.iter_mut().chain(&mut reliable).enumerate() {
        for _ in 0..(EACH + 1) * senders.len() {
            history.receive(member, &connection.next_text());
        }
        connection.expect_silence();
    }
    history.check();
}

/// A join's ack promises that whatever is published after it arrives, wherever it is published.
#[test]
fn after_a_joins_ack_a_publication_elsewhere_arrives() {
    let server = Server::on_cores(2);
    let mut senders: Vec<_> =
        (0..8).map(|_| server.connect(Client::json().role("webpubsub.sendToGroup"))).collect();
    for round in 0..50 {
        let group = format!("g{round}");
        let mut member = server.connect(Client::json().role("webpubsub.joinLeaveGroup"));
        member.join(&group);
        for (n, sender) in senders.iter_mut().enumerate() {
            sender.publish_acked(&group, &n.to_string());
            member.expect_group_text(&group, None, &n.to_string());
        }
    }
}

/// The same for `connected` and the token's groups, and for a REST answer.
#[test]
fn after_connected_and_after_a_put_a_send_elsewhere_arrives() {
    let server = Server::on_cores(2);
    for round in 0..50 {
        let (user, group) = (format!("u{round}"), format!("g{round}"));
        let mut member = server.connect(Client::json().user(&user).group(&group));
        server.rest("POST", &format!("/api/hubs/chat/users/{user}/:send")).text("to the user").expect(202);
        member.expect_server_text("to the user");
        server.rest("POST", &format!("/api/hubs/chat/groups/{group}/:send")).text("to the group").expect(202);
        member.expect_group_text(&group, None, "to the group");
        let path = format!("/api/hubs/chat/groups/late{round}/connections/{}", member.id());
        server.rest("PUT", &path).expect(200);
        server.rest("POST", &format!("/api/hubs/chat/groups/late{round}/:send")).text("late").expect(202);
        member.expect_group_text(&format!("late{round}"), None, "late");
        server.rest("DELETE", &path).expect(204);
        server.rest("POST", &format!("/api/hubs/chat/groups/late{round}/:send")).text("too late").expect(202);
        member.expect_silence();
    }
}

/// Two sends, the second after the first's 202, arrive in order wherever they came in.
#[test]
fn sends_arrive_in_the_order_of_their_202s() {
    let server = Server::on_cores(2);
    let mut members = members(&server, |_| Client::json().group("g"));
    for n in 0..40 {
        // A new connection each time: the next one may be on the other core.
        server.rest("POST", "/api/hubs/chat/groups/g/:send").text(&n.to_string()).expect(202);
    }
    for member in &mut members {
        for n in 0..40 {
            member.expect_group_text("g", None, &n.to_string());
        }
    }
}

#[test]
fn existence_closes_and_exclusions_cross_cores() {
    let server = Server::on_cores(2);
    let mut members = members(&server, |_| Client::json().user("u").group("g"));
    for member in &members {
        server.rest("HEAD", &format!("/api/hubs/chat/connections/{}", member.id())).expect(200);
    }
    let kept = members.split_off(MEMBERS - 2);
    let mut send = server.rest("POST", "/api/hubs/chat/:send");
    let mut close =
        server.rest("POST", "/api/hubs/chat/groups/g/:closeConnections").query("reason", "enough");
    for member in &kept {
        send = send.query("excluded", member.id());
        close = close.query("excluded", member.id());
    }
    send.text("x").expect(202);
    close.expect(204);
    for mut member in members {
        member.expect_server_text("x");
        assert_eq!(member.expect_disconnected(1000), "enough");
    }
    server.rest("HEAD", "/api/hubs/chat/users/u").expect(200);
    for mut member in kept {
        member.expect_silence();
        member.close(1000);
    }
    ringhub_tests::wait_until("the user is gone", || {
        server.rest("HEAD", "/api/hubs/chat/users/u").send().status == 404
    });
    server.rest("HEAD", "/api/hubs/chat/groups/g").expect(404);
}

/// The kernel gives a new socket to any core; the session is found from there.
#[test]
fn recovery_lands_on_any_core() {
    let server = Server::on_cores(2);
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut member = server.connect(Client::reliable().group("g"));
    let (id, mut token) = (member.id().to_owned(), member.token().to_owned());
    let mut history = History::new();
    history.joined(0);
    let mut publish = |history: &mut History| {
        sender.publish_acked("g", &history.publish(0));
        history.acknowledged(0);
    };
    for round in 0..60 {
        publish(&mut history);
        history.receive(0, &member.next_text());
        member.acknowledge(2 * round + 1);
        member.expect_silence();
        let replaced = (round % 2 == 0).then_some(member);
        publish(&mut history);
        member = server.open(Client::reliable().recover(&id, &token));
        assert_eq!(member.expect_connected().0, id);
        history.recovered(0);
        member.token().clone_into(&mut token);
        history.receive(0, &member.next_text());
        // Half of the time the old socket was still open: a takeover.
        if let Some(mut old) = replaced {
            old.expect_thrown_out();
        }
    }
    history.check();
}

/// A frame right behind the recovery request moves with its socket.
#[test]
fn bytes_behind_a_recovery_request_move_with_the_socket() {
    let server = Server::on_cores(2);
    for _ in 0..30 {
        let member = server.connect(Client::reliable());
        let mut bytes = Client::reliable().recover(member.id(), member.token()).request(&server);
        bytes.extend(ringhub_tests::masked_frame(0x81, br#"{"type":"ping"}"#));
        let mut socket = server.raw();
        socket.write(bytes);
        assert_eq!(socket.read_response().status, 101);
        assert!(socket.read_frame().text().contains(r#""event":"connected""#));
        assert_eq!(socket.read_frame().text(), r#"{"type":"pong"}"#);
    }
}
