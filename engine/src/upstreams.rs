//! Event handlers and event listeners: from the configuration to the hubs that ask by them, and to who looks at them.
//!
//! What must stay true: one whose settings a reload leaves alone stays the same, so that its connections, its breaker,
//! its counts and its last calls live on; one that changed begins anew. What cannot be built changes nothing.

use crate::config::{Auth, AuthKind, Config, EventHandler, EventListener, OnUserEventFailure, hub_path};
use crate::server::{bytes, small};
use arc_swap::ArcSwap;
use ringhub_hub::event::{Route, Routes};
use ringhub_protocol::events::{EventFilter, Presence};
use ringhub_protocol::name::HubName;
use ringhub_relay::listener::{Listener, ListenerReport, ListenerSettings};
use ringhub_relay::report::UpstreamReport;
use ringhub_relay::upstream::{HandlerAuth, Upstream, UpstreamSettings};
use ringhub_relay::{BreakerState, StartError};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Those in use, shared by everybody.
#[derive(Default)]
pub(crate) struct Upstreams {
    current: ArcSwap<Built>,
}

/// Those of one configuration.
#[derive(Default)]
pub(crate) struct Built {
    handlers: Vec<Handler>,
    listeners: Vec<Arc<Listener>>,
    routes: HashMap<HubName, Arc<Routes>>,
}

/// A handler, what it was built from besides its settings, and what it wants.
struct Handler {
    upstream: Arc<Upstream>,
    /// What stood in its `ca_file`.
    authorities: Option<Vec<u8>>,
    wants: EventFilter,
}

/// Everything there is to see of them at one moment.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// By hub and place.
    pub(crate) handlers: Vec<HandlerView>,
    /// By hub and place.
    pub(crate) listeners: Vec<ListenerReport>,
}

/// What there is to see of a handler.
#[derive(Debug)]
pub(crate) struct HandlerView {
    /// As configured; its `Debug` shows no secret.
    pub(crate) settings: UpstreamSettings,
    /// The events it wants.
    pub(crate) wants: EventFilter,
    /// What became of them.
    pub(crate) report: UpstreamReport,
}

impl Upstreams {
    /// Builds those of `config`, taking over what it leaves alone; nothing changes yet.
    ///
    /// # Errors
    ///
    /// For the operator, when one cannot be built.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Built, String> {
        let current = self.current.load();
        let mut built = Built::default();
        for (hub, section) in config.hubs() {
            let mut routes = Routes {
                origin: origin(config),
                close_on_failure: section.on_user_event_failure == OnUserEventFailure::Close,
                ..Routes::default()
            };
            for (place, handler) in section.event_handlers.iter().enumerate() {
                let handler = current.handler(filter(handler), handler_settings(hub, place, handler))?;
                routes
                    .handlers
                    .push(Route { filter: handler.wants.clone(), target: handler.upstream.clone() });
                built.handlers.push(handler);
            }
            for (place, listener) in section.event_listeners.iter().enumerate() {
                let filter = EventFilter {
                    system: listener.system_events,
                    user: listener.user_event_pattern.clone(),
                    ..EventFilter::default()
                };
                let listener = current.listener(listener_settings(hub, place, listener))?;
                routes.listeners.push(Route { filter, target: listener.clone() });
                built.listeners.push(listener);
            }
            if !routes.handlers.is_empty() || !routes.listeners.is_empty() {
                built.routes.insert(hub.clone(), Arc::new(routes));
            }
        }
        Ok(built)
    }

    /// From now on these are in use.
    pub(crate) fn commit(&self, built: Built) {
        self.current.store(Arc::new(built));
    }

    /// What there is to see of them now.
    pub(crate) fn views(&self) -> Views {
        let current = self.current.load();
        let view = |Handler { upstream, wants, .. }: &Handler| HandlerView {
            settings: upstream.settings().clone(),
            wants: wants.clone(),
            report: upstream.report(),
        };
        Views {
            handlers: current.handlers.iter().map(view).collect(),
            listeners: current.listeners.iter().map(|listener| listener.report()).collect(),
        }
    }
}

impl Built {
    /// Who wants to hear what of a hub; `None` if nobody wants anything.
    pub(crate) fn routes(&self, hub: &HubName) -> Option<Arc<Routes>> {
        self.routes.get(hub).cloned()
    }

