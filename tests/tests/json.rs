//! `json.webpubsub.azure.v1`, byte for byte (`client-protocols` §3, §5).

use ringhub_tests::{Client, Connection, Server, json_object, masked_frame};
use serde_json::{Value, json};

const SEND: &str = "webpubsub.sendToGroup";

#[test]
fn connected_is_first_and_names_user_and_connection() {
    let server = Server::start();
    let alice = server.connect(Client::json().user("alice"));
    let bob = server.connect(Client::json().user("bob"));
    assert_eq!((alice.user(), bob.user()), (Some("alice"), Some("bob")));
    assert_ne!(alice.id(), bob.id());
    // The application's first request may be on its way before `connected` is read.
    let mut eager = server.open(Client::json().role("webpubsub.joinLeaveGroup"));
    eager.send(r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    assert_eq!(eager.expect_connected().1, None);
    eager.expect_ack(1);
}

#[test]
fn members_receive_until_they_leave() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().user("alice").may_all());
    let mut bob = server.connect(Client::json().user("bob").may_all());
    alice.join("g");
    alice.join("g");
    bob.publish_acked("g", "one");
    alice.expect_group_text("g", Some("bob"), "one");
    alice.leave("g");
    alice.leave("g");
    bob.publish_acked("g", "two");
    alice.expect_silence();
    bob.expect_silence();
}

#[test]
fn the_senders_echo_comes_before_the_ack_and_noecho_skips_only_the_sender() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().user("alice").group("g").role(SEND));
    let mut twin = server.connect(Client::json().user("alice").group("g"));
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":1,"dataType":"json","data":{"a":1}}"#);
    let echo = r#"{"type":"message","from":"group","group":"g","fromUserId":"alice","dataType":"json","data":{"a":1}}"#;
    alice.expect(echo);
    alice.expect_ack(1);
    twin.expect(echo);
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":2,"noEcho":true,"dataType":"text","data":"x"}"#);
    alice.expect_ack(2);
    twin.expect_group_text("g", Some("alice"), "x");
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":3,"noEcho":null,"dataType":"text","data":"y"}"#);
    alice.expect_group_text("g", Some("alice"), "y");
    alice.expect_ack(3);
}

#[test]
fn requests_are_answered_only_when_they_ask() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().role(SEND));
    for request in [
        r#"{"type":"joinGroup","group":"g"}"#,
        r#"{"type":"joinGroup","group":"g","ackId":null}"#,
        r#"{"type":"leaveGroup","group":"g"}"#,
        r#"{"type":"sendToGroup","group":"g","dataType":"text","data":"x"}"#,
        r#"{"type":"event","event":"e","dataType":"text","data":"x"}"#,
        r#"{"type":"cancelInvocation","invocationId":"1"}"#,
        r#"{"type":"sequenceAck","sequenceId":1}"#,
    ] {
        alice.send(request);
        alice.expect_silence();
    }
}

