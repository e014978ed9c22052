//! Whether the time of a refusal tells how much of a signature was right (`reliability` check 66).
//!
//! `cargo bench -p ringhub-engine --bench timing [-- MEASUREMENTS]`, 1,000,000 by default, on a quiet machine; it says
//! nothing in a test, where others share the cores.
//!
//! Tokens with a signature that is wrong from its first byte on and tokens with one that is wrong in its last byte only
//! are refused in random order, each refusal is timed, and the two sets of times are compared with Welch's test, as
//! dudect does: what is slower than nearly all others is cut off, since that is the machine, at several places. A |t|
//! of 4.5 or more is a difference that can be measured. A comparison that stops at the first wrong byte is measured
//! beside them; if that one is not found, nothing was measured.

use base64_simd::URL_SAFE_NO_PAD;
use ringhub::measured::Tokens;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// From here on times differ.
const DIFFERENT: f64 = 4.5;
/// Where times are cut off, as parts of all: the t that counts is the largest.
const CUTS: [f64; 6] = [0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// Whether a text is let in.
type Check<'a> = Box<dyn Fn(&str) -> bool + 'a>;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let measurements =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let tokens = Tokens::default();
    let checks: [(&str, String, Check<'_>); 3] = [
        ("a client's token", tokens.client_target(), Box::new(|text| tokens.admits(text))),
        ("a caller's token", tokens.rest_authorization(), Box::new(|text| tokens.authorizes(text))),
        ("a reconnection token", tokens.recovery_target(), Box::new(|text| tokens.recovers(text))),
    ];
    let mut is_clean = true;
    for (what, good, check) in &checks {
        assert!(check(good), "{what} is good");
        let pair = [spoiled(good, 0..32), spoiled(good, 31..32)];
        assert!(pair.iter().all(|bad| !check(bad)), "{what} is refused");
        let t = compare(measurements, &pair, |bad| check(bad));
        println!("{what}: |t| = {t:.2} over {measurements} refusals");
        is_clean &= t < DIFFERENT;
    }
    let secret = [7; 32];
    let mut near = secret;
    near[31] ^= 1;
    let t = compare(measurements, &[[0; 32], near], |bad| stops_early(bad, &secret));
    println!("a comparison that stops early: |t| = {t:.2}, to be found");
    if is_clean && t >= DIFFERENT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The text with these bytes of the signature at its end changed.
fn spoiled(good: &str, bytes: std::ops::Range<usize>) -> String {
    let at = good.rfind(['.', '=']).expect("something is before it") + 1;
    let mut signature = URL_SAFE_NO_PAD.decode_to_vec(&good[at..]).expect("base64url");
    assert_eq!(signature.len(), 32, "SHA-256");
    signature[bytes].iter_mut().for_each(|byte| *byte ^= 0x55);
    format!("{}{}", &good[..at], URL_SAFE_NO_PAD.encode_to_string(&signature))
}

fn stops_early(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(a) == black_box(b))
}

/// Largest |t| between the times of two inputs.
fn compare<T>(measurements: usize, pair: &[T; 2], check: impl Fn(&T) -> bool) -> f64 {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..measurements {
        // Xorshift: no pattern that the machine could learn.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let class = (random >> 33 & 1) as usize;
        let input = black_box(&pair[class]);
        let began = Instant::now();
        black_box(check(input));
        times[class].push(began.elapsed().as_nanos() as f64);
    }
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    let cut_at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
    CUTS.iter().map(|part| welch(&times, cut_at(*part)).abs()).fold(0.0, f64::max)
}

/// Welch's t of the times up to a bound.
fn welch(times: &[Vec<f64>; 2], bound: f64) -> f64 {
    let [(a, spread_a), (b, spread_b)] = [0, 1].map(|class| {
        let kept: Vec<f64> = times[class].iter().copied().filter(|time| *time <= bound).collect();
        let count = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / count;
        let variance = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (a - b) / (spread_a + spread_b).sqrt()
}
