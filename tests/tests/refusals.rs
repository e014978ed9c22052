//! Calls that are refused, by what is wrong with them: the status, the code in header and body, the parameter at
//! fault (`rest-api` §1.5). What is refused has no effect, and nothing a caller does is a 5xx.

use ringhub_tests::{Client, Connection, KEY, RawSocket, Request, Server, Token};
use serde_json::{Value, json};

/// What a call needs besides its path.
#[derive(Clone, Copy, PartialEq)]
enum Body {
    None,
    Text,
    Groups,
}

/// The operations of `rest-api` §2 in its order, but for health: method, path, body, status. `{c}` is a connection of user `u` in
/// group `g`; in this order all of them succeed.
const OPERATIONS: [(&str, &str, Body, u16); 24] = [
    ("POST", ":generateToken", Body::None, 200),
    ("POST", ":send", Body::Text, 202),
    ("POST", "connections/{c}/:send", Body::Text, 202),
    ("POST", "users/u/:send", Body::Text, 202),
    ("POST", "groups/g/:send", Body::Text, 202),
    ("DELETE", "connections/none", Body::None, 204),
    ("POST", ":closeConnections?excluded={c}", Body::None, 204),
    ("POST", "groups/none/:closeConnections", Body::None, 204),
    ("POST", "users/none/:closeConnections", Body::None, 204),
    ("HEAD", "connections/{c}", Body::None, 200),
    ("HEAD", "groups/g", Body::None, 200),
    ("HEAD", "users/u", Body::None, 200),
    ("GET", "groups/g/connections", Body::None, 200),
    ("PUT", "groups/h/connections/{c}", Body::None, 200),
    ("DELETE", "groups/h/connections/{c}", Body::None, 204),
    ("DELETE", "connections/{c}/groups", Body::None, 204),
    ("POST", ":addToGroups", Body::Groups, 200),
    ("POST", ":removeFromGroups", Body::Groups, 200),
    ("PUT", "users/u/groups/g", Body::None, 200),
    ("DELETE", "users/u/groups/h", Body::None, 204),
    ("DELETE", "users/none/groups", Body::None, 204),
    ("PUT", "permissions/sendToGroup/connections/{c}", Body::None, 200),
    ("HEAD", "permissions/sendToGroup/connections/{c}", Body::None, 200),
    ("DELETE", "permissions/sendToGroup/connections/{c}", Body::None, 204),
];

struct Bench {
    server: Server,
    socket: RawSocket,
    client: Connection,
}

impl Bench {
    fn new() -> Self {
        let server = Server::on_cores(2);
        let client = server.connect(Client::json().user("u").group("g"));
        Self { socket: server.raw(), client, server }
    }

