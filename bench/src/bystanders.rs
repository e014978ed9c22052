//! A small group that goes on while something else shakes the server: what do its members notice?

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cli::Protocol;
use crate::client::{Delivery, Swarm};
use crate::crowd::client_spec;
use crate::error::Error;
use crate::facts;
use crate::pace::TURN_MAX;
use crate::report::Progress;
use crate::server::Server;
use crate::stamp::Stamp;

/// Members of the group.
const MEMBERS: usize = 10;

/// Between two messages.
const EVERY_NS: u64 = 10_000_000;

/// What all of them are to get a second.
#[cfg(test)]
pub(crate) const DELIVERIES_PER_SECOND: u64 = MEMBERS as u64 * 1_000_000_000 / EVERY_NS;

/// Payload bytes.
const SIZE: usize = 64;

/// With a p99 of theirs above this though nothing happens, the machine has no time to spare for a judgement, ms.
pub(crate) const CALM_MS_MAX: f64 = 5.0;

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
        let spec = |name: &str, groups: &[String]| client_spec(server, hub, Protocol::Raw, name, groups);
        let groups = [GROUP.to_owned()];
        let members = (0..MEMBERS).map(|index| spec(&format!("bystander-{index}"), &groups));
        swarm.open(members, patience, progress)?;
        let mut publisher = spec("publisher", &[]);
        publisher.path += &format!("&webpubsub_mode=sendToGroup&group={GROUP}");
        swarm.open(std::iter::once(publisher), patience, progress)?;
        let (next_ns, latency) = (swarm.now_ns(), facts::latencies());
        Ok(Self { first, sent: 0, due: [0; MEMBERS], next_ns, latency, wrong: 0 })
    }

    /// How long a turn that would wait for `most` may wait now: their next message is due by the clock, and what it is
    /// late by would be taken for the server's. The last two milliseconds are spent polling, as waits end on whole ones.
    pub(crate) fn wait(&self, most: Duration, now_ns: u64) -> Duration {
        let wait = Duration::from_nanos(self.next_ns.saturating_sub(now_ns));
        if wait < Duration::from_millis(2) { Duration::ZERO } else { most.min(wait / 2) }
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
        if stamp.sequence >= self.sent {
            // Nobody sent it.
            self.wrong += 1;
            return true;
        }
        // What was passed over is missing; what comes late, or again, is wrong once, however old it is.
        self.wrong += u64::from(stamp.sequence.checked_sub(*due).unwrap_or(1));
        *due = (*due).max(stamp.sequence + 1);
        self.latency.saturating_record(delivery.now_ns.saturating_sub(stamp.at_ns).max(1));
        true
    }

    /// Waits for what is on its way, and returns how much of it has not come. Publishes nothing meanwhile, and goes on
    /// from then; somebody else's deliveries are passed over.
    pub(crate) fn settle(&mut self, swarm: &mut Swarm, patience: Duration) -> Result<u64, Error> {
        let start = Instant::now();
        while self.missing() > 0 && start.elapsed() < patience {
            swarm.pump(TURN_MAX, &mut |delivery| {
                self.receive(&delivery);
            })?;
        }
        self.next_ns = swarm.now_ns();
        Ok(self.missing())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What everybody was late by in a calm, up to a whole period, was how long the generator had slept.
    #[test]
    fn nobody_sleeps_over_what_is_due() {
        let bystanders = Bystanders {
            first: 0,
            sent: 0,
            due: [0; MEMBERS],
            next_ns: 9_000_000,
            latency: facts::latencies(),
            wrong: 0,
        };
        let wait = |most, now_ns| bystanders.wait(Duration::from_millis(most), now_ns).as_micros();
        assert_eq!([wait(10, 0), wait(10, 5_000_000), wait(1, 0)], [4_500, 2_000, 1_000]);
        assert_eq!([wait(10, 7_000_001), wait(10, 9_000_000), wait(10, u64::MAX)], [0; 3]);
    }

    /// A message that came again a thousand later counted as a thousand.
    #[test]
    fn what_comes_again_is_wrong_once_and_what_is_passed_over_is_missing() {
        let mut bystanders = Bystanders {
            first: 3,
            sent: 2_000,
            due: [0; MEMBERS],
            next_ns: 0,
            latency: facts::latencies(),
            wrong: 0,
        };
        let mut receive = |connection, sequence| {
            let mut payload = Vec::new();
            Stamp { publisher: 0, sequence, at_ns: 0 }.write(&mut payload, SIZE);
            let delivery = Delivery { connection, payload: &payload, frame_bytes: 0, now_ns: 5 };
            (bystanders.receive(&delivery), bystanders.wrong)
        };
        assert_eq!(receive(2, 0), (false, 0), "a flooder's");
        assert_eq!([receive(3, 0), receive(3, 1)], [(true, 0); 2]);
        assert_eq!(receive(3, 1_000), (true, 998));
        assert_eq!([receive(3, 1), receive(3, 1_000)], [(true, 999), (true, 1_000)]);
        assert_eq!(receive(3, 1_001), (true, 1_000));
        assert_eq!(receive(4, 2_000), (true, 1_001), "nobody sent it");
        assert_eq!(bystanders.missing(), 2_000 * (MEMBERS as u64 - 1) + 2_000 - 1_002);
    }
}
