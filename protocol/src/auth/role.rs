//! Roles and wildcard group patterns (`client-protocols` §4).

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

/// Longest group a role can name and longest pattern, in characters.
const NAME_MAX: usize = 1024;

impl Role {
    /// Reads a role string; `None` for an unknown or invalid one, which is ignored (§4).
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("webpubsub.")?;
        let (action, rest) = match rest.strip_prefix("joinLeaveGroup") {
            Some(rest) => (Action::JoinLeaveGroup, rest),
            None => (Action::SendToGroup, rest.strip_prefix("sendToGroup")?),
        };
        let scope = if rest.is_empty() {
            Scope::AllGroups
        } else if let Some(group) = rest.strip_prefix('.') {
            let legal = !group.is_empty() && group.chars().count() <= NAME_MAX;
            legal.then(|| Scope::Group(group.into()))?
        } else {
            let pattern = rest.strip_prefix("s.")?;
            if pattern == "**" { Scope::AllGroups } else { Scope::Pattern(Pattern::parse(pattern)?) }
        };
        Some(Self { action, scope })
    }
}

/// A compiled wildcard pattern: `?`, `*`, `**` and escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character, not a dot.
    One,
    /// `*`: any number of characters, no dot.
    Star,
    /// `**`: any number of characters.
    Any,
}

/// Most `*` in a pattern; `**` counts twice.
const STARS_MAX: usize = 5;

impl Pattern {
    /// Compiles; `None` if it breaks a rule (more than 5 `*`, over 1,024 characters, bad escape, empty).
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().count() > NAME_MAX {
            return None;
        }
        let (mut tokens, mut stars) = (Vec::new(), 0);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '?' => Token::One,
                '*' => {
                    let mut run = 1;
                    while chars.next_if_eq(&'*').is_some() {
                        run += 1;
                    }
                    stars += run;
                    if run == 1 { Token::Star } else { Token::Any }
                }
                '\\' => Token::Char(chars.next().filter(|c| "\\*?".contains(*c))?),
                c => Token::Char(c),
            });
        }
        (stars <= STARS_MAX).then(|| Self { tokens: tokens.into() })
    }

    /// Whether `group` matches. Allocates nothing; at most the name's length times the pattern's.
    pub fn matches(&self, group: &str) -> bool {
        let mut places = Places::default();
        places.insert(0, &self.tokens);
        for c in group.chars() {
            let mut next = Places::default();
            for place in places.iter() {
                match self.tokens.get(place) {
                    Some(Token::Char(token)) if *token == c => next.insert(place + 1, &self.tokens),
                    Some(Token::One) if c != '.' => next.insert(place + 1, &self.tokens),
                    Some(Token::Star) if c != '.' => next.insert(place, &self.tokens),
                    Some(Token::Any) => next.insert(place, &self.tokens),
                    _ => {}
                }
            }
            places = next;
        }
        places.contains(self.tokens.len())
    }
}

/// The places of a pattern that the name so far can have reached, one bit each.
#[derive(Default)]
struct Places([u64; NAME_MAX / 64 + 1]);

impl Places {
    /// Adds a place and those behind stars that match nothing.
    fn insert(&mut self, mut place: usize, tokens: &[Token]) {
        self.0[place / 64] |= 1 << (place % 64);
        while matches!(tokens.get(place), Some(Token::Star | Token::Any)) {
            place += 1;
            self.0[place / 64] |= 1 << (place % 64);
        }
    }

    fn contains(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    at * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn role_strings_read_as_the_table_says() {
        let role = |action, scope| Some(Role { action, scope });
        let pattern = |text| Scope::Pattern(Pattern::parse(text).unwrap());
        use Action::{JoinLeaveGroup, SendToGroup};
        for (text, expected) in [
            ("webpubsub.joinLeaveGroup", role(JoinLeaveGroup, Scope::AllGroups)),
            ("webpubsub.sendToGroup", role(SendToGroup, Scope::AllGroups)),
            ("webpubsub.sendToGroup.a.b*", role(SendToGroup, Scope::Group("a.b*".into()))),
            ("webpubsub.joinLeaveGroups.a.*", role(JoinLeaveGroup, pattern("a.*"))),
            ("webpubsub.sendToGroups.**", role(SendToGroup, Scope::AllGroups)),
            ("webpubsub.sendToGroup.", None),
            ("webpubsub.sendToGroups", None),
            ("webpubsub.sendToGroups.", None),
            ("webpubsub.sendToGroups.a\\b", None),
            ("WebPubSub.sendToGroup", None),
            ("3f2c7a52-some-guid", None),
        ] {
            assert_eq!(Role::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_examples_of_the_reference_match() {
        for (pattern, yes, no) in [
            ("chat-*", "chat-1", "chat.1"),
            ("a.*", "a.b", "a.b.c"),
            ("a.**", "a.b.c", "b.a"),
            ("a.?1", "a.x1", "a.1"),
            ("a\\*", "a*", "ab"),
            ("**x*y", "a.b.xzy", "a.b.xz.y"),
        ] {
            let compiled = Pattern::parse(pattern).expect(pattern);
            assert!(compiled.matches(yes) && !compiled.matches(no), "{pattern}");
        }
        assert!(Pattern::parse("*****").is_some() && Pattern::parse("**a**b*c*").is_none(), "five stars");
        assert!(Pattern::parse("a\\").is_none() && Pattern::parse(&"a".repeat(1025)).is_none());
        assert!(Pattern::parse(&"a".repeat(1024)).unwrap().matches(&"a".repeat(1024)));
    }

    /// Says what the language means, without regard to time.
    fn oracle(pattern: &[Token], name: &[char]) -> bool {
        let Some((token, rest)) = pattern.split_first() else { return name.is_empty() };
        let one = |ok: &dyn Fn(char) -> bool| name.first().is_some_and(|c| ok(*c));
        match token {
            Token::Char(c) => one(&|n| n == *c) && oracle(rest, &name[1..]),
            Token::One => one(&|n| n != '.') && oracle(rest, &name[1..]),
            Token::Star => oracle(rest, name) || one(&|n| n != '.') && oracle(pattern, &name[1..]),
            Token::Any => oracle(rest, name) || one(&|_| true) && oracle(pattern, &name[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab.?*]{1,9}", name in "[ab.]{0,9}") {
            if let Some(compiled) = Pattern::parse(&pattern) {
                let chars: Vec<char> = name.chars().collect();
                prop_assert_eq!(compiled.matches(&name), oracle(&compiled.tokens, &chars));
            }
        }
    }
}
