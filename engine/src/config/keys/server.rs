//! What the server is made of: addresses, access keys, TLS.

use super::{ANY, Key, Section, Shape, Unfit};
use crate::config::value::{Endpoint, Raw, Secret, Setting};
use crate::net::Address;
use ipnet::IpNet;
use ringhub_hub::CoreSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

section! {
    /// Where the server listens and what it runs on.
    Server in "server" {
        /// Address of the service: clients and REST. A list makes it listen on each. `https://` in front makes
        /// it speak TLS there, with the certificate of `[tls]`. Beyond loopback a key must be configured.
        listen: Vec<Address> = vec![Address::plain((Ipv4Addr::LOCALHOST, 8080))], ANY;
        /// Address of the admin listener: metrics, health, connections, the console. `https://` in front makes
        /// it speak TLS. It has no authentication of its own; keep it on loopback or a private network.
        admin_listen: Vec<Address> = vec![Address::plain((Ipv4Addr::LOCALHOST, 8081))], ANY;
        /// How many cores serve, one pinned thread each.
        cores: Option<u64> = None, 1..=u64::from(CoreSet::CORES_MAX), "every CPU the process may use";
        /// URLs under which applications know this server: accepted as audiences of tokens besides the
        /// request's own `Host`. Needed behind a proxy that changes the host, or puts a path in front. The host
        /// of the first is what event handlers are told this server is (`WebHook-Request-Origin`); without any, it is
        /// the client's `Host`.
        public_endpoints: Vec<Endpoint> = Vec::new(), ANY;
        /// Proxies in front of this server, as networks. From their sockets, and from no others, `X-Forwarded-For`,
        /// `X-Forwarded-Host` and `X-Forwarded-Proto` are believed.
        trusted_proxies: Vec<IpNet> = Vec::new(), 0..=64;
        /// Whether sockets of trusted proxies begin with a header of the PROXY protocol, version 2, before TLS if
        /// that is spoken there. From other sockets none is read.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off, ANY;
        /// Whether a token must name the hub and endpoint it is used on. Off is for development only: a
        /// token of one hub then opens every hub.
        audience_check: bool = true, ANY;
        /// Whether access keys are taken: for REST calls (else 403) and as signers of clients' tokens (else 401).
        /// Off, the keys still make the internal key that signs the tokens of `:generateToken`, so
        /// `keys.primary` should be set to keep those good over a restart.
        access_keys: bool = true, ANY;
        /// Whether tokens of the issuers in `oidc.issuers` are taken for REST calls; off, they are answered 403.
        oidc: bool = true, ANY;
        /// Seconds over which clients are closed (1001) when the server is told to end, each core spreading its own
        /// evenly, so that they do not all come back at once; meanwhile new clients are answered 503. A few clients
        /// are closed faster, ten a second. 0 closes all at once. In production: a second for every thousand clients,
        /// and more than your load balancer takes to notice that `/readyz` says no; and let whatever ends the process
        /// by force wait for the sum of this, `limits.stop_deadline_seconds` and a few seconds.
        drain_seconds: u64 = 5, 0..=86_400;
        /// What is logged to standard error: `error`, `warn`, `info`, `debug`, `trace`, or per module.
        log: String = "info".to_owned(), ANY;
        /// How records of the log are written: lines to read, or a JSON object a line. Either way a record is one
        /// line, control characters are escaped, and a field has at most 1 KiB.
        log_format: LogFormat = LogFormat::Text, ANY;
    }
    checked by |server: &Self| match server.proxy_protocol {
        ProxyProtocol::V2 if server.trusted_proxies.is_empty() => Err(Unfit {
            key: "proxy_protocol",
            problem: "is on, but no proxy is trusted",
            fix: "List the proxies' networks in server.trusted_proxies.",
        }),
        _ => Ok(()),
    };
}

section! {
    /// Access keys. Tokens and REST calls signed with either are accepted, so that one can be changed while
    /// the other is in use. The text of a key is used as it is, not decoded.
    Keys in "keys" {
        /// The first key; `ringhub token` signs with it.
        primary: Option<Secret> = None, ANY, "a random one, made and printed at start";
        /// The second key.
        secondary: Option<Secret> = None, ANY, "none";
        /// A file with the first key, instead of `primary`; a line end after it is not part of it.
        primary_file: Option<PathBuf> = None, ANY, "none";
        /// A file with the second key, instead of `secondary`.
        secondary_file: Option<PathBuf> = None, ANY, "none";
    }
}

section! {
    /// What listeners with `https://` need. `ringhub cert` makes a certificate for development. A replaced
    /// certificate is for new connections; open ones go on as they are.
    Tls in "tls" {
        /// File of the certificate chain in PEM form, the server's own certificate first.
        certificate: Option<PathBuf> = None, ANY, "none; needed by `https://` listeners";
        /// File of the certificate's private key in PEM form.
        private_key: Option<PathBuf> = None, ANY, "none; needed by `https://` listeners";
        /// Whether clients are asked for certificates. None is ever required, and any issuer is believed: the
        /// certificate is for the application to judge.
        client_certificates: ClientCertificates = ClientCertificates::Ignore, ANY;
        /// The oldest version of TLS that is spoken.
        min_version: TlsVersion = TlsVersion::Tls12, ANY;
    }
}

choice! {
    /// What is done about certificates of clients.
    ClientCertificates {
        /// Nothing is asked.
        Ignore = "ignore",
        /// They are asked for; none is needed, any is taken.
        Request = "request",
    }
}

choice! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

choice! {
    /// How records of the log are written.
    LogFormat {
        /// Time, level, place, message, `name=value`.
        Text = "text",
        /// An object with `timestamp`, `level`, `target`, `message` and `fields`.
        Json = "json",
    }
}

choice! {
    /// What sockets of trusted proxies begin with.
    ProxyProtocol {
        /// What the client says.
        Off = "off",
        /// A header of version 2.
        V2 = "v2",
    }
}
