//! Bodies of the events nobody waits for (`event-handlers` §4.2, §4.3, §4.6).

use crate::pubsub::escape::write_string;

/// Of `connected`.
pub const CONNECTED: &[u8] = b"{}";

/// Of `disconnected`; the reason of a normal close is empty.
pub fn disconnected(reason: &str) -> Vec<u8> {
    object("reason", reason)
}

/// Of `joined` and `left`.
pub fn presence(group: &str) -> Vec<u8> {
    object("group", group)
}

fn object(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 8);
    out.push(b'{');
    write_string(&mut out, name);
    out.push(b':');
    write_string(&mut out, value);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_whatever_the_text() {
        assert_eq!(disconnected(""), br#"{"reason":""}"#);
        let text = "a\"\\\n\u{1}ü";
        let value: serde_json::Value = serde_json::from_slice(&presence(text)).unwrap();
        assert_eq!(value["group"], text);
    }
}
