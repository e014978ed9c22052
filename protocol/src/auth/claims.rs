//! Claims of client tokens and of REST tokens (`client-protocols` §2.2, `rest-api` §3).
//!
//! Input is the payload of a token **whose signature has been checked**: JSON bytes. What the time is, is an
//! argument. Unknown claims are passed over.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::audience::Audience;
use crate::name::{GroupName, UserId};

/// How far clocks may differ (`client-protocols` §2.1).
pub const CLOCK_SKEW_SECONDS: u64 = 300;

/// What a client's token says.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientClaims {
    /// Whom it is for.
    pub audience: Audience,
    /// When it is valid.
    pub lifetime: Lifetime,
    /// The user; `None` for an anonymous client.
    pub user: Option<UserId>,
    /// What the client may do, as given: the hub reads roles, within its limits.
    pub roles: Vec<Box<str>>,
    /// The groups it is in from the start.
    pub groups: Vec<GroupName<'static>>,
}

/// What a REST caller's token says.
#[derive(Debug, Clone, PartialEq)]
pub struct RestClaims {
    /// Whom it is for.
    pub audience: Audience,
    /// When it is valid.
    pub lifetime: Lifetime,
}

/// Why a token with a good signature is refused. None of the texts quotes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Answer 401.
    #[error("The token's payload is not a JSON object with well-formed claims.")]
    Malformed,
    /// Answer 401.
    #[error("The token has no expiry.")]
    NoExpiry,
    /// Answer 400: the token is fine, what it asks for is not.
    #[error("The token's 'sub' is not a valid user id.")]
    InvalidUser,
    /// Answer 400.
    #[error("The token's 'webpubsub.group' holds an invalid group name.")]
    InvalidGroup,
}

impl ClaimsError {
    /// The HTTP status before the upgrade (`client-protocols` §2.5).
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::NoExpiry => 401,
            Self::InvalidUser | Self::InvalidGroup => 400,
        }
    }
}

impl ClientClaims {
    /// Reads the payload of a client token.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        let claims = Claims::parse(payload)?;
        let user = match claims.subject.or(claims.name_identifier) {
            Some(Texts { list, complete: true }) => match list.as_slice() {
                [] => None,
                [id] if id.is_empty() => None,
                [id] => Some(UserId::parse(id).map_err(|_| ClaimsError::InvalidUser)?),
                _ => return Err(ClaimsError::InvalidUser),
            },
            Some(_) => return Err(ClaimsError::InvalidUser),
            None => None,
        };
        let groups = claims.groups.unwrap_or_default();
        if !groups.complete {
            return Err(ClaimsError::InvalidGroup);
        }
        let groups =
            groups.list.into_iter().map(|name| GroupName::parse(name).map_err(|_| ClaimsError::InvalidGroup));
        let groups = groups.collect::<Result<_, _>>()?;
        let roles = claims.roles.unwrap_or_default();
        let roles = roles.list.into_iter().map(String::into_boxed_str).collect();
        Ok(Self { audience: claims.audience, lifetime: claims.lifetime, user, roles, groups })
    }
}

impl RestClaims {
    /// Reads the payload of a REST token.
    pub fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        let Claims { audience, lifetime, .. } = Claims::parse(payload)?;
        Ok(Self { audience, lifetime })
    }
}

/// When a token is valid; seconds since the Unix epoch, as far from it as `i64` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    expires: i64,
    not_before: Option<i64>,
}

/// Why a token is not valid now. Answer 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LifetimeError {
    /// `exp` has passed.
    #[error("The token has expired.")]
    Expired,
    /// `nbf` has not come.
    #[error("The token is not valid yet.")]
    NotYetValid,
}

impl Lifetime {
    pub(super) fn new(expires: i64, not_before: Option<i64>) -> Self {
        Self { expires, not_before }
    }

    /// Compares with the time, both seconds since the epoch, allowing for clocks that differ by `skew_seconds`.
    pub fn check_times(&self, now_seconds: u64, skew_seconds: u64) -> Result<(), LifetimeError> {
        let (now, skew) = (i128::from(now_seconds), i128::from(skew_seconds));
        // RFC 7519 §4.1.4: "on or after which" it is not accepted.
        if now >= i128::from(self.expires) + skew {
            return Err(LifetimeError::Expired);
        }
        if self.not_before.is_some_and(|start| now < i128::from(start) - skew) {
            return Err(LifetimeError::NotYetValid);
        }
        Ok(())
    }
}

/// `sub` under the name that .NET's claim mapping gives it.
const NAME_IDENTIFIER: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";

/// The claims somebody here looks at.
struct Claims {
    audience: Audience,
    lifetime: Lifetime,
    subject: Option<Texts>,
    name_identifier: Option<Texts>,
    roles: Option<Texts>,
    groups: Option<Texts>,
}

