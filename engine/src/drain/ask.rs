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

/// Has the server at `admin` drain; returns when it does not answer any more. `say` gets a line of progress whenever
/// there is some.
///
/// # Errors
///
/// Why the server was not asked, for the operator.
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
    let mut shown = String::new();
    let mut body = Some(body);
    while let Some(progress) = body {
        let line = line(&progress);
        if line != shown {
            say(&line);
            shown = line;
        }
        std::thread::sleep(ASK_EVERY);
        body = call(admin.socket, "GET").ok().filter(|(status, _)| *status == 200).map(|(_, body)| body);
    }
    say("the server has closed its connections and ends");
    Ok(())
}

/// What an answer says, for people.
fn line(body: &str) -> String {
    let progress: Value = serde_json::from_str(body).unwrap_or_default();
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
        assert_eq!(line(body), "draining: 4,210 of 10,000 connections left");
    }

    /// A server that answers the first call so, and is gone.
    fn answering(answer: &'static str) -> Address {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = Address::plain(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            drop(listener);
            let mut head = [0; 1024];
            assert!(socket.read(&mut head).unwrap() > 0 && head.starts_with(b"POST /drain HTTP/1.1\r\n"));
            socket.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn it_follows_a_server_to_its_end_and_says_what_is_in_the_way() {
        let mut lines = Vec::new();
        let good = answering("HTTP/1.1 202 Accepted\r\n\r\n{\"connections\":2,\"connectionsLeft\":1}");
        drain(&good, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(
            lines,
            ["draining: 1 of 2 connections left", "the server has closed its connections and ends"]
        );
        for (answer, words) in [("HTTP/1.1 403 Forbidden\r\n\r\nno", "403 no"), ("SSH-2.0\r\n", "not HTTP")] {
            let error = drain(&answering(answer), |_| {}).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let tls = Address::parse("https://127.0.0.1:1").unwrap();
        assert!(drain(&tls, |_| {}).unwrap_err().contains("SIGTERM"));
    }
}