    fn call(&self, method: &str, path: &str, body: Body) -> Request {
        let path = path.replace("{c}", self.client.id());
        let call = self.server.rest(method, &format!("/api/hubs/chat/{path}"));
        match body {
            Body::None => call,
            Body::Text => call.text("x"),
            Body::Groups => call.json(r#"{"groups":["h"]}"#),
        }
    }

    /// Of a HEAD only the head comes back.
    #[track_caller]
    fn expect_refused(&mut self, call: &Request, method: &str, status: u16, target: Option<&str>) {
        let code = match status {
            400 => "Error.BadRequest",
            401 => "Error.Unauthorized",
            404 => "Error.NotFound",
            405 => "Error.MethodNotAllowed",
            415 => "Error.UnsupportedMediaType",
            501 => "Error.NotImplemented",
            other => panic!("no row has {other}"),
        };
        let response = call.expect_on(&mut self.socket, status);
        if method == "HEAD" {
            assert_eq!(response.header("x-ms-error-code"), Some(code), "{response:?}");
        } else {
            response.expect_error(code);
            let body = response.object();
            assert_eq!(body.get("target").and_then(Value::as_str), target, "{response:?}");
            assert!(
                body.keys().all(|key| ["code", "message", "target"].contains(&key.as_str())),
                "{response:?}"
            );
        }
    }

    /// The client heard nothing and is where it was.
    #[track_caller]
    fn expect_no_effect(&mut self) {
        self.client.expect_silence();
        self.call("HEAD", "groups/g", Body::None).expect_on(&mut self.socket, 200);
        self.call("HEAD", "groups/h", Body::None).expect_on(&mut self.socket, 404);
        let path = "permissions/sendToGroup/connections/{c}";
        self.call("HEAD", path, Body::None).expect_on(&mut self.socket, 404);
    }
}

#[test]
fn every_operation_takes_every_known_version() {
    let mut bench = Bench::new();
    let known = [
        "2020-10-01",
        "2021-01-01",
        "2021-05-01-preview",
        "2021-08-01-preview",
        "2021-10-01",
        "2022-10-01-preview",
        "2022-11-01",
        "2023-07-01",
        "2024-01-01",
        "2024-12-01",
        "2026-02-01-preview",
        "2026-08-01-preview",
    ];
    for version in known.map(Some).into_iter().chain([None]) {
        for (method, path, body, status) in OPERATIONS {
            let call = bench.call(method, path, body).no_query();
            let call = version.into_iter().fold(call, |call, version| call.query("api-version", version));
            call.expect_on(&mut bench.socket, status);
        }
    }
}

#[test]
fn every_operation_refuses_an_unknown_or_repeated_version() {
    let mut bench = Bench::new();
    for (method, path, body, _) in OPERATIONS {
        for versions in [
            &["2099-01-01"][..],
            &[""],
            &["latest"],
            &["2024-12-1"],
            &["2024-12-01 "],
            &["2024-12-01", "2024-12-01"],
        ] {
            let call = bench.call(method, path, body).no_query();
            let call = versions.iter().fold(call, |call, version| call.query("api-version", version));
            bench.expect_refused(&call, method, 400, Some("api-version"));
        }
        // Names of parameters ignore case, so this is one given twice.
        let call = bench.call(method, path, body).query("API-Version", "2024-12-01");
        bench.expect_refused(&call, method, 400, Some("api-version"));
    }
    bench.expect_no_effect();
}

/// 405 with every method the path has.
#[test]
fn every_path_refuses_other_methods() {
    let mut bench = Bench::new();
    for (_, path, body, _) in OPERATIONS {
        let mut allowed: Vec<_> =
            OPERATIONS.iter().filter(|(_, known, ..)| same_shape(known, path)).map(|row| row.0).collect();
        allowed.sort_unstable();
        allowed.dedup();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "post", "BREW"] {
            if allowed.contains(&method) {
                continue;
            }
            let call = bench.call(method, path, body);
            bench.expect_refused(&call, method, 405, None);
            assert_eq!(call.send().header("allow"), Some(allowed.join(", ").as_str()), "{method} {path}");
        }
    }
    bench.expect_no_effect();
}

fn same_shape(one: &str, other: &str) -> bool {
    let shape = |path: &str| {
        let path = path.split('?').next().unwrap_or_default();
        let segments: Vec<_> = path
            .split('/')
            .enumerate()
            .map(|(at, segment)| if at % 2 == 1 && !segment.starts_with(':') { "*" } else { segment })
            .map(str::to_owned)
            .collect();
        segments
    };
    shape(one) == shape(other)
}

#[test]
fn every_operation_needs_a_token_for_its_own_path() {
    let mut bench = Bench::new();
    for (method, path, body, _) in OPERATIONS {
        let elsewhere = format!("http://{}/api/hubs/chat/groups/other", bench.server.addr);
        let own = bench.call(method, path, body).url();
        let other_hub = own.replace("/hubs/chat/", "/hubs/chats/");
        for token in [
            Token::new(&own).sign("another-key-0123456789-0123456789"),
            Token::new(&elsewhere).sign(KEY),
            Token::new(&other_hub).sign(KEY),
            Token::new(&own).claim("exp", json!(1)).sign(KEY),
            "garbage".to_owned(),
        ] {
            let call = bench.call(method, path, body).token(token);
            bench.expect_refused(&call, method, 401, None);
            assert_eq!(call.send().header("www-authenticate"), Some("Bearer"));
        }
        let call = bench.call(method, path, body).no_token();
        bench.expect_refused(&call, method, 401, None);
    }
    bench.expect_no_effect();
}

