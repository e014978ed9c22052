//! Filters on every call that takes one, over connections of every kind (`rest-api` §4).
//!
//! The vectors are the protocol crate's own, whose connections are made real here. Ids are the server's to give, so
//! a vector that names one is asked with the one it became, and a vector that looks into an id is left to that crate.

use ringhub_tests::{Client, Connection, KEY, RawSocket, Request, Server, Token, json_object};
use serde_json::json;
use tungstenite::Message;

const RECEIVERS: &str = include_str!("../../protocol/tests/vectors/filter/receivers.txt");
const REFUSED: &str = include_str!("../../protocol/tests/vectors/filter/refused.txt");

type Kind = fn() -> Client;

/// Whether a call reaches a member at all.
type Reaches = fn(&Member) -> bool;

/// To this harness a raw client: what it is told is read in [`protobuf_text`].
fn protobuf() -> Client {
    Client::raw().subprotocols("protobuf.webpubsub.azure.v1")
}

/// Name, id in the vectors, user, groups, kind.
type Role = (&'static str, &'static str, Option<&'static str>, &'static [&'static str], Kind);

const MEMBERS: [Role; 8] = [
    ("ann", "c1", Some("ann"), &["red", "blue"], Client::json),
    ("ann2", "c2", Some("ann"), &[], Client::raw),
    ("bob", "c3", Some("bob"), &["red"], Client::reliable),
    ("jane", "c4", Some("O'Brien, Jane"), &["group1", "group2"], Client::json),
    ("anon", "c5", None, &["blue"], Client::raw),
    ("bare", "C1", None, &[], protobuf),
    ("uni", "conn-6", Some("Ünï😀"), &["grün", "a,b", "Red"], Client::raw),
    ("sio", "0~7", Some("user1"), &["0~Lw~", "0~Lw~cm0", "group1", "g"], Client::raw),
];

struct Member {
    name: &'static str,
    id_in_vectors: &'static str,
    user: Option<&'static str>,
    groups: &'static [&'static str],
    id: String,
    connection: Connection,
}

/// A filter as it is asked here, and whom it is for.
struct Vector {
    filter: String,
    receivers: Vec<&'static str>,
}

struct Crowd {
    server: Server,
    /// All calls come on one connection; that the cores agree is what is looked at.
    socket: RawSocket,
    members: Vec<Member>,
}

impl Crowd {
    fn gather(cores: usize) -> Self {
        let server = Server::on_cores(cores);
        let mut crowd = Self { socket: server.raw(), server, members: Vec::new() };
        for (name, id_in_vectors, user, groups, kind) in MEMBERS {
            let mut client = kind().group("new");
            if let Some(user) = user {
                client = client.user(user);
            }
            let client = groups.iter().fold(client, |client, group| client.group(group));
            let connection = crowd.server.connect(client);
            // Raw clients are not told their id; the group of one member is.
            let [id] = crowd.listed("new").try_into().expect("one is new");
            crowd.call("DELETE", &format!("groups/new/connections/{id}")).expect_on(&mut crowd.socket, 204);
            crowd.members.push(Member { name, id_in_vectors, user, groups, id, connection });
        }
        crowd
    }

    fn call(&self, method: &str, path: &str) -> Request {
        self.server.rest(method, &format!("/api/hubs/chat/{path}"))
    }

    /// The ids of a group's members.
    fn listed(&mut self, group: &str) -> Vec<String> {
        let list = self.call("GET", &format!("groups/{group}/connections")).expect_on(&mut self.socket, 200);
        let members = list.object()["value"].as_array().expect("a list").clone();
        members.iter().map(|member| member["connectionId"].as_str().expect("a text").to_owned()).collect()
    }

    /// The names of a group's members, in the order of [`MEMBERS`].
    fn names_in(&mut self, group: &str) -> Vec<&'static str> {
        let ids = self.listed(group);
        self.members.iter().filter(|member| ids.contains(&member.id)).map(|member| member.name).collect()
    }

    fn change_groups(&mut self, way: &str, group: &str, filter: Option<&str>) {
        let body = json!({ "groups": [group], "filter": filter }).to_string();
        self.call("POST", way).json(&body).expect_on(&mut self.socket, 200).expect_empty();
    }

    fn vectors(&self) -> Vec<Vector> {
        pairs(RECEIVERS).into_iter().filter_map(|[text, receivers]| self.vector(text, receivers)).collect()
    }

    fn vector(&self, text: &str, receivers: &'static str) -> Option<Vector> {
        const FUNCTIONS: [&str; 7] =
            ["length", "tolower", "toupper", "trim", "indexof", "concat", "substring"];
        if FUNCTIONS.iter().any(|function| text.contains(&format!("{function}(connectionId"))) {
            return None;
        }
        let mut filter = text.to_owned();
        for member in &self.members {
            filter = filter.replace(&format!("'{}'", member.id_in_vectors), &format!("'{}'", member.id));
        }
        let receivers = match receivers {
            "all" => MEMBERS.map(|(name, ..)| name).to_vec(),
            "nobody" => Vec::new(),
            names => names.split(' ').collect(),
        };
        Some(Vector { filter, receivers })
    }
}

