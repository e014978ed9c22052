//! The definitions. A key is a field with its documentation, type, default and bounds, once.

use super::value::{Endpoint, Raw, Secret, Setting};
use crate::net::Address;
use ipnet::IpNet;
use ringhub_hub::CoreSet;
use ringhub_protocol::auth::issued::ClaimRule;
use ringhub_protocol::origin::OriginPattern;
use ringhub_relay::oidc::IssuerSettings;
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
    /// Whether a variable can set it: not if there can be several of its section.
    pub(crate) fn has_env(&self) -> bool {
        !self.section.contains('.')
    }

    /// The variable that sets it.
    pub(crate) fn env_name(&self) -> String {
        let name = self.name.to_ascii_uppercase();
        match (self.section, name.strip_suffix("_FILE")) {
            ("keys", Some(key)) => format!("RINGHUB_{key}_KEY_FILE"),
            ("keys", None) => format!("RINGHUB_{name}_KEY"),
            ("tls", _) => format!("RINGHUB_TLS_{name}"),
            _ => format!("RINGHUB_{name}"),
        }
    }
}

/// What there is to know of a kind of section before there is one.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its name in full, as the reference page has it.
    pub(crate) path: &'static str,
    /// What it is about.
    pub(crate) about: &'static [&'static str],
    /// Its keys, in the order of the page.
    pub(crate) keys: &'static [Key],
    /// The tables in it and its lists of tables, in the order of the page.
    pub(crate) subs: &'static [Sub],
}

/// A table in a section, or a list of them.
#[derive(Debug)]
pub(crate) struct Sub {
    /// Its name there.
    pub(crate) name: &'static str,
    /// What it, or each entry, is.
    pub(crate) shape: &'static Shape,
    /// Most entries of a list (`[[section.name]]`, in order); `None` for a table.
    pub(crate) entries_max: Option<usize>,
}

impl Shape {
    /// This and everything in it, each with whether it is a list's entry and most of them, in the order of the page.
    pub(crate) fn tree(&'static self, entries_max: Option<usize>) -> Vec<(&'static Self, Option<usize>)> {
        let below = self.subs.iter().flat_map(|sub| sub.shape.tree(sub.entries_max));
        std::iter::once((self, entries_max)).chain(below).collect()
    }
}

