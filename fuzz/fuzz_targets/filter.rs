//! Any text as a filter. It is refused in one bounded line, or asked about a few connections: whoever it is for is
//! found by its lookup, and parentheses, white space and a second negation change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::rest::filter::{BYTES_MAX, Filter, Lookup, NODES_MAX, QUOTE_CHARS_MAX, Subject};

struct Client {
    id: &'static str,
    user: Option<&'static str>,
    groups: &'static [&'static str],
    protocol: Option<&'static str>,
}

const CLIENTS: [Client; 5] = [
    Client {
        id: "c1",
        user: Some("ann"),
        groups: &["red", "blue"],
        protocol: Some("json.webpubsub.azure.v1"),
    },
    Client { id: "c2", user: Some("Ünï😀"), groups: &["g"], protocol: None },
    Client { id: "c3", user: Some("O'Brien"), groups: &[], protocol: None },
    Client { id: "0~7", user: None, groups: &["0~Lw~", "0~Lw~cm0", "red"], protocol: None },
    Client { id: "", user: None, groups: &[], protocol: Some("") },
];

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

fuzz_target!(|text: &str| {
    let filter = match Filter::parse(text) {
        Ok(None) => return assert!(text.trim().is_empty()),
        Ok(Some(filter)) => filter,
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("Invalid syntax for '"), "{error}");
            assert!(error.ends_with(" (Parameter 'filter')"), "{error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
            // Two quotes, every character escaped, and the words around them.
            assert!(error.len() < 2 * QUOTE_CHARS_MAX * "\\u{2028}".len() + 200, "{error}");
            return;
        }
    };
    assert!(text.len() <= BYTES_MAX);
    let lookup = filter.lookup();
    let names: &[Box<str>] = match lookup {
        Lookup::All => &[],
        Lookup::Connections(names) | Lookup::Users(names) | Lookup::Groups(names) => names,
    };
    assert!(names.len() <= NODES_MAX && names.is_sorted_by(|left, right| left < right));
    let listed = |name: &str| names.iter().any(|known| &**known == name);

    let wrapped = Filter::parse(&format!(" ({text}\n)"));
    let negated = Filter::parse(&format!("not(not({text}))"));
    for client in &CLIENTS {
        let matches = filter.matches(client);
        let found = match lookup {
            Lookup::All => true,
            Lookup::Connections(_) => listed(client.id),
            Lookup::Users(_) => client.user.is_some_and(listed),
            Lookup::Groups(_) => client.groups.iter().any(|group| listed(group)),
        };
        assert!(found || !matches, "{lookup:?}");
        // Both are longer, deeper and have more nodes, so bounds may refuse them.
        for (other, same) in [(&wrapped, lookup), (&negated, &Lookup::All)] {
            if let Ok(Some(other)) = other {
                assert_eq!(other.matches(client), matches);
                assert!(other.lookup() == same);
            }
        }
    }
    if let (Ok(Some(wrapped)), Ok(Some(negated))) = (&wrapped, &negated) {
        assert!(*wrapped == filter && *negated.lookup() == Lookup::All);
    }
});
