"""Jobs of one machine take a GPU each: real processes and real locks, on a machine whose nvidia-smi lists what a test
says."""

import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from snakemake.profiles import ProfileConfigFileParser

from common.errors import UserError
from tests.workflows.commands import ROOT, TINY, read, train
from workflows.devices import jobs_a_device_of, take_devices, taken_devices, visible_devices
from workflows.edges import Edges
from workflows.experiment import load_experiment
from workflows.experiment.entries import SystemEntry

JOB = (
    "import os, sys\nfrom workflows.devices import take_devices\n"
    "assert 'torch' not in sys.modules\n"
    "print(*take_devices(int(sys.argv[1]), sys.argv[2] == 'shared'), flush=True)\n"
    "print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\nsys.stdin.read()\n"
)
WAIT_SECONDS = 0.8
"""Longer than a job looks again for a free device, and than it needs to start."""


class Machine:
    """A machine with some GPUs, and the jobs that were started on it."""

    def __init__(self, folder, gpus):
        self.jobs = []
        program = folder / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{i}, GPU-{name}'\n" for i, name in enumerate(gpus)))
        program.chmod(0o755)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "CUDA_", "FOLDBENCH_DEVICES"))}
        self.environment = {**clean, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder)}

    def start(self, count=1, share="shared", **environment):
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, str(count), share],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.jobs.append(job)
        return job


def takes(job):
    """The devices that a job took, once it has."""
    taken, seen = job.stdout.readline().split(), job.stdout.readline().strip()
    assert not taken or seen == ",".join(taken)
    return {name.removeprefix("GPU-") for name in taken}


def waits(job):
    """Whether a job says that it waits, and does."""
    assert "waiting for" in job.stderr.readline()
    time.sleep(WAIT_SECONDS)
    return job.poll() is None


def end(job):
    job.stdin.close()
    assert job.wait(timeout=20) == 0


@pytest.fixture
def machine(tmp_path):
    started = []

    def make(*gpus):
        started.append(Machine(tmp_path, gpus))
        return started[-1]

    yield make
    for each in started:
        for job in each.jobs:
            job.kill()
            job.wait()


def test_each_job_has_a_device_of_its_own_and_a_killed_one_keeps_none(machine):
    two = machine("a", "b")
    first, second = two.start(), two.start()
    assert [*takes(first), *takes(second)] in (["a", "b"], ["b", "a"])
    third = two.start()
    assert waits(third)
    second.send_signal(signal.SIGKILL)
    assert takes(third) in ({"a"}, {"b"})
    end(first)
    end(third)
    assert takes(two.start()) == {"a"}


def test_a_job_of_two_devices_is_not_passed_by_later_ones(machine):
    two = machine("a", "b")
    first = two.start()
    (has,) = takes(first)
    large = two.start(2)
    assert waits(large)
    small = two.start()  # the other device is free, and meant for the large one
    assert waits(small)
    end(first)
    assert takes(large) == {"a", "b"}
    assert small.poll() is None
    end(large)
    assert takes(small) == {"a"}


def test_several_small_jobs_share_a_device_where_the_setting_says_so(machine):
    two = machine("a", "b")
    jobs = [two.start(FOLDBENCH_JOBS_A_DEVICE="2") for _ in range(4)]
    assert sorted(name for job in jobs for name in takes(job)) == ["a", "a", "b", "b"]
    alone = two.start(share="alone", FOLDBENCH_JOBS_A_DEVICE="2")  # one that measures
    assert waits(alone)
    for job in jobs:
        end(job)
    (its,) = takes(alone)
    jobs = [two.start(FOLDBENCH_JOBS_A_DEVICE="2") for _ in range(2)]
    assert [takes(job) for job in jobs] == [{"a", "b"} - {its}] * 2


def test_jobs_spread_over_devices_before_they_share_one(machine):
    three = machine("a", "b", "c")
    jobs = [three.start(FOLDBENCH_JOBS_A_DEVICE="3") for _ in range(3)]
    assert sorted(name for job in jobs for name in takes(job)) == ["a", "b", "c"]


def test_a_job_takes_what_it_may_see_only(machine):
    four = machine("aaaa0", "bbbb1", "cccc2", "dddd3")
    assert takes(four.start(CUDA_VISIBLE_DEVICES="2,1")) == {"cccc2"}
    assert takes(four.start(CUDA_VISIBLE_DEVICES="GPU-cccc,1")) == {"bbbb1"}, "by number and by name it is the same one"
    assert takes(four.start(2, CUDA_VISIBLE_DEVICES="0,3,-1,2")) == {"aaaa0", "dddd3"}
    assert takes(four.start(CUDA_VISIBLE_DEVICES="")) == set()
    refused = four.start(2, CUDA_VISIBLE_DEVICES="0")
    assert refused.wait(timeout=20) == 1 and "training.devices is 2" in refused.stderr.read()


