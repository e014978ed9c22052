//! TLS on the service's sockets: everything as without, and what is TLS's own.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use ringhub_tests::{
    Certificate, Client, Connection, Endpoint, KEY, RawSocket, Server, masked_frame, ringhub, wait_until,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, SupportedProtocolVersion};

use crate::reliable::numbered;

fn failures(server: &Server, reason: &str) -> u64 {
    server.metric_of("ringhub_tls_handshake_failures_total", &[&format!("reason=\"{reason}\"")])
}

/// A client's side without a socket, and its first flight.
fn client_hello() -> (ClientConnection, Vec<u8>) {
    let config = Certificate::shared().client();
    let name = "127.0.0.1".try_into().unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    (client, hello)
}

/// A socket to a TLS port that speaks none.
fn bare(server: &Server) -> RawSocket {
    RawSocket::connect(server.addr)
}

#[test]
fn websockets_and_rest_over_both_versions() {
    let server = Server::with(|setup| setup.tls());
    let versions: [(&'static SupportedProtocolVersion, ProtocolVersion); 2] =
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
    for (version, agreed) in versions {
        let endpoint = server.with_tls(Certificate::shared().client_of(&[version]));
        let mut alice = endpoint.connect(Client::json().user("alice").group("g").may_all());
        alice.publish("g", "hello");
        alice.expect_group_text("g", Some("alice"), "hello");
        endpoint.rest("POST", "/api/hubs/chat/:send").text("to all").expect(202);
        alice.expect_server_text("to all");
        alice.close(1000);

        // Several requests on one connection.
        let mut socket = endpoint.raw();
        for _ in 0..3 {
            let response = endpoint.rest("HEAD", "/api/hubs/chat/users/nobody").send_on(&mut socket);
            assert_eq!(response.status, 404);
        }
        assert_eq!(socket.tls().protocol_version(), Some(agreed));
    }
    assert!(server.metric("ringhub_tls_handshakes_total") >= 4);
}

#[test]
fn http_1_1_is_the_only_application_protocol() {
    let server = Server::with(|setup| setup.tls());
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let mut config = Certificate::shared().client().as_ref().clone();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let endpoint = server.with_tls(Arc::new(config));
        let mut socket = endpoint.raw();
        assert_eq!(endpoint.http("GET", "/api/health").send_on(&mut socket).status, 200);
        assert_eq!(socket.tls().alpn_protocol(), agreed);
    }
    let mut config = Certificate::shared().client().as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut socket = server.with_tls(Arc::new(config)).raw();
    assert!(socket.try_write("GET / HTTP/1.1\r\n").is_err());
    wait_until("the failure is counted", || failures(&server, "incompatible") == 1);
}

#[test]
fn plain_and_tls_and_ipv6_at_once() {
    let server =
        Server::with(|setup| setup.listen("127.0.0.1:0,https://127.0.0.1:0,https://[::1]:0,http://[::1]:0"));
    let [plain, _, tls_v6, plain_v6] = server.endpoints() else { panic!("four listeners") };
    assert!(plain.tls.is_none() && tls_v6.tls.is_some() && plain_v6.addr.is_ipv6());
    let mut members: Vec<Connection> =
        server.endpoints().iter().map(|endpoint| endpoint.connect(Client::json().group("g"))).collect();
    for (n, endpoint) in server.endpoints().iter().enumerate() {
        let path = "/api/hubs/chat/groups/g/:send";
        endpoint.rest("POST", path).text(&n.to_string()).expect(202);
        for member in &mut members {
            member.expect(&format!(
                r#"{{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"text","data":"{n}"}}"#
            ));
        }
    }
}

/// A token the server makes names the scheme by which it was asked for.
#[test]
fn a_generated_token_names_the_scheme() {
    let server = Server::with(|setup| setup.listen("127.0.0.1:0,https://127.0.0.1:0"));
    for endpoint in server.endpoints() {
        let response = endpoint.rest("POST", "/api/hubs/chat/:generateToken").expect(200);
        let token = response.object()["token"].as_str().unwrap().to_owned();
        let payload = token.split('.').nth(1).unwrap();
        let payload = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).unwrap();
        let payload = ringhub_tests::json_object(std::str::from_utf8(&payload).unwrap());
        assert_eq!(payload["aud"], format!("{}/client/hubs/chat", endpoint.url()));
        endpoint.connect(Client::json().token(token));
    }
}

