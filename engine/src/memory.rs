//! The memory ceiling: a process near its bound refuses new work, so that those it has live on.
//!
//! The main thread looks twice a second how much memory is used, and tells the cores when it is short. As long as it is
//! not, it reads that more often the less room is left ([`Watch`]): between the bound and the end of a small container
//! lie a few megabytes, which quick senders fill in hundredths of a second. While memory is short:
//!
//! - new clients, and REST calls that take memory, are answered 503, such requests of clients with an ack id
//!   `InternalServerError`;
//! - whoever sends them without one is read from once a look, so that nothing is lost without a word;
//! - at every second look clients for which the most bytes wait are closed with 1008, the worst first, and requests
//!   that came in part are answered 503: each core frees its share, by what waits there, of what is too much.
//!
//! Sessions are recovered, acks and leaves are heard as ever: they are what makes room. It is over a sixteenth below
//! the bound, so that it does not come and go with every message.
//!
//! What waits in one core has a bound, too: its equal share of the process's. A core over its share does all that by
//! itself while the others go on. Cores count what waits only when the process uses so much that one could be over:
//! counting is a walk. Bytes that many wait for are counted for each of them, so a core is never taken to hold more
//! than its part, by what it counted, of what the process uses.
//!
//! What is measured goes with what bounds it: a bound that the configuration names is for the memory the process
//! holds; without one, or where that is less, it is nine tenths of the control group's limit, for what the group uses
//! (which includes buffers of sockets), or, if that has none, of the machine's memory. A limit on address space is not
//! looked at: it counts what is reserved too, and says nothing of what is used.

use crate::core::counters::CoreShared;
use crate::process::ProcessCounts;
use arc_swap::ArcSwap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often cores hear of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the use is read at most. Reading takes some 50 µs.
const READ_EVERY_MIN: Duration = Duration::from_millis(10);
/// Bytes that the use grows by at most in a second: what the kernel copies from loopback into pages it has to clear.
const GROWTH_PER_SECOND: u64 = 1 << 30;
/// A limit above this is none: what version 1 of control groups says for that.
const LIMIT_MAX: u64 = 1 << 60;

/// While nothing is short, cores count at every so-many-th look.
const CALM_LOOKS: u64 = 4;

/// What one core is told of memory, by the thread that watches it.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    look: AtomicU64,
    is_on: AtomicBool,
    relief_bytes: AtomicU64,
}

impl Pressure {
    /// At which look the core is to count what waits, and to do what the rest says; 0 while it need not.
    pub(crate) fn look(&self) -> u64 {
        self.look.load(Ordering::Acquire)
    }

    /// Whether memory is short, the process's or the core's share of it.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Bytes the core is to free in this look.
    pub(crate) fn relief_bytes(&self) -> u64 {
        self.relief_bytes.load(Ordering::Relaxed)
    }

    /// Tells the core; only the watching thread may.
    pub(crate) fn set(&self, look: u64, is_on: bool, relief_bytes: u64) {
        self.relief_bytes.store(relief_bytes, Ordering::Relaxed);
        self.is_on.store(is_on, Ordering::Release);
        self.look.store(look, Ordering::Release);
    }
}

/// The watch over it.
pub(crate) struct Memory {
    bound: ArcSwap<Bound>,
    process: Arc<ProcessCounts>,
    /// Which look it is since the cores count, from 1 on; 0 while they need not. The watching thread's alone.
    look: AtomicU64,
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
    /// As configured, or by what bounds the process from outside, whichever is less.
    pub(crate) fn new(configured: Option<u64>) -> Self {
        let machine = machine_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(configured, machine, group(&groups, Path::new("/sys/fs/cgroup")))
    }

