//! Starting, stopping and joining cores. All of glommio is in this file: placement, pinning, the executors
//! and their threads. The one future of each executor is the core's loop, which parks in its own ring.

use crate::certificates::TlsConfigStore;
use crate::core::counters::CoreShared;
use crate::core::line::Line;
use crate::core::mesh::{Mesh, Peers};
use crate::core::settings::Settings;
use crate::core::turn::{Core, CoreParts};
use crate::net::accept::{Bound, ListenError, bind};
use crate::net::gate::Gate;
use crate::net::{Address, HttpFactory, Scheme};
use crate::probe::{Lack, why};
use arc_swap::ArcSwap;
use glommio::{CpuSet, LocalExecutorPoolBuilder, PoolPlacement, PoolThreadHandles};
use ringhub_hub::{CoreId, CoreSet};
use ringhub_relay::exchange::Exchange;
use ringhub_relay::vital;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Memory glommio registers per executor, in bytes: its minimum, for none of its I/O is used.
const IO_MEMORY: usize = 64 << 10;

/// What the service listener does with WebSockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Clients of hubs.
    Serve,
    /// Everything said comes back (`ringhub echo`).
    Echo,
}

/// Running cores.
pub(crate) struct Server {
    peers: Arc<Peers>,
    handles: PoolThreadHandles<()>,
    settings: Arc<ArcSwap<Settings>>,
    /// Where clients and REST calls come in.
    pub(crate) service: Vec<Address>,
    /// Where the admin pages are.
    pub(crate) admin: Vec<Address>,
}

/// Why cores cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// An address is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A ring cannot be made.
    #[error("core {core} has no ring: {lack}")]
    Ring {
        /// Which core.
        core: u16,
        /// What it lacks.
        lack: Lack,
    },
    /// Threads or their placement.
    #[error("cannot start the cores: {0}")]
    Host(String),
}

/// Binds the listeners and starts the cores; returns when every core has its ring. `shared` has one element
/// for each core ([`Settings::cores`]), as `exchange` has a line for each; `tls` is there if a listener speaks TLS.
///
/// # Errors
/// When an address, a ring or a thread is not to be had. Nothing is left running then.
///
/// # Panics
/// If the number of cores is 0, over 64, or not that of `shared`; if a listener speaks TLS and `tls` is not there.
pub(crate) fn start(
    settings: Settings,
    mode: Mode,
    gate: Arc<dyn Gate>,
    http: Arc<dyn HttpFactory>,
    tls: Option<Arc<TlsConfigStore>>,
    exchange: Arc<Exchange>,
    shared: &[Arc<CoreShared>],
) -> Result<Server, StartError> {
    let cores = settings.cores;
    assert!((1..=CoreSet::CORES_MAX).contains(&cores) && shared.len() == usize::from(cores));
    let mut addresses = settings.listen.iter().chain(&settings.admin_listen);
    assert!(tls.is_some() || addresses.all(|address| address.scheme == Scheme::Plain));
    let Bound { per_core, service, admin } = bind(&settings)?;
    let host = |error: io::Error| StartError::Host(error.to_string());
    let (peers, bells) = Peers::new(cores, &settings.mesh).map_err(host)?;
    let waker = Arc::clone(&peers);
    exchange.set_bell(Box::new(move |core| waker.wake_one(core)));
    let mesh = settings.mesh;
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let started = Instant::now();
    let parts: Vec<CoreParts> = per_core
        .into_iter()
        .zip(bells)
        .zip(shared)
        .enumerate()
        .map(|(core, ((listeners, bell), shared))| {
            let id = CoreId(core as u16);
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).expect("the system's random source works once the system is up");
            CoreParts {
                id,
                mode,
                settings: Arc::clone(&settings),
                gate: Arc::clone(&gate),
                http: Arc::clone(&http),
                tls: tls.clone(),
                mesh: Mesh::new(Arc::clone(&peers), id, mesh, Arc::clone(shared)),
                line: Line::new(Arc::clone(&exchange), id),
                shared: Arc::clone(shared),
                listeners,
                bell,
                started,
                hash_seed: u64::from_ne_bytes(seed),
            }
        })
        .collect();
    let (ready, readiness) = mpsc::channel();
    let parts = Arc::new(Mutex::new(parts));
    let handles = LocalExecutorPoolBuilder::new(placement(usize::from(cores))?)
        .name("core")
        .io_memory(IO_MEMORY)
        .ring_depth(128)
        .on_all_shards(move || async move {
            // Which executor runs which core does not matter.
            let parts = parts.lock().expect("taking an element cannot panic").pop();
            host_core(parts.expect("there are as many executors as cores"), &ready);
        })
        .map_err(|error| StartError::Host(error.to_string()))?;
    let server = Server { peers, handles, settings, service, admin };
    for _ in 0..cores {
        match readiness.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                server.peers.give_up();
                server.join();
                return Err(error);
            }
            // A thread ended without a word: glommio could not make its executor.
            Err(_) => {
                server.peers.give_up();
                let errors = server.handles.join_all().into_iter().filter_map(Result::err);
                let errors: Vec<_> = errors.map(|error| error.to_string()).collect();
                return Err(StartError::Host(errors.join("; ")));
            }
        }
    }
    Ok(server)
}

