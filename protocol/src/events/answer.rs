//! What handlers answer (`event-handlers` §4.1, §4.5).
//!
//! A handler is asked on behalf of a client, so an answer that could be read in two ways is none: a name that stands
//! twice, a value of another type, a name that breaks its rules.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::name::{GroupName, UserId};
use crate::pubsub::data::is_deeper_than;
use crate::pubsub::escape::unescape;
use crate::pubsub::{Data, DataType, InvalidData, JSON_DEPTH_MAX, Metadata};

/// Most groups, and most roles, that an answer names: as many groups as the hub lets a connection join by default.
pub const LISTED_MAX: usize = 10_000;

/// Why an answer cannot be used: a sentence for the operator's log, without payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAnswer(pub &'static str);

/// What a handler says about a client it lets in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// Overrides the token's user; `Some(None)` for an empty one.
    pub user: Option<Option<UserId>>,
    /// Replaces the token's groups, unless empty.
    pub groups: Vec<GroupName<'static>>,
    /// Replaces the token's roles.
    pub roles: Option<Vec<Box<str>>>,
    /// The subprotocol, as the handler spells it.
    pub subprotocol: Option<Box<str>>,
}

/// Reads the body of a 2xx to `connect`. Nothing and `null` accept the client as its token has it.
///
/// # Errors
/// When it is not what §4.1 describes.
pub fn connect_answer(body: &[u8]) -> Result<Acceptance, InvalidAnswer> {
    let not_json = InvalidAnswer("The answer to connect is not valid JSON.");
    let body = body.trim_ascii();
    if body.is_empty() || body == b"null" {
        return Ok(Acceptance::default());
    }
    let text = std::str::from_utf8(body).map_err(|_| not_json.clone())?;
    if is_deeper_than(body, JSON_DEPTH_MAX) {
        return Err(InvalidAnswer("The answer to connect is nested more than 64 levels deep."));
    }
    if !text.starts_with('{') {
        return Err(InvalidAnswer("The answer to connect is not a JSON object."));
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| not_json)?;
    if fields.repeats {
        return Err(InvalidAnswer("A property of the answer to connect appears more than once."));
    }
    fields.into_acceptance()
}

/// The properties of an answer to `connect` that count, as raw tokens; `null` is as good as absent.
#[derive(Default)]
struct Fields<'a> {
    user: Option<&'a str>,
    groups: Option<&'a str>,
    roles: Option<&'a str>,
    subprotocol: Option<&'a str>,
    /// One of them stands twice.
    repeats: bool,
}

impl<'a> Fields<'a> {
    fn into_acceptance(self) -> Result<Acceptance, InvalidAnswer> {
        let user = self.user.map(|token| match unescape(token) {
            Some(id) if id.is_empty() => Ok(None),
            Some(id) => match UserId::parse(&id) {
                Ok(user) => Ok(Some(user)),
                Err(_) => Err(InvalidAnswer("The answer to connect holds an invalid 'userId'.")),
            },
            None => Err(InvalidAnswer("The 'userId' of the answer to connect is not a string.")),
        });
        let not_groups = "The 'groups' of the answer to connect are not a list of at most 10000 strings.";
        let groups = texts(self.groups, not_groups)?.unwrap_or_default().into_iter().map(|name| {
            GroupName::parse(name.into_owned())
                .map_err(|_| InvalidAnswer("The answer to connect holds an invalid group name."))
        });
        let not_roles = "The 'roles' of the answer to connect are not a list of at most 10000 strings.";
        let roles = texts(self.roles, not_roles)?;
        let subprotocol = self.subprotocol.map(|token| {
            unescape(token)
                .ok_or(InvalidAnswer("The 'subprotocol' of the answer to connect is not a string."))
        });
        Ok(Acceptance {
            user: user.transpose()?,
            groups: groups.collect::<Result<_, _>>()?,
            roles: roles.map(|roles| roles.into_iter().map(Box::from).collect()),
            subprotocol: subprotocol.transpose()?.filter(|name| !name.is_empty()).map(Box::from),
        })
    }

