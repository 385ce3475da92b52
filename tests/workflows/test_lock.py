"""One run at a time in a results folder, and a killed one is gone on with: real Snakemake and kills, a toy workflow."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import UserError
from tests.workflows.commands import BIN, ROOT, one_clear_error, read
from workflows.lock import RunLock, processes_of

# A job that works until it may go on, and leaves a sign of life all the while.
SNAKEFILE = """
FOLDER = f"results/{config['experiment']}"
rule all:
    input: f"{FOLDER}/b.txt"
rule a:
    output: f"{FOLDER}/a.txt"
    params: folder=FOLDER
    shell: "while [ ! -e {params.folder}/go ]; do touch {params.folder}/alive; sleep 0.05; done; echo a > {output}"
rule b:
    input: f"{FOLDER}/a.txt"
    output: f"{FOLDER}/b.txt"
    shell: "cp {input} {output}"
"""


class Place:
    """A working directory with a toy workflow, and the runs that were started there."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, []
        (folder / "Snakefile").write_text(SNAKEFILE)

    def results(self, name="toy"):
        return self.folder / "results" / name

    def start(self, name="toy", locked=True):
        snakemake = [str(BIN / "snakemake"), "--cores", "1", "-q", "--rerun-incomplete"]
        words = [*snakemake, "--config", f"experiment={name}"]
        if locked:
            words = [sys.executable, "-m", "workflows.lock", f"results/{name}", "--", *words]
        self.started.append(self._popen(words))
        return self.started[-1]

    def _popen(self, words):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        return subprocess.Popen(words, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)

    def at_work(self, name="toy", locked=True):
        """Start a run and wait until its job is at work, Snakemake has locked, and the lock file knows."""
        process = self.start(name, locked)
        wait(lambda: (self.results(name) / "alive").exists())
        if locked:
            wait(lambda: len(self.record(name)["snakemake_locks"]) == 2)
        return process

    def record(self, name="toy"):
        return read(self.results(name) / "run.lock")

    def snakemake_locks(self):
        return sorted(path.name for path in (self.folder / ".snakemake/locks").glob("*.lock"))

    def go(self, name="toy"):
        """Let the job end."""
        (self.results(name) / "go").touch()

    def works_again(self, name="toy"):
        """Whether the job gives signs of life from now on."""
        alive = self.results(name) / "alive"
        alive.unlink(missing_ok=True)
        time.sleep(0.5)
        return alive.exists()

    def unlock(self):
        return done(self._popen([sys.executable, "-m", "workflows.lock", "results/toy", "--unlock"]))


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for process in place.started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def wait(condition, seconds=60):
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, UserError, KeyError):
            pass
        assert time.monotonic() < until
        time.sleep(0.05)


def done(process):
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def goes_on(place):
    """The next start ends well, in one line says why it could, and leaves nothing locked."""
    place.go()
    after = done(place.start())
    assert after.returncode == 0, after.stderr
    (note,) = [line for line in after.stderr.splitlines() if line.startswith("note: ")]
    assert (place.results() / "b.txt").read_text() == "a\n"
    assert (place.results() / "run.lock").read_text() == "" and place.snakemake_locks() == []
    return note


def test_after_a_kill_of_everything_the_next_run_goes_on(place):
    first = place.at_work()
    process = place.record()["process"]
    os.killpg(first.pid, signal.SIGKILL)
    done(first)
    refused = done(place.start(locked=False))
    assert refused.returncode != 0 and "--unlock" in refused.stderr, "what Snakemake alone does after a kill"
    note = goes_on(place)
    assert f"the last run (process {process} on " in note and "the locks that its Snakemake left were removed" in note


def test_a_second_run_is_refused_and_the_first_unharmed(place):
    first = place.at_work()
    locks = place.snakemake_locks()
    process = place.record()["process"]
    second = done(place.start())
    one_clear_error(second, "results/toy: another run is at work there", f"process {process} on ", f"kill {process}")
    assert place.snakemake_locks() == locks and place.works_again()
    one_clear_error(place.unlock(), "results/toy: a run is at work there", "it is not dead")
    place.go()
    assert done(first).returncode == 0 and (place.results() / "run.lock").read_text() == ""


def test_two_runs_started_at_once(place):
    """Whichever comes first: one works, the other is refused."""
    place.results().mkdir(parents=True)
    both = [place.start(), place.start()]
    wait(lambda: any(process.poll() is not None for process in both))
    (refused,) = [process for process in both if process.poll() is not None]
    one_clear_error(done(refused), "results/toy: another run is")
    place.go()
    (other,) = [process for process in both if process is not refused]
    assert done(other).returncode == 0


def test_a_killed_snakemake_takes_its_jobs_with_it(place):
    first = place.at_work()
    os.kill(place.record()["process"], signal.SIGKILL)
    assert done(first).returncode == 128 + signal.SIGKILL
    assert not place.works_again()
    goes_on(place)


