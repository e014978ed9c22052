use super::*;
use ringhub_hub::CoreId;
use serde_json::{Value, json};

pub(super) const PRIMARY: &str = "primary-key-of-at-least-thirty-two-bytes";
const SECONDARY: &str = "secondary-key-of-at-least-thirty-two-bytes";
pub(super) const NOW: u64 = 1_700_000_000;
pub(super) const NAMED: Named<'static> =
    Named { host: "localhost:8080", forwarded_host: None, is_secure: false };

pub(super) fn verifier(toml: &str) -> Verifier {
    let path = std::env::temp_dir().join(format!(
        "ringhub-auth-{}-{:?}.toml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, format!("{toml}\n[keys]\nprimary = \"{PRIMARY}\"\nsecondary = \"{SECONDARY}\"\n"))
        .unwrap();
    let config = Config::load(Some(&path), &|_| None, &[]).unwrap();
    std::fs::remove_file(&path).unwrap();
    Verifier::new(&config, config.keys.primary.as_ref().unwrap())
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes.as_ref())
}

/// A token of any header and payload text.
pub(super) fn token_of(header: &str, payload: &str, key: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), message.as_bytes());
    format!("{message}.{}", b64(tag.as_ref()))
}

fn token(payload: &Value) -> String {
    token_of(r#"{"alg":"HS256","typ":"JWT"}"#, &payload.to_string(), PRIMARY)
}

fn good() -> Value {
    json!({ "aud": "http://localhost:8080/client/hubs/chat", "exp": NOW + 60, "sub": "ann" })
}

fn with(name: &str, value: Value) -> Value {
    let mut payload = good();
    payload[name] = value;
    payload
}

fn admit(verifier: &Verifier, target: &str, offered: &[&str]) -> Admission {
    let request =
        UpgradeRequest { target, host: "localhost:8080", subprotocols: offered, ..UpgradeRequest::default() };
    verifier.admit(NOW, &request)
}

fn admitted(admission: Admission) -> Box<Admitted> {
    match admission {
        Admission::Connect(admitted) => admitted,
        other => panic!("{other:?}"),
    }
}

fn status(admission: &Admission) -> u16 {
    match admission {
        Admission::Refuse(body) => body.code.status(),
        _ => 101,
    }
}

pub(super) fn status_with(verifier: &Verifier, token: &str) -> u16 {
    status(&admit(verifier, &format!("/client/hubs/chat?access_token={token}"), &[]))
}

#[test]
fn a_good_token_opens_its_hub_with_either_key() {
    let verifier = verifier("");
    let payload = json!({
        "aud": "http://localhost:8080/client/hubs/Chat", "exp": NOW + 60, "sub": "ann",
        "role": ["webpubsub.sendToGroup", "x"], "webpubsub.group": "g1",
    });
    for key in [PRIMARY, SECONDARY] {
        let token = token_of(r#"{"alg":"HS256","typ":"JWT","kid":"1"}"#, &payload.to_string(), key);
        let target = format!("/client/hubs/CHAT?access_token={token}");
        let client = admitted(admit(&verifier, &target, &["x", "JSON.webpubsub.azure.v1"]));
        assert_eq!(client.hub.as_str(), "chat");
        assert_eq!(client.user.unwrap().as_str(), "ann");
        assert_eq!(client.roles, [Box::from("webpubsub.sendToGroup"), Box::from("x")]);
        assert_eq!(client.groups[0].as_str(), "g1");
        assert_eq!(client.echoed.as_deref(), Some("JSON.webpubsub.azure.v1"), "spelled as offered");
        assert_eq!(client.subprotocol, Subprotocol::Json);
    }
}

#[test]
fn hostile_tokens_are_refused() {
    let verifier = verifier("");
    let text = good().to_string();
    let hs256 = r#"{"alg":"HS256"}"#;
    let valid = token(&good());
    assert_eq!(status_with(&verifier, &valid), 101);
    let unsigned = valid.rsplit_once('.').unwrap().0.to_owned();
    let mut flipped = valid.clone().into_bytes();
    // Not the last character: its low bits are padding.
    let place = flipped.len() - 5;
    flipped[place] = if flipped[place] == b'A' { b'B' } else { b'A' };
    let other_payload = format!(
        "{}.{}.{}",
        b64(hs256),
        b64(with("sub", json!("root")).to_string()),
        valid.rsplit_once('.').unwrap().1
    );
    for (what, token) in [
        ("none", token_of(r#"{"alg":"none"}"#, &text, PRIMARY)),
        ("None", token_of(r#"{"alg":"None"}"#, &text, PRIMARY)),
        ("HS512 header", token_of(r#"{"alg":"HS512"}"#, &text, PRIMARY)),
        ("HS384 header", token_of(r#"{"alg":"HS384"}"#, &text, PRIMARY)),
        ("RS256 header", token_of(r#"{"alg":"RS256"}"#, &text, PRIMARY)),
        ("no alg", token_of(r#"{"typ":"JWT"}"#, &text, PRIMARY)),
        ("alg twice", token_of(r#"{"alg":"HS256","alg":"none"}"#, &text, PRIMARY)),
        ("critical extension", token_of(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &text, PRIMARY)),
        ("header not JSON", token_of("HS256", &text, PRIMARY)),
        ("another key", token_of(hs256, &text, "another-key-of-at-least-thirty-two-bytes")),
        ("empty key", token_of(hs256, &text, "")),
        ("key decoded", token_of(hs256, &text, &PRIMARY[1..])),
        ("empty signature", format!("{unsigned}.")),
        ("no signature", unsigned.clone()),
        ("flipped bit", String::from_utf8(flipped).unwrap()),
        ("payload swapped", other_payload),
        ("five parts", format!("{valid}.a.b")),
        ("a leading part", format!("x.{valid}")),
        ("padding", format!("{valid}=")),
        ("dots", "..".to_owned()),
        ("garbage", "abc".to_owned()),
        ("payload not JSON", token_of(hs256, "{", PRIMARY)),
        ("payload a list", token_of(hs256, "[]", PRIMARY)),
    ] {
        assert_eq!(status_with(&verifier, &token), 401, "{what}");
    }
}

#[test]
fn claims_decide() {
    let verifier = verifier("");
    let hub = |name: &str| json!(format!("http://localhost:8080/client/hubs/{name}"));
    let mut without_expiry = good();
    without_expiry.as_object_mut().unwrap().remove("exp");
    for (what, payload, expected) in [
        ("no exp", without_expiry, 401),
        ("exp null", with("exp", json!(null)), 401),
        ("exp text", with("exp", json!("1900000000")), 401),
        ("exp huge", with("exp", json!(1e300)), 101),
        ("exp u64", with("exp", json!(u64::MAX)), 101),
        ("exp negative", with("exp", json!(-1)), 401),
        ("exp with a fraction", with("exp", json!(NOW as f64 + 0.5)), 101),
        ("expired within the skew", with("exp", json!(NOW - 299)), 101),
        ("expired", with("exp", json!(NOW - 300)), 401),
        ("nbf within the skew", with("nbf", json!(NOW + 300)), 101),
        ("not yet", with("nbf", json!(NOW + 301)), 401),
        ("other hub", with("aud", hub("other")), 401),
        ("a longer name", with("aud", hub("chats")), 401),
        ("no audience", with("aud", json!(null)), 401),
        ("one of several", with("aud", json!(["http://x/", hub("chat")])), 101),
        ("none of several", with("aud", json!([hub("other"), 7])), 401),
        ("other host", with("aud", json!("http://evil/client/hubs/chat")), 401),
        ("the MQTT path", with("aud", json!("http://localhost:8080/clients/mqtt/hubs/chat")), 401),
        ("tls in front", with("aud", json!("https://localhost:8080/client/hubs/chat")), 101),
        ("the query form", with("aud", json!("http://localhost:8080/client/?hub=chat")), 101),
        ("no user", with("sub", json!(null)), 101),
        ("bad user", with("sub", json!(" ")), 400),
        ("bad group", with("webpubsub.group", json!([""])), 400),
    ] {
        assert_eq!(status_with(&verifier, &token(&payload)), expected, "{what}");
    }
}

#[test]
fn where_the_token_may_be() {
    let verifier = verifier("");
    let good = format!("bearer  {}", token(&good()));
    let ask = |target: &str, authorization: &str| {
        let request = UpgradeRequest {
            target,
            host: "localhost:8080",
            authorization: Some(authorization),
            ..UpgradeRequest::default()
        };
        status(&verifier.admit(NOW, &request))
    };
    assert_eq!(ask("/client/hubs/chat", &good), 101);
    assert_eq!(ask("/client/hubs/chat?access_token=", &good), 101);
    assert_eq!(ask("/client/hubs/chat?access_token=bad", &good), 401, "the query wins");
    assert_eq!(ask("/client/hubs/chat", &good.replace("bearer", "Basic")), 401);
    assert_eq!(ask("/client/hubs/chat", "Bearer"), 401);
}

#[test]
fn paths() {
    let verifier = verifier("");
    let query = format!("?access_token={}", token(&good()));
    for (path, expected) in [
        ("/client/hubs/chat", 101),
        ("/client/hubs/chat/", 101),
        ("/client/hubs/ch%61t", 101),
        ("/client/hubs/", 400),
        ("/client/hubs/1bad", 400),
        ("/client/hubs/%zz", 400),
        ("/client/hubs/chat/more", 404),
        ("/client", 400),
        ("/clients/mqtt/hubs/chat", 501),
        ("/clients/socketio/hubs/chat", 501),
        ("/server/tunnel", 501),
        ("/", 404),
        ("/Client/hubs/chat", 404),
    ] {
        assert_eq!(status(&admit(&verifier, &format!("{path}{query}"), &[])), expected, "{path}");
    }
    for path in ["/client", "/client/"] {
        assert_eq!(status(&admit(&verifier, &format!("{path}{query}&hub=Chat"), &[])), 101, "{path}");
    }
    assert_eq!(status(&admit(&verifier, "/client/hubs/chat?access_token=%", &[])), 400);
}

#[test]
fn anonymous_clients_come_in_only_where_allowed() {
    let verifier = verifier("[hubs.open]\nanonymous_connect_policy = \"allow\"");
    let client = admitted(admit(&verifier, "/client/hubs/OPEN", &[]));
    assert!(client.user.is_none() && client.roles.is_empty() && client.groups.is_empty());
    assert_eq!(status(&admit(&verifier, "/client/hubs/open?access_token=bad", &[])), 401, "bad is not none");
    assert_eq!(status(&admit(&verifier, "/client/hubs/chat", &[])), 401);
}

#[test]
fn raw_mode() {
    let verifier = verifier("[hubs.open]\nanonymous_connect_policy = \"allow\"");
    let ask =
        |query: &str, offered: &[&str]| admit(&verifier, &format!("/client/hubs/open?{query}"), offered);
    let group = |query: &str| {
        admitted(ask(query, &[])).raw_group.map(|(group, no_echo)| (group.as_str().to_owned(), no_echo))
    };
    assert_eq!(group(""), None);
    assert_eq!(group("webpubsub_mode=&group=g"), None);
    assert_eq!(group("webpubsub_mode=SENDEVENT"), None);
    assert_eq!(group("webpubsub_mode=sendtogroup&group=a&group=b"), Some(("b".into(), false)));
    assert_eq!(group("webpubsub_mode=sendToGroup&group=b&noEcho=True"), Some(("b".into(), true)));
    for bad in [
        "webpubsub_mode=other",
        "webpubsub_mode=sendToGroup",
        "webpubsub_mode=sendToGroup&group=%20",
        "webpubsub_mode=sendToGroup&group=a&noEcho=1",
    ] {
        assert_eq!(status(&ask(bad, &[])), 400, "{bad}");
        assert_eq!(status(&ask(bad, &["json.webpubsub.azure.v1"])), 400, "validated all the same: {bad}");
    }
    let json = admitted(ask("webpubsub_mode=sendToGroup&group=a", &["json.webpubsub.azure.v1"]));
    assert!(json.raw_group.is_none(), "ignored for subprotocol clients");
    let custom = admitted(ask("", &["custom"]));
    assert!(custom.subprotocol == Subprotocol::Raw && custom.echoed.is_none());
}

#[test]
fn recovery_needs_its_token_and_nothing_else() {
    let verifier = verifier("");
    let hub = HubName::parse("chat").unwrap();
    let id = ConnectionId { node: 0, core: CoreId(1), slot: 7, random: 42 };
    let text = id.text();
    let text = text.as_str();
    let recovery = verifier.reconnection_token(&hub, &id);
    let reliable = ["json.reliable.webpubsub.azure.v1"];
    let ask = |hub: &str, query: &str| admit(&verifier, &format!("/client/hubs/{hub}?{query}"), &reliable);
    let good = format!("access_token=expired&awps_connection_id={text}&awps_reconnection_token={recovery}");
    match ask("Chat", &good) {
        Admission::Recover { id: found, echoed, .. } => {
            assert_eq!((found, echoed.as_deref()), (id, Some(reliable[0])));
        }
        other => panic!("{other:?}"),
    }
    let other_id = ConnectionId { slot: 8, ..id };
    for (hub, query) in [
        ("other", good.clone()),
        ("chat", format!("awps_connection_id={text}")),
        ("chat", format!("awps_connection_id={text}&awps_reconnection_token=")),
        ("chat", format!("awps_connection_id={text}&awps_reconnection_token={}", &recovery[1..])),
        ("chat", format!("awps_connection_id=unknown&awps_reconnection_token={recovery}")),
        ("chat", format!("awps_connection_id={other_id}&awps_reconnection_token={recovery}")),
    ] {
        match ask(hub, &query) {
            Admission::RecoverBad { echoed } => assert_eq!(echoed.as_deref(), Some(reliable[0])),
            other => panic!("{query}: {other:?}"),
        }
    }
    let another_process = self::verifier("");
    assert!(!another_process.reconnection_token_is_good(&hub, &id, &recovery));
    // A token without an id is an ordinary new connection.
    assert_eq!(status(&ask("chat", &format!("awps_reconnection_token={recovery}"))), 401);
    assert_eq!(status(&ask("1", &good)), 400, "the hub comes first");
}

#[test]
fn rest_calls() {
    let verifier = verifier("[server]\npublic_endpoints = [\"https://hub.example.com\"]");
    let path = "/api/hubs/chat/groups/a%2Fb/:send";
    let ask = |aud: &str| {
        let header = format!("Bearer {}", token(&with("aud", json!(aud))));
        verifier.authorize_rest(NOW, Some(&header), &NAMED, path).map_err(|body| body.code.status())
    };
    assert_eq!(
        ask("http://localhost:8080/api/hubs/chat/groups/a%2Fb/:send?api-version=2024-12-01"),
        Ok(Access::Owner)
    );
    assert_eq!(ask("https://hub.example.com/api/hubs/chat/groups/a/b/:send"), Ok(Access::Owner));
    assert_eq!(ask("http://localhost:8080/api/hubs/chat/:send"), Err(401));
    assert_eq!(ask("http://elsewhere/api/hubs/chat/groups/a%2Fb/:send"), Err(401));
    assert!(verifier.authorize_rest(NOW, None, &NAMED, path).is_err());
}

#[test]
fn minted_tokens_are_accepted_for_their_hub_and_kind_only() {
    let verifier = verifier("");
    let mut claims = GenerateToken {
        user: Some(UserId::parse("ann").unwrap()),
        roles: [Box::from("webpubsub.sendToGroup")].into(),
        groups: [GroupName::parse("g").unwrap()].into(),
        minutes_to_expire: 1,
        client_type: ClientType::Default,
    };
    let hub = HubName::parse("chat").unwrap();
    let endpoint = verifier.endpoint(&NAMED);
    let mint = |claims: &GenerateToken| {
        verifier.client_token(NOW, &TokenRequest { hub: &hub, endpoint: &endpoint, claims })
    };
    let token = mint(&claims);
    let client = admitted(admit(&verifier, &format!("/client/hubs/chat?access_token={token}"), &[]));
    assert_eq!((client.user.unwrap().as_str(), client.groups.len(), client.roles.len()), ("ann", 1, 1));
    assert_eq!(status(&admit(&verifier, &format!("/client/hubs/other?access_token={token}"), &[])), 401);
    claims.client_type = ClientType::Mqtt;
    assert_eq!(status_with(&verifier, &mint(&claims)), 401);
}

#[test]
fn with_the_audience_check_off_any_audience_does() {
    let verifier = verifier("[server]\naudience_check = false");
    assert_eq!(status_with(&verifier, &token(&with("aud", json!("http://x/")))), 101);
}

#[test]
fn refusals_read_well() {
    let verifier = verifier("");
    let mut text = String::new();
    for target in [
        "/client/hubs/chat",
        "/client/hubs/1",
        "/nowhere",
        "/clients/mqtt/hubs/a",
        "/client/hubs/chat?access_token=a.b.c",
    ] {
        if let Admission::Refuse(body) = admit(&verifier, target, &[]) {
            let (status, body) = (body.code.status(), String::from_utf8(body.to_json()).unwrap());
            text.push_str(&format!("{target}\n{status} {body}\n"));
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn generated_keys_are_legal_and_differ() {
    let (a, b) = (generate_key(), generate_key());
    assert_eq!(a.expose().len(), 44);
    assert_ne!(a, b);
}
