//! The admin listener: metrics, probes, connections now and lately (`design` §2).

use ringhub_tests::{Client, Server, wait_until};
use serde_json::Value;

#[test]
fn probes_say_yes_and_the_page_is_a_page() {
    let server = Server::start();
    server.admin().http("GET", "/healthz").expect(200);
    server.admin().http("GET", "/readyz").expect(200);
    let page = server.admin().http("GET", "/").expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    assert!(page.text().contains("ringhub"));
    server.admin().http("GET", "/nothing").expect(404);
}

#[test]
fn metrics_count_connections_messages_and_closes() {
    let server = Server::on_cores(2);
    let text = server.admin().http("GET", "/metrics").expect(200);
    assert!(text.text().trim_end().ends_with("# EOF"), "OpenMetrics");
    let open = |server: &Server| server.metric("ringhub_connections");
    assert!(open(&server) == 0);
    let mut clients: Vec<_> = (0..5).map(|_| server.connect(Client::json().group("g").may_all())).collect();
    assert!(open(&server) == 5);
    clients[0].publish("g", "x");
    for client in &mut clients {
        client.expect_group_text("g", None, "x");
    }
    let counted = server.admin().http("GET", "/metrics").expect(200);
    for word in ["messages", "bytes", "closes"] {
        assert!(
            counted.text().contains(&format!("ringhub_{word}")),
            "nothing counts {word}: {}",
            counted.text()
        );
    }
    // Names of users, groups and connections are nobody's labels.
    assert!(!counted.text().contains(clients[0].id()));
    for client in clients {
        client.close(1000);
    }
    wait_until("all are gone", || open(&server) == 0);
}

#[test]
fn connections_and_closed_answer_why_was_my_client_disconnected() {
    let server = Server::on_cores(2);
    let alice = server.connect(Client::json().user("alice"));
    let mut bob = server.connect(Client::json().user("bob"));
    let (alice_id, bob_id) = (alice.id().to_owned(), bob.id().to_owned());
    let open = server.admin().http("GET", "/connections").expect(200);
    let _: Value = serde_json::from_str(open.text()).expect("JSON");
    assert!(
        open.text().contains(&alice_id) && open.text().contains("alice") && open.text().contains(&bob_id)
    );

    alice.close(1000);
    bob.send("this is not the subprotocol");
    bob.expect_disconnected(1007);
    let closed = || server.admin().http("GET", "/closed").expect(200).text().to_owned();
    wait_until("both are among the closed", || closed().contains(&alice_id) && closed().contains(&bob_id));
    let closed: Value = serde_json::from_str(&closed()).expect("JSON");
    let of = |id: &str| find(&closed, id).unwrap_or_else(|| panic!("{id} is not in {closed}")).to_string();
    assert!(of(&alice_id).contains("1000"));
    assert!(of(&bob_id).contains("1007") && of(&bob_id).contains("reason"));
    let open = server.admin().http("GET", "/connections").expect(200);
    assert!(!open.text().contains(&alice_id) && !open.text().contains(&bob_id));
}

/// The innermost object that holds that text as a value.
fn find<'a>(value: &'a Value, text: &str) -> Option<&'a Value> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| find(item, text)),
        Value::Object(fields) => {
            let here = fields.values().any(|field| field == text);
            fields.values().find_map(|field| find(field, text)).or_else(|| here.then_some(value))
        }
        _ => None,
    }
}
