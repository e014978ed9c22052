//! Clients without a subprotocol, in both modes (`client-protocols` §1.6).

use ringhub_tests::{Client, Server};

#[test]
fn they_are_told_nothing_but_payloads() {
    let server = Server::start();
    let mut raw = server.open(Client::raw().group("g"));
    raw.expect_silence();
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("plain").expect(202);
    raw.expect("plain");
    server.rest("POST", "/api/hubs/chat/:send").json(r#""keeps its quotes""#).expect(202);
    raw.expect(r#""keeps its quotes""#);
    server.rest("POST", "/api/hubs/chat/:send").binary(&[0, 255]).expect(202);
    raw.expect_binary(&[0, 255]);
}

#[test]
fn frames_go_to_the_group_in_send_to_group_mode() {
    let server = Server::start();
    let mut member = server.connect(Client::json().group("g"));
    let mut raw = server.open(Client::raw().user("r").role("webpubsub.sendToGroup.g").sends_to("g"));
    raw.send("hello");
    raw.send_binary(&[1, 2, 3]);
    member.expect_group_text("g", Some("r"), "hello");
    member.expect(
        r#"{"type":"message","from":"group","group":"g","fromUserId":"r","dataType":"binary","data":"AQID"}"#,
    );
    // Sending does not make it a member.
    raw.expect_silence();
}

#[test]
fn a_member_hears_itself_unless_no_echo_says_otherwise() {
    let server = Server::start();
    let client = || Client::raw().group("g").role("webpubsub.sendToGroup").sends_to("g");
    let mut echo = server.open(client());
    echo.send("1");
    echo.expect("1");
    for (value, echoes) in [("true", false), ("TRUE", false), ("false", true), ("False", true), ("", true)] {
        let mut other = server.open(client().query("noEcho", value));
        other.send("2");
        echo.expect("2");
        if echoes {
            other.expect("2");
        }
        other.expect_silence();
        other.close(1000);
    }
}

#[test]
fn a_frame_without_the_role_ends_the_client_with_1008() {
    let server = Server::start();
    let mut member = server.connect(Client::json().group("g"));
    for client in [
        Client::raw(),
        Client::raw().role("webpubsub.sendToGroup.h"),
        Client::raw().role("webpubsub.joinLeaveGroup"),
    ] {
        let mut raw = server.open(client.sends_to("g"));
        raw.expect_silence();
        raw.send("x");
        raw.expect_close(1008);
    }
    member.expect_silence();
}

#[test]
fn an_event_nobody_handles_ends_the_client_with_1011() {
    let server = Server::start();
    for client in [
        Client::raw(),
        Client::raw().query("webpubsub_mode", ""),
        Client::raw().query("webpubsub_mode", "SendEvent"),
    ] {
        let mut raw = server.open(client);
        raw.send("x");
        raw.expect_close(1011);
    }
    let mut binary = server.open(Client::raw());
    binary.send_binary(b"x");
    binary.expect_close(1011);
}

#[test]
fn bad_modes_are_answered_400() {
    let server = Server::start();
    let mode = |mode: &str| Client::raw().may_all().query("webpubsub_mode", mode);
    server.refuse(mode("nonsense"), 400);
    server.refuse(mode("sendToGroup"), 400);
    server.refuse(mode("sendToGroup").query("group", ""), 400);
    server.refuse(mode("sendToGroup").query("group", " "), 400);
    server.refuse(mode("sendToGroup").query("group", &"x".repeat(1025)), 400);
    server.refuse(mode("sendToGroup").query("group", "g").query("noEcho", "maybe"), 400);
    // Validated for PubSub clients too, where it means nothing.
    server.refuse(Client::json().query("webpubsub_mode", "nonsense"), 400);
    server.connect(Client::json().sends_to("g"));
    server.open(mode("SENDTOGROUP").query("group", "g"));
    // Of repeated parameters the last one counts.
    let mut last = server.open(
        mode("nonsense").query("webpubsub_mode", "sendToGroup").query("group", "a").query("group", "g"),
    );
    let mut member = server.connect(Client::json().group("g"));
    last.send("x");
    member.expect_group_text("g", None, "x");
}
