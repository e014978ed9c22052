//! Event handlers: where they are and how they are asked (`event-handlers` §2–5).

use hashbrown::HashMap;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use ringhub_protocol::events::{Subject, UrlTemplate};
use ringhub_protocol::name::HubName;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::StartError;
use crate::breaker::Breaker;
use crate::client::Client;
use crate::gate::Gate;
use crate::https::{self, Https};
use crate::report::{Record, UpstreamReport};
use crate::seldom::Seldom;
use crate::token::{Grant, Tokens};
use crate::validation::Validations;

/// One handler, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Whose.
    pub hub: HubName,
    /// Its place among the hub's handlers, from 0.
    pub place: usize,
    /// Where it is.
    pub template: UrlTemplate,
    /// How it knows that it is us.
    pub auth: HandlerAuth,
    /// Whether it has to say first that it wants events of us (§2).
    pub validate: bool,
    /// Which HTTP it is spoken to.
    pub http: HttpVersion,
    /// For a user event and for an event nobody waits for: until the answer is there, over all attempts.
    pub timeout: Duration,
    /// The same for `connect`.
    pub connect_timeout: Duration,
    /// Waits before the second, third and later attempt.
    pub retry_delays: Vec<Duration>,
    /// Largest answer, in bytes.
    pub answer_bytes_max: usize,
    /// Requests at a time.
    pub concurrency_max: usize,
    /// Events that may wait for one of these places; one more fails at once.
    pub queue_max: usize,
    /// Their bytes; more fail at once.
    pub queue_bytes_max: usize,
    /// Events in a row that must fail for good until it is given a rest; 0 for never.
    pub breaker_failures: u32,
    /// Authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether a client that is refused gets the handler's body.
    pub forward_refusals: bool,
    /// Whether the inspector keeps bodies (the first 4 KiB of each).
    pub inspect_bodies: bool,
}

/// How a handler knows that it is us. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum HandlerAuth {
    /// By the signature alone.
    None,
    /// By a header with a secret.
    Header {
        /// Its name.
        name: String,
        /// The secret.
        value: String,
    },
    /// By a bearer token that an OIDC token endpoint gives us (RFC 6749 §4.4).
    ClientCredentials {
        /// The endpoint.
        token_url: String,
        /// Who we are there.
        client_id: String,
        /// The secret.
        client_secret: String,
        /// `scope`, if it is to be asked for.
        scope: Option<String>,
        /// `resource` (RFC 8707), if it is to be asked for.
        resource: Option<String>,
    },
}

impl HandlerAuth {
    /// Whether a name is one of a header that can carry a secret: neither HTTP's own nor one that events have (§3).
    pub fn is_free_header(name: &str) -> bool {
        const TAKEN: [&str; 14] = [
            "accept",
            "connection",
            "cookie",
            "date",
            "expect",
            "host",
            "http2-settings",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "user-agent",
            "x-ms-client-request-id",
        ];
        const TAKEN_PREFIXES: [&str; 5] = ["ce-", "content-", "proxy-", "webhook-", "x-webpubsub-"];
        HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| {
            !TAKEN.contains(&name.as_str())
                && !TAKEN_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
        })
    }
}

impl std::fmt::Debug for HandlerAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Header { .. } => "Header",
            Self::ClientCredentials { .. } => "ClientCredentials",
        })
    }
}

/// Which HTTP a handler is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// `https://`: HTTP/2 if it offers it, else 1.1. `http://`: 1.1.
    Auto,
    /// 1.1.
    Http1,
    /// HTTP/2, over `http://` without asking first (prior knowledge).
    Http2,
}

/// A handler: its pool, its state, what is known of its last calls. Behind [`ringhub_hub::event::Target`].
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    pub(crate) client: Client,
    pub(crate) gate: Arc<Gate>,
    pub(crate) breaker: Breaker,
    pub(crate) validations: Validations,
    pub(crate) authorization: Authorization,
    pub(crate) record: Record,
    /// Records of failures in the log.
    pub(crate) failures: Seldom,
    uris: Uris,
}