#[test]
fn names_that_break_the_rules() {
    let mut bench = Bench::new();
    let long = "x".repeat(1025);
    let blank = ["", "%20", "%09%0A", "%E2%80%83"];
    for (method, path, body) in [
        ("POST", "groups/{}/:send", Body::Text),
        ("HEAD", "groups/{}", Body::None),
        ("GET", "groups/{}/connections", Body::None),
        ("PUT", "groups/{}/connections/{c}", Body::None),
        ("DELETE", "groups/{}/connections/{c}", Body::None),
        ("POST", "groups/{}/:closeConnections", Body::None),
        ("PUT", "users/u/groups/{}", Body::None),
        ("DELETE", "users/u/groups/{}", Body::None),
    ] {
        for name in blank.into_iter().chain([long.as_str()]) {
            let call = bench.call(method, &path.replace("{}", name), body);
            bench.expect_refused(&call, method, 400, Some("group"));
        }
    }
    for (method, path, body) in [
        ("POST", "users/{}/:send", Body::Text),
        ("HEAD", "users/{}", Body::None),
        ("POST", "users/{}/:closeConnections", Body::None),
        ("PUT", "users/{}/groups/g", Body::None),
        ("DELETE", "users/{}/groups/g", Body::None),
        ("DELETE", "users/{}/groups", Body::None),
    ] {
        for name in blank {
            let call = bench.call(method, &path.replace("{}", name), body);
            bench.expect_refused(&call, method, 400, Some("userId"));
        }
    }
    for (method, path, body) in [
        ("POST", "connections//:send", Body::Text),
        ("HEAD", "connections/", Body::None),
        ("DELETE", "connections/", Body::None),
        ("DELETE", "connections//groups", Body::None),
        ("PUT", "groups/g/connections/", Body::None),
        ("DELETE", "groups/g/connections/", Body::None),
        ("PUT", "permissions/sendToGroup/connections/", Body::None),
        ("DELETE", "permissions/joinLeaveGroup/connections/", Body::None),
        ("HEAD", "permissions/joinLeaveGroup/connections/", Body::None),
    ] {
        let call = bench.call(method, path, body);
        bench.expect_refused(&call, method, 400, Some("connectionId"));
    }
    let long = "h".repeat(129);
    for hub in ["1chat", "_chat", "ch%20at", "ch-at", "", "%C3%A4", "a%2Fb", "chat%00", &long] {
        for (method, path, body, _) in OPERATIONS {
            let path = path.replace("{c}", "none");
            let call = bench.server.rest(method, &format!("/api/hubs/{hub}/{path}"));
            let call = if body == Body::Text { call.text("x") } else { call };
            bench.expect_refused(&call, method, 400, Some("hub"));
        }
    }
    for escape in ["%", "%4", "%zz", "%ff", "%C3", "a%00%ff", "%ED%A0%80"] {
        for (method, path, body) in [
            ("POST", "groups/{}/:send", Body::Text),
            ("HEAD", "users/{}", Body::None),
            ("DELETE", "connections/{}", Body::None),
        ] {
            let call = bench.call(method, &path.replace("{}", escape), body);
            bench.expect_refused(&call, method, 400, None);
        }
    }
    bench.expect_no_effect();
}