#[test]
fn a_mebibyte_both_ways() {
    let server = Server::with(|setup| setup.tls());
    let mut alice = server.connect(Client::json().user("a").group("g").may_all());
    // The whole message, envelope and all, may be 1 MiB.
    for text in ["x".repeat((1 << 20) - 1000), "y".repeat(16 << 10), "z".repeat((16 << 10) + 1)] {
        alice.publish("g", &text);
        alice.expect_group_text("g", Some("a"), &text);
    }
}

/// Its bytes take the way over the outbox, where plaintext waits and is encrypted late.
#[test]
fn a_slow_reader_gets_everything_in_order() {
    let server = Server::with(|setup| setup.tls());
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut slow = server.connect_narrow(Client::json().group("g"));
    let texts: Vec<String> = (0..300usize).map(|n| format!("{n}:{}", "x".repeat(n * 37 % 5000))).collect();
    // Below the bound on unsent bytes.
    for text in &texts {
        sender.publish_acked("g", text);
    }
    for text in &texts {
        slow.expect_group_text("g", None, text);
    }
}

#[test]
fn a_slow_consumer_over_tls_gets_1008() {
    let server = Server::with(|setup| setup.tls());
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let slow = server.connect_narrow(Client::json().group("g"));
    let text = "x".repeat(64 * 1024);
    for _ in 0..160 {
        sender.publish_acked("g", &text);
    }
    server.rest("HEAD", &format!("/api/hubs/chat/connections/{}", slow.id())).expect(404);
    let closed = server.admin().http("GET", "/closed").expect(200);
    assert!(closed.text().contains(slow.id()) && closed.text().contains("1008"));
}

/// The socket's TLS goes with it to the core that has the session.
#[test]
fn recovery_moves_a_tls_socket_between_cores() {
    for version in [&TLS12, &TLS13] {
        let server = Server::with(|setup| setup.tls().cores(2));
        let endpoint = server.with_tls(Certificate::shared().client_of(&[version]));
        let mut sender = endpoint.connect(Client::json().role("webpubsub.sendToGroup"));
        let alice = endpoint.connect(Client::reliable().group("g"));
        let (id, mut token) = (alice.id().to_owned(), alice.token().to_owned());
        alice.cut();
        // The kernel gives every socket to one of the two.
        for n in 1..=20 {
            sender.publish_acked("g", &n.to_string());
            let mut alice = endpoint.open(Client::reliable().recover(&id, &token));
            assert_eq!(alice.expect_connected().0, id);
            alice.expect(&numbered(n, &n.to_string()));
            alice.acknowledge(n);
            alice.expect_silence();
            token = alice.token().to_owned();
            alice.cut();
        }
        assert!(server.metric("ringhub_sockets_moved_in_total") > 0, "twenty tries, two cores");
    }
}

#[test]
fn coming_back_resumes_the_session_on_any_core() {
    for version in [&TLS12, &TLS13] {
        let server = Server::with(|setup| setup.tls().cores(2));
        let endpoint = server.with_tls(Certificate::shared().client_of(&[version]));
        for n in 0..10 {
            let mut socket = endpoint.raw();
            assert_eq!(endpoint.http("GET", "/api/health").send_on(&mut socket).status, 200);
            let kind = if n == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(socket.tls().handshake_kind(), Some(kind), "{n}");
        }
        assert_eq!(server.metric("ringhub_tls_resumptions_total"), 9);
    }
}

#[test]
fn http_without_tls_is_told_so() {
    let server = Server::with(|setup| setup.tls());
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "P", "OPTIONS * HTTP/1.0\r\n\r\n"] {
        let mut socket = bare(&server);
        socket.write(request);
        let response = socket.read_response();
        assert_eq!(response.status, 400);
        assert!(response.text().contains("TLS"), "{response:?}");
        socket.expect_end();
    }
    assert_eq!(failures(&server, "plain_http"), 3);
}

#[test]
fn tls_on_a_plain_port_is_a_bad_request() {
    let server = Server::with(|setup| setup.listen("127.0.0.1:0"));
    let mut socket = bare(&server);
    socket.write(client_hello().1);
    assert_eq!(socket.read_response().status, 400);
}

