//! The table in the tree: where it was recorded, and a line a case.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

/// The table's file.
pub(crate) const PATH: &str = "engine/benches/instructions.txt";

fn file() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// Instructions per operation, and what they depend on besides the code.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) machine: Machine,
    pub(crate) counts: BTreeMap<String, f64>,
}

/// What counts depend on besides the code: names and values.
#[derive(Debug)]
pub(crate) struct Machine(BTreeMap<String, String>);

impl Table {
    /// # Errors
    ///
    /// The file and the line, for whoever edited it.
    pub(crate) fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(file()).map_err(|error| format!("cannot read {PATH}: {error}"))?;
        let (mut machine, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((name, value)) = line.split_once(" = ") {
                machine.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let count = line.rsplit_once(' ').and_then(|(name, count)| Some((name, count.parse().ok()?)));
            let (name, count) =
                count.ok_or_else(|| format!("{PATH}:{number} is neither case nor machine"))?;
            counts.insert(name.trim_end().to_owned(), count);
        }
        Ok(Self { machine: Machine(machine), counts })
    }

    /// # Errors
    ///
    /// Why the file cannot be written.
    pub(crate) fn write(&self) -> Result<(), String> {
        let mut text = "# Instructions per operation, recorded by `cargo bench -p ringhub-engine --bench instructions -- \
                        --record`.\n# Comparable where all of these are equal:\n"
            .to_owned();
        for (name, value) in &self.machine.0 {
            let _ = writeln!(text, "{name} = {value}");
        }
        text.push('\n');
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{name:<34} {count:>12.1}");
        }
        std::fs::write(file(), text).map_err(|error| format!("cannot write {PATH}: {error}"))
    }
}

impl Machine {
    /// The machine this runs on, as the measured code sees it.
    ///
    /// # Errors
    ///
    /// Valgrind is missing or cannot run this program.
    pub(crate) fn here() -> Result<Self, String> {
        let mut cpu = super::valgrind(&["--tool=none", "--quiet"])?;
        let values = [
            ("rustc", run(Command::new("rustc").arg("--version"))?),
            ("valgrind", run(&mut super::valgrind(&["--version"])?)?),
            ("libc", run(Command::new("getconf").arg("GNU_LIBC_VERSION"))?),
            ("cpu", run(cpu.arg("--cpu"))?),
            ("build", if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        ];
        Ok(Self(values.map(|(name, value)| (name.to_owned(), value)).into()))
    }

    /// What is not as on `other`, a line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.0.keys().chain(other.0.keys().filter(|name| !self.0.contains_key(*name)));
        let unknown = String::from("unknown");
        names
            .filter_map(|name| {
                let [was, is] = [self, other].map(|machine| machine.0.get(name).unwrap_or(&unknown));
                (was != is).then(|| format!("{name}: {was} then, {is} here"))
            })
            .collect()
    }
}

/// What a command prints.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The architecture and those CPU features that libraries here choose their code by.
#[cfg(target_arch = "x86_64")]
pub(crate) fn cpu() -> String {
    let features = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("popcnt", is_x86_feature_detected!("popcnt")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("sha", is_x86_feature_detected!("sha")),
    ];
    let present = features.into_iter().filter_map(|(name, present)| present.then_some(name));
    ["x86_64"].into_iter().chain(present).collect::<Vec<_>>().join(" ")
}

/// The architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn cpu() -> String {
    std::env::consts::ARCH.to_owned()
}
