//! Metadata given in headers travels with a message to clients whose protocol has a place for it (`rest-api` §1.4).

use ringhub_tests::{Client, Request, Server};

fn send(server: &Server, path: &str, headers: &[(&str, &str)]) -> Request {
    let call = server.rest("POST", &format!("/api/hubs/chat/{path}"));
    headers.iter().fold(call, |call, (name, value)| call.header(name, value))
}

/// Right after the data, before a reliable message's number; a raw client has no place for it.
#[test]
fn metadata_reaches_json_clients_and_not_raw_ones() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let mut json = server.connect(Client::json().user("u").group("g"));
        let mut reliable = server.connect(Client::reliable().user("u").group("g"));
        let mut raw = server.open(Client::raw().user("u").group("g"));
        let headers = [("X-WebPubSub-Metadata-Trace-Id", "a b \"c\""), ("x-webpubsub-metadata-n", "1")];
        let metadata = r#""metadata":{"trace-id":"a b \"c\"","n":"1"}"#;
        let mut number = 0;
        for path in [":send", "users/u/:send", "groups/g/:send"] {
            let from = match path {
                "groups/g/:send" => r#""from":"group","group":"g","fromUserId":null"#,
                _ => r#""from":"server""#,
            };
            for (content_type, body, data) in [
                ("text/plain", "x", r#""dataType":"text","data":"x""#),
                ("application/json", "[1]", r#""dataType":"json","data":[1]"#),
                ("text/plain", "", r#""dataType":"text","data":"""#),
            ] {
                number += 1;
                send(&server, path, &headers).body(content_type, body).expect(202);
                json.expect(&format!(r#"{{"type":"message",{from},{data},{metadata}}}"#));
                reliable.expect(&format!(
                    r#"{{"type":"message",{from},{data},{metadata},"sequenceId":{number}}}"#
                ));
                raw.expect(body);
            }
        }
        let path = format!("connections/{}/:send", json.id());
        send(&server, &path, &headers).text("x").expect(202);
        json.expect(&format!(
            r#"{{"type":"message","from":"server","dataType":"text","data":"x",{metadata}}}"#
        ));
    }
}

/// Names in lower case; of a repeated one the last header, of a value with commas what follows the last.
#[test]
fn the_last_value_counts() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    for (headers, expected) in [
        (&[("X-WebPubSub-Metadata-A", "1"), ("x-webpubsub-metadata-a", "2")][..], r#"{"a":"2"}"#),
        (&[("X-WebPubSub-Metadata-A", "1, 2 ,  3 ")], r#"{"a":"3"}"#),
        (&[("X-WebPubSub-Metadata-A", "")], r#"{"a":""}"#),
        (&[("X-WEBPUBSUB-METADATA-B", "1"), ("X-WebPubSub-Metadata-A", "2")], r#"{"b":"1","a":"2"}"#),
        (&[("X-WebPubSub-Metadata-a.b_c~", "!")], r#"{"a.b_c~":"!"}"#),
    ] {
        send(&server, ":send", headers).text("x").expect(202);
        alice.expect(&format!(
            r#"{{"type":"message","from":"server","dataType":"text","data":"x","metadata":{expected}}}"#
        ));
    }
    send(&server, ":send", &[("X-WebPubSub-Metadat-A", "1"), ("Metadata-A", "1")]).text("x").expect(202);
    alice.expect_server_text("x");
}

#[test]
fn metadata_over_its_bounds_is_refused() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let prefix = "X-WebPubSub-Metadata-";
    let (most, over) = ("v".repeat(1024), "v".repeat(1025));
    let name = |len| format!("{prefix}{}", "n".repeat(len));
    let many: Vec<_> = (0..9).map(|n| (format!("{prefix}{n}"), most.clone())).collect();
    let refused: [&[(String, String)]; 5] = [
        &[(prefix.to_owned(), "1".to_owned())],
        &[(name(1), over)],
        &[(name(257), "1".to_owned())],
        &[(name(1), "ä".to_owned())],
        &many,
    ];
    for headers in refused {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for path in [":send", "groups/g/:send", "users/u/:send", "connections/c/:send"] {
            let response = send(&server, path, &headers).text("x").expect(400);
            response.expect_error("Error.BadRequest");
            assert_eq!(response.object()["target"], "X-WebPubSub-Metadata");
        }
    }
    alice.expect_silence();
    send(&server, ":send", &[(name(256).as_str(), most.as_str())]).text("x").expect(202);
    assert!(alice.next_text().contains(&most));
    // Calls that send nothing have no use for it.
    server.rest("HEAD", "/api/hubs/chat/users/u").header(prefix, "1").expect(404);
}
