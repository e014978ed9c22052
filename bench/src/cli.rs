//! The command line; `--help` is made from it.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::azure::AzureArgs;
use crate::compare::CompareArgs;
use crate::cuts::CutsArgs;
use crate::flood::FloodArgs;
use crate::handler::HandlerArgs;
use crate::peer::Dialect;
use crate::rest::RestArgs;
use crate::soak::SoakArgs;
use crate::stalled::StalledArgs;
use crate::stamp;
use crate::storm::StormArgs;
use crate::sweep::SweepArgs;
use crate::webhook::WebhookArgs;

/// Measures a WebSocket pub/sub server from outside: what does a delivered message cost, and does every
/// one arrive, once and in order?
///
/// The shortest way to a figure, server started and ended by the generator, with the floor (the bare
/// cost of sending the same bytes) measured in the same run:
///
///   ringhub-bench fanout --server-bin target/release/ringhub --members 1000 --floor
///
/// Against a server that runs already:
///
///   ringhub-bench fanout --url ws://127.0.0.1:8080 --key KEY --pid 1234 --members 1000
///
/// Beside another server, and against the number of members with plots (bench/peers/run.sh starts peers):
///
///   ringhub-bench compare --server-bin target/release/ringhub --peer NAME=simple,ws://127.0.0.1:9000/,PID
///   ringhub-bench sweep --server-bin target/release/ringhub --out target/sweep
///
/// Exit code: 0 all promises kept; 1 a message was lost, doubled, reordered or damaged, a connection was
/// ended, or what was to be judged could not be; 2 the run could not be made.
#[derive(Parser)]
#[command(name = "ringhub-bench", version, verbatim_doc_comment)]
pub(crate) struct Cli {
    /// Print JSON (an array with one object per workload) instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Also write the report into this directory: report.md, report.json, and plots as SVG.
    #[arg(long, global = true, visible_alias = "out", value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The workloads.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Publish to groups; every member receives every message. The main figure: server CPU per delivery.
    Fanout(FanoutArgs),
    /// Open connections and leave them idle: memory per connection, CPU per connect.
    Idle(IdleArgs),
    /// Ping-pong on many connections against an echo listener (`ringhub echo`): CPU per round trip.
    Echo(EchoArgs),
    /// Connect storm: clients with tokens, as fast as the server takes them; opened and closed in rounds.
    Storm(StormArgs),
    /// Send by REST to users, groups or everybody: cost and latency of requests and deliveries.
    Rest(RestArgs),
    /// Events of clients, given back by an event handler on this machine: cost and latency of a webhook's echo.
    Webhook(WebhookArgs),
    /// Some members stop reading: what the others notice, and what becomes of the stalled ones.
    Stalled(StalledArgs),
    /// A few clients do one thing without end: what do others notice?
    Flood(FloodArgs),
    /// Cut reliable clients at random while messages flow; they must come back and miss nothing.
    Cuts(CutsArgs),
    /// Clients of every kind come, join, publish, leave and are cut for hours: does memory grow, and is everything
    /// given back at the end?
    Soak(SoakArgs),
    /// The hosted service's published workloads: the highest unit column that holds.
    Azure(AzureArgs),
    /// Several servers side by side in one run, rounds interleaved: ours and any others.
    Compare(CompareArgs),
    /// What a delivery costs against the number of members, with the floor and plots.
    Sweep(SweepArgs),
    /// Every workload, tiny, in less than 40 seconds: does it work at all?
    Smoke(SmokeArgs),
    #[command(hide = true)]
    WebhookHandler(HandlerArgs),
    #[command(hide = true)]
    FloorServer(FloorServerArgs),
    #[command(hide = true)]
    FloorDrain(FloorDrainArgs),
}

