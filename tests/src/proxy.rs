//! A TCP proxy that misbehaves on request: it cuts, stalls, and can be pointed at another server.
//!
//! A cut is abrupt: whatever the proxy holds is lost and both sides get a reset, like a cable pulled and
//! noticed. Bytes are counted per direction so that a cut can fall at a chosen byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::Endpoint;

/// A running proxy. Dropped, it cuts everything and its threads end.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    /// What the proxied server is, at this address.
    endpoint: Endpoint,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    stopping: bool,
    stalled: bool,
    /// When set: this many more bytes of server output, over all connections, then a cut.
    cut_after_bytes: Option<usize>,
    cuts: usize,
    /// Both sockets of every open pair.
    open: Vec<(TcpStream, TcpStream)>,
}

impl Proxy {
    /// A proxy to `endpoint` on a free port.
    pub fn start(endpoint: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            target: endpoint.addr,
            stopping: false,
            stalled: false,
            cut_after_bytes: None,
            cuts: 0,
            open: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &accepting));
        Self { endpoint: Endpoint { addr, ..endpoint.clone() }, addr, shared, acceptor: Some(acceptor) }
    }

    /// Where clients connect to go through it.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Resets every open connection on both sides. New ones are let through.
    pub fn cut(&self) {
        self.shared.lock().cut();
    }

    /// Cuts once the server has sent this many more bytes; those bytes still arrive.
    pub fn cut_after_bytes(&self, bytes: usize) {
        self.shared.lock().cut_after_bytes = Some(bytes);
    }

    /// How often it has cut.
    pub fn cuts(&self) -> usize {
        self.shared.lock().cuts
    }

    /// Stops reading from either side; new connections wait.
    pub fn stall(&self) {
        self.shared.lock().stalled = true;
    }

    /// Goes on after [`Self::stall`].
    pub fn resume(&self) {
        self.shared.lock().stalled = false;
        self.shared.changed.notify_all();
    }

    /// Sends new connections to another server.
    pub fn point_at(&self, endpoint: &Endpoint) {
        self.shared.lock().target = endpoint.addr;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.stalled = false;
            state.cut();
        }
        self.shared.changed.notify_all();
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a proxy thread panicked")
    }

    /// Waits while stalled; false when the proxy stops.
    fn may_go_on(&self) -> bool {
        let state =
            self.changed.wait_while(self.lock(), |state| state.stalled).expect("a proxy thread panicked");
        !state.stopping
    }

    /// How many of `len` bytes of server output may pass, and whether the cut falls behind them.
    fn admit(&self, len: usize) -> (usize, bool) {
        let mut state = self.lock();
        match state.cut_after_bytes {
            None => (len, false),
            Some(left) if left > len => {
                state.cut_after_bytes = Some(left - len);
                (len, false)
            }
            Some(left) => {
                state.cut_after_bytes = None;
                (left, true)
            }
        }
    }
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        for (client, server) in self.open.drain(..) {
            for socket in [client, server] {
                // Linger 0 makes the last close a reset; shutdown makes the pump's read end now.
                let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        if !shared.may_go_on() {
            return;
        }
        let target = shared.lock().target;
        // A server that is gone looks like a connection that is closed at once.
        let Ok(server) = TcpStream::connect(target) else { continue };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let clones = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(client_read), Ok(server_read), Ok(kept_client), Ok(kept_server)) = clones else { continue };
        shared.lock().open.push((kept_client, kept_server));
        let (up, down) = (Arc::clone(shared), Arc::clone(shared));
        thread::spawn(move || pump(client_read, server, &up, false));
        thread::spawn(move || pump(server_read, client, &down, true));
    }
}

/// Copies one direction until it ends. Threads end with their sockets.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, is_server_output: bool) {
    let mut chunk = vec![0; 16 * 1024];
    while shared.may_go_on() {
        let read = match from.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        // What was read before a stall leaves after it.
        if !shared.may_go_on() {
            break;
        }
        let (admitted, cut) = if is_server_output { shared.admit(read) } else { (read, false) };
        if to.write_all(&chunk[..admitted]).is_err() {
            break;
        }
        if cut {
            // A graceful end towards the client, so that the bytes before the cut are not thrown away.
            // Under the lock: the client may come back at once, and its new connection is not to be cut.
            let mut state = shared.lock();
            let _ = to.shutdown(std::net::Shutdown::Both);
            state.cut();
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::RawSocket;

    #[test]
    fn the_cut_falls_behind_the_chosen_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::plain(listener.local_addr().unwrap(), "");
        let proxy = Proxy::start(&endpoint);
        proxy.cut_after_bytes(3);
        let mut client = RawSocket::connect(proxy.endpoint().addr);
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"abcdef").unwrap();
        assert_eq!(client.read_to_end(), b"abc");
        assert_eq!(proxy.cuts(), 1);

        let mut second = RawSocket::connect(proxy.endpoint().addr);
        let (mut server, _) = listener.accept().unwrap();
        second.write(b"up");
        let mut up = [0; 2];
        server.read_exact(&mut up).unwrap();
        assert_eq!(&up, b"up");
    }
}
