//! Tokens: who may open a connection, call the REST API, or come back for a session.
//!
//! One [`Verifier`] serves all cores; its terms (keys and all that is configured) are swapped whole when the
//! configuration is reloaded, so a key that is among the old and the new ones is good at every instant. What must
//! stay true: HS256 is only ever checked with the server's own keys ([`keys`]) and RS256 and ES256 with keys of a configured issuer
//! ([`issuers`]), before anything in the payload is believed; an issuer's token opens no client connection; a
//! token for one hub or one kind of client never opens another; no token, key or signature reaches a log or an
//! answer.
//!
//! The order of questions to an upgrade is `client-protocols` §1.3.

mod issuers;
mod keys;

pub(crate) use issuers::{Access, Issuers};
pub(crate) use keys::sign_with_access_key;

use crate::config::{AnonymousPolicy, Config, Secret};
use crate::net::gate::{Admission, Admitted, Gate, UpgradeRequest};
use crate::net::peer::Named;
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use keys::{BadKey, KeyRing};
use ringhub_hub::ConnectionId;
use ringhub_protocol::auth::audience::{RequestOrigin, client_audience_matches, rest_audience_matches};
use ringhub_protocol::auth::claims::{ClientClaims, RestClaims};
use ringhub_protocol::auth::client_url::{ClientUrl, bearer};
use ringhub_protocol::auth::token::{Algorithm, Unverified};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::Subprotocol;
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::rest::{ClientType, GenerateToken};
use ringhub_protocol::ws::handshake;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Keys → claims → admission.
pub(crate) struct Verifier {
    terms: ArcSwap<Terms>,
    issuers: Arc<Issuers>,
    /// Of this process only: a token of an earlier one finds nobody.
    reconnection: hmac::Key,
}

/// What is configured.
pub(crate) struct Terms {
    keys: KeyRing,
    audience_check: bool,
    public_endpoints: Vec<String>,
    clock_skew_seconds: u64,
    anonymous: HashMap<HubName, AnonymousPolicy>,
    anonymous_default: AnonymousPolicy,
}

/// Whom a token to be made is for.
#[derive(Debug)]
pub(crate) struct TokenRequest<'a> {
    /// The hub it opens.
    pub(crate) hub: &'a HubName,
    /// How the client will call this server: scheme and authority, no slash at the end.
    pub(crate) endpoint: &'a str,
    /// What is in it.
    pub(crate) claims: &'a GenerateToken,
}

impl Verifier {
    /// Takes the keys of `config`; `primary` is the configured or generated one.
    pub(crate) fn new(config: &Config, primary: &Secret) -> Self {
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system has a random source");
        Self {
            terms: ArcSwap::from_pointee(Terms::new(config, primary)),
            issuers: Arc::new(Issuers::new(config)),
            reconnection: hmac::Key::new(hmac::HMAC_SHA256, &random),
        }
    }

    /// From now on these hold.
    pub(crate) fn set_terms(&self, terms: Terms) {
        self.terms.store(Arc::new(terms));
    }

    /// The issuers whose tokens are taken for REST calls.
    pub(crate) fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// What a REST call's sender may do. `raw_path` is the request's path as it came, without the query.
    ///
    /// # Errors
    ///
    /// The body of a 401, 403 or 503, for the caller's developer.
    pub(crate) fn authorize_rest(
        &self,
        now_unix: u64,
        authorization: Option<&str>,
        named: &Named<'_>,
        raw_path: &str,
    ) -> Result<Access, ErrorBody> {
        let token =
            authorization.and_then(bearer).ok_or_else(|| unauthorized("The request has no token."))?;
        let token = Unverified::parse(token).map_err(|error| unauthorized(error.to_string()))?;
        let terms = self.terms.load();
        match token.algorithm {
            Algorithm::Hs256 => {}
            Algorithm::Rs256 | Algorithm::Es256 => {
                return self.issuers.authorize(now_unix, terms.clock_skew_seconds, &token);
            }
        }
        terms.keys.verify_rest(&token).map_err(|bad| match bad {
            BadKey::Signature => unauthorized(BAD_SIGNATURE),
            // `rest-api` §1.5: who it is is known, and it has no rights.
            BadKey::SwitchedOff => ErrorBody::new(ErrorCode::Forbidden, ACCESS_KEYS_OFF),
        })?;
        let claims = RestClaims::parse(&token.payload).map_err(|error| unauthorized(error.to_string()))?;
        claims
            .lifetime
            .check_times(now_unix, terms.clock_skew_seconds)
            .map_err(|error| unauthorized(error.to_string()))?;
        let Named { host, forwarded_host, .. } = *named;
        let origin = RequestOrigin { host, forwarded_host, public_endpoints: &terms.public_endpoints };
        if terms.audience_check && !rest_audience_matches(&claims.audience, &origin, raw_path) {
            // Only with a good signature can one get here, so nobody can fill the log with it.
            let actual: Vec<&str> = claims.audience.as_strs().collect();
            tracing::info!(expected = %format_args!("{host}{raw_path}"), ?actual, "Failed to validate audience");
            return Err(unauthorized("The token's audience is not this URL."));
        }
        Ok(Access::Owner)
    }

