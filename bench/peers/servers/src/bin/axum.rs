//! axum's WebSocket upgrade: a task per connection that waits for its socket and for the channel.

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::serve::ListenerExt;
use axum::{Router, routing};
use ringhub_peers::{Everybody, start};
use tokio::sync::broadcast::error::RecvError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (listener, everybody) = start::<Utf8Bytes>().await?;
    let upgrade = move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|socket| async { drop(serve(socket, everybody).await) })
    };
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    axum::serve(listener, Router::new().route("/", routing::any(upgrade))).await
}

async fn serve(mut socket: WebSocket, everybody: Everybody<Utf8Bytes>) -> Result<(), axum::Error> {
    let mut channel = None;
    loop {
        let next = async {
            match &mut channel {
                None => std::future::pending().await,
                Some(channel) => tokio::sync::broadcast::Receiver::recv(channel).await,
            }
        };
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) if text.as_str() == "S" => {
                    channel = Some(everybody.subscribe());
                    socket.send(Message::Text("OK".into())).await?;
                }
                // An error means that nobody listens.
                Some(Ok(Message::Text(text))) => drop(everybody.send(text.as_str()[1..].into())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            message = next => match message {
                Ok(text) => socket.send(Message::Text(text)).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}
