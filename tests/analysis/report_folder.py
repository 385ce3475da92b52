"""What the report shows beyond the tables: sounds, logs and verdicts, added to a made-up results folder."""

import gzip
import json
from pathlib import Path

import numpy as np
import soundfile

from tests.analysis.results_folder import make, write_json

HOSTILE = "</script><script>hacked()</script>{{{{7*7}}}}\\end{{x}}&%$#_{}"
"""A word, for `str.format` with a number, that HTML, scripts, templates and LaTeX would each take for their own."""
RATE = 8000
PAPER = "arXiv 1"


def _claim(name: str, verdict: str, **further) -> dict:
    empty = dict.fromkeys(("published", "effect", "trainings", "margin", "p", "words_needed", "seeds_needed", "reason"))
    said = {"verdict": verdict, "shown": verdict, "points": "neither"}
    about = {"id": name, "paper": PAPER, "source": "Table 1", "statement": name, "parts": []}
    return {**about, **said, **empty, **further}


def _effect(value: float, low: float, high: float) -> dict:
    figure = {"name": "depth 12 minus depth 6", "value": value, "unit": "points", "interval": [low, high]}
    return figure | {"own_interval": None, "published": None}


CLAIMS = {
    "schema": 3,
    "evidence": False,
    "papers": {"arXiv 2": "Another <paper>", PAPER: "A paper"},
    "seed_variance": "own",
    "claims": [
        _claim("deeper", "reproduced", statement="Deeper is better & <b>so</b>", effect=_effect(-5.44, -7.14, -3.86)),
        _claim("no_loss", "inconclusive", effect=_effect(0.82, -0.4, 2.1), margin=0.3, p=0.2, words_needed=48000),
        _claim("collapse", "contradicted", reason="None collapsed.", parts=[_claim("f8", "contradicted")]),
        _claim(
            "one_training",
            "inconclusive",
            shown="inconclusive (1 training)",
            points="against",
            effect=_effect(1.2, 0.9, 1.5) | {"own_interval": [0.7, 1.7], "published": 0.26},
        ),
        _claim("memory", "not tested here", paper="arXiv 2"),
        _claim("our_own", "inconclusive", paper=None, source="foldbench"),
    ],
}


def complete(folder: Path) -> Path:
    """Add to a results folder what the analysis of tables does without."""
    corpus = folder / "data" / "made_up"
    sets = {}
    for name in ("dev", "test_clean", "test_noisy"):
        lines = (corpus / f"{name}.trn").read_text(encoding="utf-8").splitlines()
        utterances = [line.rpartition("(")[2].rstrip(")") for line in lines]
        _write_sounds(corpus, name, utterances)
        sets[name] = {"utterances": len(utterances), "speakers": 12, "words": 200, "seconds": len(utterances) / 2}
    write_json(corpus / "corpus.json", {"sampling_rate": RATE, "licence": "free", "sets": sets})
    for path in folder.glob("systems/*/seed*"):
        rows = [{"stage": "train", "step": n, "seconds": n, "total": 9 / n, "ctc": 8 / n} for n in range(1, 9)]
        rows.insert(4, {"stage": "train", "step": 4, "dev.total": 3.5})
        (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "claims.json", CLAIMS)
    return folder


def _write_sounds(corpus: Path, name: str, utterances: list[str]) -> None:
    """One recording of a second and two channels for all: the cut is the second half of the first channel."""
    samples = np.zeros((RATE, 2), dtype=np.int16)
    samples[RATE // 2 :, 0] = 2000
    (corpus / "audio").mkdir(exist_ok=True)
    soundfile.write(corpus / "audio" / f"{name}.wav", samples, RATE)
    sources = [{"type": "file", "channels": [0, 1], "source": f"audio/{name}.wav"}]
    with gzip.open(corpus / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
        for utterance in utterances:
            cut = {"id": utterance, "start": 0.5, "duration": 0.5, "channel": 0, "recording": {"sources": sources}}
            file.write(json.dumps(cut) + "\n")


def hostile_folder(folder: Path) -> Path:
    """A results folder whose words, title, note and licence all try to get out of their place."""
    complete(make(folder, word=HOSTILE))
    label = "<img src=x onerror=hacked()>{{ 7*7 }}"
    experiment = json.loads((folder / "experiment.json").read_text()) | {"title": label, "note": label}
    write_json(folder / "experiment.json", experiment)
    corpus = json.loads((folder / "data/made_up/corpus.json").read_text()) | {"licence": label}
    write_json(folder / "data/made_up/corpus.json", corpus)
    claims = [_claim(label, "reproduced", reason=label, published=label, source=label)]
    write_json(folder / "claims.json", CLAIMS | {"claims": claims, "papers": {PAPER: label}})
    return folder
