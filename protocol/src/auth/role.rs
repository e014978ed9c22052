//! Roles and wildcard group patterns (`client-protocols` §4).
//!
//! A role that is unknown or breaks a rule is ignored, never an error: applications put random strings into
//! `role` to make tokens unique.

use crate::name::GroupName;

/// What a role grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The action.
    pub action: Action,
    /// Where.
    pub scope: Scope,
}

/// What may be done to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Join and leave.
    JoinLeaveGroup,
    /// Publish.
    SendToGroup,
}

/// Which groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    AllGroups,
    /// Exactly one, literally.
    Group(Box<str>),
    /// Those that match.
    Pattern(Pattern),
}

impl Role {
    /// Reads a role string; `None` for an unknown or invalid one, which is ignored (§4).
    pub fn parse(text: &str) -> Option<Self> {
        let permission = text.strip_prefix("webpubsub.")?;
        let (name, target) = match permission.split_once('.') {
            Some((name, target)) => (name, Some(target)),
            None => (permission, None),
        };
        let (action, is_pattern) = match name {
            "joinLeaveGroup" => (Action::JoinLeaveGroup, false),
            "sendToGroup" => (Action::SendToGroup, false),
            "joinLeaveGroups" => (Action::JoinLeaveGroup, true),
            "sendToGroups" => (Action::SendToGroup, true),
            _ => return None,
        };
        let scope = match (target, is_pattern) {
            (None, false) => Scope::AllGroups,
            (None, true) => return None,
            (Some(group), false) => {
                GroupName::parse(group).ok()?;
                Scope::Group(group.into())
            }
            (Some(pattern), true) => {
                let pattern = Pattern::parse(pattern)?;
                if pattern.matches_everything() { Scope::AllGroups } else { Scope::Pattern(pattern) }
            }
        };
        Some(Self { action, scope })
    }
}

/// A compiled wildcard pattern: `?`, `*`, `**` and escapes.
///
/// | Token | Matches |
/// |---|---|
/// | `?` | one character, not `.` |
/// | `*` | zero or more characters, not `.` |
/// | `**` and longer runs | zero or more characters |
/// | `\*` `\?` `\\` | the character itself |
/// | anything else | itself, case-sensitive |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    /// `?`
    One,
    /// `*`
    Label,
    /// `**`
    Any,
}

/// Longest pattern, in characters.
pub const PATTERN_CHARS_MAX: usize = 1024;

/// Most `*` characters in a pattern; `**` counts two, an escaped one none.
pub const PATTERN_STARS_MAX: usize = 5;

impl Pattern {
    /// Compiles; `None` if it breaks a rule (more than 5 `*`, over 1,024 characters, bad escape, empty).
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().count() > PATTERN_CHARS_MAX {
            return None;
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut stars = 0;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let wildcard = match character {
                '?' => Piece::One,
                '*' => {
                    let mut run = 1;
                    while characters.next_if_eq(&'*').is_some() {
                        run += 1;
                    }
                    stars += run;
                    if run == 1 { Piece::Label } else { Piece::Any }
                }
                '\\' => {
                    literal.push(characters.next_if(|escaped| matches!(escaped, '*' | '?' | '\\'))?);
                    continue;
                }
                plain => {
                    literal.push(plain);
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(wildcard);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        (stars <= PATTERN_STARS_MAX).then(|| Self { pieces: pieces.into() })
    }

    /// Whether `group` matches. No allocation and no backtracking: at worst the length of the name times the
    /// length of the pattern.
    pub fn matches(&self, group: &str) -> bool {
        if group.len() > NAME_BYTES_MAX {
            return false;
        }
        // All the places in the name up to which the pieces so far can reach, advanced piece by piece.
        let mut reached = Places::default();
        reached.insert(0);
        for piece in &self.pieces {
            reached = piece.advance(&reached, group);
            if reached.is_empty() {
                return false;
            }
        }
        reached.contains(group.len())
    }

    fn matches_everything(&self) -> bool {
        *self.pieces == [Piece::Any]
    }
}

impl Piece {
    /// From where the name is matched up to `from`, the places this piece can lead to. Places are byte offsets at
    /// character boundaries.
    fn advance(&self, from: &Places, group: &str) -> Places {
        let mut to = Places::default();
        match self {
            Self::Literal(literal) => {
                for place in from.iter().filter(|&place| group[place..].starts_with(&**literal)) {
                    to.insert(place + literal.len());
                }
            }
            Self::One => {
                for place in from.iter() {
                    if let Some(character) = group[place..].chars().next().filter(|&c| c != '.') {
                        to.insert(place + character.len_utf8());
                    }
                }
            }
            Self::Label | Self::Any => {
                // One walk to the right: carry the reach on until a dot stops it.
                let mut reaching = false;
                let first = from.iter().next().unwrap_or(group.len());
                for (offset, character) in group[first..].char_indices() {
                    let place = first + offset;
                    reaching |= from.contains(place);
                    if reaching {
                        to.insert(place);
                    }
                    reaching &= character != '.' || *self == Self::Any;
                }
                if reaching || from.contains(group.len()) {
                    to.insert(group.len());
                }
            }
        }
        to
    }
}

/// Longest name of a group, in bytes: 1,024 characters.
const NAME_BYTES_MAX: usize = 4096;

/// A set of byte offsets into a name, its end included.
struct Places {
    words: [u64; NAME_BYTES_MAX / 64 + 1],
    /// Words below this one may be non-zero.
    used: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { words: [0; NAME_BYTES_MAX / 64 + 1], used: 0 }
    }
}

impl Places {
    fn insert(&mut self, place: usize) {
        self.words[place / 64] |= 1 << (place % 64);
        self.used = self.used.max(place / 64 + 1);
    }