    /// A handler with these settings: the one there is, or a new one.
    fn handler(&self, wants: EventFilter, settings: UpstreamSettings) -> Result<Handler, String> {
        let authorities = settings.ca_file.as_deref().and_then(read);
        let is_same =
            |known: &Handler| *known.upstream.settings() == settings && known.authorities == authorities;
        if let Some(known) = self.handlers.iter().find(|known| is_same(known)) {
            return Ok(Handler { upstream: known.upstream.clone(), authorities, wants });
        }
        let place = format!("{}.event_handlers[{}]", hub_path(&settings.hub), settings.place);
        let upstream = Upstream::new(settings).map_err(|error| match error {
            StartError::CaFile { .. } => format!("{place}.ca_file: {error}"),
            error => format!("{place}: {error}"),
        })?;
        Ok(Handler { upstream, authorities, wants })
    }

    /// A listener with these settings: the one there is, or a new one.
    fn listener(&self, settings: ListenerSettings) -> Result<Arc<Listener>, String> {
        if let Some(same) = self.listeners.iter().find(|known| *known.settings() == settings) {
            return Ok(same.clone());
        }
        let place = format!("{}.event_listeners[{}]", hub_path(&settings.hub), settings.place);
        Listener::new(settings).map_err(|error| format!("{place}.file: {error}"))
    }
}

/// Every state of a handler with its name.
pub(crate) const STATES: [(BreakerState, &str); 3] =
    [(BreakerState::Closed, "working"), (BreakerState::Open, "resting"), (BreakerState::Probing, "probing")];

/// The host by which applications know the server, if it is configured.
pub(crate) fn public_host(config: &Config) -> Option<Box<str>> {
    config.server.public_endpoints.first().map(|endpoint| endpoint.host().into())
}

/// How the server is called, where no client has said it.
fn origin(config: &Config) -> Box<str> {
    let listener = || config.server.listen[0].reachable().socket.ip().to_string().into();
    public_host(config).unwrap_or_else(listener)
}

/// What stands in a file of authorities; that it cannot be read is said when a handler is built with it.
fn read(file: &Path) -> Option<Vec<u8>> {
    std::fs::read(file).ok()
}

fn filter(handler: &EventHandler) -> EventFilter {
    let presence = &handler.group_presence;
    EventFilter {
        system: handler.system_events,
        user: handler.user_event_pattern.clone(),
        presence: Presence {
            joined: presence.events.joined,
            left: presence.events.left,
            groups: presence.groups.clone(),
        },
    }
}

fn handler_settings(hub: &HubName, place: usize, handler: &EventHandler) -> UpstreamSettings {
    UpstreamSettings {
        hub: hub.clone(),
        place,
        template: given(&handler.url_template).url().clone(),
        auth: auth(&handler.auth),
        validate: handler.validate,
        http: handler.http,
        timeout: Duration::from_secs(handler.timeout_seconds),
        connect_timeout: Duration::from_secs(handler.connect_timeout_seconds),
        retry_delays: handler.retry_delays_seconds.iter().copied().map(Duration::from_secs).collect(),
        answer_bytes_max: bytes(handler.answer_bytes_max),
        concurrency_max: bytes(handler.concurrency_max),
        queue_max: bytes(handler.queue_max),
        queue_bytes_max: bytes(handler.queue_bytes_max),
        breaker_failures: small(handler.breaker_failures),
        ca_file: handler.ca_file.clone(),
        forward_refusals: handler.forward_refusals,
        inspect_bodies: handler.inspect_bodies,
    }
}

fn listener_settings(hub: &HubName, place: usize, listener: &EventListener) -> ListenerSettings {
    ListenerSettings {
        hub: hub.clone(),
        place,
        destination: given(&listener.file).clone(),
        queue_max: bytes(listener.queue_max),
        queue_bytes_max: bytes(listener.queue_bytes_max),
    }
}

fn auth(auth: &Auth) -> HandlerAuth {
    match auth.kind {
        AuthKind::None => HandlerAuth::None,
        AuthKind::Header => HandlerAuth::Header {
            name: given(&auth.name).to_ascii_lowercase(),
            value: given(&auth.value).expose().to_owned(),
        },
        AuthKind::ClientCredentials => HandlerAuth::ClientCredentials {
            token_url: given(&auth.token_url).clone(),
            client_id: given(&auth.client_id).clone(),
            client_secret: given(&auth.client_secret).expose().to_owned(),
            scope: auth.scope.clone(),
            resource: auth.resource.clone(),
        },
    }
}

