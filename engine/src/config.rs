//! Configuration: every key is defined once, in [`keys`], and from there come parsing, defaults, bounds,
//! environment names, `ringhub check` and the reference page `docs/configuration.md`.
//!
//! Layers, strongest first: flags, environment, file, defaults. What must stay true: an unknown key, a
//! wrong type or a value out of bounds stops the start with file, line, key and fix; a secret never appears
//! in an error or in [`Config::to_text`]; a value that got in here is legal everywhere else.

mod fault;
pub(crate) mod keys;
pub(crate) mod reference;
mod secrets;
mod value;

pub(crate) use fault::ConfigError;
pub(crate) use keys::{
    AnonymousPolicy, Auth, AuthKind, ClientCertificates, CountBy, EventHandler, EventListener, Firewall, Hub,
    Issuer, Keys, Limits, LogFormat, Oidc, OnUserEventFailure, ProxyProtocol, Section, Server, Tls,
    TlsVersion,
};
pub(crate) use value::Secret;

use fault::{Place, in_order};
use keys::{Shape, Sub};
use ringhub_protocol::name::HubName;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use value::{Environment, Raw};

/// The effective configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) keys: Keys,
    pub(crate) tls: Tls,
    pub(crate) oidc: Oidc,
    pub(crate) limits: Limits,
    pub(crate) firewall: Firewall,
    hubs: BTreeMap<HubName, Hub>,
    /// Where each value that is not a default came from, by its full name.
    sources: BTreeMap<String, Source>,
}

