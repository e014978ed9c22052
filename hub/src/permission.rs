//! What a connection may do to groups now (`client-protocols` §4, `rest-api` §2.4).
//!
//! Per action there is a *base*, all groups or those that match a pattern, and exceptions from it for single
//! groups, looked at first. Only what differs from the base is kept as an exception, so granting and revoking the
//! same group over and over costs nothing.

use crate::Limits;
use ringhub_protocol::auth::role::{Action, Pattern, Role, Scope};

/// The permissions of one connection. "All groups" costs no heap.
#[derive(Debug, Default)]
pub(crate) struct Permissions {
    join_all: bool,
    send_all: bool,
    rules: Option<Box<[Rules; 2]>>,
}

#[derive(Debug, Default)]
struct Rules {
    /// Groups for which the base does not hold, sorted by name, with what holds instead.
    exceptions: Vec<(Box<str>, Verdict)>,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
}

/// The connection has as many exceptions as it may have ([`Limits::permission_literals_max`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyRules;

impl Permissions {
    /// From a token's roles; unknown ones and those over the limits are ignored (§4).
    pub(crate) fn from_roles<'a>(roles: impl Iterator<Item = &'a str>, limits: &Limits) -> Self {
        let mut permissions = Self::default();
        let mut literals = Vec::new();
        for Role { action, scope } in roles.filter_map(Role::parse) {
            match scope {
                Scope::AllGroups => *permissions.all(action) = true,
                Scope::Group(group) => literals.push((action, group)),
                Scope::Pattern(pattern) => {
                    let patterns = &mut permissions.rules_mut(action).patterns;
                    if patterns.len() < limits.permission_patterns_max {
                        patterns.push(pattern);
                    }
                }
            }
        }
        for (action, group) in literals {
            // Over the limit it is ignored.
            let _ = permissions.grant(action, &group, limits);
        }
        permissions
    }

    /// Whether `action` on `group` is allowed.
    pub(crate) fn allows(&self, action: Action, group: &str) -> bool {
        match self.rules(action).and_then(|rules| rules.exception(group)) {
            Some(verdict) => verdict == Verdict::Allow,
            None => self.base_allows(action, group),
        }
    }

    /// Whether `action` is allowed on groups in general.
    pub(crate) fn allows_all(&self, action: Action) -> bool {
        match action {
            Action::JoinLeaveGroup => self.join_all,
            Action::SendToGroup => self.send_all,
        }
    }

    /// Allows `action` on `group`.
    pub(crate) fn grant(&mut self, action: Action, group: &str, limits: &Limits) -> Result<(), TooManyRules> {
        self.set(action, group, Verdict::Allow, limits)
    }

    /// Forbids `action` on `group`.
    pub(crate) fn revoke(
        &mut self,
        action: Action,
        group: &str,
        limits: &Limits,
    ) -> Result<(), TooManyRules> {
        self.set(action, group, Verdict::Deny, limits)
    }

    /// Allows `action` on all groups, those included for which it was forbidden.
    pub(crate) fn grant_all(&mut self, action: Action) {
        *self.all(action) = true;
        if let Some(rules) = &mut self.rules {
            rules[index(action)].exceptions = Vec::new();
        }
    }

    /// Forbids `action` on all groups.
    pub(crate) fn revoke_all(&mut self, action: Action) {
        *self.all(action) = false;
        if let Some(rules) = &mut self.rules {
            rules[index(action)] = Rules::default();
        }
    }

    fn set(
        &mut self,
        action: Action,
        group: &str,
        verdict: Verdict,
        limits: &Limits,
    ) -> Result<(), TooManyRules> {
        let is_base = self.base_allows(action, group) == (verdict == Verdict::Allow);
        if is_base && self.rules.is_none() {
            return Ok(());
        }
        let exceptions = &mut self.rules_mut(action).exceptions;
        match exceptions.binary_search_by(|(name, _)| (**name).cmp(group)) {
            Ok(at) if is_base => drop(exceptions.remove(at)),
            Ok(at) => exceptions[at].1 = verdict,
            Err(_) if is_base => {}
            Err(_) if exceptions.len() >= limits.permission_literals_max => return Err(TooManyRules),
            Err(at) => exceptions.insert(at, (group.into(), verdict)),
        }
        Ok(())
    }

    fn base_allows(&self, action: Action, group: &str) -> bool {
        self.allows_all(action)
            || self.rules(action).is_some_and(|rules| rules.patterns.iter().any(|p| p.matches(group)))
    }

    fn rules(&self, action: Action) -> Option<&Rules> {
        self.rules.as_ref().map(|rules| &rules[index(action)])
    }

    fn rules_mut(&mut self, action: Action) -> &mut Rules {
        &mut self.rules.get_or_insert_default()[index(action)]
    }

    fn all(&mut self, action: Action) -> &mut bool {
        match action {
            Action::JoinLeaveGroup => &mut self.join_all,
            Action::SendToGroup => &mut self.send_all,
        }
    }
}