/// What a checked configuration has.
fn given<T>(value: &Option<T>) -> &T {
    value.as_ref().expect("the configuration was checked")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;
    use ringhub_hub::event::EventSubject;
    use ringhub_hub::{ConnectionId, CoreId};
    use ringhub_protocol::events::Subject;
    use ringhub_relay::report::{CallReport, EventClass, Outcome};

    fn reload(upstreams: &Upstreams, text: &str) -> Result<(), String> {
        let built = upstreams.prepare(&Config::from_text(text).unwrap())?;
        upstreams.commit(built);
        Ok(())
    }

    fn with(text: &str) -> Upstreams {
        let upstreams = Upstreams::default();
        reload(&upstreams, text).unwrap();
        upstreams
    }

    fn handlers(upstreams: &Upstreams) -> Vec<Arc<Upstream>> {
        upstreams.current.load().handlers.iter().map(|handler| handler.upstream.clone()).collect()
    }

    fn hub(name: &str) -> HubName {
        HubName::parse(name).unwrap()
    }

    const ONE: &str = "[[hubs.a.event_handlers]]\nurl_template = \"http://one/{event}\"\n\
                       user_event_pattern = \"join\"\nsystem_events = [\"connect\"]\n\
                       group_presence = { events = [\"left\"], groups = [\"room-*\"] }\n";
    const TWO: &str =
        "[[hubs.a.event_handlers]]\nurl_template = \"http://two/\"\nuser_event_pattern = \"*\"\n";
    const OTHER: &str =
        "[[hubs.b.event_handlers]]\nurl_template = \"http://b/\"\nuser_event_pattern = \"*\"\n";

    /// What there is to see of handler [`ONE`] after a few events.
    pub(crate) fn sample() -> Views {
        let mut views = with(ONE).views();
        let HandlerView { report, .. } = &mut views.handlers[0];
        let mut count = |class: EventClass, outcome: Outcome, events| {
            report.events[class as usize][outcome as usize] = events;
        };
        count(EventClass::Connect, Outcome::Success, 4);
        count(EventClass::User, Outcome::Unreachable, 1);
        (report.attempts, report.retries, report.in_flight, report.queued) = (8, 3, 2, 1);
        report.queued_bytes = 100;
        (report.latency.buckets[1], report.latency.buckets[12]) = (4, 1);
        report.latency.sum = Duration::from_millis(9_006);
        report.calls.push(CallReport {
            time_unix_ms: 1_700_000_000_250,
            subject: EventSubject::User("join".into()),
            connection: ConnectionId { node: 0, core: CoreId(1), slot: 0, random: 7 },
            id: 3,
            attempts: 4,
            status: None,
            outcome: Outcome::Unreachable,
            cause: "connection refused".into(),
            queue: Duration::from_micros(20),
            first_byte: None,
            total: Duration::from_millis(9_000),
            request_bytes: 5,
            answer_bytes: 0,
            bodies: Some((Bytes::from_static(b"<b>\xC3\xA9"), Bytes::from_static(&[0, 0xFF]))),
        });
        views.listeners.push(ListenerReport {
            hub: "a".into(),
            place: 0,
            destination: "/var/log/events.ndjson".into(),
            delivered: 7,
            dropped: 2,
            failed: 1,
            queued: 3,
            queued_bytes: 300,
        });
        views
    }

    #[test]
    fn hubs_have_their_handlers_in_order_with_what_they_want() {
        let upstreams = with(&format!("[hubs.none]\n{ONE}{TWO}{OTHER}"));
        assert!(
            upstreams.current.load().routes(&hub("none")).is_none()
                && upstreams.current.load().routes(&hub("unheard")).is_none()
        );
        let routes = upstreams.current.load().routes(&hub("A")).unwrap();
        let places: Vec<usize> = routes
            .handlers
            .iter()
            .map(|route| route.target.clone().downcast::<Upstream>().unwrap().settings().place)
            .collect();
        assert_eq!(places, [0, 1]);
        let wants = |subject| routes.handlers[0].filter.matches(subject);
        assert!(wants(Subject::User("Join")) && wants(Subject::Connect) && wants(Subject::Left("room-1")));
        assert!(
            !wants(Subject::User("x")) && !wants(Subject::Connected) && !wants(Subject::Joined("room-1"))
        );
        assert_eq!(handlers(&upstreams).len(), 3);
    }

    #[test]
    fn what_a_reload_leaves_alone_stays_the_same() {
        let upstreams = with(&format!("{ONE}{TWO}{OTHER}"));
        let before = handlers(&upstreams);
        let changed = ONE.replace("\"join\"", "\"*\"");
        let slower = TWO.to_owned() + "timeout_seconds = 7\n";
        reload(&upstreams, &format!("{changed}{slower}{OTHER}")).unwrap();
        let after = handlers(&upstreams);
        let same: Vec<bool> =
            before.iter().zip(&after).map(|(before, after)| Arc::ptr_eq(before, after)).collect();
        assert_eq!(same, [true, false, true], "what a handler wants is not a matter of how it is asked");
        let routes = upstreams.current.load().routes(&hub("a")).unwrap();
        assert!(routes.handlers[0].filter.matches(Subject::User("x")));
        assert_eq!(after[1].settings().timeout, Duration::from_secs(7));
        reload(&upstreams, "").unwrap();
        assert!(handlers(&upstreams).is_empty() && upstreams.current.load().routes(&hub("a")).is_none());
    }

    /// Replacing them was told as a reload, and the old ones stayed trusted.
    #[test]
    fn other_authorities_in_the_same_file_are_another_handler() {
        let file = std::env::temp_dir().join(format!("ringhub-upstream-ca-{}.pem", std::process::id()));
        let pem = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        let handler =
            "[[hubs.\"a.b\".event_handlers]]\nurl_template = \"https://one/\"\nuser_event_pattern = \"*\"\n";
        let text = format!("{handler}ca_file = {file:?}\n");
        std::fs::write(&file, pem()).unwrap();
        let upstreams = with(&text);
        let first = handlers(&upstreams).remove(0);
        reload(&upstreams, &text).unwrap();
        assert!(Arc::ptr_eq(&first, &handlers(&upstreams)[0]));
        std::fs::write(&file, pem()).unwrap();
        reload(&upstreams, &text).unwrap();
        let second = handlers(&upstreams).remove(0);
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&file, "nothing").unwrap();
        let refused = reload(&upstreams, &text).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(refused.starts_with("hubs.\"a.b\".event_handlers[0].ca_file: "), "{refused}");
        assert!(Arc::ptr_eq(&second, &handlers(&upstreams)[0]), "what is refused changes nothing");
    }

    #[test]
    fn listeners_are_kept_like_handlers() {
        let file = std::env::temp_dir().join(format!("ringhub-listener-{}", std::process::id()));
        let entry =
            |lines: &str| format!("[[hubs.a.event_listeners]]\nsystem_events = [\"connected\"]\n{lines}\n");
        let (one, two) = (entry("file = \"-\""), entry(&format!("file = {file:?}")));
        let upstreams = with(&format!("{one}{two}"));
        let listeners = || upstreams.current.load().listeners.clone();
        let before = listeners();
        let changed = format!("{one}user_event_pattern = \"x\"\n{two}queue_max = 5\n");
        reload(&upstreams, &changed).unwrap();
        let same: Vec<bool> = before.iter().zip(&listeners()).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(same, [true, false]);
        let routes = upstreams.current.load().routes(&hub("a")).unwrap();
        assert!(routes.handlers.is_empty() && routes.listeners.len() == 2);
        assert!(routes.listeners[0].filter.matches(Subject::User("X")));
        assert!(!routes.listeners[1].filter.matches(Subject::User("X")));
        assert_eq!(upstreams.views().listeners.len(), 2);
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let refused = reload(&upstreams, &two).unwrap_err();
        std::fs::remove_dir(&file).unwrap();
        assert!(refused.starts_with("hubs.a.event_listeners[0].file: "), "{refused}");
    }

    #[test]
    fn settings_are_those_of_the_configuration() {
        let defaults = handlers(&with(TWO)).remove(0).settings().clone();
        assert_eq!(defaults.timeout, Duration::from_secs(100));
        assert_eq!(defaults.connect_timeout, Duration::from_secs(30));
        assert_eq!(defaults.retry_delays, [1, 3, 5].map(Duration::from_secs));
        assert_eq!((defaults.answer_bytes_max, defaults.concurrency_max), (16 << 20, 256));
        assert_eq!((defaults.breaker_failures, defaults.auth), (10, HandlerAuth::None));
        assert!(defaults.validate && defaults.forward_refusals && !defaults.inspect_bodies);
        let auth =
            |lines: &str| handlers(&with(&format!("{TWO}auth = {{ {lines} }}\n")))[0].settings().auth.clone();
        assert_eq!(
            auth("type = \"header\", name = \"X-Key\", value = \"v\""),
            HandlerAuth::Header { name: "x-key".into(), value: "v".into() }
        );
        assert_eq!(
            auth(
                "type = \"client_credentials\", token_url = \"https://t/\", client_id = \"i\", \
                  client_secret = \"s\", scope = \"a\", resource = \"r\""
            ),
            HandlerAuth::ClientCredentials {
                token_url: "https://t/".into(),
                client_id: "i".into(),
                client_secret: "s".into(),
                scope: Some("a".into()),
                resource: Some("r".into()),
            }
        );
    }
}
