//! An event's attributes as HTTP headers and as structured JSON (`event-handlers` §3, §9).
//!
//! Headers are made for every event, so they are given one by one to who writes them: names that are known are
//! `'static`, and nothing is allocated but one buffer for what has to be put together.

use std::borrow::Cow;

use super::{Subject, push_escape};
use crate::pubsub::escape::write_string;
use crate::pubsub::metadata::HEADER_PREFIX;
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
    /// Gives every header but signature, origin, cookies, authorization, the id of the request and
    /// [metadata](Self::metadata_headers) to `put`: lower-case name and value, `content-type` first.
    ///
    /// Values are legal header values. One that cannot stand in a header as it is (a user of other letters than
    /// ASCII's) is percent-encoded by the rule of CloudEvents' HTTP binding, §3.1.3.2; one that can is not touched,
    /// also if there is a `%` in it: what applications know as a user's id stays that id.
    pub fn headers(&self, put: &mut impl FnMut(&'static str, &str)) {
        let mut buffer = String::with_capacity(160);
        put("content-type", content_type(self.data_type));
        put("ce-specversion", "1.0");
        put("ce-awpsversion", "1.0");
        push_type(&mut buffer, self.subject);
        put("ce-type", &header_value(&buffer));
        buffer.clear();
        self.push_source(&mut buffer);
        put("ce-source", &header_value(&buffer));
        buffer.clear();
        push_number(&mut buffer, self.id);
        put("ce-id", &buffer);
        buffer.clear();
        push_time(&mut buffer, self.time_unix);
        put("ce-time", &buffer);
        put("ce-connectionid", &header_value(self.connection_id));
        put("ce-hub", &header_value(self.hub));
        put("ce-eventname", &header_value(self.subject.name()));
        for (name, value) in self.optional() {
            put(name.header, &header_value(value));
        }
    }

    /// Gives the headers of the metadata to `put`, name and value. Names are in lower case; two that differ in
    /// nothing else give two headers of one name.
    pub fn metadata_headers(&self, put: &mut impl FnMut(&str, &str)) {
        let mut header = String::from(HEADER_PREFIX);
        for (name, value) in self.metadata.into_iter().flat_map(Metadata::iter) {
            header.truncate(HEADER_PREFIX.len());
            header.extend(name.chars().map(|character| character.to_ascii_lowercase()));
            put(&header, &header_value(value));
        }
    }

    /// Appends the event in the JSON format of CloudEvents (§3 there), one line without its end. Text is a JSON
    /// string, JSON is the value that it is, everything else is `data_base64`; metadata is one more member, an object.
    pub fn write_json(&self, out: &mut Vec<u8>, data: &[u8]) {
        let mut buffer = String::with_capacity(160);
        let mut member = |out: &mut Vec<u8>, name: &str, write: &dyn Fn(&mut String)| {
            buffer.clear();
            write(&mut buffer);
            open_member(out, name);
            write_string(out, &buffer);
        };
        out.extend_from_slice(br#"{"specversion":"1.0""#);
        member(out, "type", &|buffer| push_type(buffer, self.subject));
        member(out, "source", &|buffer| self.push_source(buffer));
        member(out, "id", &|buffer| push_number(buffer, self.id));
        member(out, "time", &|buffer| push_time(buffer, self.time_unix));
        let texts = [
            ("datacontenttype", content_type(self.data_type)),
            ("hub", self.hub),
            ("eventname", self.subject.name()),
            ("connectionid", self.connection_id),
        ];
        let optional = self.optional().map(|(name, value)| (name.attribute, value));
        for (name, text) in texts.into_iter().chain(optional).chain([("awpsversion", "1.0")]) {
            open_member(out, name);
            write_string(out, text);
        }
        if let Some(metadata) = self.metadata {
            open_member(out, "metadata");
            metadata.write_json(out);
        }
        self.write_data(out, data);
        out.push(b'}');
    }

    fn write_data(&self, out: &mut Vec<u8>, data: &[u8]) {
        match self.data_type {
            DataType::Json => {
                open_member(out, "data");
                let start = out.len();
                out.extend_from_slice(data);
                // In JSON a line feed that is not escaped is white space.
                for byte in &mut out[start..] {
                    if matches!(byte, b'\n' | b'\r') {
                        *byte = b' ';
                    }
                }
            }
            DataType::Text => {
                open_member(out, "data");
                // Lossy only for bytes that no payload of type text has.
                write_string(out, &String::from_utf8_lossy(data));
            }
            DataType::Binary | DataType::Protobuf => {
                open_member(out, "data_base64");
                out.push(b'"');
                base64_simd::STANDARD.encode_append(data, out);
                out.push(b'"');
            }
        }
    }

    /// What is said only if there is something to say (§3: "only when non-empty").
    fn optional(&self) -> impl Iterator<Item = (Name, &str)> {
        let names = [
            (Name { header: "ce-userid", attribute: "userid" }, self.user),
            (Name { header: "ce-subprotocol", attribute: "subprotocol" }, self.subprotocol),
            (Name { header: "ce-connectionstate", attribute: "connectionstate" }, self.state),
        ];
        names.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
    }

    /// The long form, for every event: the emulator's, where the documentation's samples differ (§3).
    fn push_source(&self, out: &mut String) {
        for part in ["/hubs/", self.hub, "/client/", self.connection_id] {
            out.push_str(part);
        }
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

/// An attribute in either mode.
struct Name {
    header: &'static str,
    attribute: &'static str,
}

fn open_member(out: &mut Vec<u8>, name: &str) {
    for part in [",\"", name, "\":"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What stands for `text` in a header.
fn header_value(text: &str) -> Cow<'_, str> {
    if is_header_value(text) { Cow::Borrowed(text) } else { Cow::Owned(encoded(text)) }
}

/// Whether `text` arrives as it is when it is the value of a header (RFC 9110 §5.5).
fn is_header_value(text: &str) -> bool {
    let is_legal = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = text.as_bytes();
    bytes.iter().all(|&byte| is_legal(byte)) && !is_blank(bytes.first()) && !is_blank(bytes.last())
}

/// Percent-encodes what is not printable ASCII, and space, quote and percent with it.
#[cold]
fn encoded(text: &str) -> String {
    let mut value = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            value.push(char::from(byte));
        } else {
            push_escape(&mut value, byte);
        }
    }
    value
}

fn push_type(out: &mut String, subject: Subject<'_>) {
    out.push_str(match subject {
        Subject::Connect | Subject::Connected | Subject::Disconnected => "azure.webpubsub.sys.",
        Subject::User(_) => "azure.webpubsub.user.",
        Subject::Joined(_) | Subject::Left(_) => "azure.webpubsub.gp.",
    });
    out.push_str(subject.name());
}

fn push_number(out: &mut String, number: u64) {
    let mut place = 1;
    while number / place >= 10 {
        place *= 10;
    }
    while place > 0 {
        out.push(char::from(b'0' + (number / place % 10) as u8));
        place /= 10;
    }
}

/// Appends a number of known width.
fn push_padded(out: &mut String, number: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(char::from(b'0' + (number / 10_u64.pow(place) % 10) as u8));
    }
}

/// The last second that has a year of four digits.
const TIME_UNIX_MAX: u64 = 253_402_300_799;

/// Appends `yyyy-MM-ddTHH:mm:ssZ` of a time in seconds since 1970; what is beyond the year 9999 is its end.
fn push_time(out: &mut String, time_unix: u64) {
    let time = time_unix.min(TIME_UNIX_MAX);
    let (days, second) = (time / 86_400, time % 86_400);
    // Never too late, and at most a few years too early.
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let is_leap = days_before(year + 1) - days_before(year) == 366;
    let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (mut month, mut day) = (1, days - days_before(year));
    for length in lengths {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let fields =
        [(year, 4), (month, 2), (day + 1, 2), (second / 3600, 2), (second / 60 % 60, 2), (second % 60, 2)];
    for ((number, width), end) in fields.into_iter().zip("--T::Z".chars()) {
        push_padded(out, number, width);
        out.push(end);
    }
}

/// Days from the first of 1970 to the first of `year`, in the Gregorian calendar.
fn days_before(year: u64) -> u64 {
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const EVENT: Attributes<'_> = Attributes {
        hub: "chat",
        connection_id: "c-1_A",
        user: None,
        subprotocol: None,
        subject: Subject::Connect,
        id: 0,
        time_unix: 1_700_000_000,
        state: None,
        data_type: DataType::Json,
        metadata: None,
    };

    fn headers(event: &Attributes<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        event.headers(&mut |name, value| lines.push(format!("{name}: {value}")));
        event.metadata_headers(&mut |name, value| lines.push(format!("{name}: {value}")));
        lines
    }

    fn header(event: &Attributes<'_>, name: &str) -> String {
        let lines = headers(event);
        let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.expect(name).to_owned()
    }

    fn json(event: &Attributes<'_>, data: &[u8]) -> String {
        let mut out = Vec::new();
        event.write_json(&mut out, data);
        String::from_utf8(out).unwrap()
    }

    /// §3, header by header.
    #[test]
    fn headers_of_a_connect() {
        assert_eq!(
            headers(&EVENT),
            [
                "content-type: application/json; charset=utf-8",
                "ce-specversion: 1.0",
                "ce-awpsversion: 1.0",
                "ce-type: azure.webpubsub.sys.connect",
                "ce-source: /hubs/chat/client/c-1_A",
                "ce-id: 0",
                "ce-time: 2023-11-14T22:13:20Z",
                "ce-connectionid: c-1_A",
                "ce-hub: chat",
                "ce-eventname: connect",
            ]
        );
    }

    #[test]
    fn headers_of_a_user_event() {
        let metadata = Metadata::new([("Trace-Id", "a,b"), ("trace-id", "x\r\ny"), ("empty", "")]).unwrap();
        let event = Attributes {
            user: Some("ann"),
            subprotocol: Some("json.webpubsub.azure.v1"),
            subject: Subject::User("vote.1"),
            id: u64::MAX,
            state: Some("eyJhIjoxfQ=="),
            data_type: DataType::Text,
            metadata: metadata.as_ref(),
            ..EVENT
        };
        let lines = headers(&event);
        assert_eq!(lines[0], "content-type: text/plain; charset=utf-8");
        assert_eq!(lines[3], "ce-type: azure.webpubsub.user.vote.1");
        assert_eq!(lines[5], "ce-id: 18446744073709551615");
        assert_eq!(
            lines[9..],
            [
                "ce-eventname: vote.1",
                "ce-userid: ann",
                "ce-subprotocol: json.webpubsub.azure.v1",
                "ce-connectionstate: eyJhIjoxfQ==",
                "x-webpubsub-metadata-trace-id: a,b",
                "x-webpubsub-metadata-trace-id: x%0D%0Ay",
                "x-webpubsub-metadata-empty: ",
            ]
        );
        let empty = Attributes { user: Some(""), subprotocol: Some(""), state: Some(""), ..EVENT };
        assert_eq!(headers(&empty), headers(&EVENT));
    }

    #[test]
    fn types_and_names() {
        for (subject, kind, name) in [
            (Subject::Connected, "azure.webpubsub.sys.connected", "connected"),
            (Subject::Disconnected, "azure.webpubsub.sys.disconnected", "disconnected"),
            (Subject::User("connect"), "azure.webpubsub.user.connect", "connect"),
            (Subject::Joined("room"), "azure.webpubsub.gp.joined", "joined"),
            (Subject::Left("room"), "azure.webpubsub.gp.left", "left"),
        ] {
            let event = Attributes { subject, ..EVENT };
            assert_eq!((&*header(&event, "ce-type"), &*header(&event, "ce-eventname")), (kind, name));
        }
        for (data_type, media_type) in
            [(DataType::Binary, "application/octet-stream"), (DataType::Protobuf, "application/x-protobuf")]
        {
            assert_eq!(header(&Attributes { data_type, ..EVENT }, "content-type"), media_type);
        }
    }

    /// CloudEvents HTTP binding §3.1.3.2, for values that need it.
    #[test]
    fn values_that_no_header_holds_are_percent_encoded() {
        for (user, value) in [
            ("ann@example.com", "ann@example.com"),
            ("Ann \"A\" 100%", "Ann \"A\" 100%"),
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("ä\"%", "%C3%A4%22%25"),
            ("a\r\nce-hub: other", "a%0D%0Ace-hub:%20other"),
            (" a", "%20a"),
            ("a\t", "a%09"),
            ("\u{7f}", "%7F"),
        ] {
            assert_eq!(header(&Attributes { user: Some(user), ..EVENT }, "ce-userid"), value, "{user:?}");
        }
    }

    #[test]
    fn the_json_format_on_one_line() {
        assert_eq!(
            json(&Attributes { subject: Subject::Connected, id: 1, ..EVENT }, b"{}"),
            concat!(
                r#"{"specversion":"1.0","type":"azure.webpubsub.sys.connected","source":"/hubs/chat/client/c-1_A","id":"1","#,
                r#""time":"2023-11-14T22:13:20Z","datacontenttype":"application/json; charset=utf-8","hub":"chat","#,
                r#""eventname":"connected","connectionid":"c-1_A","awpsversion":"1.0","data":{}}"#
            )
        );
        let metadata = Metadata::new([("K", "v\"")]).unwrap();
        let event = Attributes {
            user: Some("ä\""),
            subprotocol: Some("p"),
            subject: Subject::User("vote"),
            state: Some("s"),
            metadata: metadata.as_ref(),
            ..EVENT
        };
        for (data_type, data, name, expected) in [
            (DataType::Json, &b"{\r\n  \"a\": \"\\n\"\n}"[..], "data", json!({"a": "\n"})),
            (DataType::Text, b"a\n\"\0", "data", json!("a\n\"\0")),
            (DataType::Text, b"", "data", json!("")),
            (DataType::Binary, b"\0\n\xff", "data_base64", json!("AAr/")),
            (DataType::Protobuf, b"\x0a\x01t", "data_base64", json!("CgF0")),
        ] {
            let line = json(&Attributes { data_type, ..event }, data);
            assert!(!line.contains(['\n', '\r']), "{line}");
            let read: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(read[name], expected, "{line}");
            assert_eq!(read["metadata"], json!({"K": "v\""}));
            let texts = ["userid", "subprotocol", "connectionstate"].map(|name| read[name].as_str().unwrap());
            assert_eq!(texts, ["ä\"", "p", "s"]);
        }
    }

    #[test]
    fn times_are_utc_to_the_second() {
        for (time_unix, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (TIME_UNIX_MAX, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            let mut out = String::new();
            push_time(&mut out, time_unix);
            assert_eq!(out, expected, "{time_unix}");
        }
    }

    /// Against a calendar that counts days one by one, for more than the 400 years after which it repeats.
    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..440 * 366 {
            let mut out = String::new();
            push_time(&mut out, days * 86_400 + 3_661);
            assert_eq!(out, format!("{year:04}-{month:02}-{day:02}T01:01:01Z"));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_rust_does(number in any::<u64>()) {
            for number in [number, number % 1000] {
                let mut out = String::new();
                push_number(&mut out, number);
                prop_assert_eq!(out, number.to_string());
            }
        }

        #[test]
        fn headers_are_legal_and_say_what_was_meant(user in any::<String>(), state in "[ -~ä\n\t]{0,12}") {
            let event = Attributes { user: Some(&user), state: Some(&state), ..EVENT };
            event.headers(&mut |name, value| {
                assert!(is_header_value(value), "{name}: {value:?}");
                let meant = match name {
                    "ce-userid" => &user,
                    "ce-connectionstate" => &state,
                    _ => return,
                };
                assert!(value == meant || crate::uri::percent_decode(value).as_deref() == Some(&**meant), "{value}");
            });
            let read: Value = serde_json::from_str(&json(&event, b"1")).unwrap();
            prop_assert_eq!(read["userid"].as_str().unwrap_or_default(), user);
            prop_assert_eq!(read["connectionstate"].as_str().unwrap_or_default(), state);
        }
    }
}
