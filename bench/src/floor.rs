//! The floor: what the kernel charges for sending the same bytes to as many sockets, and nothing else.
//!
//! Two children of the generator: one on the server's CPU that sends, one on the generator's CPU that
//! receives and drops. The sender's CPU time is taken around the sends alone; waiting for the receiver
//! is not in it. Every socket is empty before it is sent to again, as with one message at a time.
//! Loopback runs the receiver's half of TCP in the sender's context, here as in the server.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::cli::{FloorDrainArgs, FloorServerArgs};
use crate::error::Error;
use crate::server::Server;
use crate::sys;

/// Sends per floor round: enough for a steady figure, and no longer than a round of the server needs.
const SENDS_PER_ROUND: std::ops::RangeInclusive<usize> = 5_000..=100_000;

/// Fans per floor round: each waits for the receiver, which on a busy machine takes long however few the
/// sockets are.
const FANS_PER_ROUND: std::ops::RangeInclusive<usize> = 3..=1_000;

/// The children, seen from the generator. Dropping it ends them.
pub(crate) struct Floor {
    sender: Child,
    drain: Child,
    commands: ChildStdin,
    answers: mpsc::Receiver<String>,
    fans: usize,
}

impl Floor {
    /// Starts both children and waits until `sockets` connections stand between them, over which frames
    /// of `frame` bytes will go. A round will have about `sends` sends, within [`SENDS_PER_ROUND`].
    pub(crate) fn start(server: &Server, sockets: usize, frame: usize, sends: usize) -> Result<Self, Error> {
        let pin = |cpus: &[usize]| sys::pin_to(cpus).map_err(Error::io("pin the floor"));
        let own = std::env::current_exe().map_err(Error::io("find this program"))?;
        let sizes = [format!("--sockets={sockets}"), format!("--frame={frame}")];
        // Children inherit the affinity. The first CPU only: the sender is one thread.
        pin(&server.cpus[..1])?;
        let spawned = Command::new(&own)
            .arg("floor-server")
            .args(&sizes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        pin(&[server.own_cpu])?;
        let mut sender = spawned.map_err(Error::io("start the floor's sender"))?;
        let commands = sender.stdin.take().expect("piped above");
        let stdout = sender.stdout.take().expect("piped above");
        let (line, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.send(answer).is_err() {
                    return;
                }
            }
        });
        let port = answers.recv_timeout(Duration::from_secs(30)).map_err(|_| ended())?;
        let drain = Command::new(own)
            .args(["floor-drain", &format!("--port={port}")])
            .args(&sizes)
            .stdin(Stdio::null())
            .spawn()
            .map_err(Error::io("start the floor's receiver"));
        let drain = match drain {
            Ok(drain) => drain,
            Err(error) => {
                let _ = sender.kill();
                let _ = sender.wait();
                return Err(error);
            }
        };
        let sends = sends.clamp(*SENDS_PER_ROUND.start(), *SENDS_PER_ROUND.end());
        let fans = (sends / sockets).clamp(*FANS_PER_ROUND.start(), *FANS_PER_ROUND.end());
        let floor = Self { sender, drain, commands, answers, fans };
        match floor.answers.recv_timeout(Duration::from_secs(60)).as_deref() {
            Ok("ready") => Ok(floor),
            _ => Err(ended()),
        }
    }

    /// Starts a round; `variant` is `batch` or `send`.
    pub(crate) fn begin(&mut self, variant: &str) -> Result<(), Error> {
        writeln!(self.commands, "{variant} {}", self.fans).map_err(Error::io("talk to the floor's sender"))
    }

    /// CPU of one send in ns, once the round is over.
    pub(crate) fn poll(&mut self) -> Result<Option<f64>, Error> {
        match self.answers.try_recv() {
            Ok(answer) => answer.parse().map(Some).map_err(|_| Error::Child(format!("floor: {answer}"))),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(ended()),
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for child in [&mut self.sender, &mut self.drain] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ended() -> Error {
    Error::Child("the floor's sender ended early; its message stands above".into())
}

/// The sending child: prints its port, then `ready`, then one figure per command line; ends with its
/// standard input.
pub(crate) fn serve(args: &FloorServerArgs) -> Result<(), Error> {
    sys::raise_open_files().map_err(Error::io("raise the limit of open files"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("listen"))?;
    // The default queue of 128 would make a large drain wait for retries.
    SockRef::from(&listener).listen(4096).map_err(Error::io("listen"))?;
    let port = listener.local_addr().map_err(Error::io("listen"))?.port();
    println!("{port}");
    let accept = || -> Result<TcpStream, Error> {
        let (socket, _) = listener.accept().map_err(Error::io("accept"))?;
        socket.set_nodelay(true).map_err(Error::io("TCP_NODELAY"))?;
        reset_at_end(&socket)?;
        Ok(socket)
    };
    // The first connection carries the receiver's "all there".
    let mut control = accept()?;
    let sockets: Vec<TcpStream> = (0..args.sockets).map(|_| accept()).collect::<Result<_, _>>()?;
    println!("ready");
    let frame = vec![b'x'; args.frame];
    let mut batch = sys::BatchSender::new(args.sockets).map_err(Error::io("set up an io_uring"))?;
    let mut fan = |variant: &str| -> Result<u64, Error> {
        let before = sys::thread_cpu_ns();
        let short = match variant {
            "batch" => batch.send_to_all(&sockets, &frame),
            "send" => send_each(&sockets, &frame),
            other => return Err(Error::Usage(format!("floor variant {other}"))),
        };
        let spent = sys::thread_cpu_ns() - before;
        match short.map_err(Error::io("send"))? {
            0 => {}
            short => return Err(Error::Child(format!("{short} sends came up short"))),
        }
        control.read_exact(&mut [0]).map_err(Error::io("wait for the receiver"))?;
        Ok(spent)
    };
    fan("batch")?;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (variant, fans) = line.split_once(' ').unwrap_or((&line, "1"));
        let fans: u32 = fans.parse().map_err(|_| Error::Usage(format!("floor command {line}")))?;
        let mut spent = 0;
        for _ in 0..fans {
            spent += fan(variant)?;
        }
        println!("{}", spent as f64 / (f64::from(fans) * args.sockets as f64));
    }
    Ok(())
}

/// As the clients of the server beside it, every thousand have a source address of their own; and not theirs,
/// whose ports the kernel would not give out again.
fn connect(port: u16, index: usize) -> Result<TcpStream, Error> {
    let from = SocketAddr::from(([127, 0, 1, 1 + (index / 1_000 % 250) as u8], 0));
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connected = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| {
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(socket.into())
    });
    connected.map_err(Error::io("connect"))
}

/// No waiting state when the socket is closed: a sweep would run out of ports.
fn reset_at_end(socket: &TcpStream) -> Result<(), Error> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).map_err(Error::io("SO_LINGER"))
}

