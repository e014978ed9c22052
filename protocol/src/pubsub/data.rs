//! Payloads: a type, a form and bytes.

use std::borrow::Cow;

/// What a payload is to the people at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// UTF-8 text.
    Text,
    /// A JSON value.
    Json,
    /// Bytes.
    Binary,
    /// A serialised `google.protobuf.Any`.
    Protobuf,
}

/// How the bytes of a [`Data`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As they are: UTF-8 for text, the JSON text for JSON, bytes for the others.
    Plain,
    /// As a JSON string token, quotes included: escaped text, or base64 for binary and protobuf. JSON is
    /// never in this form. A token is known to decode.
    Token,
}

/// One payload, borrowed. The constructors check what [`Form`] promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    data_type: DataType,
    form: Form,
    bytes: &'a [u8],
}

impl<'a> Data<'a> {
    /// Text as it is.
    pub fn text(text: &'a str) -> Self {
        Self { data_type: DataType::Text, form: Form::Plain, bytes: text.as_bytes() }
    }

    /// Bytes as they are.
    pub fn binary(bytes: &'a [u8]) -> Self {
        Self { data_type: DataType::Binary, form: Form::Plain, bytes }
    }

    /// What it is.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// How it is written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The bytes in that form.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Rebuilds a payload from the parts another [`Data`] had (a payload that crossed between cores).
    pub fn from_parts(data_type: DataType, form: Form, bytes: &'a [u8]) -> Self {
        Self { data_type, form, bytes }
    }

    /// The payload as raw clients get it: text and JSON as text, the others as bytes; decoded if it is a token.
    pub fn plain(&self) -> Cow<'a, [u8]> {
        todo!()
    }
}
