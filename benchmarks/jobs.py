"""How well a finished run of the workflow used its processors: the jobs' own time against the wall's.

    python -m benchmarks.jobs results/smoke                                           the newest run that made jobs
    python -m benchmarks.jobs results/smoke --log .snakemake/log/2026-….snakemake.log

Read from what Snakemake leaves: the log of the run (begin, end, cores) and the time of each job that it made
(`benchmarks/*.tsv`). A job's work is its time on one core, as jobs of `smoke` have one thread; rules that are given all
cores are counted with all of them. Jobs that measure run alone, since nothing may disturb them: they are counted apart,
and the share is that of the rest. CPU seconds are what Snakemake sampled while a job ran, which misses the end of each.
"""

import csv
import dataclasses
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.comparison import Bench, Row, counted, parser
from common.errors import UserError, run

ALL_CORES = ("prepare_data", "measure_costs")
"""Rules that take the whole machine."""
ALONE = ("measure_costs",)
REACH = 0.9
SLACK = timedelta(seconds=5)
"""A job's file is written after the log said that it had finished, or before."""


@dataclasses.dataclass(frozen=True)
class RunLog:
    """One call of Snakemake: when it began and ended, and how many cores it was given."""

    path: Path
    began: datetime
    ended: datetime
    cores: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


@dataclasses.dataclass(frozen=True)
class Job:
    rule: str
    seconds: float
    cpu_seconds: float
    ended: datetime


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("jobs", __doc__)
    options.add_argument("folder", type=Path, nargs="?", default=Path("results/smoke"), help="default: %(default)s")
    options.add_argument("--log", type=Path, help="the run's log; default: the newest that made jobs of the folder")
    arguments = options.parse_args(argv)
    report = Bench(arguments).report
    jobs = read_jobs(arguments.folder / "benchmarks")
    log, made = run_of(jobs, [arguments.log] if arguments.log else sorted(Path(".snakemake/log").glob("*.log")))
    table, rows = accounts(log, made)
    report.say(table, log=log.path.name, wall_seconds=log.seconds, cores=log.cores)
    print(table)
    report.add(*rows)
    return report.rows


def read_jobs(folder: Path) -> list[Job]:
    """Raises `UserError` where no run has left any."""
    jobs = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.stem if path.parent == folder else path.parent.name
        with open(path, newline="") as file:
            (row,) = csv.DictReader(file, delimiter="\t")
        ended = datetime.fromtimestamp(path.stat().st_mtime)
        jobs.append(Job(rule, float(row["s"]), _number(row.get("cpu_time")), ended))
    if not jobs:
        raise UserError(f"{folder}: no finished job; make reproduce writes them")
    return jobs


def _number(text: str | None) -> float:
    """Snakemake writes NA for a job that it could not sample."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def read_log(path: Path) -> RunLog | None:
    """None for a call that ran nothing, or has not ended."""
    text = path.read_text(errors="replace")
    date = re.search(r"^  Date: (.+)$", text, re.MULTILINE)
    elapsed = re.search(r"^Elapsed time: (?:(\d+) days?, )?(\d+):(\d+):([\d.]+)$", text, re.MULTILINE)
    cores = re.search(r"^Provided cores: (\d+)", text, re.MULTILINE)
    if not (date and elapsed and cores):
        return None
    began = datetime.fromisoformat(date.group(1))
    days, hours, minutes, seconds = (float(part or 0) for part in elapsed.groups())
    length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    return RunLog(path, began, began + length, int(cores.group(1)))


def run_of(jobs: Sequence[Job], paths: Iterable[Path]) -> tuple[RunLog, list[Job]]:
    """The newest run that made some of the jobs, and those. Raises `UserError` where there is none."""
    for path in reversed(list(paths)):
        if log := read_log(path):
            made = [job for job in jobs if log.began - SLACK <= job.ended <= log.ended + SLACK]
            if made:
                return log, made
    raise UserError("no log of Snakemake tells of a run that made these jobs and ended")


def accounts(log: RunLog, jobs: Sequence[Job]) -> tuple[str, list[Row]]:
    """A table by rule, and the share of the processors' time that was some job's."""
    by_rule: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_rule[job.rule].append(job)

    def work(chosen: Iterable[Job]) -> float:
        return sum(job.seconds * (log.cores if job.rule in ALL_CORES else 1) for job in chosen)

    lines = ["| rule | jobs | seconds | times threads | CPU seconds, at least |", "|:--|--:|--:|--:|--:|"]
    for rule, chosen in sorted(by_rule.items(), key=lambda item: -work(item[1])):
        seconds, cpu = sum(job.seconds for job in chosen), sum(job.cpu_seconds for job in chosen)
        lines.append(f"| {rule} | {len(chosen)} | {seconds:.1f} | {work(chosen):.1f} | {cpu:.1f} |")
    alone = sum(job.seconds for job in jobs if job.rule in ALONE)
    others = work(job for job in jobs if job.rule not in ALONE)
    rest = log.seconds - alone
    what = f"{len(jobs)} jobs, {log.seconds:.0f} s on {log.cores} cores, {alone:.0f} s of them measured jobs alone"
    share = others / (rest * log.cores) if rest > 0 else 1.0
    row = counted("jobs' own work", "wall time x cores", share, what, "of it", reach=REACH, unit="s")
    return "\n".join(lines) + "\n", [dataclasses.replace(row, ours=others, theirs=rest * log.cores)]


if __name__ == "__main__":
    sys.exit(run(main))
