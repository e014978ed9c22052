//! URL templates of handlers (`event-handlers` §1.1).
//!
//! What must stay true: whatever hub and event are put in, the result is a legal absolute URL of at most
//! [`URL_BYTES_MAX`] bytes on the host that the operator wrote. So everything is checked once, when the template is
//! read: what an event brings is percent-encoded and stands behind the host.

use core::net::Ipv6Addr;
use std::fmt;

/// Longest template, in bytes, with its secrets in place.
pub const TEMPLATE_BYTES_MAX: usize = 4 * 1024;

/// Most `{hub}` and `{event}` of a template.
pub const PARAMETERS_MAX: usize = 16;

/// Longest URL that comes of a template, in bytes: names of hubs and events have at most 128 characters, each of
/// which takes at most three when it is percent-encoded.
pub const URL_BYTES_MAX: usize = TEMPLATE_BYTES_MAX + PARAMETERS_MAX * 3 * 128;

/// Where a secret in a template comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretSource<'a> {
    /// `{env:NAME}`.
    Env(&'a str),
    /// `{file:/path}`.
    File(&'a str),
}

/// A template that is none, for the operator: a sentence without any secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTemplate(pub String);

/// A checked template with its secrets in place. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    parts: Vec<Part>,
}

// No `Debug`: a secret must not get out by way of it.
#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hub,
    Event,
    Secret(String),
}

impl UrlTemplate {
    /// Reads a template; `secret` finds the text of a secret, or says why not. The text is put in as it is: it must
    /// be legal in a URL, without the line end of its file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(
        text: &str,
        secret: &mut dyn FnMut(SecretSource<'_>) -> Result<String, String>,
    ) -> Result<Self, InvalidTemplate> {
        check_length(text.len())?;
        let (start, mut rest) = split_start(text)?;
        let mut parts = vec![Part::Text(start.to_owned())];
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, braced) = rest.split_at(at);
            if !literal.is_empty() {
                parts.push(literal_part(literal)?);
            }
            let inside = braced.strip_prefix('{').and_then(|braced| braced.split_once('}'));
            let Some((parameter, after)) = inside else {
                return invalid("A brace that belongs to no parameter must be written as %7B or %7D.");
            };
            parts.push(parameter_part(parameter, secret)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(literal_part(rest)?);
        }
        check_bounds(&parts)?;
        Ok(Self { parts })
    }

    /// The URL of an event; both values are percent-encoded.
    pub fn expand(&self, hub: &str, event: &str) -> String {
        let mut url = String::with_capacity(self.parts.iter().map(|part| part.room(hub, event)).sum());
        for part in &self.parts {
            match part {
                Part::Text(text) | Part::Secret(text) => url.push_str(text),
                Part::Hub => push_encoded(&mut url, hub),
                Part::Event => push_encoded(&mut url, event),
            }
        }
        url
    }

    /// The template as configured, for logs and the inspector: secrets, and what may be one ([`masked`]), as `…`.
    pub fn shown(&self) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Hub => "{hub}",
            Part::Event => "{event}",
            Part::Secret(_) => "…",
        });
        masked(&parts.collect::<String>())
    }
}