impl Vector {
    fn is_for(&self, member: &Member) -> bool {
        self.receivers.contains(&member.name)
    }
}

/// Pairs of lines; blank ones and comments left out.
fn pairs(vectors: &'static str) -> Vec<[&'static str; 2]> {
    let lines: Vec<_> = vectors.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len().is_multiple_of(2), "a vector is two lines");
    lines.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
}

/// The texts that come before `mark`, whatever the client's protocol wraps them in.
fn heard(connection: &mut Connection, mark: &str) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let text = match connection.next_message() {
            Message::Text(frame) if frame.starts_with('{') => {
                json_object(&frame)["data"].as_str().expect("only texts are sent").to_owned()
            }
            Message::Text(frame) => frame.to_string(),
            Message::Binary(frame) => match protobuf_text(&frame) {
                Some(text) => text,
                // `connected`
                None => continue,
            },
            other => panic!("expected a message, got {other:?}"),
        };
        if text == mark {
            return texts;
        }
        texts.push(text);
    }
}

/// `data_message.data.text_data` of a `DownstreamMessage` (`client-protocols` §3.9).
fn protobuf_text(frame: &[u8]) -> Option<String> {
    let text = [2, 3, 1].into_iter().try_fold(frame, field)?;
    Some(String::from_utf8(text.to_vec()).expect("a text"))
}

/// The field of that number, in a message whose fields are all of bytes and shorter than 128.
fn field(mut message: &[u8], number: u8) -> Option<&[u8]> {
    while let [tag, len, rest @ ..] = message {
        let (value, after) = rest.split_at(usize::from(*len));
        if *tag == number << 3 | 2 {
            return Some(value);
        }
        message = after;
    }
    None
}

/// To the whole hub, to two groups and to a user; who stays silent is shown by what comes last to everyone.
#[test]
fn a_filtered_send_reaches_whom_its_filter_names() {
    for cores in [1, 2] {
        let mut crowd = Crowd::gather(cores);
        let vectors = crowd.vectors();
        assert!(vectors.len() >= 100, "only {} vectors", vectors.len());
        for (n, vector) in vectors.iter().enumerate() {
            let reaches: [(&str, Reaches); 4] = [
                (":send", |_| true),
                ("groups/red/:send", |member| member.groups.contains(&"red")),
                ("groups/blue/:send", |member| member.groups.contains(&"blue")),
                ("users/ann/:send", |member| member.user == Some("ann")),
            ];
            for (path, _) in reaches {
                let send = crowd.call("POST", path).query("filter", &vector.filter).text(path);
                send.expect_on(&mut crowd.socket, 202);
            }
            let mark = format!("mark {n}");
            crowd.call("POST", ":send").text(&mark).expect_on(&mut crowd.socket, 202);
            for member in &mut crowd.members {
                let found = heard(&mut member.connection, &mark);
                let meant = |reaches: Reaches| vector.is_for(member) && reaches(member);
                let expected: Vec<_> =
                    reaches.iter().filter(|(_, reaches)| meant(*reaches)).map(|(path, _)| *path).collect();
                assert_eq!(found, expected, "{} of {} on {cores} cores", member.name, vector.filter);
            }
        }
    }
}