/// Which server, and where it and the generator run.
#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    /// A running server, as ws://HOST:PORT (a path is used by `--protocol simple` and `echo` only).
    #[arg(long, required_unless_present = "server_bin", conflicts_with = "server_bin")]
    pub(crate) url: Option<String>,
    /// Access key of the running server; client tokens are signed with it.
    #[arg(long, env = "RINGHUB_PRIMARY_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Process of the running server, for CPU and memory; several as 1,2,3. Without it: no CPU figures.
    #[arg(long, value_delimiter = ',', conflicts_with = "server_bin")]
    pub(crate) pid: Vec<u32>,
    /// Start this ringhub binary for the run, on loopback and free ports, and end it afterwards.
    #[arg(long, value_name = "PATH")]
    pub(crate) server_bin: Option<String>,
    /// Cores of the started server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) cores: usize,
    /// CPUs of the server, as 0,1: a started server is pinned there, and the floor is measured there.
    /// Default: the first `--cores` of them.
    #[arg(long, value_delimiter = ',', value_name = "CPUS")]
    pub(crate) server_cpus: Vec<usize>,
    /// CPU of this generator. Default: the last one.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Give up, and report what is missing, when nothing arrives for so many seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

/// How members and publishers talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Web PubSub without subprotocol: bare payloads.
    Raw,
    /// json.webpubsub.azure.v1
    Json,
    /// json.reliable.webpubsub.azure.v1, acknowledging once a second as the SDKs do.
    Reliable,
    /// Any other server: first message `S` subscribes and is answered `OK`, `P...` publishes the rest to
    /// all.
    Simple,
    /// NATS over WebSocket, one subject.
    Nats,
    /// MQTT 3.1.1 over WebSocket, one topic, QoS 0.
    Mqtt,
    /// nginx with nchan: members at PATH/sub, publishers at PATH/pub.
    Nchan,
}

impl Protocol {
    /// The name that `--protocol` takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
            Self::Reliable => "reliable",
            Self::Simple => "simple",
            Self::Nats => "nats",
            Self::Mqtt => "mqtt",
            Self::Nchan => "nchan",
        }
    }

    /// The foreign protocol behind the name, if it is one that needs more than bare payloads.
    pub(crate) fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Nats => Some(Dialect::Nats),
            Self::Mqtt => Some(Dialect::Mqtt),
            Self::Nchan => Some(Dialect::Nchan),
            _ => None,
        }
    }

    /// Whether it is one of the service's own: with hubs, groups and tokens.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Raw | Self::Json | Self::Reliable)
    }
}

/// When the next message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Closed loop: a publisher has at most `--window` messages that are not yet with everybody.
    Window,
    /// `--burst` messages in one write, the next burst when all are delivered.
    Burst,
    /// Open loop: `--rate` messages a second whatever happens; latency counts from the scheduled time.
    Rate,
}

/// Options of `fanout`.
#[derive(Args, Clone)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Receiving connections, spread evenly over the groups.
    #[arg(long, default_value_t = 1000)]
    pub(crate) members: usize,
    /// Groups. Each publisher sends to one of them.
    #[arg(long, default_value_t = 1)]
    pub(crate) groups: usize,
    /// Spread members unevenly: half of them in the first group, a quarter in the second, and so on.
    #[arg(long)]
    pub(crate) skew: bool,
    /// Publishing connections, spread evenly over the groups. Default: one per group.
    #[arg(long)]
    pub(crate) publishers: Option<usize>,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// How clients talk.
    #[arg(long, value_enum, default_value_t = Protocol::Raw)]
    pub(crate) protocol: Protocol,
    /// When the next message is sent.
    #[arg(long, value_enum, default_value_t = Mode::Window)]
    pub(crate) mode: Mode,
    /// Mode window: messages in flight per publisher. 1 forbids the server to coalesce.
    #[arg(long, default_value_t = 1)]
    pub(crate) window: u32,
    /// Mode burst: messages per write and publisher.
    #[arg(long, default_value_t = 32)]
    pub(crate) burst: u32,
    /// Mode rate: messages a second, all publishers together.
    #[arg(long, default_value_t = 50.0)]
    pub(crate) rate: f64,
    /// Messages per round, all publishers together.
    #[arg(long, default_value_t = 500)]
    pub(crate) messages: u32,
    /// Measured rounds; the figures are medians. One unmeasured round goes before.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Reliable: let every second member receive a random number of messages first, so that sequence
    /// ids differ between members as they do in life.
    #[arg(long)]
    pub(crate) distinct_ids: bool,
    /// Measure the floor between the rounds: bare sends of the same frame to as many sockets, by a child
    /// process on the server's first CPU, batched through io_uring and one by one.
    #[arg(long)]
    pub(crate) floor: bool,
}

