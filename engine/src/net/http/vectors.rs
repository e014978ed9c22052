//! The vectors of `tests/vectors/http`, cut at every byte.

use super::*;
use http_body_util::BodyExt;

#[path = "../../../../tests/vectors/http.rs"]
mod files;

/// Longest vector that is cut everywhere; of longer ones it would be the same bytes over and over.
const CUT_BYTES_MAX: usize = 1024;

/// Answers with method, target and body.
fn echo() -> HttpConnection {
    HttpConnection::new(
        16 << 10,
        Upgrades::Allowed,
        Rc::new(|request, _| {
            Box::pin(async move {
                let line = format!("{} {} ", request.method(), request.uri());
                let body = request.into_body().collect().await.map(|body| body.to_bytes());
                let body = body.unwrap_or_else(|_| Bytes::from_static(b"(broken)"));
                Response::new(Full::from([line.as_bytes(), &body].concat()))
            })
        }),
    )
}

/// What pieces are answered, less the dates, and whether that was the end.
fn run(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut connection = echo();
    let (mut output, mut close) = (Vec::new(), false);
    for piece in pieces {
        connection.feed(piece);
        loop {
            let progress = connection.poll(1);
            close |= progress.close;
            if progress.output.is_empty() {
                break;
            }
            output.extend_from_slice(&progress.output);
        }
    }
    let text = String::from_utf8(output).unwrap().replace("HTTP/1.0 ", "HTTP/1.1 ");
    let answers = text.split("HTTP/1.1 ").filter(|answer| answer.starts_with(|c: char| c.is_ascii_digit()));
    let without_date = |answer: &str| {
        let lines: Vec<&str> = answer.split("\r\n").filter(|line| !line.starts_with("date: ")).collect();
        lines.join("\r\n")
    };
    (answers.map(without_date).collect(), close)
}

fn read(text: &'static str) -> Vec<files::Vector> {
    files::read(text, &[("path", "/path"), ("send", "/send"), ("auth", ""), ("host", "h")])
}

/// How often a request is answered, and whether the connection stays, is what the vector says; the same bytes in two
/// pieces, and one by one, have the same answers.
fn check(text: &'static str, mut judge: impl FnMut(&files::Vector, &[String])) {
    for vector in read(text) {
        let (answers, close) = run(&[&vector.bytes]);
        assert_eq!((answers.len(), close), (vector.statuses.len(), !vector.stays), "{}", vector.name);
        judge(&vector, &answers);
        if vector.bytes.len() > CUT_BYTES_MAX {
            continue;
        }
        for at in 0..vector.bytes.len() {
            let (head, tail) = vector.bytes.split_at(at);
            assert_eq!(run(&[head, tail]), (answers.clone(), close), "{} cut at {at}", vector.name);
        }
        let single: Vec<&[u8]> = vector.bytes.chunks(1).collect();
        assert_eq!(run(&single), (answers, close), "{} byte by byte", vector.name);
    }
}

#[test]
fn legal_requests_are_the_same_however_they_are_cut() {
    check(files::TAKEN, |vector, answers| {
        let good = |answer: &String| answer.starts_with("200 ");
        assert!(answers.iter().all(good), "{}: {answers:?}", vector.name);
    });
    check(files::BODIES, |vector, answers| {
        let good = |answer: &String| answer.contains("POST /send ") && !answer.contains("(broken)");
        assert!(answers.iter().all(good), "{}: {answers:?}", vector.name);
    });
}

/// Cut, what is refused may be refused earlier, for what shows first; never is it answered otherwise, or twice.
#[test]
fn what_is_refused_is_refused_however_it_is_cut() {
    for vector in read(files::REFUSED).into_iter().chain(read(files::BROKEN_BODIES)) {
        let statuses = |pieces: &[&[u8]]| -> (Vec<u16>, bool) {
            let (answers, close) = run(pieces);
            (answers.iter().map(|answer| answer[..3].parse().unwrap()).collect(), close)
        };
        let expected = (vector.statuses.clone(), true);
        assert_eq!(statuses(&[&vector.bytes]), expected, "{}", vector.name);
        if vector.bytes.len() > CUT_BYTES_MAX {
            continue;
        }
        for at in 0..vector.bytes.len() {
            let (head, tail) = vector.bytes.split_at(at);
            assert_eq!(statuses(&[head, tail]), expected, "{} cut at {at}", vector.name);
        }
    }
}
