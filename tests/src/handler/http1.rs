//! HTTP/1.1, byte by byte, one thread a connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::answer::Then;
use super::{Call, Shared};
use crate::Certificate;

/// A socket, with TLS or without.
trait Duplex: Read + Write + Send {
    /// Says that nothing more comes, where that is said apart from TCP: an answer that ends with its connection must
    /// not look cut off.
    fn say_goodbye(&mut self) {}
}

impl Duplex for TcpStream {}

impl Duplex for StreamOwned<ServerConnection, TcpStream> {
    fn say_goodbye(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

pub(super) fn accept(listener: &TcpListener, tls: bool, shared: &Arc<Shared>) {
    let tls = tls.then(|| Certificate::shared().server(&["http/1.1"]));
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        let Ok(kept) = socket.try_clone() else { continue };
        let Some(number) = shared.opened(kept) else { return };
        let (shared, tls) = (Arc::clone(shared), tls.clone());
        thread::spawn(move || {
            // Who goes away in the middle is of no interest here.
            let _ = serve(socket, tls, number, &shared);
            shared.closed(number);
        });
    }
}

fn serve(
    socket: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    number: usize,
    shared: &Shared,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let tcp = socket.try_clone()?;
    let mut stream: Box<dyn Duplex> = match tls {
        None => Box::new(socket),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, socket))
        }
    };
    let mut unread = Vec::new();
    while let Some(call) = read_call(&mut *stream, &mut unread, number)? {
        shared.record(&call);
        let answer = shared.answer(&call);
        // The other side may have had enough; what it says by that is judged below.
        let written = stream.write_all(&answer.bytes()).and_then(|()| stream.flush());
        match answer.then {
            Then::Next => written?,
            Then::Close => {
                stream.say_goodbye();
                let _ = tcp.shutdown(Shutdown::Both);
                return Ok(());
            }
            Then::Reset => {
                // Given up by the handles of the others, or closing this one would not reset it.
                let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
                return Ok(());
            }
            Then::Silence => {
                // Not even its end is answered before it comes.
                while stream.read(&mut [0; 4096])? > 0 {}
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next request; `None` at the end.
fn read_call(stream: &mut dyn Duplex, unread: &mut Vec<u8>, connection: usize) -> io::Result<Option<Call>> {
    let head_len = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if fill(stream, unread)? == 0 {
            return Ok(None);
        }
    };
    let head: Vec<u8> = unread.drain(..head_len).collect();
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, target, version) = (word(), word(), word());
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
        (name.to_owned(), value.trim().to_owned())
    });
    let mut call = Call { connection, version, method, target, headers: headers.collect(), body: Vec::new() };
    if call.header("transfer-encoding").is_some() {
        loop {
            let line = take_line(stream, unread)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            call.body.extend(take(stream, unread, size)?);
            take(stream, unread, 2)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(len) = call.header("content-length") {
        let len = len.parse().map_err(io::Error::other)?;
        call.body = take(stream, unread, len)?;
    }
    Ok(Some(call))
}

fn take_line(stream: &mut dyn Duplex, unread: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(at) = unread.windows(2).position(|window| window == b"\r\n") {
            return Ok(String::from_utf8_lossy(&take(stream, unread, at + 2)?).into_owned());
        }
        fill_or_end(stream, unread)?;
    }
}

fn take(stream: &mut dyn Duplex, unread: &mut Vec<u8>, len: usize) -> io::Result<Vec<u8>> {
    while unread.len() < len {
        fill_or_end(stream, unread)?;
    }
    Ok(unread.drain(..len).collect())
}

fn fill_or_end(stream: &mut dyn Duplex, unread: &mut Vec<u8>) -> io::Result<()> {
    match fill(stream, unread)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn fill(stream: &mut dyn Duplex, unread: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 16 * 1024];
    let read = stream.read(&mut chunk)?;
    unread.extend_from_slice(&chunk[..read]);
    Ok(read)
}
