//! Reading answers of event handlers, within bounds.
//!
//! What must stay true: the answers being read take no more memory, all handlers together, than
//! [`SMALL_ANSWERS_MAX`] times [`SMALL_BYTES_MAX`] plus [`LARGE_BYTES_MAX`]. Who finds no room waits for it, under
//! its event's deadline. An answer takes the room it may need before it grows, and never waits a second time, so
//! no two can wait for each other.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::https::whole;

/// Answers that are read at a time.
pub(crate) const SMALL_ANSWERS_MAX: usize = 1024;
/// What each may have without asking for more, in bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 64 * 1024;
/// For all that is larger, in bytes; also the largest answer, whatever is configured.
pub(crate) const LARGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The memory for answers.
#[derive(Debug)]
pub(crate) struct Room {
    small: Semaphore,
    /// In bytes.
    large: Semaphore,
}

/// Why an answer's body cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It is larger than this, in bytes.
    TooLarge(usize),
    /// It broke off.
    Broken(String),
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { small: Semaphore::new(SMALL_ANSWERS_MAX), large: Semaphore::new(LARGE_BYTES_MAX) }
    }

    /// Bytes that large answers take at present.
    pub(crate) fn large_bytes(&self) -> usize {
        LARGE_BYTES_MAX - self.large.available_permits()
    }

    /// Reads a whole body of at most `bytes_max`.
    pub(crate) async fn read(
        &self,
        answer: &mut Response<Incoming>,
        bytes_max: usize,
    ) -> Result<Bytes, BodyFault> {
        let bytes_max = bytes_max.min(LARGE_BYTES_MAX);
        let body = answer.body_mut();
        let _small = acquire(&self.small, 1).await;
        // What it says of itself; a chunked one may become as large as is allowed.
        let hint = body.size_hint();
        if hint.lower() > bytes_max as u64 {
            return Err(BodyFault::TooLarge(bytes_max));
        }
        let may_become = hint.upper().map_or(bytes_max, |upper| (upper as usize).min(bytes_max));
        let mut large = None;
        let mut gathered = Gathered::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyFault::Broken(whole(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = gathered.len() + data.len();
            if length > bytes_max {
                return Err(BodyFault::TooLarge(bytes_max));
            }
            if length > SMALL_BYTES_MAX && large.is_none() {
                large = Some(acquire(&self.large, may_become as u32).await);
            }
            gathered.push(data);
        }
        Ok(gathered.into_bytes())
    }
}

/// The beginning of a body, as far as it comes.
pub(crate) async fn read_start(answer: &mut Response<Incoming>, bytes_max: usize) -> Bytes {
    let mut gathered = Gathered::default();
    while gathered.len() < bytes_max
        && let Some(Ok(frame)) = answer.body_mut().frame().await
    {
        if let Ok(data) = frame.into_data() {
            gathered.push(data);
        }
    }
    let mut bytes = gathered.into_bytes();
    bytes.truncate(bytes_max);
    bytes
}

async fn acquire(semaphore: &Semaphore, permits: u32) -> SemaphorePermit<'_> {
    semaphore.acquire_many(permits).await.expect("it is never closed")
}

/// A body as it comes; one that comes in one piece is not copied.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    rest: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if !self.first.is_empty() {
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}
