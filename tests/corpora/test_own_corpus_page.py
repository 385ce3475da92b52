"""The ways of docs/own_corpus.md on real recordings, laid out as the page says, through the commands of the page."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asr.corpora import archives, read_cuts
from asr.corpora.grammar import DIGITS

PAGE = Path("docs/own_corpus.md")
COMMAND = re.compile(r"^    \.venv/bin/python -m asr\.corpora folder .*(?:\n      .*)*", re.MULTILINE)


@pytest.fixture(scope="module")
def data(fsdd_archive, tmp_path_factory) -> Path:
    """Some takes of every digit and speaker as a table, as tables with splits, as a Kaldi folder and as manifests."""
    folder = tmp_path_factory.mktemp("data")
    wanted = archives.read_members(fsdd_archive, lambda name: name.suffix == ".wav" and int(name.stem[-1]) < 3)
    takes = {name: content for name, content in wanted.items() if len(name.split("_")[2]) == 5}  # of one figure
    for place in ("wav", "cv/clips", "kaldi", "lhotse"):
        (folder / place).mkdir(parents=True)
    rows = []
    for name, content in sorted(takes.items()):
        (folder / "wav" / name).write_bytes(content)
        digit, speaker, take = Path(name).stem.split("_")
        rows.append((name, DIGITS[int(digit)], speaker, int(take)))
        (folder / "cv/clips" / name).write_bytes(content)
    lines = ["audio,text,speaker", *(f"wav/{name},{text},{speaker}" for name, text, speaker, _ in rows)]
    (folder / "recordings.csv").write_text("\n".join(lines))
    for take, split in enumerate(("train", "dev", "test")):
        lines = ["client_id\tpath\tsentence", *(f"{who}\t{name}\t{text}" for name, text, who, n in rows if n == take)]
        (folder / "cv" / f"{split}.tsv").write_text("\n".join(lines))
    key = {name: f"{who}-{Path(name).stem}" for name, _, who, _ in rows}
    kaldi = {"wav.scp": lambda row: f"../wav/{row[0]}", "text": lambda row: row[1], "utt2spk": lambda row: row[2]}
    for name, value in kaldi.items():
        (folder / "kaldi" / name).write_text("".join(f"{key[row[0]]} {value(row)}\n" for row in rows))
    _write_manifests(folder, rows)
    return folder


def _write_manifests(folder: Path, rows: list) -> None:
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    found = [Recording.from_file(folder / "wav" / row[0]) for row in rows]
    said = [
        SupervisionSegment(each.id, each.id, 0.0, each.duration, text=text, speaker=who)
        for each, (_, text, who, _) in zip(found, rows, strict=True)
    ]
    RecordingSet.from_recordings(found).to_file(folder / "lhotse/recordings.jsonl.gz")
    SupervisionSet.from_segments(said).to_file(folder / "lhotse/supervisions.jsonl.gz")


def test_each_way_of_the_page_reads_the_same_recordings(data, tmp_path):
    commands = COMMAND.findall(PAGE.read_text())
    assert len(commands) == 4
    found = []
    for number, text in enumerate(commands):
        words = shlex.split(text.replace("/data/", f"{data}/"))
        out = tmp_path / str(number)
        words[words.index("--out") + 1] = str(out)
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        corpus = json.loads((out / "corpus.json").read_text())
        assert corpus["sampling_rate"] == 8000 and not (out / "audio").exists()
        assert sum(held["utterances"] for held in corpus["sets"].values()) == 180
        sets = {name: read_cuts(out / f"{name}.jsonl.gz") for name in ("train", "dev", "test")}
        found.append({name: sorted((u.audio.name, u.text, u.speaker) for u in held) for name, held in sets.items()})
        if "splits as given" not in done.stdout:
            assert done.stdout.startswith("splits made by speaker (seed 0): train 4, dev 1, test 1 of 6 speakers")
    table, given, kaldi, lhotse = found
    assert table == kaldi == lhotse
    assert {name: len(held) for name, held in given.items()} == {"train": 60, "dev": 60, "test": 60}
