//! What a client's URL says (`client-protocols` §1): the hub, the token, the session it comes back for, the mode of a
//! raw client.
//!
//! Everything is decoded exactly once, and of repeated parameters the last counts. Nothing here is believed: tokens are
//! checked by those who have the keys.

use std::borrow::Cow;

use crate::name::{GroupName, HubName};
use crate::rest::error::{ErrorBody, ErrorCode};
use crate::uri::{percent_decode, query_pairs};

/// The target of a client's upgrade, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientUrl<'a> {
    path: &'a str,
    query: Query<'a>,
}

/// The parameters that the server reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Query<'a> {
    access_token: Option<Cow<'a, str>>,
    hub: Option<Cow<'a, str>>,
    connection_id: Option<Cow<'a, str>>,
    reconnection_token: Option<Cow<'a, str>>,
    mode: Option<Cow<'a, str>>,
    group: Option<Cow<'a, str>>,
    no_echo: Option<Cow<'a, str>>,
}

impl<'a> ClientUrl<'a> {
    /// Takes a request's target (path and query, as they came) apart.
    ///
    /// # Errors
    ///
    /// 400 if a parameter, known or not, does not decode.
    pub fn parse(target: &'a str) -> Result<Self, ErrorBody> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parsed = Query::default();
        for pair in query_pairs(query) {
            let (name, value) =
                pair.map_err(|error| ErrorBody::new(ErrorCode::BadRequest, format!("There is {error}.")))?;
            match &*name {
                "access_token" => parsed.access_token = Some(value),
                "hub" => parsed.hub = Some(value),
                "awps_connection_id" => parsed.connection_id = Some(value),
                "awps_reconnection_token" => parsed.reconnection_token = Some(value),
                "webpubsub_mode" => parsed.mode = Some(value),
                "group" => parsed.group = Some(value),
                "noEcho" => parsed.no_echo = Some(value),
                _ => {}
            }
        }
        Ok(Self { path, query: parsed })
    }

    /// The hub that the path, or the path and the query, name (§1.1).
    ///
    /// # Errors
    ///
    /// 400 if it is missing or no legal name, 404 for another path, 501 for the paths of other kinds of clients.
    pub fn hub(&self) -> Result<HubName, ErrorBody> {
        let name = match self.path {
            "/client" | "/client/" => self.query.hub.clone().ok_or_else(|| {
                let message = "The hub is missing: use /client/hubs/{hub} or ?hub={hub}.";
                ErrorBody::bad_parameter("hub", message)
            })?,
            path => {
                match path.strip_prefix("/client/hubs/").map(|hub| hub.strip_suffix('/').unwrap_or(hub)) {
                    Some(hub) if !hub.contains('/') => percent_decode(hub).ok_or_else(|| {
                        ErrorBody::bad_parameter("hub", "The hub in the path holds a malformed escape.")
                    })?,
                    _ if path.starts_with("/clients/mqtt/") => return Err(not_built("MQTT")),
                    _ if path.starts_with("/clients/socketio/") => return Err(not_built("Socket.IO")),
                    _ if path.starts_with("/server/tunnel") => return Err(not_built("The server tunnel")),
                    _ => {
                        let message = "There is no such path; clients connect to /client/hubs/{hub}.";
                        return Err(ErrorBody::new(ErrorCode::NotFound, message));
                    }
                }
            }
        };
        HubName::parse(&name).map_err(|invalid| ErrorBody::bad_parameter("hub", invalid.rule))
    }