    fn of(configured: Option<u64>, machine: u64, group: Option<(Meter, u64)>) -> Self {
        let (meter, limit) =
            group.filter(|(_, limit)| *limit <= machine).unwrap_or((Meter::Resident, machine));
        let outside = Self { meter, bytes_max: limit / 10 * 9 };
        match configured {
            Some(bytes_max) if bytes_max <= outside.bytes_max => Self { meter: Meter::Resident, bytes_max },
            Some(bytes_max) => {
                // The kernel would end the process long before.
                tracing::warn!(
                    "limits.memory_bytes_max is {} MiB, and {} MiB are all there is: the bound is nine tenths of that",
                    bytes_max >> 20,
                    limit >> 20
                );
                outside
            }
            None => outside,
        }
    }
}

/// Where a shortage ends, in bytes used.
fn low(bytes_max: u64) -> u64 {
    bytes_max - bytes_max / 16
}

/// Whether that use is a shortage, given whether it was one before.
fn is_short(used: u64, bytes_max: u64, was_short: bool) -> bool {
    used >= if was_short { low(bytes_max) } else { bytes_max }
}

impl Memory {
    /// A watch that goes by `bound`.
    pub(crate) fn new(bound: Bound, process: Arc<ProcessCounts>) -> Self {
        tracing::debug!("memory is bounded at {} MiB ({:?})", bound.bytes_max >> 20, bound.meter);
        Self { bound: ArcSwap::from_pointee(bound), process, look: AtomicU64::new(0) }
    }

    /// From now on this holds.
    pub(crate) fn set_bound(&self, bound: Bound) {
        self.bound.store(Arc::new(bound));
    }

    /// How much is used, and may be.
    fn read(&self) -> (u64, u64) {
        let bound = self.bound.load();
        // What cannot be read is no reason to refuse anything.
        (bound.meter.read().unwrap_or_default(), bound.bytes_max)
    }

    fn is_short(&self) -> bool {
        self.process.memory_short.get() > 0
    }

    /// Looks once; true if cores are to hear of it: they are to count, memory is short, or was until now.
    fn look_at(&self, used: u64, bytes_max: u64, cores: &[Arc<CoreShared>]) -> bool {
        let core_max = bytes_max / cores.len().max(1) as u64;
        let was_short = self.is_short();
        let is_process_short = is_short(used, bytes_max, was_short);
        self.process.memory_used_bytes.set(used);
        self.process.memory_bytes_max.set(bytes_max);
        self.process.memory_core_bytes_max.set(core_max);
        self.process.memory_short.set(u64::from(is_process_short));
        match (was_short, is_process_short) {
            (false, true) => tracing::warn!(
                "memory is short: {} of {} MiB are used; new clients and sends are refused",
                used >> 20,
                bytes_max >> 20
            ),
            (true, false) => tracing::info!("memory is not short any more: {} MiB are used", used >> 20),
            _ => {}
        }

        // Below that no core can be over its share.
        let is_near = is_process_short || used >= low(core_max);
        let look = if is_near { self.look.load(Ordering::Relaxed) + 1 } else { 0 };
        self.look.store(look, Ordering::Relaxed);
        let queued: Vec<u64> = cores.iter().map(|core| core.counters.queued_bytes.get()).collect();
        let excess = if is_process_short { used.saturating_sub(low(bytes_max)) } else { 0 };
        let all = queued.iter().sum();
        let mut is_told = false;
        for ((number, core), &mine) in cores.iter().enumerate().zip(&queued) {
            let was_on = core.pressure.is_on();
            let held = share(used, mine, all).min(mine);
            let is_over = is_near && is_short(held, core_max, was_on);
            let is_on = is_process_short || is_over;
            if is_over && !was_on && !is_process_short {
                tracing::warn!(
                    "memory is short in core {number}: {} of {} MiB wait there; new clients and sends are refused",
                    held >> 20,
                    core_max >> 20
                );
            }
            // What was freed is seen at the next look, for cores give it back when they hear of that.
            let own_excess = if is_over { held.saturating_sub(low(core_max)) } else { 0 };
            let relief = if look.is_multiple_of(2) { share(excess, mine, all).max(own_excess) } else { 0 };
            // Cores count shared bytes for each who waits for them: of such more has to go.
            let relief = share(relief, all.max(used), used);
            let has_ended = !is_near && core.pressure.look() > 0;
            if is_on || was_on || has_ended || look % CALM_LOOKS == 1 {
                core.pressure.set(look, is_on, relief);
                is_told = true;
            }
        }
        is_told
    }
}

