//! What is wrong with a configuration, and where: errors for the operator.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration that cannot be used, for the operator: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The file, if a file is at fault.
    pub(crate) file: Option<PathBuf>,
    /// Its line, from 1.
    pub(crate) line: Option<usize>,
    /// The key in full, the variable or the flag.
    pub(crate) key: Option<String>,
    /// What is wrong, without the value if it is secret.
    pub(crate) problem: String,
    /// What to do, a sentence; empty if the problem says it.
    pub(crate) fix: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)?;
        if !self.fix.is_empty() {
            write!(f, "\n  fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// A key of a table and its value, with their places in the file.
pub(super) type Entry<'t, 'i> = (&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

/// A file being read, for messages.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Place<'_> {
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    pub(super) fn error(&self, offset: usize, key: &str, problem: String, fix: &str) -> ConfigError {
        ConfigError {
            file: Some(self.path.to_owned()),
            line: Some(self.line(offset)),
            key: Some(key.to_owned()),
            problem,
            fix: fix.to_owned(),
        }
    }

    pub(super) fn unknown<'n>(
        &self,
        offset: usize,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> ConfigError {
        let nearest = nearest(name, known);
        self.error(offset, name, format!("unknown {what}"), &format!("Did you mean {nearest}?"))
    }

    pub(super) fn table<'t, 'i>(
        &self,
        section: &str,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Result<Vec<Entry<'t, 'i>>, ConfigError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(in_order(table)),
            _ => Err(self.error(
                value.span().start,
                section,
                "this is a section, not a value".into(),
                &format!("Write [{section}] on a line of its own and the keys below it."),
            )),
        }
    }
}

/// A table as it stands in the file, so that the first fault is the one reported.
pub(super) fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

/// The known name a person most likely meant: the least edits, the last part of the name counting first,
/// since a key in the wrong section is as common as a slip of the finger.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> &'n str {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    known
        .min_by_key(|candidate| (edits(&last(name), &last(candidate)), edits(name, candidate)))
        .expect("there are known names")
}

/// Levenshtein distance in bytes; an adjacent swap counts two.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_prefers_the_last_part() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(nearest("server.cors", ["server.cores", "server.listen"].into_iter()), "server.cores");
    }
}
