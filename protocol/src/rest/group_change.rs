//! Putting many connections into groups, or taking them out, in one call (`rest-api` §2.3).

use serde::Deserialize;

use super::Operation;
use super::body::unsupported;
use super::error::ErrorBody;
use super::filters::Filters;
use super::query::{bad_request, named_filter, named_group};
use super::route::RouteError;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupChange {
    /// Into the groups.
    Add,
    /// Out of them.
    Remove,
}

/// Reads the body of a bulk change.
///
/// # Errors
/// 415 for a type that is not JSON; 400 for a body that is not an object with a non-empty list of legal names in
/// `groups`, and for a bad `filter`.
pub fn read(
    change: GroupChange,
    content_type: Option<&str>,
    body: &[u8],
    filters: &mut Filters,
) -> Result<Operation, RouteError> {
    #[derive(Deserialize)]
    struct Body {
        groups: Option<Vec<String>>,
        filter: Option<String>,
    }
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(unsupported("Content-Type must be application/json."));
    }
    // Derived readers take an array for a struct; the body is an object.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(bad_request("The request body must be a JSON object."));
    }
    let Body { groups, filter } = serde_json::from_slice(body).map_err(|_| {
        bad_request(
            "The request body must be a JSON object with a list 'groups' and, if wanted, a text 'filter'.",
        )
    })?;
    let names = groups.unwrap_or_default();
    if names.is_empty() {
        return Err(ErrorBody::bad_parameter("groups", "The list of groups must not be empty.").into());
    }
    let mut groups = names.iter().map(|name| named_group("groups", name)).collect::<Result<Vec<_>, _>>()?;
    // Once is enough, and whoever carries it out may rely on it.
    groups.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    groups.dedup();
    let filter = named_filter(filter.as_deref().unwrap_or_default(), filters)?;
    Ok(Operation::ChangeGroups { change, groups: groups.into(), filter })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::Filter;

    fn read_body(
        change: GroupChange,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Operation, RouteError> {
        read(change, content_type, body, &mut Filters::new(0))
    }

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    #[test]
    fn bodies_name_groups_and_a_filter() {
        let body = br#"{"groups":["b","a","b"],"filter":"userId eq 'u'","other":1}"#;
        let Ok(Operation::ChangeGroups { change, groups, filter }) = read_body(GroupChange::Add, JSON, body)
        else {
            panic!()
        };
        assert_eq!((change, filter), (GroupChange::Add, Filter::parse("userId eq 'u'").unwrap()));
        assert_eq!(groups.iter().map(|group| group.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        for blank in
            [r#"{"groups":["g"]}"#, r#"{"groups":["g"],"filter":null}"#, r#"{"groups":["g"],"filter":""}"#]
        {
            let operation = read_body(GroupChange::Remove, JSON, blank.as_bytes());
            assert!(matches!(operation, Ok(Operation::ChangeGroups { filter: None, .. })), "{blank}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (body, target) in [
            ("", None),
            ("[]", None),
            ("{", None),
            (r#"{"groups":"g"}"#, None),
            (r#"{"groups":[1]}"#, None),
            (r#"{"groups":["g"],"filter":1}"#, None),
            (r#"{"groups":["g"],"groups":["h"]}"#, None),
            ("{}", Some("groups")),
            (r#"{"groups":null}"#, Some("groups")),
            (r#"{"groups":[]}"#, Some("groups")),
            (r#"{"groups":["g",""]}"#, Some("groups")),
            (r#"{"groups":["g"],"filter":"userId"}"#, Some("filter")),
        ] {
            let error = read_body(GroupChange::Add, JSON, body.as_bytes()).unwrap_err();
            assert_eq!((error.status(), error.body.target), (400, target), "{body}");
        }
        for content_type in [None, Some("text/plain"), Some("application/jsonx")] {
            let error = read_body(GroupChange::Add, content_type, br#"{"groups":["g"]}"#).unwrap_err();
            assert_eq!(error.status(), 415);
        }
    }
}
