//! `ringhub cert`: a certificate for development, signed by an authority made for it alone.
//!
//! The authority's key is thrown away when it has signed, so that trusting the authority means trusting this one
//! certificate.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::ServerName;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a certificate is made for when nothing else is asked for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How far clocks of clients may be behind, in seconds.
const BACKDATED_SECONDS: u64 = 3600;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// A name that no certificate can hold.
    #[error("--name: {0:?} is not a host name or an address")]
    Name(String),
    /// A file that must not be overwritten.
    #[error("{} exists already; remove it, or choose another folder with --out", .0.display())]
    Exists(PathBuf),
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The library failed.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
}

/// The files of a new certificate.
#[derive(Debug)]
pub(crate) struct Made {
    /// What clients must trust.
    pub(crate) authority: PathBuf,
    /// The server's chain.
    pub(crate) certificate: PathBuf,
    /// Its key, readable by its owner only.
    pub(crate) private_key: PathBuf,
    names: Vec<String>,
}

/// Makes a certificate for `names` that is good for `days` and writes `ringhub-ca.pem`, `ringhub-cert.pem` and
/// `ringhub-key.pem` to the folder `out`.
///
/// # Errors
/// When a name is none, a file exists or cannot be written. Files written before that are taken away again.
pub(crate) fn make(out: &Path, names: &[String], days: u32) -> Result<Made, MakeError> {
    let names: Vec<String> =
        if names.is_empty() { NAMES.map(str::to_owned).to_vec() } else { names.to_vec() };
    let made = Made {
        authority: out.join("ringhub-ca.pem"),
        certificate: out.join("ringhub-cert.pem"),
        private_key: out.join("ringhub-key.pem"),
        names,
    };
    for file in made.files() {
        if file.symlink_metadata().is_ok() {
            return Err(MakeError::Exists(file.clone()));
        }
    }
    let now = SystemTime::now();
    let (from, until) =
        (now - Duration::from_secs(BACKDATED_SECONDS), now + Duration::from_secs(u64::from(days) * 86_400));

    let mut authority = CertificateParams::default();
    authority.distinguished_name = called("ringhub development authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (authority.not_before, authority.not_after) = (from.into(), until.into());
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut params = CertificateParams::default();
    for name in &made.names {
        if !is_name(name) {
            return Err(MakeError::Name(name.clone()));
        }
        let one = CertificateParams::new([name.clone()])?;
        params.subject_alt_names.extend(one.subject_alt_names);
    }
    params.distinguished_name = called("ringhub development server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (from.into(), until.into());
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;

    fs::create_dir_all(out).map_err(|source| MakeError::File { file: out.to_owned(), source })?;
    let chain = [certificate.pem(), authority.pem()].concat();
    let contents = [(authority.pem(), 0o644), (chain, 0o644), (key.serialize_pem(), 0o600)];
    for (at, (file, (text, mode))) in made.files().into_iter().zip(contents).enumerate() {
        if let Err(source) = write(file, &text, mode) {
            made.files()[..at].iter().for_each(|file| drop(fs::remove_file(file)));
            return Err(match source.kind() {
                io::ErrorKind::AlreadyExists => MakeError::Exists(file.clone()),
                _ => MakeError::File { file: file.clone(), source },
            });
        }
    }
    Ok(made)
}

impl Made {
    fn files(&self) -> [&PathBuf; 3] {
        [&self.authority, &self.certificate, &self.private_key]
    }

    /// What to do with the files, to be pasted.
    pub(crate) fn instructions(&self) -> String {
        let full = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let [authority, certificate, private_key] = self.files().map(|path| full(path));
        let (authority, certificate, private_key) =
            (authority.display(), certificate.display(), private_key.display());
        let names = self.names.join(", ");
        format!(
            "made a certificate for {names}, for development only\n\
             \n\
             configuration:\n  \
               [server]\n  \
               listen = \"https://127.0.0.1:8443\"\n  \
               [tls]\n  \
               certificate = \"{certificate}\"\n  \
               private_key = \"{private_key}\"\n\
             \n\
             what makes clients trust it:\n  \
               Node:    export NODE_EXTRA_CA_CERTS={authority}\n  \
               Python:  export SSL_CERT_FILE={authority} REQUESTS_CA_BUNDLE={authority}\n  \
               curl:    curl --cacert {authority} https://127.0.0.1:8443/api/health\n"
        )
    }
}

/// Whether clients would find this name in a certificate: an address, or a host name that may start with `*.`.
fn is_name(name: &str) -> bool {
    ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

fn called(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Writes a new file; an existing one is an error, and nobody but the owner sees a key even for a moment.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}
