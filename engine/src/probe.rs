//! What the server needs of the kernel and of its limits, tried at start: each thing that is missing is one
//! line with its fix, instead of a failure in the middle of a core's start.

use crate::core::ring::Ring;
use crate::core::settings::RingSettings;
use io_uring::opcode;
use std::fmt;
use std::io;

/// Something missing, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lack {
    /// What it is.
    pub(crate) what: String,
    /// How to mend it.
    pub(crate) fix: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; fix: {}", self.what, self.fix)
    }
}

/// Tries what the cores will do and raises the soft limits of open files and locked memory to the hard ones.
///
/// Returns warnings.
///
/// # Errors
///
/// Everything without which the server cannot run, all of it at once.
pub(crate) fn probe(cores: u16) -> Result<Vec<Lack>, Vec<Lack>> {
    let mut lacks = Vec::new();
    let mut warnings = Vec::new();
    match limits::raise(libc::RLIMIT_NOFILE) {
        Ok(files) if files < FILES_LOW => warnings.push(Lack {
            what: format!("only {files} files may be open, one for each connection"),
            fix:
                "raise the hard limit (ulimit -Hn, LimitNOFILE= in systemd, --ulimit nofile= in a container)"
                    .into(),
        }),
        Ok(_) => {}
        Err(error) => warnings.push(Lack {
            what: format!("the limit of open files cannot be read or raised ({error})"),
            fix: "allow getrlimit and setrlimit in the system-call filter".into(),
        }),
    }
    let locked_needed = LOCKED_BYTES_PER_CORE * u64::from(cores);
    match limits::raise(libc::RLIMIT_MEMLOCK) {
        Ok(bytes) if bytes < locked_needed => lacks.push(Lack {
            what: format!(
                "only {bytes} bytes may be locked in memory; each core needs {LOCKED_BYTES_PER_CORE}, and there are \
                 to be {cores}"
            ),
            fix: "raise it (ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock= in a container)".into(),
        }),
        Ok(_) | Err(_) => {}
    }
    if let Err(lack) = ring()
        // Too little memory is said once.
        && lacks.iter().all(|said| said.fix != lack.fix)
    {
        lacks.push(lack);
    }
    if lacks.is_empty() { Ok(warnings) } else { Err(lacks) }
}

/// How many files the process may have open once [`probe`] has raised the limit; without end if it cannot be read.
pub(crate) fn files_max() -> u64 {
    limits::hard(libc::RLIMIT_NOFILE).unwrap_or(u64::MAX)
}

/// Fewer open files than this is worth a warning.
const FILES_LOW: u64 = 4096;

/// What the executor that hosts a core checks for when it starts.
const LOCKED_BYTES_PER_CORE: u64 = 512 << 10;

/// Sets up a ring as a core does, with its buffers, submits to it and asks which operations it has.
fn ring() -> Result<(), Lack> {
    let set_up = Ring::new(&RingSettings::default()).map_err(|error| why(&error))?;
    let probe = set_up.probe().map_err(|error| Lack {
        what: format!("io_uring can be set up but not used ({error})"),
        fix: FILTER_FIX.into(),
    })?;
    lacking(|code| probe.is_supported(code)).map_or(Ok(()), Err)
}

/// The operations that are not there.
fn lacking(is_supported: impl Fn(u8) -> bool) -> Option<Lack> {
    let missing: Vec<&str> =
        OPERATIONS.iter().filter(|(code, _)| !is_supported(*code)).map(|(_, name)| *name).collect();
    (!missing.is_empty()).then(|| Lack {
        what: format!("the kernel's io_uring lacks {}", missing.join(", ")),
        fix: "run on Linux 6.1 or newer (tested on 6.18)".into(),
    })
}

/// What cores submit. That accept and receive can be multishot and take provided buffers cannot be asked, but
/// is older (5.19, 6.0) than the deferred task work (6.1) that the ring's set-up has shown.
const OPERATIONS: [(u8, &str); 7] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::MsgRingData::CODE, "msg_ring"),
    (opcode::AsyncCancel::CODE, "async_cancel"),
];

const FILTER_FIX: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in the system-call \
                          filter (for a container: --security-opt seccomp=PROFILE with these three)";

/// Why a ring cannot be set up.
pub(crate) fn why(error: &io::Error) -> Lack {
    setup_lack(error, &disabled_sysctl())
}

