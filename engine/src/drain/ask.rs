//! `ringhub drain`: asks a server by its admin listener, and shows how far it is until it is gone.

use crate::net::{Address, Scheme};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How often it is asked how far the server is.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Looks in a row that get no answer before it is given up: a server that is busy is not one that is gone.
const UNANSWERED_MAX: u32 = 6;

/// Has the server at `admin` drain; returns when it is gone. `say` gets a line of progress whenever there is some.
///
/// # Errors
///
/// Why the server was not asked, or cannot be followed any more, for the operator.
pub(crate) fn drain(admin: &Address, mut say: impl FnMut(&str)) -> Result<(), String> {
    if admin.scheme == Scheme::Tls {
        return Err(format!(
            "{admin} speaks TLS, which this verb does not; send the process SIGTERM instead"
        ));
    }
    let unreachable = |error| format!("cannot reach the admin listener at {admin}: {error}");
    let (status, body) = call(admin.socket, "POST").map_err(unreachable)?;
    if status != 202 {
        return Err(format!("the server at {admin} does not drain: {status} {body}"));
    }
    let mut progress = parsed(&body);
    let (mut shown, mut unanswered) = (String::new(), 0);
    // A server that does not drain is the next one, which was started behind the same address.
    while progress["draining"] == true {
        let line = line(&progress);
        if line != shown {
            say(&line);
            shown = line;
        }
        std::thread::sleep(ASK_EVERY);
        match call(admin.socket, "GET") {
            Ok((200, body)) => (progress, unanswered) = (parsed(&body), 0),
            Ok((status, body)) => {
                return Err(format!("the server at {admin} does not say how far it is: {status} {body}"));
            }
            Err(error) if is_gone(&error) => break,
            Err(error) => {
                unanswered += 1;
                if unanswered == UNANSWERED_MAX {
                    return Err(format!(
                        "the server at {admin} drains, but does not answer any more: {error}"
                    ));
                }
            }
        }
    }
    say("the server has closed its connections and ends");
    Ok(())
}

/// Whether nobody is there any more, rather than somebody who does not answer.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof
    )
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

/// What an answer says, for people.
fn line(progress: &Value) -> String {
    let number = |name: &str| super::grouped(progress[name].as_u64().unwrap_or_default());
    format!("draining: {} of {} connections left", number("connectionsLeft"), number("connections"))
}

/// Status and body of one call.
fn call(admin: SocketAddr, method: &str) -> io::Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&admin, ANSWER_DEADLINE)?;
    socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
    socket.set_write_timeout(Some(ANSWER_DEADLINE))?;
    let head = format!(
        "{method} /drain HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = String::from_utf8_lossy(&answer);
    let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what it answers is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_progress_reads_like() {
        let body = r#"{"draining":true,"connections":10000,"connectionsLeft":4210}"#;
        assert_eq!(line(&parsed(body)), "draining: 4,210 of 10,000 connections left");
    }

    const ACCEPTED: &str =
        "HTTP/1.1 202 Accepted\r\n\r\n{\"draining\":true,\"connections\":2,\"connectionsLeft\":1}";

    /// What a drain comes to, and what it says, of servers that answer one call each so, one after another, and then of
    /// nobody. An empty answer is an end within the call.
    fn followed<const N: usize>(answers: [&'static str; N]) -> (Result<(), String>, Vec<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = Address::plain(listener.local_addr().unwrap());
        let servers = std::thread::spawn(move || {
            let mut listener = Some(listener);
            for (at, answer) in answers.into_iter().enumerate() {
                let mut socket = listener.as_ref().unwrap().accept().unwrap().0;
                if at + 1 == N {
                    listener = None;
                }
                let mut head = [0; 1024];
                let method: &[u8] =
                    if at == 0 { b"POST /drain HTTP/1.1\r\n" } else { b"GET /drain HTTP/1.1\r\n" };
                assert!(socket.read(&mut head).unwrap() > 0 && head.starts_with(method));
                socket.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut lines = Vec::new();
        let outcome = drain(&address, |line| lines.push(line.to_owned()));
        // A server that nobody has called would wait for ever, and takes this for the wrong call.
        drop(TcpStream::connect(address.socket));
        servers.join().expect("all were called, and as they should be");
        (outcome, lines)
    }

    #[test]
    fn it_follows_a_server_to_its_end_and_says_what_is_in_the_way() {
        for (outcome, lines) in [followed([ACCEPTED]), followed([ACCEPTED, ""])] {
            outcome.unwrap();
            assert_eq!(
                lines,
                ["draining: 1 of 2 connections left", "the server has closed its connections and ends"]
            );
        }
        for (answer, words) in [("HTTP/1.1 403 Forbidden\r\n\r\nno", "403 no"), ("SSH-2.0\r\n", "not HTTP")] {
            let error = followed([answer]).0.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        // Of one that is too long, what may be read.
        let head = "HTTP/1.1 403 Forbidden\r\n\r\n";
        let long: &str = format!("{head}{}", "x".repeat(ANSWER_BYTES_MAX as usize)).leak();
        let error = followed([long]).0.unwrap_err();
        let read = "x".repeat(ANSWER_BYTES_MAX as usize - head.len());
        assert!(error.contains(&read) && !error.contains(&(read + "x")));
        let tls = Address::parse("https://127.0.0.1:1").unwrap();
        assert!(drain(&tls, |_| {}).unwrap_err().contains("SIGTERM"));
    }

    /// It followed the next server without an end.
    #[test]
    fn a_server_that_was_started_behind_the_same_address_is_not_followed() {
        let (outcome, lines) =
            followed([ACCEPTED, "HTTP/1.1 200 OK\r\n\r\n{\"draining\":false,\"connections\":0}"]);
        outcome.unwrap();
        assert_eq!(lines.last().unwrap(), "the server has closed its connections and ends");
    }

    /// It said that such a server had ended, and was content.
    #[test]
    fn a_server_that_answers_otherwise_has_not_ended() {
        let (outcome, lines) = followed([ACCEPTED, "HTTP/1.1 503 Busy\r\n\r\nlater"]);
        assert!(outcome.unwrap_err().contains("503 later") && lines.len() == 1, "{lines:?}");
        // One answer that cannot be read is passed over, and the next is looked at.
        let (outcome, lines) = followed([ACCEPTED, "?", ""]);
        outcome.unwrap();
        assert_eq!(lines.len(), 2);
        let nothing = ["?"; UNANSWERED_MAX as usize];
        let (outcome, _) =
            followed([ACCEPTED, nothing[0], nothing[1], nothing[2], nothing[3], nothing[4], nothing[5]]);
        assert!(outcome.unwrap_err().contains("does not answer any more"));
    }
}
