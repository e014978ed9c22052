//! What the small peer servers share: an address said on standard output, and one broadcast channel.
//!
//! All of them speak what `ringhub-bench compare` calls `simple`: the first message `S` subscribes and is
//! answered `OK`, `P...` publishes the rest to all. Each is written as its library's examples suggest.

use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Messages a slow connection may lag behind before it loses some; the generator would see the loss.
pub const CHANNEL_MESSAGES: usize = 4_096;

/// The channel from publishers to everybody.
pub type Everybody<M> = broadcast::Sender<M>;

/// A listener on a free port of loopback, its address printed; and the channel.
pub async fn start<M: Clone>() -> std::io::Result<(TcpListener, Everybody<M>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on ws://{}", listener.local_addr()?);
    Ok((listener, broadcast::channel(CHANNEL_MESSAGES).0))
}
