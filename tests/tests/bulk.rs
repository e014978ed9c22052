//! Many connections into groups and out of them in one call (`rest-api` §2.3). Who a filter means is in `filters.rs`.

use ringhub_tests::{Client, Server};
use serde_json::{Value, json};

fn change(server: &Server, way: &str, body: &Value) {
    server.rest("POST", &format!("/api/hubs/chat/{way}")).json(&body.to_string()).expect(200).expect_empty();
}

fn exists(server: &Server, group: &str) -> bool {
    server.rest("HEAD", &format!("/api/hubs/chat/groups/{group}")).send().status == 200
}

#[test]
fn without_a_filter_it_is_every_connection_of_the_hub() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let mut here = [server.connect(Client::json()), server.connect(Client::json().user("u"))];
        let mut raw = server.open(Client::raw());
        let mut elsewhere = server.connect(Client::json().hub("other"));
        for filter in [json!(null), json!(""), json!(" ")] {
            change(&server, ":addToGroups", &json!({ "groups": ["g", "h"], "filter": filter }));
            for group in ["g", "h"] {
                server.rest("POST", &format!("/api/hubs/chat/groups/{group}/:send")).text("x").expect(202);
                for one in &mut here {
                    one.expect_group_text(group, None, "x");
                }
                raw.expect("x");
            }
            change(&server, ":removeFromGroups", &json!({ "groups": ["g", "h", "unknown"] }));
            assert!(!exists(&server, "g") && !exists(&server, "h"));
        }
        elsewhere.expect_silence();
        assert_eq!(server.rest("HEAD", "/api/hubs/other/groups/g").send().status, 404);
    }
}

#[test]
fn nobody_to_change_is_done_already() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        for way in [":addToGroups", ":removeFromGroups"] {
            change(&server, way, &json!({ "groups": ["g"] }));
            change(&server, way, &json!({ "groups": ["g"], "filter": "connectionId eq 'unknown'" }));
        }
        assert!(!exists(&server, "g"), "a group without members is none");
        // Later connections are not meant.
        let mut late = server.connect(Client::json());
        assert!(!exists(&server, "g"));
        late.expect_silence();
    }
}

/// A repeated name counts once; there is no cap on how many there are.
#[test]
fn many_groups_fit_one_call() {
    let server = Server::on_cores(2);
    let one = server.connect(Client::json().user("u"));
    let two = server.connect(Client::json().user("u"));
    let mut groups: Vec<_> = (0..2000).map(|n| format!("g/{n}")).collect();
    groups.extend_from_within(..10);
    change(&server, ":addToGroups", &json!({ "groups": groups, "filter": "userId eq 'u'" }));
    for n in [0, 5, 1999] {
        let list = server.rest("GET", &format!("/api/hubs/chat/groups/g%2F{n}/connections")).expect(200);
        assert_eq!(list.object()["value"].as_array().map(Vec::len), Some(2));
    }
    let only_one = format!("connectionId eq '{}'", one.id());
    change(&server, ":removeFromGroups", &json!({ "groups": groups, "filter": only_one }));
    let list = server.rest("GET", "/api/hubs/chat/groups/g%2F1999/connections").expect(200).object();
    assert_eq!(list["value"], json!([{ "connectionId": two.id(), "userId": "u" }]));
}

/// What is sent after the answer finds the group as it was answered, from whichever core.
#[test]
fn a_change_is_seen_by_the_next_call() {
    let server = Server::on_cores(2);
    let mut crowd: Vec<_> = (0..8).map(|_| server.connect(Client::json().user("u"))).collect();
    for n in 0..20 {
        let group = format!("g{n}");
        change(&server, ":addToGroups", &json!({ "groups": [group], "filter": "userId eq 'u'" }));
        server.rest("POST", &format!("/api/hubs/chat/groups/{group}/:send")).text("in").expect(202);
        change(&server, ":removeFromGroups", &json!({ "groups": [group] }));
        server.rest("POST", &format!("/api/hubs/chat/groups/{group}/:send")).text("out").expect(202);
        for one in &mut crowd {
            one.expect_group_text(&group, None, "in");
        }
    }
    for one in &mut crowd {
        one.expect_silence();
    }
}

#[test]
fn detached_sessions_are_changed_too() {
    let server = Server::on_cores(2);
    let away = server.connect(Client::reliable().user("away"));
    let (id, token) = (away.id().to_owned(), away.token().to_owned());
    away.cut();
    change(&server, ":addToGroups", &json!({ "groups": ["g"], "filter": format!("connectionId eq '{id}'") }));
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("while away").expect(202);
    let mut back = server.open(Client::reliable().recover(&id, &token));
    back.expect_connected();
    back.expect(
        r#"{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"text","data":"while away","sequenceId":1}"#,
    );
}

/// Everything is checked before anything is changed.
#[test]
fn one_bad_part_changes_nothing() {
    let server = Server::on_cores(2);
    let _alice = server.connect(Client::json());
    let long = "x".repeat(1025);
    for (body, target) in [
        (json!({ "groups": [] }), Some("groups")),
        (json!({ "groups": null }), Some("groups")),
        (json!({}), Some("groups")),
        (json!({ "groups": ["g", ""] }), Some("groups")),
        (json!({ "groups": ["g", " \t"] }), Some("groups")),
        (json!({ "groups": ["g", long] }), Some("groups")),
        (json!({ "groups": ["g"], "filter": "userId" }), Some("filter")),
        (json!({ "groups": ["g"], "filter": 1 }), None),
        (json!({ "groups": ["g"], "filter": ["true"] }), None),
        (json!({ "groups": ["g", 1] }), None),
        (json!({ "groups": "g" }), None),
        (json!(["g"]), None),
        (json!("g"), None),
        (json!(null), None),
    ] {
        for way in [":addToGroups", ":removeFromGroups"] {
            let call = server.rest("POST", &format!("/api/hubs/chat/{way}")).json(&body.to_string());
            let response = call.expect(400);
            response.expect_error("Error.BadRequest");
            assert_eq!(response.object().get("target").and_then(Value::as_str), target, "{body}");
        }
    }
    assert!(!exists(&server, "g"));
}

#[test]
fn only_json_is_read() {
    let server = Server::start();
    let _alice = server.connect(Client::json());
    let body = r#"{"groups":["g"]}"#;
    for way in [":addToGroups", ":removeFromGroups"] {
        let call = || server.rest("POST", &format!("/api/hubs/chat/{way}"));
        for content_type in
            ["text/plain", "application/octet-stream", "text/json", "application/jsonx", "*/*", ""]
        {
            call().body(content_type, body).expect(415).expect_error("Error.UnsupportedMediaType");
        }
        call().untyped_body(body).expect(415).expect_error("Error.UnsupportedMediaType");
        call().expect(415).expect_error("Error.UnsupportedMediaType");
        for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
            call().body(content_type, body).expect(200).expect_empty();
        }
        for broken in ["", "{", r#"{"groups":["g"]"#, r#"{"groups":["g"]} x"#, "\u{feff}{}"] {
            call().json(broken).expect(400).expect_error("Error.BadRequest");
        }
        call().body("application/json", *b"{\"groups\":[\"\xff\"]}").expect(400);
        let large = json!({ "groups": ["g"], "filter": "x".repeat(1 << 20) }).to_string();
        call().json(&large).expect(400).expect_error("Error.BadRequest");
    }
}
