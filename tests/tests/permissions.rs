//! Permissions granted and revoked while clients are connected (`rest-api` §2.4), as the clients feel them.

use ringhub_tests::{Client, Connection, Request, Server};

#[derive(Clone, Copy)]
enum Act {
    Join,
    Send,
}

impl Act {
    fn permission(self) -> &'static str {
        match self {
            Self::Join => "joinLeaveGroup",
            Self::Send => "sendToGroup",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Join => "webpubsub.joinLeaveGroup",
            Self::Send => "webpubsub.sendToGroup",
        }
    }
}

/// A client, and what the service says it may do.
struct Judged<'a> {
    server: &'a Server,
    client: Connection,
    act: Act,
    next_ack_id: u64,
}

impl<'a> Judged<'a> {
    fn new(server: &'a Server, client: Client, act: Act) -> Self {
        Self { server, client: server.connect(client), act, next_ack_id: 0 }
    }

    fn call(&self, method: &str, group: Option<&str>) -> Request {
        let path =
            format!("/api/hubs/chat/permissions/{}/connections/{}", self.act.permission(), self.client.id());
        let call = self.server.rest(method, &path);
        group.into_iter().fold(call, |call, group| call.query("targetName", group))
    }

    fn grant(&self, group: Option<&str>) {
        self.call("PUT", group).expect(200).expect_empty();
    }

    fn revoke(&self, group: Option<&str>) {
        self.call("DELETE", group).expect(204).expect_empty();
    }

    /// The service and the client must agree.
    #[track_caller]
    fn expect(&mut self, group: &str, allowed: bool) {
        self.call("HEAD", Some(group)).expect(if allowed { 200 } else { 404 });
        self.next_ack_id += 1;
        let (id, name) = (self.next_ack_id, serde_json::json!(group));
        self.client.send(&match self.act {
            Act::Join => format!(r#"{{"type":"joinGroup","group":{name},"ackId":{id}}}"#),
            Act::Send => format!(
                r#"{{"type":"sendToGroup","group":{name},"ackId":{id},"noEcho":true,"dataType":"text","data":"x"}}"#
            ),
        });
        if allowed {
            self.client.expect_ack(id);
        } else {
            self.client.expect_failed_ack(id, "Forbidden");
        }
    }

    #[track_caller]
    fn expect_all(&self, allowed: bool) {
        self.call("HEAD", None).expect(if allowed { 200 } else { 404 });
    }
}

fn everywhere(test: impl Fn(&Server, fn() -> Client, Act)) {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        for act in [Act::Join, Act::Send] {
            // On two cores the call and the connection meet on the same core about half the time.
            for kind in [Client::json, Client::reliable, Client::json, Client::json] {
                test(&server, kind, act);
            }
        }
    }
}

#[test]
fn a_grant_for_one_group_is_for_that_group() {
    everywhere(|server, kind, act| {
        let mut judged = Judged::new(server, kind(), act);
        judged.expect("g", false);
        judged.expect_all(false);
        judged.grant(Some("g"));
        judged.grant(Some("g"));
        judged.expect("g", true);
        for other in ["G", "g2", "h"] {
            judged.expect(other, false);
        }
        judged.expect_all(false);
        judged.revoke(Some("g"));
        judged.revoke(Some("g"));
        judged.expect("g", false);
    });
}

/// A star or a question mark is itself: patterns come with tokens only.
#[test]
fn the_names_of_a_grant_are_literal() {
    let server = Server::start();
    let mut judged = Judged::new(&server, Client::json(), Act::Send);
    for name in ["*", "**", "a?", "a/b", "50%", "it's", "ünï 🎈", "a.b"] {
        judged.expect(name, false);
        judged.grant(Some(name));
        judged.expect(name, true);
    }
    judged.expect("a1", false);
    judged.expect("anything", false);
    judged.expect_all(false);
}

#[test]
fn a_grant_without_a_group_is_for_all_and_takes_back_what_was_forbidden() {
    everywhere(|server, kind, act| {
        let mut judged = Judged::new(server, kind(), act);
        judged.revoke(Some("g"));
        judged.grant(None);
        judged.expect_all(true);
        judged.expect("g", true);
        judged.expect("h", true);
        // One group is forbidden, the rest is not.
        judged.revoke(Some("g"));
        judged.expect("g", false);
        judged.expect("h", true);
        judged.expect_all(true);
        judged.grant(Some("g"));
        judged.expect("g", true);
        judged.revoke(Some("g"));
        judged.grant(None);
        judged.expect("g", true);
        judged.grant(Some("h"));
        judged.revoke(None);
        judged.expect_all(false);
        judged.expect("g", false);
        judged.expect("h", false);
    });
}

#[test]
fn the_roles_of_a_token_are_where_rules_begin() {
    everywhere(|server, kind, act| {
        let mut all = Judged::new(server, kind().role(act.role()), act);
        all.expect_all(true);
        all.revoke(Some("g"));
        all.expect("g", false);
        all.expect("h", true);

        let mut pattern = Judged::new(server, kind().role(&format!("{}s.chat-*", act.role())), act);
        pattern.expect("chat-1", true);
        pattern.expect("chat.1", false);
        pattern.expect_all(false);
        pattern.revoke(Some("chat-1"));
        pattern.expect("chat-1", false);
        pattern.expect("chat-2", true);
        pattern.grant(Some("chat-1"));
        pattern.expect("chat-1", true);
        pattern.revoke(None);
        pattern.expect("chat-2", false);

        let mut literal = Judged::new(server, kind().role(&format!("{}.a.b", act.role())), act);
        literal.expect("a.b", true);
        literal.revoke(Some("a.b"));
        literal.expect("a.b", false);
    });
}