/// What every section can do.
pub(crate) trait Section {
    /// What kind it is.
    fn shape(&self) -> &'static Shape;
    /// Sets a key that exists; the error is what the value must be.
    fn set(&mut self, name: &str, raw: Raw<'_>) -> Result<(), String>;
    /// Its values as TOML; a key without a value is left out.
    fn show(&self) -> Vec<(&'static str, String)>;
    /// The same with secrets as they are, to see whether they changed; nobody is to show it.
    fn reveal(&self) -> Vec<(&'static str, String)>;
    /// The files that its keys name.
    fn files(&self) -> Vec<PathBuf>;
    /// The table of that name, or a new entry at the end of the list of that name.
    ///
    /// # Panics
    /// If there is no such table or list.
    fn sub_mut(&mut self, name: &str) -> &mut dyn Section;
    /// The table of that name alone, or the entries of the list of that name.
    ///
    /// # Panics
    /// If there is no such table or list.
    fn subs(&self, name: &str) -> Vec<&dyn Section>;
    /// What is wrong with it as a whole, once all its keys are read.
    fn check(&self) -> Result<(), Unfit>;
}

/// Values that are legal one by one and not together.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// The key to look at, by its name in the section.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) problem: &'static str,
    /// What to do, a sentence.
    pub(crate) fix: &'static str,
}

/// The kinds of sections at the top, but for hubs, which have names of their own.
pub(crate) const TOP: [&Shape; 6] =
    [&Server::SHAPE, &Keys::SHAPE, &Tls::SHAPE, &Oidc::SHAPE, &Limits::SHAPE, &Firewall::SHAPE];

/// Every kind of section with, for a list's entry, most of them; in the order of the page.
pub(crate) fn shapes() -> impl Iterator<Item = (&'static Shape, Option<usize>)> {
    TOP.into_iter().chain([&Hub::SHAPE]).flat_map(|shape| shape.tree(None))
}

/// Keys and sections, by their full names, of which a change needs a restart: what cores and the
/// side thread are built with.
pub(crate) const RESTART: [&str; 5] =
    ["server.listen", "server.admin_listen", "server.cores", "server.oidc", "oidc"];

/// Every key, in the order of the page.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    shapes().flat_map(|(shape, _)| shape.keys)
}

/// Any length.
const ANY: RangeInclusive<u64> = 0..=u64::MAX;
/// Longest time a key can name, in seconds: a day.
const SECONDS: RangeInclusive<u64> = 1..=86_400;

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:ident in $path:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $range:expr $(, $words:literal)?; )*
        }
        $(tables { $( $table:ident: $table_kind:ty; )+ })?
        $(lists { $( $list:ident: $entry:ty, $entries_max:expr; )+ })?
        $(checked by $check:expr;)?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $section {
            $( $(#[doc = $doc])+ pub(crate) $field: $kind, )*
            $( $( #[doc = "A table."] pub(crate) $table: $table_kind, )+ )?
            $( $( #[doc = "A list of tables."] pub(crate) $list: Vec<$entry>, )+ )?
        }

        impl $section {
            /// What kind of section it is.
            pub(crate) const SHAPE: Shape = Shape {
                path: $path,
                about: &[$($about),+],
                keys: &[$( Key {
                    section: $path,
                    name: stringify!($field),
                    about: &[$($doc),+],
                    default_words: concat!($($words)?),
                    kind: || <$kind as Setting>::kind(&$range),
                    default: || { let default: $kind = $default; default.show() },
                } ),*],
                subs: &[
                    $( $( Sub {
                        name: stringify!($table),
                        shape: &<$table_kind>::SHAPE,
                        entries_max: None,
                    }, )+ )?
                    $( $( Sub {
                        name: stringify!($list),
                        shape: &<$entry>::SHAPE,
                        entries_max: Some($entries_max),
                    }, )+ )?
                ],
            };
        }

        impl Default for $section {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $( $( $table: Default::default(), )+ )?
                    $( $( $list: Vec::new(), )+ )?
                }
            }
        }

        impl Section for $section {
            fn shape(&self) -> &'static Shape {
                &Self::SHAPE
            }

            #[allow(unused_variables, reason = "a section may have no keys")]
            fn set(&mut self, name: &str, raw: Raw<'_>) -> Result<(), String> {
                match name {
                    $( stringify!($field) => self.$field = Setting::read(raw, &$range)?, )*
                    _ => unreachable!("only known keys are set"),
                }
                #[allow(unreachable_code, reason = "a section may have no keys")]
                Ok(())
            }

            fn show(&self) -> Vec<(&'static str, String)> {
                let all = [$( (stringify!($field), self.$field.show()) ),*];
                all.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect()
            }

            fn reveal(&self) -> Vec<(&'static str, String)> {
                let all = [$( (stringify!($field), self.$field.reveal()) ),*];
                all.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect()
            }

            fn files(&self) -> Vec<PathBuf> {
                let all: Vec<Option<PathBuf>> = vec![$( self.$field.file() ),*];
                all.into_iter().flatten().collect()
            }

            fn sub_mut(&mut self, name: &str) -> &mut dyn Section {
                match name {
                    $( $( stringify!($table) => &mut self.$table, )+ )?
                    $( $( stringify!($list) => {
                        self.$list.push(Default::default());
                        self.$list.last_mut().expect("an entry was just added")
                    } )+ )?
                    _ => unreachable!("only known tables are read"),
                }
            }

            fn subs(&self, name: &str) -> Vec<&dyn Section> {
                match name {
                    $( $( stringify!($table) => vec![&self.$table], )+ )?
                    $( $( stringify!($list) => self.$list.iter().map(|entry| entry as &dyn Section).collect(), )+ )?
                    _ => unreachable!("only known tables are shown"),
                }
            }

            fn check(&self) -> Result<(), Unfit> {
                $( return ($check)(self); )?
                #[allow(unreachable_code, reason = "most sections have nothing to check as a whole")]
                Ok(())
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
        /// request's own `Host`. Needed behind a proxy that changes the host, or puts a path in front.
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
        /// What is logged to standard error: `error`, `warn`, `info`, `debug`, `trace`, or per module.
        log: String = "info".to_owned(), ANY;
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

section! {
    /// Issuers of bearer tokens for REST calls, beside access keys. Their tokens never open a client
    /// connection; their holders ask `:generateToken` for one that does.
    Oidc in "oidc" {}
    lists {
        issuers: Issuer, 16;
    }
}

section! {
    /// One OpenID Connect issuer. Its tokens must be signed with RS256 or ES256 by a key it publishes, name it
    /// as `iss`, be for one of the audiences and fit a rule. A rule is `claim=value`; the claim may be text, a
    /// list of texts, or words (`scp`, `scope`), and case counts. Who fits no rule is answered 403.
    Issuer in "oidc.issuers" {
        /// Its identifier, letter for letter as `iss` has it. The discovery document is fetched from below it.
        /// `https://`, or `http://` on loopback.
        url: Option<String> = None, 1..=1024, "none; it must be given";
        /// Audiences its tokens may be for, each with or without a slash at the end.
        audiences: Vec<String> = vec!["https://webpubsub.azure.com".to_owned()], 1..=16;
        /// Rules for who may make every call, such as `["roles=WebPubSubServiceOwner", "sub=8f3a"]`.
        owner: Vec<String> = Vec::new(), 0..=64;
        /// Rules for who may make calls that only read (GET and HEAD).
        reader: Vec<String> = Vec::new(), 0..=64;
        /// Certificate authorities (PEM) that are trusted for this issuer besides the system's. Read at the start.
        ca_file: Option<PathBuf> = None, ANY, "none";
        /// Seconds between fetches of its keys, less up to a tenth. A token with an unknown key starts one at
        /// once, but not within 10 seconds of another that was started so. After a failure the next is tried
        /// after 1 second, then 2, up to 60.
        refresh_seconds: u64 = 3600, SECONDS;
        /// Seconds for which fetched keys are used when newer ones cannot be fetched; then its tokens are
        /// answered 503.
        keys_age_max_seconds: u64 = 86_400, 1..=(30 * 86_400);
    }
    checked by issuer_is_fit;
}

fn issuer_is_fit(issuer: &Issuer) -> Result<(), Unfit> {
    let unfit = |key, problem, fix| Err(Unfit { key, problem, fix });
    let bad_rule = |rules: &[String]| rules.iter().any(|rule| ClaimRule::parse(rule).is_none());
    match issuer.url.as_deref() {
        None => unfit("url", "is missing", "Name the issuer, such as url = \"https://login.example.com\"."),
        Some(url) if !IssuerSettings::is_legal_url(url) => unfit(
            "url",
            "must be an https:// URL without query, or an http:// one on loopback",
            "Copy it from the discovery document's issuer.",
        ),
        Some(_) if bad_rule(&issuer.owner) => unfit("owner", BAD_RULE, RULE_FIX),
        Some(_) if bad_rule(&issuer.reader) => unfit("reader", BAD_RULE, RULE_FIX),
        Some(_) if issuer.owner.is_empty() && issuer.reader.is_empty() => {
            unfit("owner", "there is no rule, so nobody could do anything", RULE_FIX)
        }
        Some(_) => Ok(()),
    }
}

const BAD_RULE: &str = "a rule must be claim=value";
const RULE_FIX: &str = "Say who has the role, such as owner = [\"roles=WebPubSubServiceOwner\"].";

section! {
    /// Bounds of the whole server. Reaching one has the effect that is written here and is counted.
    Limits in "limits" {
        /// Connections of the whole server, shared out evenly among the cores; one more is refused.
        connections_max: u64 = 1_000_000, 1..=100_000_000;
        /// Hubs one core keeps. A connection that would make one more is answered 503, a REST call 429.
        hubs_max: u64 = 1024, 1..=1_000_000;
        /// Bytes of one message from a client, after its fragments are joined; more closes with 1009.
        message_bytes_max: u64 = 1 << 20, 125..=(1 << 30);
        /// Frames one message may come in; more closes with 1008.
        message_fragments_max: u64 = 16_384, 1..=1_000_000;
        /// Bytes of a REST call's body; more is answered 400.
        rest_body_bytes_max: u64 = 1 << 20, 1..=(1 << 30);
        /// Compiled filters each core keeps; the one not used for the longest makes room.
        filters_max: u64 = 256, 0..=100_000;
        /// REST calls a second, shared out evenly among the cores; more are answered 429. 0 for no bound.
        rest_calls_per_second_max: u64 = 0, 0..=10_000_000;
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
        /// Origins of web pages whose browsers may connect, such as `https://app.example.com`, or
        /// `https://*.example.com` for every host below; others get 403. Without any, every page may. Clients that
        /// are no browsers name no origin and are not asked.
        allowed_origins: Vec<OriginPattern> = Vec::new(), 0..=100;
        /// Connections of the hub over all cores, reliable sessions without a socket included; one more is answered
        /// 429. 0 for no bound of its own.
        connections_max: u64 = 0, 0..=100_000_000;
        /// Seconds a connection may last; then it is closed and the client has to connect anew. 0 for no bound.
        connection_lifetime_seconds: u64 = 0, 0..=604_800;
    }
    tables {
        reliable: Reliable;
    }
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

section! {
    /// Rules about whole clients, over all hubs and cores.
    Firewall in "firewall" {}
    lists {
        connection_count_rules: ConnectionCountRule, 10;
        traffic_rules: TrafficRule, 10;
    }
}

section! {
    /// How many connections may share one user, token or claim. Rules are asked in order; the first one that is
    /// broken refuses the handshake with 429. A rule does not count clients that have no such thing.
    ConnectionCountRule in "firewall.connection_count_rules" {
        /// What is counted by: the token's user, its signature (one token is one client), or the value of a claim.
        kind: CountBy = CountBy::User, ANY;
        /// The claim's name, with `kind = "claim"`.
        claim: Option<String> = None, 1..=256, "none";
        /// Connections that may share it; a reliable client that lost its socket counts until it ends.
        max_count: u64 = 20, 1..=1_000_000;
    }
    checked by |rule: &Self| claim_fits(rule.kind, rule.claim.as_ref());
}

section! {
    /// How much clients that share one user, token or claim may send. Who sends more in a window is closed with
    /// 1008.
    TrafficRule in "firewall.traffic_rules" {
        /// What is counted by: the token's user, its signature (one token is one client), or the value of a claim.
        kind: CountBy = CountBy::User, ANY;
        /// The claim's name, with `kind = "claim"`.
        claim: Option<String> = None, 1..=256, "none";
        /// Bytes they may send in a window, headers of frames included.
        max_inbound_bytes: u64 = 1 << 30, 1..=(1 << 39);
        /// Length of a window in seconds.
        window_seconds: u64 = 60, 10..=3600;
    }
    checked by |rule: &Self| claim_fits(rule.kind, rule.claim.as_ref());
}

fn claim_fits(kind: CountBy, claim: Option<&String>) -> Result<(), Unfit> {
    match (kind, claim) {
        (CountBy::Claim, None) => Err(Unfit {
            key: "claim",
            problem: "is missing",
            fix: "Name the claim to count by, such as claim = \"tenant\".",
        }),
        (CountBy::User | CountBy::Signature, Some(_)) => Err(Unfit {
            key: "claim",
            problem: "goes with kind = \"claim\" only",
            fix: "Remove it, or set kind = \"claim\".",
        }),
        _ => Ok(()),
    }
}

/// A key whose value is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        $choice:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $choice { $( $(#[doc = $doc])+ $variant, )+ }

        impl Setting for $choice {
            fn kind(_: &RangeInclusive<u64>) -> String {
                [$( concat!("`\"", $word, "\"`") ),+].join(" or ")
            }

            fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
                match String::read(raw, &ANY).as_deref() {
                    $( Ok($word) => Ok(Self::$variant), )+
                    _ => Err(["must be ", &[$( concat!("\"", $word, "\"") ),+].join(" or ")].concat()),
                }
            }

            fn show(&self) -> String {
                match self {
                    $( Self::$variant => concat!("\"", $word, "\"").into(), )+
                }
            }
        }
    };
}

choice! {
    /// Whether clients without a token may connect.
    AnonymousPolicy {
        /// They may, with no user, roles or groups.
        Allow = "allow",
        /// They get 401.
        Deny = "deny",
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
    /// What sockets of trusted proxies begin with.
    ProxyProtocol {
        /// What the client says.
        Off = "off",
        /// A header of version 2.
        V2 = "v2",
    }
}

choice! {
    /// What a rule counts by.
    CountBy {
        /// The user.
        User = "user",
        /// The token: clients that show the same one share its signature.
        Signature = "signature",
        /// The value of a claim of the token.
        Claim = "claim",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_checked_as_a_whole() {
        let issuer = |url: &str, owner: &[&str]| Issuer {
            url: (!url.is_empty()).then(|| url.to_owned()),
            owner: owner.iter().map(|&rule| rule.to_owned()).collect(),
            ..Issuer::default()
        };
        for (issuer, key) in [
            (issuer("https://login.example.com/tenant/v2.0", &["roles=Owner"]), ""),
            (issuer("http://127.0.0.1:9000", &["sub=a=b", "scp=x"]), ""),
            (issuer("", &["roles=Owner"]), "url"),
            (issuer("http://login.example.com", &["roles=Owner"]), "url"),
            (issuer("https://login.example.com/?tenant=1", &["roles=Owner"]), "url"),
            (issuer("login.example.com", &["roles=Owner"]), "url"),
            (issuer("https://login.example.com", &[]), "owner"),
            (issuer("https://login.example.com", &["roles:Owner"]), "owner"),
            (issuer("https://login.example.com", &["roles="]), "owner"),
        ] {
            assert_eq!(issuer_is_fit(&issuer).err().map_or("", |unfit| unfit.key), key, "{issuer:?}");
        }
        let reader = Issuer { reader: vec!["x".to_owned()], ..issuer("https://a", &["sub=b"]) };
        assert_eq!(issuer_is_fit(&reader).unwrap_err().key, "reader");
    }
}
