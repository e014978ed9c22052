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
use std::sync::Arc;

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

/// The TLS configuration of new handshakes; one for all cores.
pub(crate) struct TlsConfigStore {
    current: ArcSwap<ServerConfig>,
    made_with: MadeWith,
}

/// What stays the same over reloads.
struct MadeWith {
    provider: Arc<CryptoProvider>,
    /// Outlives reloads, so that clients of before one come back by their tickets.
    tickets: Arc<dyn ProducesTickets>,
}

/// What new handshakes are to use, read and checked.
#[derive(Debug)]
pub(crate) struct Fresh {
    config: ServerConfig,
    /// What is odd about the certificate, a sentence: it has expired, or is not valid yet.
    pub(crate) warning: Option<String>,
}

/// A chain and key that belong together.
struct Loaded {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfigStore {
    /// As `[tls]` says, with what is odd about it; none if it names no files.
    ///
    /// # Errors
    /// When only one of the two is named, or the files cannot be used.
    pub(crate) fn configured(tls: &Tls) -> Result<Option<(Self, Option<String>)>, String> {
        if Paths::configured(tls)?.is_none() {
            return Ok(None);
        }
        let setup = |error: rustls::Error| CertificateProblem::Setup(error.to_string()).to_string();
        let made_with = MadeWith {
            provider: Arc::new(aws_lc_rs::default_provider()),
            tickets: aws_lc_rs::Ticketer::new().map_err(setup)?,
        };
        let Fresh { config, warning } = made_with.read(tls)?;
        Ok(Some((Self { current: ArcSwap::from_pointee(config), made_with }, warning)))
    }

    /// What the next handshake uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again; nothing changes yet.
    ///
    /// # Errors
    /// When there are none, or they cannot be used.
    pub(crate) fn prepare(&self, tls: &Tls) -> Result<Fresh, String> {
        self.made_with.read(tls)
    }

    /// From now on handshakes use this. Live connections go on as they are.
    pub(crate) fn commit(&self, fresh: Fresh) {
        self.current.store(Arc::new(fresh.config));
    }
}

impl MadeWith {
    fn read(&self, tls: &Tls) -> Result<Fresh, String> {
        let paths = Paths::configured(tls)?
            .ok_or("tls.certificate and tls.private_key are not set, and a listener needs them")?;
        let read = || {
            let loaded = Loaded::read(&paths)?;
            let config = self.server_config(&loaded, &paths, tls)?;
            Ok(Fresh { config, warning: loaded.warning(&paths, UnixTime::now()) })
        };
        read().map_err(|problem: CertificateProblem| problem.to_string())
    }

    fn server_config(
        &self,
        loaded: &Loaded,
        paths: &Paths,
        tls: &Tls,
    ) -> Result<ServerConfig, CertificateProblem> {
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
        let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .map_err(setup)?;
        let builder = match tls.client_certificates {
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

    fn tls(paths: &Paths) -> Tls {
        let Paths { certificate, private_key } = paths.clone();
        Tls { certificate: Some(certificate), private_key: Some(private_key), ..Tls::default() }
    }

    fn load(paths: &Paths) -> Result<(TlsConfigStore, Option<String>), String> {
        TlsConfigStore::configured(&tls(paths)).map(|store| store.expect("files are named"))
    }

    #[test]
    fn a_reload_swaps_only_what_is_good() {
        let (first, paths) = made("first");
        let (second, others) = made("second");
        let (store, warning) = load(&paths).unwrap();
        assert_eq!(warning, None);
        let before = store.current();

        // Half replaced: the key is another's.
        fs::copy(&others.private_key, &paths.private_key).unwrap();
        let problem = store.prepare(&tls(&paths)).unwrap_err();
        assert!(problem.contains("is not that of the first certificate"), "{problem}");
        fs::write(&paths.private_key, "").unwrap();
        let problem = store.prepare(&tls(&paths)).unwrap_err();
        assert!(problem.ends_with("has no private key in PEM form"), "{problem}");
        let problem = store.prepare(&Tls::default()).unwrap_err();
        assert!(problem.contains("are not set"), "{problem}");

        fs::copy(&others.private_key, &paths.private_key).unwrap();
        fs::copy(&others.certificate, &paths.certificate).unwrap();
        let fresh = store.prepare(&tls(&paths)).unwrap();
        assert_eq!(fresh.warning, None);
        assert!(Arc::ptr_eq(&before, &store.current()), "nothing changes before it is committed");
        store.commit(fresh);
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
