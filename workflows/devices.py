"""Which GPUs of this machine a command computes on: one that no other job has, or some.

Jobs of one machine agree by locks on files: a command that uses GPUs takes as many as it needs before torch looks for
any, waits while all are taken, and sees no others (CUDA_VISIBLE_DEVICES). The kernel holds a lock as long as the
process, or a child that it forked, lives: a killed job keeps nothing. Jobs take their turn: while one waits for several
devices, later ones do not pass it.

FOLDBENCH_JOBS_A_DEVICE=4 lets four small jobs share a device. Jobs of several devices, and those that measure times and
memory, never share.

Where somebody else decides nothing is taken: under SLURM, which gave a job its devices, under a launcher (torchrun),
and where there is no GPU. Jobs of one device that run beside each other in an allocation of several, a whole node for
instance, share it out among them by locks. Never imports torch.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from common.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
TAKEN = "FOLDBENCH_DEVICES"
"""Environment variable of a job that has taken devices, and of the processes that it starts: which."""
SHARE = "FOLDBENCH_JOBS_A_DEVICE"
POLL_SECONDS = 0.5

_held: list[int] = []
"""Open lock files: the locks, for as long as this process lives."""


def take_devices(count: int, share: bool = True, environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """Wait for `count` devices that are free, and let this process and those that it starts see these only; which they
    are, by the names that CUDA_VISIBLE_DEVICES takes. None where there is none, or where somebody else decides.

    Raises `UserError` where there are fewer.
    """
    devices = visible_devices(environment)
    job, jobs_a_device = environment.get("SLURM_JOB_ID"), jobs_a_device_of(environment)
    if not devices or TAKEN in environment or "LOCAL_RANK" in environment:
        return []
    if job is not None and (VISIBLE not in environment or count > 1 or len(devices) == 1):
        return []
    if len(devices) < count:
        raise UserError(f"training.devices is {count}, but this job can see {len(devices)}: {', '.join(devices)}")
    places = jobs_a_device if share and count == 1 and jobs_a_device > 1 else 0
    taken = _Locks(job).wait_for(devices, count, places)
    environment[VISIBLE] = environment[TAKEN] = ",".join(taken)
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # nvidia-smi's, whose numbers these may be
    return taken


def taken_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The devices that this job took, or that a cluster or a launcher gave it."""
    named = environment.get(TAKEN) or environment.get(VISIBLE, "")
    return [name for name in named.split(",") if name]


def jobs_a_device_of(environment: Mapping[str, str] = os.environ) -> int:
    """How many jobs may share a device. Raises `UserError` where the setting is no such number."""
    text = environment.get(SHARE, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{SHARE} is '{text}': give the number of jobs that may share a GPU, 1 or more")
    return int(text)


def visible_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The devices that a job may use: those of the machine, in the order of CUDA_VISIBLE_DEVICES where that is set.
    Like CUDA, what follows an entry that is no device does not count."""
    machine = machine_devices()
    if VISIBLE not in environment:
        return list(machine.values())
    found = []
    for entry in environment[VISIBLE].split(","):
        name = _named(entry.strip(), machine)
        if name is None:
            break
        found.append(name)
    return list(dict.fromkeys(found))


def machine_devices() -> dict[str, str]:
    """All GPUs of this machine: number -> UUID, as nvidia-smi tells; where it cannot, number -> number, by the files in
    /dev."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if found is not None and found.returncode == 0:
        return dict(re.findall(r"^\s*(\d+)\s*,\s*(GPU-\S+)", found.stdout, re.MULTILINE))
    numbers = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
    return {str(number): str(number) for number in numbers}


def _named(entry: str, machine: Mapping[str, str]) -> str | None:
    """The device that an entry of CUDA_VISIBLE_DEVICES means: a number, a UUID or the beginning of one; parts of a GPU
    (MIG) are taken at their word."""
    if entry in machine:
        return machine[entry]
    if entry.startswith("MIG-"):
        return entry
    return next((uuid for uuid in machine.values() if len(entry) > 4 and uuid.startswith(entry)), None)


class _Locks:
    """The locks on the devices of this machine, or of one allocation of a cluster, whose names mean something in it
    only."""

    def __init__(self, allocation: str | None):
        # One folder for all users of the machine, in which each can make files.
        self.folder = Path(tempfile.gettempdir()) / "foldbench-devices"
        self.prefix = "" if allocation is None else f"slurm-{allocation}-"
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir()
            self.folder.chmod(0o1777)

    def wait_for(self, devices: list[str], count: int, places: int) -> list[str]:
        """Take `count` of the devices, one after the other as they become free; in turn: who comes later waits for who
        waits. `places` is how many jobs may share a device, 0: none."""
        taken: list[str] = []
        said = False
        queue = self._open("queue")
        while not (_try(queue, fcntl.LOCK_EX) and self._add_free(taken, devices, count, places)):
            if not said:
                print(f"note: waiting for {_gpus(count)} of {', '.join(devices)}", file=sys.stderr, flush=True)
                said = True
            time.sleep(POLL_SECONDS)
        os.close(queue)
        return [device for device in devices if device in taken]

    def _add_free(self, taken: list[str], devices: list[str], count: int, places: int) -> bool:
        """Take those that are missing of `count`, as far as they are free; whether these are all now. Devices on which
        fewer jobs are go first."""
        for place in range(places) if places else [None]:
            for device in devices:
                if len(taken) < count and device not in taken and self._take(device, place):
                    taken.append(device)
        return len(taken) == count

    def _take(self, device: str, place: int | None) -> bool:
        """Take one device, if it is free: alone, or a place on it. Who shares it holds a shared lock on the device and
        one on the place, so that nobody has the device alone meanwhile."""
        files = [self._open(device)]
        free = _try(files[0], fcntl.LOCK_EX if place is None else fcntl.LOCK_SH)
        if free and place is not None:
            files.append(self._open(f"{device}.{place}"))
            free = _try(files[1], fcntl.LOCK_EX)
        if free:
            _held.extend(files)
        else:
            for file in files:
                os.close(file)
        return free

    def _open(self, name: str) -> int:
        """A lock file, opened to read: that is enough for a lock, and other users' files can be."""
        path = self.folder / f"{self.prefix}{name}"
        try:
            if not path.exists():
                with contextlib.suppress(FileExistsError):
                    made = os.open(path, os.O_CREAT | os.O_EXCL, 0o644)
                    os.fchmod(made, 0o644)  # whatever umask says, others have to be able to read it
                    os.close(made)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"{path}: the lock of a GPU cannot be opened ({error.strerror})") from None


def _try(file: int, kind: int) -> bool:
    """Whether the kernel gives a lock."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"
