//! A pattern, a line feed, a name: the compiled matcher against dynamic programming over the two texts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::auth::role::{Pattern, Role};

fuzz_target!(|text: &str| {
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    let _ = Role::parse(pattern);
    // Group names have at most 1,024 characters; the table below is too slow for more anyway.
    if name.chars().count() > 1024 {
        return;
    }
    if let Some(compiled) = Pattern::parse(pattern) {
        assert_eq!(compiled.matches(name), reference(pattern, name), "{pattern:?} on {name:?}");
    }
});

enum Token {
    Char(char),
    One,
    Label,
    Any,
}

fn reference(pattern: &str, name: &str) -> bool {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '\\' => Token::Char(characters.next().expect("a pattern that compiled has no open escape")),
            '?' => Token::One,
            '*' => {
                let mut run = 1;
                while characters.next_if_eq(&'*').is_some() {
                    run += 1;
                }
                if run == 1 { Token::Label } else { Token::Any }
            }
            plain => Token::Char(plain),
        });
    }
    let name: Vec<char> = name.chars().collect();
    // row[i]: the tokens so far match the first i characters.
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for token in &tokens {
        let mut next = vec![false; name.len() + 1];
        for i in 0..=name.len() {
            let before = i.checked_sub(1).map(|j| (name[j], row[j], next[j]));
            next[i] = match token {
                Token::Char(c) => before.is_some_and(|(last, reached, _)| reached && last == *c),
                Token::One => before.is_some_and(|(last, reached, _)| reached && last != '.'),
                Token::Label => row[i] || before.is_some_and(|(last, _, extended)| extended && last != '.'),
                Token::Any => row[i] || before.is_some_and(|(_, _, extended)| extended),
            };
        }
        row = next;
    }
    row[name.len()]
}
