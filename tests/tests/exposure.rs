//! What can be learnt without credentials, and from which port (`reliability` checks 71 and 72).

use std::collections::BTreeSet;

use ringhub_tests::{Client, Endpoint, Process, Server, ringhub};

/// Everything the admin listener has, and what others have there.
const ADMIN: [&str; 13] = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/stats",
    "/upstreams",
    "/connections",
    "/closed",
    "/token",
    "/drain",
    "/index.html",
    "/",
    "/debug/pprof/",
    "/admin",
];

#[test]
fn the_two_listeners_do_not_serve_each_others_paths() {
    let server = Server::start();
    for path in ADMIN {
        for method in ["GET", "POST", "HEAD", "PUT", "DELETE"] {
            server.http(method, path).expect(404);
            server.rest(method, path).expect(404);
        }
    }
    let client = Client::json().request(&server);
    let admin = Endpoint { key: server.key.clone(), ..server.admin().clone() };
    for (method, path) in [
        ("POST", "/api/hubs/chat/:send"),
        ("POST", "/api/hubs/chat/:generateToken"),
        ("HEAD", "/api/hubs/chat/users/u"),
        ("GET", "/api/health"),
        ("GET", "/client/hubs/chat"),
    ] {
        admin.rest(method, path).text("x").expect(404);
    }
    let mut socket = admin.raw();
    socket.write(client);
    assert_eq!(socket.read_response().status, 400, "no client comes in there");
}

/// Two things are done there, by POST and never for another site's page: a token is made, and a drain begins.
#[test]
fn nobody_changes_anything_over_the_admin_listener() {
    let server = Server::start();
    for path in ADMIN.iter().filter(|path| !["/token", "/drain", "/debug/pprof/", "/admin"].contains(path)) {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            server.admin().http(method, path).expect(405);
        }
    }
    for path in ["/token?hub=chat", "/drain"] {
        let post = || server.admin().http("POST", path);
        for origin in ["https://evil.example", "null", "http://127.0.0.1", "http://localhost:1"] {
            post().header("Origin", origin).expect(403);
        }
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
            server.admin().http(method, path).expect(405);
        }
    }
    // Nothing of that began a drain.
    server.admin().http("GET", "/readyz").expect(200);
    server.connect(Client::json()).close(1000);
    server.admin().http("POST", "/token?hub=chat").expect(200);
    server.admin().http("POST", "/drain").expect(202);
}

#[test]
fn it_is_on_loopback_unless_told_otherwise() {
    let mut check = Process::spawn(&mut ringhub(["check"]));
    assert!(check.wait().success());
    let log = check.log();
    assert!(log.contains("admin_listen = \"127.0.0.1:8081\""), "{log}");
}

/// Who has no token learns nothing by asking, not even by what is in the answer.
#[test]
fn without_a_token_what_is_there_and_what_is_not_are_alike() {
    let server = Server::on_cores(2);
    let client = server.connect(Client::json().user("here").group("g"));
    let anonymous = |method: &str, path: &str| {
        let answer = server.rest(method, path).no_token().expect(401);
        let headers =
            answer.headers.into_iter().filter(|(name, _)| name != "date" && name != "x-ms-request-id");
        (headers.collect::<Vec<_>>(), answer.body)
    };
    for (method, there, not_there) in [
        ("HEAD", "users/here".to_owned(), "users/gone"),
        ("HEAD", "groups/g".into(), "groups/none"),
        ("HEAD", format!("connections/{}", client.id()), "connections/none"),
        ("DELETE", format!("connections/{}", client.id()), "connections/none"),
        ("GET", "groups/g/connections".into(), "groups/none/connections"),
        ("POST", "users/here/:send".into(), "users/gone/:send"),
        (
            "HEAD",
            format!("permissions/sendToGroup/connections/{}", client.id()),
            "permissions/x/connections/none",
        ),
        ("GET", ":nothing".into(), "no/such/path"),
    ] {
        let hub = |rest: &str| anonymous(method, &format!("/api/hubs/chat/{rest}"));
        assert_eq!(hub(&there), hub(not_there), "{method} {there}");
    }
    assert_eq!(
        anonymous("HEAD", "/api/hubs/chat/users/here"),
        anonymous("HEAD", "/api/hubs/other/users/here")
    );
    // A client's door neither.
    let at = |hub: &str| server.refuse(Client::json().hub(hub).no_token(), 401).body;
    assert_eq!(at("chat"), at("other"));
}

/// Samples of the metrics page without their values.
fn series(server: &Server) -> BTreeSet<String> {
    let page = server.admin().http("GET", "/metrics").expect(200);
    let samples = page.text().lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

/// What a prober makes by asking are hubs, and those have a bound (`limits.hubs_max`).
#[test]
fn no_name_that_clients_choose_is_a_label_and_labels_have_a_bound() {
    const HUBS: usize = 8;
    let server = Server::with(|setup| setup.config(&format!("[limits]\nhubs_max = {HUBS}\n")));
    server.connect(Client::json().group("g").user("u"));
    // Numbers of hubs are up to a second old.
    ringhub_tests::wait_until("the hub is counted", || {
        series(&server).iter().any(|name| name.contains("hub=\"chat\""))
    });
    let one_hub = series(&server);
    let of_chat = one_hub.iter().filter(|name| name.contains("hub=\"chat\"")).count();
    let mut many = server.connect(Client::json().user("many").may_all());
    for n in 0..10_000 {
        many.send(&format!(r#"{{"type":"joinGroup","group":"marked-group-{n}"}}"#));
    }
    many.expect_silence();
    let users: Vec<_> =
        (0..200).map(|n| server.connect(Client::json().user(&format!("marked-user-{n}")))).collect();
    let mut socket = server.raw();
    for n in 0..200 {
        let path = format!("/api/hubs/chat/users/marked-user-{n}x/groups/marked-group-{n}");
        server.rest("PUT", &path).send_on(&mut socket);
        server
            .rest("POST", &format!("/api/hubs/chat/groups/marked-{n}/:send"))
            .text("x")
            .send_on(&mut socket);
    }
    assert_eq!(series(&server), one_hub);
    let mut refused = 0;
    for n in 0..5 * HUBS {
        let path = format!("/api/hubs/probed_{n}/:send");
        refused += usize::from(server.rest("POST", &path).text("x").send_on(&mut socket).status == 429);
    }
    assert_eq!(refused, 5 * HUBS - (HUBS - 1));
    ringhub_tests::wait_until("they are counted", || {
        series(&server).len() == one_hub.len() + (HUBS - 1) * of_chat
    });
    let all = series(&server);
    assert!(!all.iter().any(|name| name.contains("marked") || name.contains(users[0].id())), "{all:?}");
}