#[test]
fn a_missing_role_is_forbidden_and_changes_nothing() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().user("alice"));
    let mut bob = server.connect(Client::json().group("g").may_all());
    alice.send(r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    assert!(alice.expect_failed_ack(1, "Forbidden").contains("g"));
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":2,"dataType":"text","data":"x"}"#);
    alice.expect_failed_ack(2, "Forbidden");
    alice.send(r#"{"type":"leaveGroup","group":"g","ackId":3}"#);
    alice.expect_failed_ack(3, "Forbidden");
    alice.publish("g", "silently dropped");
    alice.expect_silence();
    bob.expect_silence();
    bob.publish_acked("g", "x");
    alice.expect_silence();
}

#[test]
fn an_ack_id_that_succeeded_is_a_duplicate_and_one_that_failed_is_not() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().group("g").role("webpubsub.sendToGroup.g"));
    let send = r#"{"type":"sendToGroup","group":"g","ackId":7,"dataType":"text","data":"once"}"#;
    alice.send(send);
    alice.expect_group_text("g", None, "once");
    alice.expect_ack(7);
    alice.send(send);
    alice.expect_failed_ack(7, "Duplicate");
    // Another kind of request shares the ids.
    alice.send(r#"{"type":"joinGroup","group":"g","ackId":7}"#);
    alice.expect_failed_ack(7, "Duplicate");
    for _ in 0..2 {
        alice.send(r#"{"type":"sendToGroup","group":"h","ackId":8,"dataType":"text","data":"x"}"#);
        alice.expect_failed_ack(8, "Forbidden");
    }
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":8,"noEcho":true,"dataType":"text","data":"x"}"#);
    alice.expect_ack(8);
}

#[test]
fn the_last_thousand_ack_ids_are_remembered_whatever_their_order() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().role(SEND));
    let send = |client: &mut Connection, id: u64| {
        client.send(&format!(
            r#"{{"type":"sendToGroup","group":"g","ackId":{id},"dataType":"text","data":""}}"#
        ));
    };
    let ids = (0..1001_u64).map(|n| if n == 0 { u64::MAX } else { n * 7 % 1009 });
    let ids: Vec<_> = ids.collect();
    for &id in &ids {
        send(&mut alice, id);
        alice.expect_ack(id);
    }
    send(&mut alice, ids[1]);
    alice.expect_failed_ack(ids[1], "Duplicate");
    send(&mut alice, ids[1000]);
    alice.expect_failed_ack(ids[1000], "Duplicate");
    // The first of 1,001 is forgotten.
    send(&mut alice, u64::MAX);
    alice.expect_ack(u64::MAX);
}

