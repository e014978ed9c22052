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

impl Role {
    /// Reads a role string; `None` for an unknown or invalid one, which is ignored (§4).
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!()
    }
}

/// A compiled wildcard pattern: `?`, `*`, `**` and escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    _todo: (),
}

impl Pattern {
    /// Compiles; `None` if it breaks a rule (more than 5 `*`, over 1,024 characters, bad escape, empty).
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!()
    }

    /// Whether `group` matches; linear in the name times the number of stars, no allocation.
    pub fn matches(&self, group: &str) -> bool {
        let _ = group;
        todo!()
    }
}
