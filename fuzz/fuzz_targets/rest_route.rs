//! Lines: method, path, query, content type, then a body. A call has only legal names in it; a refusal has an error
//! body that parses; routing the same request twice gives the same answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::rest::body::metadata;
use ringhub_protocol::rest::page::Cursor;
use ringhub_protocol::rest::{Call, Filters, Operation, Target, group_change, payload, payload_type, route};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(5, |&b| b == b'\n');
    let mut line = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (method, path, query, content_type) = (line(), line(), line(), line());
    let body = parts.next().unwrap_or_default();

    // The second answer may come from the cache.
    let mut filters = Filters::new(1);
    let routed = route(method, path, Some(query), &mut filters);
    assert_eq!(routed, route(method, path, Some(query), &mut filters));
    match routed {
        Ok(Call::Health) => assert_eq!(path, "/api/health"),
        Ok(Call::Hub { hub, operation }) => {
            assert!(hub.as_str().len() <= 128 && !hub.as_str().bytes().any(|b| b.is_ascii_uppercase()));
            if let Operation::Send { target, .. }
            | Operation::Close { target, .. }
            | Operation::Exists { target }
            | Operation::AddToGroup { member: target, .. } = &operation
            {
                let name = match target {
                    Target::All => "all",
                    Target::Group(group) => group.as_str(),
                    Target::User(user) => user.as_str(),
                    Target::Connection(id) => id,
                };
                assert!(!name.is_empty());
            }
            if let Operation::ListMembers { group, page } = &operation {
                assert!((1..=200).contains(&page.len_max()));
                let last = page.after.as_deref().unwrap_or("c");
                if let Some(next) = page.next_query(&hub, group, last, None) {
                    // The link to the next page is one that we take.
                    let next = route("GET", path, Some(&next), &mut filters).expect("our own link");
                    let Call::Hub { operation: Operation::ListMembers { page: next, .. }, .. } = next else {
                        panic!("the next page is a list")
                    };
                    assert_eq!(next.after.as_deref(), Some(last));
                    assert_eq!(Cursor::read(&Cursor::write(&hub, group, last), &hub, group), next.after);
                }
            }
        }
        Ok(Call::ChangeGroups { change, .. }) => {
            match group_change::read(change, Some(content_type), body, &mut filters) {
                Ok(Operation::ChangeGroups { groups, .. }) => {
                    assert!(!groups.is_empty() && groups.iter().all(|group| !group.as_str().is_empty()));
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert!([400, 415].contains(&error.status())),
            }
        }
        Err(error) => {
            assert!([400, 404, 405].contains(&error.status()));
            assert_eq!(error.allow.is_some(), error.status() == 405);
            let body: serde_json::Value =
                serde_json::from_slice(&error.body.to_json()).expect("an error body is JSON");
            assert!(body["code"].is_string() && body["message"].is_string());
        }
    }

    match metadata(std::iter::once(("x-webpubsub-metadata-name", body))) {
        Ok(found) => assert!(found.is_none_or(|found| found.iter().count() == 1)),
        Err(error) => assert_eq!(error.status(), 400),
    }
    match payload_type(Some(content_type)).and_then(|(data_type, charset)| payload(data_type, charset, body))
    {
        Ok(payload) => assert_eq!(&*payload.data().plain(), payload.data().bytes()),
        Err(error) => assert!([400, 415].contains(&error.status())),
    }
});