/// The main thread's part: when to read and when to look.
pub(crate) struct Watch {
    memory: Arc<Memory>,
    cores: Vec<Arc<CoreShared>>,
    /// When the use is read next, and when that is a look whatever it is.
    read_at: Instant,
    look_at: Instant,
}

impl Watch {
    /// A watch whose first look is now.
    pub(crate) fn new(memory: Arc<Memory>, cores: Vec<Arc<CoreShared>>, now: Instant) -> Self {
        Self { memory, cores, read_at: now, look_at: now }
    }

    /// How long nothing is to be done.
    pub(crate) fn rest(&self, now: Instant) -> Duration {
        self.read_at.saturating_duration_since(now)
    }

    /// Reads and looks if it is time for it; true if cores are to hear of it.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        now >= self.read_at && self.see(self.memory.read(), now)
    }

    fn see(&mut self, (used, bytes_max): (u64, u64), now: Instant) -> bool {
        let begins = !self.memory.is_short() && is_short(used, bytes_max, false);
        let is_due = begins || now >= self.look_at;
        if is_due {
            self.look_at = now + LOOK_EVERY;
        }
        let is_told = is_due && self.memory.look_at(used, bytes_max, &self.cores);
        // While it is short, nothing that grows waits for the next look to be refused.
        let rest =
            if self.memory.is_short() { LOOK_EVERY } else { time_to_fill(bytes_max.saturating_sub(used)) };
        self.read_at = self.look_at.min(now + rest);
        is_told
    }
}

/// How soon so many bytes could be in use, within what is worth waiting for.
fn time_to_fill(room: u64) -> Duration {
    let nanoseconds = u128::from(room) * 1_000_000_000 / u128::from(GROWTH_PER_SECOND);
    Duration::from_nanos(nanoseconds.try_into().unwrap_or(u64::MAX)).clamp(READ_EVERY_MIN, LOOK_EVERY)
}

