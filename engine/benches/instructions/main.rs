//! Instructions per operation of every hot path, compared with the table in the tree.
//!
//! ```sh
//! cargo bench -p ringhub-engine --bench instructions               # compare; exit code 1 if something costs more
//! cargo bench -p ringhub-engine --bench instructions -- flush      # only cases with "flush" in their name
//! cargo bench -p ringhub-engine --bench instructions -- --record   # write the table anew
//! ```
//!
//! Each case runs in a process of its own under callgrind, which counts only inside [`measured_operation`]. Time
//! says little on a shared machine; the count is the same in every run: hash seeds are constants, the environment
//! is empty, and valgrind lays out the address space and shows the same CPU wherever there is AVX2 (no AVX-512, no
//! SHA extensions), so that code which chooses by CPU chooses alike.
//!
//! What must stay true: numbers are compared only if compiler, valgrind, C library and that CPU are the recorded
//! ones; else it is said which differs, and nothing fails.
//!
//! More than [`TOLERANCE`] above the table fails. More than that below is a note: a gain must not keep a change
//! from landing, but until it is recorded as much can be lost again unseen. The tolerance is not for noise, of
//! which there is none, but for the compiler, which may inline differently after a change nearby; that changes
//! elsewhere move nothing takes our crates compiled in one unit each (`profile.bench.package`).

mod cases;
#[path = "../support/publisher.rs"]
mod publisher;
#[path = "../support/room.rs"]
mod room;
mod table;

use cases::Case;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::{Machine, Table};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How far from the table a count may be, as a part of it.
const TOLERANCE: f64 = 0.05;

/// Runs before counting: buffers that later runs reuse have then grown.
const WARM_UPS: u32 = 8;
/// Runs that are counted.
const RUNS: u32 = 16;

const RECORD: &str = "cargo bench -p ringhub-engine --bench instructions -- --record";

fn main() -> ExitCode {
    // Cargo says `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", name] => {
            child(cases::all().find(|case| case.name == *name).expect("the parent names cases"));
            ExitCode::SUCCESS
        }
        ["--cpu"] => {
            println!("{}", table::cpu());
            ExitCode::SUCCESS
        }
        ["--record"] => report(record()),
        [] => report(compare("")),
        [filter] if !filter.starts_with('-') => report(compare(filter)),
        _ => report(Err("usage: instructions [--record | FILTER]".into())),
    }
}

fn report(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record() -> Result<bool, String> {
    let machine = Machine::here()?;
    let counts = measure("")?;
    Table { machine, counts }.write()?;
    println!("recorded in {}", table::PATH);
    Ok(true)
}

/// Whether nothing costs more than the table says.
fn compare(filter: &str) -> Result<bool, String> {
    let (recorded, machine) = (Table::read()?, Machine::here()?);
    let counts = measure(filter)?;
    let differences = recorded.machine.differences(&machine);
    let (mut good, mut worse, mut better) = (0, 0, 0);
    println!("{:<34} {:>12} {:>12} {:>8}", "instructions per operation", "recorded", "now", "change");
    for (name, &now) in &counts {
        let Some(&was) = recorded.counts.get(name) else {
            worse += 1;
            println!("{name:<34} {:>12} {now:>12.1} {:>8}  NOT RECORDED", "-", "");
            continue;
        };
        let change = now / was - 1.0;
        let verdict = match change {
            _ if change > TOLERANCE => {
                worse += 1;
                "  MORE"
            }
            _ if change < -TOLERANCE => {
                good += 1;
                better += 1;
                "  less"
            }
            _ => {
                good += 1;
                ""
            }
        };
        println!("{name:<34} {was:>12.1} {now:>12.1} {:>+7.1}%{verdict}", change * 100.0);
    }
    for name in recorded.counts.keys().filter(|name| name.contains(filter) && !counts.contains_key(*name)) {
        worse += 1;
        println!("{name:<34} is recorded and is no case any more");
    }
    if !differences.is_empty() {
        println!("not compared, the table was recorded elsewhere:");
        for difference in differences {
            println!("  {difference}");
        }
        println!("record it here with: {RECORD}");
        println!("{} passed, 0 failed", counts.len());
        return Ok(true);
    }
    if better > 0 {
        println!(
            "{better} cost at least {:.0} % less: record the gain, or it can be lost unseen.",
            TOLERANCE * 100.0
        );
    }
    if worse > 0 {
        println!("{worse} differ from {} by more than {:.0} %.", table::PATH, TOLERANCE * 100.0);
        println!(
            "To see where: valgrind --tool=callgrind --toggle-collect='*measured_operation*' EXECUTABLE --case NAME"
        );
    }
    if better + worse > 0 {
        println!("If the new cost is right, record it and say why in the commit: {RECORD}");
    }
    println!("{good} passed, {worse} failed");
    Ok(worse == 0)
}

/// Instructions per operation, by case, of those with `filter` in their name; one process a CPU.
fn measure(filter: &str) -> Result<BTreeMap<String, f64>, String> {
    let chosen: Vec<Case> = cases::all().filter(|case| case.name.contains(filter)).collect();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let worker = || -> Result<(), String> {
        while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = count(case)?;
            counts.lock().expect("no worker panics").insert(case.name.to_owned(), count);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    Ok(counts.into_inner().expect("no worker panics"))
}

fn count(case: &Case) -> Result<f64, String> {
    let output = valgrind(&[
        "--tool=callgrind",
        "--toggle-collect=*measured_operation*",
        "--callgrind-out-file=/dev/null",
    ])?
    .args(["--case", case.name])
    .output()
    .map_err(|error| format!("valgrind does not start: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let collected = log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    match collected {
        Some(instructions) if output.status.success() && instructions > 0 => {
            Ok(instructions as f64 / f64::from(RUNS) / case.operations as f64)
        }
        _ => Err(format!("{} failed under callgrind:\n{log}", case.name)),
    }
}

/// This program under valgrind, to be given its arguments.
///
/// What is on its stack shifts what it does there, and a cleared array costs more at some places than at others. So
/// nothing of the caller's environment reaches it, its name is relative, and the name of the folder is padded.
fn valgrind(options: &[&str]) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let (Some(folder), Some(name)) = (program.parent(), program.file_name()) else {
        return Err(format!("{} is no path of a program", program.display()));
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let valgrind =
        std::env::split_paths(&path).map(|folder| folder.join("valgrind")).find(|file| file.is_file());
    let valgrind = valgrind.ok_or("valgrind is missing; on Debian: apt-get install valgrind")?;
    let mut command = Command::new(valgrind);
    // Debian's `valgrind` is a shell script, and shells set PWD.
    let padding = 4096_usize.saturating_sub(folder.as_os_str().len());
    command.env_clear().env("PADDING", "x".repeat(padding));
    command.current_dir(folder).stdin(Stdio::null()).args(options);
    command.arg(std::path::Path::new(".").join(name));
    Ok(command)
}

/// One case, as it runs under callgrind.
fn child(case: Case) {
    let mut subject = (case.make)();
    for _ in 0..WARM_UPS {
        subject.prepare();
        assert_eq!(subject.run(), case.operations, "{}", case.name);
    }
    for _ in 0..RUNS {
        subject.prepare();
        assert_eq!(measured_operation(&mut *subject), case.operations, "{}", case.name);
    }
}

/// What callgrind counts in, by its name.
#[inline(never)]
fn measured_operation(subject: &mut dyn cases::Subject) -> u64 {
    // Not a tail call, or the count would go on after it.
    black_box(subject.run())
}
