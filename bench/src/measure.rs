//! The server from outside: CPU time and resident memory from `/proc`, medians over rounds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::Error;

/// The processes that make up the server under test; usually one.
pub(crate) struct Processes {
    pids: Vec<u32>,
    threads: RefCell<Threads>,
}

/// CPU time per thread as last read, ns. The kernel forgets a thread that ends; we do not, or the sum
/// could fall.
#[derive(Default)]
struct Threads {
    last: HashMap<u32, u64>,
    /// Of threads that ended and whose number was given to another.
    reused: u64,
}

impl Processes {
    /// Checks that every process is there and its figures readable.
    pub(crate) fn new(pids: &[u32]) -> Result<Self, Error> {
        let processes = Self { pids: pids.to_vec(), threads: RefCell::default() };
        processes.cpu_ns()?;
        Ok(processes)
    }

    /// CPU time of all threads so far, user and system, ns. Never falls.
    ///
    /// A running thread's figure may be a scheduler tick old: [`Processes::settled_cpu_ns`] waits.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Error> {
        let mut threads = self.threads.borrow_mut();
        for &pid in &self.pids {
            threads.read(pid).map_err(Error::io(format!("read the CPU time of process {pid}")))?;
        }
        Ok(threads.reused + threads.last.values().sum::<u64>())
    }

    /// CPU time once the server has gone quiet: read until two readings 2 ms apart differ by less than
    /// 0.1 ms, at most 50 times (a server that spins is never quiet).
    pub(crate) fn settled_cpu_ns(&self) -> Result<u64, Error> {
        let mut last = self.cpu_ns()?;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(2));
            let now = self.cpu_ns()?;
            if now - last < 100_000 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// CPU time so far of the threads that have this name, ns; `None` if there are none.
    pub(crate) fn thread_cpu_ns(&self, name: &str) -> Option<u64> {
        let tasks = self.pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        let named = tasks.flatten().flatten().filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
        named.filter_map(|task| read_ns(&task.path())).reduce(|sum, ns| sum + ns)
    }

    /// Their process ids.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// CPUs they may run on, as the kernel lists them (`0`, `0-1`); several lists if they differ.
    pub(crate) fn allowed_cpus(&self) -> String {
        let mut lists: Vec<String> = self
            .pids
            .iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
            .filter_map(|status| {
                let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
                Some(list.trim().to_owned())
            })
            .collect();
        lists.dedup();
        lists.join(" and ")
    }

    /// Resident memory, bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Error> {
        self.pids
            .iter()
            .map(|pid| {
                let path = format!("/proc/{pid}/status");
                let status = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
                kib.map(|kib| kib * 1024)
                    .ok_or_else(|| Error::Usage(format!("process {pid} has no memory: has it ended?")))
            })
            .sum()
    }
}

impl Threads {
    fn read(&mut self, pid: u32) -> io::Result<()> {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            let id = thread.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end between the listing and the read; its last reading stands.
            let (Some(id), Some(time)) = (id, read_ns(&thread.path())) else { continue };
            match self.last.insert(id, time) {
                Some(before) if before > time => self.reused += before,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a thread has used so far, ns.
fn read_ns(task: &Path) -> Option<u64> {
    let line = fs::read_to_string(task.join("schedstat")).ok()?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How often listen queues of this machine have overflowed (`ListenOverflows` of `TcpExt`); `None` if it does not say.
pub(crate) fn listen_overflows() -> Option<u64> {
    let page = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut rows = page.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (rows.next()?, rows.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "ListenOverflows")?.1.parse().ok()
}

/// Middle value; the mean of the two middle ones of an even count. 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

/// Smallest and largest value; of nothing, infinity and 0.
pub(crate) fn extremes(values: &[f64]) -> [f64; 2] {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    [low, values.iter().copied().fold(0.0, f64::max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_uses_cpu_and_memory() {
        let processes = Processes::new(&[std::process::id()]).unwrap();
        let before = processes.cpu_ns().unwrap();
        let cpu = crate::sys::thread_cpu_ns();
        while crate::sys::thread_cpu_ns() - cpu < 20_000_000 {
            std::hint::spin_loop();
        }
        assert!(processes.cpu_ns().unwrap() - before > 10_000_000);
        let own = std::thread::current();
        // The kernel keeps 15 bytes of a name.
        let name = own.name().map(|name| &name[..name.len().min(15)]).unwrap();
        assert!(processes.thread_cpu_ns(name).unwrap() > 10_000_000);
        assert_eq!(processes.thread_cpu_ns("no such thread"), None);
        assert!(processes.resident_bytes().unwrap() > 100_000);
        assert!(Processes::new(&[u32::MAX]).is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