    /// The token: the query's if there is one in the `Authorization` header as well (§1.2).
    pub fn token(&self, authorization: Option<&'a str>) -> Option<Cow<'a, str>> {
        let in_query = self.query.access_token.clone().filter(|token| !token.is_empty());
        in_query.or_else(|| authorization.and_then(bearer).map(Cow::Borrowed))
    }

    /// The connection whose session the client comes back for, and its reconnection token, both as written (§6.3).
    pub fn recovery(&self) -> Option<(&str, &str)> {
        let id = self.query.connection_id.as_deref().filter(|id| !id.is_empty())?;
        Some((id, self.query.reconnection_token.as_deref().unwrap_or_default()))
    }

    /// The target of a raw client in `sendToGroup` mode and whether the sender is left out (§1.6).
    ///
    /// # Errors
    ///
    /// 400 for another mode, and in this one for an illegal group and for a `noEcho` that is neither true nor false.
    pub fn raw_group(&self) -> Result<Option<(GroupName<'static>, bool)>, ErrorBody> {
        let Query { mode, group, no_echo, .. } = &self.query;
        match mode.as_deref().unwrap_or_default() {
            "" => return Ok(None),
            mode if mode.eq_ignore_ascii_case("sendEvent") => return Ok(None),
            mode if mode.eq_ignore_ascii_case("sendToGroup") => {}
            _ => {
                let message = "The mode must be sendEvent or sendToGroup.";
                return Err(ErrorBody::bad_parameter("webpubsub_mode", message));
            }
        }
        let group = group.as_deref().unwrap_or_default().to_owned();
        let group =
            GroupName::parse(group).map_err(|invalid| ErrorBody::bad_parameter("group", invalid.rule))?;
        let no_echo = match no_echo.as_deref().unwrap_or_default() {
            "" => false,
            text if text.eq_ignore_ascii_case("false") => false,
            text if text.eq_ignore_ascii_case("true") => true,
            _ => return Err(ErrorBody::bad_parameter("noEcho", "The value must be true or false.")),
        };
        Ok(Some((group, no_echo)))
    }
}

/// The token of an `Authorization` header.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_matches(' '))
}

fn not_built(what: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotImplemented, format!("{what} is not built yet."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(target: &str) -> Result<String, u16> {
        let url = ClientUrl::parse(target).map_err(|error| error.code.status())?;
        url.hub().map(|hub| hub.as_str().to_owned()).map_err(|error| error.code.status())
    }

    #[test]
    fn paths_name_hubs() {
        for (target, expected) in [
            ("/client/hubs/chat", Ok("chat")),
            ("/client/hubs/chat/?hub=other", Ok("chat")),
            ("/client/hubs/ch%61t", Ok("chat")),
            ("/client?hub=other&hub=chat", Ok("chat")),
            ("/client/?h%75b=chat", Ok("chat")),
            ("/client", Err(400)),
            ("/client?hub=a%2Fb", Err(400)),
            ("/client/hubs/%zz", Err(400)),
            ("/client/hubs/chat?x=%zz", Err(400)),
            ("/client/hubs/a/b", Err(404)),
            ("/clients/mqtt/hubs/chat", Err(501)),
            ("", Err(404)),
        ] {
            assert_eq!(hub(target), expected.map(str::to_owned), "{target}");
        }
    }

    #[test]
    fn the_query_s_token_comes_before_the_header_s() {
        let token = |target, authorization| {
            ClientUrl::parse(target).unwrap().token(authorization).map(Cow::into_owned)
        };
        assert_eq!(token("/?access_token=a%2E", Some("Bearer b")).as_deref(), Some("a."));
        assert_eq!(token("/?access_token=", Some("bearer  b ")).as_deref(), Some("b"));
        assert_eq!((token("/", Some("Basic b")), token("/", None)), (None, None));
    }

    #[test]
    fn recovery_needs_an_id_and_modes_a_group() {
        let url = ClientUrl::parse("/?awps_connection_id=c&awps_reconnection_token=t").unwrap();
        assert_eq!(url.recovery(), Some(("c", "t")));
        assert_eq!(ClientUrl::parse("/?awps_reconnection_token=t").unwrap().recovery(), None);
        let mode = |query: &str| {
            let target = format!("/?{query}");
            let found = ClientUrl::parse(&target).unwrap().raw_group();
            found.map(|found| found.map(|(group, quiet)| (group.as_str().to_owned(), quiet))).map_err(drop)
        };
        assert_eq!(mode("webpubsub_mode=SENDTOGROUP&group=g&noEcho=True"), Ok(Some(("g".into(), true))));
        assert_eq!(mode("webpubsub_mode=sendToGroup&group=g"), Ok(Some(("g".into(), false))));
        assert_eq!((mode("webpubsub_mode=sendEvent&noEcho=x"), mode("group=g")), (Ok(None), Ok(None)));
        for bad in
            ["webpubsub_mode=x", "webpubsub_mode=sendToGroup", "webpubsub_mode=sendToGroup&group=g&noEcho=x"]
        {
            assert_eq!(mode(bad), Err(()), "{bad}");
        }
    }
}
