//! The definitions. A key is a field with its documentation, type, default and bounds, once.

use super::value::{Endpoint, Raw, Secret, Setting};
use crate::net::Address;
use ringhub_hub::CoreSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One key, as the reference page, the environment and messages see it.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its section: `server`, `keys`, `tls`, `limits`, `hubs.NAME`, `hubs.NAME.reliable`.
    pub(crate) section: &'static str,
    /// Its name there.
    pub(crate) name: &'static str,
    /// The documentation, one line each.
    pub(crate) about: &'static [&'static str],
    /// What the default is when it is not a constant.
    pub(crate) default_words: &'static str,
    /// The kind of value.
    pub(crate) kind: fn() -> String,
    /// The default, as TOML; empty if there is none.
    pub(crate) default: fn() -> String,
}

impl Key {
    /// Whether it belongs to a hub; such keys have no environment name.
    pub(crate) fn in_hub(&self) -> bool {
        self.section.starts_with("hubs.")
    }

    /// The variable that sets it.
    pub(crate) fn env_name(&self) -> String {
        let (prefix, suffix) = match self.section {
            "keys" => ("", "_KEY"),
            "tls" => ("TLS_", ""),
            _ => ("", ""),
        };
        format!("RINGHUB_{prefix}{}{suffix}", self.name.to_ascii_uppercase())
    }
}

/// What every section can do.
pub(crate) trait Section {
    /// Its keys, in the order of the page.
    const KEYS: &'static [Key];
    /// What it is about.
    const ABOUT: &'static [&'static str];
    /// Sets a key that exists; the error is what the value must be.
    fn set(&mut self, name: &str, raw: Raw<'_>) -> Result<(), String>;
    /// Its values as TOML; a key without a value is left out.
    fn show(&self) -> Vec<(&'static str, String)>;
}

/// Every key, in the order of the page.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    [Server::KEYS, Keys::KEYS, Tls::KEYS, Limits::KEYS, Hub::KEYS, Reliable::KEYS].into_iter().flatten()
}

/// Any length.
const ANY: RangeInclusive<u64> = 0..=u64::MAX;
/// Longest time a key can name, in seconds: a day.
const SECONDS: RangeInclusive<u64> = 1..=86_400;

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:ident in $path:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $range:expr $(, $words:literal)?; )+
        }
        $(with $sub:ident: $sub_kind:ty)?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $section {
            $( $(#[doc = $doc])+ pub(crate) $field: $kind, )+
            $( #[doc = "The sub-section."] pub(crate) $sub: $sub_kind, )?
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $field: $default, )+ $( $sub: <$sub_kind>::default(), )? }
            }
        }

        impl Section for $section {
            const KEYS: &'static [Key] = &[$( Key {
                section: $path,
                name: stringify!($field),
                about: &[$($doc),+],
                default_words: concat!($($words)?),
                kind: || <$kind as Setting>::kind(&$range),
                default: || { let default: $kind = $default; default.show() },
            } ),+];
            const ABOUT: &'static [&'static str] = &[$($about),+];

            fn set(&mut self, name: &str, raw: Raw<'_>) -> Result<(), String> {
                match name {
                    $( stringify!($field) => self.$field = Setting::read(raw, &$range)?, )+
                    _ => unreachable!("only known keys are set"),
                }
                Ok(())
            }

            fn show(&self) -> Vec<(&'static str, String)> {
                let all = [$( (stringify!($field), self.$field.show()) ),+];
                all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
            }
        }
    };
}

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
        /// request's own `Host`. Needed behind a proxy that changes the host.
        public_endpoints: Vec<Endpoint> = Vec::new(), ANY;
        /// Whether a token must name the hub and endpoint it is used on. Off is for development only: a
        /// token of one hub then opens every hub.
        audience_check: bool = true, ANY;
        /// What is logged to standard error: `error`, `warn`, `info`, `debug`, `trace`, or per module.
        log: String = "info".to_owned(), ANY;
    }
}

