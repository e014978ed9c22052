//! Listeners: bound before any core starts, so that what is wrong with an address is said at once.

use crate::core::settings::{Settings, SocketSettings};
use crate::net::{Address, Listener, Scheme};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {advice}")]
pub(crate) struct ListenError {
    /// Where.
    pub(crate) address: SocketAddr,
    source: io::Error,
    advice: &'static str,
}

/// Bound listeners.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Each core's.
    pub(crate) per_core: Vec<Vec<Door>>,
    /// Where clients and REST calls come in; a port 0 is replaced by the one taken.
    pub(crate) service: Vec<Address>,
    /// Where the admin pages are.
    pub(crate) admin: Vec<Address>,
}

/// One core's listener.
#[derive(Debug)]
pub(crate) struct Door {
    /// For whom.
    pub(crate) listener: Listener,
    /// What is spoken there.
    pub(crate) scheme: Scheme,
    /// The socket.
    pub(crate) socket: TcpListener,
}

/// Binds every listener of every core.
///
/// # Errors
/// For the first address that cannot be bound.
pub(crate) fn bind(settings: &Settings) -> Result<Bound, ListenError> {
    let mut bound = Bound {
        per_core: (0..settings.cores).map(|_| Vec::new()).collect(),
        service: Vec::new(),
        admin: Vec::new(),
    };
    let all: Vec<SocketAddr> =
        settings.listen.iter().chain(&settings.admin_listen).map(|address| address.socket).collect();
    let open = |address: SocketAddr, shared: bool| {
        open(address, shared, &all, &settings.sockets).map_err(|source| ListenError {
            address,
            advice: match source.kind() {
                io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port",
                io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
                io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
                _ => "check the address",
            },
            source,
        })
    };
    for &Address { scheme, socket: mut address } in &settings.listen {
        // SO_REUSEPORT would let a second server share the port in silence (rule 5).
        if address.port() != 0 {
            drop(open(address, false)?);
        }
        for core in &mut bound.per_core {
            let socket = open(address, true)?;
            address = socket.local_addr().unwrap_or(address);
            core.push(Door { listener: Listener::Service, scheme, socket });
        }
        bound.service.push(Address { scheme, socket: address });
    }
    for &Address { scheme, socket: address } in &settings.admin_listen {
        let socket = open(address, false)?;
        bound.admin.push(Address { scheme, socket: socket.local_addr().unwrap_or(address) });
        bound.per_core[0].push(Door { listener: Listener::Admin, scheme, socket });
    }
    Ok(bound)
}

/// Options set here are inherited by every accepted socket: no system call for them per connection.
fn open(
    address: SocketAddr,
    shared: bool,
    all: &[SocketAddr],
    settings: &SocketSettings,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, unless somebody asked for the same port there by itself.
        socket.set_only_v6(all.iter().any(|other| other.is_ipv4() && other.port() == address.port()))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    if settings.notsent_lowat_bytes > 0 {
        socket.set_tcp_notsent_lowat(settings.notsent_lowat_bytes)?;
    }
    socket.set_tcp_user_timeout(Some(settings.write_deadline))?;
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    socket.bind(&address.into())?;
    socket.listen(settings.backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str) -> Settings {
        Settings {
            listen: vec![Address::parse(listen).unwrap()],
            admin_listen: vec![],
            cores: 2,
            ..Settings::default()
        }
    }

    /// No system call for each.
    #[test]
    fn accepted_sockets_have_the_listener_s_options() {
        let bound = bind(&Settings { cores: 1, ..settings("127.0.0.1:0") }).unwrap();
        let _client = std::net::TcpStream::connect(bound.service[0].socket).unwrap();
        let (accepted, _) = bound.per_core[0][0].socket.accept().unwrap();
        let accepted = socket2::SockRef::from(&accepted);
        let sockets = SocketSettings::default();
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(sockets.write_deadline));
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), sockets.notsent_lowat_bytes);
        assert!(accepted.tcp_nodelay().unwrap());
    }

    #[test]
    fn cores_share_a_port_and_a_second_server_is_refused() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let first = bind(&settings(address)).unwrap();
            assert_eq!(first.per_core.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
            let taken = first.service[0];
            let error = bind(&settings(&taken.to_string())).unwrap_err();
            assert!(error.to_string().contains("another program listens there"), "{error}");
        }
    }
}
