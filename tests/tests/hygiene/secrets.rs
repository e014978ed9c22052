//! A server with every kind of secret in play, through all that it does and all that goes wrong: none of them is
//! printed, logged or shown.

use std::collections::HashSet;
use std::fs;

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use ringhub_tests::{
    Answer, Call, Certificate, Client, Endpoint, Handler, Issuer, Process, Server, Token, now_seconds,
    ringhub, wait_until, write_config,
};
use serde_json::json;

use super::{expect_logged, records};

const PRIMARY: &str = "primary-key-that-nobody-may-see-0123456789";
const SECONDARY: &str = "secondary-key-that-nobody-may-see-0123456";
const NEXT: &str = "the-key-after-a-reload-that-nobody-may-see";
const SHORT: &str = "a-key-too-short";
const HEADER: &str = "static-header-value-of-a-handler";
const CODE: &str = "code-in-the-url-of-a-handler";
const INLINE: &str = "written-into-the-url-itself";
const FILED: &str = "secret-that-stands-in-a-file";
const CLIENT: &str = "client-secret-of-a-handler";
const BEARER: &str = "bearer-token-of-a-handler";
const REST_PATH: &str = "/api/hubs/chat/users/nobody";

/// So many characters of a token say which it was, and bring a guess of the rest nearer.
const PIECE_BYTES: usize = 16;

/// Secrets, and texts that must not have them.
#[derive(Default)]
struct Watch {
    secrets: Vec<String>,
    /// All pieces of what stands in tokens behind their headers, which are alike.
    pieces: HashSet<[u8; PIECE_BYTES]>,
    shown: String,
}

impl Watch {
    fn keep(&mut self, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() > 10, "too short to look for: {secret:?}");
        self.secrets.push(secret);
    }

    /// A token's claims and its signature, in whole and in pieces: a field that is cut at its bound shows a part.
    fn keep_token(&mut self, token: &str) {
        let (_header, rest) = token.split_once('.').expect("a part");
        for part in rest.split('.') {
            self.keep(part);
            self.pieces.extend(part.as_bytes().array_windows().copied());
        }
    }

    fn show(&mut self, text: &str) {
        self.shown += text;
        self.shown.push('\n');
    }

    /// In none of the ways a program may come to show a text.
    #[track_caller]
    fn check(&self) {
        for secret in &self.secrets {
            let bytes = format!("{:?}", secret.as_bytes());
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let plain = [secret.clone(), bytes.trim_matches(['[', ']']).to_owned(), hex];
            for form in plain.into_iter().chain(in_base64(secret)) {
                let found = self.shown.lines().find(|line| line.contains(&form));
                assert!(found.is_none(), "{secret} as {form}: {}", found.unwrap_or_default());
            }
        }
        for line in self.shown.lines() {
            let piece = line.as_bytes().array_windows().find(|piece| self.pieces.contains(*piece));
            assert!(piece.is_none(), "a piece of a token: {line}");
        }
    }
}

/// What base64 makes of a secret, wherever in a longer text it stands: without the first and last characters, which
/// depend on what stands beside it.
fn in_base64(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let text = format!("{}{secret}", &"??"[..before]);
        let (first, last) = (before.div_ceil(3) * 4, text.len() / 3 * 4);
        forms.push(STANDARD.encode_to_string(&text)[first..last].to_owned());
        forms.push(URL_SAFE_NO_PAD.encode_to_string(&text)[first..last].to_owned());
    }
    forms
}

#[test]
fn no_secret_is_printed_logged_or_shown() {
    for format in ["text", "json"] {
        session(format);
    }
}

