//! An event handler on hyper: HTTP/2, with TLS or without, and HTTP/1.1 over TLS.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) version: hyper::Version,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;
type Script = dyn Fn(&Asked) -> Answering + Send + Sync;

pub(crate) struct HyperHandler {
    pub(crate) address: SocketAddr,
    /// The certificate it shows, PEM.
    pub(crate) certificate: String,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    close: Notify,
}

impl HyperHandler {
    /// HTTP/2 without TLS.
    pub(crate) fn start(script: impl Fn(&Asked) -> Answering + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    /// With TLS, offering these protocols.
    pub(crate) fn start_tls(
        protocols: &[&str],
        script: impl Fn(&Asked) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(protocols.iter().map(|name| name.as_bytes().to_vec()).collect()), script)
    }

    fn start_with(
        protocols: Option<Vec<Vec<u8>>>,
        script: impl Fn(&Asked) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let is_tls = protocols.is_some();
        config.alpn_protocols = protocols.unwrap_or_default();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            close: Notify::new(),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (shared, acceptor) = (serving.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        if !is_tls {
                            shared.serve(stream, true).await;
                        } else if let Ok(stream) = acceptor.accept(stream).await {
                            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            shared.serve(stream, is_http2).await;
                        }
                    });
                }
            });
        });
        Self { address, certificate: made.cert.pem(), shared }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Ends its connections as soon as they have answered what they were asked.
    pub(crate) fn close_connections(&self) {
        self.shared.close.notify_waiters();
    }
}

impl Shared {
    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_http2: bool,
    ) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let shared = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = shared.clone();
            async move {
                let (head, body) = request.into_parts();
                // Noted in the order of the heads, before anything is waited for.
                let at = {
                    let mut asked = shared.asked.lock().unwrap();
                    asked.push(Asked {
                        method: head.method.to_string(),
                        path: head.uri.path().to_owned(),
                        version: head.version,
                        headers: head.headers,
                        body: Bytes::new(),
                    });
                    asked.len() - 1
                };
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let asked = {
                    let mut all = shared.asked.lock().unwrap();
                    all[at].body = body;
                    all[at].clone()
                };
                Ok::<_, Infallible>((shared.script)(&asked).await)
            }
        });
        let io = TokioIo::new(stream);
        let closing = self.close.notified();
        if is_http2 {
            let connection =
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = &mut connection => {}
                () = closing => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    }
}
