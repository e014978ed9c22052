//! OData filters: which connections a call is for (`rest-api` §4).
//!
//! A filter is read and type-checked once, before anything is sent, and then asked about each connection.
//!
//! | File | Does |
//! |---|---|
//! | `parse.rs` | text → tree, within [`BYTES_MAX`], [`DEPTH_MAX`] and [`NODES_MAX`] |
//! | `check.rs` | the validation pass: types on a connection of nobody, and the words of a refusal |
//! | `work.rs` | how much its functions have to do for one connection, at most [`WORK_MAX`] |
//! | `compile.rs` | tree → program, and where its matches are found |
//! | `eval.rs` | program and connection → yes or no |
//!
//! # What a filter that passed can meet
//!
//! The validation pass knows a connection without user, protocol and groups. On a real one `length(userId)` is an
//! integer instead of null, so `length(userId) gt 'a'` compares what cannot be compared. A filter that was accepted
//! never fails afterwards: there, a value of a type that its place does not take counts as null. A comparison with it
//! is false, a function of it is null, `indexof` is −1, `contains` and its kin are false.

mod check;
mod compile;
mod eval;
mod parse;
mod work;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use compile::Program;
use parse::Tree;

/// Longest filter, in bytes.
pub const BYTES_MAX: usize = 8 << 10;

/// How deep parentheses, lists, calls and `not` nest.
pub const DEPTH_MAX: usize = 100;

/// How many literals, names, calls, lists and operators a filter has.
pub const NODES_MAX: usize = 1000;

/// How much of a filter an error quotes at once, in characters before escaping.
pub const QUOTE_CHARS_MAX: usize = 128;

/// Longest string that a function builds, in bytes; a longer one is null. No property is half as long.
pub const BUILT_TEXT_BYTES_MAX: usize = 16 << 10;

/// Most that the functions of a filter have to do for one connection: 32 for each call, 1 for a byte that it goes
/// through, 4 for one that is searched or cut at a place, 8 for one whose case is changed. Properties count as 32
/// bytes. A filter can be asked about 100,000 connections in one turn of a core, and a unit takes about a nanosecond.
pub const WORK_MAX: usize = 12 << 10;

/// A compiled filter. Clones share everything.
///
/// ```
/// use ringhub_protocol::rest::filter::{Filter, Lookup, Subject};
///
/// struct Ann;
///
/// impl Subject for Ann {
///     fn connection_id(&self) -> &str { "c1" }
///     fn user(&self) -> Option<&str> { Some("ann") }
///     fn protocol(&self) -> Option<&str> { None }
///     fn is_in(&self, group: &str) -> bool { group == "red" }
///     fn group_count(&self) -> usize { 1 }
/// }
///
/// let filter = Filter::parse("userId eq 'ann' and not('blue' in groups)")?.expect("not blank");
/// assert!(filter.matches(&Ann));
/// // Only Ann's connections need to be asked.
/// assert_eq!(*filter.lookup(), Lookup::Users([Box::from("ann")].into()));
///
/// let error = Filter::parse("not length(userId)").expect_err("a number is neither true nor false");
/// assert_eq!(
///     error.to_string(),
///     "Invalid syntax for 'not length(userId)': Type 'null', expect 'bool'. (Parameter 'filter')"
/// );
/// # Ok::<(), ringhub_protocol::rest::filter::FilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Arc<Compiled>);

#[derive(Debug, PartialEq)]
struct Compiled {
    program: Program,
    lookup: Lookup,
}

/// Why a text is no filter, as the service words it; names the parameter. One line, and no more than two quotes of
/// the filter, each of at most [`QUOTE_CHARS_MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(Cow<'static, str>);

/// What a filter can ask about a connection.
pub trait Subject {
    /// Its public id.
    fn connection_id(&self) -> &str;
    /// Its user; `None` for an anonymous client.
    fn user(&self) -> Option<&str>;
    /// Its subprotocol's name; `None` for raw clients.
    fn protocol(&self) -> Option<&str>;
    /// Whether it is in the group.
    fn is_in(&self, group: &str) -> bool;
    /// How many groups it is in.
    fn group_count(&self) -> usize;
}

/// Where the connections that a filter can match are found: a superset, each still to be asked about.
///
/// Names are sorted and distinct, at most [`NODES_MAX`] of them, none when nothing can match. A connection may still
/// be found in more than one of the groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Anywhere.
    All,
    /// Among the connections with these ids.
    Connections(Box<[Box<str>]>),
    /// Among the connections of these users.
    Users(Box<[Box<str>]>),
    /// Among the members of these groups.
    Groups(Box<[Box<str>]>),
}

