//! A small group that goes on while something else shakes the server: what do its members notice?
//!
//! What must stay true: what they notice is the server's doing. They have a thread of their own, to which whoever shakes
//! the server gives way at once if the generator may say so (root may): what it is late by would be taken for the
//! server's.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
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
use crate::sys;

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

/// They go on, on their thread, for as long as this is there.
pub(crate) struct Bystanders {
    asks: Sender<Ask>,
    thread: Option<JoinHandle<Result<(), Error>>>,
    /// As of the last [`Bystanders::settle`].
    pub(crate) settled: Settled,
}

/// What became of what they were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Messages that are not with everybody.
    pub(crate) missing: u64,
    /// Messages that were missing, doubled or damaged.
    pub(crate) wrong: u64,
}

enum Ask {
    /// The latencies since the last time.
    Latency(Sender<Histogram<u64>>),
    /// Publishes nothing until all that is on its way has come, or patience is at an end.
    Settle(Duration, Sender<Settled>),
}

impl Bystanders {
    /// Opens them.
    pub(crate) fn open(
        server: &Server,
        hub: &str,
        patience: Duration,
        progress: &mut Progress,
    ) -> Result<Self, Error> {
        const GROUP: &str = "bystanders";
        let mut swarm = Swarm::new(server.address, &server.host)?;
        let spec = |name: &str, groups: &[String]| client_spec(server, hub, Protocol::Raw, name, groups);
        let groups = [GROUP.to_owned()];
        let members = (0..MEMBERS).map(|index| spec(&format!("bystander-{index}"), &groups));
        swarm.open(members, patience, progress)?;
        let mut publisher = spec("publisher", &[]);
        publisher.path += &format!("&webpubsub_mode=sendToGroup&group={GROUP}");
        swarm.open(std::iter::once(publisher), patience, progress)?;
        let (asks, asked) = mpsc::channel();
        let group = Group::new(swarm.now_ns());
        let thread = std::thread::Builder::new()
            .name("bystanders".into())
            .spawn(move || {
                sys::be_prompt();
                group.go_on(&mut swarm, &asked)
            })
            .map_err(Error::io("start a thread"))?;
        Ok(Self { asks, thread: Some(thread), settled: Settled::default() })
    }

    /// The latencies since the last call.
    pub(crate) fn take_latency(&mut self) -> Result<Histogram<u64>, Error> {
        self.ask(Ask::Latency)
    }

    /// Waits for what is on its way, and returns how much of it has not come. Publishes nothing meanwhile, and goes on
    /// from then.
    pub(crate) fn settle(&mut self, patience: Duration) -> Result<u64, Error> {
        self.settled = self.ask(|reply| Ask::Settle(patience, reply))?;
        Ok(self.settled.missing)
    }

    fn ask<T>(&mut self, ask: impl FnOnce(Sender<T>) -> Ask) -> Result<T, Error> {
        let (reply, answer) = mpsc::channel();
        let _ = self.asks.send(ask(reply));
        answer.recv().map_err(|_| {
            let thread = self.thread.take().expect("who has failed is not asked again");
            thread.join().expect("it does not panic").expect_err("it goes on until it fails")
        })
    }
}

/// The group's members, and its publisher behind them.
struct Group {
    sent: u32,
    /// Per member, the number due next.
    due: [u32; MEMBERS],
    next_ns: u64,
    /// From when a message was due, ns.
    latency: Histogram<u64>,
    wrong: u64,
}

impl Group {
    fn new(now_ns: u64) -> Self {
        Self { sent: 0, due: [0; MEMBERS], next_ns: now_ns, latency: facts::latencies(), wrong: 0 }
    }

