//! Lists of a group's members, page by page (`rest-api` §2.2).

use std::collections::BTreeSet;

use ringhub_tests::{Client, Connection, KEY, Request, Server, Token, json_object, wait_until};
use serde_json::{Value, json};

/// Members as pairs of id and user, and the link to the next page.
type Page = (Vec<(String, Value)>, Option<String>);

fn list(server: &Server, group: &str) -> Request {
    server.rest("GET", &format!("/api/hubs/chat/groups/{group}/connections"))
}

#[track_caller]
fn page(call: &Request) -> Page {
    let response = call.expect(200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let body = response.object();
    let members = body["value"].as_array().expect("a list").iter().map(|member| {
        assert_eq!(member.as_object().map(|member| member.len()), Some(2), "{member}");
        (member["connectionId"].as_str().expect("an id").to_owned(), member["userId"].clone())
    });
    (members.collect(), body["nextLink"].as_str().map(str::to_owned))
}

/// What a link leads to, asked for exactly as it is written.
fn follow(server: &Server, link: &str) -> Request {
    let path = link.strip_prefix(&server.url());
    let path = path.unwrap_or_else(|| panic!("not an absolute link to this server: {link}"));
    server.rest("GET", path).no_query()
}

/// All pages from a first one.
fn pages(server: &Server, first: &Request) -> Vec<Vec<String>> {
    let (members, mut next) = page(first);
    let mut pages = vec![members];
    while let Some(link) = next {
        let (members, link) = page(&follow(server, &link));
        pages.push(members);
        next = link;
    }
    pages.into_iter().map(|page| page.into_iter().map(|(id, _)| id).collect()).collect()
}

fn crowd(server: &Server, count: usize) -> Vec<Connection> {
    (0..count).map(|_| server.connect(Client::json().group("g"))).collect()
}

fn sorted_ids(crowd: &[Connection]) -> Vec<String> {
    crowd.iter().map(|one| one.id().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn members_are_listed_in_the_order_of_their_ids_with_their_users() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let clients = [Client::json().user("ü/\"1\""), Client::reliable().user("b"), Client::json()];
        let crowd: Vec<_> =
            (0..30).map(|n| server.connect(clients[n % 3].clone().group("g").group("h"))).collect();
        let _raw = server.open(Client::raw().user("raw").group("g"));
        let _other = server.connect(Client::json().group("G"));
        let (members, next) = page(&list(&server, "g"));
        assert_eq!((members.len(), next), (31, None));
        assert!(members.is_sorted_by(|a, b| a.0 < b.0), "by id, whatever core they are on");
        for one in &crowd {
            assert!(members.contains(&(one.id().to_owned(), json!(one.user()))), "{:?}", one.user());
        }
        assert_eq!(members.iter().filter(|(_, user)| user == "raw").count(), 1);
        assert_eq!(page(&list(&server, "h")).0.len(), 30);
    }
}

#[test]
fn an_empty_group_is_an_empty_list() {
    let server = Server::on_cores(2);
    list(&server, "none").expect(200);
    let body = list(&server, "none").send();
    assert_eq!(body.object(), json_object(r#"{"value":[],"nextLink":null}"#));
}

#[test]
fn pages_have_the_size_asked_for_and_end_at_the_top() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let crowd = crowd(&server, 210);
        let ids = sorted_ids(&crowd);
        for (size, top, expected) in [
            (None, None, vec![200, 10]),
            (Some(200), None, vec![200, 10]),
            (Some(100), None, vec![100, 100, 10]),
            (Some(105), None, vec![105, 105]),
            (Some(100), Some(150), vec![100, 50]),
            (Some(100), Some(200), vec![100, 100]),
            (None, Some(201), vec![200, 1]),
            (None, Some(3), vec![3]),
            (Some(2), Some(5), vec![2, 2, 1]),
            (Some(200), Some(i32::MAX), vec![200, 10]),
        ] {
            let mut call = list(&server, "g");
            if let Some(size) = size {
                call = call.query("maxpagesize", &size.to_string());
            }
            if let Some(top) = top {
                call = call.query("top", &top.to_string());
            }
            let pages = pages(&server, &call);
            let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
            assert_eq!(sizes, expected, "{size:?} {top:?} on {cores} cores");
            assert_eq!(pages.concat(), ids[..expected.iter().sum()]);
        }
    }
}

/// It keeps the page's size and version, counts the top down, and can be followed as it is.
#[test]
fn the_next_link_is_absolute_and_carries_on() {
    let server = Server::start();
    let _crowd = crowd(&server, 7);
    let group = "a/b c";
    for member in page(&list(&server, "g")).0 {
        server.rest("PUT", &format!("/api/hubs/chat/groups/a%2Fb%20c/connections/{}", member.0)).expect(200);
    }
    let path = "/api/hubs/Chat/groups/a%2Fb%20c/connections";
    let call = server.rest("GET", path).no_query().query("api-version", "2024-12-01");
    let (members, next) = page(&call.query("maxpagesize", "2").query("top", "5"));
    assert_eq!(members.len(), 2, "{group}");
    let next = next.expect("there is more");
    let (place, query) = next.split_once('?').expect("a query");
    assert_eq!(place, format!("{}{path}", server.url()));
    let parameters: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let value = |name| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    assert_eq!(value("api-version"), Some("2024-12-01"));
    assert_eq!((value("maxpagesize"), value("top")), (Some("2"), Some("3")));
    let token = value("continuationToken").expect("a token");
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
    let (members, next) = page(&follow(&server, &next));
    assert_eq!(members.len(), 2);
    assert_eq!(page(&follow(&server, &next.expect("there is one more"))).0.len(), 1);
}

/// Behind a proxy the request's own host leads nowhere.
#[test]
fn the_next_link_names_the_public_endpoint() {
    let server =
        Server::with(|setup| setup.config("[server]\npublic_endpoints = [\"https://pubsub.example.com\"]\n"));
    let _crowd = crowd(&server, 2);
    let (_, next) = page(&list(&server, "g").query("maxpagesize", "1"));
    let next = next.expect("there is more");
    let path = next.strip_prefix("https://pubsub.example.com/").unwrap_or_else(|| panic!("{next}"));
    let call = server.rest("GET", &format!("/{path}")).no_query();
    // Signed as an SDK does: for the link itself.
    let (members, last) = page(&call.token(Token::new(&next).sign(KEY)));
    assert_eq!((members.len(), last), (1, None));
}

/// Who stays is listed exactly once, who came behind the page's end is listed, who came before it is not.
#[test]
fn pages_hold_while_members_come_and_go() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let mut crowd = crowd(&server, 60);
        crowd.sort_by(|a, b| a.id().cmp(b.id()));
        let (first, next) = page(&list(&server, "g").query("maxpagesize", "20"));
        let mut listed: Vec<_> = first.into_iter().map(|(id, _)| id).collect();
        // The first page's last one is the place in the list; it goes, and others on both sides of it.
        let end = listed[19].clone();
        let mut left = Vec::new();
        for at in [0, 19, 20, 45, 59] {
            left.push(crowd[at].id().to_owned());
            let path = format!("/api/hubs/chat/groups/g/connections/{}", crowd[at].id());
            server.rest("DELETE", &path).expect(204);
        }
        let came: Vec<_> = (0..20).map(|_| server.connect(Client::json().group("g"))).collect();
        let rest = pages(&server, &follow(&server, &next.expect("there is more")));
        assert!(rest.iter().rev().skip(1).all(|page| page.len() == 20));
        listed.extend(rest.concat());
        let behind = |one: &&Connection| one.id() > end.as_str();
        let mut expected: Vec<_> = crowd.iter().map(|one| one.id().to_owned()).collect();
        expected.retain(|id| *id <= end || !left.contains(id));
        expected.extend(came.iter().filter(behind).map(|one| one.id().to_owned()));
        expected.sort();
        assert_eq!(listed, expected, "on {cores} cores");
    }
}