impl Claims {
    fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        // As text: claims that nobody reads are skipped unread, and must be UTF-8 all the same (RFC 7519 §7.2).
        let text = std::str::from_utf8(payload).map_err(|_| ClaimsError::Malformed)?;
        let raw: RawClaims = serde_json::from_str(text).map_err(|_| ClaimsError::Malformed)?;
        Ok(Self {
            audience: Audience::new(raw.audience.unwrap_or_default().list),
            lifetime: Lifetime::new(raw.expires.ok_or(ClaimsError::NoExpiry)?, raw.not_before),
            subject: raw.subject,
            name_identifier: raw.name_identifier,
            roles: raw.roles,
            groups: raw.groups,
        })
    }
}

/// An object's claims by name. A claim that appears twice is refused (RFC 7519 §4): which one counts would
/// depend on the reader.
#[derive(Default)]
struct RawClaims {
    audience: Option<Texts>,
    expires: Option<i64>,
    not_before: Option<i64>,
    subject: Option<Texts>,
    name_identifier: Option<Texts>,
    roles: Option<Texts>,
    groups: Option<Texts>,
}

impl<'de> Deserialize<'de> for RawClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawClaims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawClaims, A::Error> {
                let mut claims = RawClaims::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "aud" => read_once(&mut claims.audience, &mut map)?,
                        "sub" => read_once(&mut claims.subject, &mut map)?,
                        NAME_IDENTIFIER => read_once(&mut claims.name_identifier, &mut map)?,
                        "role" => read_once(&mut claims.roles, &mut map)?,
                        "webpubsub.group" => read_once(&mut claims.groups, &mut map)?,
                        "exp" => read_seconds(&mut claims.expires, &mut map)?,
                        "nbf" => read_seconds(&mut claims.not_before, &mut map)?,
                        _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                    }
                }
                Ok(claims)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

pub(super) fn read_once<'de, A: MapAccess<'de>>(
    slot: &mut Option<Texts>,
    map: &mut A,
) -> Result<(), A::Error> {
    match slot.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(serde::de::Error::custom("a claim appears twice")),
    }
}

pub(super) fn read_seconds<'de, A: MapAccess<'de>>(
    slot: &mut Option<i64>,
    map: &mut A,
) -> Result<(), A::Error> {
    let Seconds(seconds) = map.next_value()?;
    match slot.replace(seconds) {
        None => Ok(()),
        Some(_) => Err(serde::de::Error::custom("a claim appears twice")),
    }
}

