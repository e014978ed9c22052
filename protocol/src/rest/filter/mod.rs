//! OData filters: which connections a call is for (`rest-api` §4).
//!
//! A filter is read and type-checked once, before anything is sent, and then asked about each connection.
//!
//! | File | Does |
//! |---|---|
//! | `parse.rs` | text → tree, within [`BYTES_MAX`], [`DEPTH_MAX`] and [`NODES_MAX`] |
//! | `check.rs` | the validation pass: types on a connection of nobody, and the words of a refusal |
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