/// Gives back to the system what this thread has freed. The allocator keeps it for later, which may be long after
/// somebody was closed so that it be free: until then everybody would look like too much.
pub(crate) fn give_back() {
    #[cfg(feature = "mimalloc")]
    // SAFETY: any thread may call it at any time; it takes no pointer and touches nothing that is in use.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Of so many bytes the part of a core, by what waits there.
fn share(bytes: u64, mine: u64, all: u64) -> u64 {
    (u128::from(bytes) * u128::from(mine) / u128::from(all.max(1))) as u64
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
        let (root, limits, used, idle) = match controllers {
            // Over the second the kernel ends nobody: it holds everybody up.
            "" => (root.to_owned(), &["memory.max", "memory.high"][..], "memory.current", "inactive_file"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                let limits = &["memory.limit_in_bytes"][..];
                (root.join("memory"), limits, "memory.usage_in_bytes", "total_inactive_file")
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&root)) {
            let limit = limits.iter().filter_map(|limit| number(&folder.join(limit))).min();
            if let Some(bytes) = limit.filter(|bytes| *bytes < tightest) {
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
        assert_eq!(low(1600), 1500);
        let shortages: Vec<bool> = [1599, 1600, 1700, 1599, 1500, 1499, 1599, 1600]
            .into_iter()
            .scan(false, |was_short, used| {
                *was_short = is_short(used, 1600, *was_short);
                Some(*was_short)
            })
            .collect();
        assert_eq!(shortages, [false, true, true, true, true, false, false, true]);
    }

    /// Two cores, and a watch over them of which a test says what it sees.
    struct Watched {
        cores: [Arc<CoreShared>; 2],
        process: Arc<ProcessCounts>,
        memory: Memory,
    }

    impl Watched {
        fn new() -> Self {
            let process = Arc::new(ProcessCounts::default());
            let memory = Memory::new(Bound { meter: Meter::Resident, bytes_max: 1600 }, process.clone());
            Self { cores: Default::default(), process, memory }
        }

        /// Of a use and what waits in the cores: whether they are told, and what each of them then is to free, if
        /// memory is short for it.
        fn look(&self, used: u64, queued: [u64; 2]) -> (bool, [Option<u64>; 2]) {
            for (core, queued) in self.cores.iter().zip(queued) {
                core.counters.queued_bytes.set(queued);
            }
            let is_told = self.memory.look_at(used, 1600, &self.cores);
            let each = self.cores.each_ref().map(|core| &core.pressure);
            (is_told, each.map(|pressure| pressure.is_on().then_some(pressure.relief_bytes())))
        }
    }

    #[test]
    fn cores_free_their_share_of_what_is_too_much_once_it_is_known() {
        let watched = Watched::new();
        assert_eq!(watched.look(700, [300, 100]), (false, [None, None]));
        assert_eq!(watched.look(2500, [300, 100]), (true, [Some(0), Some(0)]), "what waits is to be counted");
        assert_eq!(watched.look(2500, [300, 100]), (true, [Some(750), Some(250)]));
        assert_eq!(
            watched.look(2500, [300, 100]),
            (true, [Some(0), Some(0)]),
            "it is to be seen what was freed"
        );
        assert_eq!(watched.look(2500, [0, 0]), (true, [Some(0), Some(0)]));
        assert_eq!(watched.cores[0].pressure.look(), 4);
        assert_eq!(watched.look(700, [0, 0]), (true, [None, None]), "who waits for the end of it is to hear");
        assert_eq!(watched.look(700, [0, 0]), (false, [None, None]));
        assert_eq!(watched.cores[0].pressure.look(), 0);
        assert_eq!(share(1000, 1 << 62, 1 << 63), 500);
    }

    /// One core with half of all that may be used, in things that wait, refuses and frees while the other goes on.
    #[test]
    fn a_core_over_its_share_is_short_by_itself() {
        let watched = Watched::new();
        // Near enough to count, and then now and then.
        let told: Vec<bool> = (0..9).map(|_| watched.look(1000, [700, 100]).0).collect();
        assert_eq!(told, [true, false, false, false, true, false, false, false, true]);
        assert_eq!(watched.process.memory_core_bytes_max.get(), 800);
        // By then 850 wait in the first; at every second look it frees what is above its low mark.
        let looks: Vec<_> = (0..3).map(|_| watched.look(1000, [850, 100]).1).collect();
        assert_eq!(looks, [[Some(100), None], [Some(0), None], [Some(100), None]]);
        assert_eq!(watched.process.memory_short.get(), 0);
        assert_eq!(watched.look(1000, [760, 100]).1, [Some(0), None], "until it is a sixteenth below");
        assert_eq!(watched.look(1000, [740, 100]), (true, [None, None]));
        // What is counted for many may be more than all there is: a core holds no more than its part of that.
        assert_eq!(watched.look(1000, [7000, 3000]).1, [None, None]);
        // 840 of 750, by what is counted for each.
        assert_eq!(watched.look(1200, [7000, 3000]).1[0], Some(750), "seven tenths of 1,200");
        // And nothing is counted, or short, once so little is used.
        assert_eq!(watched.look(700, [7000, 3000]), (true, [None, None]));
        assert_eq!(watched.look(700, [7000, 3000]), (false, [None, None]));
    }

    #[test]
    fn the_watch_tells_every_core_and_everybody_who_looks() {
        let cores: [Arc<CoreShared>; 2] = Default::default();
        let process = Arc::new(ProcessCounts::default());
        let memory = Arc::new(Memory::new(Bound { meter: Meter::Resident, bytes_max: 2 }, process.clone()));
        let mut now = Instant::now();
        let mut watch = Watch::new(memory.clone(), cores.to_vec(), now);
        let mut look = || {
            now += watch.rest(now);
            watch.look(now)
        };
        cores[1].counters.queued_bytes.set(1 << 50);
        assert!(look() && look(), "it holds more than two bytes");
        assert_eq!(cores.each_ref().map(|core| core.pressure.look()), [2, 2]);
        let used = process.memory_used_bytes.get();
        assert_eq!(
            cores.each_ref().map(|core| core.pressure.relief_bytes()),
            [0, share(used - 1, 1 << 50, used)]
        );
        assert_eq!((process.memory_bytes_max.get(), process.memory_short.get()), (2, 1));
        memory.set_bound(Bound { meter: Meter::Resident, bytes_max: LIMIT_MAX });
        assert!(look() && !cores[0].pressure.is_on(), "who waits for the end of it is to hear");
        assert!(!look());
        assert_eq!(process.memory_short.get(), 0);
    }

    /// Twice a second was too seldom: the kernel ended a server whose bound left it 13 MiB.
    #[test]
    fn the_less_room_is_left_the_sooner_it_is_looked_again() {
        const MIB: u64 = 1 << 20;
        let process = Arc::new(ProcessCounts::default());
        let memory = Arc::new(Memory::new(Bound::new(None), process.clone()));
        let began = Instant::now();
        let mut watch = Watch::new(memory, vec![Arc::default()], began);
        let mut at = 0;
        // Sees the use that long after the last time; whether that was a look, and how long it rests then.
        let mut see = |milliseconds, used: u64| {
            at += milliseconds;
            let now = began + Duration::from_millis(at);
            watch.see((used * MIB, 1024 * MIB), now);
            (process.memory_used_bytes.get() == used * MIB, watch.rest(now).as_millis())
        };
        assert_eq!(see(0, 100), (true, 500), "there is room for a second");
        assert_eq!(see(500, 824), (true, 195));
        assert_eq!(see(195, 924), (false, 97));
        assert_eq!(see(97, 1020), (false, 10));
        assert_eq!(see(10, 1023), (false, 10));
        assert_eq!(see(190, 1023), (false, 8), "cores hear of it when they would have anyway");
        assert_eq!(see(8, 1023), (true, 10));
        assert_eq!(see(10, 1024), (true, 500), "what begins is told at once");
        assert_eq!(see(500, 1022), (true, 500), "it is still short");
        assert_eq!(see(500, 900), (true, 121), "now it is not");
    }

    /// A bound of 4 GiB in a container of 2 was never reached: the kernel killed the process first.
    #[test]
    fn what_is_configured_holds_only_within_what_there_is() {
        let group = Meter::Group { used: "used".into(), stat: "stat".into(), idle: "idle" };
        let of = |configured, limit| {
            let bound = Bound::of(configured, 10_000, Some((group.clone(), limit)));
            (bound.meter == group, bound.bytes_max)
        };
        assert_eq!(of(Some(4_000), 2_000), (true, 1_800));
        assert_eq!(of(Some(1_800), 2_000), (false, 1_800));
        assert_eq!(of(None, 2_000), (true, 1_800));
        assert_eq!(of(None, 20_000), (false, 9_000), "a limit above what the machine has is none");
        assert_eq!(Bound::of(Some(20_000), 10_000, None), Bound { meter: Meter::Resident, bytes_max: 9_000 });
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
        put("a/memory.high", "700\n");
        assert_eq!(group("0::/a/b\n", root).unwrap().1, 700, "who is over that one is held up");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group(groups, root), None);
        fs::remove_dir_all(root).unwrap();
    }
}
