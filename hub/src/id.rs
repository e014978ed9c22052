//! Who is who: cores, connections, sockets, requests; and the hub's notion of time.

use std::fmt;

/// Milliseconds of a monotonic clock since the process started. Always an argument, never read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// When a message published now is not worth delivering any more; 0 seconds: it always is.
    pub(crate) fn after_ttl(self, seconds: u32) -> Option<Self> {
        (seconds > 0).then(|| self.after_ms(u64::from(seconds) * 1000))
    }

    /// This much later.
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// One core of this node: 0 to [`CoreSet::CORES_MAX`] − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// A set of cores, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CoreSet(u64);

impl CoreSet {
    /// Most cores one node can have.
    pub const CORES_MAX: u16 = 64;

    /// Every core of `cores` but `core`.
    pub fn others(core: CoreId, cores: u16) -> Self {
        let all = if cores >= 64 { u64::MAX } else { (1 << cores) - 1 };
        Self(all & !(1 << core.0))
    }

    /// Just this one.
    pub fn only(core: CoreId) -> Self {
        Self(1 << core.0)
    }

    /// Adds a core.
    pub fn insert(&mut self, core: CoreId) {
        self.0 |= 1 << core.0;
    }

    /// Takes a core out.
    pub fn remove(&mut self, core: CoreId) {
        self.0 &= !(1 << core.0);
    }

    /// Whether a core is in it.
    pub fn contains(self, core: CoreId) -> bool {
        self.0 & (1 << core.0) != 0
    }

    /// Whether no core is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The cores that are in both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// How many cores are in it.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The cores, lowest first.
    pub fn iter(self) -> impl Iterator<Item = CoreId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let core = rest.trailing_zeros() as u16;
                rest &= rest - 1;
                CoreId(core)
            })
        })
    }
}

/// A socket of this core: a slot of the engine's slab and its generation, so that a late input from a socket
/// that is gone finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// The slot.
    pub slot: u32,
    /// Changes each time the slot is reused.
    pub generation: u32,
}

impl fmt::Debug for SocketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}.{}", self.slot, self.generation)
    }
}

/// A connection inside one hub on one core: a slot and its generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// The slot.
    pub slot: u32,
    /// Changes each time the slot is reused.
    pub generation: u32,
}

impl fmt::Debug for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.slot, self.generation)
    }
}

/// A REST call waiting at its origin core; the engine's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something a core waits to hear back about from other cores; unique on the core that made it, per hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A connection's public id. It carries its node, core and slot, so any core knows where to send; the random
/// bits make it impossible to guess, and the whole id is compared before a slot is believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The server process; 0 until there are several.
    pub node: u16,
    /// The core that owns the connection.
    pub core: CoreId,
    /// Its slot in the hub's partition there.
    pub slot: u32,
    /// From the system's random source.
    pub random: u128,
}

impl ConnectionId {
    /// Length of the text form, in characters.
    pub const TEXT_LEN: usize = 32;

    /// The digits of URL-safe base64 in the order of their character codes, so that texts sort as ids rank.
    const ALPHABET: &'static [u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

    /// Where it stands in lists: ids sort by this as their texts sort.
    pub fn rank(&self) -> (u128, u64) {
        let place = u64::from(self.node) << 48 | u64::from(self.core.0) << 32 | u64::from(self.slot);
        (self.random, place)
    }

    /// The text form: 24 bytes in base 64, with an alphabet of its own.
    pub fn text(&self) -> ConnectionIdText {
        let mut bytes = [0u8; 24];
        bytes[..16].copy_from_slice(&self.random.to_be_bytes());
        bytes[16..18].copy_from_slice(&self.node.to_be_bytes());
        bytes[18..20].copy_from_slice(&self.core.0.to_be_bytes());
        bytes[20..].copy_from_slice(&self.slot.to_be_bytes());
        let mut text = [0u8; Self::TEXT_LEN];
        for (three, four) in bytes.chunks_exact(3).zip(text.chunks_exact_mut(4)) {
            let n = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            for (i, out) in four.iter_mut().enumerate() {
                *out = Self::ALPHABET[(n >> (18 - 6 * i)) as usize & 63];
            }
        }
        ConnectionIdText(text)
    }

    /// Reads the text form; `None` for anything else, which then names no connection.
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0u8; 24];
        for (four, three) in text.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
            let mut n = 0u32;
            for c in four {
                let digit = match c {
                    b'-' => 0,
                    b'0'..=b'9' => c - b'0' + 1,
                    b'A'..=b'Z' => c - b'A' + 11,
                    b'_' => 37,
                    b'a'..=b'z' => c - b'a' + 38,
                    _ => return None,
                };
                n = n << 6 | u32::from(digit);
            }
            three.copy_from_slice(&n.to_be_bytes()[1..]);
        }
        let (random, place) = bytes.split_at(16);
        let core = u16::from_be_bytes([place[2], place[3]]);
        (core < CoreSet::CORES_MAX).then(|| Self {
            random: u128::from_be_bytes(random.try_into().expect("16 bytes")),
            node: u16::from_be_bytes([place[0], place[1]]),
            core: CoreId(core),
            slot: u32::from_be_bytes([place[4], place[5], place[6], place[7]]),
        })
    }
}

/// The text form of a [`ConnectionId`], on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectionIdText([u8; ConnectionId::TEXT_LEN]);

impl ConnectionIdText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_reads_back_from_its_text() {
        let id = ConnectionId { node: 3, core: CoreId(63), slot: 0xdead_beef, random: u128::MAX / 7 };
        assert_eq!(ConnectionId::parse(id.text().as_str()), Some(id));
        let other = ConnectionId { random: u128::MAX / 7 - 1, slot: 1, ..id };
        assert!(other.rank() < id.rank() && other.text().as_str() < id.text().as_str());
        assert_eq!(ConnectionId::parse("short"), None);
        assert_eq!(ConnectionId::parse(&"ä".repeat(16)), None);
        let far = ConnectionId { core: CoreId(64), ..id };
        assert_eq!(ConnectionId::parse(far.text().as_str()), None, "no such core can exist");
    }

    #[test]
    fn a_core_set_knows_its_members() {
        let mut set = CoreSet::others(CoreId(1), 3);
        assert_eq!(set.iter().collect::<Vec<_>>(), [CoreId(0), CoreId(2)]);
        set.remove(CoreId(0));
        assert!(!set.contains(CoreId(0)) && set.contains(CoreId(2)) && set.count() == 1);
        assert_eq!(CoreSet::others(CoreId(0), 64).count(), 63);
    }
}
