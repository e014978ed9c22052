//! Which events a handler or a listener wants (`event-handlers` §1).

use std::cmp::Ordering;

use super::Subject;
use crate::name::{EventName, GroupName};

/// Most patterns of one [`GroupPatterns`]: each is looked at for every presence event.
pub const GROUP_PATTERNS_MAX: usize = 100;

/// System events, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SystemEvents {
    /// `connect`.
    pub connect: bool,
    /// `connected`.
    pub connected: bool,
    /// `disconnected`.
    pub disconnected: bool,
}

impl SystemEvents {
    /// Adds the event of this name, ignoring case; false if there is none.
    pub fn add(&mut self, name: &str) -> bool {
        let slots = [
            (Subject::Connect, &mut self.connect),
            (Subject::Connected, &mut self.connected),
            (Subject::Disconnected, &mut self.disconnected),
        ];
        let slot = slots.into_iter().find(|(subject, _)| subject.name().eq_ignore_ascii_case(name));
        slot.map(|(_, wanted)| *wanted = true).is_some()
    }
}

/// User events: none, all, or some by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UserEvents {
    /// None.
    #[default]
    None,
    /// `*`.
    All,
    /// These, in lower case, sorted.
    Named(Box<[Box<str>]>),
}

impl UserEvents {
    /// Reads `*`, a name, or names with commas between them; trimmed, case is ignored.
    ///
    /// # Errors
    /// What the text must be, for the operator.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let name = |name: &str| -> Result<Box<str>, &'static str> {
            let name = EventName::parse(name.trim()).map_err(|_| {
                "User events are *, a name or names with commas between them; a name starts with a letter, goes on \
                 with letters, digits or _.- and has at most 128 characters."
            })?;
            Ok(name.as_str().to_ascii_lowercase().into())
        };
        let mut names = text.split(',').map(name).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        Ok(Self::Named(names.into()))
    }

    /// Whether the event of this name is one of them, ignoring case.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.binary_search_by(|known| compare(known, name)).is_ok(),
        }
    }
}

/// Groups by name or by prefix (`room-*`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupPatterns(Box<[Box<str>]>);

impl GroupPatterns {
    /// Reads patterns; none stands for every group.
    ///
    /// # Errors
    /// What a pattern must be, for the operator.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, &'static str> {
        let mut checked = Vec::new();
        for pattern in patterns {
            if checked.len() == GROUP_PATTERNS_MAX {
                return Err("There are at most 100 group patterns.");
            }
            // What stands before the star is the start of a name, and may be empty.
            let legal = match pattern.strip_suffix('*') {
                Some("") => true,
                Some(prefix) => !prefix.contains('*') && GroupName::parse(format!("{prefix}x")).is_ok(),
                None => !pattern.contains('*') && GroupName::parse(pattern).is_ok(),
            };
            if !legal {
                return Err(
                    "A group pattern is the name of a group, or the start of names with one * behind it.",
                );
            }
            checked.push(Box::from(pattern));
        }
        Ok(Self(checked.into()))
    }

    /// The patterns, as they were read.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &**pattern)
    }

    /// Whether `group` is one of them.
    pub fn matches(&self, group: &str) -> bool {
        let is_like = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => group.starts_with(prefix),
            None => group == pattern,
        };
        self.0.is_empty() || self.0.iter().any(|pattern| is_like(pattern))
    }
}

/// Group presence events (§4.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// `joined`.
    pub joined: bool,
    /// `left`.
    pub left: bool,
    /// Of which groups.
    pub groups: GroupPatterns,
}

/// What one handler or listener wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// System events.
    pub system: SystemEvents,
    /// User events.
    pub user: UserEvents,
    /// Group presence events.
    pub presence: Presence,
}

impl EventFilter {
    /// Whether it wants this event.
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Connect => self.system.connect,
            Subject::Connected => self.system.connected,
            Subject::Disconnected => self.system.disconnected,
            Subject::User(name) => self.user.matches(name),
            Subject::Joined(group) => self.presence.joined && self.presence.groups.matches(group),
            Subject::Left(group) => self.presence.left && self.presence.groups.matches(group),
        }
    }

    /// Whether it wants presence events of any group.
    pub fn wants_presence(&self) -> bool {
        self.presence.joined || self.presence.left
    }
}

