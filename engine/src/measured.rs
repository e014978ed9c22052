//! The door for this crate's benches: handles on parts that nobody else may reach.
//!
//! Not an API. Each handle does what the core's loop does with the part and nothing more, so that a bench counts
//! the part and not the handle.

use crate::auth::{TokenRequest, Verifier, client_token_with, sign_with_access_key};
use crate::config::{Config, Secret};
use crate::core::counters::CoreShared;
use crate::core::mesh::{Mesh, Note, Peers};
use crate::core::ring::Ring;
use crate::core::settings::{MeshSettings, RingSettings};
use crate::net::gate::{Admission, Gate, UpgradeRequest};
use crate::net::peer::Named;
use ringhub_hub::{ConnectionId, CoreId, MeshItem};
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::rest::{ClientType, GenerateToken};
use std::io;
use std::sync::Arc;

/// Two cores' ends of the mesh, both held by this thread; neither sleeps, so nobody is rung.
pub struct MeshPair {
    from: Mesh,
    to: Mesh,
    hub: HubName,
    /// Of the sender; [`Mesh::send`] rings through it.
    ring: Ring,
}

impl MeshPair {
    /// An empty mesh with the bounds a server has by default.
    ///
    /// # Errors
    ///
    /// The kernel gives no ring or no sockets.
    pub fn new() -> io::Result<Self> {
        let settings = MeshSettings::default();
        let (peers, _bells) = Peers::new(2, &settings)?;
        let end = |core| Mesh::new(Arc::clone(&peers), CoreId(core), settings, Arc::<CoreShared>::default());
        Ok(Self {
            from: end(0),
            to: end(1),
            hub: HubName::parse("chat").expect("a legal name"),
            ring: Ring::new(&RingSettings {
                submissions: 8,
                completions: 16,
                buffers: 8,
                ..RingSettings::default()
            })?,
        })
    }

    /// Adds an item to the turn's batch, as a hub's `Forward` does.
    pub fn push(&mut self, item: MeshItem) {
        self.from.forward(CoreId(1), &self.hub, item);
    }

    /// Ends the sender's turn.
    pub fn send(&mut self) {
        self.from.send(&mut self.ring);
    }

    /// Takes what has come, giving each item to `handle`.
    pub fn drain(&mut self, mut handle: impl FnMut(MeshItem)) {
        while let Some((_, batch)) = self.to.receive() {
            for note in batch {
                let Note::Hub(_, items) = note else { continue };
                items.into_iter().for_each(&mut handle);
            }
        }
    }
}

/// The server's verifier with one key, and requests with tokens it takes.
pub struct Tokens {
    verifier: Verifier,
    key: Secret,
}

/// The time of every check, seconds since 1970.
const NOW_UNIX: u64 = 1_700_000_000;
const HOST: &str = "localhost:8080";
const PATH: &str = "/api/hubs/chat/:send";

impl Default for Tokens {
    fn default() -> Self {
        let key = Secret::parse("a-key-for-measuring-of-more-than-32-bytes").expect("a legal key");
        Self { verifier: Verifier::new(&Config::default(), &key), key }
    }
}

impl Tokens {
    /// The target of a client's upgrade: a token with a user and two roles, as the SDKs make it.
    pub fn client_target(&self) -> String {
        let hub = HubName::parse("chat").expect("a legal name");
        let claims = GenerateToken {
            user: Some(UserId::parse("user-1").expect("a legal user")),
            roles: ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"].map(Box::from).into(),
            groups: Box::default(),
            minutes_to_expire: 60,
            client_type: ClientType::Default,
        };
        let request = TokenRequest { hub: &hub, endpoint: &format!("http://{HOST}"), claims: &claims };
        let token = client_token_with(&Config::default(), &self.key, NOW_UNIX, &request);
        format!("/client/hubs/chat?access_token={token}")
    }

    /// Whether an upgrade to `target` is let in: the target read, the signature, the claims, the audience.
    pub fn admits(&self, target: &str) -> bool {
        let request = UpgradeRequest {
            target,
            host: HOST,
            subprotocols: &["json.webpubsub.azure.v1"],
            ..UpgradeRequest::default()
        };
        matches!(self.verifier.admit(NOW_UNIX, &request), Admission::Connect(_))
    }

    /// The `Authorization` header of a REST call.
    pub fn rest_authorization(&self) -> String {
        let payload = serde_json::json!({
            "aud": format!("http://{HOST}{PATH}"), "iat": NOW_UNIX, "exp": NOW_UNIX + 60,
        });
        format!("Bearer {}", sign_with_access_key(&self.key, &payload))
    }

    /// Whether a REST call with that header is let in.
    pub fn authorizes(&self, authorization: &str) -> bool {
        let named = Named { host: HOST, ..Named::default() };
        self.verifier.authorize_rest(NOW_UNIX, Some(authorization), &named, PATH).is_ok()
    }

    /// The target of an upgrade that recovers a session.
    pub fn recovery_target(&self) -> String {
        let hub = HubName::parse("chat").expect("a legal name");
        let id = ConnectionId { node: 0, core: CoreId(0), slot: 1, random: 2 };
        let token = self.verifier.reconnection_token(&hub, &id);
        format!("/client/hubs/chat?awps_connection_id={}&awps_reconnection_token={token}", id.text().as_str())
    }

    /// Whether an upgrade to `target` may recover the session it names.
    pub fn recovers(&self, target: &str) -> bool {
        let request = UpgradeRequest { target, host: HOST, ..UpgradeRequest::default() };
        matches!(self.verifier.admit(NOW_UNIX, &request), Admission::Recover { .. })
    }
}
