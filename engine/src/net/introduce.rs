//! What event handlers are told of a client that wants to connect (`event-handlers` §4.1).

use crate::auth;
use crate::core::turn::Core;
use crate::net::gate::{Admitted, UpgradeRequest};
use aws_lc_rs::digest;
use ringhub_hub::SocketKey;
use ringhub_hub::effect::{Introduction, Question};
use ringhub_protocol::auth::token::Unverified;
use ringhub_protocol::events::{ClientCertificate, ConnectRequest};
use ringhub_protocol::http::Head;
use ringhub_protocol::uri::without_port;
use ringhub_protocol::ws::handshake;
use std::sync::Arc;

impl Core {
    /// What the client's hub is to know of it, if it has event handlers. The client's token is good.
    pub(crate) fn introduce(
        &self,
        key: SocketKey,
        head: &Head<'_>,
        upgrade: &handshake::UpgradeRequest<'_>,
        asked: &UpgradeRequest<'_>,
        admitted: &Admitted,
    ) -> Option<Box<Introduction>> {
        let routes = self.settings.hub(&admitted.hub).routes.as_ref()?;
        let host = || without_port(asked.forwarded_host.unwrap_or(asked.host)).into();
        let question = routes.asks_on_connect().then(|| Question {
            body: self.connect_body(key, head, asked).into(),
            websocket_key: upgrade.key.into(),
            offered: upgrade.subprotocols.iter().map(|&name| name.into()).collect(),
        });
        Some(Box::new(Introduction {
            origin: self.settings.origin.clone().unwrap_or_else(host),
            subprotocol: admitted.echoed.as_deref().map(Arc::from),
            question,
        }))
    }

    fn connect_body(&self, key: SocketKey, head: &Head<'_>, asked: &UpgradeRequest<'_>) -> Vec<u8> {
        let token = auth::client_token_of(asked);
        let token = token.as_deref().and_then(|token| Unverified::parse(token).ok());
        let headers: Vec<_> = head.headers().collect();
        ConnectRequest {
            claims_json: token.as_ref().map(|token| &token.payload[..]),
            query: head.query().unwrap_or_default(),
            headers: &headers,
            subprotocols: asked.subprotocols,
            certificates: self.certificate(key).as_slice(),
        }
        .body()
    }

    /// The certificate the client showed, if it was asked for one and has one.
    fn certificate(&self, key: SocketKey) -> Option<ClientCertificate> {
        let tls = self.io.sockets.peek(key)?.tls.as_ref()?;
        tls.stream.client_certificate().map(certificate)
    }
}

fn certificate(der: &[u8]) -> ClientCertificate {
    // Thumbprints are SHA-1 by convention; they identify and prove nothing.
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    let thumbprint = *digest.as_ref().first_chunk().expect("SHA-1 has 20 bytes");
    let encoded = base64_simd::STANDARD.encode_to_string(der);
    let mut pem = String::with_capacity(encoded.len() + encoded.len() / 64 + 60);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----");
    ClientCertificate { thumbprint, pem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn a_certificate_can_be_read_back() {
        let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        let shown = certificate(made.cert.der());
        assert_eq!(CertificateDer::from_pem_slice(shown.pem.as_bytes()).unwrap(), *made.cert.der());
        assert_ne!(shown.thumbprint, [0; 20]);
    }
}
