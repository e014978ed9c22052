//! A second opinion: filters as trees of their own, printed for the parser, and evaluated by walking the tree with
//! the words of `rest-api` §4.4 and nothing clever.

use std::fmt;

use proptest::prelude::*;
use ringhub_protocol::rest::filter::Filter;

use crate::{Client, clients, finds};

#[derive(Debug, Clone)]
enum Expression {
    Literal(Value),
    Property(&'static str),
    Call(&'static str, Vec<Self>),
    Not(Box<Self>),
    /// Any operator but `in` with a list.
    Binary(Box<Self>, &'static str, Box<Self>),
    InList(Box<Self>, Vec<Self>),
}

/// As the service has them: a property without a string is a string all the same, but without a value.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(Option<String>),
    Groups,
}

impl Value {
    fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::Text(None))
    }

    fn equals(&self, other: &Self) -> bool {
        self == other || (self.is_null() && other.is_null())
    }
}

/// The wrong type in this place.
struct Mismatch;

type Answer = Result<Value, Mismatch>;

fn as_int(value: &Value) -> Result<i64, Mismatch> {
    if let Value::Int(value) = value { Ok(*value) } else { Err(Mismatch) }
}

fn as_bool(value: &Value) -> Result<bool, Mismatch> {
    if let Value::Bool(value) = value { Ok(*value) } else { Err(Mismatch) }
}

/// UTF-16, as .NET has it.
fn as_text(value: &Value) -> Result<Vec<u16>, Mismatch> {
    if let Value::Text(Some(text)) = value { Ok(text.encode_utf16().collect()) } else { Err(Mismatch) }
}

fn case(units: &[u16], map: impl Fn(char) -> String) -> Value {
    let text = String::from_utf16(units).unwrap();
    let one = |character: char| {
        let mapped = map(character);
        if mapped.chars().count() == 1 { mapped } else { character.to_string() }
    };
    Value::Text(Some(text.chars().map(one).collect()))
}

fn position(whole: &[u16], part: &[u16]) -> Option<usize> {
    (0..=whole.len()).find(|&at| whole[at..].starts_with(part))
}

/// Evaluates for `client`; for the connection of nobody without one, where a mismatch is an error. On a client it
/// counts as null.
struct Evaluation<'a>(Option<&'a Client>);