impl Config {
    /// Reads the file, if any, then the environment, then `flags` (key names with values as typed).
    pub(crate) fn load(
        file: Option<&Path>,
        environment: Environment<'_>,
        flags: &[(&'static str, String)],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
                file: Some(path.to_owned()),
                line: None,
                key: None,
                problem: format!("cannot be read: {error}"),
                fix: "Name an existing file with --config, or leave it out: every key has a default.".into(),
            })?;
            config.read_file(path, &text, environment)?;
        }
        for key in keys::all().filter(|key| key.has_env()) {
            let Some(text) = environment(&key.env_name()) else { continue };
            config.set_text(key.section, key.name, Raw::typed(&text, environment), Source::Environment)?;
        }
        for (full_name, text) in flags {
            let (section, name) = full_name.split_once('.').expect("flags name keys in full");
            config.set_text(section, name, Raw::typed(text, environment), Source::Flag)?;
        }
        config.check_whole()?;
        config.read_key_files()?;
        Ok(config)
    }

    /// Sections that variables and flags have a part in can be looked at as a whole only now.
    fn check_whole(&self) -> Result<(), ConfigError> {
        for section in self.top() {
            section.check().map_err(|unfit| {
                let key = format!("{}.{}", section.shape().path, unfit.key);
                self.fault(key, unfit.problem.into(), unfit.fix)
            })?;
        }
        self.check_listeners()
    }

    /// Their bound is over all hubs.
    fn check_listeners(&self) -> Result<(), ConfigError> {
        let mut files = self.hubs.iter().flat_map(|(name, hub)| {
            let entries = 0..hub.event_listeners.len();
            entries.map(move |index| format!("{}.event_listeners[{index}].file", hub_path(name)))
        });
        files.nth(keys::LISTENERS_MAX).map_or(Ok(()), |key| {
            let problem = format!("there may be at most {} listeners over all hubs", keys::LISTENERS_MAX);
            Err(self.fault(key, problem, "Remove what is over."))
        })
    }

    /// Takes access keys from the files that are named for them.
    fn read_key_files(&mut self) -> Result<(), ConfigError> {
        let Keys { primary_file, secondary_file, .. } = self.keys.clone();
        for (name, file) in [("primary", primary_file), ("secondary", secondary_file)] {
            let Some(file) = file else { continue };
            let key = || format!("keys.{name}_file");
            let slot = if name == "primary" { &self.keys.primary } else { &self.keys.secondary };
            if slot.is_some() {
                let problem = format!("and keys.{name} are both set");
                return Err(self.fault(key(), problem, "Keep one of the two."));
            }
            let text = secrets::of_file(&file).map_err(|error| {
                let problem = format!("{} cannot be read: {error}", file.display());
                self.fault(key(), problem, "Name a file this process may read.")
            })?;
            let secret = Secret::parse(&text)
                .map_err(|rule| self.fault(key(), format!("the text of {} {rule}", file.display()), ""))?;
            let slot = if name == "primary" { &mut self.keys.primary } else { &mut self.keys.secondary };
            *slot = Some(secret);
            self.sources.insert(format!("keys.{name}"), Source::File(file, 1));
        }
        Ok(())
    }

    /// An error about a key that was read, wherever it came from.
    fn fault(&self, key: String, problem: String, fix: &str) -> ConfigError {
        let (file, line) = match self.sources.get(&key) {
            Some(Source::File(file, line)) => (Some(file.clone()), Some(*line)),
            _ => (None, None),
        };
        ConfigError { file, line, key: Some(key), problem, fix: fix.to_owned() }
    }

    /// The hubs that have a section.
    pub(crate) fn hubs(&self) -> impl Iterator<Item = (&HubName, &Hub)> {
        self.hubs.iter()
    }

    /// The whole configuration as a TOML file, keys masked, each value with where it came from.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for section in self.top() {
            let path = section.shape().path;
            self.show_section(&mut text, path, path, false, section);
        }
        for (name, hub) in &self.hubs {
            let path = hub_path(name);
            self.show_section(&mut text, &path, &path, false, hub);
        }
        text
    }

    /// `path` numbers the entries of lists, as sources are named; `heading` is as TOML has it.
    fn show_section(
        &self,
        text: &mut String,
        path: &str,
        heading: &str,
        is_entry: bool,
        section: &dyn Section,
    ) {
        let shape = section.shape();
        if is_entry || !shape.keys.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            let heading = if is_entry { format!("[[{heading}]]") } else { format!("[{heading}]") };
            let _ = writeln!(text, "{gap}{heading}");
        }
        for (name, value) in section.show() {
            let source = self.sources.get(&format!("{path}.{name}")).unwrap_or(&Source::Default);
            let assignment = format!("{name} = {value}");
            let _ = writeln!(text, "{assignment:<48} # {source}");
        }
        for sub in shape.subs {
            let heading = format!("{heading}.{}", sub.name);
            for (index, below) in section.subs(sub.name).into_iter().enumerate() {
                let path = sub_path(path, sub, index);
                self.show_section(text, &path, &heading, sub.entries_max.is_some(), below);
            }
        }
    }

    /// What is different in `new`, by key.
    pub(crate) fn changes(&self, new: &Self) -> Vec<Change> {
        let (mut old, mut new) = (self.clone(), new.clone());
        // A hub without a section has the defaults.
        for (hub, _) in self.hubs().chain(new.clone().hubs()) {
            old.hubs.entry(hub.clone()).or_default();
            new.hubs.entry(hub.clone()).or_default();
        }
        let (old, new) = (old.values(), new.values());
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let change = |key: &String| {
            let (old, new) = (old.get(key), new.get(key));
            if old.map(|value| &value.revealed) == new.map(|value| &value.revealed) {
                return None;
            }
            let shown = |value: Option<&Value>| {
                value.map_or_else(|| "(none)".to_owned(), |value| value.shown.clone())
            };
            let (old, mut new) = (shown(old), shown(new));
            if old == new {
                new = "(another, not shown)".into();
            }
            Some(Change { key: key.clone(), old, new })
        };
        keys.into_iter().filter_map(change).collect()
    }

    /// Every file that keys name and a reload reads again.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let sections = self.sections();
        let read_again = sections.iter().filter(|(path, _)| !needs_restart(path));
        read_again.flat_map(|(_, section)| section.files()).collect()
    }

    /// Every value that is there, by its full name.
    fn values(&self) -> BTreeMap<String, Value> {
        let mut values = BTreeMap::new();
        for (path, section) in self.sections() {
            for ((name, shown), (_, revealed)) in section.show().into_iter().zip(section.reveal()) {
                values.insert(format!("{path}.{name}"), Value { shown, revealed });
            }
        }
        values
    }

    /// Every section there is, with its full name.
    fn sections(&self) -> Vec<(String, &dyn Section)> {
        fn add<'s>(all: &mut Vec<(String, &'s dyn Section)>, path: String, section: &'s dyn Section) {
            for sub in section.shape().subs {
                for (index, below) in section.subs(sub.name).into_iter().enumerate() {
                    add(all, sub_path(&path, sub, index), below);
                }
            }
            all.push((path, section));
        }
        let mut all = Vec::new();
        for section in self.top() {
            add(&mut all, section.shape().path.to_owned(), section);
        }
        for (name, hub) in &self.hubs {
            add(&mut all, hub_path(name), hub);
        }
        all
    }

    /// A configuration of this text alone, as if it stood in `ringhub.toml`.
    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.read_file(Path::new("ringhub.toml"), text, &|_| None)?;
        config.check_whole()?;
        Ok(config)
    }

    fn top(&self) -> [&dyn Section; keys::TOP.len()] {
        [&self.server, &self.keys, &self.tls, &self.oidc, &self.limits, &self.firewall]
    }

    fn top_mut(&mut self) -> [&mut dyn Section; keys::TOP.len()] {
        [
            &mut self.server,
            &mut self.keys,
            &mut self.tls,
            &mut self.oidc,
            &mut self.limits,
            &mut self.firewall,
        ]
    }

    fn read_file(
        &mut self,
        path: &Path,
        text: &str,
        environment: Environment<'_>,
    ) -> Result<(), ConfigError> {
        let place = Place { path, text };
        let root = DeTable::parse(text).map_err(|error| ConfigError {
            file: Some(path.to_owned()),
            line: error.span().map(|span| place.line(span.start)),
            key: None,
            problem: format!("not valid TOML: {}", error.message()),
            fix: "The format is described at toml.io; docs/configuration.md has an example.".into(),
        })?;
        for (name, value) in in_order(root.get_ref()) {
            let section = name.get_ref().as_ref();
            if section == "hubs" {
                for (name, value) in place.table(section, value)? {
                    self.read_hub(&place, name, value, environment)?;
                }
                continue;
            }
            let sources = &mut std::mem::take(&mut self.sources);
            let Some(known) = self.top_mut().into_iter().find(|known| known.shape().path == section) else {
                let known = keys::TOP.iter().map(|shape| shape.path).chain(["hubs.NAME"]);
                return Err(place.unknown(name.span().start, "section", section, known));
            };
            Reading { place: &place, sources, environment }.section(section, known, value)?;
            self.sources = std::mem::take(sources);
        }
        Ok(())
    }

    fn read_hub(
        &mut self,
        place: &Place<'_>,
        name: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        environment: Environment<'_>,
    ) -> Result<(), ConfigError> {
        let hub = HubName::parse(name.get_ref()).map_err(|error| {
            place.error(
                name.span().start,
                &format!("hubs.{}", name.get_ref()),
                "not a hub name".into(),
                error.rule,
            )
        })?;
        if self.hubs.contains_key(&hub) {
            return Err(place.error(
                name.span().start,
                &hub_path(&hub),
                "this hub has a section already".into(),
                "Hub names ignore case; keep one of the two.",
            ));
        }
        let path = hub_path(&hub);
        let section = self.hubs.entry(hub).or_default();
        Reading { place, sources: &mut self.sources, environment }.section(&path, section, value)
    }

    fn set_text(
        &mut self,
        section: &str,
        name: &str,
        raw: Raw<'_>,
        source: Source,
    ) -> Result<(), ConfigError> {
        let known = self.top_mut().into_iter().find(|known| known.shape().path == section);
        let known = known.expect("variables and flags name keys in full");
        known.set(name, raw).map_err(|problem| {
            let key = keys::all().find(|key| key.section == section && key.name == name);
            let key = match source {
                Source::Environment => key.map(keys::Key::env_name),
                _ => Some(format!("--{}", name.replace('_', "-"))),
            };
            ConfigError { file: None, line: None, key, problem, fix: String::new() }
        })?;
        self.sources.insert(format!("{section}.{name}"), source);
        Ok(())
    }
}