impl Filter {
    /// Reads a filter; `None` for a blank text, which is no filter.
    ///
    /// # Errors
    /// When it is malformed, over a bound, or of the wrong type.
    pub fn parse(text: &str) -> Result<Option<Self>, FilterError> {
        if text.trim_start().is_empty() {
            return Ok(None);
        }
        let tree = Tree::parse(text)?;
        check::check(&tree)?;
        work::check(&tree)?;
        let compiled = Compiled { program: compile::program(&tree), lookup: compile::lookup(&tree) };
        Ok(Some(Self(Arc::new(compiled))))
    }

    /// Whether it holds for a connection. Allocates only where a function builds a string.
    pub fn matches(&self, subject: &impl Subject) -> bool {
        self.0.program.holds(subject)
    }

    /// Where to look for matches.
    pub fn lookup(&self) -> &Lookup {
        &self.0.lookup
    }
}

impl FilterError {
    /// `detail` is a sentence about `expression`, a filter or a part of one.
    fn about(expression: &str, detail: fmt::Arguments<'_>) -> Self {
        let expression = quote(expression.trim());
        Self(format!("Invalid syntax for '{expression}': {detail} (Parameter 'filter')").into())
    }
}

impl From<FilterError> for Cow<'static, str> {
    fn from(error: FilterError) -> Self {
        error.0
    }
}