#[test]
fn joining_and_sending_are_apart() {
    let server = Server::start();
    let mut judged = Judged::new(&server, Client::json(), Act::Join);
    judged.grant(None);
    judged.expect("g", true);
    judged.act = Act::Send;
    judged.expect("g", false);
    judged.grant(Some("h"));
    judged.act = Act::Join;
    judged.revoke(None);
    judged.act = Act::Send;
    judged.expect("h", true);
}

/// Only the change of membership is forbidden from then on, leaving included.
#[test]
fn a_revoked_member_stays_a_member() {
    let server = Server::on_cores(2);
    let mut judged = Judged::new(&server, Client::json().may_all(), Act::Join);
    judged.expect("g", true);
    judged.revoke(None);
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("still here").expect(202);
    judged.client.expect_group_text("g", None, "still here");
    judged.client.send(r#"{"type":"leaveGroup","group":"g","ackId":99}"#);
    judged.client.expect_failed_ack(99, "Forbidden");
    server.rest("HEAD", "/api/hubs/chat/groups/g").expect(200);
}

/// A raw client has no ack to be told with (`client-protocols` §1.6).
#[test]
fn a_raw_client_that_may_no_longer_send_is_closed() {
    let server = Server::on_cores(2);
    let mut raw = server.open(Client::raw().sends_to("g").group("g").role("webpubsub.sendToGroup.g"));
    raw.send("x");
    raw.expect("x");
    let members = server.rest("GET", "/api/hubs/chat/groups/g/connections").expect(200).object();
    let id = members["value"][0]["connectionId"].as_str().unwrap();
    let path = format!("/api/hubs/chat/permissions/sendToGroup/connections/{id}");
    server.rest("DELETE", &path).query("targetName", "g").expect(204);
    raw.send("y");
    raw.expect_close(1008);
}

/// Rules belong to the session, so they change while it has no socket and outlast a recovery.
#[test]
fn rules_of_a_detached_session_change_and_stay() {
    let server = Server::on_cores(2);
    let client = server.connect(Client::reliable().role("webpubsub.sendToGroup.old"));
    let (id, token) = (client.id().to_owned(), client.token().to_owned());
    client.cut();
    let path = format!("/api/hubs/chat/permissions/sendToGroup/connections/{id}");
    server.rest("PUT", &path).query("targetName", "new").expect(200);
    server.rest("DELETE", &path).query("targetName", "old").expect(204);
    let mut back = server.open(Client::reliable().recover(&id, &token));
    back.expect_connected();
    back.publish_acked("new", "x");
    back.send(r#"{"type":"sendToGroup","group":"old","ackId":1,"dataType":"text","data":"x"}"#);
    back.expect_failed_ack(1, "Forbidden");
}

/// 1,000 rules for single groups; what changes nothing takes no place, what is taken back makes room.
#[test]
fn more_than_a_thousand_rules_are_a_conflict() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let mut judged = Judged::new(&server, Client::json(), Act::Send);
        let mut socket = server.raw();
        for n in 0..1000 {
            judged.call("PUT", Some(&format!("g{n}"))).expect_on(&mut socket, 200);
        }
        let response = judged.call("PUT", Some("one more")).expect(409);
        response.expect_error("Error.Conflict");
        judged.expect("one more", false);
        judged.grant(Some("g999"));
        judged.revoke(Some("never allowed"));
        judged.revoke(Some("g0"));
        judged.grant(Some("one more"));
        judged.expect("one more", true);
        judged.call("PUT", Some("g0")).expect(409);
        // The other permission counts for itself.
        judged.act = Act::Join;
        judged.grant(Some("one more"));
        judged.act = Act::Send;
        // Against all groups the same number may be forbidden.
        judged.grant(None);
        for n in 0..1000 {
            judged.call("DELETE", Some(&format!("g{n}"))).expect_on(&mut socket, 204);
        }
        judged.call("DELETE", Some("one more")).expect(409).expect_error("Error.Conflict");
        judged.expect("one more", true);
        judged.expect("g0", false);
        judged.revoke(None);
        judged.grant(Some("one more"));
    }
}

#[test]
fn a_connection_that_is_not_there_can_be_granted_nothing() {
    let server = Server::on_cores(2);
    let alice = server.connect(Client::json());
    let gone = alice.id().to_owned();
    alice.close(1000);
    ringhub_tests::wait_until("it is gone", || {
        server.rest("HEAD", &format!("/api/hubs/chat/connections/{gone}")).send().status == 404
    });
    for id in ["unknown", "%C3%BC%2F", gone.as_str()] {
        for permission in ["joinLeaveGroup", "sendToGroup"] {
            let path = format!("/api/hubs/chat/permissions/{permission}/connections/{id}");
            for group in [Some("g"), None] {
                let call = |method: &str| {
                    let call = server.rest(method, &path);
                    group.into_iter().fold(call, |call, group| call.query("targetName", group))
                };
                call("PUT").expect(404).expect_error("Error.NotFound");
                call("DELETE").expect(204).expect_empty();
                call("HEAD").expect(404);
            }
        }
    }
    let bob = server.connect(Client::json());
    let elsewhere = format!("/api/hubs/other/permissions/sendToGroup/connections/{}", bob.id());
    server.rest("PUT", &elsewhere).expect(404).expect_error("Error.NotFound");
}