impl Rules {
    fn exception(&self, group: &str) -> Option<Verdict> {
        let at = self.exceptions.binary_search_by(|(name, _)| (**name).cmp(group)).ok()?;
        Some(self.exceptions[at].1)
    }
}

fn index(action: Action) -> usize {
    match action {
        Action::JoinLeaveGroup => 0,
        Action::SendToGroup => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SEND: Action = Action::SendToGroup;

    fn limits() -> Limits {
        Limits { permission_literals_max: 2, permission_patterns_max: 1, ..Limits::default() }
    }

    fn roles(roles: &[&str]) -> Permissions {
        Permissions::from_roles(roles.iter().copied(), &limits())
    }

    #[test]
    fn joining_and_sending_are_granted_apart() {
        let p = roles(&["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.a.b*", "some-guid"]);
        assert!(p.allows(Action::JoinLeaveGroup, "x") && !p.allows(SEND, "x"));
        assert!(p.allows(SEND, "a.b*") && !p.allows(SEND, "a.bc"), "literal");
    }

    #[test]
    fn patterns_match_and_bounds_ignore_the_rest() {
        let p = roles(&[
            "webpubsub.sendToGroups.chat-*",
            "webpubsub.sendToGroups.x*",
            "webpubsub.joinLeaveGroup.a",
            "webpubsub.joinLeaveGroup.b",
            "webpubsub.joinLeaveGroup.c",
        ]);
        assert!(p.allows(SEND, "chat-1") && !p.allows(SEND, "x1"));
        assert!(p.allows(Action::JoinLeaveGroup, "b") && !p.allows(Action::JoinLeaveGroup, "c"));
    }

    /// `rest-api` §2.4, sentence by sentence.
    #[test]
    fn exceptions_override_the_base_and_only_they_are_kept() {
        let mut p = roles(&["webpubsub.sendToGroups.chat-*"]);
        let kept = |p: &Permissions| p.rules(SEND).map_or(0, |rules| rules.exceptions.len());
        assert_eq!(p.grant(SEND, "chat-1", &limits()), Ok(()));
        assert_eq!(kept(&p), 0, "a pattern allows it already");
        assert_eq!(p.revoke(SEND, "chat-1", &limits()), Ok(()));
        assert!(!p.allows(SEND, "chat-1") && p.allows(SEND, "chat-2") && kept(&p) == 1);
        assert_eq!(p.grant(SEND, "chat-1", &limits()), Ok(()));
        assert!(p.allows(SEND, "chat-1") && kept(&p) == 0);
        assert_eq!(p.revoke(SEND, "never allowed", &limits()), Ok(()));
        assert_eq!(kept(&p), 0);
        for group in ["a", "b", "*"] {
            let full = group == "*";
            assert_eq!(p.grant(SEND, group, &limits()).is_err(), full, "{group}");
            assert_eq!(p.allows(SEND, group), !full);
        }
        assert_eq!(p.revoke(SEND, "chat-1", &limits()), Err(TooManyRules));
        assert!(!p.allows_all(SEND));
        p.grant_all(SEND);
        assert!(p.allows_all(SEND) && p.allows(SEND, "x") && kept(&p) == 0);
        p.revoke_all(SEND);
        assert!(!p.allows(SEND, "x") && !p.allows(SEND, "a") && !p.allows(SEND, "chat-2"));
    }

    proptest! {
        // The oracle keeps a verdict for every group that was ever named.
        #[test]
        fn behaves_like_a_map_of_verdicts(base in 0..3usize, ops in prop::collection::vec((0..4u8, 0..5usize), 0..40)) {
            const GROUPS: [&str; 5] = ["a1", "a2", "b1", "b2", "*"];
            let start = [&[][..], &["webpubsub.sendToGroup"], &["webpubsub.sendToGroups.a?"]][base];
            let mut base_allows: [bool; 5] =
                std::array::from_fn(|at| base == 1 || base == 2 && GROUPS[at].starts_with('a'));
            let mut verdicts = BTreeMap::new();
            let many = Limits::default();
            let mut p = Permissions::from_roles(start.iter().copied(), &many);
            for (op, at) in ops {
                match op {
                    0 => { p.grant(SEND, GROUPS[at], &many).unwrap(); verdicts.insert(at, true); }
                    1 => { p.revoke(SEND, GROUPS[at], &many).unwrap(); verdicts.insert(at, false); }
                    2 => { p.grant_all(SEND); verdicts.clear(); base_allows = [true; 5]; }
                    _ => { p.revoke_all(SEND); verdicts.clear(); base_allows = [false; 5]; }
                }
                for (at, group) in GROUPS.into_iter().enumerate() {
                    let expected = verdicts.get(&at).copied().unwrap_or(base_allows[at]);
                    prop_assert_eq!(p.allows(SEND, group), expected, "{}", group);
                }
                prop_assert!(!p.allows(Action::JoinLeaveGroup, "a1"));
            }
        }
    }
}