section! {
    /// Access keys. Tokens and REST calls signed with either are accepted, so that one can be changed while
    /// the other is in use. The text of a key is used as it is, not decoded.
    Keys in "keys" {
        /// The first key; `ringhub token` signs with it.
        primary: Option<Secret> = None, ANY, "a random one, made and printed at start";
        /// The second key.
        secondary: Option<Secret> = None, ANY, "none";
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

section! {
    /// Bounds of the whole server. Reaching one has the effect that is written here and is counted.
    Limits in "limits" {
        /// Connections of the whole server, shared out evenly among the cores; one more is refused.
        connections_max: u64 = 1_000_000, 1..=100_000_000;
        /// Hubs one core keeps; a connection or call that would make one more is answered 503.
        hubs_max: u64 = 1024, 1..=1_000_000;
        /// Bytes of one message from a client, after its fragments are joined; more closes with 1009.
        message_bytes_max: u64 = 1 << 20, 125..=(1 << 30);
        /// Frames one message may come in; more closes with 1008.
        message_fragments_max: u64 = 16_384, 1..=1_000_000;
        /// Bytes of a REST call's body; more is answered 400.
        rest_body_bytes_max: u64 = 1 << 20, 1..=(1 << 30);
        /// Bytes of a request line with its headers; more is answered 431.
        request_head_bytes_max: u64 = 16 << 10, 1024..=(1 << 20);
        /// Seconds a new socket has to send a whole request head.
        head_deadline_seconds: u64 = 10, SECONDS;
        /// Seconds a kept-alive HTTP connection may rest between requests.
        http_idle_seconds: u64 = 60, SECONDS;
        /// Unsent bytes kept for a plain client that reads too slowly; more closes with 1008. Shared
        /// buffers count once for each client that waits for them.
        outbox_bytes_max: u64 = 1 << 20, (64 << 10)..=(1 << 30);
        /// Bytes of acks and pongs kept for a reliable client that does not take them; more ends its socket.
        control_bytes_max: u64 = 64 << 10, 4096..=(16 << 20);
        /// Groups one connection can be in; joining one more is refused.
        groups_per_connection_max: u64 = 10_000, 1..=1_000_000;
        /// Successful ack ids remembered per connection, to answer repetitions; the oldest is forgotten.
        ack_ids_max: u64 = 1_000, 1..=1_000_000;
        /// Groups a connection's roles can name literally, per action; more are ignored.
        permission_literals_max: u64 = 1_000, 1..=100_000;
        /// Wildcard patterns among a connection's roles, per action; more are ignored.
        permission_patterns_max: u64 = 10, 1..=1_000;
        /// Pings a client may leave unanswered before it is closed.
        missed_pings_max: u64 = 2, 1..=100;
        /// Seconds a client has to answer the server's close frame before its socket is shut.
        close_deadline_seconds: u64 = 5, SECONDS;
        /// Seconds a graceful stop may take; then what is left is cut.
        stop_deadline_seconds: u64 = 10, SECONDS;
        /// Seconds by which the clocks of token makers may differ from this one.
        clock_skew_seconds: u64 = 300, 0..=3600;
        /// Rows of the admin listener's `/connections` and `/closed`, per core.
        admin_rows_max: u64 = 1_000, 1..=100_000;
    }
}

section! {
    /// One section for each hub that differs from the defaults; a hub with no section exists with these.
    Hub in "hubs.NAME" {
        /// Whether clients without a token may connect (with no user, roles or groups).
        anonymous_connect_policy: AnonymousPolicy = AnonymousPolicy::Deny, ANY;
        /// Seconds between WebSocket pings to a client.
        websocket_keepalive_seconds: u64 = 20, 1..=120;
    }
    with reliable: Reliable
}

section! {
    /// What a reliable client of the hub can rely on.
    Reliable in "hubs.NAME.reliable" {
        /// Seconds a session waits for its client after the socket is lost; then it ends.
        recovery_window_seconds: u64 = 30, 1..=3600;
        /// Seconds of slack added before a session really ends.
        recovery_grace_seconds: u64 = 2, 0..=3600;
        /// Unacknowledged messages kept for a session; one more closes it with 1008. Clients acknowledge
        /// about once a second, so this is also a bound on messages a second.
        buffer_messages: u64 = 10_000, 1..=10_000_000;
        /// Their bytes; more closes with 1008.
        buffer_bytes: u64 = 16 << 20, 1024..=(4 << 30);
    }
}

/// A key whose values are a few words.
macro_rules! words {
    ($(#[doc = $about:literal])+ $kind:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $kind { $( $(#[doc = $doc])+ $variant, )+ }

        impl Setting for $kind {
            fn kind(_: &RangeInclusive<u64>) -> String {
                [$(concat!("`\"", $word, "\"`")),+].join(" or ")
            }

            fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
                match String::read(raw, &ANY).as_deref() {
                    $( Ok($word) => Ok(Self::$variant), )+
                    _ => Err(format!("must be {}", [$(concat!("\"", $word, "\"")),+].join(" or "))),
                }
            }

            fn show(&self) -> String {
                match self { $( Self::$variant => concat!("\"", $word, "\"").into(), )+ }
            }
        }
    };
}

words! {
    /// Whether clients without a token may connect.
    AnonymousPolicy {
        /// They may, with no user, roles or groups.
        Allow = "allow",
        /// They get 401.
        Deny = "deny",
    }
}

words! {
    /// What is done about certificates of clients.
    ClientCertificates {
        /// Nothing is asked.
        Ignore = "ignore",
        /// They are asked for; none is needed, any is taken.
        Request = "request",
    }
}

words! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}
