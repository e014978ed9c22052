//! Line ends, escape sequences, a megabyte, bytes that are no text: in everything that somebody else chooses.

use std::fs;

use ringhub_tests::{
    Answer, Call, Client, Connection, Endpoint, Handler, KEY, Server, Token, masked_frame, write_config,
};
use serde_json::{Value, json};

use super::{expect_logged, records};

/// A record of its own, if its line ends were any; then a terminal told to forget what it shows.
const FORGED: &str = "x\r\n2026-11-27T00:00:00.000000Z ERROR forged: yes\n\u{1b}[2J\u{1b}[31m\u{7}\0\u{85}\u{9b}31m\u{2028}\u{202e}\"\\";
/// What a handler does, which has the hub of that name.
const TRICKS: [&str; 8] = ["refused", "hostile", "status", "first_line", "header", "type", "body", "bytes"];
const EVENTS: &str = "user_event_pattern = \"*\"\nsystem_events = [\"connect\", \"connected\", \"disconnected\"]\n\
                      retry_delays_seconds = []\n";
/// What every line of the log that has it must have escaped.
const MARK: &str = "ERROR forged";

#[test]
fn whatever_is_sent_a_record_is_one_bounded_line() {
    for format in ["text", "json"] {
        let hostile = Handler::plain(answer);
        // A hub for each trick: what fails in one is logged once a second.
        let section = |hub: &str| hostile.section_of(hub, "/{event}", EVENTS);
        let sections: String = TRICKS.iter().map(|trick| section(trick)).collect();
        let config = format!("[server]\nlog = \"trace\"\nlog_format = \"{format}\"\n{sections}");
        let mut server = Server::with(|setup| setup.cores(2).config(&config));
        tokens(&server);
        heads(&server);
        frames(&server);
        calls(&server);
        events(&server);
        pages(&server);
        reloads(&server, &config);
        expect_logged(&mut server, "Failed to validate audience");
        // Status lines with such texts in them are none.
        for trick in TRICKS.iter().filter(|trick| !["refused", "hostile"].contains(trick)) {
            expect_logged(&mut server, &format!("hub:{trick},event:e,"));
        }
        let records = records(&mut server, format == "json");
        // It did get there.
        let forged: Vec<_> = records.iter().filter(|record| record.contains(MARK)).collect();
        assert!(forged.len() > 3, "{forged:?}");
        for record in forged {
            assert!(record.contains(r"\n"), "{record}");
        }
    }
}

/// Claims: of tokens that are refused, and of those that are not.
fn tokens(server: &Endpoint) {
    let long = FORGED.repeat(100);
    for text in [FORGED, &long] {
        for claim in ["aud", "sub", "role", "webpubsub.group", "iss", "exp"] {
            for value in [json!(text), json!([text, text])] {
                let mut socket = server.raw();
                socket.write(Client::json().claim(claim, value).request(server));
                socket.read_response();
            }
        }
        let rest =
            |token: String| server.rest("POST", "/api/hubs/chat/:send").token(token).text("x").send().status;
        assert_eq!(rest(Token::new(text).sign(KEY)), 401);
        let header = |name: &str| Token::new("x").header(json!({ "alg": name, "kid": text })).sign(KEY);
        for name in ["HS256", "RS256", text] {
            // The longest is too long a head.
            assert!([401, 431].contains(&rest(header(name))));
        }
        let raw = rest(text.replace(['\r', '\n', '\0'], ""));
        assert!([400, 401].contains(&raw), "no header value: {raw}");
    }
    // A user id of a megabyte is in no token: its bound comes first. Nor is it one in a path.
    let megabyte = "u\n".repeat(512 << 10);
    let mut socket = server.raw();
    let _ = socket.try_write(Client::json().user(&megabyte).request(server));
    let path = format!("/api/hubs/chat/users/{}/:send", "%0a".repeat(340 << 10));
    let mut socket = server.raw();
    let _ = socket.try_write(server.rest("POST", &path).text("x").bytes());
}