#[test]
fn garbage_and_half_handshakes_end_and_are_counted() {
    let server = Server::with(|setup| setup.tls().config("[limits]\nhead_deadline_seconds = 1\n"));
    let (_, hello) = client_hello();
    let mut wrong_record = hello.clone();
    wrong_record[5] = 99;
    for garbage in
        [b"\0\0\0\0".to_vec(), b"\x80\x2e\x01".to_vec(), b"\x16\x09\x09\xff\xff".to_vec(), wrong_record]
    {
        let mut socket = bare(&server);
        socket.write(&garbage);
        // An alert, or nothing.
        let said = socket.read_to_end();
        assert!(said.is_empty() || said[0] == 21, "{said:?}");
    }
    wait_until("garbage is counted", || failures(&server, "not_tls") + failures(&server, "protocol") == 4);
    // Cut off in the middle.
    for end in [1, 5, 6, hello.len() - 1, hello.len()] {
        let mut socket = bare(&server);
        socket.write(&hello[..end]);
        drop(socket);
    }
    wait_until("cut handshakes are counted", || failures(&server, "closed") == 5);
    // Never finished: the deadline of a request's head holds for its handshake, too.
    let mut silent = bare(&server);
    let mut half = bare(&server);
    half.write(&hello[..hello.len() / 2]);
    silent.expect_end();
    half.expect_end();
    assert_eq!(failures(&server, "timeout"), 2);
    // Nobody trusts this client's server.
    let stranger = Certificate::make("stranger").client();
    let mut socket = server.with_tls(stranger).raw();
    assert!(socket.try_write("x").is_err());
    wait_until("the alert is counted", || failures(&server, "alert") == 1);
    server.connect(Client::json()).expect_silence();
}

#[test]
fn half_open_handshakes_hold_nobody_up_and_end() {
    const HALF_OPEN: usize = 300;
    let server = Server::with(|setup| setup.tls().config("[limits]\nhead_deadline_seconds = 2\n"));
    let (_, hello) = client_hello();
    let sockets: Vec<RawSocket> = (0..HALF_OPEN)
        .map(|n| {
            let mut socket = bare(&server);
            socket.write(&hello[..1 + n % (hello.len() - 1)]);
            socket
        })
        .collect();
    let mut alice = server.connect(Client::json().user("a").group("g").may_all());
    alice.publish("g", "meanwhile");
    alice.expect_group_text("g", Some("a"), "meanwhile");
    sockets.into_iter().for_each(|mut socket| socket.expect_end());
    assert_eq!(failures(&server, "timeout"), HALF_OPEN as u64);
    wait_until("all but two are gone", || server.metric("ringhub_sockets") <= 2);
    alice.publish("g", "after");
    alice.expect_group_text("g", Some("a"), "after");
}

#[test]
fn a_handshake_in_pieces_of_any_size() {
    let server = Server::with(|setup| setup.tls());
    let request = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n";
    for piece in [1, 2, 3, 7, 64, 500] {
        let (mut client, hello) = client_hello();
        let mut tcp = std::net::TcpStream::connect(server.addr).unwrap();
        tcp.set_nodelay(true).unwrap();
        let send = |tcp: &mut std::net::TcpStream, bytes: &[u8]| {
            bytes.chunks(piece).for_each(|piece| tcp.write_all(piece).unwrap());
        };
        send(&mut tcp, &hello);
        client.writer().write_all(request).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(client.read_tls(&mut tcp).unwrap() > 0, "the server stays");
            let state = client.process_new_packets().unwrap();
            let mut out = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut out).unwrap();
            }
            send(&mut tcp, &out);
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            client.reader().read_exact(&mut plain).unwrap();
            answer.extend(plain);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
    }
}

