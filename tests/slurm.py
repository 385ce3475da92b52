"""The tiny experiment on SLURM itself: one node with real daemons, the real plugin, and a training killed on the way.

    .venv/bin/python -m tests.slurm          a part of the experiment with every kind of job, in minutes
    .venv/bin/python -m tests.slurm --all    all of it

Starts munge and SLURM (Debian: slurm-wlm, munge) with all their files in a temporary folder, and Snakemake's plugin in
a folder of its own; runs the experiment by the profile `slurm`, cancels a training that has written its first
checkpoint, and runs it once more without SLURM: weights, transcripts and tables are the same to the byte. One system
trains on two devices, as two tasks under srun. The node's GPUs are device files that nothing opens: SLURM hands them
out as it does GPUs, and training is on CPUs.

Where SLURM cannot be started that is said, and nothing fails.
"""

import argparse
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.files import read_json
from workflows.devices import machine_devices

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv/bin"
TINY = ROOT / "tests/workflows/tiny.yaml"
PLUGIN = ROOT / "workflows/profiles/slurm/requirements.txt"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "setpriv")
KILLED, TOGETHER = "f2", "a2_two"
"""The system whose training is cancelled, and the one that trains on two devices."""
TRAINING = "rule_train_source_system"
"""The rule by which the first of them is trained: others start from it."""
PART = ["only=table4", f"systems={KILLED},{TOGETHER}"]
ENDS_WITH_THIS = ["setpriv", "--pdeathsig", "KILL"]
"""Before a command: the kernel ends it when this process ends, however that came."""
CPUS = 2
LIMIT_SECONDS = 1800

EXPERIMENT = f"""
extends: tiny
systems:
  {KILLED}: {{training: {{steps: 200, validate_every: 100}}}}
  {TOGETHER}: {{method: baselines.all_physical, backbone: {{layers: 2}}, training: {{devices: 2}}}}
"""
CONFIGURATION = """
ClusterName=foldbench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=2
MinJobAge=3600
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:2
PartitionName=test Nodes=ALL Default=YES MaxTime=60 State=UP
"""
DEVICES = """
Name=gpu File=/dev/null Flags=nvidia_gpu_env
Name=gpu File=/dev/zero Flags=nvidia_gpu_env
"""
# The plugin forgets where the configuration lies when it starts a job; on a cluster SLURM looks there by itself.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


class NotHere(Exception):
    """Why SLURM cannot be tried on this machine."""


