//! The target of a client's upgrade, a line feed, an `Authorization` header. It means the same to a second reader, who
//! decodes each parameter byte by byte; only legal names come out; what is refused is refused with a status.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::auth::client_url::ClientUrl;
use ringhub_protocol::name::{GroupName, HubName};

fuzz_target!(|text: &str| {
    let (target, authorization) =
        text.split_once('\n').map_or((text, None), |(target, header)| (target, Some(header)));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let url = ClientUrl::parse(target);
    let Some(parameters) = read(query) else {
        return assert_eq!(url.expect_err("a parameter that does not decode").code.status(), 400);
    };
    let url = url.expect("all parameters decode");
    // Of repeated ones the last counts.
    let get = |name: &str| {
        parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    let text = |name: &str| get(name).unwrap_or_default();

    let hub = match url.hub() {
        Ok(hub) => {
            assert!(HubName::parse(hub.as_str()).is_ok());
            Ok(hub.as_str().to_owned())
        }
        Err(error) => Err(error.code.status()),
    };
    assert_eq!(hub, expected_hub(path, get("hub")), "{target:?}");

    let mut expected = Some(text("access_token")).filter(|token| !token.is_empty());
    if expected.is_none() {
        let parts = authorization.and_then(|header| header.split_once(' '));
        expected = parts
            .filter(|(scheme, _)| scheme.to_ascii_lowercase() == "bearer")
            .map(|(_, token)| token.trim_matches(' '));
    }
    assert_eq!(url.token(authorization).as_deref(), expected);

    let id = text("awps_connection_id");
    let expected = (!id.is_empty()).then(|| (id, text("awps_reconnection_token")));
    assert_eq!(url.recovery(), expected);

    let is_switch = |text: &str| matches!(&*text.to_ascii_lowercase(), "" | "true" | "false");
    let is_group = GroupName::parse(text("group").to_owned()).is_ok();
    match (&*text("webpubsub_mode").to_ascii_lowercase(), url.raw_group()) {
        ("" | "sendevent", found) => assert_eq!(found, Ok(None)),
        ("sendtogroup", Ok(found)) => {
            let (group, no_echo) = found.expect("a group");
            assert!(is_group && group.as_str() == text("group") && is_switch(text("noEcho")));
            assert_eq!(no_echo, text("noEcho").eq_ignore_ascii_case("true"));
        }
        ("sendtogroup", Err(error)) => {
            assert!(error.code.status() == 400 && !(is_group && is_switch(text("noEcho"))));
        }
        (_, found) => assert_eq!(found.expect_err("no such mode").code.status(), 400),
    }
});

fn expected_hub(path: &str, in_query: Option<&str>) -> Result<String, u16> {
    let name = if ["/client", "/client/"].contains(&path) {
        in_query.ok_or(400u16)?.to_owned()
    } else if let Some(rest) = path.strip_prefix("/client/hubs/") {
        let name = rest.strip_suffix('/').unwrap_or(rest);
        if name.contains('/') {
            return Err(404);
        }
        decode(name).ok_or(400u16)?
    } else {
        let others = ["/clients/mqtt/", "/clients/socketio/", "/server/tunnel"];
        return Err(if others.iter().any(|other| path.starts_with(other)) { 501 } else { 404 });
    };
    // The service's rule: a letter, then letters, digits and a few signs (the name's own parser has its own tests).
    HubName::parse(&name).map(|hub| hub.as_str().to_owned()).map_err(|_| 400)
}

/// All parameters, or none if one of them does not decode.
fn read(query: &str) -> Option<Vec<(String, String)>> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    let pair = |piece: &str| {
        let equals = piece.find('=').unwrap_or(piece.len());
        Some((decode(&piece[..equals])?, decode(piece.get(equals + 1..).unwrap_or_default())?))
    };
    pieces.map(pair).collect()
}

fn decode(text: &str) -> Option<String> {
    let (mut decoded, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}