    /// Makes a client token, signed with an internal key: it opens a connection with access keys off, too.
    pub(crate) fn client_token(&self, now_unix: u64, request: &TokenRequest<'_>) -> String {
        self.terms.load().keys.sign_client(&ClientPayload::new(now_unix, request))
    }

    /// The URL of this server, for a token or a link made for a request that named it so.
    pub(crate) fn endpoint(&self, named: &Named<'_>) -> String {
        let terms = self.terms.load();
        terms.public_endpoints.first().cloned().unwrap_or_else(|| named.endpoint())
    }

    fn admit_or_refuse(&self, now_unix: u64, request: &UpgradeRequest<'_>) -> Result<Admission, ErrorBody> {
        let url = ClientUrl::parse(request.target)?;
        let hub = url.hub()?;
        let (subprotocol, echoed) = handshake::choose(request.subprotocols);
        let echoed = echoed.map(Box::from);
        if let Some((id, token)) = url.recovery() {
            return Ok(match ConnectionId::parse(id) {
                Some(id) if self.reconnection_token_is_good(&hub, &id, token) => {
                    Admission::Recover { hub, id, subprotocol, echoed }
                }
                _ => Admission::RecoverBad { echoed },
            });
        }
        let terms = self.terms.load();
        let (user, roles, groups) = match url.token(request.authorization) {
            Some(token) => {
                let claims = terms.client_claims(now_unix, &token, &hub, request)?;
                (claims.user, claims.roles, claims.groups)
            }
            None if terms.anonymous_policy(&hub) == AnonymousPolicy::Allow => Default::default(),
            None => {
                return Err(unauthorized("The request has no token and the hub takes no anonymous clients."));
            }
        };
        let raw_group = url.raw_group()?.filter(|_| subprotocol == Subprotocol::Raw);
        Ok(Admission::Connect(Box::new(Admitted {
            hub,
            subprotocol,
            echoed,
            user,
            roles,
            groups,
            raw_group,
            address: request.address,
            pass: None,
        })))
    }

    fn reconnection_token_is_good(&self, hub: &HubName, id: &ConnectionId, token: &str) -> bool {
        let Ok(tag) = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token) else { return false };
        hmac::verify(&self.reconnection, &reconnection_message(hub, id), &tag).is_ok()
    }
}

impl Terms {
    /// From the configuration; `primary` is the configured or generated key.
    pub(crate) fn new(config: &Config, primary: &Secret) -> Self {
        Self {
            keys: KeyRing::new(config, primary),
            audience_check: config.server.audience_check,
            public_endpoints: config
                .server
                .public_endpoints
                .iter()
                .map(|endpoint| endpoint.as_str().to_owned())
                .collect(),
            clock_skew_seconds: config.limits.clock_skew_seconds,
            anonymous: config
                .hubs()
                .map(|(name, hub)| (name.clone(), hub.anonymous_connect_policy))
                .collect(),
            anonymous_default: crate::config::Hub::default().anonymous_connect_policy,
        }
    }

