//! The memory ceiling: a process near its bound refuses new work, so that those it has live on.
//!
//! The main thread looks twice a second how much memory is used, and tells the cores when it is short. While it is:
//!
//! - new clients and REST sends are answered 503, publications with an ack id `InternalServerError`;
//! - whoever publishes without one is read from once a look, so that nothing is lost without a word;
//! - at every second look clients for which the most bytes wait are closed with 1008, the worst first: each core frees
//!   its share, by what waits there, of what is too much.
//!
//! Sessions are recovered, acks and leaves are heard as ever: they are what makes room. It is over a sixteenth below
//! the bound, so that it does not come and go with every message.
//!
//! What is measured goes with what bounds it: a bound that the configuration names is for the memory the process
//! holds; without one it is nine tenths of the control group's limit, for what the group uses (which includes buffers
//! of sockets), or, if that has none, of the machine's memory. A limit on address space is not looked at: it counts
//! what is reserved too, and says nothing of what is used.

use crate::core::counters::CoreShared;
use crate::process::ProcessCounts;
use arc_swap::ArcSwap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A limit above this is none: what version 1 of control groups says for that.
const LIMIT_MAX: u64 = 1 << 60;

/// What one core is told of memory, by the thread that watches it.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    look: AtomicU64,
    relief_bytes: AtomicU64,
}

impl Pressure {
    /// Which look it is since memory became short, from 1 on; 0 when there is enough.
    pub(crate) fn look(&self) -> u64 {
        self.look.load(Ordering::Acquire)
    }

    /// Whether memory is short.
    pub(crate) fn is_on(&self) -> bool {
        self.look() > 0
    }

    /// Bytes the core is to free in this look.
    pub(crate) fn relief_bytes(&self) -> u64 {
        self.relief_bytes.load(Ordering::Relaxed)
    }

    /// Tells the core; only the watching thread may.
    pub(crate) fn set(&self, look: u64, relief_bytes: u64) {
        self.relief_bytes.store(relief_bytes, Ordering::Relaxed);
        self.look.store(look, Ordering::Release);
    }
}

/// The watch over it.
pub(crate) struct Memory {
    bound: ArcSwap<Bound>,
    process: Arc<ProcessCounts>,
}

/// How much may be used, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    meter: Meter,
    bytes_max: u64,
}

/// Where it is read how much is used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meter {
    /// What this process holds.
    Resident,
    /// What its control group uses, less the files the kernel keeps in memory for no better reason.
    Group { used: PathBuf, stat: PathBuf, idle: &'static str },
}

impl Bound {
    /// As configured, or by what bounds the process from outside.
    pub(crate) fn new(configured: Option<u64>) -> Self {
        if let Some(bytes_max) = configured {
            return Self { meter: Meter::Resident, bytes_max };
        }
        let machine = machine_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let (meter, limit) = match group(&groups, Path::new("/sys/fs/cgroup")) {
            Some((meter, limit)) if limit <= machine => (meter, limit),
            _ => (Meter::Resident, machine),
        };
        Self { meter, bytes_max: limit / 10 * 9 }
    }

    /// Where a shortage ends, in bytes used.
    fn low(&self) -> u64 {
        self.bytes_max - self.bytes_max / 16
    }

    /// The number of the next look at that use, given that of the last one.
    fn next_look(&self, look: u64, used: u64) -> u64 {
        let is_short = used >= if look > 0 { self.low() } else { self.bytes_max };
        if is_short { look + 1 } else { 0 }
    }
}

impl Memory {
    /// A watch that goes by `bound`.
    pub(crate) fn new(bound: Bound, process: Arc<ProcessCounts>) -> Self {
        tracing::debug!("memory is bounded at {} MiB ({:?})", bound.bytes_max >> 20, bound.meter);
        Self { bound: ArcSwap::from_pointee(bound), process }
    }

    /// From now on this holds.
    pub(crate) fn set_bound(&self, bound: Bound) {
        self.bound.store(Arc::new(bound));
    }

    /// Looks once; true if the cores are to hear of it: memory is short, or was until now.
    pub(crate) fn look(&self, cores: &[Arc<CoreShared>]) -> bool {
        let bound = self.bound.load();
        // What cannot be read is no reason to refuse anything.
        let used = bound.meter.read().unwrap_or_default();
        self.process.memory_used_bytes.set(used);
        self.process.memory_bytes_max.set(bound.bytes_max);
        let before = cores.first().map_or(0, |core| core.pressure.look());
        let look = bound.next_look(before, used);
        self.process.memory_short.set(u64::from(look > 0));
        match (before, look) {
            (0, 1..) => tracing::warn!(
                "memory is short: {} of {} MiB are used; new clients and sends are refused",
                used >> 20,
                bound.bytes_max >> 20
            ),
            (1.., 0) => tracing::info!("memory is not short any more: {} MiB are used", used >> 20),
            _ => {}
        }
        let queued: Vec<u64> = cores.iter().map(|core| core.counters.queued_bytes.get()).collect();
        let excess = used.saturating_sub(bound.low());
        for (core, relief) in cores.iter().zip(shares(look, excess, &queued)) {
            core.pressure.set(look, relief);
        }
        before > 0 || look > 0
    }
}

/// What each core is to free, at every second look: at the first nobody knows yet what waits where, and it may be over
/// by the next; and what was freed is not seen at once, for the allocator gives it back when it likes.
fn shares(look: u64, excess: u64, queued: &[u64]) -> impl Iterator<Item = u64> {
    let all: u64 = queued.iter().sum();
    let share = move |mine: u64| (u128::from(excess) * u128::from(mine) / u128::from(all.max(1))) as u64;
    queued.iter().map(move |&mine| if look > 0 && look.is_multiple_of(2) { share(mine) } else { 0 })
}