/// A template with `…` for every value of its query but parameters: people write secrets there in so many words
/// (`?code=…`).
pub fn masked(template: &str) -> String {
    let Some((path, query)) = template.split_once('?') else { return template.to_owned() };
    let is_parameter = |value: &str| value.starts_with('{') && value.find('}') == Some(value.len() - 1);
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((_, value)) if value.is_empty() || is_parameter(value) => pair.to_owned(),
        Some((name, _)) => format!("{name}=…"),
        None if pair.is_empty() || is_parameter(pair) => pair.to_owned(),
        None => "…".to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Part {
    /// Bytes it takes, as long as nothing has to be encoded.
    fn room(&self, hub: &str, event: &str) -> usize {
        match self {
            Self::Text(text) | Self::Secret(text) => text.len(),
            Self::Hub => hub.len(),
            Self::Event => event.len(),
        }
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, InvalidTemplate> {
    Err(InvalidTemplate(message.into()))
}

fn check_length(bytes: usize) -> Result<(), InvalidTemplate> {
    if bytes > TEMPLATE_BYTES_MAX {
        return invalid("A URL template has at most 4096 bytes, its secrets counted.");
    }
    Ok(())
}

fn check_bounds(parts: &[Part]) -> Result<(), InvalidTemplate> {
    check_length(parts.iter().map(|part| part.room("", "")).sum())?;
    if parts.iter().filter(|part| matches!(part, Part::Hub | Part::Event)).count() > PARAMETERS_MAX {
        return invalid("A URL template has at most 16 times {hub} or {event}.");
    }
    Ok(())
}

/// Scheme and authority, which have to be there in so many words, and what stands behind them.
fn split_start(text: &str) -> Result<(&str, &str), InvalidTemplate> {
    if text.contains("{@") {
        return invalid(
            "There is no Key Vault here: a secret in a URL template comes from a variable of the environment \
             ({env:NAME}) or from a file ({file:/path}).",
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return invalid("A URL template starts with http:// or https://.");
    };
    if scheme.eq_ignore_ascii_case("tunnel") {
        return invalid("Handlers behind a tunnel (tunnel:///) are not built yet; use http:// or https://.");
    }
    if !["http", "https"].into_iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return invalid("A URL template starts with http:// or https://.");
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains(['{', '}']) {
        return invalid(
            "Parameters and secrets stand behind the host of a URL template, with a / or ? between.",
        );
    }
    if authority.contains('@') {
        // It is not repeated here: there may be a password in it.
        return invalid(
            "A URL template names no user; secrets belong into its path or query, or into 'auth'.",
        );
    }
    if !is_host_and_port(authority) {
        return invalid("A URL template needs a host: a name or an address, and perhaps a port.");
    }
    Ok(text.split_at(text.len() - rest.len()))
}

fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (!host.is_empty() && host.bytes().all(legal), port)
        }
    };
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = |port: &str| is_number(port) && port.parse::<u16>().is_ok_and(|port| port > 0);
    host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn literal_part(text: &str) -> Result<Part, InvalidTemplate> {
    if text.contains('#') {
        return invalid(
            "A URL template has no fragment; a # that belongs to its path or query is written as %23.",
        );
    }
    if !is_url_text(text) {
        return invalid(
            "A URL template holds a character that is not legal in a URL, or a % without two hexadecimal digits; \
             such characters must be percent-encoded.",
        );
    }
    Ok(Part::Text(text.to_owned()))
}

fn parameter_part(
    parameter: &str,
    secret: &mut dyn FnMut(SecretSource<'_>) -> Result<String, String>,
) -> Result<Part, InvalidTemplate> {
    if parameter.eq_ignore_ascii_case("hub") {
        return Ok(Part::Hub);
    }
    if parameter.eq_ignore_ascii_case("event") {
        return Ok(Part::Event);
    }
    let source = match parameter.split_once(':') {
        Some(("env", name)) if !name.is_empty() => SecretSource::Env(name),
        Some(("file", path)) if path.starts_with('/') => SecretSource::File(path),
        _ => {
            return invalid(
                "A URL template knows the parameters {hub}, {event}, {env:NAME} and {file:/path}; other braces must be \
                 written as %7B and %7D.",
            );
        }
    };
    let text = secret(source).map_err(|why| {
        InvalidTemplate(format!(
            "There is no text for {{{}}} of a URL template: {why}",
            parameter.escape_debug()
        ))
    })?;
    if text.is_empty() || !is_url_text(&text) {
        return invalid(format!(
            "The text of {{{}}} is empty, or holds what is not legal in a URL; it must be percent-encoded.",
            parameter.escape_debug()
        ));
    }
    Ok(Part::Secret(text))
}

/// Whether `text` can stand in a path and in a query (RFC 3986 §3.3, §3.4): ASCII, whole escapes, no braces, no
/// fragment.
fn is_url_text(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_legal = match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                digit() && digit()
            }
            _ => is_unreserved(byte) || b"!$&'()*+,;=:@/?".contains(&byte),
        };
        if !is_legal {
            return false;
        }
    }
    true
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Percent-encodes all but unreserved characters, as `Uri.EscapeDataString` does.
fn push_encoded(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if is_unreserved(byte) {
            url.push(char::from(byte));
        } else {
            super::push_escape(url, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<UrlTemplate, String> {
        let mut secret = |source: SecretSource<'_>| match source {
            SecretSource::Env("CODE") => Ok("s3cret==".to_owned()),
            SecretSource::Env("LONG") => Ok("s".repeat(TEMPLATE_BYTES_MAX)),
            SecretSource::Env("LINE") => Ok("hidden\n".to_owned()),
            SecretSource::Env("EMPTY") => Ok(String::new()),
            SecretSource::File("/run/code") => Ok("a%2Fb".to_owned()),
            other => Err(format!("nothing is known of {other:?}.")),
        };
        UrlTemplate::parse(text, &mut secret).map_err(|error| error.to_string())
    }

    /// `vectors/events/templates.txt`: a template, and on the next line its URL for hub `chat` and event `a.b`, or
    /// what is wrong with it.
    #[test]
    fn templates() {
        let vectors = include_str!("../../tests/vectors/events/templates.txt");
        let lines: Vec<_> =
            vectors.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
        assert!(lines.len() >= 20 && lines.len().is_multiple_of(2), "a vector is two lines");
        for pair in lines.chunks_exact(2) {
            let result = parse(pair[0]).map_or_else(|error| error, |template| template.expand("chat", "a.b"));
            assert_eq!(result, pair[1], "{}", pair[0]);
        }
    }

    #[test]
    fn no_secret_gets_out() {
        let template = parse("https://app/{HUB}/{Event}?code={env:CODE}&more={file:/run/code}").unwrap();
        assert_eq!(template.shown(), "https://app/{hub}/{event}?code=…&more=…");
        assert_eq!(format!("{template:?}"), template.shown());
        assert_eq!(template.expand("chat", "connect"), "https://app/chat/connect?code=s3cret==&more=a%2Fb");
        for (written, shown) in [
            ("http://app/a=b&c", "http://app/a=b&c"),
            ("http://app/?code=literal", "http://app/?code=…"),
            ("http://app/?literal", "http://app/?…"),
            (
                "http://app/?&a=&b={hub}&c=x{event}&{event}&d=lit=eral?&e={env:CODE}",
                "http://app/?&a=&b={hub}&c=…&{event}&d=…&e=…",
            ),
            ("http://app/?a={hub}literal{event}", "http://app/?a=…"),
        ] {
            assert_eq!(parse(written).unwrap().shown(), shown);
        }
        let error = parse("https://app/{env:LINE}").unwrap_err();
        assert!(error.contains("{env:LINE}") && !error.contains("hidden"), "{error}");
        let error = parse("https://user:hidden@app/").unwrap_err();
        assert!(!error.contains("hidden"), "{error}");
    }

    #[test]
    fn values_are_percent_encoded() {
        let template = parse("http://app/{hub}/{event}").unwrap();
        assert_eq!(template.expand("a`,.[]_", "x-y.z_1~"), "http://app/a%60%2C.%5B%5D_/x-y.z_1~");
        assert_eq!(template.expand("../?#", "ä %"), "http://app/..%2F%3F%23/%C3%A4%20%25");
    }

    #[test]
    fn templates_have_a_bound() {
        let too_long = "A URL template has at most 4096 bytes, its secrets counted.";
        let start = "http://app/";
        assert!(parse(&format!("{start}{}", "x".repeat(TEMPLATE_BYTES_MAX - start.len()))).is_ok());
        let text = format!("{start}{}", "x".repeat(TEMPLATE_BYTES_MAX - start.len() + 1));
        assert_eq!(parse(&text).unwrap_err(), too_long);
        assert_eq!(parse("http://app/{env:LONG}").unwrap_err(), too_long);
        let most = parse(&format!("{start}{}", "{hub}".repeat(PARAMETERS_MAX))).unwrap();
        assert!(most.expand(&"`".repeat(128), "").len() < URL_BYTES_MAX);
        let text = format!("{start}{}{{hub}}", "{event}".repeat(PARAMETERS_MAX));
        assert_eq!(parse(&text).unwrap_err(), "A URL template has at most 16 times {hub} or {event}.");
    }

    proptest! {
        #[test]
        fn whatever_is_put_in_stays_behind_the_host(hub in any::<String>(), event in any::<String>()) {
            let url = parse("http://app:3000/{event}/{hub}?{event}={hub}").unwrap().expand(&hub, &event);
            let rest = url.strip_prefix("http://app:3000/").expect("the host is where it was");
            prop_assert!(is_url_text(rest));
            prop_assert_eq!(rest.bytes().filter(|byte| b"/?=".contains(byte)).count(), 3);
            let path = rest.split(['/', '?', '=']).map(|piece| crate::uri::percent_decode(piece).unwrap());
            prop_assert!(path.eq([&*event, &hub, &event, &hub]));
        }

        #[test]
        fn any_text_is_read_without_a_panic(
            text in r"(http|https|tunnel|x)?(://)?[a\[\]:@0-9{}]{0,5}(/|\?|#|\{(hub|event|env:CODE|env:LINE|@x)\}|%[0-9a-g]{0,2}|[ -~]|ä){0,8}"
        ) {
            if let Ok(template) = parse(&text) {
                let url = template.expand("h", "e");
                prop_assert!(url.len() <= URL_BYTES_MAX && url.is_ascii());
                prop_assert!(!url.contains(['{', '}', ' ', '#']), "{}", url);
                prop_assert!(!template.shown().contains("s3cret"));
            }
        }
    }
}
