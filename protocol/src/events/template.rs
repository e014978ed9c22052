//! URL templates of handlers (`event-handlers` §1.1).

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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hub,
    Event,
    Secret(String),
}

impl UrlTemplate {
    /// Reads a template; `secret` finds the text of a secret, or says why not.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(
        text: &str,
        secret: &mut dyn FnMut(SecretSource<'_>) -> Result<String, String>,
    ) -> Result<Self, InvalidTemplate> {
        let _ = secret;
        todo!("{text}")
    }

    /// The URL of an event; both values are percent-encoded.
    pub fn expand(&self, hub: &str, event: &str) -> String {
        todo!("{hub} {event} {:?}", self.parts)
    }

    /// The template as configured, secrets as `…`, for logs and the inspector.
    pub fn shown(&self) -> String {
        todo!()
    }
}

impl std::fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}
