//! Where a handler's host is: its name is looked up by one at a time, and what was found is kept for a moment.
//!
//! The system's lookup blocks a thread, of which there are few. So many connections to one handler, or a handler with
//! a name that nobody answers for, need one of them, and leave the others to others.

use hyper_util::client::legacy::connect::dns::Name;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;
use tokio::time::Instant;
use tower_service::Service;

use crate::kept::{Answer, Kept};

/// After that long a name is looked up again, in the background.
const FRESH: Duration = Duration::from_secs(5);
/// What was found is not used longer.
const USABLE: Duration = Duration::from_secs(60);
/// After a failure the system is not asked for this long.
const PAUSE: Duration = Duration::from_secs(1);

/// The addresses of one host.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(Arc<Kept<Known>>);

type Known = Result<Arc<[SocketAddr]>, NotFound>;

/// There are none; for the operator.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotFound(Arc<str>);

impl Lookup {
    /// Of the host that it will be asked for, which must always be the same.
    pub(crate) fn new() -> Self {
        Self(Kept::new())
    }
}

impl Service<Name> for Lookup {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = NotFound;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NotFound>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotFound>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let kept = self.0.clone();
        Box::pin(async move {
            let known = kept.get(|last| look_up(name.clone(), last)).await;
            known.map(|addresses| Vec::from(&*addresses).into_iter())
        })
    }
}

async fn look_up(name: Name, last: Option<Answer<Known>>) -> Answer<Known> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await;
    let now = Instant::now();
    match (found, last) {
        (Ok(addresses), _) => {
            Answer { value: Ok(addresses.collect()), due: now + FRESH, usable_until: Some(now + USABLE) }
        }
        (Err(_), Some(last)) if last.value.is_ok() && last.usable_until.is_some_and(|until| now < until) => {
            Answer { due: now + PAUSE, ..last }
        }
        (Err(error), _) => {
            let value = Err(NotFound(error.to_string().into()));
            Answer { value, due: now + PAUSE, usable_until: Some(now + PAUSE) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_outlives_a_failure_but_not_its_time() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let nowhere: Name = "name.invalid".parse().unwrap();
            let now = Instant::now();
            let found = Answer {
                value: Ok(Arc::from([SocketAddr::from(([127, 0, 0, 1], 0))])),
                due: now,
                usable_until: Some(now + USABLE),
            };
            assert!(look_up(nowhere.clone(), Some(found.clone())).await.value.is_ok());
            let old = Answer { usable_until: Some(now), ..found };
            let failed = look_up(nowhere, Some(old)).await;
            assert!(failed.value.is_err() && failed.usable_until.is_some_and(|until| until >= now + PAUSE));
            let mut lookup = Lookup::new();
            let here = lookup.call("localhost".parse().unwrap()).await.unwrap();
            assert!(here.len() > 0 && here.into_iter().all(|address| address.ip().is_loopback()));
        });
    }
}
