//! A socket for hand-made bytes: whatever is written goes out as it is, whatever comes is shown as it came.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::stream::Stream;
use crate::{DEADLINE, Response, TlsClient, http};

/// A connection, TCP or TLS, and the bytes read but not used yet.
#[derive(Debug)]
pub struct RawSocket {
    stream: Stream,
    unread: Vec<u8>,
}

/// One WebSocket frame from the server, as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: FIN, reserved bits and opcode.
    pub first_byte: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A close frame's code; `None` for an empty one.
    pub fn close_code(&self) -> Option<u16> {
        assert_eq!(self.first_byte, 0x88, "not a close frame: {self:?}");
        (self.payload.len() >= 2).then(|| u16::from_be_bytes([self.payload[0], self.payload[1]]))
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the server sends UTF-8")
    }
}

/// For a test that waits for many of them at once.
impl AsRawFd for RawSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.tcp().as_raw_fd()
    }
}

impl RawSocket {
    /// Connects.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::with(addr, None, None)
    }

    /// Connects, over TLS if there is a client for it, and with a receive buffer of about that many bytes, so that
    /// not reading is soon felt.
    #[track_caller]
    pub(crate) fn with(addr: SocketAddr, tls: Option<&TlsClient>, bytes: Option<usize>) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        if let Some(bytes) = bytes {
            // Before connecting, or the window is announced already.
            socket.set_recv_buffer_size(bytes).expect("a small receive buffer");
        }
        socket
            .connect_timeout(&addr.into(), DEADLINE)
            .unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(DEADLINE)).expect("read timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("write timeout");
        Self { stream: Stream::new(stream, addr, tls), unread: Vec::new() }
    }

    /// Sends bytes past TLS, which must not have said anything yet: what a proxy puts in front. If `with_hello`,
    /// the first flight of the handshake goes out in the same write.
    #[track_caller]
    pub fn write_in_front(&mut self, bytes: &[u8], with_hello: bool) {
        let mut bytes = bytes.to_vec();
        let Stream::Tls(stream) = &mut self.stream else { return self.write(bytes) };
        if with_hello {
            stream.conn.write_tls(&mut bytes).expect("a first flight");
        }
        stream.sock.write_all(&bytes).expect("the server reads");
    }

    /// Sends bytes in one write.
    #[track_caller]
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).expect("the server reads");
    }

    /// Sends bytes; the server may have closed already, which is for the caller to judge.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Reads one HTTP response.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        self.read_response_to("GET")
    }

    /// Reads one HTTP response to a request with that method (one to HEAD has no body).
    #[track_caller]
    pub fn read_response_to(&mut self, method: &str) -> Response {
        http::read_response(self, method)
    }

    /// Reads one frame. The server must not mask it.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        let [first_byte, second] = self.read_array();
        assert_eq!(second & 0x80, 0, "a server must not mask");
        let len = match second {
            126 => u64::from(u16::from_be_bytes(self.read_array())),
            127 => u64::from_be_bytes(self.read_array()),
            short => u64::from(short),
        };
        assert!(len <= 64 << 20, "a frame of {len} bytes");
        let payload = self.read_exact(len as usize);
        Frame { first_byte, payload }
    }

    /// Reads until the server closes; returns what came before, for a test that says it must be nothing.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + DEADLINE;
        while self.fill().expect("the server closes before the deadline") > 0 {
            assert!(Instant::now() < deadline, "the server goes on sending");
        }
        std::mem::take(&mut self.unread)
    }

    /// Expects the server to close without another byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&rest));
    }

    /// Ends our direction only.
    pub fn half_close(&mut self) {
        self.stream.half_close();
    }

    /// Of a TLS connection: what was agreed on.
    #[track_caller]
    pub fn tls(&self) -> &rustls::ClientConnection {
        self.stream.tls().expect("a connection over TLS")
    }

    /// Reads until the end, which over TLS must be a goodbye and not just the end of TCP.
    #[track_caller]
    pub fn expect_goodbye(&mut self) {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        assert!(read.is_ok(), "{read:?} after {rest:?}");
    }

    /// Changes how long reads wait.
    pub fn set_deadline(&self, deadline: Duration) {
        self.stream.tcp().set_read_timeout(Some(deadline)).expect("read timeout");
    }

    /// Reads and forgets what has come; does not wait. An error is for the next write to meet.
    pub fn discard(&mut self) {
        self.stream.tcp().set_nonblocking(true).expect("an open socket");
        self.unread.clear();
        while matches!(self.fill(), Ok(1..)) {
            self.unread.clear();
        }
        self.stream.tcp().set_nonblocking(false).expect("an open socket");
    }

    /// Whether something has come, or the end, or does within the deadline of reads.
    pub fn has_answer(&mut self) -> bool {
        !self.unread.is_empty() || self.fill().is_ok()
    }

    /// The socket and the bytes that came already.
    pub(crate) fn into_parts(self) -> (Stream, Vec<u8>) {
        (self.stream, self.unread)
    }

    /// Exactly `len` bytes.
    #[track_caller]
    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            let read = self.fill().unwrap_or_else(|error| panic!("waiting for {len} bytes: {error}"));
            assert!(read > 0, "the server closed after {:?}", String::from_utf8_lossy(&self.unread));
        }
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }

    /// The bytes up to and with the first `end`.
    #[track_caller]
    pub(crate) fn read_through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.read_exact(at + end.len());
            }
            let read = self.fill().unwrap_or_else(|error| panic!("waiting for {end:?}: {error}"));
            assert!(read > 0, "the server closed after {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    #[track_caller]
    fn read_array<const N: usize>(&mut self) -> [u8; N] {
        self.read_exact(N).try_into().expect("the length was asked for")
    }

    /// Reads once; 0 is the end, and a reset counts as one.
    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let read = match self.stream.read(&mut chunk) {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => 0,
            other => other?,
        };
        self.unread.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    /// Closes with a reset instead of a goodbye, as a killed client's kernel does.
    pub fn reset(self) {
        let _ = SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
    }
}

/// A client's frame: the first byte as given, masked with a fixed key, the shortest length form.
pub fn masked_frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first_byte];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_is_the_example_of_rfc_6455_section_5_7() {
        assert_eq!(
            masked_frame(0x81, b"Hello"),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
        assert_eq!(masked_frame(0x82, &[0; 126])[..4], [0x82, 0xfe, 0, 126]);
        assert_eq!(masked_frame(0x82, &[0; 65_536])[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