/// A session that waits for its client is a member until its window ends.
#[test]
fn detached_sessions_are_listed() {
    for cores in [1, 2] {
        let server = Server::with(|setup| {
            setup.cores(cores).config("[hubs.chat.reliable]\nrecovery_window_seconds = 1\n")
        });
        let away = server.connect(Client::reliable().user("away").group("g"));
        let here = server.connect(Client::json().group("g"));
        let mut both = vec![(away.id().to_owned(), json!("away")), (here.id().to_owned(), Value::Null)];
        both.sort_by(|a, b| a.0.cmp(&b.0));
        away.cut();
        assert_eq!(page(&list(&server, "g")).0, both);
        wait_until("its window has ended", || page(&list(&server, "g")).0.len() == 1);
    }
}

#[test]
fn a_token_is_good_for_its_list_only() {
    let server = Server::start();
    let _crowd = crowd(&server, 3);
    let (_, next) = page(&list(&server, "g").query("maxpagesize", "1"));
    let next = next.expect("there is more");
    let token = next.split("continuationToken=").nth(1).and_then(|rest| rest.split('&').next()).unwrap();
    let with_token = |path: &str, token: &str| {
        server.rest("GET", &format!("/api/hubs/{path}")).query("continuationToken", token)
    };
    with_token("chat/groups/g/connections", token).expect(200);
    // The hub's name ignores case.
    with_token("CHAT/groups/g/connections", token).expect(200);
    let flipped: String = token.chars().map(|c| if c.is_lowercase() { 'A' } else { c }).collect();
    for (path, token) in [
        ("chat/groups/h/connections", token),
        ("chat/groups/G/connections", token),
        ("other/groups/g/connections", token),
        ("chat/groups/g/connections", ""),
        ("chat/groups/g/connections", "garbage"),
        ("chat/groups/g/connections", &format!("{token}=")),
        ("chat/groups/g/connections", &token[..8]),
        ("chat/groups/g/connections", &flipped),
        ("chat/groups/g/connections", "\0"),
    ] {
        let response = with_token(path, token).expect(400);
        response.expect_error("Error.BadRequest");
        assert_eq!(response.object()["target"], "continuationToken", "{path} {token}");
    }
    let twice = with_token("chat/groups/g/connections", token).query("continuationToken", token);
    twice.expect(400).expect_error("Error.BadRequest");
}
