//! The query of a REST call: every parameter of every operation, checked once (`rest-api` §2).

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::error::{ErrorBody, ErrorCode};
use super::filter::Filter;
use super::filters::Filters;
use super::page::{Cursor, PAGE_SIZE_MAX, Page};
use super::route::RouteError;
use super::{ClientType, GenerateToken};
use crate::name::{GroupName, HubName, InvalidName, UserId};
use crate::uri::query_pairs;

/// Accepted values of `api-version` (`rest-api` §1.1); all mean the same here.
pub const API_VERSIONS: [&str; 12] = [
    "2020-10-01",
    "2021-01-01",
    "2021-05-01-preview",
    "2021-08-01-preview",
    "2021-10-01",
    "2022-10-01-preview",
    "2022-11-01",
    "2023-07-01",
    "2024-01-01",
    "2024-12-01",
    "2026-02-01-preview",
    "2026-08-01-preview",
];

/// Longest `messageTtlSeconds`.
pub const MESSAGE_TTL_SECONDS_MAX: u32 = 300;

/// All the parameters of all operations. Names are matched ignoring case; unknown ones are passed over. One that
/// may appear only once and appears twice is a 400: nobody can know which was meant.
#[derive(Default)]
pub(super) struct Query {
    api_version: Option<Box<str>>,
    pub(super) excluded: Vec<Box<str>>,
    roles: Vec<Box<str>>,
    groups: Vec<Box<str>>,
    filter: Option<Box<str>>,
    message_ttl_seconds: Option<Box<str>>,
    pub(super) reason: Option<Box<str>>,
    user_id: Option<Box<str>>,
    minutes_to_expire: Option<Box<str>>,
    client_type: Option<Box<str>>,
    page_size: Option<Box<str>>,
    top: Option<Box<str>>,
    continuation_token: Option<Box<str>>,
    target_name: Option<Box<str>>,
}

impl Query {
    pub(super) fn parse(raw: &str) -> Result<Self, RouteError> {
        let mut query = Self::default();
        for pair in query_pairs(raw) {
            let (name, value) = pair.map_err(|_| bad_request("The query holds a malformed escape."))?;
            query.insert(&name, value)?;
        }
        if query.api_version.as_deref().is_some_and(|version| !API_VERSIONS.contains(&version)) {
            return Err(ErrorBody::bad_parameter("api-version", "This api-version is not known.").into());
        }
        Ok(query)
    }

    fn insert(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), RouteError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let value: Box<str> = value.into();
        let lists =
            [("excluded", &mut self.excluded), ("role", &mut self.roles), ("group", &mut self.groups)];
        if let Some((_, list)) = lists.into_iter().find(|(known, _)| is(known)) {
            list.push(value);
            return Ok(());
        }
        let singles = [
            ("api-version", &mut self.api_version),
            ("filter", &mut self.filter),
            ("messageTtlSeconds", &mut self.message_ttl_seconds),
            ("reason", &mut self.reason),
            ("userId", &mut self.user_id),
            ("minutesToExpire", &mut self.minutes_to_expire),
            ("clientType", &mut self.client_type),
            ("maxpagesize", &mut self.page_size),
            ("top", &mut self.top),
            ("continuationToken", &mut self.continuation_token),
            ("targetName", &mut self.target_name),
        ];
        if let Some((known, slot)) = singles.into_iter().find(|(known, _)| is(known))
            && slot.replace(value).is_some()
        {
            return Err(ErrorBody::bad_parameter(known, "This parameter may appear only once.").into());
        }
        Ok(())
    }

    /// Seconds to live of a message; 0 is for ever.
    pub(super) fn message_ttl_seconds(&self) -> Result<u32, RouteError> {
        let seconds =
            self.number("messageTtlSeconds", &self.message_ttl_seconds, 0..=MESSAGE_TTL_SECONDS_MAX)?;
        Ok(seconds.unwrap_or_default())
    }

    /// Which of the receivers are meant; `None` for all.
    pub(super) fn filter(&self, filters: &mut Filters) -> Result<Option<Filter>, RouteError> {
        named_filter(self.filter.as_deref().unwrap_or_default(), filters)
    }

    /// The group a permission is for; `None` for all groups.
    pub(super) fn target_name(&self) -> Result<Option<GroupName<'static>>, RouteError> {
        self.target_name.as_deref().map(|name| named_group("targetName", name)).transpose()
    }

    /// Which part of a list of members is asked for.
    pub(super) fn page(&self, hub: &HubName, group: &GroupName<'_>) -> Result<Page, RouteError> {
        let size = self.number("maxpagesize", &self.page_size, 1..=PAGE_SIZE_MAX)?;
        let top = self.number("top", &self.top, 1..=i32::MAX as u32)?;
        let after = match self.continuation_token.as_deref() {
            None => None,
            Some(token) => Some(Cursor::read(token, hub, group).ok_or_else(|| {
                let message = "This continuation token was not made for this list.";
                ErrorBody::bad_parameter("continuationToken", message)
            })?),
        };
        Ok(Page { size, top, after })
    }

    fn number(
        &self,
        name: &'static str,
        text: &Option<Box<str>>,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, RouteError> {
        let Some(text) = text.as_deref() else { return Ok(None) };
        number(text).filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            let rule = format!("{name} is an integer from {} to {}.", range.start(), range.end());
            ErrorBody::bad_parameter(name, rule).into()
        })
    }

    pub(super) fn generate_token(self) -> Result<GenerateToken, RouteError> {
        let user = match self.user_id.as_deref() {
            None | Some("") => None,
            Some(user) => Some(UserId::parse(user).map_err(|invalid| bad_name("userId", invalid))?),
        };
        let groups = self.groups.iter().map(|group| named_group("group", group)).collect::<Result<_, _>>()?;
        let minutes_to_expire = match self.minutes_to_expire.as_deref().map(number::<u32>) {
            None => DEFAULT_MINUTES_TO_EXPIRE,
            Some(Some(minutes @ 1..)) => minutes,
            Some(_) => {
                let rule = "minutesToExpire is an integer of at least 1.";
                return Err(ErrorBody::bad_parameter("minutesToExpire", rule).into());
            }
        };
        let client_type = match self.client_type.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("default") => ClientType::Default,
            Some("mqtt") => ClientType::Mqtt,
            Some("socketio") => ClientType::SocketIo,
            Some(_) => {
                let rule = "clientType is Default, MQTT or SocketIO.";
                return Err(ErrorBody::bad_parameter("clientType", rule).into());
            }
        };
        Ok(GenerateToken { user, roles: self.roles.into(), groups, minutes_to_expire, client_type })
    }
}

const DEFAULT_MINUTES_TO_EXPIRE: u32 = 60;

/// Digits only; `parse` alone would take a sign.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A group's name given as the parameter or path part `target`.
pub(super) fn named_group(target: &'static str, group: &str) -> Result<GroupName<'static>, RouteError> {
    GroupName::parse(group).map(GroupName::into_owned).map_err(|invalid| bad_name(target, invalid))
}

/// A filter given as the parameter or field `filter`; `None` for a blank one.
pub(super) fn named_filter(text: &str, filters: &mut Filters) -> Result<Option<Filter>, RouteError> {
    filters.get(text).map_err(|error| ErrorBody::bad_parameter("filter", error).into())
}

pub(super) fn bad_request(message: &'static str) -> RouteError {
    ErrorBody::new(ErrorCode::BadRequest, message).into()
}

pub(super) fn bad_name(target: &'static str, invalid: InvalidName) -> RouteError {
    ErrorBody::bad_parameter(target, invalid.rule).into()
}
