//! What stands in front of the server and around its door: proxies, origins, quotas and rules on clients
//! (`service-model` §3, `client-protocols` §1.3, §2.5).

use ringhub_tests::{Client, Endpoint, KEY, RawSocket, Response, Server, Token, wait_until};
use serde_json::{Value, json};
use std::thread;

/// The head of a PROXY protocol header, version 2, in front of its block.
fn proxy_header(command: u8, transport: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, transport][..], &length, block].concat()
}

fn from_203_0_113_9() -> Vec<u8> {
    proxy_header(0x21, 0x11, &[203, 0, 113, 9, 127, 0, 0, 1, 0xc0, 1, 0x1f, 0x90])
}

/// The rows of an admin list.
pub(crate) fn rows(server: &Server, list: &str) -> Vec<Value> {
    let body: Value =
        serde_json::from_str(server.admin().http("GET", &format!("/{list}")).expect(200).text()).unwrap();
    body[list].as_array().unwrap().clone()
}

/// The addresses of the clients that are connected, sorted.
fn addresses(server: &Server) -> Vec<String> {
    let mut all: Vec<String> = rows(server, "connections")
        .iter()
        .map(|row| row["address"].as_str().unwrap_or("?").to_owned())
        .collect();
    all.sort();
    all
}

#[track_caller]
fn upgraded(mut socket: RawSocket) -> RawSocket {
    assert_eq!(socket.read_response().status, 101);
    socket
}

#[track_caller]
fn expect_throttled(response: &Response) {
    assert_eq!((response.status, response.header("retry-after")), (429, Some("1")), "{response:?}");
    assert_eq!(response.object()["code"], "Error.TooManyRequests", "{response:?}");
}

const BEHIND_PROXY: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"::1\", \"10.0.0.0/8\"]\n";

