//! The body of `connect` (`event-handlers` §4.1).

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-1 of its DER form.
    pub thumbprint: [u8; 20],
    /// PEM.
    pub pem: String,
}

/// What is known of a client that wants to connect.
pub struct ConnectRequest<'a> {
    /// The payload of its token, verified; `None` without a token.
    pub claims_json: Option<&'a [u8]>,
    /// The query of its request, as sent.
    pub query: &'a str,
    /// The headers of its request, in order, values as sent.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The subprotocols it offers, in order.
    pub subprotocols: &'a [&'a str],
    /// Its TLS certificates.
    pub certificates: &'a [ClientCertificate],
}

impl ConnectRequest<'_> {
    /// The JSON body. `access_token` is not in it, nor are `Authorization` and headers the service reserves.
    pub fn body(&self) -> Vec<u8> {
        todo!()
    }
}
