//! Ping-pong: one message on its way per connection; what does a round trip cost the server?

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cli::EchoArgs;
use crate::client::{Greeting, Spec, Swarm};
use crate::error::Error;
use crate::measure::median;
use crate::report::{Progress, Report};
use crate::server::{Server, Verb};
use crate::stamp::{self, Stamp};

/// Everything for one run of `echo`.
pub(crate) fn run(args: &EchoArgs) -> Result<Report, Error> {
    let size_ok = (stamp::SIZE_MIN..=1024 * 1024).contains(&args.size);
    if !size_ok || args.connections == 0 || args.rounds == 0 || args.messages == 0 {
        return Err(Error::Usage("--size must be 30 to 1048576 and every count at least 1".into()));
    }
    Server::check_room_for(args.connections)?;
    let server = Server::start(&args.server, Verb::Echo)?;
    let mut echo = Echo::open(&server, args)?;
    echo.round(args.messages.div_ceil(4))?;
    echo.forget_latency();
    let (mut costs, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let cpu = || server.processes.as_ref().map(|server| server.settled_cpu_ns()).transpose();
        let (before, start) = (cpu()?, Instant::now());
        echo.round(args.messages)?;
        rates.push(f64::from(args.messages) / start.elapsed().as_secs_f64());
        costs.extend(cpu()?.zip(before).map(|(now, then)| (now - then) as f64 / f64::from(args.messages)));
    }

    let mut report =
        Report::new("echo", format!("echo, {} B on {} connections", args.size, args.connections));
    report.fact("connections", "connections", args.connections);
    report.fact("payload_bytes", "payload, bytes", args.size);
    report.fact("rounds", "rounds", args.rounds);
    report.violation("wrong_echoes", "wrong echoes", echo.wrong);
    if !costs.is_empty() {
        report.figure("cpu_ns_per_round_trip", "server CPU per round trip", median(&costs), "ns", "");
    }
    report.figure("round_trips_per_second", "round trips per second", median(&rates), "", "");
    for (key, label, quantile) in
        [("latency_p50_ms", "latency p50", 0.5), ("latency_p99_ms", "latency p99", 0.99)]
    {
        let ms = echo.latency.value_at_quantile(quantile) as f64 / 1e6;
        report.figure(key, label, ms, "ms", "");
    }
    report.distribution(&echo.latency, "", "");
    Ok(report)
}

/// One echoing server with its clients and their books.
pub(crate) struct Echo<'a> {
    args: &'a EchoArgs,
    swarm: Swarm,
    patience: Duration,
    /// Per connection, the sequence number to come back next.
    sequences: Vec<u32>,
    latency: Histogram<u64>,
    /// Messages that came back as they were sent, in order.
    back: u64,
    wrong: u64,
    progress: Progress,
}

impl<'a> Echo<'a> {
    /// Opens all connections.
    pub(crate) fn open(server: &Server, args: &'a EchoArgs) -> Result<Self, Error> {
        let mut progress = Progress::new("echo");
        let mut swarm = Swarm::new(server.address, &server.host)?;
        let patience = Duration::from_secs(args.server.timeout);
        let spec = |_| Spec { path: server.path.clone(), subprotocol: None, greeting: Greeting::None };
        swarm.open((0..args.connections).map(spec), patience, &mut progress)?;
        Ok(Self {
            args,
            swarm,
            patience,
            sequences: vec![0; args.connections],
            latency: Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("constant bounds"),
            back: 0,
            wrong: 0,
            progress,
        })
    }

    /// Answers what the server asks between rounds.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), Error> {
        let wrong = &mut self.wrong;
        self.swarm.pump(wait, &mut |_| *wrong += 1)
    }

    /// Round trips made so far.
    pub(crate) fn back(&self) -> u64 {
        self.back
    }

    /// Messages that came back damaged, doubled or out of order.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Latencies since the last [`Echo::forget_latency`], ns.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Forgets the latencies so far: those of the warm-up.
    pub(crate) fn forget_latency(&mut self) {
        self.latency.reset();
    }

    /// Makes `messages` round trips, spread over the connections as they answer.
    pub(crate) fn round(&mut self, messages: u32) -> Result<(), Error> {
        let mut to_send = messages;
        let mut back = 0;
        let mut last = Instant::now();
        let mut free: Vec<usize> = (0..self.args.connections).collect();
        let mut payload = Vec::new();
        while back < messages {
            for connection in free.drain(..) {
                if to_send == 0 {
                    break;
                }
                to_send -= 1;
                payload.clear();
                let at_ns = self.swarm.now_ns();
                let sequence = self.sequences[connection];
                Stamp { publisher: connection as u16, sequence, at_ns }.write(&mut payload, self.args.size);
                self.swarm.queue(connection, &payload);
                self.swarm.flush(connection)?;
            }
            let (sequences, latency, wrong) = (&mut self.sequences, &mut self.latency, &mut self.wrong);
            let size = self.args.size;
            self.swarm.pump(Duration::from_millis(10), &mut |delivery| {
                let due = &mut sequences[delivery.connection];
                match Stamp::parse(delivery.payload, size) {
                    Some(stamp)
                        if stamp.sequence == *due && stamp.publisher == delivery.connection as u16 =>
                    {
                        *due += 1;
                        latency.saturating_record(delivery.now_ns.saturating_sub(stamp.at_ns).max(1));
                        free.push(delivery.connection);
                    }
                    _ => *wrong += 1,
                }
            })?;
            if free.is_empty() {
                if last.elapsed() > self.patience {
                    let missing = messages - to_send - back;
                    let wrong = self.wrong;
                    return Err(Error::Stalled(format!(
                        "{missing} messages did not come back as they were sent ({wrong} came back wrong)"
                    )));
                }
            } else {
                back += free.len() as u32;
                self.back += free.len() as u64;
                last = Instant::now();
            }
            self.progress.tick(|| format!("{back} of {messages} round trips"));
        }
        Ok(())
    }
}