fn session(format: &str) {
    let mut watch = Watch::default();
    for secret in [PRIMARY, SECONDARY, NEXT, SHORT, HEADER, CODE, INLINE, FILED, CLIENT, BEARER] {
        watch.keep(secret);
    }
    for line in fs::read_to_string(&Certificate::shared().private_key).expect("a key").lines() {
        if !line.starts_with("-----") && line.len() > 10 {
            watch.keep(line);
        }
    }
    let filed = write_config(FILED);
    let issuer = Issuer::start();
    let tokens = Handler::plain(token_endpoint);
    let (one, two) = (Handler::tls(repeating), Handler::http2(true, repeating));
    let hub = |handler: &Handler, hub: &str, query: &str, more: &str| {
        let all =
            "user_event_pattern = \"*\"\nsystem_events = [\"connect\", \"connected\", \"disconnected\"]\n";
        handler.section_of(
            hub,
            &format!("/{{event}}?{query}"),
            &format!("{all}retry_delays_seconds = []\n{more}"),
        )
    };
    let of = |hub: &str, auth: &str| format!("[hubs.{hub}.event_handlers.auth]\n{auth}\n");
    let header = of("chat", "type = \"header\"\nname = \"X-Key\"\nvalue = \"{env:RINGHUB_TESTS_HEADER}\"");
    let bearer = |hub: &str, path: &str| {
        of(
            hub,
            &format!(
                "type = \"client_credentials\"\ntoken_url = \"{}{path}\"\nclient_id = \"ringhub\"\nclient_secret = \"{CLIENT}\"",
                tokens.url()
            ),
        )
    };
    let code = "code={env:RINGHUB_TESTS_CODE}";
    let sections = [
        hub(&one, "chat", code, &header),
        hub(&two, "second", &format!("code={INLINE}"), &bearer("second", "/token")),
        hub(&one, "third", &format!("code={{file:{}}}", filed.display()), &bearer("third", "/refused")),
    ];
    let config = |keys: &str, more: &str| {
        format!(
            "[server]\nlog = \"trace\"\nlog_format = \"{format}\"\n{keys}\n{}{}{more}",
            sections.concat(),
            issuer.section("")
        )
    };
    let keys = |primary: &str| format!("[keys]\nprimary = \"{primary}\"\nsecondary = \"{SECONDARY}\"\n");
    let good = config(&keys(PRIMARY), "");
    let mut server = Server::with(|setup| {
        let setup = setup.cores(2).tls().key(PRIMARY).keys_in_config().config(&good);
        setup.env("RINGHUB_TESTS_HEADER", HEADER).env("RINGHUB_TESTS_CODE", CODE)
    });

    clients(&server, &mut watch);
    callers(&server, &issuer, &mut watch);
    events(&mut server, &mut watch, &[&one, &two, &tokens]);
    pages(&server, &mut watch);
    reloads(&mut server, &keys, &config);
    let next = Endpoint { key: NEXT.to_owned(), ..(*server).clone() };
    next.connect(Client::json());
    clients(&next, &mut watch);
    pages(&server, &mut watch);
    let records = records(&mut server, format == "json");
    watch.show(&server.process().log());
    assert!(records.iter().any(|record| record.contains("TRACE")), "not at every level");
    check_verb(&mut watch, &good);
    watch.check();
    fs::remove_file(filed).expect("it is there");
}

/// Tokens in queries and headers, good and bad, and of sessions.
fn clients(server: &Endpoint, watch: &mut Watch) {
    let audience = format!("{}/client/hubs/chat", server.url());
    let good = Token::new(&audience);
    let fine = good.sign(&server.key);
    let mut all = vec![fine.clone(), good.sign(SECONDARY)];
    server.connect(Client::json().token(fine.as_str()));
    server.connect(Client::json().no_token().header("Authorization", &format!("Bearer {fine}")));
    for bad in [
        good.sign("another-key-0123456789-0123456789-0123456789"),
        good.clone().claim("exp", json!(now_seconds() - 3600)).sign(&server.key),
        Token::new("http://elsewhere.example.com/").sign(&server.key),
        good.clone().header(json!({ "alg": "RS256", "typ": "JWT", "kid": "no-such-key" })).sign(&server.key),
    ] {
        server.refuse(Client::json().token(bad.clone()), 401);
        server.refuse(Client::json().no_token().header("Authorization", &format!("Bearer {bad}")), 401);
        server.refuse(Client::json().path("/nowhere").query("access_token", &bad), 404);
        server.refuse(Client::json().token(bad.clone()).query("webpubsub_mode", "bad"), 401);
        server.http("GET", &format!("/client/hubs/chat?access_token={bad}")).expect(400);
        let mut socket = server.raw();
        socket.write(format!(
            "GET /?access_token={bad} HTTP/1.1\r\nHost : x\r\nAuthorization: Bearer {bad}\r\n\r\n"
        ));
        socket.read_to_end();
        all.push(bad);
    }
    Endpoint::plain(server.addr, &server.key).http("GET", &format!("/?access_token={fine}")).expect(400);
    // Two that are longer than what the log takes of a field, one of them good.
    let long = good.claim("webpubsub.group", json!(vec!["a group with a long name"; 60]));
    for key in [server.key.as_str(), "another-key-0123456789-0123456789-0123456789"] {
        let token = long.clone().sign(key);
        assert!(token.len() > 1 << 10);
        let client = Client::json().token(token.as_str());
        if key == server.key {
            drop(server.connect(client))
        } else {
            drop(server.refuse(client, 401))
        }
        server.http("GET", &format!("/client/hubs/chat?access_token={token}")).expect(400);
        server.http("GET", &format!("/nowhere?access_token={token}")).expect(404);
        all.push(token);
    }
    all.iter().for_each(|token| watch.keep_token(token));

    let phone = server.connect(Client::reliable());
    let (id, token) = (phone.id().to_owned(), phone.token().to_owned());
    phone.cut();
    server.open(Client::reliable().hub("second").recover(&id, &token)).expect_refused_recovery();
    let mut again = server.open(Client::reliable().recover(&id, &token));
    again.expect_connected();
    again.send("what is no message");
    again.expect_thrown_out();
    watch.keep(token);
    watch.keep(again.token());
}

