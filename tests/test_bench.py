"""`make bench`: what is run, what is kept, and the page that is written. Nothing is asserted of measured times."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import suite
from benchmarks.__main__ import main
from benchmarks.comparison import Bench, Report, Row, compared, counted, parser
from benchmarks.page import README, SPEED, first_lines, page, table
from benchmarks.suite import BENCHMARKS, LIMIT, Benchmark, chosen, code, machine, run_one
from common.errors import UserError
from common.marked import lines_between

CPU = "cpu"


@pytest.mark.parametrize("device", LIMIT)
def test_all_budgets_fit_into_the_time_that_is_promised(device):
    planned = sum(each.budget(device) + suite.GRACE for each in BENCHMARKS if each.budget(device))
    assert 0 < planned <= LIMIT[device]


def test_every_benchmark_is_a_module_with_the_common_options():
    shared = {"comparison", "encoders", "espnet_search", "joint_training_tables", "page", "rates", "suite"}
    modules = {path.stem for path in Path("benchmarks").glob("[!_]*.py")}
    assert {each.module or each.name for each in BENCHMARKS} | shared >= modules
    for each in BENCHMARKS:
        assert re.search(r"^def main\(argv: ", Path(f"benchmarks/{each.module or each.name}.py").read_text(), re.M)


def test_rows():
    row = compared("step", "theirs", [(0.1, 0.2), (0.1, 0.4), (0.2, 0.2)], "work", 1.5)
    assert (row.ratio, row.low, row.high, row.repeats) == (2.0, 1.0, 4.0, 3)
    assert (row.ours, row.theirs, row.unit) == (100.0, 200.0, "ms")
    assert compared("step", "theirs", [(20.0, 10.0)], "work").unit == "s"
    text = table([vars(row), vars(counted("file", "float32", 4.0, "bytes"))])
    assert "| step | theirs | 2 (1 to 4, 3 pairs) | 1.5 | 100 ms | 200 ms | work |" in text
    assert "| file | float32 | 4 times smaller |  |  |  | bytes |" in text
    assert table([]) == ""


def bench(*options):
    return Bench(parser("x", "x").parse_args(["--device", CPU, *options]))


def test_pairs_are_taken_in_turn_after_a_warm_up():
    calls = []
    pairs = bench().in_turn(lambda: calls.append("ours"), lambda: calls.append("theirs"), 4)
    assert calls == ["ours", "theirs"] * 5 and len(pairs) == 4
    assert len(bench("--budget", "0").in_turn(int, int, 10)) == 3, "no more when the time is up"
    assert len(bench("--quick").in_turn(int, int, 10)) == 1


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="no CUDA device"):
        Bench(parser("x", "x").parse_args(["--device", "cuda"]))


def test_only_benchmarks_that_exist():
    assert [each.name for each in chosen(["sizes", "paths_tree"], CPU)] == ["paths_tree", "sizes"]
    assert "scoring" not in {each.name for each in chosen([], "cuda")}
    with pytest.raises(UserError, match="no benchmark 'path_tree'"):
        chosen(["path_tree"], CPU)


class Script(Benchmark):
    """A benchmark that is a script, in which PATH is where its rows go."""

    def command(self, device, quick, path):
        text = "import json, sys, time\nrow = dict(vars(ROW))\n" + self.options[0]
        text = text.replace("vars(ROW)", repr(vars(ROW)))
        return [sys.executable, "-c", text, str(path)]


ROW = Row("step", "theirs", 2.0, 1.0, 3.0, 5, "work", 1.0, 2.0, "ms", reach=1.5)
WRITE = "open(sys.argv[1], 'w').write(json.dumps(dict(rows=[row], facts={}, markdown='')))\n"
HERE = {"code": {"commit": "abc", "modified": False, "digest": "d"}, "machine": {"processor": "p"}}


def test_what_was_measured_is_not_measured_again_unless_it_would_be_another_thing(tmp_path):
    counting = f"open({str(tmp_path / 'count')!r}, 'a').write('x')\n"
    once = Script("once", 5, 5, (), (counting + WRITE,))
    first = run_one(once, CPU, False, tmp_path, HERE)
    assert (first["state"], first["rows"][0]["ratio"]) == ("done", 2.0)
    again = run_one(once, CPU, False, tmp_path, HERE)
    assert again["reused"] and again["rows"] == first["rows"]
    others = [
        {**HERE, "machine": {"processor": "q"}},
        {**HERE, "code": {"commit": "abc", "modified": True, "digest": "e"}},
    ]
    for other in others:
        assert "reused" not in run_one(once, CPU, False, tmp_path, other)
    assert "reused" not in run_one(once, CPU, True, tmp_path, others[-1]), "quick is another setting"
    assert (tmp_path / "count").read_text() == "xxxx"


def test_one_that_breaks_keeps_its_rows_and_is_tried_again(tmp_path):
    broken = Script("broken", 5, 5, (), (WRITE + "sys.exit('error: no more of this')\n",))
    for _ in range(2):
        found = run_one(broken, CPU, False, tmp_path, HERE)
        assert (found["state"], found["said"], len(found["rows"])) == ("failed", "error: no more of this", 1)
        assert "reused" not in found


def test_the_command_fails_when_one_of_them_does(tmp_path, monkeypatch, capsys):
    """After all have run, and with the table printed."""
    both = [Script("broken", 5, 5, (), ("sys.exit('error: no')\n",)), Script("whole", 5, 5, (), (WRITE,))]
    monkeypatch.setattr("benchmarks.__main__.chosen", lambda names, device: both)
    with pytest.raises(UserError, match="^failed: broken "):
        main(["--quick", "--results", str(tmp_path)])
    assert "| step | theirs |" in capsys.readouterr().out


def test_one_that_hangs_is_ended_with_all_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "GRACE", 0)
    child = "import subprocess\np = subprocess.Popen(['sleep', '60'])\n"
    child += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\np.wait()\n"
    hanging = Script("hanging", 2, 2, (), (WRITE + child,))
    found = run_one(hanging, CPU, False, tmp_path, HERE)
    assert found["state"] == "failed" and "longer than its 2 s" in found["said"] and len(found["rows"]) == 1
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    until = time.monotonic() + 20
    while status.exists() and status.read_text().split()[2] not in "ZX" and time.monotonic() < until:
        time.sleep(0.05)
    assert time.monotonic() < until


def test_what_is_not_installed_is_said(tmp_path):
    found = run_one(Script("away", 5, 5, ("no_such_package",), (WRITE,)), CPU, False, tmp_path, HERE)
    assert (found["state"], found["said"], found["rows"]) == ("missing", "no_such_package not installed", [])


def test_what_a_result_says_of_its_machine_and_code():
    found = machine(CPU)
    assert found["cores"] > 0 and found["device"] == "cpu" and found["packages"]["torch"] == torch.__version__
    assert len(code()["digest"]) == 64 and code() == code()


def result(name="paths_tree", state="done", said="", quick=False, rows=(ROW,)):
    machine = {"processor": "A CPU", "cores": 2, "device": "cpu", "packages": {"torch": "2.0"}}
    by = {"code": {"commit": "0123456789", "modified": True}, "machine": machine, "settings": {"quick": quick}}
    return {"name": name, "state": state, "said": said, "rows": [vars(row) for row in rows], "markdown": "", **by}


def test_the_page():
    failed = result("packed", "failed", "error: broken", rows=(counted("other", "", 3.0, "work"),))
    text = page({"cpu": [result(), failed], "cuda": []})
    assert "A CPU, 2 cores, torch 2.0, commit 0123456 with changes that no commit holds." in text
    assert "- `packed`: failed: error: broken" in text and "| other |" in text
    assert "Nothing ran on a GPU" in text and "DEVICE=cuda" in text
    lines = first_lines({"cpu": [result(), failed], "cuda": []})
    assert "| step |" in lines and "| other |" not in lines
    assert all(line in text.splitlines() for line in lines.splitlines())
    assert "Nothing ran on a GPU" not in page({"cpu": [result()], "cuda": [result()]})


def test_the_readme_has_the_first_lines_of_the_page():
    block = lines_between(README, SPEED)
    lines = Path("docs/performance.md").read_text().splitlines()
    assert block.strip() and all(line in lines for line in block.splitlines())


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "packed", "--results", str(tmp_path)]
    before = Path("docs/performance.md").read_text()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| a matrix in int8, unpacked | dense, float32 |" in done.stdout
    assert json.loads((tmp_path / "cpu/packed.json").read_text())["state"] == "done"
    assert Path("docs/performance.md").read_text() == before, "what was only tried is not published"
    assert "packed: measured before" in subprocess.run(command, capture_output=True, text=True).stderr


def test_one_that_is_ended_ends_what_it_started(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "packed", "--results", str(tmp_path)]
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    until, started = time.monotonic() + 60, []
    while not started and time.monotonic() < until:
        time.sleep(0.02)
        with contextlib.suppress(psutil.Error):  # a child that has ended meanwhile
            started = [child for child in process.children() if "benchmarks.packed" in child.cmdline()]
    process.terminate()
    assert process.wait(timeout=20) == 1
    assert started and psutil.wait_procs(started, timeout=20)[1] == []


def test_rows_are_on_disk_as_they_come(tmp_path, capsys):
    report = Report(tmp_path / "found.json")
    report.add(ROW)
    assert json.loads((tmp_path / "found.json").read_text())["rows"] == [vars(ROW)]
    assert "step: 2 (1 to 3 in 5 pairs) times as fast as theirs; work" in capsys.readouterr().out