def test_snakemake_that_outlives_its_starter_keeps_the_lock(place):
    first = place.at_work()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    snakemake = place.record()["process"]
    one_clear_error(done(place.start()), f"process {snakemake} on ", "another run is at work there")
    assert place.works_again()
    place.go()
    wait(lambda: not processes_of(place.results() / "run.lock"))
    assert (place.results() / "b.txt").exists()
    assert done(place.start()).returncode == 0 and (place.results() / "run.lock").read_text() == ""


def test_jobs_that_outlive_their_run_are_ended(place):
    first = place.at_work()
    for process in (first.pid, place.record()["process"]):
        os.kill(process, signal.SIGKILL)
    assert place.works_again(), "the job knows nothing of it"
    left = processes_of(place.results() / "run.lock")
    assert left
    after = place.start()
    wait(lambda: not set(left) & set(processes_of(place.results() / "run.lock")))
    place.go()
    result = done(after)
    assert result.returncode == 0, result.stderr
    assert "was killed, what was left of it was ended, the locks that its Snakemake left were removed" in result.stderr


def test_a_run_of_another_host_is_not_judged(place):
    first = place.at_work()
    os.killpg(first.pid, signal.SIGKILL)
    done(first)
    lock = place.results() / "run.lock"
    lock.write_text(lock.read_text().replace(os.uname().nodename, "elsewhere"))
    before, locks = lock.read_text(), place.snakemake_locks()
    one_clear_error(done(place.start()), "a run of another host has not ended", "on elsewhere, since", "--unlock")
    assert lock.read_text() == before and place.snakemake_locks() == locks
    unlocked = place.unlock()
    assert (
        unlocked.returncode == 0 and "is forgotten, the locks that its Snakemake left were removed" in unlocked.stderr
    )
    assert lock.read_text() == "" and place.snakemake_locks() == []
    place.go()
    assert done(place.start()).returncode == 0


def test_locks_of_snakemake_that_others_hold_are_left_alone(place):
    """A run of another folder, and one that was started without us after ours was killed."""
    other = place.at_work("other")
    first = place.at_work()
    os.killpg(first.pid, signal.SIGKILL)
    done(first)
    mine, others = (place.record(name)["snakemake_locks"] for name in ("toy", "other"))
    assert set(place.snakemake_locks()) == {*mine, *others}
    for name in mine:  # as `snakemake --unlock` does
        (place.folder / ".snakemake/locks" / name).unlink()
    (place.results() / "alive").unlink()
    place.at_work(locked=False)
    locks = place.snakemake_locks()
    refused = done(place.start())
    assert refused.returncode != 0 and "Directory cannot be locked" in refused.stderr
    assert place.snakemake_locks() == locks and place.works_again() and place.works_again("other")
    for name in ("toy", "other"):
        place.go(name)
    assert done(other).returncode == 0


def test_where_the_file_system_has_no_flock_the_process_decides(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    mark = {**os.environ, "FOLDBENCH_RUN_LOCK": str((tmp_path / "run.lock").resolve())}
    holder = subprocess.Popen(["sleep", "60"], env=mark)
    record = {"host": os.uname().nodename, "process": holder.pid, "since": "now", "snakemake_locks": {}}
    (tmp_path / "run.lock").write_text(str(record).replace("'", '"'))
    with pytest.raises(UserError, match=f"another run is at work there .process {holder.pid} on"):
        RunLock(tmp_path).take()
    holder.kill()
    holder.wait()
    RunLock(tmp_path).take()
    assert (tmp_path / "run.lock").read_text() == ""


def test_a_command_that_is_none_and_a_folder_that_cannot_be_written(place, tmp_path):
    words = [sys.executable, "-m", "workflows.lock", "results/toy", "--", "no-such-command"]
    one_clear_error(done(place._popen(words)), "no-such-command: cannot be run")
    (tmp_path / "results/toy/run.lock").unlink()
    (tmp_path / "results/toy/run.lock").mkdir()
    one_clear_error(done(place.start()), "run.lock: cannot be opened")
    shutil.rmtree(tmp_path / "results")
    (tmp_path / "results").write_text("")
    one_clear_error(done(place.start()), "results/toy: cannot be made")


def test_make_starts_snakemake_through_the_lock():
    words = ["make", "-n", "reproduce", "EXPERIMENT=my folder/x.yaml"]
    planned = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m workflows.folder --experiment 'my folder/x.yaml'" in planned
    assert 'python -m workflows.lock "$folder" -- .venv/bin/snakemake' in planned


def test_the_folder_is_that_of_the_experiments_name(tmp_path):
    (tmp_path / "x.yaml").write_text((ROOT / "tests/workflows/tiny.yaml").read_text() + "name: other\n")
    words = [sys.executable, "-m", "workflows.folder", "--experiment", str(tmp_path / "x.yaml")]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "results/other\n"