#[test]
fn a_filter_chooses_who_is_put_into_a_group_and_taken_out() {
    for cores in [1, 2] {
        let mut crowd = Crowd::gather(cores);
        for vector in &crowd.vectors() {
            crowd.change_groups(":addToGroups", "picked", Some(&vector.filter));
            let expected = MEMBERS.map(|(name, ..)| name).into_iter();
            let (inside, outside): (Vec<_>, Vec<_>) =
                expected.partition(|name| vector.receivers.contains(name));
            assert_eq!(crowd.names_in("picked"), inside, "{} on {cores} cores", vector.filter);
            crowd.change_groups(":removeFromGroups", "picked", None);
            assert!(crowd.listed("picked").is_empty());
            // To be taken out they must be in, and what counts groups would count that one.
            if vector.filter.to_lowercase().contains("groups") {
                continue;
            }
            crowd.change_groups(":addToGroups", "picked", None);
            crowd.change_groups(":removeFromGroups", "picked", Some(&vector.filter));
            assert_eq!(crowd.names_in("picked"), outside, "{} on {cores} cores", vector.filter);
            crowd.change_groups(":removeFromGroups", "picked", None);
        }
    }
}

/// A filter asks about the groups of this moment, those that a call just gave included.
#[test]
fn filters_see_the_groups_of_now() {
    let mut crowd = Crowd::gather(2);
    crowd.change_groups(":addToGroups", "second", Some("'red' in groups"));
    crowd.change_groups(":removeFromGroups", "red", Some("'second' in groups and userId eq 'bob'"));
    crowd.change_groups(":addToGroups", "third", Some("'second' in groups and not('red' in groups)"));
    assert_eq!(crowd.names_in("second"), ["ann", "bob"]);
    assert_eq!(crowd.names_in("red"), ["ann"]);
    assert_eq!(crowd.names_in("third"), ["bob"]);
}

/// Excluded connections and a filter both must let a connection through.
#[test]
fn exclusions_and_filters_are_added_up() {
    let mut crowd = Crowd::gather(2);
    let [ann, ann2] = [&crowd.members[0].id, &crowd.members[1].id];
    let send = crowd.call("POST", ":send").query("filter", "userId in ('ann', 'bob')");
    let send = send.query("excluded", ann).query("excluded", ann2).query("excluded", "unknown");
    send.text("x").expect_on(&mut crowd.socket, 202);
    crowd.call("POST", ":send").text("mark").expect_on(&mut crowd.socket, 202);
    for member in &mut crowd.members {
        let expected: &[&str] = if member.name == "bob" { &["x"] } else { &[] };
        assert_eq!(heard(&mut member.connection, "mark"), expected, "{}", member.name);
    }
}

