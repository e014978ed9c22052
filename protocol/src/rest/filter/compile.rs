//! [`Tree`] → [`Program`], and where its matches are found.
//!
//! A program is a list of tests with two ways on from each, so `and`, `or` and `not` cost nothing when it runs, and
//! running it needs no stack. Types were checked before, so skipping the rest of an `and` hides no mistake.

use super::Lookup;
use super::parse::{Comparison, Function, Id, Property, Shape, Tree};

/// A condition: tests, each leading to an earlier one in the list or to an end. Begins at `entry`.
#[derive(Debug, PartialEq)]
pub(super) struct Program {
    pub(super) steps: Box<[Step]>,
    pub(super) entry: Label,
}

#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) test: Test,
    pub(super) then: Label,
    pub(super) otherwise: Label,
}

/// Where to go: an index into [`Program::steps`], or one of the ends.
pub(super) type Label = u16;
pub(super) const HOLDS: Label = u16::MAX;
pub(super) const FAILS: Label = u16::MAX - 1;

#[derive(Debug, PartialEq)]
pub(super) enum Test {
    /// The usual tests of one property against one literal, without a detour over values.
    UserIs(Box<str>),
    ConnectionIs(Box<str>),
    ProtocolIs(Box<str>),
    IsIn(Box<str>),
    Equal(Operand, Operand),
    Greater(Operand, Operand),
    GreaterOrEqual(Operand, Operand),
    /// A value in a list.
    OneOf(Operand, Box<[Operand]>),
    /// The same of string literals, sorted: lists are long, and asked of many connections.
    OneOfTexts(Operand, Box<[Box<str>]>),
    /// A value in `groups`.
    MemberOf(Operand),
    Contains(Operand, Operand),
    StartsWith(Operand, Operand),
    EndsWith(Operand, Operand),
}

/// What has a value.
#[derive(Debug, PartialEq)]
pub(super) enum Operand {
    Null,
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    Property(Property),
    Condition(Box<Program>),
    Length(Box<Self>),
    ToLower(Box<Self>),
    ToUpper(Box<Self>),
    Trim(Box<Self>),
    IndexOf(Box<[Self; 2]>),
    Concat(Box<[Self; 2]>),
    /// From a start to the end.
    From(Box<[Self; 2]>),
    /// From a start, so many.
    Part(Box<[Self; 3]>),
}

/// The whole filter. The tree is well typed.
pub(super) fn program(tree: &Tree<'_>) -> Program {
    condition(tree, (tree.nodes.len() - 1) as Id)
}

fn condition(tree: &Tree<'_>, id: Id) -> Program {
    let mut steps = Vec::new();
    let entry = branch(tree, &mut steps, id, HOLDS, FAILS);
    Program { steps: steps.into(), entry }
}

/// Writes the steps of a condition that goes on to `then` or `otherwise`; what it returns is where it begins. Calls
/// itself for right sides only: chains are deep on the left.
fn branch(
    tree: &Tree<'_>,
    steps: &mut Vec<Step>,
    mut id: Id,
    mut then: Label,
    mut otherwise: Label,
) -> Label {
    let test = loop {
        match tree.shape(id) {
            Shape::Bool(holds) => return if *holds { then } else { otherwise },
            Shape::Not(inner) => {
                (then, otherwise) = (otherwise, then);
                id = *inner;
            }
            Shape::And(left, right) => {
                then = branch(tree, steps, *right, then, otherwise);
                id = *left;
            }
            Shape::Or(left, right) => {
                otherwise = branch(tree, steps, *right, then, otherwise);
                id = *left;
            }
            Shape::Compare(comparison, left, right) => {
                if *comparison == Comparison::NotEqual {
                    (then, otherwise) = (otherwise, then);
                }
                break compare(*comparison, operand(tree, *left), operand(tree, *right));
            }
            Shape::In(left, right) => {
                let value = operand(tree, *left);
                break match tree.shape(*right) {
                    Shape::List(items)
                        if items.iter().all(|&item| matches!(tree.shape(item), Shape::Text)) =>
                    {
                        let mut texts: Vec<_> = items.iter().map(|item| tree.string(*item)).collect();
                        texts.sort_unstable();
                        Test::OneOfTexts(value, texts.into())
                    }
                    Shape::List(items) => {
                        Test::OneOf(value, items.iter().map(|item| operand(tree, *item)).collect())
                    }
                    // The only collection that has a name.
                    _ => match value {
                        Operand::Text(group) => Test::IsIn(group),
                        value => Test::MemberOf(value),
                    },
                };
            }
            Shape::Call(Some(function), arguments) => {
                let [text, part] = arguments.as_slice() else { unreachable!("arity was checked") };
                let (text, part) = (operand(tree, *text), operand(tree, *part));
                break match function {
                    Function::Contains => Test::Contains(text, part),
                    Function::StartsWith => Test::StartsWith(text, part),
                    Function::EndsWith => Test::EndsWith(text, part),
                    _ => unreachable!("types were checked"),
                };
            }
            _ => unreachable!("types were checked"),
        }
    };
    steps.push(Step { test, then, otherwise });
    (steps.len() - 1) as Label
}

fn compare(comparison: Comparison, left: Operand, right: Operand) -> Test {
    use Operand::{Property as Of, Text};
    match comparison {
        Comparison::Equal | Comparison::NotEqual => match (left, right) {
            (Of(Property::UserId), Text(id)) | (Text(id), Of(Property::UserId)) => Test::UserIs(id),
            (Of(Property::ConnectionId), Text(id)) | (Text(id), Of(Property::ConnectionId)) => {
                Test::ConnectionIs(id)
            }
            (Of(Property::Protocol), Text(name)) | (Text(name), Of(Property::Protocol)) => {
                Test::ProtocolIs(name)
            }
            (left, right) => Test::Equal(left, right),
        },
        Comparison::Greater => Test::Greater(left, right),
        Comparison::GreaterOrEqual => Test::GreaterOrEqual(left, right),
        Comparison::Less => Test::Greater(right, left),
        Comparison::LessOrEqual => Test::GreaterOrEqual(right, left),
    }
}

