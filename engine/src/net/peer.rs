//! Who is at the other end of a socket, and what a proxy there says of others.
//!
//! What must stay true: nothing a peer says of another address, host or scheme is believed unless the peer is a
//! trusted proxy; with a PROXY header, that is asked of the address in the header, for whoever is behind it wrote
//! what follows.

use crate::core::socket::{Kind, Socket};
use crate::core::turn::Core;
use crate::net::Listener;
use ipnet::IpNet;
use ringhub_hub::SocketKey;
use ringhub_protocol::forwarded;
use ringhub_protocol::proxy::parse_proxy_header;
use socket2::SockRef;
use std::net::IpAddr;

/// The proxies in front of this server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    /// Their networks.
    pub(crate) trusted: Vec<IpNet>,
    /// Whether their sockets begin with a PROXY header.
    pub(crate) header: bool,
}

impl Proxies {
    /// Whether what this address says of others is believed.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// How a request came, as far as it changes what the request's headers mean.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Via {
    /// From a trusted proxy.
    pub(crate) from_proxy: bool,
    /// Over TLS of our own.
    pub(crate) secure: bool,
}

/// Under which name and scheme a client called this server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Named<'a> {
    /// The `Host` header.
    pub(crate) host: &'a str,
    /// The host the client named to a trusted proxy.
    pub(crate) forwarded_host: Option<&'a str>,
    /// Whether it spoke TLS, to us or to a trusted proxy.
    pub(crate) is_secure: bool,
}

impl<'a> Named<'a> {
    /// From a request's headers: `last` gives the last of a name.
    pub(crate) fn new(via: Via, host: &'a str, last: impl Fn(&str) -> Option<&'a str>) -> Self {
        let said = |name| if via.from_proxy { last(name) } else { None };
        Self {
            host,
            forwarded_host: said("x-forwarded-host").and_then(forwarded::host),
            is_secure: said("x-forwarded-proto").and_then(forwarded::is_secure).unwrap_or(via.secure),
        }
    }

    /// Scheme and authority, as the client would write them.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.forwarded_host.unwrap_or(self.host))
    }
}

impl Core {
    /// The address of the socket's other end, or for whom the proxy there speaks by its PROXY header.
    pub(crate) fn peer(&self, key: SocketKey) -> Option<IpAddr> {
        let socket = self.io.sockets.peek(key)?;
        socket.proxied.as_deref().copied().or_else(|| address_of(socket))
    }

    /// What is to be known before a request's headers are read; asks the kernel only if there are proxies.
    pub(crate) fn via(&self, key: SocketKey) -> Via {
        let proxies = &self.settings.proxies;
        let from_proxy =
            !proxies.trusted.is_empty() && self.peer(key).is_some_and(|peer| proxies.trust(peer));
        Via { from_proxy, secure: self.is_secure(key) }
    }

    /// Whether the socket itself speaks TLS.
    pub(crate) fn is_secure(&self, key: SocketKey) -> bool {
        self.io.sockets.peek(key).is_some_and(|socket| socket.tls.is_some())
    }

    /// What a new socket's first bytes are.
    pub(crate) fn first_kind(&self, socket: &Socket) -> Kind {
        let proxies = &self.settings.proxies;
        let awaits_header = proxies.header
            && socket.listener == Listener::Service
            && address_of(socket).is_some_and(|peer| proxies.trust(peer));
        if awaits_header { Kind::Proxy } else { Kind::Head }
    }

    /// Bytes of a socket whose PROXY header is not complete. What follows it is handled as if it had come
    /// first: TLS begins there.
    pub(crate) fn proxy_input(&mut self, key: SocketKey, bytes: &[u8]) {
        let Some(socket) = self.io.sockets.get(key) else { return };
        let mut received = socket.unread.take().unwrap_or_default();
        received.push(bytes);
        match parse_proxy_header(&received) {
            Ok(None) => {
                socket.unread = Some(received);
                self.io.arm(key);
            }
            Ok(Some(header)) => {
                socket.kind = Kind::Head;
                socket.proxied = header.source.map(Box::new);
                let rest = &mut received[header.consumed..];
                if rest.is_empty() { self.io.arm(key) } else { self.raw_input(key, rest) }
            }
            Err(fault) => {
                self.io.shared.counters.proxy_headers_refused.add(1);
                let peer = address_of(socket);
                tracing::debug!(?peer, %fault, "a proxy's socket is closed");
                self.io.kill(key);
            }
        }
    }
}

/// Asks the kernel.
fn address_of(socket: &Socket) -> Option<IpAddr> {
    let address = SockRef::from(&socket.fd).peer_addr().ok()?.as_socket()?;
    Some(address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_say_what_a_server_is_called() {
        let headers = |name: &str| match name {
            "x-forwarded-host" => Some("pubsub.example.com"),
            "x-forwarded-proto" => Some("https"),
            _ => None,
        };
        let named = |from_proxy| Named::new(Via { from_proxy, secure: false }, "10.0.0.1:8080", headers);
        assert_eq!(named(true).endpoint(), "https://pubsub.example.com");
        assert_eq!(named(false).endpoint(), "http://10.0.0.1:8080");
        assert_eq!(Named::new(Via { from_proxy: true, secure: true }, "h", |_| None).endpoint(), "https://h");
    }
}