/// Request lines and headers, byte by byte.
fn heads(server: &Endpoint) {
    let upgrade = String::from_utf8(Client::json().request(server)).expect("ASCII");
    for byte in [0x00, 0x01, 0x07, 0x08, 0x0b, 0x1b, 0x7f, 0x80, 0x85, 0x9b, 0xc3, 0xff] {
        let bad: &[u8] = &[b'h', byte, b'[', b'3', b'1', b'm'];
        let host = format!("Host: {}", server.addr);
        for place in [
            host.as_str(),
            "Sec-WebSocket-Protocol: json",
            "Sec-WebSocket-Key: ",
            "/client/hubs/",
            "access_token=",
            "GET",
        ] {
            let (before, after) = upgrade.split_once(place).expect(place);
            let mut socket = server.raw();
            socket.write([before.as_bytes(), place.as_bytes(), bad, after.as_bytes()].concat());
            assert_ne!(socket.read_response().status, 101, "{byte} at {place}");
        }
        for name in [
            "Origin: ",
            "User-Agent: ",
            "X-Forwarded-For: ",
            "X-Forwarded-Host: ",
            "x-ms-client-request-id: ",
        ] {
            let head = upgrade.trim_end();
            let mut socket = server.raw();
            socket.write([head.as_bytes(), b"\r\n", name.as_bytes(), bad, b"\r\n\r\n"].concat());
            socket.read_response();
        }
    }
    // Hosts that are letters and yet no host; a good signature, so that they are shown.
    for host in ["a\"b", "\\n", "%0a%1b[31m", &"h".repeat(8000)] {
        let token = Token::new(FORGED).sign(KEY);
        let mut socket = server.raw();
        socket.write(format!(
            "HEAD /api/hubs/chat/users/%0A%1b%c2%9b?api-version=2024-12-01 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        socket.read_response_to("HEAD");
    }
    // TLS where there is none, and the other way round.
    let mut socket = server.raw();
    let _ = socket.try_write([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, b'\n', 0x1b, b'[', 0xff]);
}

/// Messages, groups, reasons.
fn frames(server: &Endpoint) {
    let mut clients: Vec<Connection> = ["json.webpubsub.azure.v1", "json.reliable.webpubsub.azure.v1"]
        .map(|name| server.open(Client::raw().subprotocols(name).user(FORGED.trim_end()).may_all()))
        .into();
    for client in &mut clients {
        client.send(&json!({ "type": "joinGroup", "group": FORGED, "ackId": 1 }).to_string());
        client.send(
            &json!({ "type": "event", "event": FORGED, "dataType": "text", "data": FORGED }).to_string(),
        );
        client.send(&json!({ "type": FORGED, "ackId": 2 }).to_string());
        client.send(FORGED);
        client.expect_thrown_out();
    }
    let mut reason = vec![0x03, 0xe8];
    reason.extend(FORGED.as_bytes());
    for (first_byte, payload) in
        [(0x88, &reason[..]), (0x88, b"\x03\xe8\xff\n"), (0x81, b"\xff\n\x1b[31m"), (0x9b, FORGED.as_bytes())]
    {
        let mut socket = server.raw();
        socket.write(Client::json().request(server));
        assert_eq!(socket.read_response().status, 101);
        socket.write(masked_frame(first_byte, payload));
        socket.read_to_end();
    }
}

/// REST calls whose names and bodies are anything.
fn calls(server: &Endpoint) {
    let client = server.connect(Client::json().user("victim"));
    let names = ["%0A%0D", "%1B%5B2J", "%00", "%C2%9B31m", "%FF%FE", "%E2%80%A8", "%25%0a"];
    for name in names {
        for path in [
            format!("/api/hubs/chat/groups/{name}/:send"),
            format!("/api/hubs/chat/users/{name}/:send"),
            format!("/api/hubs/chat/connections/{name}/:send"),
            format!("/api/hubs/{name}/:send"),
            format!("/api/{name}"),
        ] {
            server.rest("POST", &path).query("filter", FORGED).text(FORGED).send();
        }
    }
    let close = format!("/api/hubs/chat/connections/{}", client.id());
    server.rest("DELETE", &close).query("reason", FORGED).expect(204);
    server.rest("POST", "/api/hubs/chat/:generateToken").query("role", FORGED).query("userId", FORGED).send();
}

/// The trick of the hub that it is about.
fn answer(call: &Call) -> Answer {
    let (forged, trick) = (FORGED.as_bytes(), call.header("ce-hub").expect("a hub"));
    match (call.event(), trick) {
        ("connect", "refused") => Answer::status(403).body("text/plain", forged),
        ("connect", "hostile") => {
            let answer =
                json!({ "userId": FORGED, "groups": [FORGED], "roles": [FORGED], "subprotocol": FORGED });
            Answer::json(&answer.to_string())
        }
        ("connect" | "connected" | "disconnected", _) => Answer::no_content(),
        (_, "status") => Answer::raw([b"HTTP/1.1 500 ", forged, b"\r\n\r\n"].concat()).then_close(),
        (_, "first_line") => Answer::raw([forged, b"\r\n\r\n"].concat()).then_close(),
        (_, "header") => {
            Answer::raw(b"HTTP/1.1 200 OK\r\nContent-Type: \x1b[31m\xff\r\n\r\n".as_slice()).then_close()
        }
        (_, "type") => Answer::status(200).body("\u{1b}[31m\u{9b}", forged),
        (_, "body") => Answer::status(500).body("text/plain", FORGED.repeat(10_000)),
        _ => Answer::status(500).body("application/json", [0xff, b'\n', 0x1b]),
    }
}

fn events(server: &Endpoint) {
    for trick in TRICKS {
        let mut socket = server.raw();
        socket.write(Client::json().hub(trick).user("u").request(server));
        if socket.read_response().status != 101 {
            assert!(["refused", "hostile"].contains(&trick), "{trick}");
            continue;
        }
        for event in ["e", FORGED] {
            let event =
                json!({ "type": "event", "event": event, "ackId": 1, "dataType": "text", "data": trick });
            socket.write(masked_frame(0x81, event.to_string().as_bytes()));
        }
        // `connected`, and an answer to each.
        for _ in 0..3 {
            socket.read_frame();
        }
    }
}

/// The admin's pages are JSON and OpenMetrics still.
fn pages(server: &Server) {
    let admin = server.admin();
    for page in ["/connections", "/closed", "/upstreams", "/stats"] {
        let page = admin.http("GET", page).expect(200);
        let _: Value = serde_json::from_str(page.text()).expect("JSON");
    }
    for line in admin.http("GET", "/metrics").expect(200).text().lines() {
        assert!(!line.contains(char::is_control) && !line.contains("forged"), "{line:?}");
    }
    for path in ["/token?hub=%0A%1b", "/upstreams?hub=%0a&handler=%1b", "/%1b%0a", "/..%2f..%2fetc%2fpasswd"]
    {
        admin.http("POST", path).send();
    }
}

/// Mistakes in a configuration are shown, and with what they hold.
fn reloads(server: &Server, good: &str) {
    let escaped = "\\n2026-11-27T00:00:00.000000Z ERROR forged: yes\\u001b[31m\\u0085\\u2028";
    for bad in [
        format!("[server]\n\"{escaped}\" = 1\n"),
        format!("[\"{escaped}\"]\n"),
        format!("[hubs.\"{escaped}\"]\n"),
        format!("[server]\nlisten = \"{escaped}\"\n"),
        format!("[server]\nlog = \"{escaped}\"\n"),
        format!("[server]\npublic_endpoints = [\"{escaped}\"]\n"),
        format!("[hubs.chat]\nallowed_origins = [\"{}\"]\n", escaped.repeat(100)),
        format!("[[hubs.chat.event_handlers]]\nurl_template = \"http://x/{{file:/{escaped}}}\"\n"),
        format!("[[hubs.chat.event_listeners]]\nfile = \"/nowhere/{escaped}\"\nuser_event_pattern = \"*\"\n"),
        format!("[tls]\ncertificate = \"/nowhere/{escaped}\"\nprivate_key = \"{escaped}\"\n"),
        "[\u{1b}[31m\n".to_owned(),
    ] {
        fs::write(server.config(), &bad).expect("the build folder can be written");
        server.reload();
    }
    fs::write(server.config(), [b"[server]\nlog = \"\xff".as_slice(), FORGED.as_bytes()].concat())
        .expect("written");
    server.reload();
    fs::write(server.config(), good).expect("the build folder can be written");
    server.reload();
}

/// A start that fails says why on lines that begin as they should.
#[test]
fn a_start_that_fails_says_so_without_obeying_what_it_quotes() {
    let path = write_config("[server]\n\"\\n\\u001b[31m\\u2028forged\" = 1\n");
    let mut process = ringhub_tests::Process::spawn(ringhub_tests::ringhub(["serve", "--config"]).arg(&path));
    assert!(!process.wait().success());
    let log = process.log();
    assert!(log.contains("forged") && log.lines().all(|line| line.starts_with("ringhub: ")), "{log:?}");
    assert!(!log.replace('\n', "").contains(char::is_control) && !log.contains('\u{2028}'), "{log:?}");
    fs::remove_file(path).expect("it is there");
}

/// Names of servers in a TLS greeting, and greetings that are none.
#[test]
fn a_tls_greeting_is_logged_on_one_line() {
    for format in ["text", "json"] {
        let config = format!("[server]\nlog = \"trace\"\nlog_format = \"{format}\"\n");
        let mut server = Server::with(|setup| setup.tls().config(&config));
        for name in [FORGED.as_bytes(), b"\xff\xfe\n", b"a\nb.example", &b"\x1b[31m".repeat(1000)] {
            let mut socket = Endpoint::plain(server.addr, KEY).raw();
            let _ = socket.try_write(greeting(name));
            socket.read_to_end();
        }
        server.connect(Client::json());
        expect_logged(&mut server, "a TLS connection failed");
        records(&mut server, format == "json");
    }
}

/// A ClientHello that asks for a server of that name (RFC 8446 §4.1.2, RFC 6066 §3).
fn greeting(name: &[u8]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let server_name = [&[0, 0][..], &long(&long(&[&[0][..], &long(name)].concat()))].concat();
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let schemes = [0, 13, 0, 4, 0, 2, 4, 3];
    let extensions = long(&[&server_name[..], &groups, &schemes].concat());
    // Version, random, no session, one suite, no compression.
    let hello = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2b], &[1, 0], &extensions].concat();
    let length = (hello.len() as u32).to_be_bytes();
    let handshake = [&[1, length[1], length[2], length[3]][..], &hello].concat();
    [&[22, 3, 1][..], &long(&handshake)].concat()
}
