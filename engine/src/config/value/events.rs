//! Values that say which events are wanted, and what becomes of them.

use super::{Form, Raw, Setting, list, quoted, show_list};
use ringhub_protocol::events::{GroupPatterns, SystemEvents, UserEvents};
use ringhub_relay::listener::Destination;
use std::ops::RangeInclusive;
use toml::de::DeValue;

impl Setting for UserEvents {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "`\"*\"`, the name of an event, or names with commas between them".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let text = raw.text().ok_or_else(|| "must be text".to_owned())?;
        Self::parse(text).map_err(str::to_owned)
    }

    fn show(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::All => quoted("*"),
            Self::Named(names) => quoted(&names.join(",")),
        }
    }
}

/// System events by name, in the order of a connection's life.
fn system_events(events: &SystemEvents) -> impl Iterator<Item = &'static str> {
    let all =
        [("connect", events.connect), ("connected", events.connected), ("disconnected", events.disconnected)];
    all.into_iter().filter_map(|(name, wanted)| wanted.then_some(name))
}

impl Setting for SystemEvents {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "list of `\"connect\"`, `\"connected\"` and `\"disconnected\"`".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let mut events = Self::default();
        let names = list(raw, |name| Some(name.to_owned()));
        if names.is_some_and(|names| names.iter().all(|name| events.add(name))) {
            return Ok(events);
        }
        Err("must be a list of \"connect\", \"connected\" and \"disconnected\"".into())
    }

    fn show(&self) -> String {
        show_list(system_events(self))
    }
}

/// Which changes of a group's members are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PresenceEvents {
    /// A connection joined.
    pub(crate) joined: bool,
    /// A connection left.
    pub(crate) left: bool,
}

impl Setting for PresenceEvents {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "list of `\"joined\"` and `\"left\"`".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let wrong = || "must be a list of \"joined\" and \"left\"".to_owned();
        let mut events = Self::default();
        for name in list(raw, |name| Some(name.to_owned())).ok_or_else(wrong)? {
            match name.to_ascii_lowercase().as_str() {
                "joined" => events.joined = true,
                "left" => events.left = true,
                _ => return Err(wrong()),
            }
        }
        Ok(events)
    }

    fn show(&self) -> String {
        let all = [("joined", self.joined), ("left", self.left)];
        show_list(all.into_iter().filter_map(|(name, wanted)| wanted.then_some(name)))
    }
}

/// Groups; the range is how many patterns.
impl Setting for GroupPatterns {
    fn kind(range: &RangeInclusive<u64>) -> String {
        format!("list of at most {} names of groups, each perhaps with `*` at its end", range.end())
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let patterns = list(raw, |pattern| Some(pattern.to_owned()))
            .filter(|patterns| range.contains(&(patterns.len() as u64)))
            .ok_or_else(|| format!("must be a list of at most {} patterns", range.end()))?;
        Self::parse(patterns.iter().map(String::as_str)).map_err(str::to_owned)
    }

    fn show(&self) -> String {
        show_list(self.iter())
    }
}

/// Waits between attempts, in seconds; the range is of each.
impl Setting for Vec<u64> {
    fn kind(range: &RangeInclusive<u64>) -> String {
        format!("list of at most {WAITS_MAX} whole numbers from {} to {}", range.start(), range.end())
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let wrong = || format!("must be a {}", Self::kind(range));
        let Form::Toml(DeValue::Array(items)) = raw.form else { return Err(wrong()) };
        let number = |item: &DeValue<'_>| u64::read(Raw { form: Form::Toml(item), ..raw }, range);
        let waits: Result<Self, String> = items.iter().map(|item| number(item.get_ref())).collect();
        waits.ok().filter(|waits| waits.len() <= WAITS_MAX).ok_or_else(wrong)
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

/// Most waits, which is most attempts after the first.
const WAITS_MAX: usize = 10;

/// Where a listener's lines go.
impl Setting for Option<Destination> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "path of a file, or `\"-\"` for standard output".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        match raw.text() {
            Some("-") => Ok(Some(Destination::Stdout)),
            Some(path) if !path.is_empty() => Ok(Some(Destination::File(path.into()))),
            _ => Err("must be the path of a file, or \"-\" for standard output".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            None => String::new(),
            Some(Destination::Stdout) => quoted("-"),
            Some(Destination::File(path)) => quoted(&path.to_string_lossy()),
        }
    }
}
