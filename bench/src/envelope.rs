//! JSON messages without a JSON parser: what stands around the payload is learnt from one message parsed in
//! full, and need only be the same in later ones.

/// What stands before the payload: `head`, then, where a name follows that differs between publishers,
/// the name and `tail`.
#[derive(Clone, Default)]
pub(crate) struct Prefix {
    head: Vec<u8>,
    tail: Option<Vec<u8>>,
}

/// Ends the head of an envelope that names the publisher.
const USER_KEY: &[u8] = br#""fromUserId":""#;

impl Prefix {
    /// Learns from the bytes before a payload.
    pub(crate) fn learn(before: &[u8]) -> Self {
        let user = before.windows(USER_KEY.len()).position(|window| window == USER_KEY);
        let Some(user) = user.map(|at| at + USER_KEY.len()) else {
            return Self { head: before.to_vec(), tail: None };
        };
        let name = before[user..].iter().position(|&byte| byte == b'"').unwrap_or(0);
        Self { head: before[..user].to_vec(), tail: Some(before[user + name..].to_vec()) }
    }

    /// What follows the envelope's start, if the message begins so.
    pub(crate) fn strip<'a>(&self, message: &'a [u8]) -> Option<&'a [u8]> {
        if self.head.is_empty() {
            return None;
        }
        let rest = message.strip_prefix(&self.head[..])?;
        let Some(tail) = &self.tail else { return Some(rest) };
        let name = rest.iter().position(|&byte| byte == b'"')?;
        rest[name..].strip_prefix(&tail[..])
    }
}

/// What may follow the payload: nothing more, or a sequence id. `None`: something else.
pub(crate) fn read_end(end: &[u8]) -> Option<Option<u64>> {
    if end == b"\"}" {
        return Some(None);
    }
    let digits = end.strip_prefix(b"\",\"sequenceId\":")?.strip_suffix(b"}")?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_may_differ() {
        let learnt = Prefix::learn(br#"{"fromUserId":"p","data":""#);
        assert_eq!(learnt.strip(br#"{"fromUserId":"q","data":"x"#), Some(&b"x"[..]));
        assert_eq!(learnt.strip(br#"{"fromUserId":"q","dota":"x"#), None);
        assert_eq!(Prefix::learn(b"a").strip(b"ab"), Some(&b"b"[..]));
    }

    #[test]
    fn ends_have_an_id_or_nothing() {
        assert_eq!(read_end(br#""}"#), Some(None));
        assert_eq!(read_end(br#"","sequenceId":12}"#), Some(Some(12)));
        assert_eq!(read_end(br#"","sequenceId":"12"}"#), None);
        assert_eq!(read_end(b""), None);
    }
}
