//! The validation pass (`rest-api` §4.4): the types that a filter has on a connection of nobody, in no group.
//!
//! They depend on the filter's text alone, so they are worked out once, bottom up, and no connection is asked. What
//! the pass lets through can still meet another type on a real connection (`length(userId) gt 'a'` compares null with
//! a string here and an integer with a string there); `eval.rs` treats such a value as null.

use std::fmt::Write as _;

use super::parse::{Function, Id, Property, Shape, Tree};
use super::{FilterError, QUOTE_CHARS_MAX};

/// A value's type on the connection of nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Null,
    Bool,
    Int,
    Text,
    /// A property that holds no string here: counts as a string for who asks for the type, as null for functions.
    NoText,
    Collection,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text | Self::NoText => "string",
            Self::Collection => "collection",
        }
    }

    fn is_null(self) -> bool {
        matches!(self, Self::Null | Self::NoText)
    }

    fn expect(self, expected: Self) -> Result<(), Mistake> {
        if self == expected { Ok(()) } else { Err(Mistake::Type { found: self, expected }) }
    }
}

enum Mistake {
    Type {
        found: Type,
        expected: Type,
    },
    /// A name that nothing has.
    Unknown,
    Arity {
        takes: &'static str,
        found: usize,
    },
}

/// Every node in the order of evaluation; the first mistake is reported.
pub(super) fn check(tree: &Tree<'_>) -> Result<(), FilterError> {
    let mut types = Vec::with_capacity(tree.nodes.len());
    for (id, node) in (0..).zip(&tree.nodes) {
        match type_of(&node.shape, &types) {
            Ok(known) => types.push(known),
            Err(mistake) => return Err(report(tree, id, mistake)),
        }
    }
    let root = types.last().copied().unwrap_or(Type::Null);
    root.expect(Type::Bool).map_err(|mistake| report(tree, (types.len() - 1) as Id, mistake))
}

fn type_of(shape: &Shape, types: &[Type]) -> Result<Type, Mistake> {
    let of = |id: &Id| types[usize::from(*id)];
    Ok(match shape {
        Shape::Null => Type::Null,
        Shape::Bool(_) => Type::Bool,
        Shape::Int(_) => Type::Int,
        Shape::Text => Type::Text,
        Shape::Property(Property::ConnectionId) => Type::Text,
        Shape::Property(Property::UserId | Property::Protocol) => Type::NoText,
        Shape::Property(Property::Groups) => Type::Collection,
        Shape::Unknown | Shape::Call(None, _) => return Err(Mistake::Unknown),
        Shape::Call(Some(function), arguments) => {
            let arguments: Vec<Type> = arguments.iter().map(of).collect();
            call(*function, &arguments)?
        }
        Shape::Not(inner) => {
            of(inner).expect(Type::Bool)?;
            Type::Bool
        }
        Shape::And(left, right) | Shape::Or(left, right) => {
            of(left).expect(Type::Bool)?;
            of(right).expect(Type::Bool)?;
            Type::Bool
        }
        Shape::Compare(comparison, left, right) => {
            if !comparison.is_equality() && of(left) != Type::Null && of(right) != Type::Null {
                of(left).expect(Type::Int)?;
                of(right).expect(Type::Int)?;
            }
            Type::Bool
        }
        Shape::In(_, right) => {
            of(right).expect(Type::Collection)?;
            Type::Bool
        }
        Shape::List(_) => Type::Collection,
    })
}

fn call(function: Function, arguments: &[Type]) -> Result<Type, Mistake> {
    use Function::{
        Concat, Contains, EndsWith, IndexOf, Length, StartsWith, Substring, ToLower, ToUpper, Trim,
    };
    match (function, arguments) {
        (Length, [value]) => match value {
            Type::Null | Type::NoText => Ok(Type::Null),
            Type::Collection => Ok(Type::Int),
            text => text.expect(Type::Text).map(|()| Type::Int),
        },
        (ToLower | ToUpper | Trim, [text]) => {
            if text.is_null() {
                return Ok(Type::Null);
            }
            text.expect(Type::Text).map(|()| Type::Text)
        }
        (Contains | StartsWith | EndsWith | IndexOf, [text, part]) => {
            if !text.is_null() && !part.is_null() {
                text.expect(Type::Text)?;
                part.expect(Type::Text)?;
            }
            Ok(if function == IndexOf { Type::Int } else { Type::Bool })
        }
        (Concat, sides @ [left, right]) => {
            for side in sides.iter().filter(|side| !side.is_null()) {
                side.expect(Type::Text)?;
            }
            Ok(if left.is_null() && right.is_null() { Type::Null } else { Type::Text })
        }
        (Substring, [text, numbers @ ..]) if matches!(numbers.len(), 1 | 2) => {
            for number in numbers {
                number.expect(Type::Int)?;
            }
            if text.is_null() {
                return Ok(Type::Null);
            }
            text.expect(Type::Text).map(|()| Type::Text)
        }
        (Length | ToLower | ToUpper | Trim, _) => {
            Err(Mistake::Arity { takes: "1 argument", found: arguments.len() })
        }
        (Contains | StartsWith | EndsWith | IndexOf | Concat, _) => {
            Err(Mistake::Arity { takes: "2 arguments", found: arguments.len() })
        }
        (Substring, _) => Err(Mistake::Arity { takes: "2 or 3 arguments", found: arguments.len() }),
    }
}

