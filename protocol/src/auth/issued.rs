//! Claims of tokens that an OIDC issuer made (`rest-api` §3.2), and which of them make a role.
//!
//! The claims are read before the signature is checked, because the issuer they name says whose key to check
//! with. Until then only [`IssuedClaims::issuer`] may be looked at.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::audience::Audience;
use super::claims::{ClaimsError, Lifetime, Texts, read_once, read_seconds};

/// What an issuer's token says, as far as somebody here asks.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuedClaims {
    /// `iss`; who made it.
    pub issuer: Option<String>,
    /// Whom it is for.
    pub audience: Audience,
    /// When it is valid.
    pub lifetime: Lifetime,
    texts: Vec<(String, Vec<String>)>,
}

/// A claim and a value: who has it, has the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    claim: String,
    value: String,
}

impl ClaimRule {
    /// Reads `claim=value`, split at the first `=`; neither may be empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (claim, value) = text.split_once('=')?;
        let legal = !claim.is_empty() && claim.trim() == claim && !value.is_empty();
        legal.then(|| Self { claim: claim.to_owned(), value: value.to_owned() })
    }

    /// The claim it looks at.
    pub fn claim(&self) -> &str {
        &self.claim
    }
}

impl IssuedClaims {
    /// Reads a payload; of the claims without a meaning of their own it keeps those that `is_wanted`.
    ///
    /// # Errors
    ///
    /// [`ClaimsError::Malformed`] or [`ClaimsError::NoExpiry`]. A claim that is read and appears twice is
    /// malformed.
    pub fn parse(payload: &[u8], is_wanted: impl Fn(&str) -> bool) -> Result<Self, ClaimsError> {
        let malformed = |_| ClaimsError::Malformed;
        let text = std::str::from_utf8(payload).map_err(|_| ClaimsError::Malformed)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let raw = json.deserialize_map(Object(is_wanted)).map_err(malformed)?;
        json.end().map_err(malformed)?;
        // One text, or it names nobody.
        let issuer = raw.issuer.filter(|texts| texts.complete && texts.list.len() == 1);
        Ok(Self {
            issuer: issuer.and_then(|mut texts| texts.list.pop()),
            audience: Audience::new(raw.audience.unwrap_or_default().list),
            lifetime: Lifetime::new(raw.expires.ok_or(ClaimsError::NoExpiry)?, raw.not_before),
            texts: raw.texts,
        })
    }

    /// Whether the token has the rule's claim with its value: as text, in a list, or as one of the words of
    /// `scp` or `scope` (RFC 8693 §4.2). Exact; case counts.
    pub fn fits(&self, rule: &ClaimRule) -> bool {
        let is_scope = matches!(rule.claim.as_str(), "scp" | "scope");
        self.texts
            .iter()
            .filter(|(name, _)| *name == rule.claim)
            .flat_map(|(_, values)| values)
            .any(|value| *value == rule.value || is_scope && value.split(' ').any(|word| word == rule.value))
    }
}

#[derive(Default)]
struct Raw {
    issuer: Option<Texts>,
    audience: Option<Texts>,
    expires: Option<i64>,
    not_before: Option<i64>,
    texts: Vec<(String, Vec<String>)>,
}

struct Object<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Object<F> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut claims = Raw::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "aud" => read_once(&mut claims.audience, &mut map)?,
                "exp" => read_seconds(&mut claims.expires, &mut map)?,
                "nbf" => read_seconds(&mut claims.not_before, &mut map)?,
                "iss" => read_once(&mut claims.issuer, &mut map)?,
                _ if (self.0)(&name) => {
                    if claims.texts.iter().any(|(known, _)| *known == name) {
                        return Err(Error::custom("a claim appears twice"));
                    }
                    let texts: Texts = map.next_value()?;
                    claims.texts.push((name, texts.list));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> Result<IssuedClaims, ClaimsError> {
        IssuedClaims::parse(payload.as_bytes(), |name| ["roles", "sub", "scp"].contains(&name))
    }

    #[test]
    fn rules_look_at_texts_lists_and_words() {
        let claims = parse(
            r#"{"iss":"https://a/","exp":1,"sub":"system:serviceaccount:a","roles":["Owner","A b",7],
                "scp":"read write","azp":"client"}"#,
        )
        .unwrap();
        assert_eq!(claims.issuer.as_deref(), Some("https://a/"));
        for (rule, fits) in [
            ("roles=Owner", true),
            ("roles=A b", true),
            ("roles=owner", false),
            ("roles=A", false),
            ("roles=7", false),
            ("sub=system:serviceaccount:a", true),
            ("sub=system", false),
            ("scp=read", true),
            ("scp=write", true),
            ("scp=read write", true),
            ("scp=rea", false),
            // Not among the wanted.
            ("azp=client", false),
            ("iss=https://a/", false),
        ] {
            assert_eq!(claims.fits(&ClaimRule::parse(rule).unwrap()), fits, "{rule}");
        }
    }

    #[test]
    fn rules_are_a_claim_and_a_value() {
        let rule = ClaimRule::parse("sub=a=b").unwrap();
        assert_eq!((rule.claim(), rule.value.as_str()), ("sub", "a=b"));
        for text in ["", "=", "sub", "sub=", "=a", " sub=a", "sub =a"] {
            assert_eq!(ClaimRule::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_malformed() {
        use ClaimsError::{Malformed, NoExpiry};
        for (payload, error) in [
            ("", Malformed),
            ("[]", Malformed),
            (r#"{"exp":1}{}"#, Malformed),
            (r#"{"exp":"1"}"#, Malformed),
            (r#"{"exp":1,"iss":"a","iss":"a"}"#, Malformed),
            (r#"{"exp":1,"roles":"a","roles":"Owner"}"#, Malformed),
            (r#"{"exp":1,"aud":"a","aud":"a"}"#, Malformed),
            (r#"{"iss":"a"}"#, NoExpiry),
        ] {
            assert_eq!(parse(payload), Err(error), "{payload}");
        }
        for issuer in ["[]", r#"["a","b"]"#, r#"["a",1]"#, "1", "null", "{}"] {
            assert_eq!(parse(&format!(r#"{{"exp":1,"iss":{issuer}}}"#)).unwrap().issuer, None, "{issuer}");
        }
    }
}