    fn contains(&self, place: usize) -> bool {
        self.words[place / 64] >> (place % 64) & 1 == 1
    }

    fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// In ascending order.
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words[..self.used].iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_roles_of_the_table() {
        use Action::{JoinLeaveGroup, SendToGroup};
        let group = |name: &str| Scope::Group(name.into());
        let pattern = |text: &str| Scope::Pattern(Pattern::parse(text).unwrap());
        for (text, action, scope) in [
            ("webpubsub.joinLeaveGroup", JoinLeaveGroup, Scope::AllGroups),
            ("webpubsub.sendToGroup", SendToGroup, Scope::AllGroups),
            ("webpubsub.joinLeaveGroup.a.b*", JoinLeaveGroup, group("a.b*")),
            ("webpubsub.sendToGroup.**", SendToGroup, group("**")),
            ("webpubsub.joinLeaveGroups.a.*", JoinLeaveGroup, pattern("a.*")),
            ("webpubsub.sendToGroups.plain", SendToGroup, pattern("plain")),
            ("webpubsub.sendToGroups.**", SendToGroup, Scope::AllGroups),
            ("webpubsub.sendToGroups.***", SendToGroup, Scope::AllGroups),
        ] {
            assert_eq!(Role::parse(text), Some(Role { action, scope }), "{text}");
        }
        for unknown in [
            "",
            "webpubsub",
            "webpubsub.",
            "sendToGroup",
            "webpubsub.sendToGroup.",
            "webpubsub.sendToGroup. ",
            "webpubsub.sendToGroups",
            "webpubsub.sendToGroups.",
            "webpubsub.SendToGroup",
            "webpubsub.sendToGroupX",
            "webpubsub.sendToGroups.a\\",
            "5a2c",
            " webpubsub.sendToGroup",
            &format!("webpubsub.sendToGroup.{}", "x".repeat(1025)),
        ] {
            assert_eq!(Role::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_rules_of_patterns() {
        for good in [
            "a",
            "*",
            "**",
            "*****",
            "*a*b*c*d*",
            "a.?\\*\\?\\\\",
            "\\*\\*\\*\\*\\*\\*",
            &"ä".repeat(1024),
            &"?".repeat(1024),
        ] {
            assert!(Pattern::parse(good).is_some(), "{good}");
        }
        for bad in ["", "******", "*a*b*c*d**", "\\", "a\\", "\\a", "\\.", &"ä".repeat(1025)] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_examples() {
        let long = "a".repeat(1024);
        for (pattern, group, expected) in [
            ("chat-*", "chat-1", true),
            ("chat-*", "chat-", true),
            ("chat-*", "chat.1", false),
            ("chat-*", "Chat-1", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.**", "a.b", true),
            ("a.**", "a.b.c", true),
            ("a.**", "a", false),
            ("a.?1", "a.x1", true),
            ("a.?1", "a.1", false),
            ("a.?1", "a..1", false),
            ("?", "😀", true),
            ("??", "ä", false),
            ("*.b.**z", "a.b.c.xz", true),
            ("**.*", "a", false),
            ("\\*\\?\\\\", "*?\\", true),
            ("\\*", "a", false),
            ("[a-z]+", "[a-z]+", true),
            ("**a**a", &long, true),
            ("**a**b", &long, false),
            ("**", "", true),
            ("*", "", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(group), expected, "{pattern} on {group}");
        }
        assert!(!Pattern::parse("**").unwrap().matches(&"a".repeat(4097)));
        assert!(Pattern::parse("**?").unwrap().matches(&"😀".repeat(1024)));
    }

    /// The table of the documentation, read literally.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', '*', rest @ ..] => {
                let rest = &rest[rest.iter().take_while(|&&c| c == '*').count()..];
                (0..=name.len()).any(|skip| naive(rest, &name[skip..]))
            }
            ['*', rest @ ..] => (0..=name.len())
                .take_while(|&skip| !name[..skip].contains(&'.'))
                .any(|skip| naive(rest, &name[skip..])),
            ['?', rest @ ..] => name.first().is_some_and(|&c| c != '.') && naive(rest, &name[1..]),
            ['\\', escaped, rest @ ..] => name.first() == Some(escaped) && naive(rest, &name[1..]),
            [plain, rest @ ..] => name.first() == Some(plain) && naive(rest, &name[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[cfg_attr(miri, ignore = "takes too long there")]
        #[test]
        fn agrees_with_the_naive_matcher(pattern in r"([ab.ä?*]|\*\*|\\\*){1,8}", name in "[ab.ä*]{0,10}") {
            if let Some(compiled) = Pattern::parse(&pattern) {
                let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
                prop_assert_eq!(compiled.matches(&name), naive(&p, &n));
            }
        }
    }
}