/// Compares what is in lower case with what may be in any, byte by byte, without a copy of it.
fn compare(lower: &str, name: &str) -> Ordering {
    lower.bytes().cmp(name.bytes().map(|byte| byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn system_events_by_name() {
        let mut system = SystemEvents::default();
        assert!(system.add("Connected") && system.add("CONNECT"));
        assert_eq!(system, SystemEvents { connect: true, connected: true, disconnected: false });
        assert!(system.add("disconnected"));
        for unknown in ["", "joined", "connect ", "*"] {
            assert!(!system.add(unknown), "{unknown:?}");
        }
    }

    /// §1: the three documented forms, trimmed, ignoring case.
    #[test]
    fn user_events_by_pattern() {
        for (pattern, wanted, unwanted) in [
            ("*", vec!["a", "Z.9_-"], vec![]),
            (" * ", vec!["a"], vec![]),
            ("Message", vec!["message", "MESSAGE", "mesSage"], vec!["messag", "messages", "", "*"]),
            (" b ,A-1,\tmessage", vec!["a-1", "B", "message"], vec!["c", "a", "a-1 "]),
            ("a,A,a", vec!["a"], vec!["b"]),
        ] {
            let events = UserEvents::parse(pattern).unwrap();
            for name in wanted {
                assert!(events.matches(name), "{pattern:?} {name:?}");
            }
            for name in unwanted {
                assert!(!events.matches(name), "{pattern:?} {name:?}");
            }
        }
        for bad in ["", " ", ",", "a,", "a,,b", "a*", "*,a", "a,*", "1a", "a b", "\u{e4}", &"a".repeat(129)] {
            assert!(UserEvents::parse(bad).is_err(), "{bad:?}");
        }
        assert!(!UserEvents::None.matches("message"));
    }

    #[test]
    fn groups_by_name_and_by_prefix() {
        let groups = GroupPatterns::parse(["room-*", "Lobby", " a"]).unwrap();
        for group in ["room-", "room-1", "room-*", "Lobby", " a"] {
            assert!(groups.matches(group), "{group:?}");
        }
        for group in ["room", "Room-1", "lobby", "Lobby2", "a", ""] {
            assert!(!groups.matches(group), "{group:?}");
        }
        assert!(GroupPatterns::parse([]).unwrap().matches("any"));
        assert!(GroupPatterns::parse(["*"]).unwrap().matches("any"));
        for bad in ["", " ", "a**", "a*b", "*a", "**", &"g".repeat(1025), &format!("{}*", "g".repeat(1024))] {
            assert!(GroupPatterns::parse([bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn group_patterns_have_a_bound() {
        assert!(GroupPatterns::parse(std::iter::repeat_n("g", GROUP_PATTERNS_MAX)).is_ok());
        assert!(GroupPatterns::parse(std::iter::repeat_n("g", GROUP_PATTERNS_MAX + 1)).is_err());
    }

    #[test]
    fn a_filter_looks_where_the_event_belongs() {
        let filter = EventFilter {
            system: SystemEvents { connected: true, ..SystemEvents::default() },
            user: UserEvents::parse("connect,joined").unwrap(),
            presence: Presence { joined: true, left: false, groups: GroupPatterns::parse(["g*"]).unwrap() },
        };
        for (subject, wanted) in [
            (Subject::Connect, false),
            (Subject::Connected, true),
            (Subject::Disconnected, false),
            (Subject::User("Connect"), true),
            (Subject::User("connected"), false),
            (Subject::Joined("g1"), true),
            (Subject::Joined("h"), false),
            (Subject::Left("g1"), false),
        ] {
            assert_eq!(filter.matches(subject), wanted, "{subject:?}");
        }
        assert!(filter.wants_presence());
        let nothing = EventFilter::default();
        assert!(!nothing.wants_presence() && !nothing.matches(Subject::Joined("g1")));
    }

    proptest! {
        #[test]
        fn names_are_found_as_by_looking_at_each(
            names in proptest::collection::vec("[a-cA-C][a-c_.A-C-]{0,2}", 1..20),
            name in "[a-cA-C][a-c_.A-C-]{0,2}",
        ) {
            let events = UserEvents::parse(&names.join(" , ")).unwrap();
            let reference = names.iter().any(|known| known.eq_ignore_ascii_case(&name));
            prop_assert_eq!(events.matches(&name), reference);
        }
    }
}