#[test]
fn parameters_that_break_the_rules() {
    let mut bench = Bench::new();
    let (send, list) = ("groups/g/:send", "groups/g/connections");
    let permission = "permissions/sendToGroup/connections/{c}";
    let long = "x".repeat(1025);
    let rows: Vec<(&str, &str, &str, Vec<&str>)> = vec![
        ("POST", send, "messageTtlSeconds", vec!["301", "-1", "+1", "1.5", "x", "", " 1", "99999999999"]),
        ("POST", list_of_sends(0), "messageTtlSeconds", vec!["301"]),
        ("POST", list_of_sends(1), "messageTtlSeconds", vec!["301"]),
        ("POST", list_of_sends(2), "messageTtlSeconds", vec!["301"]),
        ("POST", send, "filter", vec!["userId", "(", "x eq 1", "'g' in"]),
        ("GET", list, "maxpagesize", vec!["0", "201", "-1", "x", "", "1.0", "4294967297"]),
        ("GET", list, "top", vec!["0", "-1", "x", "", "2147483648", "18446744073709551617"]),
        ("GET", list, "continuationToken", vec!["", "x", "AAAA", "\0", "ü"]),
        ("PUT", permission, "targetName", vec!["", " ", &long]),
        ("DELETE", permission, "targetName", vec!["", " ", &long]),
        ("HEAD", permission, "targetName", vec!["", " ", &long]),
        ("POST", ":generateToken", "minutesToExpire", vec!["0", "-1", "x", "", "1.5", "4294967296"]),
        ("POST", ":generateToken", "clientType", vec!["fax", "", "mqtt "]),
        ("POST", ":generateToken", "group", vec!["", " ", &long]),
        ("POST", ":generateToken", "userId", vec![" "]),
    ];
    for (method, path, name, values) in &rows {
        let body = if path.ends_with(":send") { Body::Text } else { Body::None };
        for value in values {
            let call = bench.call(method, path, body).query(name, value);
            bench.expect_refused(&call, method, 400, Some(name));
        }
    }
    // One that may be given once and is given twice, even with the same value.
    for (method, path, name, value) in [
        ("POST", send, "messageTtlSeconds", "1"),
        ("POST", send, "filter", "true"),
        ("POST", ":closeConnections", "reason", "x"),
        ("GET", list, "maxpagesize", "1"),
        ("GET", list, "top", "1"),
        ("PUT", permission, "targetName", "g"),
        ("POST", ":generateToken", "userId", "u"),
        ("POST", ":generateToken", "minutesToExpire", "1"),
        ("POST", ":generateToken", "clientType", "Default"),
    ] {
        let body = if path.ends_with(":send") { Body::Text } else { Body::None };
        let call = bench.call(method, path, body).query(name, value).query(&name.to_lowercase(), value);
        bench.expect_refused(&call, method, 400, Some(name));
    }
    // An escape that is none.
    for (method, path, body, _) in OPERATIONS {
        let mark = if path.contains('?') { '&' } else { '?' };
        let call = bench.call(method, &format!("{path}{mark}unknown=%zz"), body);
        bench.expect_refused(&call, method, 400, None);
    }
    bench.expect_no_effect();
}

fn list_of_sends(at: usize) -> &'static str {
    [":send", "users/u/:send", "connections/{c}/:send"][at]
}

/// Newer and private parameters are for somebody else.
#[test]
fn unknown_parameters_are_passed_over() {
    let mut bench = Bench::new();
    for (method, path, body, status) in OPERATIONS {
        let call = bench.call(method, path, body).query("unknown", "1").query("unknown", "2").query("", "");
        call.expect_on(&mut bench.socket, status);
    }
}

#[test]
fn paths_that_lead_nowhere() {
    let mut bench = Bench::new();
    for path in [
        "",
        ":unknown",
        ":Send",
        ":send/",
        "/:send",
        "send",
        "groups",
        "users",
        "connections",
        "permissions",
        "Groups/g",
        "groups/g/:unknown",
        "groups/g/users",
        "groups/g/connections/c/x",
        "users/u/connections",
        "users/u/groups/g/x",
        "connections/c/:closeConnections",
        "connections/c/groups/g",
        "permissions/other/connections/c",
        "permissions/sendtogroup/connections/c",
        "permissions/sendToGroup/users/u",
        "groups/g%2F:send/x",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let call = bench.call(method, path, Body::None);
            bench.expect_refused(&call, method, 404, None);
        }
    }
    for path in
        ["/api", "/api/", "/api/hub/chat/:send", "/api/hubs", "/api/health/", "/API/health", "/", "/x"]
    {
        let call = bench.server.rest("GET", path);
        bench.expect_refused(&call, "GET", 404, None);
    }
    for path in ["/api/hubs/chat", "/api/hubs/chat/"] {
        let call = bench.server.rest("POST", path);
        bench.expect_refused(&call, "POST", 404, None);
    }
    let call = bench.server.rest("GET", "/client/hubs/chat");
    bench.expect_refused(&call, "GET", 400, None);
    bench.expect_no_effect();
}

/// Known and not there: said so, instead of a 404 that sends people looking for a typing mistake.
#[test]
fn what_is_known_and_not_built_is_a_501() {
    let mut bench = Bench::new();
    for (method, path) in [
        ("POST", ":invoke"),
        ("POST", "groups/g/:invoke"),
        ("GET", "chat/rooms/r"),
        ("POST", "chat/rooms"),
        ("PUT", "chat/rooms/r/members/m"),
        ("DELETE", "chat/rooms/r"),
        ("PATCH", "chat/rooms/r"),
    ] {
        let call = bench.call(method, path, Body::None);
        bench.expect_refused(&call, method, 501, None);
    }
    let call = bench.call("GET", ":invoke", Body::None);
    bench.expect_refused(&call, "GET", 405, None);
    bench.expect_no_effect();
}

