//! JSON of clients against the grammar of RFC 8259: values it has, values it has not, and those it leaves to us, as a
//! payload and as an unknown property of the envelope; then every change of a byte in some of them, judged by a reader
//! made of the grammar and nothing else (`reliability` checks 29, 30).

use ringhub_protocol::pubsub::{ClientMessage, DataType, json};

/// Values of the grammar, each named by its rule: literals, numbers, strings, arrays, objects, white space.
fn legal() -> Vec<String> {
    let mut values: Vec<String> = ["true", "false", "[null]"].map(str::to_owned).to_vec();
    for sign in ["", "-"] {
        for int in ["0", "7", "10", "123456789012345678901234567890"] {
            for rest in ["", ".0", ".00125", "e1", "E1", "e+1", "E-1", "e00", ".5e-00", "e400", "E-400"] {
                values.push(format!("{sign}{int}{rest}"));
            }
        }
    }
    let all_ascii: String = (0x20..0x80_u8).map(char::from).filter(|c| !"\"\\".contains(*c)).collect();
    for string in
        ["", " ", "a", "ä€😀", "\u{7f}\u{80}\u{ffff}\u{10ffff}", "\u{2028}\u{2029}", "/*x*/", &all_ascii]
    {
        values.push(format!("\"{string}\""));
    }
    for escape in [r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0000", r"\u0041", r"\uABcd"]
    {
        values.push(format!("\"{escape}\""));
        values.push(format!("\"x{escape}{escape}y\""));
    }
    values.extend([r#""\ud83d\ude00""#, r#""\uDBFF\uDFFF""#, r#""\\u12""#, r#""\\\"""#].map(str::to_owned));
    for structure in [
        "[]",
        "[ ]",
        "[1]",
        "[1,2]",
        "[[]]",
        "[[],[[]]]",
        "[\n]",
        "[1\t,\r\n2]",
        "[{}]",
        "[true,null,\"\"]",
        "{}",
        "{ }",
        r#"{"":0}"#,
        r#"{"a":1}"#,
        r#"{"a":1,"b":[]}"#,
        r#"{"a":{"a":{}}}"#,
        r#"{"\u0000":1}"#,
        r#"{ "a" : 1 }"#,
        r#"{"a":null}"#,
        r#"{"ä":"ä"}"#,
        r#"{"type":"ping","ackId":-1}"#,
    ] {
        values.push(structure.to_owned());
    }
    for space in [" ", "\t", "\n", "\r", " \r\n\t "] {
        values.push(format!("{space}1{space}"));
    }
    values
}

/// What the grammar has not.
fn illegal() -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for literal in ["true", "false", "null"] {
        values.extend((1..literal.len()).map(|end| literal[..end].to_owned()));
        values.extend([literal.to_uppercase(), format!("{literal}x"), format!("{literal}{literal}")]);
    }
    for number in [
        "+1",
        "--1",
        "-",
        "01",
        "-01",
        "00",
        "1.",
        ".5",
        "-.5",
        "1.e1",
        "1e",
        "1e+",
        "1E-",
        "1ee1",
        "1e1.5",
        "1.2.3",
        "0x1",
        "0b1",
        "1_000",
        "1,000",
        "1 000",
        "1f",
        "1n",
        "Infinity",
        "-Infinity",
        "NaN",
        "-NaN",
        "nan",
        "inf",
        "1e1e1",
        "\u{ff11}",
        "\u{661}",
        "0e",
        "0.e1",
        "-e1",
        "e1",
        "+0",
        "1+1",
        "9.8.7",
        "2.e+3",
        "- 1",
        "1e 1",
    ] {
        values.push(number.to_owned());
    }
    values.extend((0..0x20_u8).map(|control| format!("\"{}\"", char::from(control))));
    let legal_escapes = "\"\\/bfnrtu";
    let bad = (0x20..0x7f_u8).map(char::from).filter(|c| !legal_escapes.contains(*c));
    values.extend(bad.map(|escape| format!("\"\\{escape}\"")));
    for string in [
        "\"",
        "\"a",
        "a\"",
        "'a'",
        "\"\\\"",
        "\"\\u\"",
        "\"\\u1\"",
        "\"\\u12\"",
        "\"\\u123\"",
        "\"\\u123g\"",
        "\"\\U0041\"",
        "\"\\u 041\"",
        "\"\\u+041\"",
        "\"a\"\"b\"",
        "\"a\" \"b\"",
        "\u{201c}a\u{201d}",
        "`a`",
        "\"\\\u{e4}\"",
        "\\u0041",
    ] {
        values.push(string.to_owned());
    }
    for structure in [
        "[",
        "]",
        "[[]",
        "[]]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[,]",
        "[1,,2]",
        "[1 2]",
        "[1;2]",
        "[\"a\"",
        "(1)",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{\"a\",1}",
        "{\"a\":}",
        "{:1}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{null:1}",
        "{\"a\" 1}",
        "{\"a\"::1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1;\"b\":2}",
        "{[]:1}",
        "[}",
        "{]",
        "[{]}",
        "[1:2]",
        "{\"a\":1}}",
        "#",
        "// x\n1",
        "/* x */1",
        "1/**/",
        "<x>",
        "\\n1",
        "[*]",
        "{\"a\":TRUE}",
        "undefined",
    ] {
        values.push(structure.to_owned());
    }
    for space in ["\u{b}", "\u{c}", "\u{a0}", "\u{feff}", "\u{2003}", "\u{85}", "\u{2060}", "\0"] {
        values.push(format!("{space}1"));
        values.push(format!("[1{space}]"));
    }
    values
}

/// What RFC 8259 leaves to whoever reads it, and what is done here.
fn ours() -> Vec<(String, bool)> {
    let mut values = Vec::new();
    // Numbers are digits to us and mean nothing: their size is between the clients.
    for number in
        ["1e999", "-1e999", "1e-999", "123123e100000", "18446744073709551616", "-9223372036854775809"]
    {
        values.push((number.to_owned(), true));
    }
    values.push((format!("0.{}1", "0".repeat(1000)), true));
    values.push(("9".repeat(1000), true));
    // Neither are strings of JSON data read: a lone surrogate stays the six characters it is.
    for string in [
        r"\ud800",
        r"\udfff",
        r"\ude00\ud83d",
        r"\ud800\ud800",
        r"\ud83dx",
        r"\ud83d\u0041",
        r"\ud83d\n",
        r"\uFFFE",
        r"\uFFFF",
        r"\uFDD0",
        r"\u0000",
    ] {
        values.push((format!("\"{string}\""), true));
        values.push((format!("{{\"{string}\":0}}"), true));
    }
    // Names that come twice, and which the order does not matter for, are the receiver's affair.
    values.push((r#"{"a":1,"a":2}"#.to_owned(), true));
    values.push((r#"{"a":1,"\u0061":1}"#.to_owned(), true));
    // Depth has a bound, the envelope counted, and no stack is used up to find that out.
    for (depth, taken) in [(62, true), (63, true), (64, false), (500, false), (100_000, false)] {
        values.push((format!("{}{}", "[".repeat(depth), "]".repeat(depth)), taken));
        values.push((format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)), taken));
    }
    // Receivers cannot tell it from no data.
    values.push(("null".to_owned(), false));
    values
}

fn as_data(value: &str) -> String {
    format!(r#"{{"type":"sendToGroup","group":"g","ackId":1,"data":{value}}}"#)
}

fn as_property(value: &str) -> String {
    format!(r#"{{"type":"joinGroup","unknown":{value},"group":"g","ackId":18446744073709551615}}"#)
}

/// The payload is kept to the byte, and the ack id is the one that was sent.
#[track_caller]
fn expect_taken(value: &str) {
    match json::parse(&as_data(value)) {
        Ok(ClientMessage::SendToGroup { ack_id: Some(1), data, .. }) => {
            assert_eq!(data.data_type(), DataType::Json);
            assert_eq!(data.bytes(), value.trim_matches([' ', '\t', '\n', '\r']).as_bytes());
        }
        other => panic!("{value}: {other:?}"),
    }
    let request = as_property(value);
    let property = json::parse(&request);
    assert!(
        matches!(property, Ok(ClientMessage::JoinGroup { ack_id: Some(u64::MAX), .. })),
        "{value}: {property:?}"
    );
}

#[track_caller]
fn expect_refused(request: &str) {
    let error = json::parse(request).expect_err(request);
    assert_eq!(error.code.get(), 1007, "{request}");
}

/// Refused because this property comes twice, and for nothing else.
#[track_caller]
fn expect_twice(request: &str, name: &str) {
    let error = json::parse(request).expect_err(request);
    assert_eq!(error.to_string(), format!("The property '{name}' appears more than once."), "{request}");
}

#[test]
fn values_of_the_grammar_are_taken() {
    let values = legal();
    assert!(values.len() >= 95, "{} of them", values.len());
    for value in values {
        assert!(grammar::is_json(&value), "{value:?} is meant to be legal");
        expect_taken(&value);
    }
}

#[test]
fn other_values_are_refused() {
    let values = illegal();
    assert!(values.len() >= 188, "{} of them", values.len());
    for value in values {
        assert!(!grammar::is_json(&value), "{value:?} is meant to be illegal");
        for request in
            [as_data(&value), as_property(&value), value.clone(), format!("{}{value}", as_data("1"))]
        {
            expect_refused(&request);
        }
    }
}

#[test]
fn what_the_grammar_leaves_open_is_decided() {
    let values = ours();
    assert!(values.len() >= 35, "{} of them", values.len());
    for (value, taken) in values {
        if taken { expect_taken(&value) } else { expect_refused(&as_data(&value)) }
    }
    // A known name that comes twice could be read in two ways; an unknown one is read in none.
    let properties = [
        ("type", r#""sendToGroup""#),
        ("group", r#""g""#),
        ("ackId", "1"),
        ("data", "1"),
        ("dataType", r#""json""#),
        ("noEcho", "true"),
        ("metadata", r#"{"a":"b"}"#),
        ("ttlSeconds", "1"),
    ];
    let written = properties.map(|(name, value)| format!(r#""{name}":{value}"#)).join(",");
    json::parse(&format!("{{{written}}}")).expect("each of them once");
    for (name, value) in properties {
        expect_twice(&format!(r#"{{{written},"{name}":{value}}}"#), name);
    }
    assert!(json::parse(r#"{"type":"ping","x":1,"x":2}"#).is_ok());
    // An escaped name is that name, so it comes twice, too.
    expect_twice(r#"{"type":"joinGroup","group":"g","ackId":1,"\u0061ckId":2}"#, "ackId");
}

/// Every byte of some requests left out, doubled, or replaced by each byte that matters to the grammar.
#[test]
fn a_changed_byte_is_judged_as_the_grammar_has_it() {
    const BYTES: &[u8] = b" \t\n\0\x0b\"\\/{}[]:,0189+-.eEaxut\x7f";
    let seeds = [
        as_data(r#"{"a":[1,-2.5e+3,true,null],"b":"\u00e4\n"}"#),
        as_property(r#"[[],{},"",0]"#),
        r#"{"type":"event","event":"e","ackId":12,"dataType":"text","data":"x\ud83d\ude00"}"#.to_owned(),
        r#" { "type" : "sequenceAck" , "sequenceId" : 120 } "#.to_owned(),
    ];
    let (mut taken, mut refused) = (0, 0);
    let mut judge = |bytes: Vec<u8>| {
        let Ok(text) = String::from_utf8(bytes) else { return };
        match json::parse(&text) {
            Ok(_) => {
                assert!(grammar::is_json(&text), "taken: {text}");
                taken += 1;
            }
            Err(error) => {
                assert_eq!(error.code.get(), 1007, "{text}");
                let complaint = error.reason.contains("not valid JSON");
                assert!(!complaint || !grammar::is_json(&text), "called no JSON: {text}");
                refused += 1;
            }
        }
    };
    for seed in seeds {
        let seed = seed.into_bytes();
        for at in 0..seed.len() {
            let (head, tail) = (&seed[..at], &seed[at + 1..]);
            judge([head, tail].concat());
            judge(head.to_vec());
            for byte in BYTES {
                judge([head, &[*byte], tail].concat());
                judge([head, &[*byte], &seed[at..]].concat());
            }
        }
    }
    assert!(taken > 1_000 && refused > 10_000, "{taken} taken, {refused} refused");
}

/// RFC 8259 §2 to §7, rule by rule.
mod grammar {
    pub(super) fn is_json(text: &str) -> bool {
        space(text.as_bytes()).and_then(value).and_then(space).is_some_and(<[u8]>::is_empty)
    }

    /// What is left behind a rule; `None` where it does not apply.
    type Rest<'a> = Option<&'a [u8]>;

    fn space(text: &[u8]) -> Rest<'_> {
        let end = text.iter().position(|byte| !b" \t\n\r".contains(byte)).unwrap_or(text.len());
        Some(&text[end..])
    }

    fn value(text: &[u8]) -> Rest<'_> {
        match text.first()? {
            b'{' => items(&text[1..], b'}', |text| {
                space(string(text)?)?.strip_prefix(b":").and_then(space).and_then(value)
            }),
            b'[' => items(&text[1..], b']', value),
            b'"' => string(text),
            b't' => text.strip_prefix(b"true"),
            b'f' => text.strip_prefix(b"false"),
            b'n' => text.strip_prefix(b"null"),
            _ => number(text),
        }
    }

    fn items(text: &[u8], end: u8, item: impl Fn(&[u8]) -> Rest<'_>) -> Rest<'_> {
        let mut rest = space(text)?;
        if let Some(rest) = rest.strip_prefix(&[end]) {
            return Some(rest);
        }
        loop {
            rest = space(item(rest)?)?;
            match rest.split_first()? {
                (b',', tail) => rest = space(tail)?,
                (byte, tail) => return (*byte == end).then_some(tail),
            }
        }
    }

    fn number(text: &[u8]) -> Rest<'_> {
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let mut rest = match text.split_first()? {
            (b'0', rest) => rest,
            (b'1'..=b'9', _) => digits(text)?,
            _ => return None,
        };
        if let Some(fraction) = rest.strip_prefix(b".") {
            rest = digits(fraction)?;
        }
        if let Some((b'e' | b'E', exponent)) = rest.split_first() {
            let unsigned = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-"));
            rest = digits(unsigned.unwrap_or(exponent))?;
        }
        Some(rest)
    }

    fn digits(text: &[u8]) -> Rest<'_> {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        (end > 0).then(|| &text[end..])
    }

    fn string(text: &[u8]) -> Rest<'_> {
        let mut rest = text.strip_prefix(b"\"")?;
        loop {
            let (byte, tail) = rest.split_first()?;
            rest = match byte {
                b'"' => return Some(tail),
                0..0x20 => return None,
                b'\\' => match tail.split_first()? {
                    (b'u', hex) => {
                        let (hex, rest) = hex.split_at_checked(4)?;
                        hex.iter().all(u8::is_ascii_hexdigit).then_some(rest)?
                    }
                    (escape, rest) => b"\"\\/bfnrt".contains(escape).then_some(rest)?,
                },
                _ => tail,
            };
        }
    }
}
