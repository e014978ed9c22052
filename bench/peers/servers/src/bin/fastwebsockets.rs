//! fastwebsockets over hyper: a reading and, once subscribed, a writing task per connection, since a read
//! that was begun must not be dropped.

use std::rc::Rc;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, WebSocketError, WebSocketWrite, upgrade};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ringhub_peers::{Everybody, start};
use tokio::io::WriteHalf;
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::LocalSet;

type Writer = Rc<Mutex<WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (listener, everybody) = start::<Bytes>().await?;
    let accept = async {
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let everybody = everybody.clone();
            let service = service_fn(move |request| answer(request, everybody.clone()));
            let connection = hyper::server::conn::http1::Builder::new();
            let connection = connection.serve_connection(TokioIo::new(socket), service).with_upgrades();
            tokio::task::spawn_local(connection);
        }
    };
    LocalSet::new().run_until(accept).await
}

async fn answer(
    mut request: Request<Incoming>,
    everybody: Everybody<Bytes>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgrade) = upgrade::upgrade(&mut request)?;
    tokio::task::spawn_local(async move { drop(serve(upgrade, everybody).await) });
    Ok(response)
}

async fn serve(upgrade: upgrade::UpgradeFut, everybody: Everybody<Bytes>) -> Result<(), WebSocketError> {
    let (mut reader, writer) = upgrade.await?.split(tokio::io::split);
    let writer: Writer = Rc::new(Mutex::new(writer));
    loop {
        // What the library itself has to say: pongs and the answer to a close.
        let mut own = async |frame: Frame<'_>| writer.lock().await.write_frame(frame).await;
        let frame = reader.read_frame(&mut own).await?;
        match (frame.opcode, &*frame.payload) {
            (OpCode::Close, _) => break,
            (OpCode::Text, b"S") => {
                let channel = everybody.subscribe();
                own(Frame::text(Payload::Borrowed(b"OK"))).await?;
                // Ends with the first write that fails.
                tokio::task::spawn_local(forward(Rc::clone(&writer), channel));
            }
            // An error means that nobody listens.
            (OpCode::Text, text) => drop(everybody.send(Bytes::copy_from_slice(&text[1..]))),
            _ => {}
        }
    }
    Ok(())
}

async fn forward(writer: Writer, mut channel: tokio::sync::broadcast::Receiver<Bytes>) -> Option<()> {
    loop {
        match channel.recv().await {
            Ok(text) => {
                let frame = Frame::text(Payload::Borrowed(&text));
                writer.lock().await.write_frame(frame).await.ok()?;
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Some(()),
        }
    }
}