/// A value to be compared.
struct Value {
    shown: String,
    revealed: String,
}

/// One key that is different in another configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its full name; entries of lists are numbered.
    pub(crate) key: String,
    /// What it was, as TOML, secrets masked.
    pub(crate) old: String,
    /// What it is.
    pub(crate) new: String,
}

impl Change {
    /// Whether it has no effect on a running server.
    pub(crate) fn needs_restart(&self) -> bool {
        needs_restart(&self.key)
    }
}

/// Whether a key, or all of a section, has an effect at the start only.
fn needs_restart(key: &str) -> bool {
    keys::RESTART.iter().any(|fixed| {
        key.strip_prefix(fixed).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// A file being read into sections.
struct Reading<'a> {
    place: &'a Place<'a>,
    sources: &'a mut BTreeMap<String, Source>,
    environment: Environment<'a>,
}

impl Reading<'_> {
    /// Reads a section with everything in it; `path` is its name in full, entries of lists numbered.
    fn section(
        &mut self,
        path: &str,
        section: &mut dyn Section,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let (place, shape) = (self.place, section.shape());
        for (name, value) in place.table(path, value)? {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let full_name = format!("{path}.{name}");
            if let Some(sub) = shape.subs.iter().find(|sub| sub.name == name) {
                self.sub(path, section, sub, value)?;
                continue;
            }
            if !shape.keys.iter().any(|key| key.name == name) {
                return Err(unknown_key(place, at, shape, name));
            }
            let raw = Raw::of_file(value.get_ref(), self.environment);
            section.set(name, raw).map_err(|problem| place.error(at, &full_name, problem, ""))?;
            self.sources.insert(full_name, Source::File(place.path.to_owned(), place.line(at)));
        }
        if keys::TOP.iter().any(|top| top.path == path) {
            // The environment has its part in it too: it is looked at when that is read.
            return Ok(());
        }
        section.check().map_err(|unfit| {
            let full_name = format!("{path}.{}", unfit.key);
            let error = place.error(value.span().start, &full_name, unfit.problem.into(), unfit.fix);
            match self.sources.get(&full_name) {
                Some(Source::File(_, line)) => ConfigError { line: Some(*line), ..error },
                _ => error,
            }
        })
    }

    /// Reads a table or a list of tables in a section.
    fn sub(
        &mut self,
        path: &str,
        section: &mut dyn Section,
        sub: &Sub,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let full_name = format!("{path}.{}", sub.name);
        let Some(entries_max) = sub.entries_max else {
            return self.section(&full_name, section.sub_mut(sub.name), value);
        };
        let place = self.place;
        let DeValue::Array(entries) = value.get_ref() else {
            let fix =
                format!("Write [[{full_name}]] on a line of its own and the keys of one entry below it.");
            return Err(place.error(
                value.span().start,
                &full_name,
                "this is a list of sections".into(),
                &fix,
            ));
        };
        for (index, entry) in entries.iter().enumerate() {
            let path = sub_path(path, sub, index);
            if index == entries_max {
                let problem = format!("there may be at most {entries_max} of these");
                return Err(place.error(entry.span().start, &path, problem, "Remove what is over."));
            }
            self.section(&path, section.sub_mut(sub.name), entry)?;
        }
        Ok(())
    }
}

/// The name of a table in a section, or of an entry of a list, in full.
fn sub_path(path: &str, sub: &Sub, index: usize) -> String {
    match sub.entries_max {
        None => format!("{path}.{}", sub.name),
        Some(_) => format!("{path}.{}[{index}]", sub.name),
    }
}

fn unknown_key(place: &Place<'_>, at: usize, shape: &Shape, name: &str) -> ConfigError {
    let keys = keys::all().map(|key| format!("{}.{}", key.section, key.name));
    let subs = keys::shapes().flat_map(|(shape, _)| shape.subs).map(|sub| sub.shape.path.to_owned());
    let names: Vec<String> = keys.chain(subs).collect();
    let full_name = format!("{}.{name}", shape.path);
    place.unknown(at, "key", &full_name, names.iter().map(String::as_str))
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Default,
    File(PathBuf, usize),
    Environment,
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A hub's section as one writes it.
pub(crate) fn hub_path(name: &HubName) -> String {
    let name = name.as_str();
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if bare { format!("hubs.{name}") } else { format!("hubs.\"{name}\"") }
}

#[cfg(test)]
mod tests;