/// REST tokens, by keys and by an issuer, and what is made for clients.
fn callers(server: &Server, issuer: &Issuer, watch: &mut Watch) {
    let owner = issuer.token("owner");
    wait_until("the issuer's keys are there", || {
        server.rest("HEAD", REST_PATH).token(owner.as_str()).send().status == 404
    });
    let nobody = issuer.token("nobody");
    server.rest("HEAD", REST_PATH).token(nobody.as_str()).expect(403);
    let unknown = issuer.sign_as("another", &issuer.claims("owner"));
    wait_until("the key is nowhere", || {
        server.rest("HEAD", REST_PATH).token(unknown.as_str()).send().status == 401
    });
    let elsewhere = Token::new("http://elsewhere.example.com/").sign(PRIMARY);
    server.rest("HEAD", REST_PATH).token(elsewhere.as_str()).expect(401);
    let minted = server.rest("POST", "/api/hubs/chat/:generateToken").expect(200).object();
    let minted = minted["token"].as_str().expect("a token").to_owned();
    server.connect(Client::json().token(minted.as_str()));
    for token in [&owner, &nobody, &unknown, &elsewhere, &minted] {
        watch.keep_token(token);
    }
}

/// A token endpoint, and one that refuses with all it was told.
fn token_endpoint(call: &Call) -> Answer {
    match call.target.as_str() {
        "/token" => Answer::json(
            &json!({ "access_token": BEARER, "token_type": "Bearer", "expires_in": 3600 }).to_string(),
        ),
        _ => Answer::status(401).body("application/json", told(call)),
    }
}

/// A handler that fails with all it was told, when it is told to.
fn repeating(call: &Call) -> Answer {
    match call.text() {
        "body" => Answer::status(500).body("text/plain", told(call)),
        "status" => Answer::raw(format!("HTTP/1.1 500 {}\r\n\r\n", told(call).replace(['\r', '\n'], " ")))
            .then_close(),
        "nonsense" => Answer::raw(told(call)).then_close(),
        "header" => Answer::status(200).header("Content-Type", &told(call).replace(['\r', '\n'], " ")),
        "reset" => Answer::reset(),
        _ => Answer::no_content(),
    }
}

fn told(call: &Call) -> String {
    format!("{} {:?} {}", call.target, call.headers, String::from_utf8_lossy(&call.body))
}

/// Handlers that do well, and fail in every way with what they know.
fn events(server: &mut Server, watch: &mut Watch, handlers: &[&Handler; 3]) {
    for hub in ["chat", "second"] {
        let ways: &[&str] = match hub {
            "chat" => &["fine", "body", "status", "nonsense", "header", "reset"],
            // HTTP/2 has no first line.
            _ => &["fine", "body"],
        };
        for way in ways {
            let mut client = server.connect(Client::json().hub(hub));
            let event = json!({ "type": "event", "event": "e", "ackId": 1, "dataType": "text", "data": way });
            client.send(&event.to_string());
            client.next_text();
        }
    }
    // There is no token for this one.
    server.refuse(Client::json().hub("third"), 500);
    expect_logged(server, "got unexpected response with status code 500");
    expect_logged(server, "token endpoint");
    let [one, two, tokens] = handlers;
    let has = |handler: &Handler, name: &str, value: &str| {
        handler.calls().iter().any(|call| call.header(name).is_some_and(|found| found.contains(value)))
    };
    assert!(has(one, "X-Key", HEADER) && has(two, "Authorization", BEARER), "they were in play");
    assert!(one.calls().iter().any(|call| call.target.contains(CODE)));
    assert!(two.calls().iter().any(|call| call.target.contains(INLINE)));
    assert!(
        tokens
            .calls()
            .iter()
            .any(|call| told(call).contains(CLIENT) || call.header("authorization").is_some())
    );
    for call in one.calls().iter().chain(&two.calls()) {
        for signature in call.header("ce-signature").expect("it is signed").split(',') {
            watch.keep(signature.trim_start_matches("sha256="));
        }
    }
}

fn pages(server: &Server, watch: &mut Watch) {
    for page in [
        "/metrics",
        "/connections",
        "/closed",
        "/stats",
        "/upstreams",
        "/upstreams?hub=chat&handler=0",
        "/upstreams?hub=second&handler=0",
        "/upstreams?hub=third&handler=0",
        "/",
    ] {
        watch.show(server.admin().http("GET", page).expect(200).text());
    }
}

