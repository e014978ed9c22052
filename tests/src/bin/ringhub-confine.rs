//! `ringhub-confine UNIT PROGRAM ARGS…`: becomes the program under the system-call filter of a systemd unit.
//!
//! The names of all `SystemCallFilter=` lines are allowed, and what systemd always allows; any other call ends the
//! process with SIGSYS, even if the unit answers with an error, for a test is to notice. So does memory that is to be
//! written and executed (`MemoryDenyWriteExecute=`), and a socket of another family than the unit names. Names that
//! this architecture does not have are passed over, as systemd does. Groups (`@…`) are not known here: the unit has
//! none.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use seccompiler::{BpfProgram, TargetArch, apply_filter_all_threads, compile_from_json};
use serde_json::{Value, json};

/// What a systemd filter of allowed calls has in any case (`SystemCallFilter=` in systemd.exec(5), and `@default` of
/// `systemd-analyze syscall-filter` as far as this server could need it).
const ALWAYS: [&str; 10] = [
    "execve",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "getrlimit",
    "clock_gettime",
    "clock_nanosleep",
    "gettimeofday",
    "nanosleep",
    "time",
];

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let (Some(unit), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: ringhub-confine UNIT PROGRAM ARGS…");
        return ExitCode::from(2);
    };
    match confine(&unit) {
        Ok(()) => eprintln!("ringhub-confine: {}", Command::new(&program).args(args).exec()),
        Err(error) => eprintln!("ringhub-confine: {}: {error}", unit.display()),
    }
    ExitCode::FAILURE
}

fn confine(unit: &OsString) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(unit)?;
    let names = words(&text, "SystemCallFilter=");
    if let Some(group) = names.iter().find(|name| name.starts_with(['@', '~'])) {
        return Err(format!("{group}: only names of system calls are understood").into());
    }
    let mut rules = Vec::new();
    for name in names.into_iter().chain(ALWAYS) {
        let of_name = rules_of(name, &text)?;
        // A name that this architecture lacks does not compile.
        if compile(&of_name).is_ok() {
            rules.extend(of_name);
        }
    }
    apply_filter_all_threads(&compile(&rules)?)?;
    Ok(())
}

/// The words of a unit's lines that begin so; a line may go on over several.
fn words<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut goes_on = false;
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        let Some(rest) = line.strip_prefix(key).or_else(|| goes_on.then_some(line)) else { continue };
        goes_on = rest.ends_with('\\');
        names.extend(rest.trim_end_matches('\\').split_whitespace());
    }
    names
}

/// What of a system call is allowed: all of it, or what other lines of the unit leave.
fn rules_of(name: &str, unit: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let when = |index: u8, op: Value, value: u32| json!({ "syscall": name, "args": [{ "index": index, "type": "dword", "op": op, "val": value }] });
    let lacks = |protection: u32| when(2, json!({ "masked_eq": protection }), 0);
    let denies_code = unit.lines().any(|line| line == "MemoryDenyWriteExecute=yes");
    let families = words(unit, "RestrictAddressFamilies=");
    match name {
        "mmap" if denies_code => Ok(vec![lacks(PROT_WRITE), lacks(PROT_EXEC)]),
        "mprotect" if denies_code => Ok(vec![lacks(PROT_EXEC)]),
        "socket" | "socketpair" if !families.is_empty() => {
            let number = |family: &&str| match *family {
                "AF_UNIX" => Ok(1),
                "AF_INET" => Ok(2),
                "AF_INET6" => Ok(10),
                "AF_NETLINK" => Ok(16),
                other => Err(format!("{other}: its number is not known here")),
            };
            families.iter().map(|family| Ok(when(0, json!("eq"), number(family)?))).collect()
        }
        _ => Ok(vec![json!({ "syscall": name })]),
    }
}

const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;

fn compile(rules: &[Value]) -> Result<BpfProgram, Box<dyn Error>> {
    let filters = json!({ "server": {
        "mismatch_action": "kill_process", "match_action": "allow", "filter": rules,
    }});
    let arch = TargetArch::try_from(env::consts::ARCH)?;
    let mut programs = compile_from_json(filters.to_string().as_bytes(), arch)?;
    Ok(programs.remove("server").ok_or("no filter")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_unit_are_read_over_lines() {
        let unit = "[Service]\nSystemCallFilter=read write\n# SystemCallFilter=no\nSystemCallFilter=futex \\\n  mmap\nUser=x\n";
        assert_eq!(words(unit, "SystemCallFilter="), ["read", "write", "futex", "mmap"]);
        let names = words(SHIPPED, "SystemCallFilter=");
        for needed in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
            assert!(names.contains(&needed), "{needed}");
        }
    }

    #[test]
    fn what_is_no_system_call_is_not_compiled() {
        let compiles = |name: &str| compile(&rules_of(name, "").unwrap()).is_ok();
        assert!(compiles("read") && !compiles("no_such_call"));
    }

    #[test]
    fn the_shipped_unit_leaves_some_calls_in_part() {
        for (name, rules) in [("mmap", 2), ("mprotect", 1), ("socket", 4), ("read", 1)] {
            let of_name = rules_of(name, SHIPPED).unwrap();
            assert!(of_name.len() == rules && compile(&of_name).is_ok(), "{name}: {of_name:?}");
        }
        assert!(rules_of("socket", "RestrictAddressFamilies=AF_PACKET").is_err());
    }

    const SHIPPED: &str = include_str!("../../../contrib/systemd/ringhub.service");
}