    /// The property of this name, ignoring case: samples write `subProtocol`, too (§4.1).
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        let slots = [
            ("userId", &mut self.user),
            ("groups", &mut self.groups),
            ("roles", &mut self.roles),
            ("subprotocol", &mut self.subprotocol),
        ];
        slots.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, slot)| slot)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let Some(slot) = fields.slot(&name) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let repeats = slot.replace(map.next_value::<&'de RawValue>()?.get()).is_some();
                    fields.repeats |= repeats;
                }
                for slot in [&mut fields.user, &mut fields.groups, &mut fields.roles, &mut fields.subprotocol]
                {
                    *slot = slot.filter(|token| *token != "null");
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The strings of an array, if there is one.
fn texts<'a>(
    token: Option<&'a str>,
    fault: &'static str,
) -> Result<Option<Vec<Cow<'a, str>>>, InvalidAnswer> {
    let Some(token) = token else { return Ok(None) };
    let texts =
        serde_json::from_str::<Vec<&'a RawValue>>(token).ok().filter(|texts| texts.len() <= LISTED_MAX);
    let texts = texts.and_then(|texts| texts.into_iter().map(|text| unescape(text.get())).collect());
    texts.map(Some).ok_or(InvalidAnswer(fault))
}

/// What a handler says to the client. Its bytes are what `data_type` promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub data_type: DataType,
    /// In plain form.
    pub bytes: Bytes,
    /// Travels with it.
    pub metadata: Option<Metadata>,
}

/// Reads a 2xx to a user event; `None` if it says nothing to the client. Of `headers` those with
/// metadata count ([`Metadata::from_headers`]).
///
/// JSON `null` says nothing, as an empty body: clients could not tell the difference, and some of them drop their
/// connection over it.
///
/// # Errors
/// When it is not what §4.5 describes.
pub fn user_answer<'a>(
    content_type: Option<&str>,
    body: Bytes,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Option<Message>, InvalidAnswer> {
    let metadata = Metadata::from_headers(headers)
        .map_err(|_| InvalidAnswer("The answer's metadata breaks the rules of names, values or sizes."))?;
    if body.is_empty() {
        return Ok(empty(metadata));
    }
    let data_type = data_type(content_type)?;
    match data_type {
        DataType::Text => {
            check_utf8(&body)?;
        }
        DataType::Json => match Data::json(check_utf8(&body)?) {
            Ok(_) => {}
            Err(InvalidData::Null) => return Ok(empty(metadata)),
            Err(InvalidData::TooDeep) => {
                return Err(InvalidAnswer("The answer's JSON is nested more than 63 levels deep."));
            }
            Err(_) => {
                return Err(InvalidAnswer(
                    "The answer's body is not the JSON that its Content-Type promises.",
                ));
            }
        },
        DataType::Binary | DataType::Protobuf => {}
    }
    Ok(Some(Message { data_type, bytes: body, metadata }))
}

/// An answer without a body: metadata alone is a message, of empty text (§4.5).
fn empty(metadata: Option<Metadata>) -> Option<Message> {
    let metadata = metadata?;
    Some(Message { data_type: DataType::Text, bytes: Bytes::new(), metadata: Some(metadata) })
}

fn check_utf8(body: &[u8]) -> Result<&str, InvalidAnswer> {
    simdutf8::basic::from_utf8(body).map_err(|_| InvalidAnswer("The answer's body is not UTF-8."))
}