#[test]
fn a_proxy_header_says_where_the_client_is() {
    let server = Server::with(|setup| {
        setup.listen("127.0.0.1:0").config(&format!("{BEHIND_PROXY}proxy_protocol = \"v2\"\n"))
    });
    let header = from_203_0_113_9();
    let request = Client::json().request(&server);
    let whole = [&header[..], &request].concat();
    let mut clients = Vec::new();
    for at in [0, 1, 11, 12, 13, 14, 15, 16, 20, 27, 28, 29, 100] {
        let mut socket = server.raw();
        let (first, second) = whole.split_at(at);
        socket.write(first);
        thread::yield_now();
        socket.write(second);
        clients.push(upgraded(socket));
    }
    assert_eq!(addresses(&server), vec!["203.0.113.9"; clients.len()]);
    drop(clients);
    wait_until("all are gone", || rows(&server, "connections").is_empty());
    assert!(rows(&server, "closed").iter().all(|row| row["address"] == "203.0.113.9"));

    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 20]].concat();
    for (header, address) in [
        (proxy_header(0x21, 0x21, &v6), "2001:db8::7"),
        (proxy_header(0x20, 0, b""), "127.0.0.1"),
        (proxy_header(0x21, 0, b"anything"), "127.0.0.1"),
        (proxy_header(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ] {
        let mut socket = server.raw();
        socket.write([&header[..], &request].concat());
        let socket = upgraded(socket);
        assert_eq!(addresses(&server), [address]);
        drop(socket);
        wait_until("it is gone", || rows(&server, "connections").is_empty());
    }

    // HTTP first, on a kept-alive connection; what the client says of others is not believed.
    let mut socket = server.raw();
    socket.write([&header[..], b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    assert_eq!(socket.read_response().status, 200);
    socket.write(Client::json().header("X-Forwarded-For", "198.51.100.1").request(&server));
    let _socket = upgraded(socket);
    assert_eq!(addresses(&server), ["203.0.113.9"]);
}

/// A proxy that passes TLS through speaks plain for as long as its header is.
#[test]
fn a_proxy_header_stands_in_front_of_tls() {
    let config = format!("{BEHIND_PROXY}proxy_protocol = \"v2\"\n[limits]\nhead_deadline_seconds = 2\n");
    let server = Server::with(|setup| setup.cores(2).tls().config(&config));
    let header = from_203_0_113_9();
    let request = Client::json().request(&server);
    let mut clients = Vec::new();
    for (at, with_hello) in [(0, true), (0, false), (1, true), (12, false), (16, true), (27, true)] {
        let mut socket = server.raw();
        let (first, second) = header.split_at(at);
        socket.write_in_front(first, false);
        thread::yield_now();
        socket.write_in_front(second, with_hello);
        socket.write(&request);
        clients.push(upgraded(socket));
    }
    // One byte alone, header and handshake.
    let mut socket = server.raw();
    header.iter().for_each(|byte| socket.write_in_front(&[*byte], false));
    socket.write(&request);
    clients.push(upgraded(socket));
    assert_eq!(addresses(&server), vec!["203.0.113.9"; clients.len()]);
    drop(clients);
    wait_until("all are gone", || rows(&server, "connections").is_empty());

    // A session comes back to its core with both.
    let mut phone = server.raw();
    phone.write_in_front(&header, true);
    phone.write(Client::reliable().request(&server));
    let mut phone = upgraded(phone);
    let connected = ringhub_tests::json_object(phone.read_frame().text());
    let (id, mut secret) = (
        connected["connectionId"].as_str().unwrap().to_owned(),
        connected["reconnectionToken"].as_str().unwrap().to_owned(),
    );
    drop(phone);
    for _ in 0..12 {
        let mut phone = server.raw();
        phone.write_in_front(&header, true);
        phone.write(Client::reliable().recover(&id, &secret).request(&server));
        let mut phone = upgraded(phone);
        let connected = ringhub_tests::json_object(phone.read_frame().text());
        assert_eq!(connected["connectionId"], id);
        secret = connected["reconnectionToken"].as_str().unwrap().to_owned();
        assert_eq!(addresses(&server), ["203.0.113.9"]);
    }

    // TLS first is no header, nor is a header inside TLS a second one.
    let mut socket = server.raw();
    assert!(socket.try_write(&request).is_err());
    let mut socket = server.raw();
    socket.write_in_front(&header, true);
    socket.write(&header);
    assert_eq!(socket.read_response().status, 400);
    // Header, handshake and head have one deadline together.
    let mut silent = server.raw();
    silent.write_in_front(&header[..20], false);
    let mut half = server.raw();
    half.write_in_front(&header, true);
    silent.expect_end();
    half.expect_end();
}

#[test]
fn a_proxy_that_does_not_begin_with_its_header_is_cut() {
    let server = Server::with(|setup| {
        setup.listen("127.0.0.1:0").config(&format!("{BEHIND_PROXY}proxy_protocol = \"v2\"\n"))
    });
    let bad = [
        Client::json().request(&server),
        b"PROXY TCP4 203.0.113.9 127.0.0.1 49153 8080\r\n".to_vec(),
        proxy_header(0x31, 0x11, &[0; 12]),
        proxy_header(0x21, 0x11, &[0; 11]),
        proxy_header(0x21, 0x00, &[0; 4081]),
    ];
    for bytes in &bad {
        let mut socket = server.raw();
        socket.write(bytes);
        socket.expect_end();
    }
    let refused = || server.metric("ringhub_proxy_headers_refused_total");
    assert_eq!(refused(), bad.len() as u64);
    // Nobody trusts this machine: no header is read, and one that comes is no request.
    let server = Server::with(|setup| {
        setup
            .listen("127.0.0.1:0")
            .config("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol = \"v2\"\n")
    });
    server.connect(Client::json());
    let mut socket = server.raw();
    socket.write(from_203_0_113_9());
    assert_eq!(socket.read_response().status, 400);
    // And the admin listener has no proxies.
    server.admin().http("GET", "/healthz").expect(200);
}

#[test]
fn forwarded_headers_count_from_trusted_proxies_only() {
    let named = |client: Client| {
        client.header("X-Forwarded-Host", "pubsub.example.com").header("X-Forwarded-Proto", "https")
    };
    let token = |server: &Server| Token::new("https://pubsub.example.com/client/hubs/chat").sign(&server.key);
    let mint = |server: &Server| {
        let request = server.rest("POST", "/api/hubs/chat/:generateToken");
        let request =
            request.header("X-Forwarded-Host", "pubsub.example.com").header("X-Forwarded-Proto", "https");
        request.expect(200).object()["token"].as_str().unwrap().to_owned()
    };

    let server = Server::with(|setup| setup.config(BEHIND_PROXY));
    for (sent, address) in [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("unknown", "127.0.0.1"),
    ] {
        let client = server.connect(Client::json().header("X-Forwarded-For", sent));
        assert_eq!(addresses(&server), [address], "{sent}");
        client.close(1000);
        wait_until("it is gone", || rows(&server, "connections").is_empty());
    }
    // A client that comes back from elsewhere is there now.
    let phone = server.connect(Client::reliable().header("X-Forwarded-For", "203.0.113.9"));
    let (id, secret) = (phone.id().to_owned(), phone.token().to_owned());
    phone.cut();
    let phone = Client::reliable().header("X-Forwarded-For", "198.51.100.1").recover(&id, &secret);
    let phone = server.connect(phone);
    assert_eq!(addresses(&server), ["198.51.100.1"]);
    phone.close(1000);
    server.connect(named(Client::json().token(token(&server))));
    server.refuse(Client::json().token(token(&server)), 401);
    let minted = mint(&server);
    server.connect(named(Client::json().token(minted.as_str())));
    server.refuse(Client::json().token(minted), 401);

    let server = Server::start();
    let _client = server.connect(Client::json().header("X-Forwarded-For", "203.0.113.9"));
    assert_eq!(addresses(&server), ["127.0.0.1"]);
    server.refuse(named(Client::json().token(token(&server))), 401);
    server.connect(Client::json().token(mint(&server)));
}

/// REST calls, too, are for the name that the proxy was called by, and so are the links in their answers.
#[test]
fn rest_calls_are_for_the_forwarded_host_of_trusted_proxies_only() {
    const LIST: &str = "/api/hubs/chat/groups/g/connections";
    let list = |server: &Server, proto: &str, path: &str| {
        let call = server.rest("GET", path).header("X-Forwarded-Host", "pubsub.example.com");
        call.header("X-Forwarded-Proto", proto)
    };
    // As an SDK that knows nothing but the proxy would sign.
    let token = |url: &str| Token::new(url).sign(KEY);
    let next_of = |response: Response| response.object()["nextLink"].as_str().map(str::to_owned);
    let trusting = Server::with(|setup| setup.config(BEHIND_PROXY));
    let distrusting = Server::with(|setup| setup.config("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n"));
    for server in [&trusting, &distrusting] {
        let _members: Vec<_> = (0..2).map(|_| server.connect(Client::json().group("g"))).collect();
        for proto in ["https", "http"] {
            let public = format!("{proto}://pubsub.example.com");
            let for_public = token(&format!("{public}{LIST}"));
            let first = || list(server, proto, LIST).query("maxpagesize", "1");
            server.rest("GET", LIST).token(for_public.as_str()).expect(401);
            if std::ptr::eq(server, &distrusting) {
                first().token(for_public).expect(401).expect_error("Error.Unauthorized");
                let next = next_of(first().expect(200)).expect("there is more");
                assert!(next.starts_with(&format!("{}{LIST}?", server.url())), "{next}");
                continue;
            }
            let next = next_of(first().token(for_public).expect(200)).expect("there is more");
            assert!(next.starts_with(&format!("{public}{LIST}?")), "{next}");
            let rest = list(server, proto, &next[public.len()..]).no_query().token(token(&next)).expect(200);
            assert_eq!(next_of(rest), None);
        }
    }
}

#[test]
fn pages_of_other_origins_are_kept_out_before_their_token_is_read() {
    let server = Server::with(|setup| {
        setup.config(
            "[hubs.chat]\nallowed_origins = [\"https://app.example.com\", \"https://*.example.org\"]\n",
        )
    });
    let from = |origin: &str| Client::json().header("Origin", origin);
    for origin in ["https://app.example.com", "HTTPS://APP.example.com:443", "https://a.b.example.org"] {
        server.connect(from(origin));
    }
    server.connect(Client::json());
    server.connect(Client::json().hub("other").header("Origin", "https://evil.test"));
    server.refuse(from("https://app.example.com").token("bad"), 401);
    let refused = ["https://evil.test", "http://app.example.com", "https://example.org", "null"];
    for origin in refused {
        let refusal = server.refuse(from(origin).token("bad"), 403);
        assert_eq!(refusal.object()["code"], "Error.Forbidden", "{refusal:?}");
    }
    server.refuse(from("https://app.example.com").header("Origin", "https://evil.test"), 403);
    server.refuse(from("https://evil.test").recover("0", "0"), 403);
    assert_eq!(server.metric("ringhub_origins_refused_total"), refused.len() as u64 + 2);
}

#[test]
fn connections_of_one_client_are_counted_over_hubs_and_until_they_end() {
    let server = Server::with(|setup| {
        setup.cores(2).config(
            "[[firewall.connection_count_rules]]\nkind = \"claim\"\nclaim = \"tenant\"\nmax_count = 4\n\
             [[firewall.connection_count_rules]]\nmax_count = 2\n\
             [hubs.chat.reliable]\nrecovery_window_seconds = 1\nrecovery_grace_seconds = 0\n",
        )
    });
    let refused = || server.metric("ringhub_rules_refused_total");
    let keys = || server.metric("ringhub_counted_keys");
    let ann = server.connect(Client::json().user("ann"));
    let reliable = server.connect(Client::reliable().user("ann"));
    expect_throttled(&server.refuse(Client::json().user("ann"), 429));
    expect_throttled(&server.refuse(Client::json().user("ann").hub("other"), 429));
    server.connect(Client::json().user("bob"));
    // Who has no user is nobody's second connection.
    let _nobody: Vec<_> = (0..5).map(|_| server.connect(Client::json())).collect();
    // A session without a socket counts; recovering it takes no second place.
    let (id, token) = (reliable.id().to_owned(), reliable.token().to_owned());
    reliable.cut();
    server.refuse(Client::json().user("ann"), 429);
    let reliable = server.connect(Client::reliable().user("ann").recover(&id, &token));
    server.refuse(Client::json().user("ann"), 429);
    reliable.cut();
    wait_until("the session ends", || {
        !rows(&server, "connections").iter().any(|row| row["connectionId"] == id.as_str())
    });
    let _second = server.connect(Client::json().user("ann"));
    server.refuse(Client::json().user("ann"), 429);
    ann.close(1000);
    wait_until("her first is gone", || {
        rows(&server, "connections").iter().filter(|row| row["userId"] == "ann").count() == 1
    });
    let _third = server.connect(Client::json().user("ann"));
    assert_eq!(refused(), 5);

    // The first rule: four of a tenant, whoever they are; its value may be of any kind.
    let of = |tenant: Value, user: &str| Client::json().user(user).claim("tenant", tenant);
    let _tenants: Vec<_> = (0..4).map(|n| server.connect(of(json!(7), &format!("t{n}")))).collect();
    server.refuse(of(json!(7), "t9"), 429);
    server.connect(of(json!("other"), "t9"));
    server.connect(of(Value::Null, "t9"));
    wait_until("what nobody holds is forgotten", || keys() == 6);
}

#[test]
fn one_token_is_one_client_by_its_signature() {
    let server = Server::with(|setup| {
        setup.config("[[firewall.connection_count_rules]]\nkind = \"signature\"\nmax_count = 1\n[hubs.chat]\nanonymous_connect_policy = \"allow\"\n")
    });
    let token = Token::new(&format!("http://{}/client/hubs/chat", server.addr));
    let (one, two) = (token.sign(&server.key), token.claim("sub", json!("x")).sign(&server.key));
    let _first = server.connect(Client::json().token(one.as_str()));
    server.refuse(Client::json().token(one.as_str()), 429);
    server.refuse(Client::json().no_token().header("Authorization", &format!("Bearer {one}")), 429);
    let _second = server.connect(Client::json().token(two));
    let _anonymous: Vec<_> = (0..2).map(|_| server.connect(Client::json().no_token())).collect();
}

#[test]
fn counts_are_exact_over_cores_and_threads() {
    let server = Server::with(|setup| {
        setup.cores(2).config(
            "[[firewall.connection_count_rules]]\nmax_count = 20\n[hubs.full]\nconnections_max = 30\n",
        )
    });
    for (client, most) in [(Client::raw().user("ann"), 20), (Client::raw().hub("full"), 30)] {
        let endpoint: &Endpoint = &server;
        let connect = || {
            let mut open = Vec::new();
            for _ in 0..25 {
                let mut socket = endpoint.raw();
                socket.write(client.request(endpoint));
                match socket.read_response() {
                    response if response.status == 101 => open.push(socket),
                    response => expect_throttled(&response),
                }
            }
            open
        };
        let open: Vec<RawSocket> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(open.len(), most);
    }
    assert_eq!(server.metric("ringhub_quotas_refused_total"), 70);
    assert_eq!(server.metric("ringhub_rules_refused_total"), 80);
    server.connect(Client::raw().hub("other"));
}

#[test]
fn who_sends_too_much_in_a_window_is_closed() {
    let server = Server::with(|setup| {
        setup
            .cores(2)
            .config("[[firewall.traffic_rules]]\nmax_inbound_bytes = 20000\nwindow_seconds = 3600\n")
    });
    let client = |user: &str| Client::json().may_all().user(user);
    let (mut ann, mut bob) = (server.connect(client("ann")), server.connect(client("bob")));
    let mut reliable = server.connect(Client::reliable().may_all().user("ann"));
    let text = "x".repeat(1000);
    for n in 0..9 {
        ann.publish_acked("g", &text);
        if n < 5 {
            reliable.publish_acked("g", &text);
        }
        bob.publish_acked("g", &text);
    }
    // The meter is the connection's, over sockets.
    let (id, token) = (reliable.id().to_owned(), reliable.token().to_owned());
    reliable.cut();
    let mut reliable = server.connect(Client::reliable().recover(&id, &token));
    for _ in 0..10 {
        reliable.publish("g", &text);
    }
    while let Some(text) = reliable.next_text_or_end() {
        assert!(!text.contains("recovered"), "{text}");
    }
    // The window is all of hers.
    ann.publish("g", &text);
    ann.expect_thrown_out_with(1008);
    bob.publish_acked("g", &text);
    let closed = rows(&server, "closed");
    assert_eq!(closed.len(), 2, "{closed:?}");
    for row in &closed {
        assert_eq!((&row["category"], &row["code"]), (&json!("Throttled"), &json!(1008)), "{row}");
    }
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();
}

/// Upgrades are refused with the headers that REST calls of the same status have (`rest-api` §1.5).
#[test]
fn refused_upgrades_have_the_headers_of_their_status() {
    let config =
        "[limits]\nhubs_max = 1\n[hubs.chat]\nconnections_max = 1\nallowed_origins = [\"https://a.test\"]\n";
    let server = Server::with(|setup| setup.config(config));
    let _only = server.connect(Client::json());
    for (client, status, code, header) in [
        (Client::json().no_token(), 401, "Unauthorized", Some(("www-authenticate", "Bearer"))),
        (Client::json(), 429, "TooManyRequests", Some(("retry-after", "1"))),
        (Client::json().hub("other"), 503, "ServiceUnavailable", Some(("retry-after", "1"))),
        (Client::json().header("Origin", "https://b.test"), 403, "Forbidden", None),
        (Client::json().hub("not legal"), 400, "BadRequest", None),
        (Client::json().path("/nowhere"), 404, "NotFound", None),
    ] {
        let response = server.refuse(client, status);
        let code = format!("Error.{code}");
        assert_eq!(response.header("x-ms-error-code"), Some(code.as_str()), "{response:?}");
        assert_eq!(response.object()["code"], code, "{response:?}");
        for name in ["www-authenticate", "retry-after"] {
            let expected = header.filter(|(has, _)| *has == name).map(|(_, value)| value);
            assert_eq!(response.header(name), expected, "{response:?}");
        }
    }
}

/// They were counted as malformed heads, and what was malformed behind a connection's first request nowhere.
#[test]
fn refused_upgrades_are_counted_as_such_and_malformed_heads_and_bodies_wherever_they_stand() {
    let server = Server::with(|setup| setup.config("[hubs.chat]\nconnections_max = 1\n"));
    let _only = server.connect(Client::json());
    let counted = || {
        ["ringhub_upgrades_refused_total", "ringhub_heads_refused_total", "ringhub_bodies_refused_total"]
            .map(|name| server.metric(name))
    };
    server.refuse(Client::json().no_token(), 401);
    server.refuse(Client::json(), 429);
    server.refuse(Client::json().hub("not legal"), 400);
    server.admin().refuse(Client::json(), 400);
    assert_eq!(counted(), [4, 0, 0]);
    let health = "GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = server.raw();
    first.write("GET /api/health HTTP/1.1\r\n\r\n");
    assert_eq!(first.read_response().status, 400);
    let mut second = server.raw();
    second.write(health);
    assert_eq!(second.read_response().status, 200);
    second.write("GET /api/health HTTP/1.1\r\n\r\n");
    assert_eq!(second.read_response().status, 400);
    assert_eq!(counted(), [4, 2, 0]);
    let mut body = server.raw();
    let send = server.rest("POST", "/api/hubs/chat/:send").header("Content-Type", "text/plain").bytes();
    let send = String::from_utf8(send).unwrap().replace("Content-Length: 0", "Transfer-Encoding: chunked");
    body.write(send + "no length\r\n");
    assert_eq!(body.read_response().status, 400);
    assert_eq!(counted(), [4, 2, 1]);
}

#[test]
fn a_hub_has_its_quota_of_connections() {
    let server = Server::with(|setup| setup.cores(2).config("[hubs.chat]\nconnections_max = 3\n"));
    let mut clients: Vec<_> = (0..3).map(|_| server.connect(Client::json())).collect();
    let refusal = server.refuse(Client::json(), 429);
    expect_throttled(&refusal);
    server.refuse(Client::json().token("bad"), 401);
    server.connect(Client::json().hub("other"));
    clients.pop().unwrap().close(1000);
    wait_until("there is room", || {
        rows(&server, "connections").iter().filter(|row| row["hub"] == "chat").count() == 2
    });
    let _third = server.connect(Client::json());
    assert_eq!(server.metric("ringhub_quotas_refused_total"), 1);
}

#[test]
fn connections_last_as_long_as_they_may() {
    let server = Server::with(|setup| setup.config("[hubs.chat]\nconnection_lifetime_seconds = 1\n"));
    let (mut plain, mut reliable) = (server.connect(Client::json()), server.connect(Client::reliable()));
    let (id, token) = (reliable.id().to_owned(), reliable.token().to_owned());
    let mut raw = server.open(Client::raw());
    assert_eq!(plain.expect_disconnected(1001), "The connection has reached its maximum lifetime.");
    reliable.expect_disconnected(1008);
    raw.expect_close(1001);
    server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();
    wait_until("they are counted", || server.metric("ringhub_hub_lifetimes_ended_total") == 3);
}

#[test]
fn rest_calls_over_the_rate_are_to_be_tried_again() {
    let server = Server::with(|setup| setup.config("[limits]\nrest_calls_per_second_max = 3\n"));
    let answers: Vec<Response> =
        (0..30).map(|_| server.rest("POST", "/api/hubs/chat/:send").text("x").send()).collect();
    let throttled: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!(answers.len() - throttled.len() >= 3 && !throttled.is_empty(), "{answers:?}");
    throttled.iter().for_each(|answer| expect_throttled(answer));
    server.http("GET", "/api/health").expect(200);
    assert_eq!(server.metric("ringhub_rest_throttled_total"), throttled.len() as u64);
}
