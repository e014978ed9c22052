//! HTTP/2 by hyper: frames are its business, what is recorded and answered is the same.

use std::convert::Infallible;
use std::future::pending;
use std::net::TcpListener;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;

use super::answer::Then;
use super::{Call, Shared};
use crate::Certificate;

pub(super) fn accept(listener: TcpListener, tls: bool, shared: Arc<Shared>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
        let tls = tls.then(|| TlsAcceptor::from(Certificate::shared().server(&["h2", "http/1.1"])));
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(socket) = socket.into_std() else { continue };
            let Ok(kept) = socket.try_clone() else { continue };
            let Some(number) = shared.opened(kept) else { return };
            let socket = tokio::net::TcpStream::from_std(socket).expect("a socket that does not block");
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve(socket, number, &shared).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(socket).await {
                            serve(stream, number, &shared).await;
                        }
                    }
                }
                shared.closed(number);
            });
        }
    });
    // Scripts that still wait for a gate are not waited for.
    runtime.shutdown_background();
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: usize,
    shared: &Arc<Shared>,
) {
    let service = service_fn(|request| exchange(request, connection, Arc::clone(shared)));
    // Who goes away in the middle is of no interest here.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn exchange(
    request: Request<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let call = Call {
        connection,
        version: format!("{:?}", head.version),
        method: head.method.to_string(),
        target: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default(),
    };
    // Here and now: what is recorded is the order of the streams.
    shared.record(&call);
    let answer = spawn_blocking(move || shared.answer(&call)).await.expect("the script panicked");
    if answer.then != Then::Next {
        return pending().await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(answer.body.into())).expect("a legal answer"))
}