class Cluster:
    """One node on this machine, and what runs on it; `environment` is that of those who use it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: list[subprocess.Popen] = []
        path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin"
        slurm = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": path, "PYTHONPATH": f"{folder}/plugin"}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        self.environment = {**clean, **slurm, "OMP_NUM_THREADS": "1"}

    def start(self) -> None:
        """Write the configuration and start the daemons. Raises `NotHere` when the node does not come up."""
        for name in ("munge", "state", "spool", "bin"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)  # munge's own user passes through it
        host = socket.gethostname().partition(".")[0]
        ports = {"controller_port": free_port(), "node_port": free_port()}
        facts = {"folder": self.folder, "host": host, "cpus": CPUS, "srun": shutil.which("srun"), **ports}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**facts))
        (self.folder / "gres.conf").write_text(DEVICES)
        (self.folder / "bin/srun").write_text(SRUN.format(**facts))
        (self.folder / "bin/srun").chmod(0o755)
        munge, key = self.folder / "munge", self.folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (munge, key):
            shutil.chown(path, "munge", "munge")
        files = [f"--{name}={munge}/{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        as_munge = ["--reuid=munge", "--regid=munge", "--clear-groups"]
        self._daemon(["munged", "--foreground", "--force", f"--key-file={key}", *files], as_munge)
        self._wait_for((munge / "socket").exists, "munge does not start")
        self._daemon(["slurmctld", "-D"])
        self._daemon(["slurmd", "-D"])
        self._wait_for(self._is_up, "the node does not come up")

    def _is_up(self) -> bool:
        """Whether the node takes jobs; not, when nobody answers."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return "idle" in self.ask("sinfo", "--noheader", "--format=%T")
        return False

    def _daemon(self, command: list[str], options: list[str] | None = None) -> None:
        """A daemon in the foreground."""
        words = [*ENDS_WITH_THIS, *(options or []), *command]
        log = (self.folder / f"{command[0]}.out").open("w")
        self.daemons.append(
            subprocess.Popen(words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        )

    def _wait_for(self, condition, what: str, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until or any(daemon.poll() is not None for daemon in self.daemons):
                said = "".join(path.read_text()[-800:] for path in sorted(self.folder.glob("*.out")))
                raise NotHere(f"{what}: {said.strip() or 'it says nothing'}")
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """What one of SLURM's commands prints."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def jobs(self, name: str) -> dict[str, str]:
        """Jobs whose rule and wildcards hold `name`, in the order in which they were submitted: number -> state."""
        lines = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%k").splitlines()
        rows = [line.strip().split("|") for line in lines]
        return {number: state for number, state, comment in rows if name in comment}

    def end(self) -> None:
        """End jobs and daemons, and whatever else was started for them."""
        if len(self.daemons) == 3:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ask("scancel", "--signal=KILL", f"--user={getpass.getuser()}")
                self.ask("scancel", f"--user={getpass.getuser()}")
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _left(self) -> Iterator[int]:
        """Processes that know of the folder by their environment, this one never among them."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                    yield int(folder.name)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def check_machine() -> None:
    """Raises `NotHere` where something is missing."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise NotHere(f"{', '.join(missing)} is not installed (Debian: slurm-wlm, munge)")
    if os.getuid() != 0:
        raise NotHere("its daemons are started by root")
    if len(os.sched_getaffinity(0)) < CPUS:
        raise NotHere(f"the node has {CPUS} CPUs, this machine fewer")
    if machine_devices():
        raise NotHere("this machine has a GPU, and the comparison is one of CPUs")


def install_plugin(folder: Path) -> None:
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(folder), "-r", str(PLUGIN)], capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"Snakemake's plugin cannot be installed: {done.stderr.strip()[-300:]}")


def write_experiment(folder: Path) -> Path:
    """The tiny experiment, with a training that is long enough to be killed and one on two devices."""
    shutil.copy(TINY, folder)
    (folder / "few.yaml").write_text(EXPERIMENT)
    return folder / "few.yaml"


def snakemake(profile: str, experiment: Path, results: Path, asked: list[str], *arguments: str) -> list[str]:
    words = [*ENDS_WITH_THIS, str(BIN / "snakemake"), "--workflow-profile", "none"]
    words += ["--profile", f"workflows/profiles/{profile}"]
    words += ["--nolock", "--cores", str(CPUS), *arguments]
    return [*words, "--config", f"experiment={experiment}", f"results={results}", *asked]


def run_on_slurm(cluster: Cluster, experiment: Path, results: Path, asked: list[str]) -> None:
    """Run it, and cancel one training after its first checkpoint."""
    waits = ["--latency-wait", "10", "--slurm-status-command", "squeue"]
    waits += ["--slurm-init-seconds-before-status-checks", "1", "--slurm-logdir", str(cluster.folder / "logs")]
    work = results / experiment.stem / "systems" / KILLED / "seed0" / "work" / "stage0"
    log = cluster.folder / "snakemake.out"
    with log.open("w") as out:
        process = subprocess.Popen(
            snakemake("slurm", experiment, results, asked, *waits),
            cwd=ROOT,
            env=cluster.environment,
            stdout=out,
            stderr=out,
        )
        try:
            while not (work / "checkpoint.pt").exists() and process.poll() is None:
                time.sleep(0.05)
            kept = b""
            if process.poll() is None:
                (number,) = cluster.jobs(f"{TRAINING}_wildcards_{KILLED}_0")
                cluster.ask("scancel", number)
                kept = (work / "log.jsonl").read_bytes()
            status = process.wait()
        finally:
            process.kill()
    assert status == 0, log.read_text()[-6000:]
    states = list(cluster.jobs(f"{TRAINING}_wildcards_{KILLED}_0").values())
    assert states == ["CANCELLED", "COMPLETED"], states
    # What was logged before the kill stands as it was, its times too: those steps were not taken again.
    first = kept.splitlines()[0]
    assert (results / experiment.stem / "systems" / KILLED / "seed0/log.jsonl").read_bytes().startswith(first + b"\n")


def compare(one: Path, other: Path) -> int:
    """Weights, transcripts and WERs of two runs are the same bytes; how many files these are."""
    patterns = ["systems/*/seed0/model.safetensors", "systems/*/seed0/eval/**/*.trn", "tables/table*.csv"]
    found = [sorted(path.relative_to(one) for each in patterns for path in one.glob(each)), None]
    found[1] = sorted(path.relative_to(other) for each in patterns for path in other.glob(each))
    assert found[0] == found[1] and len(found[0]) > 10, found
    different = [str(path) for path in found[0] if (one / path).read_bytes() != (other / path).read_bytes()]
    assert not different, different
    return len(found[0])


def try_slurm(folder: Path, asked: list[str]) -> str:
    """The whole of it; in words what was seen."""
    check_machine()
    install_plugin(folder / "plugin")
    experiment = write_experiment(folder)
    cluster = Cluster(folder)
    try:
        cluster.start()
        run_on_slurm(cluster, experiment, folder / "slurm", asked)
        jobs = cluster.jobs("rule_")
        run_here(cluster, experiment, folder / "local", asked)
    finally:
        cluster.end()
    given = {name: devices_of(folder / "slurm/few", name) for name in (TOGETHER, KILLED)}
    assert [len(given[name]) for name in (TOGETHER, KILLED)] == [2, 1], given
    files = compare(folder / "slurm/few", folder / "local/few")
    return f"{len(jobs)} jobs, one of them cancelled and gone on with, one of two tasks; {files} files as without SLURM"


def run_here(cluster: Cluster, experiment: Path, results: Path, asked: list[str]) -> None:
    """Run it without SLURM."""
    words = snakemake("default", experiment, results, asked)
    environment = {key: value for key, value in cluster.environment.items() if key != "SLURM_CONF"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]


def devices_of(results: Path, system: str) -> list[str]:
    """The devices that SLURM gave a training."""
    return read_json(results / "systems" / system / "seed0/provenance.json")["visible_devices"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.slurm", description="The tiny experiment on SLURM itself.")
    parser.add_argument("--all", action="store_true", help="all of the experiment, not the part that has every kind")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, lambda received, frame: sys.exit(f"slurm: ended by signal {received}"))
    signal.alarm(LIMIT_SECONDS if not arguments.all else 2 * LIMIT_SECONDS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="foldbench-slurm-", ignore_cleanup_errors=True) as folder:
        try:
            seen = try_slurm(Path(folder), ["only=all"] if arguments.all else PART)
        except NotHere as reason:
            print(f"slurm: not tried: {reason}")
            return
        except AssertionError as error:
            sys.exit(f"slurm: FAILED: {error}")
    print(f"slurm: passed in {time.monotonic() - began:.0f} s: {seen}")


if __name__ == "__main__":
    main()