    fn client_claims(
        &self,
        now_unix: u64,
        token: &str,
        hub: &HubName,
        request: &UpgradeRequest<'_>,
    ) -> Result<ClientClaims, ErrorBody> {
        let token = Unverified::parse(token).map_err(|error| unauthorized(error.to_string()))?;
        if token.algorithm != Algorithm::Hs256 {
            let message =
                "A client's token must be signed with HS256: by an access key, or by :generateToken.";
            return Err(unauthorized(message));
        }
        self.keys.verify_client(&token).map_err(|bad| match bad {
            BadKey::Signature => unauthorized(BAD_SIGNATURE),
            BadKey::SwitchedOff => unauthorized(ACCESS_KEYS_OFF),
        })?;
        let claims = ClientClaims::parse(&token.payload).map_err(|error| match error.status() {
            400 => ErrorBody::new(ErrorCode::BadRequest, error.to_string()),
            _ => unauthorized(error.to_string()),
        })?;
        claims
            .lifetime
            .check_times(now_unix, self.clock_skew_seconds)
            .map_err(|error| unauthorized(error.to_string()))?;
        let origin = RequestOrigin {
            host: request.host,
            forwarded_host: request.forwarded_host,
            public_endpoints: &self.public_endpoints,
        };
        if self.audience_check
            && !client_audience_matches(&claims.audience, &origin, ClientType::Default, hub)
        {
            let actual: Vec<&str> = claims.audience.as_strs().collect();
            let expected = ClientType::Default.path(hub);
            tracing::info!(host = request.host, expected, ?actual, "Failed to validate audience");
            return Err(unauthorized("The token's audience is not this hub's client URL."));
        }
        Ok(claims)
    }

    fn anonymous_policy(&self, hub: &HubName) -> AnonymousPolicy {
        self.anonymous.get(hub).copied().unwrap_or(self.anonymous_default)
    }
}

impl Gate for Verifier {
    fn admit(&self, now_unix: u64, request: &UpgradeRequest<'_>) -> Admission {
        self.admit_or_refuse(now_unix, request).unwrap_or_else(Admission::Refuse)
    }

    fn reconnection_token(&self, hub: &HubName, id: &ConnectionId) -> String {
        let tag = hmac::sign(&self.reconnection, &reconnection_message(hub, id));
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(tag.as_ref())
    }
}

/// A new access key: 32 random bytes in base64, used as that text.
pub(crate) fn generate_key() -> Secret {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the system has a random source");
    Secret::parse(&base64_simd::STANDARD.encode_to_string(random)).expect("base64 of 32 bytes is a legal key")
}

/// Makes a client token that a server with `config` and this primary key takes, for `ringhub token`.
pub(crate) fn client_token_with(
    config: &Config,
    key: &Secret,
    now_unix: u64,
    request: &TokenRequest<'_>,
) -> String {
    let payload = ClientPayload::new(now_unix, request);
    if config.server.access_keys {
        sign_with_access_key(key, &payload)
    } else {
        keys::sign_with_internal_key(key, &payload)
    }
}

const BAD_SIGNATURE: &str = "The token's signature is not valid.";
const ACCESS_KEYS_OFF: &str = "Access keys are switched off on this server (server.access_keys).";

/// The same shape as the SDKs make (`rest-api` §3.4).
#[derive(Serialize)]
struct ClientPayload<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    role: &'a [Box<str>],
    #[serde(rename = "webpubsub.group", skip_serializing_if = "Vec::is_empty")]
    groups: Vec<&'a str>,
    iat: u64,
    exp: u64,
    aud: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
}

impl<'a> ClientPayload<'a> {
    fn new(now_unix: u64, request: &TokenRequest<'a>) -> Self {
        let claims = request.claims;
        Self {
            role: &claims.roles,
            groups: claims.groups.iter().map(GroupName::as_str).collect(),
            iat: now_unix,
            exp: now_unix + u64::from(claims.minutes_to_expire) * 60,
            aud: format!("{}{}", request.endpoint, claims.client_type.path(request.hub)),
            sub: claims.user.as_ref().map(UserId::as_str),
        }
    }
}

/// What a reconnection token's MAC covers. No hub name holds a line feed, so no two pairs read alike.
fn reconnection_message(hub: &HubName, id: &ConnectionId) -> Vec<u8> {
    [hub.as_str(), "\n", id.text().as_str()].concat().into_bytes()
}

/// The hub a client asks for, if its request names a legal one.
pub(crate) fn requested_hub(target: &str) -> Option<HubName> {
    ClientUrl::parse(target).ok()?.hub().ok()
}

/// The token a client shows, good or not.
pub(crate) fn client_token_of<'a>(request: &UpgradeRequest<'a>) -> Option<Cow<'a, str>> {
    ClientUrl::parse(request.target).ok()?.token(request.authorization)
}

fn unauthorized(message: impl Into<Cow<'static, str>>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Unauthorized, message)
}

#[cfg(test)]
mod forge;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod times;
#[cfg(test)]
mod vectors;
