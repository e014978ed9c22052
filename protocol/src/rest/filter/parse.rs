//! Text → [`Tree`] (`rest-api` §4.1).
//!
//! Operator precedence over a small lexer, in one arena. Every construct that nests passes [`Parser::deeper`], so no
//! text reaches further down the stack than [`DEPTH_MAX`] allows; chains of `and` and `or` do not nest.

use super::{BYTES_MAX, DEPTH_MAX, FilterError, NODES_MAX, quote};

/// A filter as written, types still unchecked. Children come before their parents, the root is last.
pub(super) struct Tree<'a> {
    pub(super) text: &'a str,
    pub(super) nodes: Vec<Node>,
}

/// Index into [`Tree::nodes`].
pub(super) type Id = u16;

pub(super) struct Node {
    pub(super) shape: Shape,
    /// Where it stands in the text, without parentheses around it; byte offsets.
    start: u16,
    end: u16,
}

pub(super) enum Shape {
    Null,
    Bool(bool),
    Int(i64),
    /// A string literal; [`Tree::string`] has its value.
    Text,
    Property(Property),
    /// A name that is no property.
    Unknown,
    /// `None`: no function has this name.
    Call(Option<Function>, Vec<Id>),
    Not(Id),
    And(Id, Id),
    Or(Id, Id),
    Compare(Comparison, Id, Id),
    /// The right side is a [`Shape::List`] or should be a collection.
    In(Id, Id),
    List(Vec<Id>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    UserId,
    ConnectionId,
    Groups,
    Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Length,
    ToLower,
    ToUpper,
    Trim,
    Contains,
    StartsWith,
    EndsWith,
    IndexOf,
    Concat,
    Substring,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Property {
    fn named(name: &str) -> Option<Self> {
        let all = [
            ("userId", Self::UserId),
            ("connectionId", Self::ConnectionId),
            ("groups", Self::Groups),
            ("protocol", Self::Protocol),
        ];
        all.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, property)| property)
    }
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "length" => Self::Length,
            "tolower" => Self::ToLower,
            "toupper" => Self::ToUpper,
            "trim" => Self::Trim,
            "contains" => Self::Contains,
            "startswith" => Self::StartsWith,
            "endswith" => Self::EndsWith,
            "indexof" => Self::IndexOf,
            "concat" => Self::Concat,
            "substring" => Self::Substring,
            _ => return None,
        })
    }
}

impl Comparison {
    /// Whether it takes any types; the others take integers.
    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equal => "eq",
            Self::NotEqual => "ne",
            Self::Greater => "gt",
            Self::GreaterOrEqual => "ge",
            Self::Less => "lt",
            Self::LessOrEqual => "le",
        }
    }
}

impl<'a> Tree<'a> {
    /// Reads a text that is not blank.
    pub(super) fn parse(text: &'a str) -> Result<Self, FilterError> {
        if text.len() > BYTES_MAX {
            let detail = format_args!("A filter has at most {BYTES_MAX} bytes, found {}.", text.len());
            return Err(FilterError::about(text, detail));
        }
        let mut parser = Parser {
            tree: Self { text, nodes: Vec::new() },
            token: Token::End,
            start: 0,
            end: 0,
            depth: 0,
            previous_end: 0,
        };
        parser.advance()?;
        parser.filter(Operator::Or)?;
        if parser.token != Token::End {
            return Err(parser.expected("an operator or the end"));
        }
        Ok(parser.tree)
    }

    pub(super) fn shape(&self, id: Id) -> &Shape {
        &self.nodes[usize::from(id)].shape
    }

    /// A node as the caller wrote it.
    pub(super) fn source(&self, id: Id) -> &'a str {
        let node = &self.nodes[usize::from(id)];
        &self.text[usize::from(node.start)..usize::from(node.end)]
    }

    /// The value of a [`Shape::Text`].
    pub(super) fn string(&self, id: Id) -> Box<str> {
        let source = self.source(id);
        let quoted = source.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        quoted.unwrap_or(source).replace("''", "'").into()
    }

    /// The function's name in a [`Shape::Call`], also when there is no such function.
    pub(super) fn function_name(&self, id: Id) -> &'a str {
        let source = self.source(id);
        &source[..name_len(source)]
    }
}