impl Meter {
    fn read(&self) -> Option<u64> {
        match self {
            Self::Resident => resident_bytes(&fs::read_to_string("/proc/self/status").ok()?),
            Self::Group { used, stat, idle } => {
                let idle = stat_bytes(&fs::read_to_string(stat).ok()?, idle)?;
                Some(number(used)?.saturating_sub(idle))
            }
        }
    }
}

/// `VmRSS` of proc(5)'s `status`.
fn resident_bytes(status: &str) -> Option<u64> {
    kib(status, "VmRSS:")
}

/// `MemTotal` of proc(5)'s `meminfo`; without one there is no bound.
fn machine_bytes(meminfo: &str) -> u64 {
    kib(meminfo, "MemTotal:").unwrap_or(LIMIT_MAX)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// One row of a control group's `memory.stat`.
fn stat_bytes(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number in a file; `max` is none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The tightest limit among the control groups this process is in (`groups` is `/proc/self/cgroup`, `root` where they
/// are mounted), and where it is read how much is used of it. A container may see only its own group, at the root.
fn group(groups: &str, root: &Path) -> Option<(Meter, u64)> {
    let (mut tightest, mut found) = (LIMIT_MAX, None);
    for line in groups.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let (root, limit, used, idle) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current", "inactive_file"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&root)) {
            if let Some(bytes) = number(&folder.join(limit)).filter(|bytes| *bytes < tightest) {
                tightest = bytes;
                found =
                    Some(Meter::Group { used: folder.join(used), stat: folder.join("memory.stat"), idle });
            }
        }
    }
    Some((found?, tightest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_entered_at_the_bound_and_left_below_it() {
        let bound = Bound { meter: Meter::Resident, bytes_max: 1600 };
        assert_eq!(bound.low(), 1500);
        let looks: Vec<u64> = [1599, 1600, 1700, 1599, 1500, 1499, 1599, 1600]
            .into_iter()
            .scan(0, |look, used| {
                *look = bound.next_look(*look, used);
                Some(*look)
            })
            .collect();
        assert_eq!(looks, [0, 1, 2, 3, 4, 0, 0, 1]);
    }

    #[test]
    fn cores_free_their_share_of_what_is_too_much_once_it_is_known() {
        let of = |look, queued: &[u64]| shares(look, 1000, queued).collect::<Vec<_>>();
        assert_eq!(of(1, &[300, 100]), [0, 0]);
        assert_eq!(of(2, &[300, 100]), [750, 250]);
        assert_eq!(of(3, &[300, 100]), [0, 0], "what was freed is to be seen first");
        assert_eq!(of(0, &[300, 100]), [0, 0]);
        assert_eq!(of(2, &[0, 0]), [0, 0]);
        assert_eq!(of(10, &[u64::MAX / 4, u64::MAX / 4]), [500, 500]);
    }

    #[test]
    fn the_watch_tells_every_core_and_everybody_who_looks() {
        let cores: [Arc<CoreShared>; 2] = Default::default();
        let process = Arc::new(ProcessCounts::default());
        let memory = Memory::new(Bound::new(Some(1)), process.clone());
        cores[1].counters.queued_bytes.set(64 << 20);
        assert!(memory.look(&cores) && memory.look(&cores), "it holds more than a byte");
        assert_eq!(cores.each_ref().map(|core| core.pressure.look()), [2, 2]);
        let used = process.memory_used_bytes.get();
        assert_eq!(cores.each_ref().map(|core| core.pressure.relief_bytes()), [0, used - 1]);
        assert_eq!((process.memory_bytes_max.get(), process.memory_short.get()), (1, 1));
        memory.set_bound(Bound::new(Some(LIMIT_MAX)));
        assert!(memory.look(&cores) && !cores[0].pressure.is_on(), "who waits for the end of it is to hear");
        assert!(!memory.look(&cores));
        assert_eq!(process.memory_short.get(), 0);
    }

    #[test]
    fn figures_are_read_from_what_the_system_says() {
        assert_eq!(resident_bytes("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!(machine_bytes("MemTotal:       1000 kB\nMemFree: 1 kB\n"), 1_024_000);
        assert_eq!((resident_bytes(""), machine_bytes("")), (None, LIMIT_MAX));
        let stat = "inactive_file_x 1\ninactive_file 4096\ntotal_inactive_file 7\n";
        assert_eq!(
            (stat_bytes(stat, "inactive_file"), stat_bytes(stat, "total_inactive_file")),
            (Some(4096), Some(7))
        );
        let own = Bound::new(None);
        assert!(own.bytes_max > 0 && own.meter.read().is_some_and(|used| used > 0), "{own:?}");
    }

    #[test]
    fn the_tightest_control_group_counts_whichever_version_and_place() {
        let root = std::env::temp_dir().join(format!("ringhub-groups-{}", std::process::id()));
        let root = &*root;
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(group("0::/a/b\n", root), None, "nothing is mounted");
        put("a/memory.max", "1000\n");
        put("a/memory.current", "900\n");
        put("a/memory.stat", "anon 1\ninactive_file 100\n");
        put("a/b/memory.max", "max\n");
        let (meter, limit) = group("0::/a/b\n", root).unwrap();
        assert_eq!((limit, meter.read()), (1000, Some(800)));
        // A container of version 1 that is told its path on the host and sees its own group at the root.
        put("memory/memory.limit_in_bytes", "500\n");
        put("memory/memory.usage_in_bytes", "50\n");
        put("memory/memory.stat", "total_inactive_file 60\n");
        let groups = "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/elsewhere\n";
        let (meter, limit) = group(groups, root).unwrap();
        assert_eq!((limit, meter.read()), (500, Some(0)));
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group(groups, root), None);
        fs::remove_dir_all(root).unwrap();
    }
}