/// How requests are authorized.
#[derive(Debug)]
pub(crate) enum Authorization {
    None,
    Header(HeaderName, HeaderValue),
    Bearer(Tokens),
}

impl Upstream {
    /// A handler nobody has talked to yet.
    ///
    /// # Errors
    /// A file of authorities that cannot be used, or a setting that cannot be followed.
    pub fn new(settings: UpstreamSettings) -> Result<Arc<Self>, StartError> {
        let uris = Uris::new(settings.hub.as_str(), &settings.template)?;
        let validate = uris.get(Subject::User("validate"));
        Ok(Arc::new(Self {
            client: Client::new(&settings, &validate)?,
            gate: Gate::new(settings.concurrency_max, settings.queue_max, settings.queue_bytes_max),
            breaker: Breaker::new(settings.breaker_failures),
            validations: Validations::new(validate),
            authorization: Authorization::new(&settings)?,
            record: Record::default(),
            failures: Seldom::default(),
            uris,
            settings,
        }))
    }

    /// As configured.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// What is known of it at this moment.
    pub fn report(&self) -> UpstreamReport {
        UpstreamReport {
            hub: self.settings.hub.as_str().to_owned(),
            place: self.settings.place,
            url: self.settings.template.shown(),
            breaker: self.breaker.state(),
            in_flight: self.gate.in_flight(),
            queued: self.gate.waiting(),
            queued_bytes: self.gate.waiting_bytes(),
            idle_connections: self.client.idle(),
            origins: self.validations.origins(),
            events: self.record.events(),
            attempts: self.record.attempts(),
            retries: self.record.retries(),
            latency: self.record.latency(),
            calls: self.record.calls(),
        }
    }

    /// Where an event is sent.
    pub(crate) fn uri(&self, subject: Subject<'_>) -> Uri {
        self.uris.get(subject)
    }
}

impl Authorization {
    fn new(settings: &UpstreamSettings) -> Result<Self, StartError> {
        let fault = |problem: &str| StartError::Handler {
            handler: settings.template.shown(),
            problem: problem.to_owned(),
        };
        match &settings.auth {
            HandlerAuth::None => Ok(Self::None),
            HandlerAuth::Header { name, value } => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| fault("the name of its header is not one"))?;
                if !HandlerAuth::is_free_header(name.as_str()) {
                    return Err(fault("the name of its header is one that requests have anyway"));
                }
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| fault("the value of its header cannot stand in a header"))?;
                value.set_sensitive(true);
                Ok(Self::Header(name, value))
            }
            HandlerAuth::ClientCredentials { token_url, client_id, client_secret, scope, resource } => {
                if !https::is_allowed(token_url) {
                    return Err(fault("its token URL is neither https:// nor http:// on loopback"));
                }
                let https = Https::new(https::system_roots(), settings.ca_file.as_deref())?;
                let (scope, resource) = (scope.as_deref(), resource.as_deref());
                Ok(Self::Bearer(Tokens::new(
                    https,
                    &Grant { token_url, client_id, client_secret, scope, resource },
                )))
            }
        }
    }
}

/// The URLs of one handler, as they are asked for.
#[derive(Debug)]
struct Uris {
    hub: Box<str>,
    template: UrlTemplate,
    /// There if the event is not in it.
    only: Option<Uri>,
    by_event: Mutex<HashMap<Box<str>, Uri, foldhash::fast::RandomState>>,
}

/// URLs of one handler that are kept; those of further events are made anew each time.
const URIS_MAX: usize = 256;

