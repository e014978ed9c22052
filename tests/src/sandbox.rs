//! The server as its systemd unit confines it, for machines without systemd (`contrib/systemd/ringhub.service`).
//!
//! With `RINGHUB_TESTS_SANDBOX=1` in the environment, and as root, every `ringhub serve` of the tests runs as `nobody`
//! without capabilities, may gain no privileges, sees a root that cannot be written (but for the folder of the
//! harness), has a `/tmp` of its own, may open and lock no more than the unit lets it, and has the unit's system calls,
//! without writable code or foreign kinds of sockets: anything else ends it. What else the unit hides from it (homes,
//! devices, other processes) is there. Other verbs run as `nobody` too, so that a server can read what they make.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::target_dir;

/// Whether servers are to be confined.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("RINGHUB_TESTS_SANDBOX").is_some()
}

/// What limits and mounts, in a mount namespace of its own; the same process becomes the server, so that its number is known.
const MOUNT: &str = r#"set -e
harness=$1
files=$2
locked=$3
shift 3
# Never raised: a test may want less.
lower() {
    limit=$(ulimit -H "$1")
    if [ "$limit" = unlimited ] || [ "$limit" -gt "$2" ]; then ulimit "$1" "$2"; fi
}
lower -n "$files"
lower -l "$locked"
mount -o remount,bind,ro /
mount --bind "$harness" "$harness"
mount -o remount,bind,rw "$harness"
mount -t tmpfs -o nosuid,nodev tmpfs /tmp
exec "$@"
"#;

/// `program` with these arguments, confined.
pub(crate) fn confined(program: &Path, args: &[OsString]) -> Command {
    let harness = writable_folder();
    let mut command = if args.first().is_some_and(|verb| verb == "serve") {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", MOUNT, "sh"]).arg(harness);
        // The shell counts locked memory in KiB.
        command.arg(limit("LimitNOFILE=").to_string()).arg((limit("LimitMEMLOCK=") >> 10).to_string());
        command.arg("setpriv");
        command
    } else {
        Command::new("setpriv")
    };
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--"]);
    if args.first().is_some_and(|verb| verb == "serve") {
        command.arg(launcher()).arg(unit());
    }
    command.arg(program).args(args);
    command
}

/// The shipped unit.
fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd/ringhub.service")
}

/// A limit of the unit: a number, or one of KiB, MiB or GiB.
fn limit(key: &str) -> u64 {
    let unit = fs::read_to_string(unit()).expect("the unit is there");
    let value = unit.lines().find_map(|line| line.strip_prefix(key)).expect("the unit has the limit");
    let number = value.trim_end_matches(['K', 'M', 'G']);
    let shift = match value.strip_prefix(number) {
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        _ => 0,
    };
    number.parse::<u64>().expect("a number") << shift
}

/// Installs the unit's filter and becomes the server; cargo builds it with the tests.
fn launcher() -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    exe.ancestors().nth(2).expect("cargo builds into folders").join("ringhub-confine")
}

/// Where tests and servers meet: configuration, certificates, files of listeners.
fn writable_folder() -> PathBuf {
    let folder = target_dir().join("harness");
    fs::create_dir_all(&folder).expect("the build folder can be written");
    fs::set_permissions(&folder, Permissions::from_mode(0o1777)).expect("the folder is ours");
    folder
}
