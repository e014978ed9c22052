//! A [`Program`] asked about a connection (`rest-api` §4.3, §4.4).
//!
//! Strings are compared byte by byte, whatever the language. Lengths and positions count UTF-16 code units, as the
//! service does; a position inside a character is out of range.

use std::borrow::Cow;

use super::compile::{FAILS, HOLDS, Operand, Program, Test};
use super::parse::Property;
use super::{BUILT_TEXT_BYTES_MAX, Subject};

enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    /// The collection of the connection's groups.
    Groups,
}

impl Program {
    pub(super) fn holds(&self, subject: &impl Subject) -> bool {
        let mut at = self.entry;
        // Labels only lead to earlier steps, so this ends.
        while at < FAILS {
            let step = &self.steps[usize::from(at)];
            let next = if step.test.holds(subject) { step.then } else { step.otherwise };
            debug_assert!(next < at || next >= FAILS);
            at = next;
        }
        at == HOLDS
    }
}

impl Test {
    fn holds(&self, subject: &impl Subject) -> bool {
        match self {
            Self::UserIs(id) => subject.user() == Some(id),
            Self::ConnectionIs(id) => subject.connection_id() == &**id,
            Self::ProtocolIs(name) => subject.protocol() == Some(name),
            Self::IsIn(group) => subject.is_in(group),
            Self::Equal(left, right) => left.value(subject).equals(&right.value(subject)),
            Self::Greater(left, right) => {
                ints(left, right, subject).is_some_and(|(left, right)| left > right)
            }
            Self::GreaterOrEqual(left, right) => {
                ints(left, right, subject).is_some_and(|(left, right)| left >= right)
            }
            Self::OneOf(value, items) => {
                let value = value.value(subject);
                items.iter().any(|item| item.value(subject).equals(&value))
            }
            Self::OneOfTexts(value, texts) => value
                .text(subject)
                .is_some_and(|value| texts.binary_search_by(|text| (**text).cmp(&*value)).is_ok()),
            Self::MemberOf(value) => value.text(subject).is_some_and(|group| subject.is_in(&group)),
            Self::Contains(text, part) => {
                texts(text, part, subject).is_some_and(|(text, part)| text.contains(&*part))
            }
            Self::StartsWith(text, part) => {
                texts(text, part, subject).is_some_and(|(text, part)| text.starts_with(&*part))
            }
            Self::EndsWith(text, part) => {
                texts(text, part, subject).is_some_and(|(text, part)| text.ends_with(&*part))
            }
        }
    }
}

fn ints(left: &Operand, right: &Operand, subject: &impl Subject) -> Option<(i64, i64)> {
    Some((left.int(subject)?, right.int(subject)?))
}

fn texts<'a>(
    left: &'a Operand,
    right: &'a Operand,
    subject: &'a impl Subject,
) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
    Some((left.text(subject)?, right.text(subject)?))
}

impl Value<'_> {
    /// Values of different types are unequal.
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left == right,
            (Self::Null, Self::Null) | (Self::Groups, Self::Groups) => true,
            (Self::Int(left), Self::Int(right)) => left == right,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            _ => false,
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, subject: &'a impl Subject) -> Value<'a> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Property(Property::Groups) => Value::Groups,
            Self::Condition(program) => Value::Bool(program.holds(subject)),
            Self::Length(of) => match of.value(subject) {
                Value::Text(text) => Value::Int(utf16_len(&text) as i64),
                Value::Groups => Value::Int(subject.group_count() as i64),
                _ => Value::Null,
            },
            Self::IndexOf(sides) => {
                let [whole, part] = &**sides;
                let found = texts(whole, part, subject)
                    .and_then(|(whole, part)| whole.find(&*part).map(|at| utf16_len(&whole[..at]) as i64));
                Value::Int(found.unwrap_or(-1))
            }
            _ => self.text(subject).map_or(Value::Null, Value::Text),
        }
    }

    /// Its value, if it is an integer.
    fn int(&self, subject: &impl Subject) -> Option<i64> {
        match self.value(subject) {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }

    /// Its value, if it is a string.
    fn text<'a>(&'a self, subject: &'a impl Subject) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Property(Property::ConnectionId) => Some(Cow::Borrowed(subject.connection_id())),
            Self::Property(Property::UserId) => subject.user().map(Cow::Borrowed),
            Self::Property(Property::Protocol) => subject.protocol().map(Cow::Borrowed),
            Self::ToLower(of) => Some(map_case(
                of.text(subject)?,
                |b: u8| b.to_ascii_lowercase(),
                |c| single(c.to_lowercase(), c),
            )),
            Self::ToUpper(of) => Some(map_case(
                of.text(subject)?,
                |b: u8| b.to_ascii_uppercase(),
                |c| single(c.to_uppercase(), c),
            )),
            Self::Trim(of) => Some(slice(of.text(subject)?, str::trim)),
            Self::Concat(sides) => match (sides[0].text(subject), sides[1].text(subject)) {
                (Some(left), Some(right)) => {
                    (left.len() + right.len() <= BUILT_TEXT_BYTES_MAX).then(|| left + right)
                }
                (left, right) => left.or(right),
            },
            Self::From(arguments) => {
                let [of, start] = &**arguments;
                let start = start.int(subject)?;
                let text = of.text(subject)?;
                let start = utf16_offset(&text, start)?;
                Some(slice(text, |text| &text[start..]))
            }
            Self::Part(arguments) => {
                let [of, start, len] = &**arguments;
                let (start, len) = (start.int(subject)?, len.int(subject)?);
                let text = of.text(subject)?;
                let start = utf16_offset(&text, start)?;
                let end = start + utf16_offset(&text[start..], len)?;
                Some(slice(text, |text| &text[start..end]))
            }
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Property(Property::Groups)
            | Self::Condition(_)
            | Self::Length(_)
            | Self::IndexOf(_) => None,
        }
    }
}

/// A part of a text; copies only when the text was built.
fn slice<'a>(text: Cow<'a, str>, part: impl Fn(&str) -> &str) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text)),
        Cow::Owned(text) => Cow::Owned(part(&text).to_owned()),
    }
}

/// Character by character, as the invariant culture does: one stays one. `ascii` does the same for ASCII, which is
/// what there mostly is, and much the cheaper way.
fn map_case(text: Cow<'_, str>, ascii: impl Fn(u8) -> u8, map: impl Fn(char) -> char) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().all(|byte| ascii(byte) == byte) {
            return text;
        }
        return text.bytes().map(|byte| char::from(ascii(byte))).collect::<String>().into();
    }
    if text.chars().all(|character| map(character) == character) {
        return text;
    }
    text.chars().map(map).collect::<String>().into()
}

fn single(mut mapped: impl ExactSizeIterator<Item = char>, character: char) -> char {
    if mapped.len() == 1 { mapped.next().unwrap_or(character) } else { character }
}

fn utf16_len(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

/// The byte offset after so many code units; `None` beyond the end or inside a character.
fn utf16_offset(text: &str, units: i64) -> Option<usize> {
    let mut left = usize::try_from(units).ok()?;
    if left <= text.len() && text.is_ascii() {
        return Some(left);
    }
    for (at, character) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(character.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}
