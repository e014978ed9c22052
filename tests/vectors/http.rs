//! HTTP requests in text files, and what they are answered; shared by the tests over sockets and those of the codec.
//!
//! A vector is `= STATUS… [close] | name` and the request below it: the statuses of all answers, and whether the
//! connection ends with them. Of the request, line ends of the file do not count; `\r`, `\n`, `\t`, `\0`, `\\` and
//! `\xHH` are bytes, `{300*text}` is text 300 times, and other words in braces are filled in by the test: `{path}` is
//! one that GET and HEAD are answered 200 on, `{send}` one that takes bodies of whoever has `{auth}`.

/// One of them.
#[derive(Debug)]
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) statuses: Vec<u16>,
    pub(crate) stays: bool,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) const TAKEN: &str = include_str!("http/taken.txt");
pub(crate) const BODIES: &str = include_str!("http/bodies.txt");
pub(crate) const REFUSED: &str = include_str!("http/refused.txt");
pub(crate) const BROKEN_BODIES: &str = include_str!("http/broken_bodies.txt");

/// The vectors of a file, with these words filled in.
pub(crate) fn read(text: &'static str, words: &[(&str, &str)]) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix("= ") {
            let (expected, name) = head.split_once(" | ").unwrap_or_else(|| panic!("no name: {line}"));
            let stays = !expected.ends_with(" close");
            let statuses = expected.split(' ').filter(|word| *word != "close");
            let statuses = statuses.map(|word| word.parse().expect("a status")).collect();
            vectors.push(Vector { name, statuses, stays, bytes: Vec::new() });
        } else {
            let vector = vectors.last_mut().unwrap_or_else(|| panic!("of no vector: {line}"));
            fill(line, words, &mut vector.bytes);
        }
    }
    assert!(vectors.len() >= 10, "a file of vectors");
    vectors
}

fn fill(mut text: &str, words: &[(&str, &str)], out: &mut Vec<u8>) {
    while let Some(next) = text.chars().next() {
        text = match next {
            '\\' => escape(&text[1..], out),
            '{' => {
                let (word, rest) = text[1..].split_once('}').expect("a brace is closed");
                if let Some((count, repeated)) = word.split_once('*') {
                    (0..count.parse().expect("a count")).for_each(|_| fill(repeated, words, out));
                } else {
                    let known = words.iter().find(|(name, _)| *name == word);
                    out.extend(known.unwrap_or_else(|| panic!("{{{word}}} means nothing")).1.bytes());
                }
                rest
            }
            other => {
                out.extend(other.encode_utf8(&mut [0; 4]).bytes());
                &text[other.len_utf8()..]
            }
        };
    }
}

/// One byte, and what stands behind its escape.
fn escape<'a>(text: &'a str, out: &mut Vec<u8>) -> &'a str {
    let (byte, len) = match &text[..1] {
        "r" => (b'\r', 1),
        "n" => (b'\n', 1),
        "t" => (b'\t', 1),
        "0" => (0, 1),
        "\\" => (b'\\', 1),
        "x" => (u8::from_str_radix(&text[1..3], 16).expect("two digits"), 3),
        other => panic!("\\{other} means nothing"),
    };
    out.push(byte);
    &text[len..]
}
