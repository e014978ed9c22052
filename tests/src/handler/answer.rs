//! What a handler answers: by the book, or byte by byte.

/// One answer, and what becomes of the connection after it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Goes out instead of all that.
    raw: Option<Vec<u8>>,
    pub(super) then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request may come.
    Next,
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
    /// Nothing more is said; it ends when the other side ends it.
    Silence,
}

impl Answer {
    /// An empty body under that status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), raw: None, then: Then::Next }
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::status(204)
    }

    /// 200 with text.
    pub fn text(body: &str) -> Self {
        Self::status(200).body("text/plain; charset=utf-8", body)
    }

    /// 200 with JSON.
    pub fn json(body: &str) -> Self {
        Self::status(200).body("application/json; charset=utf-8", body)
    }

    /// 200 with bytes.
    pub fn binary(body: &[u8]) -> Self {
        Self::status(200).body("application/octet-stream", body)
    }

    /// These bytes, whatever they are.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::status(0) }
    }

    /// No answer, ever.
    pub fn never() -> Self {
        Self { then: Then::Silence, ..Self::raw("") }
    }

    /// No answer but a reset.
    pub fn reset() -> Self {
        Self { then: Then::Reset, ..Self::raw("") }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives it a body of a type.
    pub fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", content_type).untyped_body(body)
    }

    /// Gives it a body without a type.
    pub fn untyped_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Closes the connection behind it, without announcing that.
    pub fn then_close(self) -> Self {
        Self { then: Then::Close, ..self }
    }

    /// Resets the connection behind it.
    pub fn then_reset(self) -> Self {
        Self { then: Then::Reset, ..self }
    }

    /// Says nothing more behind it.
    pub fn then_silence(self) -> Self {
        Self { then: Then::Silence, ..self }
    }

    /// What goes out over HTTP/1.1.
    pub(super) fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut bytes = format!("HTTP/1.1 {} Scripted\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.status >= 200 && self.status != 204 && self.status != 304 {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}