impl Uris {
    fn new(hub: &str, template: &UrlTemplate) -> Result<Self, StartError> {
        let fault = || StartError::Handler {
            handler: template.shown(),
            problem: "only http:// and https:// URLs are served".to_owned(),
        };
        let (one, other) = (template.expand(hub, "a"), template.expand(hub, "b"));
        let uri: Uri = one.parse().map_err(|_| fault())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(fault());
        }
        let only = (one == other).then_some(uri);
        Ok(Self { hub: hub.into(), template: template.clone(), only, by_event: Mutex::default() })
    }

    fn get(&self, subject: Subject<'_>) -> Uri {
        if let Some(uri) = &self.only {
            return uri.clone();
        }
        let event = subject.name();
        let mut uris = self.by_event.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uri) = uris.get(event) {
            return uri.clone();
        }
        let uri: Uri = self.template.expand(&self.hub, event).parse().expect("a template gives legal URLs");
        if uris.len() < URIS_MAX {
            uris.insert(event.into(), uri.clone());
        }
        uri
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings(template: UrlTemplate) -> UpstreamSettings {
        UpstreamSettings {
            hub: HubName::parse("chat").unwrap(),
            place: 0,
            template,
            auth: HandlerAuth::None,
            validate: false,
            http: HttpVersion::Auto,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            retry_delays: Vec::new(),
            answer_bytes_max: 1,
            concurrency_max: 1,
            queue_max: 1,
            queue_bytes_max: 1,
            breaker_failures: 1,
            ca_file: None,
            forward_refusals: true,
            inspect_bodies: false,
        }
    }

    fn template(text: &str) -> UrlTemplate {
        UrlTemplate::parse(text, &mut |_| Ok("s3cret".to_owned())).unwrap()
    }

    #[test]
    fn urls_are_kept_up_to_a_bound_and_right_beyond_it() {
        let uris = Uris::new("chat", &template("http://a.example/{hub}/{event}?code={env:CODE}")).unwrap();
        for n in 0..URIS_MAX + 10 {
            let event = format!("e{n}");
            for _ in 0..2 {
                let uri = uris.get(Subject::User(&event));
                assert_eq!(uri, *format!("http://a.example/chat/{event}?code=s3cret"));
            }
        }
        assert_eq!(uris.by_event.lock().unwrap().len(), URIS_MAX);
        let one = Uris::new("chat", &template("http://a.example/all")).unwrap();
        assert_eq!(
            (one.get(Subject::Connect), one.by_event.lock().unwrap().len()),
            ("http://a.example/all".parse().unwrap(), 0)
        );
    }

    #[test]
    fn what_cannot_be_followed_is_said_without_secrets() {
        let with =
            |auth| UpstreamSettings { auth, ..settings(template("http://a.example/?code={env:CODE}")) };
        let header =
            |name: &str, value: &str| HandlerAuth::Header { name: name.to_owned(), value: value.to_owned() };
        let token = |url: &str| HandlerAuth::ClientCredentials {
            token_url: url.to_owned(),
            client_id: "a".to_owned(),
            client_secret: "s3cret".to_owned(),
            scope: None,
            resource: None,
        };
        for (auth, problem) in [
            (header("a b", "s3cret"), "the name of its header is not one"),
            (
                header("Transfer-Encoding", "s3cret"),
                "the name of its header is one that requests have anyway",
            ),
            (header("ce-id", "s3cret"), "the name of its header is one that requests have anyway"),
            (header("a", "s3cret\n"), "the value of its header cannot stand in a header"),
            (token("http://login.example/"), "its token URL is neither https:// nor http:// on loopback"),
        ] {
            let error = Upstream::new(with(auth)).unwrap_err().to_string();
            assert_eq!(error, format!("http://a.example/?code=…: {problem}"));
        }
        let missing = UpstreamSettings {
            ca_file: Some("/nowhere/at/all.pem".into()),
            ..settings(template("https://a.example/"))
        };
        assert!(Upstream::new(missing).unwrap_err().to_string().starts_with("/nowhere/at/all.pem: "));
    }
}