impl Evaluation<'_> {
    fn mismatch(&self, value: Value) -> Answer {
        if self.0.is_some() { Ok(value) } else { Err(Mismatch) }
    }

    fn value(&self, expression: &Expression) -> Answer {
        match expression {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Property(name) => Ok(match name.to_ascii_lowercase().as_str() {
                "groups" => Value::Groups,
                "connectionid" => Value::Text(Some(self.0.map_or("", |client| client.id).to_owned())),
                "userid" => Value::Text(self.0.and_then(|client| client.user).map(str::to_owned)),
                "protocol" => Value::Text(self.0.and_then(|client| client.protocol).map(str::to_owned)),
                other => unreachable!("{other}"),
            }),
            Expression::Not(inner) => Ok(Value::Bool(!as_bool(&self.value(inner)?)?)),
            Expression::InList(left, items) => {
                let left = self.value(left)?;
                let mut found = false;
                for item in items {
                    found |= self.value(item)?.equals(&left);
                }
                Ok(Value::Bool(found))
            }
            Expression::Binary(left, operator, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(&left, operator, &right)
            }
            Expression::Call(name, arguments) => {
                let arguments: Result<Vec<_>, _> =
                    arguments.iter().map(|argument| self.value(argument)).collect();
                self.call(name, &arguments?)
            }
        }
    }

    fn binary(&self, left: &Value, operator: &str, right: &Value) -> Answer {
        let holds = match operator {
            "and" => {
                let (left, right) = (as_bool(left)?, as_bool(right)?);
                left && right
            }
            "or" => {
                let (left, right) = (as_bool(left)?, as_bool(right)?);
                left || right
            }
            "eq" => left.equals(right),
            "ne" => !left.equals(right),
            "in" => {
                if *right != Value::Groups {
                    return Err(Mismatch);
                }
                match left {
                    Value::Text(Some(group)) => {
                        self.0.is_some_and(|client| client.groups.contains(&group.as_str()))
                    }
                    _ => false,
                }
            }
            _ if *left == Value::Null || *right == Value::Null => false,
            _ => {
                let (Ok(left), Ok(right)) = (as_int(left), as_int(right)) else {
                    return self.mismatch(Value::Bool(false));
                };
                match operator {
                    "gt" => left > right,
                    "ge" => left >= right,
                    "lt" => left < right,
                    "le" => left <= right,
                    other => unreachable!("{other}"),
                }
            }
        };
        Ok(Value::Bool(holds))
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Answer {
        match (name, arguments) {
            ("length", [Value::Groups]) => {
                Ok(Value::Int(self.0.map_or(0, |client| client.groups.len()) as i64))
            }
            ("length" | "tolower" | "toupper" | "trim", [value]) => {
                if value.is_null() {
                    return Ok(Value::Null);
                }
                let Ok(units) = as_text(value) else { return self.mismatch(Value::Null) };
                Ok(match name {
                    "length" => Value::Int(units.len() as i64),
                    "tolower" => case(&units, |c| c.to_lowercase().collect()),
                    "toupper" => case(&units, |c| c.to_uppercase().collect()),
                    _ => Value::Text(Some(String::from_utf16(&units).unwrap().trim().to_owned())),
                })
            }
            ("contains" | "startswith" | "endswith" | "indexof", [whole, part]) => {
                let no = if name == "indexof" { Value::Int(-1) } else { Value::Bool(false) };
                if whole.is_null() || part.is_null() {
                    return Ok(no);
                }
                let (Ok(whole), Ok(part)) = (as_text(whole), as_text(part)) else { return self.mismatch(no) };
                Ok(match name {
                    "contains" => Value::Bool(position(&whole, &part).is_some()),
                    "startswith" => Value::Bool(whole.starts_with(&part)),
                    "endswith" => Value::Bool(whole.ends_with(&part)),
                    _ => Value::Int(position(&whole, &part).map_or(-1, |at| at as i64)),
                })
            }
            ("concat", sides) => {
                let mut joined = None;
                for side in sides.iter().filter(|side| !side.is_null()) {
                    match as_text(side) {
                        Ok(units) => joined.get_or_insert_with(Vec::new).extend(units),
                        Err(Mismatch) if self.0.is_none() => return Err(Mismatch),
                        Err(Mismatch) => {}
                    }
                }
                Ok(joined.map_or(Value::Null, |units| Value::Text(String::from_utf16(&units).ok())))
            }
            ("substring", [value, numbers @ ..]) => {
                let numbers: Result<Vec<i64>, Mismatch> = numbers.iter().map(as_int).collect();
                let Ok(numbers) = numbers else { return self.mismatch(Value::Null) };
                if value.is_null() {
                    return Ok(Value::Null);
                }
                let Ok(units) = as_text(value) else { return self.mismatch(Value::Null) };
                if self.0.is_none() {
                    return Ok(Value::Text(Some(String::new())));
                }
                // A position inside a character is out of range.
                let out_of_range = |at: usize| at > units.len() || String::from_utf16(&units[..at]).is_err();
                let start = usize::try_from(numbers[0]).ok();
                let end = match (start, numbers.get(1)) {
                    (Some(start), Some(&len)) => usize::try_from(len).ok().map(|len| start + len),
                    _ => Some(units.len()),
                };
                let (Some(start), Some(end)) = (start, end) else { return Ok(Value::Null) };
                if out_of_range(start) || out_of_range(end) {
                    return Ok(Value::Null);
                }
                Ok(Value::Text(Some(String::from_utf16(&units[start..end]).unwrap())))
            }
            other => unreachable!("{other:?}"),
        }
    }
}

