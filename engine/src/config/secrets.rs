//! Secrets that stand elsewhere: in a text, `{env:NAME}` is a variable of the environment and `{file:/path}` a file.
//!
//! What must stay true: no secret is in an error, in what is shown or in `Debug`; a secret that is not there stops
//! the start.

use super::value::{Environment, Raw, Setting, quoted};
use ringhub_protocol::events::template::masked;
use ringhub_protocol::events::{SecretSource, UrlTemplate};
use std::fmt;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Most bytes of a file with a secret; a longer one is refused.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The secret in a file, without the line end after it.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it has more than 64 KiB, so it is hardly a secret"));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Finds secrets and remembers which files they were in.
struct Finder<'a> {
    environment: Environment<'a>,
    files: Vec<PathBuf>,
}

impl<'a> Finder<'a> {
    fn new(environment: Environment<'a>) -> Self {
        Self { environment, files: Vec::new() }
    }

    /// A secret's text; the error is a sentence for the operator.
    fn find(&mut self, source: SecretSource<'_>) -> Result<String, String> {
        let found = match source {
            SecretSource::Env(name) => {
                (self.environment)(name).ok_or_else(|| format!("the variable {name} is not set"))?
            }
            SecretSource::File(path) if !path.starts_with('/') => {
                return Err(format!("{{file:{path}}} must have a path that starts with /"));
            }
            SecretSource::File(path) => {
                self.files.push(path.into());
                of_file(Path::new(path)).map_err(|error| format!("{path} cannot be read: {error}"))?
            }
        };
        if !found.is_empty() {
            return Ok(found);
        }
        Err(match source {
            SecretSource::Env(name) => format!("the variable {name} is empty"),
            SecretSource::File(path) => format!("{path} is empty"),
        })
    }
}

/// A text that is a secret, or has secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretText {
    /// As configured, all that is not a source as `…`.
    shown: Box<str>,
    text: Box<str>,
    files: Vec<PathBuf>,
}

impl SecretText {
    /// Reads a text; the error is what is wrong, without what may be secret.
    fn parse(written: &str, environment: Environment<'_>) -> Result<Self, String> {
        let mut finder = Finder::new(environment);
        let (mut shown, mut text, mut rest) = (String::new(), String::new(), written);
        while let Some((literal, source, after)) = next_source(rest)? {
            if !literal.is_empty() {
                shown.push('…');
            }
            text.push_str(literal);
            text.push_str(&finder.find(source)?);
            shown.push_str(&match source {
                SecretSource::Env(name) => format!("{{env:{name}}}"),
                SecretSource::File(path) => format!("{{file:{path}}}"),
            });
            rest = after;
        }
        text.push_str(rest);
        match (shown.is_empty(), rest.is_empty()) {
            (true, _) => shown.push_str("(set, not shown)"),
            (false, false) => shown.push('…'),
            (false, true) => {}
        }
        Ok(Self { shown: shown.into(), text: text.into(), files: finder.files })
    }

    /// The text with its secrets in place, for who sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }
}

/// What stands before the first source of a text, the source, and what follows it.
fn next_source(text: &str) -> Result<Option<(&str, SecretSource<'_>, &str)>, String> {
    type Make<'t> = fn(&'t str) -> SecretSource<'t>;
    let kinds: [(&str, Make<'_>); 2] = [("{env:", SecretSource::Env), ("{file:", SecretSource::File)];
    let found = kinds.into_iter().filter_map(|(mark, make)| Some((text.find(mark)?, mark, make)));
    let Some((at, mark, make)) = found.min_by_key(|(at, ..)| *at) else { return Ok(None) };
    let unclosed = || format!("has {mark} without a closing brace");
    let (name, after) = text[at + mark.len()..].split_once('}').ok_or_else(unclosed)?;
    Ok(Some((&text[..at], make(name), after)))
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Setting for Option<SecretText> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "text, with `{env:NAME}` and `{file:/path}` for secrets that stand there".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let text = raw.text().filter(|text| !text.is_empty()).ok_or_else(|| "must be text".to_owned())?;
        SecretText::parse(text, raw.environment).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, |text| quoted(&text.shown))
    }

    fn reveal(&self) -> String {
        self.as_ref().map_or_else(String::new, |text| text.text.to_string())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.as_ref().map_or_else(Vec::new, |text| text.files.clone())
    }
}

/// Where a handler is, with its secrets in place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template {
    url: UrlTemplate,
    /// As configured. The sources of its secrets are named there, so people are shown this, masked.
    written: Box<str>,
    files: Vec<PathBuf>,
}

impl Template {
    /// The template.
    pub(crate) fn url(&self) -> &UrlTemplate {
        &self.url
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.url, f)
    }
}

impl Setting for Option<Template> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "`http://` or `https://` URL, with `{hub}` and `{event}` after its host, and `{env:NAME}` and `{file:/path}` \
         for secrets that stand there"
            .into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let written = raw.text().ok_or_else(|| "must be text".to_owned())?;
        let mut finder = Finder::new(raw.environment);
        let url = UrlTemplate::parse(written, &mut |source| finder.find(source));
        let url = url.map_err(|invalid| invalid.0)?;
        Ok(Some(Template { url, written: written.into(), files: finder.files }))
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, |template| quoted(&masked(&template.written)))
    }

    fn reveal(&self) -> String {
        // The names matter as little as any: secrets are at the same places whatever they are.
        self.as_ref().map_or_else(String::new, |Template { url, written, .. }| {
            written.to_string() + &url.expand("h", "e")
        })
    }

    fn files(&self) -> Vec<PathBuf> {
        self.as_ref().map_or_else(Vec::new, |template| template.files.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SecretText, String> {
        SecretText::parse(text, &|name| match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn sources_are_replaced_and_everything_else_is_as_it_is() {
        for (written, text, shown) in [
            ("plain", "plain", "(set, not shown)"),
            ("{env:A}", "alpha", "{env:A}"),
            ("Bearer {env:A}", "Bearer alpha", "…{env:A}"),
            ("{env:A}{env:A}x", "alphaalphax", "{env:A}{env:A}…"),
            ("{a} } {env {ENV:A}", "{a} } {env {ENV:A}", "(set, not shown)"),
        ] {
            let secret = parse(written).unwrap();
            assert_eq!((secret.expose(), &*secret.shown), (text, shown), "{written}");
            assert_eq!(format!("{secret:?}"), shown);
        }
        for (written, problem) in [
            ("{env:NONE}", "the variable NONE is not set"),
            ("{env:EMPTY}", "the variable EMPTY is empty"),
            ("{env:A", "has {env: without a closing brace"),
            ("{file:relative}", "{file:relative} must have a path that starts with /"),
        ] {
            assert_eq!(parse(written).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_file_that_is_hardly_a_secret_is_refused() {
        let file = std::env::temp_dir().join(format!("ringhub-long-secret-{}", std::process::id()));
        let most = FILE_BYTES_MAX as usize;
        std::fs::write(&file, "s".repeat(most)).unwrap();
        assert_eq!(of_file(&file).unwrap().len(), most);
        std::fs::write(&file, "s".repeat(most + 1)).unwrap();
        let refused = of_file(&file).unwrap_err().to_string();
        std::fs::remove_file(&file).unwrap();
        assert!(refused.contains("more than 64 KiB"), "{refused}");
    }
}