/// Another key, and mistakes that stand beside secrets.
fn reloads(server: &mut Server, keys: &dyn Fn(&str) -> String, config: &dyn Fn(&str, &str) -> String) {
    let broken = |more: &str| config(&keys(PRIMARY), more);
    for bad in [
        config(&keys(SHORT), ""),
        config(&format!("[keys]\nprimary = [\"{SECONDARY}\"]\n"), ""),
        config(&format!("[keys]\nprimry = \"{SECONDARY}\"\n"), ""),
        config(&format!("[keys]\nprimary = \"{SECONDARY}\n"), ""),
        config(&format!("[keys]\nprimary = {SECONDARY}\n"), ""),
        config(&format!("[keys]\nprimary_file = \"/nowhere/at/all\"\nsecondary = \"{SECONDARY}\"\n"), ""),
        broken(&format!("[[hubs.a.event_handlers]]\nurl_template = \"http://x/?code={INLINE}&{{bad\"\n")),
        broken(&format!("[[hubs.a.event_handlers]]\nurl_template = \"ftp://x/?code={INLINE}\"\n")),
        broken(&format!("[[hubs.a.event_handlers]]\nurl_template = 7 # {INLINE}\n")),
        broken(&format!(
            "[[hubs.a.event_handlers]]\nurl_template = \"http://127.0.0.1:1/\"\n[hubs.a.event_handlers.auth]\n\
             type = \"header\"\nname = \"X-Key\"\nvalue = \"{HEADER}\\n\"\n"
        )),
        broken(&format!(
            "[[hubs.a.event_handlers]]\nurl_template = \"http://127.0.0.1:1/\"\n[hubs.a.event_handlers.auth]\n\
             type = \"client_credentials\"\nclient_secret = [\"{CLIENT}\"]\n"
        )),
        broken(&format!(
            "[[hubs.a.event_handlers]]\nurl_template = \"http://127.0.0.1:1/\"\n[hubs.a.event_handlers.auth]\n\
             type = \"client_credentials\"\nclient_secret = \"{CLIENT}\"\n"
        )),
    ] {
        fs::write(server.config(), bad).expect("the build folder can be written");
        assert!(server.reload().contains("the configuration was not reloaded"));
    }
    // And one that is none.
    fs::write(server.config(), config(&keys(NEXT), "")).expect("the build folder can be written");
    let log = server.reload();
    assert!(log.contains("the configuration was reloaded") && log.contains("keys.primary: "), "{log}");
}

/// What `ringhub check` and a start that fails print.
fn check_verb(watch: &mut Watch, good: &str) {
    for (text, is_good) in [(good.to_owned(), true), (good.replace(PRIMARY, SHORT), false)] {
        let path = write_config(&text);
        for verb in ["check", "serve"] {
            if verb == "serve" && is_good {
                continue;
            }
            let mut command = ringhub([verb, "--config"]);
            command.arg(&path).env("RINGHUB_TESTS_HEADER", HEADER).env("RINGHUB_TESTS_CODE", CODE);
            let mut process = Process::spawn(&mut command);
            assert_eq!(process.wait().success(), is_good, "{}", process.log());
            watch.show(&process.log());
        }
        fs::remove_file(path).expect("it is there");
    }
}

/// The net has no holes.
#[test]
fn a_secret_that_is_shown_is_found_in_every_form() {
    const SECRET: &str = "a secret like any other/+";
    for shown in [
        format!("key={SECRET};"),
        format!("{:?}", SECRET.as_bytes()),
        STANDARD.encode_to_string(SECRET),
        STANDARD.encode_to_string(format!("me:{SECRET}")),
        STANDARD.encode_to_string(format!("user:{SECRET};")),
        URL_SAFE_NO_PAD.encode_to_string(SECRET),
        SECRET.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ] {
        let mut watch = Watch::default();
        watch.keep(SECRET);
        watch.show("nothing");
        watch.check();
        watch.show(&shown);
        assert!(std::panic::catch_unwind(|| watch.check()).is_err(), "{shown}");
    }
    let token = Token::new("http://here.example.com/").sign(PRIMARY);
    let middles = token.match_indices('.').map(|(dot, _)| &token[dot + 5..dot + 5 + PIECE_BYTES]);
    for piece in middles {
        let mut watch = Watch::default();
        watch.keep_token(&token);
        watch.show(&token[..20]);
        watch.check();
        watch.show(&format!("token=…{piece}…"));
        assert!(std::panic::catch_unwind(|| watch.check()).is_err(), "{piece}");
    }
}