/// One call per socket; how many came up short.
fn send_each(sockets: &[TcpStream], frame: &[u8]) -> std::io::Result<usize> {
    let mut short = 0;
    for socket in sockets {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        short += usize::from(SockRef::from(socket).send_with_flags(frame, flags)? != frame.len());
    }
    Ok(short)
}

/// The receiving child: says one byte for every fan that has arrived in full; ends with the sender.
pub(crate) fn drain(args: &FloorDrainArgs) -> Result<(), Error> {
    sys::raise_open_files().map_err(Error::io("raise the limit of open files"))?;
    let mut control = connect(args.port, 0)?;
    let mut poll = Poll::new().map_err(Error::io("create an epoll instance"))?;
    let mut sockets = Vec::new();
    for index in 0..args.sockets {
        let socket = connect(args.port, index)?;
        reset_at_end(&socket)?;
        socket.set_nonblocking(true).map_err(Error::io("set up a socket"))?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        let registry = poll.registry();
        registry
            .register(&mut socket, Token(index), Interest::READABLE)
            .map_err(Error::io("register a socket"))?;
        sockets.push(socket);
    }
    let fan_bytes = args.sockets * args.frame;
    let mut received = 0;
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Events::with_capacity(4096);
    loop {
        match poll.poll(&mut events, None) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("wait for sockets")(error)),
        }
        for event in &events {
            loop {
                match sockets[event.token().0].read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(read) => {
                        received += read;
                        if read < buffer.len() && !event.is_read_closed() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The sender was killed at the end of the run.
                    Err(_) => return Ok(()),
                }
            }
        }
        if received == fan_bytes {
            received = 0;
            if control.write_all(&[1]).is_err() {
                return Ok(());
            }
        }
    }
}
