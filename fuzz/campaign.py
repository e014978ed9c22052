#!/usr/bin/env python3
"""Fuzzing counted in CPU time: every target gets its share, over hours and interruptions.

    fuzz/campaign.py run [--hours H] [--slice S] [--at-once N] [--no-build] [TARGET...]
    fuzz/campaign.py status            what each target has had so far
    fuzz/campaign.py minimise [TARGET...]   the smallest corpus that reaches every edge, into fuzz/corpus

The target with the least CPU time runs next, for one slice, until each has had its hours. What is found and learnt
lies in a folder outside the tree (`--folder`, by default target/fuzz/campaign): `bin` the binaries that run, `corpus`,
`found`, and `ledger`, one JSON line a slice. Killed at any time, it goes on where it was. A target with a finding rests
until its file is taken out of `found`: every further slice would only find it again.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).resolve().parent
TRIPLE = f"{os.uname().machine}-unknown-linux-gnu"

# What one corpus in the tree may have; the smallest inputs that reach every edge are far below both.
FILES_MAX = 800
BYTES_MAX = 200 * 1024
# One input: beyond this a target is slow, not deeper.
INPUT_BYTES_MAX = 4096
# One input may take so long, and a slice that does not come back is killed this long after it should have. Both are
# time on the clock, of which a process of lowest priority may see little.
INPUT_SECONDS_MAX = 120
GRACE_SECONDS = 3600
# How libFuzzer ends when it is told to (SIGINT).
INTERRUPTED = 72


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["run", "status", "minimise"])
    parser.add_argument("targets", nargs="*", help="all by default")
    parser.add_argument("--hours", type=float, default=0.5, help="CPU hours each target shall have had in all")
    parser.add_argument("--slice", type=int, default=60, help="seconds of one slice")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="targets that run at the same time")
    parser.add_argument("--no-build", action="store_true", help="go on with the binaries of the last build")
    parser.add_argument("--folder", type=Path, help="where everything lies that is made")
    arguments = parser.parse_intermixed_args()
    target_dir = Path(os.environ.get("CARGO_TARGET_DIR", TREE.parent / "target")) / "fuzz"
    folder = arguments.folder or target_dir / "campaign"

    if arguments.verb != "status" and not arguments.no_build:
        build(target_dir, folder)
    if not (folder / "bin").is_dir():
        sys.exit(f"nothing has been built in {folder}: `run` does that")
    known = sorted(binary.name for binary in (folder / "bin").iterdir())
    unknown = set(arguments.targets) - set(known)
    if unknown:
        sys.exit(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    targets = [Target(folder, name) for name in arguments.targets or known]

    if arguments.verb == "run":
        run(targets, arguments)
        bad = [target.name for target in targets if target.is_broken or target.findings()]
        if bad:
            print_status(targets)
            sys.exit(f"findings, or ended badly: {', '.join(bad)}")
    elif arguments.verb == "minimise":
        for target in targets:
            target.minimise()
    print_status(targets)


def build(target_dir, folder):
    """Builds all targets and keeps copies, which a build for something else does not replace."""
    command = ["cargo", "+nightly", "fuzz", "build", "--target-dir", str(target_dir)]
    subprocess.run(command, cwd=TREE.parent, check=True)
    names = subprocess.run(["cargo", "+nightly", "fuzz", "list"], cwd=TREE.parent, check=True, capture_output=True)
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    for old in bin_folder.iterdir():
        old.unlink()
    for name in names.stdout.decode().split():
        shutil.copy2(target_dir / TRIPLE / "release" / name, bin_folder / name)


class Target:
    """One fuzz target: its binary, its corpus, and what the ledger says of it."""

    def __init__(self, folder, name):
        self.name = name
        self.binary = folder / "bin" / name
        self.corpus = folder / "corpus" / name
        self.found = folder / "found" / name
        self.ledger = folder / "ledger" / name
        self.kept = TREE / "corpus" / name
        self.build = hashlib.sha256(self.binary.read_bytes()).hexdigest()[:12]
        for made in (self.corpus, self.found, self.ledger.parent, self.kept):
            made.mkdir(parents=True, exist_ok=True)
        self.slices = []
        if self.ledger.exists():
            self.slices = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        self.process = None
        # It ended badly and left no input: started again it would only do so again.
        self.is_broken = False

    def cpu_seconds(self):
        return sum(slice["cpu"] for slice in self.slices)

    def findings(self):
        """Inputs that failed, ran out of time or of memory."""
        return sorted(self.found.glob("*-*"))

    def start(self, seconds):
        """libFuzzer writes to the first folder only: the tree's corpus is read."""
        self.log = (self.found / "log").open("w+b")
        command = [
            self.binary, self.corpus, self.kept, f"-artifact_prefix={self.found}/", f"-max_total_time={seconds}",
            f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_SECONDS_MAX}", "-print_final_stats=1", "-print_funcs=0", "-reload=0",
            # What is slow beside other work is no finding.
            f"-report_slow_units={INPUT_SECONDS_MAX}",
        ]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, preexec_fn=lambda: os.nice(19))
        self.deadline = time.monotonic() + seconds + GRACE_SECONDS

    def is_over(self):
        """Whether the slice has ended; if so, it is in the ledger."""
        if time.monotonic() > self.deadline:
            os.kill(self.process.pid, signal.SIGKILL)
        pid, status, used = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        self.record(used, text)
        return True

    def record(self, used, text):
        shown = re.findall(r"^#(\d+)\s.*cov: (\d+) ft: (\d+)", text, re.MULTILINE)
        executions, edges, features = map(int, shown[-1]) if shown else (0, 0, 0)
        counted = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
        entry = {
            "at": int(time.time()),
            "build": self.build,
            "cpu": round(used.ru_utime + used.ru_stime, 2),
            "executions": int(counted[1]) if counted else executions,
            "edges": edges,
            "features": features,
        }
        self.slices.append(entry)
        with self.ledger.open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
        if self.process.returncode not in (0, INTERRUPTED) and not self.findings():
            self.is_broken = True
            print(f"{self.name} ended with {self.process.returncode} and left no input:\n{text[-2000:]}", flush=True)

    def last_growth(self):
        """Edges that this build reaches, and how much CPU time ago a slice last found one more."""
        edges, cpu, grown_at = 0, 0.0, 0.0
        for slice in self.slices:
            if slice["build"] != self.build:
                continue
            cpu += slice["cpu"]
            if slice["edges"] > edges:
                edges, grown_at = slice["edges"], cpu
        return edges, cpu - grown_at

    def minimise(self):
        """The campaign's corpus and the tree's become the few small inputs that reach every edge of either."""
        smallest, known = (self.corpus.with_name(f"{self.name}.{what}") for what in ("smallest", "known"))
        for folder in smallest, known:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        # A campaign that goes on meanwhile takes away inputs for which it finds smaller ones.
        for input in self.corpus.iterdir():
            with contextlib.suppress(FileNotFoundError):
                os.link(input, known / input.name)
        # Without counters an input is kept for the edges it reaches, not for how often it does.
        command = [self.binary, "-set_cover_merge=1", "-use_counters=0", f"-max_len={INPUT_BYTES_MAX}"]
        command += [f"-report_slow_units={INPUT_SECONDS_MAX}"]
        command += [f"-artifact_prefix={self.found}/", smallest, self.kept, known]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        inputs = sorted(smallest.iterdir(), key=lambda input: input.stat().st_size)
        size = sum(input.stat().st_size for input in inputs)
        if len(inputs) > FILES_MAX or size > BYTES_MAX:
            sys.exit(f"{self.name}: {len(inputs)} inputs of {size} bytes are more than the tree takes")
        for old in self.kept.iterdir():
            old.unlink()
        for input in inputs:
            shutil.copyfile(input, self.kept / input.name)
        for folder in smallest, known:
            shutil.rmtree(folder)


