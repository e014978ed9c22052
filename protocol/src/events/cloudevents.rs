//! An event's attributes as HTTP headers and as structured JSON (`event-handlers` §3, §9).

use super::Subject;
use crate::pubsub::{DataType, Metadata};

/// Everything that is said with an event besides its body.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The hub.
    pub hub: &'a str,
    /// The connection.
    pub connection_id: &'a str,
    /// Its user, if any.
    pub user: Option<&'a str>,
    /// The negotiated subprotocol, if any.
    pub subprotocol: Option<&'a str>,
    /// What happened.
    pub subject: Subject<'a>,
    /// `ce-id`: the number of the event among those of its connection.
    pub id: u64,
    /// Seconds since 1970.
    pub time_unix: u64,
    /// `ce-connectionState`, if set.
    pub state: Option<&'a str>,
    /// What the body is.
    pub data_type: DataType,
    /// Travels with a user event.
    pub metadata: Option<&'a Metadata>,
}

impl Attributes<'_> {
    /// Gives every header but signature, origin, cookies and authorization to `put`: lower-case name and value,
    /// `content-type` among them. Values are legal header values: what is not ASCII is percent-encoded.
    pub fn headers(&self, put: &mut dyn FnMut(&str, &str)) {
        let _ = put;
        todo!()
    }

    /// Appends the event in the JSON format of CloudEvents, one line without its end.
    pub fn write_json(&self, out: &mut Vec<u8>, data: &[u8]) {
        let _ = (out, data);
        todo!()
    }
}

/// The media type of a body (§4.5).
pub fn content_type(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Text => "text/plain; charset=utf-8",
        DataType::Json => "application/json; charset=utf-8",
        DataType::Binary => "application/octet-stream",
        DataType::Protobuf => "application/x-protobuf",
    }
}
