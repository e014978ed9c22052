//! A byte that says how many trailers may come, then a chunked body: the reader that is shown pieces against one that
//! has it all and cuts it into lines. Where it ends and what is in it are the same in every cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::http::{CHUNK_LINE_BYTES_MAX, Chunks};

fuzz_target!(|input: &[u8]| {
    let Some((&trailers, bytes)) = input.split_first() else { return };
    let trailers = usize::from(trailers);
    let whole = read(bytes, trailers, usize::MAX, usize::MAX);
    assert_eq!(whole, second_opinion(bytes, trailers));
    for (piece, room) in [(1, 1), (2, usize::MAX), (7, 3)] {
        let cut = read(bytes, trailers, piece, room);
        assert_eq!(cut, whole, "in pieces of {piece}, {room} at a time");
    }
});

/// How a body ended, with its data.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Behind so many bytes.
    Done(usize, Vec<u8>),
    /// It wants more.
    Open(Vec<u8>),
    Refused,
}

fn read(bytes: &[u8], trailers: usize, piece: usize, room: usize) -> End {
    let mut chunks = Chunks::new(trailers);
    let (mut data, mut taken) = (Vec::new(), 0);
    while taken < bytes.len() && !chunks.is_done() {
        let shown = &bytes[taken..bytes.len().min(taken.saturating_add(piece))];
        let left = chunks.data_left();
        let Ok(part) = chunks.take(shown, room) else { return End::Refused };
        assert!(part.framing + part.data <= shown.len() && part.data <= room);
        assert!(part.framing + part.data > 0, "it gets on");
        assert!(left == 0 || part.framing == 0 && part.data as u64 <= left);
        data.extend_from_slice(&shown[part.framing..][..part.data]);
        taken += part.framing + part.data;
    }
    if chunks.is_done() { End::Done(taken, data) } else { End::Open(data) }
}

/// The grammar of RFC 9112 §7.1, line by line, less what is optional around sizes.
fn second_opinion(bytes: &[u8], mut trailers: usize) -> End {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        // What came of a size line must be right so far, even without its end.
        let (line, is_whole) = match bytes[at..].iter().position(|&byte| byte == b'\r') {
            Some(end) => (&bytes[at..at + end], true),
            None => (&bytes[at..], false),
        };
        let (digits, extension) = match line.iter().position(|&byte| byte == b';') {
            Some(semicolon) => line.split_at(semicolon),
            None => (line, &[][..]),
        };
        let is_legal = digits.iter().all(u8::is_ascii_hexdigit)
            && digits.iter().skip_while(|&&digit| digit == b'0').count() <= 16
            && !(digits.is_empty() && !(line.is_empty() && !is_whole))
            && extension.iter().all(|&byte| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic())
            && line.len() <= CHUNK_LINE_BYTES_MAX;
        if !is_legal {
            return End::Refused;
        }
        if !is_whole {
            return End::Open(data);
        }
        at += line.len() + 1;
        match bytes.get(at) {
            None => return End::Open(data),
            Some(b'\n') => at += 1,
            Some(_) => return End::Refused,
        }
        let size = digits.iter().fold(0_u64, |size, &digit| {
            size << 4 | u64::from(char::from(digit).to_digit(16).expect("a digit"))
        });
        if size == 0 {
            break;
        }
        let there = (bytes.len() - at) as u64;
        if there < size {
            data.extend_from_slice(&bytes[at..]);
            return End::Open(data);
        }
        data.extend_from_slice(&bytes[at..at + size as usize]);
        at += size as usize;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return End::Open(data),
            _ => return End::Refused,
        }
    }
    // Lines with a bound on all of them together, then an empty one.
    loop {
        match &bytes[at..] {
            [b'\r', b'\n', ..] => return End::Done(at + 2, data),
            [] | [b'\r'] => return End::Open(data),
            [b'\r', ..] => return End::Refused,
            rest => {
                for (offset, &byte) in rest.iter().enumerate() {
                    let after_cr = offset > 0 && rest[offset - 1] == b'\r';
                    let is_text = byte == b'\t' || byte == b' ' || byte.is_ascii_graphic() || byte >= 0x80;
                    let is_legal = if after_cr { byte == b'\n' } else { is_text || byte == b'\r' };
                    if trailers == 0 || !is_legal {
                        return End::Refused;
                    }
                    trailers -= 1;
                    at += 1;
                    if after_cr {
                        break;
                    }
                    if offset + 1 == rest.len() {
                        return End::Open(data);
                    }
                }
            }
        }
    }
}