/// 1 MiB is the most a body may have, whether it is read or not.
#[test]
fn bodies_that_are_too_large() {
    let mut bench = Bench::new();
    let refused = || bench.server.metric("ringhub_http_requests_refused_total");
    let before = refused();
    let mut calls = 0;
    for (method, path, body, _) in OPERATIONS {
        if body == Body::None {
            continue;
        }
        calls += 1;
        let large = vec![b'x'; (1 << 20) + 1];
        let call = bench.call(method, path, Body::None).body("application/json", large);
        let response = call.send();
        assert_eq!(response.status, 400, "{method} {path}: {response:?}");
        response.expect_error("Error.BadRequest");
    }
    assert_eq!(refused(), before + calls);
    bench.expect_no_effect();
}

/// A hub too many was a 503, as if the server had failed.
#[test]
fn a_hub_too_many_is_a_429() {
    let server = Server::with(|setup| setup.config("[limits]\nhubs_max = 1\n"));
    let _chat = server.connect(Client::json());
    let call = |method, path: &str| server.rest(method, path).expect(429);
    let response = call("GET", "/api/hubs/other/groups/g/connections");
    response.expect_error("Error.TooManyRequests");
    assert_eq!(response.header("retry-after"), Some("1"));
    call("HEAD", "/api/hubs/other/users/u");
    server.rest("HEAD", "/api/hubs/chat/users/u").expect(404);
    // Who would be its first client is told that it is the server's affair.
    server.refuse(Client::json().hub("other"), 503).expect_error("Error.ServiceUnavailable");
    assert_eq!(server.metric("ringhub_upgrades_refused_total"), 1);
    server.connect(Client::json());
}

/// Everything above side by side: odd methods, paths, queries and bodies together are 4xx, or a success.
#[test]
fn nothing_a_caller_does_is_a_5xx() {
    let bench = Bench::new();
    let paths = [
        ":send",
        "groups/%00/:send",
        "groups/%F0%9F%8E%88/:send",
        "users/%2F%2F/:send",
        "connections/%25/:send",
        "groups/g/connections",
        ":addToGroups",
        ":removeFromGroups",
        ":generateToken",
        "permissions/sendToGroup/connections/x",
        "..%2F..",
        "%3Asend",
    ];
    let queries = [
        "",
        "filter=%27",
        "filter=%00",
        "excluded=",
        "excluded=%F0%9F%8E%88&excluded=%00",
        "messageTtlSeconds=99999999999999999999999",
        "top=1&maxpagesize=1&continuationToken=%00%00%00%00%00%00%00%00%00",
        "targetName=%00",
        "userId=%00&role=%22&group=%5C&minutesToExpire=4294967295",
        "=&&&=&a",
        "api-version",
    ];
    let bodies: [(&str, &[u8]); 7] = [
        ("application/json", b"null"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"{\"groups\":[\"\\u0000\"],\"filter\":\"'\\u0000' in groups\"}"),
        ("application/x-protobuf", b"\xff\xff\xff\xff\xff"),
        ("text/plain; charset=utf-16", b"\xd8"),
        ("text/plain; charset", b""),
        (";;;", b"x"),
    ];
    let mut socket = bench.server.raw();
    let mut seen = std::collections::BTreeSet::new();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "TRACE"] {
        for path in paths {
            for query in queries {
                let read = if method == "POST" { bodies.len() } else { 1 };
                for (content_type, body) in &bodies[..read] {
                    let target = format!("/api/hubs/chat/{path}?{query}");
                    let call = bench.server.rest(method, &target).no_query().body(content_type, *body);
                    let response = call.send_on(&mut socket);
                    assert!(response.status < 500, "{method} {target} {content_type}: {response:?}");
                    if response.status >= 400 {
                        assert!(response.header("x-ms-error-code").is_some(), "{target}: {response:?}");
                    }
                    seen.insert(response.status);
                }
            }
        }
    }
    assert!(seen.contains(&202) && seen.contains(&400) && seen.contains(&405), "{seen:?}");
    bench.server.http("GET", "/api/health").expect(200);
}