impl Server {
    /// How other threads change the settings.
    pub(crate) fn control(&self) -> Control {
        Control { peers: Arc::clone(&self.peers), settings: Arc::clone(&self.settings) }
    }

    /// Asks every core to drain: no new clients, and those there are closed over [`Settings::drain`]. Nothing ends
    /// by it; [`Server::stop`] is for when [`CoreShared::drained`] says so, or the window is over.
    pub(crate) fn drain(&self) {
        self.peers.leave();
    }

    /// Over how long a drain closes clients, as configured now.
    pub(crate) fn drain_window(&self) -> Duration {
        self.settings.load().drain
    }

    /// Asks every core to stop: no new sockets, 1001 to every client, then a deadline.
    pub(crate) fn stop(&self) {
        self.peers.stop();
    }

    /// How long a stop may take, as configured now.
    pub(crate) fn stop_deadline(&self) -> Duration {
        self.settings.load().stop_deadline
    }

    /// Waits until every core has ended.
    pub(crate) fn join(self) {
        // A core that panics has ended the process; executors have no other way to fail by now.
        drop(self.handles.join_all());
    }
}

/// Changes what running cores go by.
#[derive(Clone)]
pub(crate) struct Control {
    peers: Arc<Peers>,
    settings: Arc<ArcSwap<Settings>>,
}

impl Control {
    /// Has every core make a turn.
    pub(crate) fn wake(&self) {
        self.peers.wake();
    }

    /// From each core's next turn on, which is now, these hold; those a core is built with are not looked at.
    pub(crate) fn apply(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.peers.wake();
    }
}

fn host_core(parts: CoreParts, ready: &mpsc::Sender<Result<(), StartError>>) {
    let core = parts.id;
    // Half-changed state must not live on (rule 8).
    vital::guarded(format_args!("core {}", core.0), || match Core::new(parts) {
        Ok(running) => {
            // The starter may have given up on another core already; its stop comes by the bell.
            let _ = ready.send(Ok(()));
            running.run();
        }
        Err(error) => {
            let _ = ready.send(Err(StartError::Ring { core: core.0, lack: why(&error) }));
        }
    });
}

/// One CPU per core among those this process may use; more cores than CPUs share them all.
fn placement(cores: usize) -> Result<PoolPlacement, StartError> {
    let host = |error: &dyn std::fmt::Display| StartError::Host(error.to_string());
    let online = CpuSet::online().map_err(|error| host(&error))?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| host(&error))?;
    let allowed = allowed_cpus(&status);
    let usable = online.filter(|cpu| allowed.is_empty() || allowed.contains(&cpu.cpu));
    Ok(if cores <= usable.len() {
        PoolPlacement::MaxSpread(cores, Some(usable))
    } else {
        PoolPlacement::Fenced(cores, usable)
    })
}

/// The CPUs of `Cpus_allowed_list` (proc(5)), for example `0-3,8`; empty if there is no such line.
fn allowed_cpus(status: &str) -> HashSet<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    list.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_list_of_allowed_cpus() {
        let allowed = |list: &str| {
            let mut cpus: Vec<_> =
                allowed_cpus(&format!("Name:\tx\nCpus_allowed_list:\t{list}\n")).into_iter().collect();
            cpus.sort_unstable();
            cpus
        };
        assert_eq!(allowed("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(allowed("3"), [3]);
        assert!(allowed_cpus("Name:\tx\n").is_empty());
    }
}
