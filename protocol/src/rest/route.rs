//! Method, path and query → [`Call`] (`rest-api` §1.2, §2).
//!
//! The path is split at raw slashes and every segment decoded exactly once, so `%2F` in a name is part of the name.
//! What is checked in which order: path (404), method (405), escapes, names, parameters (400), what is not built
//! (501).

use super::error::{ErrorBody, ErrorCode};
use super::filters::Filters;
use super::group_change::GroupChange;
use super::query::{Query, bad_name, bad_request, named_group};
use super::{Call, Operation, Permission, Target};
use crate::auth::role::Action;
use crate::name::{GroupName, HubName, UserId};
use crate::uri::percent_decode;

/// Why a request is not a call: a status, a body, and what a 405 must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// The answer's body; its code gives the status.
    pub body: ErrorBody,
    /// The value of `Allow`, with a 405.
    pub allow: Option<&'static str>,
}

impl RouteError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.body.code.status()
    }
}

impl From<ErrorBody> for RouteError {
    fn from(body: ErrorBody) -> Self {
        Self { body, allow: None }
    }
}

/// Routes a request. `raw_path` and `raw_query` are as they came, still encoded; `raw_query` is without `?`.
pub fn route(
    method: &str,
    raw_path: &str,
    raw_query: Option<&str>,
    filters: &mut Filters,
) -> Result<Call, RouteError> {
    if raw_path == "/api/health" {
        return match method {
            "GET" | "HEAD" => Ok(Call::Health),
            _ => Err(not_allowed("GET, HEAD")),
        };
    }
    let path = raw_path.strip_prefix("/api/hubs/").ok_or_else(not_found)?;
    let segments: Vec<_> = path.split('/').map(percent_decode).collect();
    let Some(segments) = segments.into_iter().collect::<Option<Vec<_>>>() else {
        return Err(bad_request("The path holds a malformed escape."));
    };
    let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    let [hub, rest @ ..] = segments.as_slice() else { return Err(not_found()) };
    let shape = Shape::of(rest).ok_or_else(not_found)?;
    let verb = shape.verb(method)?;
    let hub = HubName::parse(hub).map_err(|invalid| bad_name("hub", invalid))?;
    let query = Query::parse(raw_query.unwrap_or_default())?;
    match verb {
        Verb::ChangeGroups(change) => Ok(Call::ChangeGroups { hub, change }),
        verb => operation(&hub, verb, query, filters).map(|operation| Call::Hub { hub, operation }),
    }
}