/// The same; `sysctl` is the text of `kernel.io_uring_disabled`, empty if there is none.
fn setup_lack(error: &io::Error, sysctl: &str) -> Lack {
    let lack = |what: String, fix: &str| Lack { what, fix: fix.to_owned() };
    match error.raw_os_error() {
        Some(libc::ENOSYS) => lack(
            "the kernel has no io_uring, or a system-call filter hides it".into(),
            "run on Linux 6.1 or newer built with CONFIG_IO_URING; in a container, allow io_uring_setup, \
             io_uring_enter and io_uring_register in its seccomp profile",
        ),
        Some(libc::EPERM | libc::EACCES) if matches!(sysctl, "1" | "2") => lack(
            format!("io_uring is switched off: kernel.io_uring_disabled is {sysctl}"),
            "sysctl -w kernel.io_uring_disabled=0 (or 1, with this user in kernel.io_uring_group)",
        ),
        Some(libc::EPERM | libc::EACCES) => {
            lack("a system-call filter or security policy forbids io_uring".into(), FILTER_FIX)
        }
        Some(libc::EINVAL) => lack(
            "the kernel's io_uring is too old: it cannot defer its task work, or has no buffer rings".into(),
            "run on Linux 6.1 or newer (tested on 6.18)",
        ),
        Some(libc::ENOMEM) => lack(
            "there is no memory for an io_uring within the limit of locked memory".into(),
            "raise it (ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock= in a container)",
        ),
        Some(libc::EMFILE | libc::ENFILE) => lack(
            "no file descriptor is left for an io_uring".into(),
            "raise the limit of open files (ulimit -n, LimitNOFILE= in systemd)",
        ),
        _ => lack(format!("io_uring cannot be set up ({error})"), "see io_uring_setup(2) for this error"),
    }
}

fn disabled_sysctl() -> String {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The two calls of this module that the standard library does not have.
mod limits {
    use std::io;

    /// A resource's hard limit.
    pub(super) fn hard(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
        get(resource).map(|limit| limit.rlim_max)
    }

    /// Raises a resource's soft limit to its hard one and returns that.
    pub(super) fn raise(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
        let mut limit = get(resource)?;
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            // SAFETY: `limit` is a live, initialised `rlimit` that the call only reads.
            if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(limit.rlim_cur)
    }

    fn get(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a live `rlimit` that the call fills in; it keeps no pointer to it.
        if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_the_set_up_names_its_fix() {
        for (errno, sysctl, what, fix) in [
            (libc::ENOSYS, "", "no io_uring", "6.1"),
            (libc::EPERM, "2", "kernel.io_uring_disabled is 2", "sysctl -w"),
            (libc::EPERM, "0", "system-call filter", "seccomp"),
            (libc::EPERM, "", "system-call filter", "seccomp"),
            (libc::EINVAL, "0", "too old", "6.1"),
            (libc::ENOMEM, "0", "locked memory", "ulimit -l"),
            (libc::EMFILE, "0", "file descriptor", "ulimit -n"),
            (libc::EIO, "0", "cannot be set up", "io_uring_setup(2)"),
        ] {
            let lack = setup_lack(&io::Error::from_raw_os_error(errno), sysctl);
            assert!(lack.what.contains(what) && lack.fix.contains(fix), "{errno}: {lack}");
            assert_eq!(lack.to_string().lines().count(), 1, "one line each");
        }
    }

    #[test]
    fn an_operation_that_is_missing_is_named() {
        assert_eq!(lacking(|_| true), None);
        let lack =
            lacking(|code| code != opcode::MsgRingData::CODE && code != opcode::SendMsg::CODE).unwrap();
        assert!(lack.what.ends_with("lacks sendmsg, msg_ring") && lack.fix.contains("6.1"), "{lack}");
    }

    #[test]
    fn this_kernel_has_all_of_it() {
        assert_eq!(ring(), Ok(()));
    }

    #[test]
    fn the_soft_limit_of_open_files_reaches_the_hard_one() {
        let first = limits::raise(libc::RLIMIT_NOFILE).unwrap();
        assert_eq!(limits::raise(libc::RLIMIT_NOFILE).unwrap(), first);
        assert_eq!(files_max(), first);
    }
}
