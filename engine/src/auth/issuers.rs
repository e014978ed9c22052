//! Bearer tokens of OIDC issuers, for REST calls only (`rest-api` §3.2).
//!
//! A token is believed when a configured issuer made it: its `iss` letter for letter, its signature by that
//! issuer's key of that name, for one of the issuer's audiences, at a time it is valid. What its holder may do
//! is then a matter of the issuer's rules: everything, reading, or nothing. A token that cannot be judged yet,
//! because the keys are still being fetched, is answered 503 and may be sent again; 401 would make its sender
//! give up.

use super::unauthorized;
use crate::config::{Config, Issuer as IssuerConfig};
use crate::process::Count;
use ringhub_protocol::auth::claims::ClaimsError;
use ringhub_protocol::auth::issued::{ClaimRule, IssuedClaims};
use ringhub_protocol::auth::token::Unverified;
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_relay::jwks::Distrust;
use ringhub_relay::oidc::{Issuer, IssuerSettings};
use std::sync::Arc;
use std::time::Duration;

/// What a caller of the REST API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything; also who has an access key.
    Owner,
    /// GET and HEAD.
    Reader,
}

/// The issuers that are trusted, and how often their tokens were refused.
#[derive(Debug)]
pub(crate) struct Issuers {
    list: Vec<Trusted>,
    /// Switched on by configuration.
    is_on: bool,
    refused: [Count; REASONS.len()],
}

/// One issuer and what its tokens must have.
#[derive(Debug)]
struct Trusted {
    issuer: Arc<Issuer>,
    /// Without a slash at the end.
    audiences: Vec<String>,
    owner: Vec<ClaimRule>,
    reader: Vec<ClaimRule>,
}

/// Why a token was refused, in the order of the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    SwitchedOff,
    Malformed,
    Issuer,
    NoKeys,
    Key,
    Signature,
    Lifetime,
    Audience,
    Role,
}

/// What the reasons are called on the metrics page, by [`Reason`].
const REASONS: [&str; 9] =
    ["switched_off", "malformed", "issuer", "no_keys", "key", "signature", "lifetime", "audience", "role"];

impl Issuers {
    /// Those of `config`, without keys yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            list: config.oidc.issuers.iter().map(Trusted::new).collect(),
            is_on: config.server.oidc,
            refused: Default::default(),
        }
    }

    /// Whose keys the relay is to keep; none when switched off.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.list.iter().filter(|_| self.is_on).map(|trusted| &trusted.issuer)
    }

    /// Tokens refused, by reason.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.refused.iter().map(Count::get))
    }

    /// What the holder of a token may do; nothing about it is believed yet.
    ///
    /// # Errors
    ///
    /// 401, 403 or 503, for the caller's developer.
    pub(super) fn authorize(
        &self,
        now_unix: u64,
        skew_seconds: u64,
        token: &Unverified<'_>,
    ) -> Result<Access, ErrorBody> {
        self.judge(now_unix, skew_seconds, token).map_err(|(reason, body)| {
            self.refused[reason as usize].up();
            body
        })
    }

    fn judge(&self, now: u64, skew: u64, token: &Unverified<'_>) -> Result<Access, (Reason, ErrorBody)> {
        let refuse = |reason, message: &'static str| (reason, unauthorized(message));
        if !self.is_on {
            let message = "Tokens of OIDC issuers are switched off on this server (server.oidc).";
            return Err((Reason::SwitchedOff, ErrorBody::new(ErrorCode::Forbidden, message)));
        }
        let is_wanted = |claim: &str| {
            let rules = self.list.iter().flat_map(|trusted| trusted.owner.iter().chain(&trusted.reader));
            rules.into_iter().any(|rule| rule.claim() == claim)
        };
        let malformed = |error: ClaimsError| (Reason::Malformed, unauthorized(error.to_string()));
        let claims = IssuedClaims::parse(&token.payload, is_wanted).map_err(malformed)?;
        let named = claims.issuer.as_deref();
        let trusted = self.list.iter().find(|trusted| named == Some(trusted.url())).ok_or_else(|| {
            refuse(Reason::Issuer, "The token's issuer is not one that this server trusts.")
        })?;
        let not_yet =
            |message: &'static str| (Reason::NoKeys, ErrorBody::new(ErrorCode::ServiceUnavailable, message));
        let keys = trusted
            .issuer
            .keys(now)
            .ok_or_else(|| not_yet("The keys of the token's issuer are not there yet; try again."))?;
        match keys.verify(token) {
            Ok(()) => {}
            Err(Distrust::UnknownKey) if trusted.issuer.ask() => {
                return Err(not_yet(
                    "The token's key is new; the issuer's keys are being fetched; try again.",
                ));
            }
            Err(Distrust::UnknownKey) => {
                return Err(refuse(Reason::Key, "The token's key is not one of its issuer's."));
            }
            Err(Distrust::BadSignature) => {
                return Err(refuse(Reason::Signature, "The token's signature is not valid."));
            }
        }
        claims
            .lifetime
            .check_times(now, skew)
            .map_err(|error| (Reason::Lifetime, unauthorized(error.to_string())))?;
        let mut audiences = claims.audience.as_strs().map(without_slash);
        if !audiences.any(|claimed| trusted.audiences.iter().any(|audience| audience == claimed)) {
            // Only with a good signature can one get here, so nobody can fill the log with it.
            let actual: Vec<&str> = claims.audience.as_strs().collect();
            tracing::info!(expected = ?trusted.audiences, ?actual, "Failed to validate audience");
            return Err(refuse(Reason::Audience, "The token's audience is not one that this server takes."));
        }
        trusted.access(&claims).ok_or_else(|| {
            let message = "The token's holder has no role on this server.";
            (Reason::Role, ErrorBody::new(ErrorCode::Forbidden, message))
        })
    }
}

impl Trusted {
    fn new(config: &IssuerConfig) -> Self {
        let parse = |text: &String| ClaimRule::parse(text).expect("the configuration has no other rules");
        let rules = |texts: &[String]| texts.iter().map(parse).collect();
        let settings = IssuerSettings {
            url: config.url.clone().unwrap_or_default(),
            ca_file: config.ca_file.clone(),
            refresh: Duration::from_secs(config.refresh_seconds),
            keys_age_max: Duration::from_secs(config.keys_age_max_seconds),
        };
        Self {
            issuer: Issuer::new(settings),
            audiences: config.audiences.iter().map(|audience| without_slash(audience).to_owned()).collect(),
            owner: rules(&config.owner),
            reader: rules(&config.reader),
        }
    }

    fn url(&self) -> &str {
        &self.issuer.settings().url
    }

    fn access(&self, claims: &IssuedClaims) -> Option<Access> {
        let fits = |rules: &[ClaimRule]| rules.iter().any(|rule| claims.fits(rule));
        if fits(&self.owner) {
            Some(Access::Owner)
        } else if fits(&self.reader) {
            Some(Access::Reader)
        } else {
            None
        }
    }
}

/// Azure's own audience comes with and without one.
fn without_slash(audience: &str) -> &str {
    audience.strip_suffix('/').unwrap_or(audience)
}
