//! A small group that goes on while something else shakes the server: what do its members notice?

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::cli::Protocol;
use crate::client::{Delivery, Swarm};
use crate::crowd::client_spec;
use crate::error::Error;
use crate::facts;
use crate::report::Progress;
use crate::server::Server;
use crate::stamp::Stamp;

/// Members of the group.
const MEMBERS: usize = 10;

/// Between two messages.
const EVERY_NS: u64 = 10_000_000;

/// Payload bytes.
const SIZE: usize = 64;

/// The group's members, and its publisher behind them.
pub(crate) struct Bystanders {
    first: usize,
    sent: u32,
    /// Per member, the number due next.
    due: [u32; MEMBERS],
    next_ns: u64,
    /// Since the last [`Bystanders::take_latency`], from when a message was due, ns.
    latency: Histogram<u64>,
    /// Messages that were missing, doubled or damaged.
    pub(crate) wrong: u64,
}

impl Bystanders {
    /// Opens them behind the connections there are.
    pub(crate) fn open(
        swarm: &mut Swarm,
        first: usize,
        server: &Server,
        hub: &str,
        patience: Duration,
        progress: &mut Progress,
    ) -> Result<Self, Error> {
        const GROUP: &str = "bystanders";
        let spec = |index| {
            let is_member = index < MEMBERS;
            let groups = [GROUP.to_owned()];
            let groups = if is_member { &groups[..] } else { &[] };
            let mut spec = client_spec(server, hub, Protocol::Raw, &format!("bystander-{index}"), groups);
            if !is_member {
                spec.path += &format!("&webpubsub_mode=sendToGroup&group={GROUP}");
            }
            spec
        };
        swarm.open((0..MEMBERS + 1).map(spec), patience, progress)?;
        let (next_ns, latency) = (swarm.now_ns(), facts::latencies());
        Ok(Self { first, sent: 0, due: [0; MEMBERS], next_ns, latency, wrong: 0 })
    }

    /// Publishes what is due.
    pub(crate) fn tend(&mut self, swarm: &mut Swarm) -> Result<(), Error> {
        let mut payload = Vec::new();
        while self.next_ns <= swarm.now_ns() {
            payload.clear();
            Stamp { publisher: 0, sequence: self.sent, at_ns: self.next_ns }.write(&mut payload, SIZE);
            swarm.queue(self.first + MEMBERS, &payload);
            self.sent += 1;
            self.next_ns += EVERY_NS;
        }
        swarm.flush(self.first + MEMBERS)
    }

    /// Takes a delivery; false if it is none of theirs.
    pub(crate) fn receive(&mut self, delivery: &Delivery<'_>) -> bool {
        let Some(member) = delivery.connection.checked_sub(self.first) else { return false };
        let stamp = Stamp::parse(delivery.payload, SIZE);
        let (Some(stamp), Some(due)) = (stamp, self.due.get_mut(member)) else {
            self.wrong += 1;
            return true;
        };
        self.wrong += u64::from(stamp.sequence.abs_diff(*due));
        *due = stamp.sequence + 1;
        self.latency.saturating_record(delivery.now_ns.saturating_sub(stamp.at_ns).max(1));
        true
    }

    /// Messages that are not yet with everybody.
    pub(crate) fn missing(&self) -> u64 {
        self.due.iter().map(|due| u64::from(self.sent - due)).sum()
    }

    /// The latencies since the last call.
    pub(crate) fn take_latency(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.latency, facts::latencies())
    }
}