/// Goodbyes of TLS, in both directions.
#[test]
fn a_goodbye_is_said_and_understood() {
    let server = Server::with(|setup| setup.tls());
    // The server ends: `Connection: close`, a refused upgrade, a close handshake.
    let mut socket = server.raw();
    socket.write("GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(socket.read_response().status, 200);
    socket.expect_goodbye();
    let mut socket = server.raw();
    socket.write(Client::json().request(&server));
    assert_eq!(socket.read_response().status, 101);
    socket.read_frame();
    socket.write(masked_frame(0x88, &1000u16.to_be_bytes()));
    assert_eq!(socket.read_frame().close_code(), Some(1000));
    socket.expect_goodbye();
    // The client ends with nothing but TLS's goodbye: it is gone for the hub.
    let mut socket = server.raw();
    socket.write(Client::raw().user("leaving").request(&server));
    assert_eq!(socket.read_response().status, 101);
    let exists = || server.rest("HEAD", "/api/hubs/chat/users/leaving").send().status == 200;
    wait_until("the client is there", exists);
    socket.half_close();
    wait_until("the client is gone", || !exists());
    // An answer is still given to who has said goodbye behind its request.
    let mut socket = server.raw();
    socket.write(server.rest("POST", "/api/hubs/chat/:send").text("x").bytes());
    socket.half_close();
    assert_eq!(socket.read_response().status, 202);
    socket.expect_goodbye();
}

#[test]
fn a_stop_says_goodbye_to_clients_and_idle_connections() {
    let mut server = Server::with(|setup| setup.tls());
    let mut idle = server.raw();
    assert_eq!(server.http("GET", "/api/health").send_on(&mut idle).status, 200);
    let mut client = server.connect(Client::json());
    server.process().signal("TERM");
    idle.expect_goodbye();
    client.expect_goodbye(1001);
    server.process().wait();
}

#[test]
fn a_client_certificate_is_asked_for_and_any_is_taken() {
    let server = Server::with(|setup| setup.tls().config("[tls]\nclient_certificates = \"request\"\n"));
    // Of an authority the server has never heard of.
    let own = Certificate::make("client");
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&own.certificate).unwrap().collect::<Result<_, _>>().unwrap();
    for (n, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let key = PrivateKeyDer::from_pem_file(&own.private_key).unwrap();
        let builder = Certificate::shared().builder(&[version]);
        let config = builder.with_client_auth_cert(chain.clone(), key).unwrap();
        let endpoint = server.with_tls(Arc::new(config));
        endpoint.connect(Client::json()).expect_silence();
        assert_eq!(server.metric("ringhub_tls_client_certificates_total"), n as u64 + 1);
    }
    // None is needed.
    server.connect(Client::json()).expect_silence();
    assert_eq!(server.metric("ringhub_tls_client_certificates_total"), 2);
}

#[test]
fn versions_below_the_configured_one_are_refused() {
    let server = Server::with(|setup| setup.tls().config("[tls]\nmin_version = \"1.3\"\n"));
    server.with_tls(Certificate::shared().client_of(&[&TLS13])).connect(Client::json());
    let mut socket = server.with_tls(Certificate::shared().client_of(&[&TLS12])).raw();
    assert!(socket.try_write("x").is_err());
    wait_until("the failure is counted", || failures(&server, "incompatible") == 1);
}

