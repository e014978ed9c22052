//! Filters against `vectors/filter/*.txt`, and against a slow second opinion on random ones.

use ringhub_protocol::rest::filter::{Filter, Lookup, Subject};

#[path = "filter/oracle.rs"]
mod oracle;

/// A connection as a filter sees it.
#[derive(Debug, Clone)]
struct Client {
    name: &'static str,
    id: &'static str,
    user: Option<&'static str>,
    groups: Vec<&'static str>,
    protocol: Option<&'static str>,
}

impl Subject for Client {
    fn connection_id(&self) -> &str {
        self.id
    }

    fn user(&self) -> Option<&str> {
        self.user
    }

    fn protocol(&self) -> Option<&str> {
        self.protocol
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.contains(&group)
    }

    fn group_count(&self) -> usize {
        self.groups.len()
    }
}

/// The connections that `receivers.txt` begins with.
fn clients() -> Vec<Client> {
    const JSON: Option<&str> = Some("json.webpubsub.azure.v1");
    const RELIABLE: Option<&str> = Some("json.reliable.webpubsub.azure.v1");
    const PROTOBUF: Option<&str> = Some("protobuf.webpubsub.azure.v1");
    let client = |name, id, user, groups: &[&'static str], protocol| Client {
        name,
        id,
        user,
        groups: groups.to_vec(),
        protocol,
    };
    vec![
        client("ann", "c1", Some("ann"), &["red", "blue"], JSON),
        client("ann2", "c2", Some("ann"), &[], None),
        client("bob", "c3", Some("bob"), &["red"], RELIABLE),
        client("jane", "c4", Some("O'Brien, Jane"), &["group1", "group2"], JSON),
        client("anon", "c5", None, &["blue"], None),
        client("bare", "C1", None, &[], PROTOBUF),
        client("uni", "conn-6", Some("Ünï😀"), &["grün", "a,b", "Red"], None),
        client("sio", "0~7", Some("user1"), &["0~Lw~", "0~Lw~cm0", "group1", "g"], None),
    ]
}

/// Whether a search among what `lookup` names would come upon the client.
fn finds(lookup: &Lookup, client: &Client) -> bool {
    let names = |names: &[Box<str>], name: &str| names.iter().any(|known| &**known == name);
    match lookup {
        Lookup::All => true,
        Lookup::Connections(ids) => names(ids, client.id),
        Lookup::Users(users) => client.user.is_some_and(|user| names(users, user)),
        Lookup::Groups(groups) => client.groups.iter().any(|group| names(groups, group)),
    }
}

/// Pairs of lines; blank ones and comments left out.
fn pairs(vectors: &str) -> Vec<[&str; 2]> {
    let lines: Vec<&str> =
        vectors.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len().is_multiple_of(2), "a vector is two lines");
    lines.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
}

#[test]
fn receivers() {
    let clients = clients();
    let vectors = pairs(include_str!("vectors/filter/receivers.txt"));
    assert!(vectors.len() >= 60);
    let mut wrong = Vec::new();
    for [text, expected] in vectors {
        let filter = match Filter::parse(text) {
            Ok(filter) => filter.expect("no vector is blank"),
            Err(error) => {
                wrong.push(format!("{text}\n    {error}"));
                continue;
            }
        };
        let mut receivers = Vec::new();
        for client in &clients {
            if filter.matches(client) {
                receivers.push(client.name);
                assert!(finds(filter.lookup(), client), "{text}: {} is not found", client.name);
            }
        }
        let receivers = match receivers.len() {
            0 => "nobody".to_owned(),
            all if all == clients.len() => "all".to_owned(),
            _ => receivers.join(" "),
        };
        if receivers != expected {
            wrong.push(format!("{text}\n    is for {receivers}, not for {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn refusals() {
    let vectors = pairs(include_str!("vectors/filter/refused.txt"));
    assert!(vectors.len() >= 30);
    let mut wrong = Vec::new();
    for [text, expected] in vectors {
        let error = match Filter::parse(text) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        if error != expected {
            wrong.push(format!("{text}\n{error}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is found where; `*` for everywhere.
#[test]
fn lookups() {
    for [text, expected] in pairs(include_str!("vectors/filter/lookups.txt")) {
        let filter = Filter::parse(text).expect("every vector is a filter").expect("no vector is blank");
        let found = match filter.lookup() {
            Lookup::All => "*".to_owned(),
            Lookup::Connections(ids) => format!("connections {}", ids.join(" ")),
            Lookup::Users(users) => format!("users {}", users.join(" ")),
            Lookup::Groups(groups) => format!("groups {}", groups.join(" ")),
        };
        assert_eq!(found.trim_end(), expected, "{text}");
    }
}

/// The deepest and longest filters of every form need less stack than a thread has by default.
#[test]
fn a_small_stack_is_enough() {
    let deep = |open: &str, inner: &str, close: &str, count: usize| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let texts = [
        deep("(", "true", ")", 100),
        deep("not ", "true", "", 100),
        deep("(true or true and true eq ", "true", ")", 100),
        deep("(true and not not ", "true", ")", 33),
        format!("{} eq null", deep("trim(concat(", "userId", ", userId))", 50)),
        deep("contains('a', concat('a', ", "userId", "))", 1) + &" or true".repeat(400),
        format!("true{}", " and true".repeat(499)),
        format!("length(userId){}", " and true".repeat(499)),
        format!("{} eq 1", deep("f(", "1", ")", 100)),
        deep("(1 in (1, ", "1", ")) eq true", 50),
    ];
    let anonymous = clients().swap_remove(4);
    std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(move || {
            for text in &texts {
                if let Ok(Some(filter)) = Filter::parse(text) {
                    filter.matches(&anonymous);
                    assert_eq!(filter, Filter::parse(text).unwrap().unwrap());
                    assert!(!format!("{filter:?}").is_empty());
                }
            }
        })
        .unwrap()
        .join()
        .unwrap();
}