/// With parentheses around every operator, and nowhere else: the vectors have the precedence.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Self]| {
            for (index, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
            }
            f.write_str(")")
        };
        match self {
            Self::Literal(Value::Null) => f.write_str("null"),
            Self::Literal(Value::Bool(value)) => write!(f, "{value}"),
            Self::Literal(Value::Int(value)) => write!(f, "{value}"),
            Self::Literal(Value::Text(text)) => {
                write!(f, "'{}'", text.as_deref().unwrap_or_default().replace('\'', "''"))
            }
            Self::Literal(Value::Groups) => unreachable!("no literal"),
            Self::Property(name) => f.write_str(name),
            Self::Call(name, arguments) => {
                write!(f, "{name}(")?;
                list(f, arguments)
            }
            Self::Not(inner) => write!(f, "(not {inner})"),
            Self::Binary(left, operator, right) => write!(f, "({left} {operator} {right})"),
            Self::InList(left, items) => {
                write!(f, "({left} in (")?;
                list(f, items)?;
                f.write_str(")")
            }
        }
    }
}

/// Names of the clients, parts of them, and strings of nobody.
fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "ann",
            "bob",
            "O'Brien, Jane",
            "Ünï😀",
            "user1",
            "c1",
            "c2",
            "c3",
            "0~7",
            "red",
            "blue",
            "grün",
            "a,b",
            "0~Lw~",
            "group1",
            "",
            " ",
            "n",
            "1",
            "json.webpubsub.azure.v1",
            "nobody",
        ])
        .prop_map(str::to_owned),
        "[a-cA-C' 😀(),]{0,4}",
    ]
}

fn leaf() -> impl Strategy<Value = Expression> {
    let property =
        prop::sample::select(vec!["userId", "connectionId", "groups", "protocol", "USERID", "Groups"]);
    prop_oneof![
        4 => property.prop_map(Expression::Property),
        4 => string().prop_map(|text| Expression::Literal(Value::Text(Some(text)))),
        1 => (-2_i64..6).prop_map(|int| Expression::Literal(Value::Int(int))),
        1 => any::<bool>().prop_map(|holds| Expression::Literal(Value::Bool(holds))),
        1 => Just(Expression::Literal(Value::Null)),
    ]
}

/// Anything of any type; mostly refused in the end.
fn value() -> impl Strategy<Value = Expression> {
    leaf().prop_recursive(2, 8, 3, |inner| {
        let names = vec!["length", "tolower", "trim", "indexof", "concat", "contains", "substring"];
        (prop::sample::select(names), prop::collection::vec(inner, 3)).prop_map(|(name, mut arguments)| {
            arguments.truncate(match name {
                "length" | "tolower" | "trim" => 1,
                "substring" => 3,
                _ => 2,
            });
            Expression::Call(name, arguments)
        })
    })
}

fn literal(text: String) -> Expression {
    Expression::Literal(Value::Text(Some(text)))
}

fn number() -> impl Strategy<Value = Expression> {
    (-1_i64..6).prop_map(|int| Expression::Literal(Value::Int(int)))
}

/// Strings and nulls.
fn text() -> impl Strategy<Value = Expression> {
    let properties = vec!["userId", "connectionId", "protocol", "USERID"];
    let leaf = prop_oneof![
        6 => prop::sample::select(properties).prop_map(Expression::Property),
        6 => string().prop_map(literal),
        1 => Just(Expression::Literal(Value::Null)),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let one = prop::sample::select(vec!["tolower", "toupper", "trim"]);
        prop_oneof![
            (one, inner.clone()).prop_map(|(name, text)| Expression::Call(name, vec![text])),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::Call("concat", vec![a, b])),
            (inner.clone(), prop::collection::vec(number(), 1..3)).prop_map(|(text, numbers)| {
                Expression::Call("substring", [text].into_iter().chain(numbers).collect())
            }),
        ]
    })
}

/// Integers and nulls.
fn int() -> impl Strategy<Value = Expression> {
    let groups = Just(Expression::Property("groups"));
    prop_oneof![
        number(),
        prop_oneof![1 => groups, 2 => text()].prop_map(|value| Expression::Call("length", vec![value])),
        (text(), text()).prop_map(|(whole, part)| Expression::Call("indexof", vec![whole, part])),
    ]
}

fn binary(left: Expression, operator: &'static str, right: Expression) -> Expression {
    Expression::Binary(Box::new(left), operator, Box::new(right))
}

