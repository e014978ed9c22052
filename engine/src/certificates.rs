//! Certificates: read and checked before anything uses them, and replaced while connections go on.
//!
//! What must stay true: a configuration that cannot serve is never put in place of one that can; a private key's
//! bytes reach no message.

pub(crate) mod make;

use crate::config::{ClientCertificates, Tls, TlsVersion};
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client, crypto, version,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// The chain, PEM, the server's own certificate first.
    pub(crate) certificate: PathBuf,
    /// The key, PEM: PKCS #8, PKCS #1 or SEC 1.
    pub(crate) private_key: PathBuf,
}

impl Paths {
    /// Those of `[tls]`; none if it names no files.
    ///
    /// # Errors
    /// When only one of the two is named.
    pub(crate) fn configured(tls: &Tls) -> Result<Option<Self>, String> {
        match (&tls.certificate, &tls.private_key) {
            (Some(certificate), Some(private_key)) => {
                Ok(Some(Self { certificate: certificate.clone(), private_key: private_key.clone() }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err("tls.certificate is set, tls.private_key is not; set both".into()),
            (None, Some(_)) => Err("tls.private_key is set, tls.certificate is not; set both".into()),
        }
    }
}

/// Why a certificate cannot be used, for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateProblem {
    /// A file cannot be read.
    #[error("{}: {problem}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The two do not belong together.
    #[error(
        "{}: the private key is not that of the first certificate in {}",
        private_key.display(), certificate.display()
    )]
    Mismatch {
        /// The key's file.
        private_key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// No cryptography to be had.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The files hold what is in use already.
    None,
    /// New handshakes use what the files hold now.
    Replaced {
        /// What is odd about it, a sentence: it has expired, or is not valid yet.
        warning: Option<String>,
    },
}

/// The TLS configuration of new handshakes; one for all cores.
pub(crate) struct TlsConfigStore {
    current: ArcSwap<ServerConfig>,
    options: Options,
    /// What `current` was made from; also keeps two reloads from crossing.
    loaded: Mutex<Loaded>,
}

/// What stays the same over reloads.
struct Options {
    client_certificates: ClientCertificates,
    min_version: TlsVersion,
    provider: Arc<CryptoProvider>,
    /// Outlives reloads, so that clients of before one come back by their tickets.
    tickets: Arc<dyn ProducesTickets>,
}

/// A chain and key that belong together.
#[derive(PartialEq, Eq)]
struct Loaded {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfigStore {
    /// Reads and checks; the second part is what is odd about the certificate, a sentence.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub(crate) fn load(
        paths: &Paths,
        client_certificates: ClientCertificates,
        min_version: TlsVersion,
    ) -> Result<(Self, Option<String>), CertificateProblem> {
        let setup = |error: rustls::Error| CertificateProblem::Setup(error.to_string());
        let options = Options {
            client_certificates,
            min_version,
            provider: Arc::new(aws_lc_rs::default_provider()),
            tickets: aws_lc_rs::Ticketer::new().map_err(setup)?,
        };
        let loaded = Loaded::read(paths)?;
        let config = options.server_config(&loaded, paths)?;
        let warning = loaded.warning(paths, UnixTime::now());
        let store = Self { current: ArcSwap::from_pointee(config), options, loaded: Mutex::new(loaded) };
        Ok((store, warning))
    }

    /// As `[tls]` says; none if it names no files.
    ///
    /// # Errors
    /// When only one of the two is named, or the files cannot be used.
    pub(crate) fn configured(tls: &Tls) -> Result<Option<(Self, Option<String>)>, String> {
        let Some(paths) = Paths::configured(tls)? else { return Ok(None) };
        Self::load(&paths, tls.client_certificates, tls.min_version)
            .map(Some)
            .map_err(|problem| problem.to_string())
    }

