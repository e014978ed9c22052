//! Fetching a small document over HTTPS, distrustfully: no redirects, a bound on its size, one deadline for
//! everything, and plain HTTP only where nobody can be in between.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Uri;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::http::request;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::StartError;

/// Largest answer, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// For one document: looking up, connecting, the handshake, headers and body together.
pub(crate) const FETCH_DEADLINE: Duration = Duration::from_secs(10);
/// Most characters shown of an address that is none: an issuer's document may have any text there.
const SHOWN_MAX: usize = 200;
/// An idle connection is kept this long: discovery and keys follow each other, the next refresh is far off.
const IDLE: Duration = Duration::from_secs(5);

/// A client with its own set of trusted authorities.
#[derive(Debug, Clone)]
pub(crate) struct Https {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why there is no document. For the operator's log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0:?} is not an https:// URL (http:// is allowed for loopback only)")]
    Address(String),
    #[error("no answer within {} seconds", FETCH_DEADLINE.as_secs())]
    Late,
    #[error("answered {0} instead of 200; redirects are not followed")]
    Status(u16),
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("{0}")]
    Broken(String),
}

/// What the system trusts, as of the first time that there was something and somebody asked: a bundle that is installed
/// later is found by whoever asks next.
pub(crate) fn system_roots() -> RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return roots.clone();
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        tracing::warn!("the system has no certificate authorities; https:// URLs need a ca_file");
        return roots;
    }
    ROOTS.get_or_init(|| roots).clone()
}

/// TLS of a client that trusts `roots` and, if given, what is in `ca_file` (PEM).
pub(crate) fn tls(mut roots: RootCertStore, ca_file: Option<&Path>) -> Result<ClientConfig, StartError> {
    if let Some(path) = ca_file {
        let fault = |problem: String| StartError::CaFile { file: path.display().to_string(), problem };
        let mut added = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
            roots.add(certificate).map_err(|error| fault(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(fault("there is no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl Https {
    /// Trusts `roots` and, if given, what is in `ca_file` (PEM).
    pub(crate) fn new(roots: RootCertStore, ca_file: Option<&Path>) -> Result<Self, StartError> {
        let tls = tls(roots, ca_file)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { client })
    }

    /// The body of a 200.
    pub(crate) async fn get(&self, address: &str) -> Result<Bytes, FetchError> {
        self.fetch(hyper::Request::get(allowed(address)?), Bytes::new()).await
    }

    /// The body of a 200 to a form, which is encoded already.
    pub(crate) async fn post_form(&self, address: &str, form: String) -> Result<Bytes, FetchError> {
        let request =
            hyper::Request::post(allowed(address)?).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.fetch(request, form.into()).await
    }

    async fn fetch(&self, request: request::Builder, body: Bytes) -> Result<Bytes, FetchError> {
        let slowly = self.fetch_slowly(request, body);
        tokio::time::timeout(FETCH_DEADLINE, slowly).await.unwrap_or(Err(FetchError::Late))
    }

    async fn fetch_slowly(&self, request: request::Builder, body: Bytes) -> Result<Bytes, FetchError> {
        let uri = request.uri_ref().expect("it was made with one");
        let authority = uri.authority().expect("an allowed URL has an authority").as_str().to_owned();
        let request = request
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("ringhub/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| FetchError::Broken(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| FetchError::Broken(whole(&error)))?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
            Err(error) => Err(FetchError::Broken(error.to_string())),
        }
    }
}

/// Whether a document may be fetched from there: HTTPS, or plain HTTP on this machine. No user, no fragment.
pub(crate) fn is_allowed(address: &str) -> bool {
    allowed(address).is_ok()
}

fn allowed(address: &str) -> Result<Uri, FetchError> {
    let not_allowed = || FetchError::Address(address.chars().take(SHOWN_MAX).collect());
    let uri: Uri = address.parse().map_err(|_| not_allowed())?;
    let authority = uri.authority().ok_or_else(not_allowed)?;
    if authority.as_str().contains('@') || address.contains('#') || authority.host().is_empty() {
        return Err(not_allowed());
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(authority.host()) => Ok(uri),
        _ => Err(not_allowed()),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An error with its causes: the first line alone is "client error (Connect)".
pub(crate) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (address, expected) in [
            ("https://login.example.com/tenant/v2.0", true),
            ("HTTPS://login.example.com", true),
            ("http://127.0.0.1:9000/issuer", true),
            ("http://127.8.8.8/", true),
            ("http://[::1]:9000", true),
            ("http://LocalHost:9000", true),
            ("http://login.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("http://0.0.0.0", false),
            ("http://127.0.0.1@example.com/", false),
            ("https://user@example.com/", false),
            ("https://example.com/#x", false),
            ("ftp://127.0.0.1/", false),
            ("file:///etc/passwd", false),
            ("/keys", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(address), expected, "{address}");
        }
    }

    /// It may come from a document, and goes to the log.
    #[test]
    fn an_address_that_is_none_is_shown_short_and_on_one_line() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = format!("gopher://a\n\u{1b}[31m{}", "x".repeat(1 << 20));
        let error = runtime
            .block_on(Https::new(system_roots(), None).unwrap().get(&address))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(r#""gopher://a\n"#) && error.len() < 400, "{error:.400}");
        assert!(!error.contains(['\n', '\u{1b}']), "{error:.400}");
    }

    #[test]
    fn a_ca_file_must_hold_certificates() {
        let path = std::env::temp_dir().join(format!("ringhub-ca-{}.pem", std::process::id()));
        assert!(Https::new(system_roots(), Some(&path)).unwrap_err().to_string().contains("ringhub-ca-"));
        std::fs::write(&path, "not a certificate\n").unwrap();
        let error = Https::new(system_roots(), Some(&path)).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.ends_with("there is no certificate in it"), "{error}");
    }

    /// A TLS server that answers every request with `{}`, and the PEM of its certificate.
    fn tls_server() -> (std::net::SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tls = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut stream = rustls::StreamOwned::new(tls, stream);
                // A client that does not trust the certificate ends this.
                let mut head = [0; 4096];
                if std::io::Read::read(&mut stream, &mut head).is_ok() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
                    let _ = std::io::Write::write_all(&mut stream, answer);
                }
            }
        });
        (address, made.cert.pem())
    }

    #[test]
    fn https_needs_an_authority_that_is_trusted_and_the_right_name() {
        let (address, pem) = tls_server();
        let path = std::env::temp_dir().join(format!("ringhub-ca-good-{}.pem", std::process::id()));
        std::fs::write(&path, pem).unwrap();
        let trusting = Https::new(system_roots(), Some(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("https://localhost:{}/", address.port());
            assert_eq!(trusting.get(&url).await.unwrap(), "{}");
            for (https, url) in [
                (&Https::new(system_roots(), None).unwrap(), url.clone()),
                (&trusting, format!("https://127.0.0.1:{}/", address.port())),
            ] {
                let error = https.get(&url).await.unwrap_err().to_string();
                assert!(error.contains("certificate"), "{error}");
            }
        });
    }
}