/// What a `Content-Type` promises, its parameters aside.
fn data_type(content_type: Option<&str>) -> Result<DataType, InvalidAnswer> {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim_ascii();
    if media_type.is_empty() {
        return Ok(DataType::Binary);
    }
    DataType::from_media_type(media_type).ok_or(InvalidAnswer(
        "The answer's Content-Type is none of text/plain, application/json, application/octet-stream and \
             application/x-protobuf.",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pubsub::metadata::HEADER_PREFIX;

    /// What an answer reads as, on one line.
    fn describe(answer: Result<Acceptance, InvalidAnswer>) -> String {
        let acceptance = match answer {
            Ok(acceptance) => acceptance,
            Err(InvalidAnswer(why)) => return why.to_owned(),
        };
        let user = match &acceptance.user {
            Some(Some(user)) => format!(" user {:?}", user.as_str()),
            Some(None) => " no user".to_owned(),
            None => String::new(),
        };
        let groups: Vec<_> = acceptance.groups.iter().map(GroupName::as_str).collect();
        let groups = if groups.is_empty() { String::new() } else { format!(" groups {groups:?}") };
        let roles = acceptance.roles.map_or(String::new(), |roles| format!(" roles {roles:?}"));
        let subprotocol =
            acceptance.subprotocol.map_or(String::new(), |name| format!(" subprotocol {name:?}"));
        format!("accepted{user}{groups}{roles}{subprotocol}")
    }

    /// `vectors/events/connect_answers.txt`: a body, and on the next line what it reads as.
    #[test]
    fn answers_to_connect() {
        let vectors = include_str!("../../tests/vectors/events/connect_answers.txt");
        let lines: Vec<_> =
            vectors.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
        assert!(lines.len() >= 20 && lines.len().is_multiple_of(2), "a vector is two lines");
        for pair in lines.chunks_exact(2) {
            assert_eq!(describe(connect_answer(pair[0].as_bytes())), pair[1], "{}", pair[0]);
        }
        assert_eq!(connect_answer(b""), Ok(Acceptance::default()));
        assert_eq!(connect_answer(b" \r\n"), Ok(Acceptance::default()));
        assert_eq!(
            describe(connect_answer(b"{\"userId\":\"\xff\"}")),
            "The answer to connect is not valid JSON."
        );
    }

    #[test]
    fn answers_to_connect_have_bounds() {
        let too_deep = "The answer to connect is nested more than 64 levels deep.";
        for open in ["[", "{\"a\":"] {
            for start in ["{\"x\":", "{\"groups\":", ""] {
                assert_eq!(
                    describe(connect_answer(format!("{start}{}", open.repeat(100_000)).as_bytes())),
                    too_deep
                );
            }
        }
        for (name, fault) in [
            ("groups", "The 'groups' of the answer to connect are not a list of at most 10000 strings."),
            ("roles", "The 'roles' of the answer to connect are not a list of at most 10000 strings."),
        ] {
            let answer = |count: usize| format!("{{\"{name}\":[{}]}}", vec!["\"x\""; count].join(","));
            assert!(connect_answer(answer(LISTED_MAX).as_bytes()).is_ok());
            assert_eq!(connect_answer(answer(LISTED_MAX + 1).as_bytes()), Err(InvalidAnswer(fault)));
        }
    }

    fn user(
        content_type: Option<&str>,
        body: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<Option<Message>, InvalidAnswer> {
        let headers: Vec<_> = metadata
            .iter()
            .map(|(name, value)| (format!("{HEADER_PREFIX}{name}"), value.as_bytes()))
            .collect();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), *value));
        user_answer(content_type, Bytes::copy_from_slice(body), headers)
    }

    /// §4.5, row by row.
    #[test]
    fn answers_to_user_events() {
        for (content_type, body, expected) in [
            (None, &b"\0\xff"[..], DataType::Binary),
            (Some(""), b"x", DataType::Binary),
            (Some("application/octet-stream"), b"\xff", DataType::Binary),
            (Some("text/plain"), "ä".as_bytes(), DataType::Text),
            (Some("Text/Plain; charset=utf-8"), b"x", DataType::Text),
            (Some(" application/JSON ;charset=utf-8"), b" {\"a\":[null]}\n", DataType::Json),
            (Some("application/x-protobuf"), b"\x0a\x01t", DataType::Protobuf),
        ] {
            let message = user(content_type, body, &[]).unwrap().unwrap();
            assert_eq!((message.data_type, &message.bytes[..], &message.metadata), (expected, body, &None));
            // Whatever they promise, there is nothing in it.
            assert_eq!(user(content_type, b"", &[]), Ok(None));
        }
        assert_eq!(user(Some("text/html"), b"", &[]), Ok(None));
        assert_eq!(user(Some("application/json"), b" null ", &[]), Ok(None));
        for (content_type, body) in [
            ("text/html", &b"x"[..]),
            ("application/json2", b"1"),
            ("text", b"1"),
            ("text/plain", b"\xff"),
            ("application/json", b"\"\xff\""),
            ("application/json", b"{"),
            ("application/json", b"1 2"),
            ("application/json", b" "),
            ("application/json", &b"[".repeat(100_000)),
        ] {
            assert!(user(Some(content_type), body, &[]).is_err(), "{content_type} {}", body.escape_ascii());
        }
    }

    #[test]
    fn metadata_is_the_last_of_what_is_said() {
        let text = Some("text/plain");
        let read = |headers: &[(&str, &str)]| {
            let metadata = user(text, b"x", headers).map(|message| message.unwrap().metadata);
            metadata.map(|metadata| {
                let mut json = Vec::new();
                metadata.expect("metadata").write_json(&mut json);
                String::from_utf8(json).unwrap()
            })
        };
        assert_eq!(read(&[("B", "1"), ("a", "x, y ,z "), ("b", "2")]).unwrap(), r#"{"b":"2","a":"z"}"#);
        assert_eq!(read(&[("a", "x,"), ("c", "")]).unwrap(), r#"{"a":"","c":""}"#);
        for bad in [("", "x"), ("a b", "x"), ("a", "ä"), ("a", &"v".repeat(1025))] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
        // Alone it is a message of empty text.
        for (content_type, body) in
            [(None, &b""[..]), (Some("text/html"), b""), (Some("application/json"), b"null")]
        {
            let message = user(content_type, body, &[("k", "v")]).unwrap().unwrap();
            assert_eq!((message.data_type, message.bytes.len()), (DataType::Text, 0));
            assert_eq!(message.metadata, Metadata::new([("k", "v")]).unwrap());
        }
    }

    #[test]
    fn a_body_is_not_copied() {
        let body = Bytes::from_static(b"text");
        let message = user_answer(Some("text/plain"), body.clone(), std::iter::empty()).unwrap().unwrap();
        assert_eq!(message.bytes.as_ptr(), body.as_ptr());
    }

    proptest! {
        /// Against what serde_json reads, which takes the last of names that repeat.
        #[test]
        fn agrees_with_serde_json(
            body in r#"\{("(userId|USERID|groups|roles|subprotocol|x)": ?("[a ]{0,2}"|null|1|\[("g",?){0,2}\]|\["\\u0067"\]),?){0,4}\}"#
        ) {
            let Ok(acceptance) = connect_answer(body.as_bytes()) else { return Ok(()) };
            let second: serde_json::Value = serde_json::from_str(&body).unwrap();
            let texts = |name: &str| -> Option<Vec<String>> { serde_json::from_value(second[name].clone()).unwrap() };
            if second.get("USERID").is_none() {
                let user = acceptance.user.map(|user| user.map_or(String::new(), |user| user.as_str().to_owned()));
                prop_assert_eq!(user.as_deref(), second["userId"].as_str());
            }
            let groups: Vec<_> = acceptance.groups.iter().map(|group| group.as_str().to_owned()).collect();
            prop_assert_eq!(groups, texts("groups").unwrap_or_default());
            let roles = acceptance.roles.map(|roles| roles.iter().map(|role| role.to_string()).collect::<Vec<_>>());
            prop_assert_eq!(roles, texts("roles"));
        }

        #[test]
        fn what_is_answered_can_be_told(
            content_type in "(text/plain|application/(json|octet-stream|x-protobuf))( ?;.{0,4})?|.{0,6}",
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..8),
                r#"[\[{}\]"a1]{0,4}"#.prop_map(String::into_bytes),
            ],
            entry in ("[a-zA-Z ]{0,3}", "[ -~ä]{0,5}"),
        ) {
            let headers = [(&*entry.0, &*entry.1)];
            if let Ok(Some(message)) = user(Some(&content_type), &body, &headers) {
                if matches!(message.data_type, DataType::Text | DataType::Json) {
                    prop_assert!(std::str::from_utf8(&message.bytes).is_ok());
                }
                if message.data_type == DataType::Json {
                    prop_assert!(serde_json::from_slice::<&RawValue>(&message.bytes).is_ok());
                }
                prop_assert!(message.bytes == body || message.bytes.is_empty());
            }
        }
    }
}