#[test]
fn a_start_without_a_usable_certificate_says_what_to_do() {
    let (one, other) = (Certificate::shared(), Certificate::make("other"));
    let broken = one.certificate.with_file_name("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    let missing = one.certificate.with_file_name("missing.pem");
    let cases = [
        (None, None, "ringhub cert"),
        (Some(&one.certificate), None, "tls.private_key"),
        (None, Some(&one.private_key), "tls.certificate"),
        (Some(&missing), Some(&one.private_key), "missing.pem: cannot be read"),
        (Some(&broken), Some(&one.private_key), "broken.pem: is not valid PEM"),
        (Some(&one.private_key), Some(&one.private_key), "ringhub-key.pem: has no certificate"),
        (Some(&one.certificate), Some(&one.certificate), "ringhub-cert.pem: has no private key"),
        (Some(&one.certificate), Some(&other.private_key), "the private key is not that of"),
    ];
    for (certificate, key, expected) in cases {
        let mut command = ringhub(["serve", "--listen", "https://127.0.0.1:0", "--cores", "1"]);
        command.env("RINGHUB_PRIMARY_KEY", KEY).env("RINGHUB_ADMIN_LISTEN", "127.0.0.1:0");
        certificate.map(|file| command.env("RINGHUB_TLS_CERTIFICATE", file));
        key.map(|file| command.env("RINGHUB_TLS_PRIVATE_KEY", file));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// Puts a file in place of another as a tool that renews certificates does.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_certificate_is_replaced_under_live_connections() {
    let (first, second) = (Certificate::make("replaced"), Certificate::make("replacement"));
    let pair = |of: &Certificate| [&of.certificate, &of.private_key].map(|path| fs::read(path).unwrap());
    let pairs = [pair(&first), pair(&second)];
    let put = |[certificate, key]: &[Vec<u8>; 2]| {
        replace(&first.certificate, certificate);
        replace(&first.private_key, key);
    };
    let server = Server::with(|setup| {
        let setup = setup.tls().cores(2).config("[limits]\nhubs_max = 10\n");
        let setup = setup.env("RINGHUB_TLS_CERTIFICATE", first.certificate.to_str().unwrap());
        setup.env("RINGHUB_TLS_PRIVATE_KEY", first.private_key.to_str().unwrap())
    });
    // A new client each time: none has a ticket.
    let trusts = |certificate: &Certificate| {
        let mut socket = server.with_tls(certificate.client()).raw();
        socket.try_write("GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n").is_ok()
            && socket.read_response().status == 200
    };
    assert!(trusts(&first) && !trusts(&second));
    let endpoint = server.with_tls(first.client());
    let mut alive = endpoint.connect(Client::json().user("a").group("g").may_all());
    let mut still_alive = |text: &str| {
        alive.publish("g", text);
        alive.expect_group_text("g", Some("a"), text);
    };

    // By the files alone. Between the two renames they do not fit; that changes nothing.
    put(&pairs[1]);
    wait_until("new handshakes use the new one", || trusts(&second));
    assert!(!trusts(&first));
    still_alive("after the swap");
    // Who was there before comes back by its ticket.
    let mut socket = endpoint.raw();
    assert_eq!(endpoint.http("GET", "/api/health").send_on(&mut socket).status, 200);
    assert_eq!(socket.tls().handshake_kind(), Some(HandshakeKind::Resumed));

    // Asked for.
    put(&pairs[0]);
    assert!(server.reload().contains("the configuration was reloaded"));
    assert!(trusts(&first) && !trusts(&second));
    still_alive("after the signal");

    // A pair that does not fit refuses all of a reload.
    replace(&first.private_key, &pairs[1][1]);
    fs::write(server.config(), "[limits]\nhubs_max = 11\n").unwrap();
    let log = server.reload();
    assert!(log.contains("the configuration was not reloaded") && log.contains("is not that of"), "{log}");
    assert!(!log.contains("hubs_max"), "{log}");
    assert!(trusts(&first) && !trusts(&second));
    still_alive("after a refused one");
    // The missing half brings both.
    let before = server.log_len();
    replace(&first.certificate, &pairs[1][0]);
    assert!(server.reloaded_since(before).contains("limits.hubs_max: 10 → 11"));
    assert!(trusts(&second));
    still_alive("after all");
}

#[test]
fn certificates_cannot_be_taken_from_under_a_tls_listener() {
    let certificate = Certificate::shared();
    let server = "[server]\nlisten = \"https://127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ncores = 1\n";
    let keys = format!("[keys]\nprimary = \"{KEY}\"\n");
    let files = format!(
        "[tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\n",
        certificate.certificate.display(),
        certificate.private_key.display()
    );
    let path = ringhub_tests::write_config(&format!("{server}{keys}{files}"));
    let mut process = ringhub_tests::Process::spawn(ringhub(["serve", "--config"]).arg(&path));
    let addr = process.expect_line("listening on https://").parse().unwrap();
    process.expect_line("admin on http://");
    fs::write(&path, format!("{server}{keys}[limits]\nhubs_max = 7\n")).unwrap();
    process.signal("HUP");
    wait_until("it is refused", || process.log().contains("the configuration was not reloaded"));
    let log = process.log();
    assert!(log.contains("tls.certificate and tls.private_key are not set"), "{log}");
    assert!(!log.contains("hubs_max"), "{log}");
    Endpoint::plain(addr, KEY).with_tls(certificate.client()).connect(Client::json());
    fs::remove_file(path).unwrap();
}

/// Without a TLS listener nobody needs `[tls]`; what stands there is to be right all the same.
#[test]
fn certificates_nobody_needs_come_and_go_but_are_checked() {
    let certificate = Certificate::shared();
    let files = |key: &Path| {
        let certificate = certificate.certificate.display();
        format!("[tls]\ncertificate = \"{certificate}\"\nprivate_key = \"{}\"\n", key.display())
    };
    let good = files(&certificate.private_key);
    let server = Server::with(|setup| setup.listen("127.0.0.1:0").config(&good));
    for (text, outcome) in [
        (String::new(), "the configuration was reloaded"),
        (files(&Certificate::make("unneeded").private_key), "is not that of"),
        ("[tls]\nprivate_key = \"x\"\n".to_owned(), "tls.private_key is set, tls.certificate is not"),
        (good.clone(), "the configuration was reloaded"),
    ] {
        fs::write(server.config(), text).unwrap();
        let log = server.reload();
        assert!(log.contains(outcome), "{outcome}: {log}");
    }
}

/// The admin page's tokens are made for its own pages, over TLS as well.
#[test]
fn the_admin_page_over_tls_gets_its_tokens() {
    let certificate = Certificate::shared();
    let path = ringhub_tests::write_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"https://127.0.0.1:0\"\ncores = 1\n\
         [tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\n",
        certificate.certificate.display(),
        certificate.private_key.display()
    ));
    let mut process = ringhub_tests::Process::spawn(
        ringhub(["serve", "--config"]).arg(&path).env("RINGHUB_PRIMARY_KEY", KEY),
    );
    let service = process.expect_line("listening on http://");
    let addr: std::net::SocketAddr = process.expect_line("admin on https://").parse().unwrap();
    let admin = Endpoint::plain(addr, KEY).with_tls(certificate.client());
    let ask = |origin: &str| {
        admin
            .http("POST", "/token?hub=chat")
            .header("Origin", origin)
            .header("X-Forwarded-Proto", "http")
            .send()
    };
    let made = ask(&format!("https://{addr}"));
    assert_eq!(made.status, 200, "{made:?}");
    let url = made.object()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("ws://{service}/client/hubs/chat?access_token=")), "{url}");
    for elsewhere in [format!("http://{addr}"), "https://evil.example.com".to_owned(), "null".to_owned()] {
        assert_eq!(ask(&elsewhere).status, 403, "{elsewhere}");
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn cert_makes_what_serve_takes_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let made = Certificate::make("fresh");
    let folder = made.certificate.parent().unwrap();
    assert_eq!(fs::metadata(&made.private_key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&made.private_key).unwrap();
    let mut again = ringhub(["cert".as_ref(), "--out".as_ref(), folder.as_os_str()]);
    let output = again.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists already"), "{output:?}");
    assert_eq!(fs::read(&made.private_key).unwrap(), before);
    let named = ringhub(["cert", "--name", "not a name", "--out"]).arg(folder.join("x")).output().unwrap();
    assert!(String::from_utf8_lossy(&named.stderr).contains("--name"), "{named:?}");
}

#[test]
fn the_banner_and_the_token_verb_name_https() {
    let certificate = Certificate::shared();
    let mut command = ringhub(["token", "--hub", "chat", "--key", KEY]);
    command.env("RINGHUB_LISTEN", "https://0.0.0.0:8443");
    command.env("RINGHUB_TLS_CERTIFICATE", &certificate.certificate);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("wss://127.0.0.1:8443/client/hubs/chat?access_token="), "{said}");
    let mut server = Server::with(|setup| setup.tls());
    let said = server.process().log();
    let addr = server.addr;
    assert!(said.contains(&format!("Endpoint=https://{addr};")), "{said}");
    assert!(said.contains(&format!("wss://{addr}/client/hubs/")), "{said}");
    assert!(said.contains(&format!("listening on https://{addr}")), "{said}");
}

#[test]
fn the_echo_listener_speaks_tls() {
    let certificate = Certificate::shared();
    let mut command = ringhub(["echo", "--listen", "https://127.0.0.1:0", "--certificate"]);
    command.arg(&certificate.certificate).arg("--key").arg(&certificate.private_key);
    let mut process = ringhub_tests::Process::spawn(&mut command);
    let addr = process.expect_line("echo on wss://").parse().unwrap();
    let endpoint = Endpoint::plain(addr, KEY).with_tls(certificate.client());
    let mut client = endpoint.open(Client::raw().no_token());
    for text in ["hello".to_owned(), "x".repeat(3 << 20)] {
        client.send(&text);
        client.expect(&text);
    }
    client.close(1000);
}