def test_where_a_cluster_or_a_launcher_decides_nothing_is_taken(machine):
    two = machine("a", "b")
    given = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}
    assert [takes(two.start(**given)) for _ in range(2)] == [set(), set()]
    assert takes(two.start(SLURM_JOB_ID="7")) == set(), "no device was given"
    assert takes(two.start(LOCAL_RANK="0")) == set()
    assert takes(two.start(FOLDBENCH_DEVICES="GPU-a")) == set(), "a process that a training started for its second GPU"
    assert takes(machine().start()) == set()


def test_a_whole_node_is_shared_out_among_the_jobs_of_the_allocation(machine):
    two = machine("a", "b")
    node = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert {*takes(two.start(**node)), *takes(two.start(**node))} == {"a", "b"}
    assert takes(two.start(**{**node, "SLURM_JOB_ID": "8"})) == {"a"}, "of another allocation, another GPU"


def test_locks_are_for_all_users_of_the_machine(machine, tmp_path):
    before = os.umask(0o077)
    try:
        assert takes(machine("a").start()) == {"a"}
    finally:
        os.umask(before)
    folder = tmp_path / "foldbench-devices"
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"queue": 0o644, "GPU-a": 0o644}


def test_a_task_under_srun_has_cpus_for_what_reads_ahead_too(tmp_path):
    program = tmp_path / "srun"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    shutil.copy(ROOT / TINY, tmp_path)
    system = "{method: baselines.all_physical, backbone: {layers: 2}, training: {devices: 2, workers: 3}}"
    (tmp_path / "two.yaml").write_text(f"extends: tiny\nsystems: {{two: {system}}}\n")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = train("two", tmp_path, tmp_path / "out", tmp_path / "two.yaml", PATH=path, SLURM_JOB_ID="7")
    threads = load_experiment(str(tmp_path / "two.yaml")).threads
    assert {"--ntasks=2", f"--cpus-per-task={threads + 3}", "workflows.train"} <= set(done.stdout.split()), done.stderr


def test_a_machine_without_nvidia_smi_is_read_off_its_devices():
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "MIG-4d, 0"})[:1] == ["MIG-4d"]
    environment = {"CUDA_VISIBLE_DEVICES": "-1", "SLURM_JOB_ID": "7"}
    assert take_devices(1, environment=environment) == []
    assert taken_devices({"CUDA_VISIBLE_DEVICES": "0,1"}) == ["0", "1"]
    assert taken_devices({}) == []


def test_a_wrong_setting_is_said():
    for text in ("0", "two", ""):
        with pytest.raises(UserError, match=f"FOLDBENCH_JOBS_A_DEVICE is '{text}'"):
            jobs_a_device_of({"FOLDBENCH_JOBS_A_DEVICE": text})


def test_a_training_says_which_device_it_took(machine, run, tmp_path):
    environment = machine("a", "b").environment
    holder = machine("a", "b").start()
    assert takes(holder) == {"a"}
    done = train("a2", run / "data/synth", tmp_path / "a2", run.parent / "tiny.yaml", **environment)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "a2/provenance.json")["visible_devices"] == ["GPU-b"]


def test_a_job_asks_snakemake_and_slurm_for_what_it_takes(monkeypatch):
    entries = {"one": 1, "four": 4}
    systems = {
        name: {"method": "baselines.all_physical", "training": {"devices": number}} for name, number in entries.items()
    }
    experiment = load_experiment(TINY)
    changed = experiment.model_copy(
        update={"systems": {name: SystemEntry(**entry) for name, entry in systems.items()}, "tables": {}, "figures": {}}
    )
    here, there = (Edges(changed, "results", under_slurm=lambda answer=answer: answer) for answer in (False, True))
    one, four = (SimpleNamespace(system=name) for name in entries)
    assert [here.devices(each) for each in (one, four)] == [1, 4]
    assert [getattr(here, key)(four) for key in ("tasks", "one_node", "launcher")] == [None, None, None]
    assert [getattr(there, key)(one) for key in ("tasks", "one_node", "launcher")] == [None, None, None]
    assert [getattr(there, key)(four) for key in ("tasks", "one_node", "launcher")] == [4, 1, "srun"]
    monkeypatch.setenv("FOLDBENCH_JOBS_A_DEVICE", "3")
    assert [here.devices(each) for each in (one, four)] == [1, 12], "a device is three places"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with (ROOT / "workflows/profiles/gpu/config.yaml").open() as file:
        assert ProfileConfigFileParser().parse(file)["resources"] == ["gpu=6", "measuring=1"]
