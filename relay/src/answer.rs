//! Reading answers of event handlers, within bounds.
//!
//! What must stay true: the answers being read take no more memory, all handlers together, than
//! [`SMALL_ANSWERS_MAX`] times [`SMALL_BYTES_MAX`] plus [`LARGE_BYTES_MAX`]. Who finds no room waits for it, under
//! its event's deadline. An answer takes the room it may need before it grows, and never waits a second time, so
//! no two can wait for each other.

use bytes::Bytes;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::client::{Body, SendFault};

/// Answers that are read at a time.
pub(crate) const SMALL_ANSWERS_MAX: usize = 1024;
/// What each may have without asking for more, in bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 64 * 1024;
/// For all that is larger, in bytes; also the largest answer, whatever is configured.
pub(crate) const LARGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The beginning of a body that only explains is waited for so long.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// The memory for answers.
#[derive(Debug)]
pub(crate) struct Room {
    small: Semaphore,
    small_answers_max: usize,
    /// In bytes.
    large: Semaphore,
}

/// Why an answer's body cannot be had.
#[derive(Debug)]
pub(crate) enum BodyFault {
    /// It is larger than this, in bytes.
    TooLarge(usize),
    /// It broke off, or is none.
    Fault(SendFault),
}

impl From<SendFault> for BodyFault {
    fn from(fault: SendFault) -> Self {
        Self::Fault(fault)
    }
}

impl Room {
    /// For so many answers at a time, of which the large ones share [`LARGE_BYTES_MAX`].
    pub(crate) fn new(small_answers_max: usize) -> Self {
        let (small, large) = (Semaphore::new(small_answers_max), Semaphore::new(LARGE_BYTES_MAX));
        Self { small, small_answers_max, large }
    }

    /// Answers being read, and the bytes that are set aside for large ones.
    pub(crate) fn taken(&self) -> (usize, usize) {
        let taken = |of: &Semaphore, all| all - of.available_permits();
        (taken(&self.small, self.small_answers_max), taken(&self.large, LARGE_BYTES_MAX))
    }

    /// Reads a whole body of at most `bytes_max`.
    pub(crate) async fn read(&self, body: &mut Body, bytes_max: usize) -> Result<Bytes, BodyFault> {
        let bytes_max = bytes_max.min(LARGE_BYTES_MAX);
        let length = body.length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if length.is_some_and(|length| length > bytes_max) {
            return Err(BodyFault::TooLarge(bytes_max));
        }
        let _small = acquire(&self.small, 1).await;
        let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(SMALL_BYTES_MAX));
        let mut is_whole = body.read(&mut bytes, SMALL_BYTES_MAX.min(bytes_max)).await?;
        if !is_whole && bytes.len() < bytes_max {
            // One that does not say how large it is may become as large as is allowed.
            let may_become = length.unwrap_or(bytes_max);
            let _large = acquire(&self.large, may_become as u32).await;
            bytes.reserve_exact(length.map_or(0, |length| length.saturating_sub(bytes.len())));
            is_whole = body.read(&mut bytes, bytes_max).await?;
        }
        if is_whole && bytes.len() <= bytes_max {
            Ok(bytes.into())
        } else {
            Err(BodyFault::TooLarge(bytes_max))
        }
    }
}

/// The beginning of a body, as far as it comes before long.
pub(crate) async fn read_start(body: &mut Body, bytes_max: usize) -> Bytes {
    let mut bytes = Vec::new();
    // What comes before a fault is as good as any beginning.
    let _ = timeout(START_PATIENCE, body.read(&mut bytes, bytes_max)).await;
    bytes.truncate(bytes_max);
    bytes.into()
}

async fn acquire(semaphore: &Semaphore, permits: u32) -> SemaphorePermit<'_> {
    semaphore.acquire_many(permits).await.expect("it is never closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Outgoing};
    use hyper::{Method, Uri};
    use ringhub_protocol::events::UrlTemplate;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// An answer of one byte that is still to come, and the socket it comes from.
    async fn answer(client: &Client, uri: &Uri, listener: &TcpListener) -> (Body, TcpStream) {
        let mut request = Outgoing {
            method: Method::POST,
            uri,
            headers: |_: &mut dyn FnMut(&str, &[u8])| {},
            body: Bytes::new(),
            turn: None,
        };
        let handler = async {
            let mut socket = listener.accept().await.unwrap().0;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 1\r\n\r\n").await.unwrap();
            socket
        };
        let (answer, socket) = tokio::join!(client.send(&mut request), handler);
        (answer.unwrap().body, socket)
    }

    /// Though all of it has come: as many are read as may be.
    #[test]
    fn a_small_answer_too_many_waits_until_one_is_read() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let template = UrlTemplate::parse(&uri.to_string(), &mut |_| unreachable!()).unwrap();
            let client = Client::new(&crate::upstream::tests::settings(template), &uri).unwrap();
            let (mut one, mut ones_handler) = answer(&client, &uri, &listener).await;
            let (mut other, mut others_handler) = answer(&client, &uri, &listener).await;
            let room = Room::new(1);
            let (mut first, mut second) = (pin!(room.read(&mut one, 1)), pin!(room.read(&mut other, 1)));
            assert!(poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_pending())).await);
            assert_eq!(room.taken(), (1, 0));
            others_handler.write_all(b"b").await.unwrap();
            ones_handler.write_all(b"a").await.unwrap();
            let read = tokio::select! {
                biased;
                _ = &mut second => panic!("there is no room for it"),
                read = &mut first => read,
            };
            assert_eq!(read.unwrap(), "a");
            assert_eq!(second.await.unwrap(), "b");
            assert_eq!(room.taken(), (0, 0));
        });
    }
}
