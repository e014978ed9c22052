//! Random numbers without a dependency.

/// xorshift64*: masks, keys and the spread of warm-up messages need variety, not secrecy.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by the clock: no figure depends on the values.
    pub(crate) fn new() -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(clock.map_or(1, |elapsed| elapsed.as_nanos() as u64) | 1)
    }

    /// The same values for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        // Spread, so that neighbouring seeds do not begin alike; 0 would stay 0 for ever.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