    /// Until nobody asks any more.
    fn go_on(mut self, swarm: &mut Swarm, asked: &Receiver<Ask>) -> Result<(), Error> {
        loop {
            match asked.try_recv() {
                Ok(Ask::Latency(reply)) => {
                    let _ = reply.send(std::mem::replace(&mut self.latency, facts::latencies()));
                }
                Ok(Ask::Settle(patience, reply)) => {
                    self.settle(swarm, patience)?;
                    let _ = reply.send(Settled { missing: self.missing(), wrong: self.wrong });
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let wait = self.wait(TURN_MAX, swarm.now_ns());
            swarm.pump(wait, &mut |delivery| self.receive(&delivery))?;
            self.tend(swarm)?;
        }
    }

    /// How long a turn that would wait for `most` may wait now: their next message is due by the clock, and what it is
    /// late by would be taken for the server's. The last millisecond is spent polling, as waits end on whole ones.
    fn wait(&self, most: Duration, now_ns: u64) -> Duration {
        const WHOLE: Duration = Duration::from_millis(1);
        most.min(Duration::from_nanos(self.next_ns.saturating_sub(now_ns)).saturating_sub(WHOLE))
    }

    /// Publishes what is due.
    fn tend(&mut self, swarm: &mut Swarm) -> Result<(), Error> {
        let mut payload = Vec::new();
        while self.next_ns <= swarm.now_ns() {
            payload.clear();
            Stamp { publisher: 0, sequence: self.sent, at_ns: self.next_ns }.write(&mut payload, SIZE);
            swarm.queue(MEMBERS, &payload);
            self.sent += 1;
            self.next_ns += EVERY_NS;
        }
        swarm.flush(MEMBERS)
    }

    fn receive(&mut self, delivery: &Delivery<'_>) {
        let stamp = Stamp::parse(delivery.payload, SIZE);
        let (Some(stamp), Some(due)) = (stamp, self.due.get_mut(delivery.connection)) else {
            self.wrong += 1;
            return;
        };
        if stamp.sequence >= self.sent {
            // Nobody sent it.
            self.wrong += 1;
            return;
        }
        // What was passed over is missing; what comes late, or again, is wrong once, however old it is.
        self.wrong += u64::from(stamp.sequence.checked_sub(*due).unwrap_or(1));
        *due = (*due).max(stamp.sequence + 1);
        self.latency.saturating_record(delivery.now_ns.saturating_sub(stamp.at_ns).max(1));
    }

    fn settle(&mut self, swarm: &mut Swarm, patience: Duration) -> Result<(), Error> {
        let start = Instant::now();
        while self.missing() > 0 && start.elapsed() < patience {
            swarm.pump(TURN_MAX, &mut |delivery| self.receive(&delivery))?;
        }
        self.next_ns = swarm.now_ns();
        Ok(())
    }

    fn missing(&self) -> u64 {
        self.due.iter().map(|due| u64::from(self.sent - due)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What everybody was late by in a calm, up to a whole period, was how long the generator had slept.
    #[test]
    fn nobody_sleeps_over_what_is_due() {
        let group = Group::new(9_000_000);
        let wait = |most, now_ns| group.wait(Duration::from_millis(most), now_ns).as_micros();
        assert_eq!([wait(10, 0), wait(10, 5_000_000), wait(1, 0)], [8_000, 3_000, 1_000]);
        assert_eq!([wait(10, 8_000_000), wait(10, 9_000_000), wait(10, u64::MAX)], [0; 3]);
    }

    /// A message that came again a thousand later counted as a thousand.
    #[test]
    fn what_comes_again_is_wrong_once_and_what_is_passed_over_is_missing() {
        let mut group = Group { sent: 2_000, ..Group::new(0) };
        let mut receive = |connection, sequence| {
            let mut payload = Vec::new();
            Stamp { publisher: 0, sequence, at_ns: 0 }.write(&mut payload, SIZE);
            group.receive(&Delivery { connection, payload: &payload, frame_bytes: 0, now_ns: 5 });
            group.wrong
        };
        assert_eq!([receive(0, 0), receive(0, 1)], [0; 2]);
        assert_eq!(receive(0, 1_000), 998);
        assert_eq!([receive(0, 1), receive(0, 1_000)], [999, 1_000]);
        assert_eq!(receive(0, 1_001), 1_000);
        assert_eq!(receive(1, 2_000), 1_001, "nobody sent it");
        assert_eq!(receive(MEMBERS, 0), 1_002, "to the publisher");
        assert_eq!(group.missing(), 2_000 * (MEMBERS as u64 - 1) + 2_000 - 1_002);
    }
}