fn condition() -> impl Strategy<Value = Expression> {
    let id = || prop::sample::select(vec!["userId", "connectionId"]).prop_map(Expression::Property);
    let name = || string().prop_map(literal);
    let relation = || prop::sample::select(vec!["eq", "ne", "gt", "ge", "lt", "le"]);
    let equality = prop::sample::select(vec!["eq", "ne"]);
    let test = prop::sample::select(vec!["contains", "startswith", "endswith"]);
    let groups = || Expression::Property("groups");
    let null = Just(Expression::Literal(Value::Null));
    let item = prop_oneof![8 => name(), 1 => null, 1 => value()];
    let related = |(left, relation, right)| binary(left, relation, right);
    let test = prop_oneof![
        // The usual shapes, so that there is something to look up.
        6 => (id(), name()).prop_map(|(id, name)| binary(id, "eq", name)),
        2 => (name(), id()).prop_map(|(name, id)| binary(name, "eq", id)),
        6 => name().prop_map(move |name| binary(name, "in", groups())),
        6 => (id(), prop::collection::vec(item, 0..4))
            .prop_map(|(id, items)| Expression::InList(Box::new(id), items)),
        // Everything else that is well typed.
        3 => (text(), equality, text()).prop_map(related),
        3 => (int(), relation(), int()).prop_map(related),
        2 => text().prop_map(move |text| binary(text, "in", groups())),
        3 => (test, text(), text()).prop_map(|(name, a, b)| Expression::Call(name, vec![a, b])),
        1 => any::<bool>().prop_map(|holds| Expression::Literal(Value::Bool(holds))),
        // And what seldom is.
        1 => (value(), relation(), value()).prop_map(related),
        1 => (value(), value()).prop_map(|(left, right)| binary(left, "in", right)),
    ];
    test.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(left, right)| binary(left, "and", right)),
            3 => (inner.clone(), inner.clone()).prop_map(|(left, right)| binary(left, "or", right)),
            1 => inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            1 => (inner.clone(), inner).prop_map(|(left, right)| binary(left, "eq", right)),
        ]
    })
}

/// A connection with names from the same box as the filters'.
fn client() -> impl Strategy<Value = Client> {
    let name = || {
        prop::sample::select(vec![
            "ann",
            "bob",
            "a",
            "b",
            "Ünï😀",
            "red",
            "blue",
            "group1",
            "c1",
            "c2",
            " b ",
        ])
    };
    (name(), prop::option::of(name()), prop::collection::hash_set(name(), 0..3), prop::option::of(name()))
        .prop_map(|(id, user, groups, protocol)| Client {
            name: "random",
            id,
            user,
            groups: groups.into_iter().collect(),
            protocol,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]

    /// Accepted are the filters that pass on the connection of nobody, an accepted filter is for whom the slow walk
    /// says, and whoever it is for is found by its lookup.
    #[test]
    fn random_filters(condition in condition(), random in prop::collection::vec(client(), 4)) {
        let text = condition.to_string();
        let checked = Evaluation(None).value(&condition).and_then(|value| as_bool(&value));
        let parsed = Filter::parse(&text);
        prop_assert_eq!(parsed.is_ok(), checked.is_ok(), "{} {:?}", text, parsed);
        if let Ok(filter) = parsed {
            let filter = filter.expect("not blank");
            for client in clients().iter().chain(&random) {
                let expected = matches!(Evaluation(Some(client)).value(&condition), Ok(Value::Bool(true)));
                prop_assert_eq!(filter.matches(client), expected, "{} for {:?}", text, client);
                prop_assert!(!expected || finds(filter.lookup(), client), "{} for {:?}", text, client);
            }
        }
    }

    /// Any text is a filter or an error of one bounded line that names the parameter.
    #[test]
    fn random_texts(text in "([ a-z'(),0-9]|not|and| or | eq |userId|groups|'a'|\\PC|\\pC){0,40}") {
        match Filter::parse(&text) {
            Ok(None) => prop_assert!(text.trim().is_empty()),
            Ok(Some(filter)) => {
                for client in &clients() {
                    prop_assert!(!filter.matches(client) || finds(filter.lookup(), client));
                }
            }
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.starts_with("Invalid syntax for '"), "{}", error);
                prop_assert!(error.ends_with(" (Parameter 'filter')"), "{}", error);
                prop_assert!(!error.chars().any(char::is_control), "{:?}", error);
                prop_assert!(error.chars().count() < 3000, "{}", error);
            }
        }
    }
}