/// A JSON number as whole seconds, held at the ends of the range (NumericDate may have a fraction, RFC 7519 §2).
struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<Seconds, E> {
                Ok(Seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
            }

            fn visit_i64<E>(self, seconds: i64) -> Result<Seconds, E> {
                Ok(Seconds(seconds))
            }

            fn visit_f64<E>(self, seconds: f64) -> Result<Seconds, E> {
                // A float-to-integer cast saturates.
                Ok(Seconds(seconds as i64))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A claim that is a string or an array of strings: .NET's token writers collapse a single value. `null` is empty.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) list: Vec<String>,
    /// Whether everything in it was a string.
    pub(super) complete: bool,
}

impl Default for Texts {
    fn default() -> Self {
        Self { list: Vec::new(), complete: true }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a claim")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts { list: vec![text.to_owned()], complete: true })
            }

            fn visit_unit<E>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Texts, E> {
                Ok(Texts { list: Vec::new(), complete: false })
            }

            fn visit_i64<E>(self, _: i64) -> Result<Texts, E> {
                Ok(Texts { list: Vec::new(), complete: false })
            }

            fn visit_u64<E>(self, _: u64) -> Result<Texts, E> {
                Ok(Texts { list: Vec::new(), complete: false })
            }

            fn visit_f64<E>(self, _: f64) -> Result<Texts, E> {
                Ok(Texts { list: Vec::new(), complete: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Texts, A::Error> {
                let mut texts = Texts::default();
                while let Some(element) = sequence.next_element::<serde_json::Value>()? {
                    match element {
                        serde_json::Value::String(text) => texts.list.push(text),
                        _ => texts.complete = false,
                    }
                }
                Ok(texts)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Texts { list: Vec::new(), complete: false })
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(payload: &str) -> Result<ClientClaims, ClaimsError> {
        ClientClaims::parse(payload.as_bytes())
    }

    /// The shape JS and Python write (`rest-api` §3.4).
    #[test]
    fn an_sdk_token() {
        let claims = client(
            r#"{"role":["webpubsub.sendToGroup","x"],"webpubsub.group":["g1","g 2"],"iat":1,"exp":2,
                "aud":"http://127.0.0.1:8089/client/hubs/chat","sub":"u1","custom":{"a":[1]}}"#,
        )
        .unwrap();
        assert_eq!(claims.user.unwrap().as_str(), "u1");
        assert_eq!(claims.roles, [Box::from("webpubsub.sendToGroup"), Box::from("x")]);
        assert_eq!(claims.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(), ["g1", "g 2"]);
        assert_eq!(claims.audience, Audience::new(["http://127.0.0.1:8089/client/hubs/chat".to_owned()]));
    }

    #[test]
    fn single_values_may_be_strings_and_may_be_missing() {
        let claims =
            client(r#"{"exp":2,"role":"webpubsub.sendToGroup","webpubsub.group":"g1","aud":["a","b"]}"#)
                .unwrap();
        assert_eq!((claims.roles.len(), claims.groups.len()), (1, 1));
        assert_eq!(claims.audience, Audience::new(["a".to_owned(), "b".to_owned()]));
        let claims = client(r#"{"exp":2,"role":null,"sub":null}"#).unwrap();
        assert_eq!((claims.user, claims.roles.len(), claims.groups.len()), (None, 0, 0));
        let claims = client(&format!(r#"{{"exp":2,"{NAME_IDENTIFIER}":"u2"}}"#)).unwrap();
        assert_eq!(claims.user.unwrap().as_str(), "u2");
        assert_eq!(client(r#"{"exp":2,"sub":""}"#).unwrap().user, None);
        assert_eq!(client(r#"{"exp":2,"role":[1,"webpubsub.sendToGroup",{}]}"#).unwrap().roles.len(), 1);
    }

    #[test]
    fn what_is_refused_and_how() {
        use ClaimsError::{InvalidGroup, InvalidUser, Malformed, NoExpiry};
        let long = format!(r#"{{"exp":1,"sub":"{}"}}"#, "u".repeat(1025));
        for (payload, error) in [
            ("", Malformed),
            ("[]", Malformed),
            ("{\"exp\":1", Malformed),
            ("{\"exp\":\"1\"}", Malformed),
            ("{\"exp\":1,\"exp\":2}", Malformed),
            ("{\"exp\":1,\"sub\":\"a\",\"sub\":\"b\"}", Malformed),
            ("{\"exp\":1,\"sub\":\"\\ud800\"}", Malformed),
            ("{}", NoExpiry),
            ("{\"nbf\":1}", NoExpiry),
            ("{\"exp\":1,\"sub\":5}", InvalidUser),
            ("{\"exp\":1,\"sub\":\"  \"}", InvalidUser),
            ("{\"exp\":1,\"sub\":[\"a\",\"b\"]}", InvalidUser),
            (&long, InvalidUser),
            ("{\"exp\":1,\"webpubsub.group\":\" \"}", InvalidGroup),
            ("{\"exp\":1,\"webpubsub.group\":[\"a\",\"\"]}", InvalidGroup),
            ("{\"exp\":1,\"webpubsub.group\":[\"a\",1]}", InvalidGroup),
            ("{\"exp\":1,\"webpubsub.group\":{}}", InvalidGroup),
        ] {
            assert_eq!(client(payload), Err(error), "{payload}");
        }
        assert_eq!(ClientClaims::parse(b"{\"exp\":1,\"x\":\"\xb0\"}"), Err(Malformed));
        assert_eq!((Malformed.status(), InvalidGroup.status()), (401, 400));
        let nested = format!("{{\"exp\":1,\"x\":{}", "[".repeat(100_000));
        assert_eq!(client(&nested), Err(Malformed));
        let nested = format!("{{\"exp\":1,\"role\":{}", "[".repeat(100_000));
        assert_eq!(client(&nested), Err(Malformed));
    }

    #[test]
    fn times_are_compared_with_skew_and_without_overflow() {
        let check =
            |claims: &str, now| RestClaims::parse(claims.as_bytes()).unwrap().lifetime.check_times(now, 300);
        assert_eq!(check(r#"{"exp":1000}"#, 1299), Ok(()));
        assert_eq!(check(r#"{"exp":1000}"#, 1300), Err(LifetimeError::Expired));
        assert_eq!(check(r#"{"exp":1000.9}"#, 1299), Ok(()));
        assert_eq!(check(r#"{"exp":9999,"nbf":1000}"#, 700), Ok(()));
        assert_eq!(check(r#"{"exp":9999,"nbf":1000}"#, 699), Err(LifetimeError::NotYetValid));
        for huge in [
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "1e300",
            "99999999999999999999",
        ] {
            let claims = format!("{{\"exp\":{huge}}}");
            assert_eq!(check(&claims, 4_000_000_000), Ok(()), "{huge}");
        }
        assert_eq!(check(r#"{"exp":-1e300}"#, 0), Err(LifetimeError::Expired));
        assert_eq!(
            check(r#"{"exp":9223372036854775807,"nbf":-9223372036854775808}"#, u64::MAX),
            Err(LifetimeError::Expired)
        );
    }
}
