//! What a connection may do to groups now (`client-protocols` §4).

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
    literals: Vec<Box<str>>,
    patterns: Vec<Pattern>,
}

impl Permissions {
    /// From a token's roles; unknown ones and those over the limits are ignored (§4).
    pub(crate) fn from_roles<'a>(roles: impl Iterator<Item = &'a str>, limits: &Limits) -> Self {
        let mut permissions = Self::default();
        for Role { action, scope } in roles.filter_map(Role::parse) {
            if scope == Scope::AllGroups {
                *permissions.all(action) = true;
                continue;
            }
            let rules = &mut permissions.rules.get_or_insert_default()[index(action)];
            match scope {
                Scope::Group(group) if rules.literals.len() < limits.permission_literals_max => {
                    rules.literals.push(group);
                }
                Scope::Pattern(pattern) if rules.patterns.len() < limits.permission_patterns_max => {
                    rules.patterns.push(pattern);
                }
                _ => {}
            }
        }
        for rules in permissions.rules.iter_mut().flat_map(|rules| rules.iter_mut()) {
            rules.literals.sort_unstable();
        }
        permissions
    }

    /// Whether `action` on `group` is allowed: by a grant of all, a literal, or a pattern.
    pub(crate) fn allows(&self, action: Action, group: &str) -> bool {
        let all = match action {
            Action::JoinLeaveGroup => self.join_all,
            Action::SendToGroup => self.send_all,
        };
        all || self.rules.as_ref().is_some_and(|rules| {
            let Rules { literals, patterns } = &rules[index(action)];
            literals.binary_search_by(|literal| (**literal).cmp(group)).is_ok()
                || patterns.iter().any(|pattern| pattern.matches(group))
        })
    }

    fn all(&mut self, action: Action) -> &mut bool {
        match action {
            Action::JoinLeaveGroup => &mut self.join_all,
            Action::SendToGroup => &mut self.send_all,
        }
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

    fn roles(roles: &[&str]) -> Permissions {
        Permissions::from_roles(
            roles.iter().copied(),
            &Limits { permission_literals_max: 2, permission_patterns_max: 1, ..Limits::default() },
        )
    }

    #[test]
    fn joining_and_sending_are_granted_apart() {
        let p = roles(&["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.a.b*", "some-guid"]);
        assert!(p.allows(Action::JoinLeaveGroup, "x") && !p.allows(Action::SendToGroup, "x"));
        assert!(p.allows(Action::SendToGroup, "a.b*") && !p.allows(Action::SendToGroup, "a.bc"), "literal");
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
        assert!(p.allows(Action::SendToGroup, "chat-1") && !p.allows(Action::SendToGroup, "x1"));
        assert!(p.allows(Action::JoinLeaveGroup, "b") && !p.allows(Action::JoinLeaveGroup, "c"));
    }
}