    /// What the next handshake uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again. Live connections go on as they are.
    ///
    /// # Errors
    /// When the files cannot be used; what is in use stays then.
    ///
    /// # Panics
    /// If an earlier reload panicked.
    #[cfg_attr(not(test), expect(dead_code, reason = "what triggers it is built beside this"))]
    pub(crate) fn reload(&self, paths: &Paths) -> Result<Change, CertificateProblem> {
        let fresh = Loaded::read(paths)?;
        let mut loaded = self.loaded.lock().expect("no reload panics");
        if *loaded == fresh {
            return Ok(Change::None);
        }
        let config = self.options.server_config(&fresh, paths)?;
        let warning = fresh.warning(paths, UnixTime::now());
        *loaded = fresh;
        self.current.store(Arc::new(config));
        Ok(Change::Replaced { warning })
    }
}

impl Options {
    fn server_config(&self, loaded: &Loaded, paths: &Paths) -> Result<ServerConfig, CertificateProblem> {
        let setup = |error: rustls::Error| CertificateProblem::Setup(error.to_string());
        let certified = CertifiedKey::from_der(loaded.chain.clone(), loaded.key.clone_key(), &self.provider);
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateProblem::Mismatch {
                private_key: paths.private_key.clone(),
                certificate: paths.certificate.clone(),
            },
            rustls::Error::InvalidCertificate(error) => {
                file(&paths.certificate, format!("the first certificate cannot be used: {error}"))
            }
            error => file(&paths.private_key, format!("the key cannot be used: {error}")),
        })?;
        let versions: &[&rustls::SupportedProtocolVersion] = match self.min_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .map_err(setup)?;
        let builder = match self.client_certificates {
            ClientCertificates::Ignore => builder.with_no_client_auth(),
            ClientCertificates::Request => {
                let algorithms = self.provider.signature_verification_algorithms;
                builder.with_client_cert_verifier(Arc::new(AnyClientCertificate(algorithms)))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Sessions live in tickets: reconnecting is cheap on any core, and nothing is kept here. One ticket is
        // enough, for coming back brings the next.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = self.tickets.clone();
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

impl Loaded {
    fn read(paths: &Paths) -> Result<Self, CertificateProblem> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&paths.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(&paths.certificate, &error, "certificate"));
        let chain = chain?;
        if chain.is_empty() {
            return Err(unreadable(&paths.certificate, &pem::Error::NoItemsFound, "certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(&paths.private_key)
            .map_err(|error| unreadable(&paths.private_key, &error, "private key"))?;
        Ok(Self { chain, key })
    }

    /// What a client would hold against the certificate's dates.
    fn warning(&self, paths: &Paths, now: UnixTime) -> Option<String> {
        let parsed = ParsedCertificate::try_from(&self.chain[0]).ok()?;
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        // Nobody is trusted here: the dates are looked at before the issuer.
        let nobody = RootCertStore::empty();
        let verdict = client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &nobody,
            &self.chain[1..],
            now,
            algorithms,
        );
        let file = paths.certificate.display();
        match verdict {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Some(format!("{file}: the certificate has expired; clients will refuse it")),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Some(format!("{file}: the certificate is not valid yet; clients will refuse it")),
            _ => None,
        }
    }
}

fn file(file: &Path, problem: String) -> CertificateProblem {
    CertificateProblem::File { file: file.to_owned(), problem }
}

fn unreadable(path: &Path, error: &pem::Error, wanted: &str) -> CertificateProblem {
    let problem = match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("has no {wanted} in PEM form"),
        // The library's words may quote the file, which may be a key.
        _ => "is not valid PEM".to_owned(),
    };
    file(path, problem)
}

/// Asks for a certificate and believes any: who may come in is for the application to say, which is shown the
/// certificate (`client-protocols` §1.7). That the peer has its key is checked.
#[derive(Debug)]
struct AnyClientCertificate(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        ParsedCertificate::try_from(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    /// A folder of its own with a certificate in it.
    fn made(name: &str) -> (PathBuf, Paths) {
        let folder = std::env::temp_dir().join(format!("ringhub-certificates-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let made = make::make(&folder, &[], 1).unwrap();
        (folder, Paths { certificate: made.certificate, private_key: made.private_key })
    }

    fn load(paths: &Paths) -> Result<(TlsConfigStore, Option<String>), CertificateProblem> {
        TlsConfigStore::load(paths, ClientCertificates::Ignore, TlsVersion::Tls12)
    }

    #[test]
    fn a_reload_swaps_only_what_is_new_and_good() {
        let (first, paths) = made("first");
        let (second, others) = made("second");
        let (store, warning) = load(&paths).unwrap();
        assert_eq!(warning, None);
        let before = store.current();
        assert_eq!(store.reload(&paths).unwrap(), Change::None);
        assert!(Arc::ptr_eq(&before, &store.current()));

        // Half replaced: the key is another's.
        fs::copy(&others.private_key, &paths.private_key).unwrap();
        let problem = store.reload(&paths).unwrap_err().to_string();
        assert!(problem.contains("is not that of the first certificate"), "{problem}");
        fs::write(&paths.private_key, "").unwrap();
        let problem = store.reload(&paths).unwrap_err().to_string();
        assert!(problem.ends_with("has no private key in PEM form"), "{problem}");
        assert!(Arc::ptr_eq(&before, &store.current()), "what is in use stays");

        fs::copy(&others.private_key, &paths.private_key).unwrap();
        fs::copy(&others.certificate, &paths.certificate).unwrap();
        assert_eq!(store.reload(&paths).unwrap(), Change::Replaced { warning: None });
        let after = store.current();
        assert!(!Arc::ptr_eq(&before, &after));
        assert!(Arc::ptr_eq(&before.ticketer, &after.ticketer), "tickets outlive a reload");
        fs::remove_dir_all(first).unwrap();
        fs::remove_dir_all(second).unwrap();
    }

    #[test]
    fn dates_are_warned_about() {
        let (folder, paths) = made("dates");
        let loaded = Loaded::read(&paths).unwrap();
        let now = UnixTime::now().as_secs();
        for (at, expected) in
            [(now, None), (now + 2 * 86_400, Some("has expired")), (now - 86_400, Some("not valid yet"))]
        {
            let warning = loaded.warning(&paths, UnixTime::since_unix_epoch(Duration::from_secs(at)));
            match expected {
                None => assert_eq!(warning, None),
                Some(words) => assert!(warning.is_some_and(|warning| warning.contains(words)), "{words}"),
            }
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_made_is_of_the_names_asked_for() {
        let (folder, _) = made("names");
        for bad in ["", "not a name", "a/b", "ümlaut", "*"] {
            let error = make::make(&folder.join("bad"), &[bad.to_owned()], 1).unwrap_err();
            assert!(matches!(error, make::MakeError::Name(_)), "{bad}: {error}");
        }
        let names = ["pubsub.example.com".to_owned(), "10.0.0.1".to_owned(), "*.example.com".to_owned()];
        let made = make::make(&folder.join("good"), &names, 1).unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(&made.certificate).unwrap().collect::<Result<_, _>>().unwrap();
        let parsed = ParsedCertificate::try_from(&chain[0]).unwrap();
        for (name, good) in
            [("pubsub.example.com", true), ("10.0.0.1", true), ("a.example.com", true), ("localhost", false)]
        {
            let name = rustls::pki_types::ServerName::try_from(name).unwrap();
            assert_eq!(client::verify_server_name(&parsed, &name).is_ok(), good, "{name:?}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