def run(targets, arguments):
    stopping = False

    def stop(*_):
        nonlocal stopping
        stopping = True
        for target in targets:
            # One that has ended already, and is about to be noticed, is nobody any more.
            if target.process and target.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    # Not by way of `Popen`, which would take the child's end from `wait4`.
                    os.kill(target.process.pid, signal.SIGINT)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Where sessions are scheduled as groups, niceness counts within one only, and this is a session of its own as
    # likely as not. The kernel takes this from the session it concerns.
    try:
        Path("/proc/self/autogroup").write_text("19")
    except OSError:
        pass
    # No core files of crashed targets, wherever this was started.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told = time.monotonic()
    while True:
        for target in targets:
            if target.process and target.is_over():
                target.process = None
        running = [target for target in targets if target.process]
        waiting = [
            target for target in targets
            if not target.process and not target.is_broken and not target.findings()
            and target.cpu_seconds() < arguments.hours * 3600
        ]
        if not running and (stopping or not waiting):
            return
        if waiting and not stopping and len(running) < arguments.at_once:
            min(waiting, key=Target.cpu_seconds).start(arguments.slice)
            continue
        if time.monotonic() - told > 900:
            print_status(targets)
            told = time.monotonic()
        time.sleep(0.2)


def print_status(targets):
    print(f"{'target':22} {'CPU s':>8} {'executions':>12} {'edges':>6} {'since a new edge':>17} {'corpus':>7} {'findings':>8}")
    for target in targets:
        edges, since = target.last_growth()
        executions = sum(slice["executions"] for slice in target.slices)
        inputs = sum(1 for _ in target.corpus.iterdir())
        print(f"{target.name:22} {target.cpu_seconds():8.0f} {executions:12} {edges:6} {since:15.0f} s {inputs:7} "
              f"{len(target.findings()):8}", flush=True)


if __name__ == "__main__":
    main()
