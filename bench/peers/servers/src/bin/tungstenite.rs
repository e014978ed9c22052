//! tokio-tungstenite: a task per connection that waits for its socket and for the channel.

use futures_util::{SinkExt, StreamExt};
use ringhub_peers::{Everybody, start};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (listener, everybody) = start().await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(serve(socket, everybody.clone()));
    }
}

async fn serve(socket: TcpStream, everybody: Everybody<Utf8Bytes>) -> Result<(), Error> {
    let mut socket = tokio_tungstenite::accept_async(socket).await?;
    let mut channel = None;
    loop {
        let next = async {
            match &mut channel {
                None => std::future::pending().await,
                Some(channel) => tokio::sync::broadcast::Receiver::recv(channel).await,
            }
        };
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) if text.as_str() == "S" => {
                    channel = Some(everybody.subscribe());
                    socket.send(Message::text("OK")).await?;
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