/// With the service's words, before anyone hears anything and before any group changes.
#[test]
fn a_bad_filter_is_refused_with_what_is_wrong() {
    let server = Server::on_cores(2);
    let mut socket = server.raw();
    let mut alice = server.connect(Client::json().user("alice").group("g"));
    let deep = format!("{}true{}", "(".repeat(101), ")".repeat(101));
    let nots = format!("{}true", "not ".repeat(1000));
    let long = format!("userId eq '{}'", "x".repeat(8 << 10));
    let wide = ["true"; 1001].join(" or ");
    let busy = format!("{}userId{} eq 'x'", "tolower(".repeat(50), ")".repeat(50));
    let over: [&str; 5] = [&deep, &nots, &long, &wide, &busy];
    let vectors = pairs(REFUSED).into_iter().map(|[filter, error]| (filter, Some(error)));
    for (filter, expected) in vectors.chain(over.map(|filter| (filter, None))) {
        let shown: String = filter.chars().take(80).collect();
        let mut refused = |call: Request| {
            let response = call.expect_on(&mut socket, 400);
            let message = response.expect_error("Error.BadRequest");
            assert_eq!(response.object()["target"], "filter", "{shown}");
            match expected {
                Some(expected) => assert_eq!(message, expected),
                None => assert!(message.ends_with("(Parameter 'filter')"), "{message}"),
            }
            assert!(message.len() < 1024, "an error quotes no more than it must: {}", message.len());
        };
        for path in [":send", "groups/g/:send", "users/alice/:send"] {
            let path = format!("/api/hubs/chat/{path}");
            // Signed for the path alone: with a long query in its audience a token would be over a head's bounds.
            let token = Token::new(&format!("http://{}{path}", server.addr)).sign(KEY);
            let call = server.rest("POST", &path).query("filter", filter).token(token);
            refused(call.text("x"));
        }
        for path in [":addToGroups", ":removeFromGroups"] {
            let body = json!({ "groups": ["g", "h"], "filter": filter }).to_string();
            refused(server.rest("POST", &format!("/api/hubs/chat/{path}")).json(&body));
        }
    }
    // A body has room for what no query has.
    for filter in [
        "(".repeat(64 << 10),
        ["userId eq 'a'"; 10_000].join(" or "),
        "not ".repeat(100_000),
        "'".repeat(500_001),
    ] {
        let body = json!({ "groups": ["h"], "filter": filter }).to_string();
        let response =
            server.rest("POST", "/api/hubs/chat/:addToGroups").json(&body).expect_on(&mut socket, 400);
        let message = response.expect_error("Error.BadRequest");
        assert!(message.contains("A filter has at most 8192 bytes") && message.len() < 1024, "{message}");
        // A query that is over the bound of a head is no filter's fault, and answered as such.
        let call = server.rest("POST", "/api/hubs/chat/:send").query("filter", &filter).token("x");
        assert!([414, 431].contains(&call.send().status));
    }
    alice.expect_silence();
    server.rest("HEAD", "/api/hubs/chat/groups/g").expect(200);
    server.rest("HEAD", "/api/hubs/chat/groups/h").expect(404);
}

/// One connection is named in full: there is nothing to choose from, so the parameter is not looked at.
#[test]
fn a_send_to_one_connection_takes_no_filter() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let send = server.rest("POST", &format!("/api/hubs/chat/connections/{}/:send", alice.id()));
    send.query("filter", "false").text("x").expect(202);
    alice.expect_server_text("x");
}

/// Blank is no filter.
#[test]
fn an_empty_filter_is_everyone() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    for blank in ["", " "] {
        server.rest("POST", "/api/hubs/chat/:send").query("filter", blank).text("x").expect(202);
        alice.expect_server_text("x");
    }
}

/// A filter is compiled once, whatever call it comes with; another one is another.
#[test]
fn a_filter_that_was_there_before_is_found_compiled() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().user("alice"));
    let counted = || {
        let [misses, hits] =
            ["ringhub_filter_misses_total", "ringhub_filter_hits_total"].map(|name| server.metric(name));
        (misses, hits)
    };
    let send = |filter: &str| {
        server.rest("POST", "/api/hubs/chat/:send").query("filter", filter).text("x").expect(202);
    };
    server.rest("POST", "/api/hubs/chat/:send").text("x").expect(202);
    assert_eq!(counted(), (0, 0), "without a filter there is none");
    send("userId eq 'alice'");
    assert_eq!(counted(), (1, 0));
    send("userId eq 'alice'");
    assert_eq!(counted(), (1, 1));
    let body = json!({ "groups": ["g"], "filter": "userId eq 'alice'" }).to_string();
    server.rest("POST", "/api/hubs/chat/:addToGroups").json(&body).expect(200);
    assert_eq!(counted(), (1, 2));
    send("userId eq 'bob'");
    assert_eq!(counted(), (2, 2));
    for _ in 0..3 {
        alice.expect_server_text("x");
    }
    alice.expect_silence();
}