#[test]
fn an_event_nobody_handles_fails_when_an_ack_is_asked_for() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    alice.send(r#"{"type":"event","event":"vote","ackId":5,"dataType":"text","data":"yes"}"#);
    alice.expect_failed_ack(5, "InternalServerError");
    alice.send(r#"{"type":"event","event":"vote","ackId":5,"dataType":"text","data":"yes"}"#);
    alice.expect_failed_ack(5, "InternalServerError");
}

#[test]
fn what_is_not_built_is_refused_in_the_form_clients_wait_for() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().may_all());
    let mut expect_head = |request: &str, head: &str| {
        alice.send(request);
        let answer = alice.next_text();
        assert!(answer.starts_with(head), "{request}: expected {head}…, got {answer}");
        assert!(answer.contains(r#","message":""#), "{answer}");
    };
    expect_head(
        r#"{"type":"invoke","invocationId":"a\"1","target":"event","event":"ask","dataType":"json","data":{"q":1}}"#,
        r#"{"type":"invokeResponse","invocationId":"a\"1","success":false,"error":{"name":"NotFound","message":""#,
    );
    expect_head(
        r#"{"type":"sendToGroup","group":"g","noEcho":false,"stream":{"streamId":"s-1","idleTimeoutMs":1000}}"#,
        r#"{"type":"streamClosed","streamId":"s-1","error":{"name":""#,
    );
    expect_head(
        r#"{"type":"streamData","streamId":"s-2","streamSequenceId":1,"dataType":"text","data":"part"}"#,
        r#"{"type":"streamClosed","streamId":"s-2","error":{"name":""#,
    );
    expect_head(
        r#"{"type":"setGroupState","group":"g","ackId":1,"state":{"status":"typing"}}"#,
        r#"{"type":"ack","ackId":1,"success":false,"error":{"name":""#,
    );
    alice.expect_silence();
}

/// A stream is closed whoever ends it; group state is answered by an ack, and only to those who ask for one (§3.7,
/// §3.8).
#[test]
fn the_rest_of_streams_and_group_state_is_refused_too() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().may_all());
    let mut watcher = server.connect(Client::json().group("g"));
    for end in [
        r#"{"type":"streamEnd","streamId":"s \"1\""}"#,
        r#"{"type":"streamEnd","streamId":"s \"1\"","error":{"message":"why","userErrorCode":"E1"}}"#,
        r#"{"type":"streamData","streamId":"s \"1\""}"#,
    ] {
        alice.send(end);
        let answer = Value::Object(json_object(&alice.next_text()));
        let stream = (&answer["type"], &answer["streamId"]);
        assert_eq!(stream, (&json!("streamClosed"), &json!("s \"1\"")), "{answer}");
        let error = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        assert!(["StreamNotFound", "BadRequest"].contains(&error("name").as_str()), "{answer}");
        assert!(!error("message").is_empty(), "{answer}");
        alice.expect_silence();
    }
    for (kind, more) in [
        ("setGroupState", r#","state":{"status":"typing"}"#),
        ("setGroupState", ""),
        ("subscribeGroupState", ""),
        ("unsubscribeGroupState", ""),
    ] {
        // What has failed may be tried again under its number.
        for _ in 0..2 {
            alice.send(&format!(r#"{{"type":"{kind}","group":"g","ackId":7{more}}}"#));
            alice.expect_failed_ack(7, "BadRequest");
        }
        alice.send(&format!(r#"{{"type":"{kind}","group":"g"{more}}}"#));
        alice.expect_silence();
    }
    // Nobody was told of any of it, and the connection is as good as before.
    watcher.expect_silence();
    alice.publish_acked("g", "x");
    watcher.expect_group_text("g", None, "x");
}

#[test]
fn ping_is_answered_with_pong_in_both_layers() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    alice.send(r#"{"type":"ping"}"#);
    alice.expect(r#"{"type":"pong"}"#);

    let mut socket = server.raw();
    socket.write(Client::json().request(&server));
    assert_eq!(socket.read_response().status, 101);
    socket.read_frame();
    socket.write(masked_frame(0x89, b"payload"));
    let pong = socket.read_frame();
    assert_eq!((pong.first_byte, pong.payload.as_slice()), (0x8a, b"payload".as_slice()));
}

#[test]
fn names_are_matched_without_case_and_keys_in_any_order() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().group("g").role(SEND));
    for request in [
        r#"{"data":"x","ackId":1,"group":"g","dataType":"Text","noEcho":true,"TYPE":1,"type":"SENDTOGROUP"}"#,
        " { \"type\" : \"sendToGroup\" , \"group\" : \"g\" ,\n\t\"ackId\" : 1 , \"noEcho\" : true , \"data\" : 1 } ",
    ] {
        let mut client = server.connect(Client::json().group("g").role(SEND));
        client.send(request);
        client.expect_ack(1);
    }
    alice.expect_group_text("g", None, "x");
    alice.expect(
        r#"{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"json","data":1}"#,
    );
}

/// The token text of `data` is kept as it came (§3.1).
#[test]
fn json_data_is_not_reprinted() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().group("g").role(SEND));
    for data in [
        r#"{"b":1.0,"a":1e400,"b":[ ]}"#,
        "[1 ,\t2]",
        "12345678901234567890123456789.50",
        r#""\u00e4\/""#,
        "false",
        r#"{"":{"":{}}}"#,
    ] {
        alice.send(&format!(r#"{{"type":"sendToGroup","group":"g","dataType":"json","data":{data}}}"#));
        alice.expect(&format!(
            r#"{{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"json","data":{data}}}"#
        ));
    }
}

#[test]
fn a_binary_frame_may_hold_the_json() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    alice.send_binary(br#"{"type":"ping"}"#);
    alice.expect(r#"{"type":"pong"}"#);
}

#[test]
fn what_breaks_the_subprotocol_ends_the_connection_with_1007() {
    let server = Server::start();
    let mut bystander = server.connect(Client::json().group("g"));
    for bad in [
        "",
        "x",
        "[]",
        "1",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"unheardOf"}"#,
        r#"{"type":"ping"} x"#,
        r#"{"type":"joinGroup"}"#,
        r#"{"type":"joinGroup","group":""}"#,
        r#"{"type":"joinGroup","group":" "}"#,
        r#"{"type":"joinGroup","group":1}"#,
        r#"{"type":"joinGroup","group":"g","ackId":"1"}"#,
        r#"{"type":"joinGroup","group":"g","ackId":-1}"#,
        r#"{"type":"joinGroup","group":"g","ackId":1.5}"#,
        r#"{"type":"joinGroup","group":"g","ackId":18446744073709551616}"#,
        r#"{"type":"sendToGroup","group":"g"}"#,
        r#"{"type":"sendToGroup","group":"g","data":null}"#,
        r#"{"type":"sendToGroup","group":"g","dataType":"text","data":1}"#,
        r#"{"type":"sendToGroup","group":"g","dataType":"binary","data":"*"}"#,
        r#"{"type":"sendToGroup","group":"g","dataType":"binary","data":1}"#,
        r#"{"type":"sendToGroup","group":"g","dataType":"yaml","data":"x"}"#,
        r#"{"type":"sendToGroup","group":"g","noEcho":"yes","data":1}"#,
        r#"{"type":"event","data":1}"#,
        r#"{"type":"event","event":"1","data":1}"#,
        r#"{"type":"event","event":"e"}"#,
        r#"{"type":"sequenceAck"}"#,
        r#"{"type":"sequenceAck","sequenceId":-1}"#,
        &format!(r#"{{"type":"joinGroup","group":"{}"}}"#, "x".repeat(1025)),
        &format!(
            r#"{{"type":"sendToGroup","group":"g","data":{}1{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
    ] {
        println!("{}", &bad[..bad.len().min(100)]);
        let mut client = server.connect(Client::json().may_all());
        client.send(bad);
        let reason = client.expect_disconnected(1007);
        assert!(!reason.is_empty(), "a reason that helps");
    }
    bystander.expect_silence();
}

#[test]
fn hubs_are_worlds_apart() {
    let server = Server::start();
    let mut here = server.connect(Client::json().hub("here").user("u").group("g").role(SEND));
    let mut there = server.connect(Client::json().hub("there").user("u").group("g").role(SEND));
    here.publish_acked("g", "x");
    there.expect_silence();
    server.rest("POST", "/api/hubs/here/users/u/:send").text("y").expect(202);
    here.expect_server_text("y");
    there.expect_silence();
    server.rest("POST", &format!("/api/hubs/here/connections/{}/:send", there.id())).text("z").expect(202);
    there.expect_silence();
}

#[test]
fn one_publishers_messages_keep_their_order_across_groups() {
    let server = Server::start();
    let mut sender = server.connect(Client::json().role(SEND));
    let mut both = server.connect(Client::json().group("a").group("b"));
    let mut one = server.connect(Client::json().group("a"));
    for n in 0..300 {
        sender.publish(if n % 3 == 0 { "b" } else { "a" }, &n.to_string());
    }
    for n in 0..300 {
        let group = if n % 3 == 0 { "b" } else { "a" };
        both.expect_group_text(group, None, &n.to_string());
        if group == "a" {
            one.expect_group_text(group, None, &n.to_string());
        }
    }
    one.expect_silence();
}

#[test]
fn close_is_echoed_with_its_code() {
    let server = Server::start();
    for code in [1000, 1001, 3000, 4999] {
        server.connect(Client::json()).close(code);
    }
    server.connect(Client::json()).close_without_code();
}

#[test]
fn messages_may_come_in_fragments_with_control_frames_in_between() {
    let server = Server::start();
    let mut socket = server.raw();
    socket.write(Client::json().request(&server));
    assert_eq!(socket.read_response().status, 101);
    socket.read_frame();
    let mut bytes = masked_frame(0x01, br#"{"type":"#);
    bytes.extend(masked_frame(0x89, b"1"));
    bytes.extend(masked_frame(0x00, b""));
    bytes.extend(masked_frame(0x80, br#""ping"}"#));
    socket.write(bytes);
    assert_eq!(socket.read_frame().first_byte, 0x8a);
    assert_eq!(socket.read_frame().text(), r#"{"type":"pong"}"#);
}
