//! Masking (RFC 6455 §5.3).
//!
//! The same operation masks and unmasks. A payload may be handled in pieces: what must stay true is that
//! each piece starts at the phase the pieces before it left, that is their total length modulo four.

/// Unmasks `payload` in place.
///
/// `phase` is how many bytes of the frame's payload came before this piece; only its value modulo four
/// matters, so a running count of any width will do.
pub fn unmask(payload: &mut [u8], key: [u8; 4], phase: usize) {
    let mut key = key;
    key.rotate_left(phase % 4);
    // Fixed-size pieces without bounds checks: the compiler turns the inner loop into vector instructions.
    let wide: [u8; LANE_BYTES] = std::array::from_fn(|at| key[at % 4]);
    let (lanes, rest) = payload.as_chunks_mut::<LANE_BYTES>();
    for lane in lanes {
        for (byte, key_byte) in lane.iter_mut().zip(wide) {
            *byte ^= key_byte;
        }
    }
    for (byte, key_byte) in rest.iter_mut().zip(wide) {
        *byte ^= key_byte;
    }
}

/// A multiple of four, so that every lane starts at the same phase.
const LANE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn unmask_bytewise(payload: &mut [u8], key: [u8; 4], phase: usize) {
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[(at + phase) % 4];
        }
    }

    #[test]
    fn equals_the_definition_for_every_length_and_phase() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        // Miri takes a thousand times longer.
        let (lens, phases) = if cfg!(miri) { (36, 5) } else { (200, 9) };
        for len in 0..lens {
            for phase in 0..phases {
                let plain: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
                let mut expected = plain.clone();
                unmask_bytewise(&mut expected, key, phase);
                let mut actual = plain.clone();
                unmask(&mut actual, key, phase);
                assert_eq!(actual, expected, "{len} bytes at phase {phase}");
            }
        }
    }

    #[test]
    fn pieces_equal_the_whole() {
        let key = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..=if cfg!(miri) { 40 } else { 255 }).collect();
        let mut whole = plain.clone();
        unmask(&mut whole, key, 0);
        for cut in 0..plain.len() {
            let mut pieces = plain.clone();
            let (left, right) = pieces.split_at_mut(cut);
            unmask(left, key, 0);
            unmask(right, key, cut);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
