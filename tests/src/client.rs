//! What a client asks for when it connects.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::http::encode;
use crate::{Endpoint, Token};

/// The offered subprotocol of plain JSON clients.
pub(crate) const JSON: &str = "json.webpubsub.azure.v1";
/// The offered subprotocol of reliable JSON clients.
pub(crate) const RELIABLE: &str = "json.reliable.webpubsub.azure.v1";

/// A client to be: kind, hub, who it is, what it may do. Give it to [`Endpoint::connect`].
#[derive(Debug, Clone)]
pub struct Client {
    subprotocols: Option<String>,
    path: Option<String>,
    hub: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    claims: Map<String, Value>,
    key: Option<String>,
    token: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Query,
    Bearer,
    Given(String),
    None,
}

impl Client {
    /// A `json.webpubsub.azure.v1` client of hub `chat`, with a good token and nothing else.
    pub fn json() -> Self {
        Self { subprotocols: Some(JSON.to_owned()), ..Self::raw() }
    }

    /// A `json.reliable.webpubsub.azure.v1` client of hub `chat`.
    pub fn reliable() -> Self {
        Self { subprotocols: Some(RELIABLE.to_owned()), ..Self::raw() }
    }

    /// A client of hub `chat` without a subprotocol.
    pub fn raw() -> Self {
        Self {
            subprotocols: None,
            path: None,
            hub: "chat".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            claims: Map::new(),
            key: None,
            token: Source::Query,
        }
    }

    /// Another hub.
    pub fn hub(mut self, hub: &str) -> Self {
        self.hub = hub.to_owned();
        self
    }

    /// The user's id.
    pub fn user(self, user: &str) -> Self {
        self.claim("sub", json!(user))
    }

    /// Joins this group at connect, without a role.
    pub fn group(self, group: &str) -> Self {
        self.list_claim("webpubsub.group", group)
    }

    /// Grants this role.
    pub fn role(self, role: &str) -> Self {
        self.list_claim("role", role)
    }

    /// May join, leave and send to every group.
    pub fn may_all(self) -> Self {
        self.role("webpubsub.joinLeaveGroup").role("webpubsub.sendToGroup")
    }

    /// Sets a claim of the token; null takes it out.
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Signs with this key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Sends this token instead.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Source::Given(token.into());
        self
    }

    /// Sends no token.
    pub fn no_token(mut self) -> Self {
        self.token = Source::None;
        self
    }

    /// Sends the token in the Authorization header.
    pub fn bearer(mut self) -> Self {
        self.token = Source::Bearer;
        self
    }

    /// Offers these subprotocols, as one header value.
    pub fn subprotocols(mut self, offered: &str) -> Self {
        self.subprotocols = Some(offered.to_owned());
        self
    }

    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for this path instead of `/client/hubs/{hub}`.
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// A raw client whose frames go to this group.
    pub fn sends_to(self, group: &str) -> Self {
        self.query("webpubsub_mode", "sendToGroup").query("group", group)
    }

    /// Asks to recover that session, with the rest of the request as it was (`client-protocols` §6.3).
    pub fn recover(mut self, connection_id: &str, reconnection_token: &str) -> Self {
        self.query.retain(|(name, _)| !name.starts_with("awps_"));
        self.query("awps_connection_id", connection_id).query("awps_reconnection_token", reconnection_token)
    }

    /// Whether `connected` comes first.
    pub(crate) fn is_pubsub(&self) -> bool {
        self.subprotocols.as_deref().is_some_and(|offered| {
            let offered = offered.to_ascii_lowercase();
            offered == JSON || offered == RELIABLE
        })
    }

    /// The subprotocols offered.
    pub(crate) fn offered(&self) -> Option<&str> {
        self.subprotocols.as_deref()
    }

    /// The URL that an SDK would be given.
    pub fn url(&self, endpoint: &Endpoint) -> String {
        format!("{}://{}{}", endpoint.websocket_scheme(), endpoint.addr, self.target(endpoint))
    }

    /// The upgrade request's bytes.
    pub fn request(&self, endpoint: &Endpoint) -> Vec<u8> {
        let mut head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", self.target(endpoint), endpoint.addr);
        head.push_str("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
        let _ = write!(head, "Sec-WebSocket-Key: {SAMPLE_KEY}\r\n");
        if let Some(offered) = &self.subprotocols {
            let _ = write!(head, "Sec-WebSocket-Protocol: {offered}\r\n");
        }
        if matches!(self.token, Source::Bearer) {
            let _ = write!(head, "Authorization: Bearer {}\r\n", self.signed(endpoint));
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn target(&self, endpoint: &Endpoint) -> String {
        let mut target = self.path.clone().unwrap_or_else(|| format!("/client/hubs/{}", encode(&self.hub)));
        let token = match &self.token {
            Source::Query => Some(self.signed(endpoint)),
            Source::Given(token) => Some(token.clone()),
            Source::Bearer | Source::None => None,
        };
        let token = token.map(|token| ("access_token".to_owned(), token));
        for (name, value) in token.iter().chain(&self.query) {
            target.push(if target.contains('?') { '&' } else { '?' });
            let _ = write!(target, "{}={}", encode(name), encode(value));
        }
        target
    }

    fn signed(&self, endpoint: &Endpoint) -> String {
        let mut token = Token::new(&audience(endpoint, &self.hub));
        for (name, value) in &self.claims {
            token = token.claim(name, value.clone());
        }
        token.sign(self.key.as_ref().unwrap_or(&endpoint.key))
    }

    fn list_claim(mut self, name: &str, value: &str) -> Self {
        let list = self.claims.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().expect("only lists are added to").push(json!(value));
        self
    }
}

/// The audience the SDKs sign for (`client-protocols` §2.3).
fn audience(endpoint: &Endpoint, hub: &str) -> String {
    format!("{}/client/hubs/{hub}", endpoint.url())
}

/// RFC 6455 §1.3's example, so that the answer is known.
pub(crate) const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`SAMPLE_KEY`].
pub(crate) const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
