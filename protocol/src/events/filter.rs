//! Which events a handler or a listener wants (`event-handlers` §1).

use super::Subject;

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
        todo!("{name}")
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
        todo!("{text}")
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
        Ok(Self(patterns.into_iter().map(Box::from).collect()))
    }

    /// Whether `group` is one of them.
    pub fn matches(&self, group: &str) -> bool {
        todo!("{group}")
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
        todo!("{subject:?}")
    }

    /// Whether it wants presence events of any group.
    pub fn wants_presence(&self) -> bool {
        self.presence.joined || self.presence.left
    }
}