impl FanoutArgs {
    /// What clap cannot say: options that exclude each other by value.
    pub(crate) fn check(&self) -> Result<(), String> {
        let publishers = self.publishers.unwrap_or(self.groups);
        if self.members == 0 || self.groups == 0 || publishers == 0 {
            return Err("there must be at least one member, one group and one publisher".into());
        }
        if self.groups > self.members || self.groups > publishers {
            return Err("every group needs at least one member and one publisher".into());
        }
        if publishers >= usize::from(stamp::WARM_UP) {
            return Err(format!("at most {} publishers", stamp::WARM_UP - 1));
        }
        if self.size < stamp::SIZE_MIN || self.size > 1024 * 1024 {
            return Err(format!("--size must be from {} to 1048576 bytes", stamp::SIZE_MIN));
        }
        if self.window == 0 || self.burst == 0 || self.messages == 0 || self.rounds == 0 {
            return Err("--window, --burst, --messages and --rounds must be at least 1".into());
        }
        if !(self.rate > 0.0 && self.rate <= 10_000_000.0) {
            return Err("--rate must be above 0 and at most 10000000".into());
        }
        if self.distinct_ids && self.protocol != Protocol::Reliable {
            return Err("--distinct-ids makes sense with --protocol reliable only".into());
        }
        if self.protocol.dialect().is_some() && self.groups != 1 {
            return Err(format!("--protocol {} has no groups", self.protocol.name()));
        }
        if self.protocol.is_own() && self.server.url.is_some() && self.server.key.is_none() {
            return Err("--key is needed to sign client tokens".into());
        }
        Ok(())
    }
}

/// Options of `idle`.
#[derive(Args, Clone)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Connections to open.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    /// How clients talk.
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    pub(crate) protocol: Protocol,
}

/// Options of `echo`.
#[derive(Args, Clone)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Connections, each with one message on its way.
    #[arg(long, default_value_t = 200)]
    pub(crate) connections: usize,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Round trips per round, all connections together.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) messages: u32,
    /// Measured rounds; the figures are medians. One unmeasured round goes before.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
}

/// Options of `smoke`.
#[derive(Args, Clone)]
pub(crate) struct SmokeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Options of the hidden child that sends.
#[derive(Args)]
pub(crate) struct FloorServerArgs {
    #[arg(long)]
    pub(crate) sockets: usize,
    #[arg(long)]
    pub(crate) frame: usize,
}

/// Options of the hidden child that receives.
#[derive(Args)]
pub(crate) struct FloorDrainArgs {
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long)]
    pub(crate) sockets: usize,
    #[arg(long)]
    pub(crate) frame: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn fanout(extra: &[&str]) -> Result<(), String> {
        let base = ["ringhub-bench", "fanout", "--server-bin", "x"];
        let cli = Cli::try_parse_from(base.iter().chain(extra)).map_err(|error| error.to_string())?;
        let Command::Fanout(args) = cli.command else { panic!("fanout was asked for") };
        args.check()
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn contradictions_are_refused_with_a_reason() {
        assert_eq!(fanout(&[]), Ok(()));
        assert_eq!(fanout(&["--protocol", "reliable", "--distinct-ids", "--mode", "burst"]), Ok(()));
        assert!(fanout(&["--distinct-ids"]).unwrap_err().contains("reliable"));
        assert!(fanout(&["--size", "29"]).unwrap_err().contains("30"));
        assert!(fanout(&["--groups", "2", "--publishers", "1"]).unwrap_err().contains("publisher"));
        assert!(fanout(&["--rate", "NaN"]).unwrap_err().contains("--rate"));
        assert!(fanout(&["--protocol", "nats", "--groups", "2"]).unwrap_err().contains("groups"));
        assert!(fanout(&["--url", "ws://x"]).unwrap_err().contains("--server-bin"));
    }
}
