//! The definitions. A key is a field with its documentation, type, default and bounds, once; here is what there is
//! to know of every section, and below the sections by subject.

#[macro_use]
mod define;
mod events;
mod firewall;
mod hub;
mod limits;
mod oidc;
mod server;

pub(crate) use events::{Auth, AuthKind, EventHandler, EventListener, LISTENERS_MAX, OnUserEventFailure};
pub(crate) use firewall::{CountBy, Firewall};
pub(crate) use hub::{AnonymousPolicy, Hub};
pub(crate) use limits::Limits;
pub(crate) use oidc::{Issuer, Oidc};
pub(crate) use server::{ClientCertificates, Keys, LogFormat, ProxyProtocol, Server, Tls, TlsVersion};

use super::value::Raw;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// One key, as the reference page, the environment and messages see it.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its section: `server`, `keys`, `tls`, `limits`, `hubs.NAME`, `hubs.NAME.reliable`.
    pub(crate) section: &'static str,
    /// Its name there.
    pub(crate) name: &'static str,
    /// The documentation, one line each.
    pub(crate) about: &'static [&'static str],
    /// What the default is when it is not a constant.
    pub(crate) default_words: &'static str,
    /// The kind of value.
    pub(crate) kind: fn() -> String,
    /// The default, as TOML; empty if there is none.
    pub(crate) default: fn() -> String,
}

impl Key {
    /// Whether a variable can set it: not if there can be several of its section.
    pub(crate) fn has_env(&self) -> bool {
        !self.section.contains('.')
    }

    /// The variable that sets it.
    pub(crate) fn env_name(&self) -> String {
        let name = self.name.to_ascii_uppercase();
        match (self.section, name.strip_suffix("_FILE")) {
            ("keys", Some(key)) => format!("RINGHUB_{key}_KEY_FILE"),
            ("keys", None) => format!("RINGHUB_{name}_KEY"),
            ("tls", _) => format!("RINGHUB_TLS_{name}"),
            _ => format!("RINGHUB_{name}"),
        }
    }
}

/// What there is to know of a kind of section before there is one.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its name in full, as the reference page has it.
    pub(crate) path: &'static str,
    /// What it is about.
    pub(crate) about: &'static [&'static str],
    /// Its keys, in the order of the page.
    pub(crate) keys: &'static [Key],
    /// The tables in it and its lists of tables, in the order of the page.
    pub(crate) subs: &'static [Sub],
}

/// A table in a section, or a list of them.
#[derive(Debug)]
pub(crate) struct Sub {
    /// Its name there.
    pub(crate) name: &'static str,
    /// What it, or each entry, is.
    pub(crate) shape: &'static Shape,
    /// Most entries of a list (`[[section.name]]`, in order); `None` for a table.
    pub(crate) entries_max: Option<usize>,
}

impl Shape {
    /// This and everything in it, each with whether it is a list's entry and most of them, in the order of the page.
    pub(crate) fn tree(&'static self, entries_max: Option<usize>) -> Vec<(&'static Self, Option<usize>)> {
        let below = self.subs.iter().flat_map(|sub| sub.shape.tree(sub.entries_max));
        std::iter::once((self, entries_max)).chain(below).collect()
    }
}

/// What every section can do.
pub(crate) trait Section {
    /// What kind it is.
    fn shape(&self) -> &'static Shape;
    /// Sets a key that exists; the error is what the value must be.
    fn set(&mut self, name: &str, raw: Raw<'_>) -> Result<(), String>;
    /// Its values as TOML; a key without a value is left out.
    fn show(&self) -> Vec<(&'static str, String)>;
    /// The same with secrets as they are, to see whether they changed; nobody is to show it.
    fn reveal(&self) -> Vec<(&'static str, String)>;
    /// The files that its keys name.
    fn files(&self) -> Vec<PathBuf>;
    /// The table of that name, or a new entry at the end of the list of that name.
    ///
    /// # Panics
    /// If there is no such table or list.
    fn sub_mut(&mut self, name: &str) -> &mut dyn Section;
    /// The table of that name alone, or the entries of the list of that name.
    ///
    /// # Panics
    /// If there is no such table or list.
    fn subs(&self, name: &str) -> Vec<&dyn Section>;
    /// What is wrong with it as a whole, once all its keys are read.
    fn check(&self) -> Result<(), Unfit>;
}

/// Values that are legal one by one and not together.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// The key to look at, by its name in the section.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) problem: &'static str,
    /// What to do, a sentence.
    pub(crate) fix: &'static str,
}

/// The kinds of sections at the top, but for hubs, which have names of their own.
pub(crate) const TOP: [&Shape; 6] =
    [&Server::SHAPE, &Keys::SHAPE, &Tls::SHAPE, &Oidc::SHAPE, &Limits::SHAPE, &Firewall::SHAPE];

/// Every kind of section with, for a list's entry, most of them; in the order of the page.
pub(crate) fn shapes() -> impl Iterator<Item = (&'static Shape, Option<usize>)> {
    TOP.into_iter().chain([&Hub::SHAPE]).flat_map(|shape| shape.tree(None))
}

/// Keys and sections, by their full names, of which a change needs a restart: what cores and the
/// side thread are built with.
pub(crate) const RESTART: [&str; 6] =
    ["server.listen", "server.admin_listen", "server.cores", "server.oidc", "server.log_format", "oidc"];

/// Every key, in the order of the page.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    shapes().flat_map(|(shape, _)| shape.keys)
}

/// Any length.
const ANY: RangeInclusive<u64> = 0..=u64::MAX;
/// Longest time a key can name, in seconds: a day.
const SECONDS: RangeInclusive<u64> = 1..=86_400;