/// Words a mistake as the service does: a type about the operator or call that minds it, a name about what is
/// nearest around it.
fn report(tree: &Tree<'_>, id: Id, mistake: Mistake) -> FilterError {
    let parents = parents(tree);
    let above = |id: Id| parents[usize::from(id)];
    // A call of no function is refused before its arguments are looked at.
    let (mut id, mut mistake) = (id, mistake);
    let mut around = above(id);
    while let Some(outer) = around {
        if matches!(tree.shape(outer), Shape::Call(None, _)) {
            (id, mistake) = (outer, Mistake::Unknown);
        }
        around = above(outer);
    }
    match mistake {
        Mistake::Type { found, expected } => {
            let detail = format_args!("Type '{}', expect '{}'.", found.name(), expected.name());
            FilterError::about(&print(tree, id), detail)
        }
        Mistake::Unknown => {
            let token = print(tree, id);
            let mut outer = id;
            while !matches!(
                tree.shape(outer),
                Shape::Call(..) | Shape::And(..) | Shape::Or(..) | Shape::Compare(..) | Shape::In(..)
            ) {
                let Some(above) = above(outer) else { break };
                outer = above;
            }
            let detail = format_args!("Token '{}' is not supported.", super::quote(&token));
            FilterError::about(&print(tree, outer), detail)
        }
        Mistake::Arity { takes, found } => {
            let name = tree.function_name(id);
            let detail = format_args!("Function '{name}' takes {takes}, found {found}.");
            FilterError::about(&print(tree, id), detail)
        }
    }
}

fn parents(tree: &Tree<'_>) -> Vec<Option<Id>> {
    let mut parents = vec![None; tree.nodes.len()];
    for (id, node) in (0..).zip(&tree.nodes) {
        let children: &[Id] = match &node.shape {
            Shape::Call(_, children) | Shape::List(children) => children,
            Shape::Not(inner) => &[*inner],
            Shape::And(left, right)
            | Shape::Or(left, right)
            | Shape::Compare(_, left, right)
            | Shape::In(left, right) => &[*left, *right],
            _ => &[],
        };
        for &child in children {
            parents[usize::from(child)] = Some(id);
        }
    }
    parents
}

enum Piece {
    Node(Id),
    /// In parentheses if it has an operator.
    Side(Id),
    Word(&'static str),
}

/// A node as the service prints it: single spaces, parentheses where operators nest. Not much longer than what will
/// be quoted of it, and without recursion: a chain can be as deep as there are nodes.
fn print(tree: &Tree<'_>, id: Id) -> String {
    use Piece::{Node, Side, Word};
    let mut out = String::new();
    let mut stack = vec![Node(id)];
    while let Some(piece) = stack.pop()
        && out.len() <= QUOTE_CHARS_MAX * 4
    {
        let id = match piece {
            Word(word) => {
                out.push_str(word);
                continue;
            }
            Side(id) => {
                let shape = tree.shape(id);
                if matches!(
                    shape,
                    Shape::Not(_) | Shape::And(..) | Shape::Or(..) | Shape::Compare(..) | Shape::In(..)
                ) {
                    out.push('(');
                    stack.push(Word(")"));
                }
                id
            }
            Node(id) => id,
        };
        match tree.shape(id) {
            Shape::Not(inner) => stack.extend([Side(*inner), Word("not ")]),
            Shape::And(left, right) => stack.extend([Side(*right), Word(" and "), Side(*left)]),
            Shape::Or(left, right) => stack.extend([Side(*right), Word(" or "), Side(*left)]),
            Shape::In(left, right) => stack.extend([Side(*right), Word(" in "), Side(*left)]),
            Shape::Compare(comparison, left, right) => {
                stack.extend([Side(*right), Word(" "), Word(comparison.name()), Word(" "), Side(*left)]);
            }
            Shape::Call(_, arguments) => {
                let _ = write!(out, "{}(", tree.function_name(id));
                stack.push(Word(")"));
                for (index, argument) in arguments.iter().enumerate().rev() {
                    stack.push(Node(*argument));
                    if index > 0 {
                        stack.push(Word(","));
                    }
                }
            }
            _ => out.push_str(tree.source(id)),
        }
    }
    out
}
