//! A client's socket, with TLS or without.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
};

use crate::process::{ringhub, target_dir};

/// What a client does about TLS; cheap to clone. Its session cache goes with it.
pub type TlsClient = Arc<ClientConfig>;

/// The files of the certificate that every TLS server of this process uses.
#[derive(Debug)]
pub struct Certificate {
    /// What clients trust.
    pub authority: PathBuf,
    /// The server's chain.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
}

impl Certificate {
    /// Made by `ringhub cert`, once.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Certificate> = OnceLock::new();
        SHARED.get_or_init(|| Self::make("shared"))
    }

    /// Another one, made by `ringhub cert` into a folder of that name.
    pub fn make(name: &str) -> Self {
        let folder = target_dir().join("harness").join(format!("{}-{name}", std::process::id()));
        // Of an earlier process with the same number.
        let _ = fs::remove_dir_all(&folder);
        let status = ringhub(["cert".as_ref(), "--out".as_ref(), folder.as_os_str()])
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("the server's binary runs").success());
        Self {
            authority: folder.join("ringhub-ca.pem"),
            certificate: folder.join("ringhub-cert.pem"),
            private_key: folder.join("ringhub-key.pem"),
        }
    }

    /// A client that trusts it.
    pub fn client(&self) -> TlsClient {
        self.client_of(rustls::ALL_VERSIONS)
    }

    /// A client that trusts it and speaks these versions only.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsClient {
        Arc::new(self.builder(versions).with_no_client_auth())
    }

    /// A server that shows it and speaks these protocols (ALPN).
    pub(crate) fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.certificate).expect("a certificate");
        let chain = chain.collect::<Result<_, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.private_key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("known versions").with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key).expect("a pair");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A client's configuration but for its own certificate.
    pub fn builder(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&self.authority).expect("a certificate");
        roots.add(authority).expect("a certificate that can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots)
    }
}

/// The bytes a client exchanges, decrypted.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, addr: SocketAddr, tls: Option<&TlsClient>) -> Self {
        match tls {
            None => Self::Plain(tcp),
            Some(config) => {
                let connection = ClientConnection::new(Arc::clone(config), addr.ip().into());
                Self::Tls(Box::new(StreamOwned::new(connection.expect("a client"), tcp)))
            }
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Ends our direction, with a goodbye over TLS.
    pub(crate) fn half_close(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.tcp().shutdown(Shutdown::Write);
    }

    /// What was agreed on.
    pub(crate) fn tls(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(&stream.conn),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Plain(tcp) => tcp.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            // A machine that is paused and goes on interrupts reads that have a deadline (signal(7)).
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
