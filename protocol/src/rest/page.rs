//! Lists of a group's members, a page at a time (`rest-api` §2.2).
//!
//! Members are listed in the order of their ids, so that a page can begin where the last one ended, whoever came
//! and went meanwhile. What must stay true: a continuation token is good for the list it was made for, and for
//! no other.

use sha1::{Digest, Sha1};

use crate::name::{GroupName, HubName};
use crate::pubsub::escape::write_string;

/// Most members of one page, and how many there are in a page of no given size.
pub const PAGE_SIZE_MAX: u32 = 200;

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Most members in it, 1 to [`PAGE_SIZE_MAX`]; `None` if the caller did not say.
    pub size: Option<u32>,
    /// Most members in it and all pages that follow.
    pub top: Option<u32>,
    /// Only members whose ids are greater.
    pub after: Option<Box<str>>,
}

impl Page {
    /// Most members in it.
    pub fn len_max(&self) -> usize {
        let size = self.size.unwrap_or(PAGE_SIZE_MAX);
        size.min(self.top.unwrap_or(size)) as usize
    }

    /// The query of the page behind this one, whose last member is `last`; `None` if the caller wants no more.
    /// `api_version` is the one this page was asked for with.
    pub fn next_query(
        &self,
        hub: &HubName,
        group: &GroupName<'_>,
        last: &str,
        api_version: Option<&str>,
    ) -> Option<String> {
        let top = match self.top {
            None => None,
            Some(top) => Some(top.checked_sub(self.len_max() as u32).filter(|left| *left > 0)?),
        };
        let parameters = [
            api_version.map(|version| format!("api-version={version}")),
            self.size.map(|size| format!("maxpagesize={size}")),
            Some(format!("continuationToken={}", Cursor::write(hub, group, last))),
            top.map(|top| format!("top={top}")),
        ];
        Some(parameters.into_iter().flatten().collect::<Vec<_>>().join("&"))
    }
}

/// Continuation tokens: where a list goes on, and which list it is.
pub struct Cursor;

impl Cursor {
    /// Bytes that tell lists apart. They keep tokens from being mixed up, not from being forged: whoever may ask
    /// for one list may ask for all.
    const LIST_BYTES: usize = 8;

    /// The token of the list's part behind `last`.
    pub fn write(hub: &HubName, group: &GroupName<'_>, last: &str) -> String {
        let token = [&Self::list(hub, group)[..Self::LIST_BYTES], last.as_bytes()].concat();
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(token)
    }

    /// The id behind which the list goes on; `None` for a token of another list or no token at all.
    pub fn read(token: &str, hub: &HubName, group: &GroupName<'_>) -> Option<Box<str>> {
        let token = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token).ok()?;
        let (list, last) = token.split_at_checked(Self::LIST_BYTES)?;
        let is_ours = list == &Self::list(hub, group)[..Self::LIST_BYTES] && !last.is_empty();
        is_ours.then(|| std::str::from_utf8(last).ok()).flatten().map(Box::from)
    }

    fn list(hub: &HubName, group: &GroupName<'_>) -> [u8; 20] {
        // No hub name holds a line feed, so no two lists read alike.
        let list = Sha1::new().chain_update(hub.as_str()).chain_update("\n").chain_update(group.as_str());
        list.finalize().into()
    }
}

/// The answer's body: members with their users, and where the list goes on.
pub fn page_json<'a>(
    members: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    next_link: Option<&str>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(br#"{"value":["#);
    for (at, (connection_id, user)) in members.enumerate() {
        out.extend_from_slice(if at == 0 { br#"{"connectionId":"# } else { br#",{"connectionId":"# });
        write_string(&mut out, connection_id);
        out.extend_from_slice(br#","userId":"#);
        write_or_null(&mut out, user);
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"nextLink":"#);
    write_or_null(&mut out, next_link);
    out.push(b'}');
    out
}

fn write_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(hub: &str, group: &'static str) -> (HubName, GroupName<'static>) {
        (HubName::parse(hub).unwrap(), GroupName::parse(group).unwrap())
    }

    #[test]
    fn a_token_is_good_for_its_list_only() {
        let (hub, group) = list("chat", "g");
        let token = Cursor::write(&hub, &group, "c-1");
        assert_eq!(Cursor::read(&token, &hub, &group).as_deref(), Some("c-1"));
        for (hub, group) in [list("chat", "h"), list("chats", "g")] {
            assert_eq!(Cursor::read(&token, &hub, &group), None);
        }
        for bad in ["", "AAAA", "!", &token[..10], &format!("{token}="), &Cursor::write(&hub, &group, "")] {
            assert_eq!(Cursor::read(bad, &hub, &group), None, "{bad}");
        }
    }

    #[test]
    fn pages_go_on_until_the_top_is_reached() {
        let (hub, group) = list("chat", "g");
        let token = Cursor::write(&hub, &group, "c");
        let page = |size, top| Page { size, top, after: None };
        for (page, len, next) in [
            (page(None, None), 200, Some(format!("continuationToken={token}"))),
            (
                page(Some(2), Some(10)),
                2,
                Some(format!("api-version=v&maxpagesize=2&continuationToken={token}&top=8")),
            ),
            (page(Some(2), Some(2)), 2, None),
            (page(Some(5), Some(2)), 2, None),
            (page(None, Some(201)), 200, Some(format!("continuationToken={token}&top=1"))),
        ] {
            let version = page.size.filter(|_| page.top.is_some()).map(|_| "v");
            assert_eq!(page.len_max(), len);
            assert_eq!(page.next_query(&hub, &group, "c", version), next);
        }
    }

    #[test]
    fn bodies() {
        let members = [("c1", Some("u\"1")), ("c2", None)];
        assert_eq!(
            page_json(members.into_iter(), Some("https://h/x?a=1&b=2")),
            br#"{"value":[{"connectionId":"c1","userId":"u\"1"},{"connectionId":"c2","userId":null}],"nextLink":"https://h/x?a=1&b=2"}"#
        );
        assert_eq!(page_json([].into_iter(), None), br#"{"value":[],"nextLink":null}"#);
    }
}