/// What takes two sides, loosest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operator {
    Or,
    And,
    Relation(Relation),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Relation {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    In,
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "or" => Self::Or,
            "and" => Self::And,
            "eq" => Self::Relation(Relation::Eq),
            "ne" => Self::Relation(Relation::Ne),
            "gt" => Self::Relation(Relation::Gt),
            "ge" => Self::Relation(Relation::Ge),
            "lt" => Self::Relation(Relation::Lt),
            "le" => Self::Relation(Relation::Le),
            "in" => Self::Relation(Relation::In),
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Comma,
    Text,
    Int,
    Name,
    /// A character that nothing begins with.
    Other,
    End,
}

struct Parser<'a> {
    tree: Tree<'a>,
    /// The token looked at, with its place.
    token: Token,
    start: usize,
    end: usize,
    /// Where the token before it ended.
    previous_end: usize,
    depth: usize,
}

impl Parser<'_> {
    /// Operators from `loosest` on. `not` binds tighter than all of them, relations do not chain.
    fn filter(&mut self, loosest: Operator) -> Result<Id, FilterError> {
        let start = self.start;
        let mut left = self.unary()?;
        let mut related = false;
        loop {
            let operator = match self.token {
                Token::Name => Operator::named(self.slice()),
                _ => None,
            };
            let Some(operator) = operator.filter(|&operator| operator >= loosest) else { return Ok(left) };
            if related && matches!(operator, Operator::Relation(_)) {
                return Err(self.expected("'and', 'or' or parentheses"));
            }
            self.advance()?;
            let shape = match operator {
                Operator::Or => Shape::Or(left, self.filter(Operator::And)?),
                Operator::And => Shape::And(left, self.filter(Operator::Relation(Relation::Eq))?),
                Operator::Relation(Relation::In) if self.token == Token::Open => {
                    Shape::In(left, self.deeper(Self::list)?)
                }
                Operator::Relation(relation) => {
                    let right = self.unary()?;
                    match relation {
                        Relation::Eq => Shape::Compare(Comparison::Equal, left, right),
                        Relation::Ne => Shape::Compare(Comparison::NotEqual, left, right),
                        Relation::Gt => Shape::Compare(Comparison::Greater, left, right),
                        Relation::Ge => Shape::Compare(Comparison::GreaterOrEqual, left, right),
                        Relation::Lt => Shape::Compare(Comparison::Less, left, right),
                        Relation::Le => Shape::Compare(Comparison::LessOrEqual, left, right),
                        Relation::In => Shape::In(left, right),
                    }
                }
            };
            related = matches!(operator, Operator::Relation(_));
            left = self.push(shape, start)?;
        }
    }

    fn unary(&mut self) -> Result<Id, FilterError> {
        let start = self.start;
        if self.token != Token::Name || self.slice() != "not" {
            return self.operand();
        }
        self.advance()?;
        let inner = self.deeper(Self::unary)?;
        self.push(Shape::Not(inner), start)
    }

    fn operand(&mut self) -> Result<Id, FilterError> {
        let start = self.start;
        let shape = match self.token {
            Token::Open => return self.deeper(Self::parenthesised),
            Token::Text => Shape::Text,
            Token::Int => {
                let value = self.slice().parse().map_err(|_| self.expected("a 64-bit integer"))?;
                Shape::Int(value)
            }
            Token::Name => match self.slice() {
                "true" => Shape::Bool(true),
                "false" => Shape::Bool(false),
                "null" => Shape::Null,
                name if Operator::named(name).is_some() => return Err(self.expected("a value")),
                name => {
                    let (property, function) = (Property::named(name), Function::named(name));
                    self.advance()?;
                    let shape = if self.token == Token::Open {
                        Shape::Call(function, self.deeper(Self::arguments)?)
                    } else {
                        property.map_or(Shape::Unknown, Shape::Property)
                    };
                    return self.push(shape, start);
                }
            },
            Token::Close | Token::Comma | Token::Other | Token::End => return Err(self.expected("a value")),
        };
        self.advance()?;
        self.push(shape, start)
    }

    fn parenthesised(&mut self) -> Result<Id, FilterError> {
        self.advance()?;
        let inner = self.filter(Operator::Or)?;
        self.close("an operator or ')'")?;
        Ok(inner)
    }

    fn arguments(&mut self) -> Result<Vec<Id>, FilterError> {
        let mut arguments = Vec::new();
        self.advance()?;
        if self.token == Token::Close {
            self.advance()?;
            return Ok(arguments);
        }
        loop {
            arguments.push(self.filter(Operator::Or)?);
            if self.token != Token::Comma {
                self.close("an operator, ',' or ')'")?;
                return Ok(arguments);
            }
            self.advance()?;
        }
    }

    /// `('a', null, …)`. Empty items are passed over at the end, and only there.
    fn list(&mut self) -> Result<Id, FilterError> {
        let start = self.start;
        let mut items = Vec::new();
        self.advance()?;
        while self.token != Token::Close {
            if self.token == Token::Comma {
                while self.token == Token::Comma {
                    self.advance()?;
                }
                if self.token != Token::Close {
                    return Err(self.expected("')' after an empty item"));
                }
                break;
            }
            items.push(self.unary()?);
            match self.token {
                Token::Comma => self.advance()?,
                Token::Close => {}
                _ => return Err(self.expected("',' or ')'")),
            }
        }
        self.advance()?;
        self.push(Shape::List(items), start)
    }

    fn close(&mut self, expected: &str) -> Result<(), FilterError> {
        if self.token != Token::Close {
            return Err(self.expected(expected));
        }
        self.advance()
    }

    /// Reads something that may hold the same again.
    fn deeper<T>(&mut self, read: fn(&mut Self) -> Result<T, FilterError>) -> Result<T, FilterError> {
        if self.depth == DEPTH_MAX {
            let position = self.position();
            return Err(self.wrong(format_args!(
                "A filter nests at most {DEPTH_MAX} deep, more at position {position}."
            )));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn push(&mut self, shape: Shape, start: usize) -> Result<Id, FilterError> {
        let nodes = &mut self.tree.nodes;
        if nodes.len() == NODES_MAX {
            return Err(self.wrong(format_args!("A filter has at most {NODES_MAX} terms and operators.")));
        }
        // The text has at most `BYTES_MAX` bytes, so offsets fit.
        nodes.push(Node { shape, start: start as u16, end: self.previous_end as u16 });
        Ok((nodes.len() - 1) as Id)
    }

    /// Looks at the next token.
    fn advance(&mut self) -> Result<(), FilterError> {
        self.previous_end = self.end;
        let text = self.tree.text;
        let rest = text[self.end..].trim_start();
        self.start = text.len() - rest.len();
        let (token, len) = match rest.bytes().next() {
            None => (Token::End, 0),
            Some(b'(') => (Token::Open, 1),
            Some(b')') => (Token::Close, 1),
            Some(b',') => (Token::Comma, 1),
            Some(b'\'') => match text_len(rest) {
                Some(len) => (Token::Text, len),
                None => {
                    let position = self.position();
                    return Err(
                        self.wrong(format_args!("The string that begins at position {position} has no end."))
                    );
                }
            },
            Some(b'+' | b'-') if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                (Token::Int, 1 + number_len(&rest[1..]))
            }
            Some(b'0'..=b'9') => (Token::Int, number_len(rest)),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => (Token::Name, name_len(rest)),
            Some(_) => (Token::Other, rest.chars().next().map_or(0, char::len_utf8)),
        };
        (self.token, self.end) = (token, self.start + len);
        Ok(())
    }

    /// The token's text.
    fn slice(&self) -> &str {
        &self.tree.text[self.start..self.end]
    }

    /// The token's place, in characters from 0.
    fn position(&self) -> usize {
        self.tree.text[..self.start].chars().count()
    }

    fn expected(&self, what: &str) -> FilterError {
        let position = self.position();
        if self.token == Token::End {
            return self.wrong(format_args!("Expected {what} at position {position}, found the end."));
        }
        let found = quote(self.slice());
        self.wrong(format_args!("Expected {what} at position {position}, found '{found}'."))
    }

    fn wrong(&self, detail: std::fmt::Arguments<'_>) -> FilterError {
        FilterError::about(self.tree.text, detail)
    }
}

/// With both quotes; `None` when the closing one is missing.
fn text_len(rest: &str) -> Option<usize> {
    let mut end = 1;
    loop {
        end += rest[end..].find('\'')? + 1;
        if !rest[end..].starts_with('\'') {
            return Some(end);
        }
        end += 1;
    }
}

/// A number with everything that sticks to it, so that `1.5` and `12px` are refused as one.
fn number_len(rest: &str) -> usize {
    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').unwrap_or(rest.len())
}

fn name_len(rest: &str) -> usize {
    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
}