fn operand(tree: &Tree<'_>, id: Id) -> Operand {
    match tree.shape(id) {
        Shape::Null => Operand::Null,
        Shape::Bool(value) => Operand::Bool(*value),
        Shape::Int(value) => Operand::Int(*value),
        Shape::Text => Operand::Text(tree.string(id)),
        Shape::Property(property) => Operand::Property(*property),
        Shape::Call(Some(function), arguments) => {
            let arguments: Vec<Operand> = match function {
                Function::Contains | Function::StartsWith | Function::EndsWith => Vec::new(),
                _ => arguments.iter().map(|argument| operand(tree, *argument)).collect(),
            };
            value_call(*function, arguments)
                .unwrap_or_else(|| Operand::Condition(Box::new(condition(tree, id))))
        }
        _ => Operand::Condition(Box::new(condition(tree, id))),
    }
}

/// `None` for the functions whose value is a bool.
fn value_call(function: Function, arguments: Vec<Operand>) -> Option<Operand> {
    fn exactly<const N: usize>(arguments: Vec<Operand>) -> Box<[Operand; N]> {
        arguments.try_into().expect("arity was checked")
    }
    let one = |arguments| {
        let [argument] = *exactly::<1>(arguments);
        Box::new(argument)
    };
    Some(match function {
        Function::Length => Operand::Length(one(arguments)),
        Function::ToLower => Operand::ToLower(one(arguments)),
        Function::ToUpper => Operand::ToUpper(one(arguments)),
        Function::Trim => Operand::Trim(one(arguments)),
        Function::IndexOf => Operand::IndexOf(exactly(arguments)),
        Function::Concat => Operand::Concat(exactly(arguments)),
        Function::Substring if arguments.len() == 2 => Operand::From(exactly(arguments)),
        Function::Substring => Operand::Part(exactly(arguments)),
        Function::Contains | Function::StartsWith | Function::EndsWith => return None,
    })
}

/// What a node's matches have in common; narrower ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Connections,
    Users,
    Groups,
}

/// Names of a kind, of which a match has at least one; `None` when there is no such thing.
type Found = Option<(Kind, Vec<Box<str>>)>;

/// Where the matches of the whole filter are.
pub(super) fn lookup(tree: &Tree<'_>) -> Lookup {
    // By node, children first; a node takes what its children found.
    let mut found: Vec<Found> = Vec::with_capacity(tree.nodes.len());
    for node in &tree.nodes {
        let here = match &node.shape {
            Shape::Bool(false) => Some((Kind::Connections, Vec::new())),
            Shape::Compare(Comparison::Equal, left, right) => {
                equal(tree, *left, *right).or_else(|| equal(tree, *right, *left))
            }
            Shape::In(left, right) => member(tree, *left, *right),
            Shape::And(left, right) => narrower(take(&mut found, *left), take(&mut found, *right)),
            Shape::Or(left, right) => union(take(&mut found, *left), take(&mut found, *right)),
            _ => None,
        };
        found.push(here);
    }
    let Some((kind, mut names)) = found.pop().flatten() else { return Lookup::All };
    names.sort_unstable();
    names.dedup();
    match kind {
        Kind::Connections => Lookup::Connections(names.into()),
        Kind::Users => Lookup::Users(names.into()),
        Kind::Groups => Lookup::Groups(names.into()),
    }
}

fn take(found: &mut [Found], id: Id) -> Found {
    found[usize::from(id)].take()
}

fn equal(tree: &Tree<'_>, property: Id, value: Id) -> Found {
    let kind = indexed(tree, property)?;
    matches!(tree.shape(value), Shape::Text).then(|| (kind, vec![tree.string(value)]))
}

fn member(tree: &Tree<'_>, left: Id, right: Id) -> Found {
    let Shape::List(items) = tree.shape(right) else {
        return matches!(tree.shape(left), Shape::Text).then(|| (Kind::Groups, vec![tree.string(left)]));
    };
    let kind = indexed(tree, left)?;
    let mut names = Vec::with_capacity(items.len());
    for &item in items {
        match tree.shape(item) {
            Shape::Text => names.push(tree.string(item)),
            // Every connection has an id.
            Shape::Null if kind == Kind::Connections => {}
            _ => return None,
        }
    }
    Some((kind, names))
}

fn indexed(tree: &Tree<'_>, id: Id) -> Option<Kind> {
    match tree.shape(id) {
        Shape::Property(Property::ConnectionId) => Some(Kind::Connections),
        Shape::Property(Property::UserId) => Some(Kind::Users),
        _ => None,
    }
}

fn narrower(left: Found, right: Found) -> Found {
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right),
    };
    // Nothing is narrower than anything, whatever it is nothing of.
    let rank = |(kind, names): &(Kind, Vec<Box<str>>)| (!names.is_empty(), *kind, names.len());
    Some(if rank(&left) <= rank(&right) { left } else { right })
}

fn union(left: Found, right: Found) -> Found {
    let ((left_kind, mut left), (right_kind, mut right)) = (left?, right?);
    if left.is_empty() {
        return Some((right_kind, right));
    }
    if right.is_empty() || left_kind == right_kind {
        left.append(&mut right);
        return Some((left_kind, left));
    }
    None
}
