//! Names of hubs, groups, users and events. A value of these types is a legal name; nobody re-checks.
//!
//! Rules: `client-protocols` §7, `rest-api` §1.2.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A name that breaks the rules of its kind; `rule` says which, for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rule}")]
pub struct InvalidName {
    /// The broken rule, a full sentence without the offending text.
    pub rule: &'static str,
}

/// A hub's name in canonical lower case (hub names are matched ignoring case).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubName(Arc<str>);

impl HubName {
    /// Parses ``[A-Za-z][A-Za-z0-9_`,.[\]]{0,127}`` and lower-cases it.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"_`,.[]".contains(&b));
        if !first || !rest || text.len() > 128 {
            return Err(InvalidName {
                rule: "A hub name starts with a letter, goes on with letters, digits or _`,.[] and has at most 128 characters.",
            });
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A group's name: 1 to 1,024 characters, not only white space, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupName<'a>(Cow<'a, str>);

impl<'a> GroupName<'a> {
    /// Checks the length and that the name is not blank.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, InvalidName> {
        let text = text.into();
        // A character takes at least one byte, so short texts need no count.
        if text.len() > 1024 && text.chars().count() > 1024 {
            return Err(InvalidName { rule: "A group name has at most 1024 characters." });
        }
        if text.trim().is_empty() {
            return Err(InvalidName {
                rule: "A group name has at least one character that is not white space.",
            });
        }
        Ok(Self(text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name, owning its text.
    pub fn into_owned(self) -> GroupName<'static> {
        GroupName(Cow::Owned(self.0.into_owned()))
    }
}

/// A user event's name: `[A-Za-z][A-Za-z0-9_.-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName<'a>(Cow<'a, str>);

impl<'a> EventName<'a> {
    /// Checks the pattern above.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, InvalidName> {
        let text = text.into();
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !first || !rest || text.len() > 128 {
            return Err(InvalidName {
                rule: "An event name starts with a letter, goes on with letters, digits or _.- and has at most 128 characters.",
            });
        }
        Ok(Self(text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user's id: 1 to 1,024 characters, not only white space, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks the length and that the id is not blank.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() > 1024 && text.chars().count() > 1024 {
            return Err(InvalidName { rule: "A user id has at most 1024 characters." });
        }
        if text.trim().is_empty() {
            return Err(InvalidName {
                rule: "A user id has at least one character that is not white space.",
            });
        }
        Ok(Self(text.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names_are_canonical_lower_case() {
        assert_eq!(HubName::parse("MyHub_1`,.[]").unwrap().as_str(), "myhub_1`,.[]");
        assert!(HubName::parse(&format!("a{}", "b".repeat(127))).is_ok());
        for bad in ["", "1a", "_a", "a b", "ä", "a/b", &format!("a{}", "b".repeat(128))] {
            assert!(HubName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn group_names_count_characters_not_bytes() {
        assert!(GroupName::parse("ä".repeat(1024)).is_ok());
        assert!(GroupName::parse("ä".repeat(1025)).is_err());
        assert!(GroupName::parse(" \t").is_err());
        assert!(GroupName::parse("").is_err());
        assert_eq!(GroupName::parse(" a ").unwrap().as_str(), " a ");
    }

    #[test]
    fn event_names_follow_the_pattern() {
        assert!(EventName::parse("a-b.c_1").is_ok());
        for bad in ["", "1", "a b", "ä", &"a".repeat(129)] {
            assert!(EventName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
