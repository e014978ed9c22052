//! How much the functions of a filter have to do for one connection, worked out from its text.
//!
//! A filter may be asked about every connection of a hub in one turn of a core, and nothing else runs there until it
//! was. What has no function is bounded by [`super::NODES_MAX`]; calls that feed each other could go through the same
//! kilobytes a hundred times, and so have a bound of their own.

use super::parse::{Function, Id, Property, Shape, Tree};
use super::{BUILT_TEXT_BYTES_MAX, FilterError, WORK_MAX};

/// What a call costs besides the bytes that it goes through.
const CALL: usize = 32;

/// How long a property is taken to be. On a connection with longer ones its functions cost more in proportion.
const PROPERTY_BYTES: usize = 32;

/// What a byte costs that is searched, or counted character by character.
const SEARCH: usize = 4;

/// What a byte costs whose case is changed: beyond ASCII each character is looked up, twice.
const CASE: usize = 8;

/// Refuses a filter whose functions have too much to do. The tree is well typed.
pub(super) fn check(tree: &Tree<'_>) -> Result<(), FilterError> {
    // By node, children first: most bytes of its value, if it is a string.
    let mut lens: Vec<usize> = Vec::with_capacity(tree.nodes.len());
    let mut work = 0;
    for (id, node) in tree.nodes.iter().enumerate() {
        let len = match &node.shape {
            // Without the quotes.
            Shape::Text => tree.source(id as Id).len().saturating_sub(2),
            Shape::Property(Property::Groups) => 0,
            Shape::Property(_) => PROPERTY_BYTES,
            Shape::Call(Some(function), arguments) => {
                let of = |at: usize| arguments.get(at).map_or(0, |argument| lens[usize::from(*argument)]);
                let (read, made) = match function {
                    Function::Length => (of(0), 0),
                    Function::ToLower | Function::ToUpper => (CASE * of(0), of(0)),
                    Function::Trim => (of(0), of(0)),
                    Function::Substring => (SEARCH * of(0), of(0)),
                    Function::Contains | Function::IndexOf => (SEARCH * (of(0) + of(1)), 0),
                    Function::StartsWith | Function::EndsWith => (of(1), 0),
                    Function::Concat => {
                        let made = (of(0) + of(1)).min(BUILT_TEXT_BYTES_MAX);
                        (made, made)
                    }
                };
                work += CALL + read;
                made
            }
            _ => 0,
        };
        lens.push(len);
    }
    if work > WORK_MAX {
        return Err(FilterError::about(
            tree.text,
            format_args!("The functions of a filter do at most {WORK_MAX} units of work, found {work}."),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Filter;

    fn error(text: &str) -> String {
        Filter::parse(text).expect_err(text).to_string()
    }

    /// Each went through kilobytes a hundred times for every connection: a core with 100,000 of them stood still for
    /// more than a minute.
    #[test]
    fn towers_of_functions_are_refused() {
        let long = "A".repeat(6000);
        let tower = |open: &str, inner: &str, close: &str, levels: usize| {
            format!("{}{inner}{} eq 'x'", open.repeat(levels), close.repeat(levels))
        };
        for text in [
            tower("tolower(toupper(", &format!("concat('{long}', userId)"), "))", 49),
            tower("trim(", &format!("concat('{long}', userId)"), ")", 98),
            format!("indexof('{long}', concat('A', userId)) gt 5"),
            tower("concat(", "userId", ", userId)", 100),
            vec![format!("length(toupper(trim('{}'))) eq 1", "A".repeat(180)); 22].join(" or "),
            tower("substring(", &format!("concat('{long}', userId)"), ", 0)", 98),
        ] {
            let error = error(&text);
            assert!(
                error.contains(": The functions of a filter do at most 12288 units of work, found "),
                "{error}"
            );
        }
    }

    #[test]
    fn the_most_work() {
        let terms = |count: usize| vec!["contains(userId, 'ab')"; count].join(" or ");
        assert!(Filter::parse(&terms(73)).is_ok());
        assert!(error(&terms(74)).contains("units of work, found 12432."));
        let lower = |bytes: usize| format!("tolower('{}') eq userId", "x".repeat(bytes));
        let longest = (12_288 - 32) / 8;
        assert!(Filter::parse(&lower(longest)).is_ok());
        assert!(error(&lower(longest + 1)).ends_with("units of work, found 12296. (Parameter 'filter')"));
    }

    /// What is in use is far from the bound.
    #[test]
    fn ordinary_filters_have_room() {
        for text in [
            "contains(tolower(userId), 'admin') and not('red' in groups)",
            "startswith(concat(userId, '@'), 'ann@') or length(trim(userId)) gt 3",
            "indexof(toupper(substring(userId, 2, 4)), 'X') ge 0",
        ] {
            assert!(Filter::parse(text).is_ok(), "{text}");
            assert!(Filter::parse(&vec![format!("({text})"); 20].join(" and ")).is_ok(), "{text}");
        }
    }
}