/// A piece of a filter as it may stand in an error: bounded, and harmless to the line that it is printed on.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().min(QUOTE_CHARS_MAX) + 4);
    for (count, character) in text.chars().enumerate() {
        if count == QUOTE_CHARS_MAX {
            quoted.push('…');
            break;
        }
        // Line ends beyond ASCII, and what turns the direction of the text around it.
        let breaks_lines =
            matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || breaks_lines {
            let _ = write!(quoted, "{}", character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An anonymous raw client in no group.
    struct Nobody;

    impl Subject for Nobody {
        fn connection_id(&self) -> &str {
            "c"
        }

        fn user(&self) -> Option<&str> {
            None
        }

        fn protocol(&self) -> Option<&str> {
            None
        }

        fn is_in(&self, _: &str) -> bool {
            false
        }

        fn group_count(&self) -> usize {
            0
        }
    }

    fn holds(text: &str) -> bool {
        Filter::parse(text).unwrap().unwrap().matches(&Nobody)
    }

    fn error(text: &str) -> String {
        Filter::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_blank_text_is_no_filter() {
        for blank in ["", " ", "\t\r\n", "\u{a0}\u{2003}"] {
            assert_eq!(Filter::parse(blank), Ok(None));
        }
    }

    #[test]
    fn filters_are_equal_by_what_they_say_and_shared_between_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        let parse = |text| Filter::parse(text).unwrap().unwrap();
        let filter = parse("userId eq 'a' and true");
        shared(&filter);
        assert!(Arc::ptr_eq(&filter.0, &filter.clone().0));
        assert_eq!(filter, parse(" ( USERID  eq 'a' ) "));
        assert_ne!(filter, parse("userId eq 'A'"));
    }

    #[test]
    fn the_longest_text() {
        let padded = |len: usize| format!("true{}", " ".repeat(len - 4));
        assert!(holds(&padded(BYTES_MAX)));
        assert_eq!(
            error(&padded(BYTES_MAX + 1)),
            "Invalid syntax for 'true': A filter has at most 8192 bytes, found 8193. (Parameter 'filter')"
        );
        // What is over the bound is not read at all, also when its bytes are blank.
        assert_eq!(Filter::parse(&" ".repeat(1 << 20)), Ok(None));
        assert!(error(&"(".repeat(64 << 10)).contains("at most 8192 bytes"));
    }

    /// One more of each thing that nests is refused, at its place.
    #[test]
    fn the_deepest_nesting() {
        for (open, inner, close) in [
            ("(", "true", ")"),
            ("not ", "true", ""),
            ("not(", "true", ")"),
            ("length(", "userId", ")"),
            ("true and (", "true", ")"),
            ("(false or ", "true", ")"),
            ("concat('a',", "userId", ")"),
        ] {
            let nested = |depth: usize| {
                let text = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
                // Make a condition of what is a value.
                if inner == "userId" { format!("{text} eq null") } else { text }
            };
            let per_level = open.matches("(").count() + open.matches("not").count();
            assert!(Filter::parse(&nested(DEPTH_MAX / per_level)).is_ok(), "{open}");
            let error = error(&nested(DEPTH_MAX / per_level + 1));
            assert!(error.contains("A filter nests at most 100 deep, more at position "), "{error}");
        }
        let lists = format!("1 in ({}", "(1 in (".repeat(DEPTH_MAX));
        assert!(error(&lists).contains("at most 100 deep"));
        assert_eq!(
            error(&format!("{}true", "not ".repeat(101))),
            format!(
                "Invalid syntax for '{}…': A filter nests at most 100 deep, more at position 404. (Parameter 'filter')",
                "not ".repeat(32)
            )
        );
    }

    #[test]
    fn the_most_nodes() {
        // 500 terms and 499 operators.
        let chain = |operators: usize| format!("true{}", " and true".repeat(operators));
        assert!(holds(&chain(499)));
        assert!(error(&chain(500)).contains("': A filter has at most 1000 terms and operators. (Parameter"));
        // 997 names, the property, the list and the operator.
        let list = |names: usize| format!("userId in ({})", "'u',".repeat(names));
        assert!(!holds(&list(997)));
        assert!(error(&list(998)).contains("at most 1000 terms"));
    }

    /// A lookup has no more names than a filter has nodes, and each once.
    #[test]
    fn the_largest_lookup() {
        let names: Vec<String> = (0..997).map(|n| format!("'{n:03}'")).collect();
        let filter = Filter::parse(&format!("userId in ({})", names.join(","))).unwrap().unwrap();
        let Lookup::Users(users) = filter.lookup() else { panic!("{:?}", filter.lookup()) };
        assert_eq!((users.len(), &*users[0], &*users[996]), (997, "000", "996"));
    }

    /// An error is one line that can be logged, whatever the filter is.
    #[test]
    fn errors_are_bounded_and_harmless() {
        assert_eq!(
            error("userId eq 'a\r\nb\u{1b}[31m\0' \u{202e}\u{2028}\u{7f}"),
            "Invalid syntax for 'userId eq 'a\\r\\nb\\u{1b}[31m\\u{0}' \\u{202e}\\u{2028}\\u{7f}': \
             Expected an operator or the end at position 23, found '\\u{202e}'. (Parameter 'filter')"
        );
        let name = "ä".repeat(QUOTE_CHARS_MAX);
        assert!(
            error(&format!("not '{name}'"))
                .starts_with(&format!("Invalid syntax for 'not '{}…': ", &name[..246]))
        );
        for long in [
            "x".repeat(8000),
            format!("not '{}'", "\u{1}".repeat(8000)),
            format!("'{}", "\u{1}".repeat(8000)),
            format!("1 eq {}", "9".repeat(8000)),
            format!("{}(1) eq 1", "f".repeat(8000)),
            format!("length({}) eq 1", vec!["userId"; 900].join(",")),
            format!("true{} and 1", " and true".repeat(498)),
            "\u{1}".repeat(9000),
        ] {
            let error = error(&long);
            assert!(error.len() < 2 * (QUOTE_CHARS_MAX + 2) * "\\u{feff}".len() + 200, "{error}");
            assert!(error.ends_with(" (Parameter 'filter')") && !error.chars().any(char::is_control));
        }
    }

    /// A string over the bound is null, and so `concat` of it and something is something.
    #[test]
    fn the_longest_string_that_is_built() {
        struct Long(String);

        impl Subject for Long {
            fn connection_id(&self) -> &str {
                "c"
            }

            fn user(&self) -> Option<&str> {
                Some(&self.0)
            }

            fn protocol(&self) -> Option<&str> {
                None
            }

            fn is_in(&self, _: &str) -> bool {
                false
            }

            fn group_count(&self) -> usize {
                0
            }
        }

        let long = Long("x".repeat(BUILT_TEXT_BYTES_MAX / 2));
        for (text, expected) in [
            ("length(concat(userId, userId)) eq 16384", true),
            ("concat(concat(userId, userId), 'x') eq null", true),
            ("concat(concat(concat(userId, userId), 'x'), 'y') eq 'y'", true),
            ("contains(concat(concat(userId, userId), 'x'), 'x')", false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().unwrap().matches(&long), expected, "{text}");
        }
    }
}
