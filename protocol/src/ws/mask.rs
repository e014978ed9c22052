//! Masking (RFC 6455 §5.3): an exclusive or with four bytes, over and over.

/// Unmasks (or masks) in place. `phase` is how many bytes of the payload came before `bytes`.
pub fn apply(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    let key: [u8; 4] = std::array::from_fn(|i| key[(phase + i) % 4]);
    // Whole vectors at a time; the compiler turns the inner loop into SIMD.
    let wide: [u8; 32] = std::array::from_fn(|i| key[i % 4]);
    let mut chunks = bytes.chunks_exact_mut(32);
    for chunk in &mut chunks {
        chunk.iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
    }
    chunks.into_remainder().iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_the_exclusive_or_of_the_rfc(mut bytes in prop::collection::vec(any::<u8>(), 0..200), key: [u8; 4], phase in 0usize..9) {
            let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ key[(phase + i) % 4]).collect();
            apply(&mut bytes, key, phase);
            prop_assert_eq!(bytes, expected);
        }
    }
}
