//! Error bodies (`rest-api` §1.5): one flat JSON object, its code repeated in the header `x-ms-error-code`.

use std::borrow::Cow;

/// What went wrong, as SDKs show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 409
    Conflict,
    /// 415
    UnsupportedMediaType,
    /// 429
    TooManyRequests,
    /// 500
    InternalServerError,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
}

impl ErrorCode {
    /// The HTTP status it comes with.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::InternalServerError => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
        }
    }

    /// The headers that go with it besides its name, for clients that honour them: how to identify oneself, when to
    /// come back (`rest-api` §1.6).
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Unauthorized => &[("www-authenticate", "Bearer")],
            Self::TooManyRequests | Self::ServiceUnavailable => &[("retry-after", "1")],
            _ => &[],
        }
    }

    /// The value of `code` and of `x-ms-error-code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "Error.BadRequest",
            Self::Unauthorized => "Error.Unauthorized",
            Self::Forbidden => "Error.Forbidden",
            Self::NotFound => "Error.NotFound",
            Self::MethodNotAllowed => "Error.MethodNotAllowed",
            Self::Conflict => "Error.Conflict",
            Self::UnsupportedMediaType => "Error.UnsupportedMediaType",
            Self::TooManyRequests => "Error.TooManyRequests",
            Self::InternalServerError => "Error.InternalServerError",
            Self::NotImplemented => "Error.NotImplemented",
            Self::ServiceUnavailable => "Error.ServiceUnavailable",
        }
    }
}

/// The body of an answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// Which kind of error.
    pub code: ErrorCode,
    /// For the person who wrote the caller.
    pub message: Cow<'static, str>,
    /// The parameter or header that is at fault.
    pub target: Option<&'static str>,
}

impl ErrorBody {
    /// An error of the whole request.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), target: None }
    }

    /// A 400 about one parameter.
    pub fn bad_parameter(target: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: ErrorCode::BadRequest, message: message.into(), target: Some(target) }
    }

    /// The body's bytes, `application/json`.
    pub fn to_json(&self) -> Vec<u8> {
        // An answer to a mistake need not be fast: quoting is left to serde_json.
        let string = |text: &str| serde_json::Value::from(text).to_string();
        let code = string(self.code.name());
        let message = string(&self.message);
        let target = self.target.map(|target| format!(",\"target\":{}", string(target))).unwrap_or_default();
        format!("{{\"code\":{code},\"message\":{message}{target}}}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_flat_json() {
        let whole = ErrorBody::new(ErrorCode::NotFound, "No \"such\" path.");
        assert_eq!(whole.to_json(), br#"{"code":"Error.NotFound","message":"No \"such\" path."}"#);
        let parameter = ErrorBody::bad_parameter("filter", "Bad.");
        assert_eq!(parameter.to_json(), br#"{"code":"Error.BadRequest","message":"Bad.","target":"filter"}"#);
        assert_eq!(parameter.code.status(), 400);
    }
}