/// The paths under a hub, names still unchecked.
#[derive(Clone, Copy)]
enum Shape<'a> {
    GenerateToken,
    Send(Place<'a>),
    CloseConnections(Place<'a>),
    /// `connections/{id}`, which can be closed too.
    Connection(&'a str),
    Group(&'a str),
    User(&'a str),
    /// `groups/{group}/connections/{id}`, `users/{user}/groups/{group}`
    Membership {
        member: Place<'a>,
        group: &'a str,
    },
    /// `connections/{id}/groups`, `users/{user}/groups`
    Memberships(Place<'a>),
    /// `groups/{group}/connections`
    Members(&'a str),
    /// `:addToGroups`, `:removeFromGroups`
    ChangeGroups(GroupChange),
    /// `permissions/{permission}/connections/{id}`
    Permission {
        action: Action,
        id: &'a str,
    },
    NotYet {
        name: &'static str,
        allow: &'static str,
    },
}

/// A [`Target`] whose name is still unchecked.
#[derive(Clone, Copy)]
enum Place<'a> {
    All,
    Group(&'a str),
    User(&'a str),
    Connection(&'a str),
}

/// A path with one of its methods.
enum Verb<'a> {
    GenerateToken,
    Send(Place<'a>),
    Close(Place<'a>),
    Exists(Place<'a>),
    Add { member: Place<'a>, group: &'a str },
    Remove { member: Place<'a>, group: &'a str },
    RemoveFromAll(Place<'a>),
    ListMembers(&'a str),
    ChangeGroups(GroupChange),
    Grant { action: Action, id: &'a str },
    Revoke { action: Action, id: &'a str },
    Check { action: Action, id: &'a str },
    NotYet(&'static str),
}

impl<'a> Shape<'a> {
    fn of(segments: &[&'a str]) -> Option<Self> {
        use Place::{All, Connection, Group, User};
        let not_yet = |name, allow| Some(Self::NotYet { name, allow });
        match *segments {
            [":generateToken"] => Some(Self::GenerateToken),
            [":send"] => Some(Self::Send(All)),
            ["connections", id, ":send"] => Some(Self::Send(Connection(id))),
            ["users", user, ":send"] => Some(Self::Send(User(user))),
            ["groups", group, ":send"] => Some(Self::Send(Group(group))),
            [":closeConnections"] => Some(Self::CloseConnections(All)),
            ["groups", group, ":closeConnections"] => Some(Self::CloseConnections(Group(group))),
            ["users", user, ":closeConnections"] => Some(Self::CloseConnections(User(user))),
            ["connections", id] => Some(Self::Connection(id)),
            ["groups", group] => Some(Self::Group(group)),
            ["users", user] => Some(Self::User(user)),
            ["groups", group, "connections", id] => Some(Self::Membership { member: Connection(id), group }),
            ["users", user, "groups", group] => Some(Self::Membership { member: User(user), group }),
            ["connections", id, "groups"] => Some(Self::Memberships(Connection(id))),
            ["users", user, "groups"] => Some(Self::Memberships(User(user))),
            ["groups", group, "connections"] => Some(Self::Members(group)),
            [":addToGroups"] => Some(Self::ChangeGroups(GroupChange::Add)),
            [":removeFromGroups"] => Some(Self::ChangeGroups(GroupChange::Remove)),
            ["permissions", permission, "connections", id] => {
                let action = match permission {
                    "joinLeaveGroup" => Action::JoinLeaveGroup,
                    "sendToGroup" => Action::SendToGroup,
                    _ => return None,
                };
                Some(Self::Permission { action, id })
            }
            [":invoke"] | ["groups", _, ":invoke"] => not_yet("Invoke", "POST"),
            ["chat", _, ..] => not_yet("Chat", "DELETE, GET, HEAD, PATCH, POST, PUT"),
            _ => None,
        }
    }

    fn verb(self, method: &str) -> Result<Verb<'a>, RouteError> {
        match (self, method) {
            (Self::GenerateToken, "POST") => Ok(Verb::GenerateToken),
            (Self::Send(place), "POST") => Ok(Verb::Send(place)),
            (Self::CloseConnections(place), "POST") => Ok(Verb::Close(place)),
            (Self::GenerateToken | Self::Send(_) | Self::CloseConnections(_), _) => Err(not_allowed("POST")),
            (Self::Connection(id), "DELETE") => Ok(Verb::Close(Place::Connection(id))),
            (Self::Connection(id), "HEAD") => Ok(Verb::Exists(Place::Connection(id))),
            (Self::Connection(_), _) => Err(not_allowed("DELETE, HEAD")),
            (Self::Group(group), "HEAD") => Ok(Verb::Exists(Place::Group(group))),
            (Self::User(user), "HEAD") => Ok(Verb::Exists(Place::User(user))),
            (Self::Group(_) | Self::User(_), _) => Err(not_allowed("HEAD")),
            (Self::Membership { member, group }, "PUT") => Ok(Verb::Add { member, group }),
            (Self::Membership { member, group }, "DELETE") => Ok(Verb::Remove { member, group }),
            (Self::Membership { .. }, _) => Err(not_allowed("DELETE, PUT")),
            (Self::Memberships(member), "DELETE") => Ok(Verb::RemoveFromAll(member)),
            (Self::Memberships(_), _) => Err(not_allowed("DELETE")),
            (Self::Members(group), "GET") => Ok(Verb::ListMembers(group)),
            (Self::Members(_), _) => Err(not_allowed("GET")),
            (Self::ChangeGroups(change), "POST") => Ok(Verb::ChangeGroups(change)),
            (Self::ChangeGroups(_), _) => Err(not_allowed("POST")),
            (Self::Permission { action, id }, "PUT") => Ok(Verb::Grant { action, id }),
            (Self::Permission { action, id }, "DELETE") => Ok(Verb::Revoke { action, id }),
            (Self::Permission { action, id }, "HEAD") => Ok(Verb::Check { action, id }),
            (Self::Permission { .. }, _) => Err(not_allowed("DELETE, HEAD, PUT")),
            (Self::NotYet { name, allow }, _) => {
                if allow.split(", ").any(|allowed| allowed == method) {
                    Ok(Verb::NotYet(name))
                } else {
                    Err(not_allowed(allow))
                }
            }
        }
    }
}

fn operation(
    hub: &HubName,
    verb: Verb<'_>,
    query: Query,
    filters: &mut Filters,
) -> Result<Operation, RouteError> {
    match verb {
        Verb::GenerateToken => query.generate_token().map(Operation::GenerateToken),
        Verb::Send(place) => {
            let target = target(place)?;
            let ttl_seconds = query.message_ttl_seconds()?;
            // A connection is named in full: there is nothing to choose from.
            let filter =
                if matches!(target, Target::Connection(_)) { None } else { query.filter(filters)? };
            // Only sends to all and to groups have exclusions.
            let excluded = match target {
                Target::All | Target::Group(_) => query.excluded.into(),
                Target::User(_) | Target::Connection(_) => Box::default(),
            };
            Ok(Operation::Send { target, excluded, filter, ttl_seconds })
        }
        Verb::Close(place) => {
            let target = target(place)?;
            let excluded = match target {
                Target::Connection(_) => Box::default(),
                _ => query.excluded.into(),
            };
            Ok(Operation::Close {
                target,
                excluded,
                reason: query.reason.filter(|reason| !reason.is_empty()),
            })
        }
        Verb::Exists(place) => Ok(Operation::Exists { target: target(place)? }),
        Verb::Add { member, group } => {
            Ok(Operation::AddToGroup { member: target(member)?, group: group_name(group)? })
        }
        Verb::Remove { member, group } => {
            Ok(Operation::RemoveFromGroup { member: target(member)?, group: group_name(group)? })
        }
        Verb::RemoveFromAll(member) => Ok(Operation::RemoveFromAllGroups { member: target(member)? }),
        Verb::ListMembers(group) => {
            let group = group_name(group)?;
            Ok(Operation::ListMembers { page: query.page(hub, &group)?, group })
        }
        Verb::Grant { action, id } => permission(action, id, &query).map(Operation::Grant),
        Verb::Revoke { action, id } => permission(action, id, &query).map(Operation::Revoke),
        Verb::Check { action, id } => permission(action, id, &query).map(Operation::Check),
        Verb::ChangeGroups(_) => unreachable!("its operation is in the body"),
        Verb::NotYet(name) => Ok(Operation::NotYet { name }),
    }
}

fn permission(action: Action, id: &str, query: &Query) -> Result<Permission, RouteError> {
    Ok(Permission { connection: target(Place::Connection(id))?, action, group: query.target_name()? })
}

fn target(place: Place<'_>) -> Result<Target, RouteError> {
    match place {
        Place::All => Ok(Target::All),
        Place::Group(group) => group_name(group).map(Target::Group),
        Place::User(user) => {
            UserId::parse(user).map(Target::User).map_err(|invalid| bad_name("userId", invalid))
        }
        Place::Connection("") => {
            Err(ErrorBody::bad_parameter("connectionId", "A connection id has at least one character.")
                .into())
        }
        Place::Connection(id) => Ok(Target::Connection(id.into())),
    }
}

fn group_name(group: &str) -> Result<GroupName<'static>, RouteError> {
    named_group("group", group)
}

fn not_found() -> RouteError {
    ErrorBody::new(ErrorCode::NotFound, "There is no operation at this path.").into()
}

fn not_allowed(allow: &'static str) -> RouteError {
    let body = ErrorBody::new(ErrorCode::MethodNotAllowed, format!("This path takes {allow}."));
    RouteError { body, allow: Some(allow) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::GroupName;
    use crate::rest::page::{Cursor, Page};
    use crate::rest::query::API_VERSIONS;
    use crate::rest::{ClientType, GenerateToken};

    fn routed(method: &str, raw_path: &str, raw_query: Option<&str>) -> Result<Call, RouteError> {
        route(method, raw_path, raw_query, &mut Filters::new(0))
    }

    fn hub_call(method: &str, path: &str, query: &str) -> Result<Operation, RouteError> {
        match routed(method, &format!("/api/hubs/Chat{path}"), Some(query))? {
            Call::Hub { hub, operation } => {
                assert_eq!(hub.as_str(), "chat");
                Ok(operation)
            }
            other => panic!("{path} is no operation by itself: {other:?}"),
        }
    }

    fn group(name: &str) -> GroupName<'static> {
        GroupName::parse(name.to_owned()).unwrap()
    }

    fn user(id: &str) -> Target {
        Target::User(UserId::parse(id).unwrap())
    }

    fn connection(id: &str) -> Target {
        Target::Connection(id.into())
    }

    fn ids(ids: &[&str]) -> Box<[Box<str>]> {
        ids.iter().map(|&id| id.into()).collect()
    }

    /// `rest-api` §2, row by row.
    #[test]
    fn the_operations() {
        use Operation as Op;
        let send = |target| Op::send(target);
        let close = |target| Op::Close { target, excluded: ids(&[]), reason: None };
        let permission = |action| Permission { connection: connection("c1"), action, group: None };
        for (method, path, expected) in [
            ("POST", "/:send", send(Target::All)),
            ("POST", "/%3Asend", send(Target::All)),
            ("POST", "/connections/c1/:send", send(connection("c1"))),
            ("POST", "/users/u1/:send", send(user("u1"))),
            ("POST", "/groups/g1/:send", send(Target::Group(group("g1")))),
            ("DELETE", "/connections/c1", close(connection("c1"))),
            ("POST", "/:closeConnections", close(Target::All)),
            ("POST", "/groups/g1/:closeConnections", close(Target::Group(group("g1")))),
            ("POST", "/users/u1/:closeConnections", close(user("u1"))),
            ("HEAD", "/connections/c1", Op::Exists { target: connection("c1") }),
            ("HEAD", "/groups/g1", Op::Exists { target: Target::Group(group("g1")) }),
            ("HEAD", "/users/u1", Op::Exists { target: user("u1") }),
            (
                "PUT",
                "/groups/g1/connections/c1",
                Op::AddToGroup { member: connection("c1"), group: group("g1") },
            ),
            (
                "DELETE",
                "/groups/g1/connections/c1",
                Op::RemoveFromGroup { member: connection("c1"), group: group("g1") },
            ),
            ("DELETE", "/connections/c1/groups", Op::RemoveFromAllGroups { member: connection("c1") }),
            ("PUT", "/users/u1/groups/g1", Op::AddToGroup { member: user("u1"), group: group("g1") }),
            ("DELETE", "/users/u1/groups/g1", Op::RemoveFromGroup { member: user("u1"), group: group("g1") }),
            ("DELETE", "/users/u1/groups", Op::RemoveFromAllGroups { member: user("u1") }),
            (
                "GET",
                "/groups/g1/connections",
                Op::ListMembers { group: group("g1"), page: Page { size: None, top: None, after: None } },
            ),
            ("PUT", "/permissions/sendToGroup/connections/c1", Op::Grant(permission(Action::SendToGroup))),
            (
                "DELETE",
                "/permissions/sendToGroup/connections/c1",
                Op::Revoke(permission(Action::SendToGroup)),
            ),
            (
                "HEAD",
                "/permissions/joinLeaveGroup/connections/c1",
                Op::Check(permission(Action::JoinLeaveGroup)),
            ),
            ("POST", "/:invoke", Op::NotYet { name: "Invoke" }),
            ("POST", "/groups/g1/:invoke", Op::NotYet { name: "Invoke" }),
            ("GET", "/chat/rooms/r1", Op::NotYet { name: "Chat" }),
        ] {
            assert_eq!(hub_call(method, path, "api-version=2024-12-01"), Ok(expected), "{method} {path}");
        }
        for (path, change) in
            [("/:addToGroups", GroupChange::Add), ("/:removeFromGroups", GroupChange::Remove)]
        {
            let call = routed("POST", &format!("/api/hubs/h{path}"), None);
            assert!(
                matches!(call, Ok(Call::ChangeGroups { change: found, .. }) if found == change),
                "{call:?}"
            );
        }
        for method in ["GET", "HEAD"] {
            assert_eq!(routed(method, "/api/health", Some("api-version=x")), Ok(Call::Health));
        }
    }

    #[test]
    fn names_are_decoded_exactly_once() {
        for (segment, name) in [
            ("grp.%CE%B1%2F1", "grp.α/1"),
            ("a%252Fb", "a%2Fb"),
            ("a+b%20c", "a+b c"),
            ("%3Asend", ":send"),
            ("..", ".."),
        ] {
            let expected = Operation::Exists { target: Target::Group(group(name)) };
            assert_eq!(hub_call("HEAD", &format!("/groups/{segment}"), ""), Ok(expected), "{segment}");
        }
        let Ok(Call::Hub { hub, .. }) = routed("POST", "/api/hubs/A%5B%5D/:send", None) else { panic!() };
        assert_eq!(hub.as_str(), "a[]");
    }

    #[test]
    fn parameters() {
        let operation = hub_call(
            "POST",
            "/groups/g/:send",
            "excluded=a%2F1&excluded=b+c&messageTtlSeconds=300&filter=&other=1",
        );
        assert_eq!(
            operation,
            Ok(Operation::Send {
                target: Target::Group(group("g")),
                excluded: ids(&["a/1", "b+c"]),
                filter: None,
                ttl_seconds: 300,
            })
        );
        let operation = hub_call("POST", "/:closeConnections", "reason=by%20me&excluded=a");
        assert_eq!(
            operation,
            Ok(Operation::Close { target: Target::All, excluded: ids(&["a"]), reason: Some("by me".into()) })
        );
        let operation = hub_call("POST", "/users/u/:send", "filter=true");
        assert!(matches!(operation, Ok(Operation::Send { filter: Some(_), .. })), "{operation:?}");
        let operation = hub_call("HEAD", "/permissions/sendToGroup/connections/c", "targetName=g%2F*");
        let permission = Permission {
            connection: connection("c"),
            action: Action::SendToGroup,
            group: Some(group("g/*")),
        };
        assert_eq!(operation, Ok(Operation::Check(permission)));
        let hub = HubName::parse("chat").unwrap();
        let token = Cursor::write(&hub, &group("g"), "c1");
        let query = format!("maxpagesize=2&top=2147483647&continuationToken={token}");
        let page = Page { size: Some(2), top: Some(i32::MAX as u32), after: Some("c1".into()) };
        let operation = hub_call("GET", "/groups/g/connections", &query);
        assert_eq!(operation, Ok(Operation::ListMembers { group: group("g"), page }));
        let operation = hub_call(
            "POST",
            "/:generateToken",
            "userId=u&role=r1&role=r2&minutesToExpire=7&group=g1&group=g2&clientType=mqtt&api-version=2024-12-01",
        );
        let expected = GenerateToken {
            user: Some(UserId::parse("u").unwrap()),
            roles: ids(&["r1", "r2"]),
            groups: [group("g1"), group("g2")].into(),
            minutes_to_expire: 7,
            client_type: ClientType::Mqtt,
        };
        assert_eq!(operation, Ok(Operation::GenerateToken(expected)));
        let Ok(Operation::GenerateToken(token)) =
            hub_call("POST", "/:generateToken", "clientType=SocketIO&userId=")
        else {
            panic!()
        };
        assert_eq!(
            (token.user, token.minutes_to_expire, token.client_type),
            (None, 60, ClientType::SocketIo)
        );
    }

    #[test]
    fn versions() {
        for version in API_VERSIONS {
            assert!(hub_call("POST", "/:send", &format!("api-version={version}")).is_ok(), "{version}");
        }
        assert!(hub_call("POST", "/:send", "").is_ok());
        for bad in ["api-version=2099-01-01", "api-version=", "api-version=2024-12-01&api-version=2024-12-01"]
        {
            let error = hub_call("POST", "/:send", bad).unwrap_err();
            assert_eq!((error.status(), error.body.target), (400, Some("api-version")), "{bad}");
        }
    }

    #[test]
    fn what_is_refused() {
        let long = format!("/groups/{}", "g".repeat(1025));
        for (method, path, query, status, target) in [
            ("POST", "", "", 404, None),
            ("POST", "/", "", 404, None),
            ("POST", "/:send/", "", 404, None),
            ("POST", "/:Send", "", 404, None),
            ("POST", "/unknown", "", 404, None),
            ("POST", "/connections/c/:closeConnections", "", 404, None),
            ("PUT", "/permissions/other/connections/c", "", 404, None),
            ("GET", "/chat", "", 404, None),
            ("POST", "/%zz", "", 400, None),
            ("HEAD", "/groups/%ff", "", 400, None),
            ("HEAD", "/groups/", "", 400, Some("group")),
            ("HEAD", "/groups/%20", "", 400, Some("group")),
            ("HEAD", &long, "", 400, Some("group")),
            ("HEAD", "/users/", "", 400, Some("userId")),
            ("POST", "/users/%20/:send", "", 400, Some("userId")),
            ("DELETE", "/connections/", "", 400, Some("connectionId")),
            ("PUT", "/groups/g/connections/", "", 400, Some("connectionId")),
            ("POST", "/:send", "excluded=%", 400, None),
            ("POST", "/:send", "messageTtlSeconds=301", 400, Some("messageTtlSeconds")),
            ("POST", "/:send", "messageTtlSeconds=-1", 400, Some("messageTtlSeconds")),
            ("POST", "/:send", "messageTtlSeconds=%2B1", 400, Some("messageTtlSeconds")),
            ("POST", "/:send", "messageTtlSeconds=", 400, Some("messageTtlSeconds")),
            ("POST", "/:send", "messageTtlSeconds=1&messagettlseconds=1", 400, Some("messageTtlSeconds")),
            ("POST", "/:send", "filter=userId", 400, Some("filter")),
            ("GET", "/groups/g/connections", "maxpagesize=0", 400, Some("maxpagesize")),
            ("GET", "/groups/g/connections", "maxpagesize=201", 400, Some("maxpagesize")),
            ("GET", "/groups/g/connections", "maxpagesize=1&maxPageSize=1", 400, Some("maxpagesize")),
            ("GET", "/groups/g/connections", "top=0", 400, Some("top")),
            ("GET", "/groups/g/connections", "top=2147483648", 400, Some("top")),
            ("GET", "/groups/g/connections", "top=", 400, Some("top")),
            ("GET", "/groups/g/connections", "continuationToken=", 400, Some("continuationToken")),
            ("GET", "/groups/g/connections", "continuationToken=%00", 400, Some("continuationToken")),
            ("GET", "/groups/g/connections", "continuationToken=AAAA", 400, Some("continuationToken")),
            ("PUT", "/permissions/sendToGroup/connections/c", "targetName=", 400, Some("targetName")),
            ("PUT", "/permissions/sendToGroup/connections/", "", 400, Some("connectionId")),
            ("POST", "/:generateToken", "minutesToExpire=0", 400, Some("minutesToExpire")),
            ("POST", "/:generateToken", "minutesToExpire=1.5", 400, Some("minutesToExpire")),
            ("POST", "/:generateToken", "minutesToExpire=99999999999", 400, Some("minutesToExpire")),
            ("POST", "/:generateToken", "clientType=x", 400, Some("clientType")),
            ("POST", "/:generateToken", "group=", 400, Some("group")),
            ("POST", "/:generateToken", "userId=%20", 400, Some("userId")),
        ] {
            let error = hub_call(method, path, query).unwrap_err();
            assert_eq!((error.status(), error.body.target), (status, target), "{method} {path}?{query}");
        }
        for path in ["/", "/api", "/api/", "/api/hubs", "/api/health/", "/API/health", "/client/hubs/a", ""] {
            assert_eq!(routed("GET", path, None).unwrap_err().status(), 404, "{path}");
        }
        for hub in ["1", "", "a%2Fb", &"a".repeat(129)] {
            let error = routed("POST", &format!("/api/hubs/{hub}/:send"), None).unwrap_err();
            assert_eq!((error.status(), error.body.target), (400, Some("hub")), "{hub}");
        }
    }

    #[test]
    fn wrong_methods_are_told_the_right_ones() {
        for (path, allow) in [
            ("/:send", "POST"),
            ("/:generateToken", "POST"),
            ("/connections/c", "DELETE, HEAD"),
            ("/groups/g", "HEAD"),
            ("/groups/g/connections/c", "DELETE, PUT"),
            ("/groups/g/connections", "GET"),
            ("/users/u/groups", "DELETE"),
            ("/permissions/sendToGroup/connections/c", "DELETE, HEAD, PUT"),
        ] {
            let error = hub_call("OPTIONS", path, "").unwrap_err();
            assert_eq!((error.status(), error.allow), (405, Some(allow)), "{path}");
        }
        let error = routed("POST", "/api/health", None).unwrap_err();
        assert_eq!((error.status(), error.allow), (405, Some("GET, HEAD")));
    }
}
