"""A small results folder as a run would leave it: every system, path and set of Tables 1 and 4, with made-up errors.

A deeper path makes fewer errors, some chance aside, so that the numbers look like numbers.
"""

import json
import random
from itertools import combinations
from pathlib import Path

from analysis.scoring.speakers import speakers_file, write_speakers
from analysis.scoring.trn import write_trn
from tests.analysis.choices import choices

SETS = {"dev": 30, "test_clean": 40, "test_noisy": 40}
FOLDABLE = {"f8": (8, 4), "f6": (6, 6), "f4": (4, 4)}  # physical layers, how many of them may be repeated
ABLATIONS = {"a8": (8, 4), "d8": (8, 4), "j8": (8, 4)}
TABLE1 = {"1": ("a12", 12), "2": ("a10", 10), "3": ("a8", 8), "4": ("a6", 6), "5": ("a4", 4)}
TABLE1 |= {f"E{i + 1}": ("f8", depth) for i, depth in enumerate((12, 10, 8))}
TABLE1 |= {f"S{i + 1}": ("f6", depth) for i, depth in enumerate((12, 10, 8, 6))}
TABLE1 |= {f"F{i + 1}": ("f4", depth) for i, depth in enumerate((12, 10, 8, 6, 4))}
UNFOLDED = [1, 1, 1, 1, 2, 2, 2, 2]
TABLE4 = {"0": ("a12", [1] * 12), "1": ("a12", [1] * 8 + [0] * 4), "2": ("a8", UNFOLDED), "3": ("a8", [1] * 8)}
TABLE4 |= {"4": ("d8", UNFOLDED), "5": ("d8", [1] * 8), "E0": ("j8", UNFOLDED), "E1": ("j8", [1] * 8)}
TABLE4 |= {"K0": ("f8", UNFOLDED), "K1": ("f8", [1] * 8)}

# What `add_family` adds: foldable speech models that start from a foundation model, which recognises nothing itself.
FAMILY_SETS = {"test_other": 30}
FAMILY_TITLE = "narrow models <pre-trained> here"
FAMILY_FOLDABLE = {"fw6": (6, 6), "fw3": (3, 3)}
TABLE2 = {"1": ("w12", 12), "4": ("w6", 6), "6": ("w3", 3)}
TABLE2 |= {f"S{i + 1}": ("fw6", depth) for i, depth in enumerate((12, 10, 8, 6))}
TABLE2 |= {f"T{i + 1}": ("fw3", depth) for i, depth in enumerate((12, 9, 6, 3))}
TABLE3 = {"F_12^3-W2V2": ("fw3", 12), "six layers": ("fw6", 12)}
SENSITIVITY = [40, 22, 30, 18, 15, 24, 12, 12, 20, 33, 28, 60]  # errors in 200 words without layers 1, 2, ...
DROP_ORDER = [8, 7, 5, 4, 9, 2, 6, 11, 3, 10, 1, 12]


def paths(physical: int, repeatable: int, depth: int) -> list[list[int]]:
    """The paths of one depth under the unfolding rule, in lexicographic order."""
    fixed = physical - repeatable
    times, remainder = divmod(depth - fixed, repeatable)
    chosen = combinations(range(repeatable), remainder)
    return sorted([1] * fixed + [times + (layer in extra) for layer in range(repeatable)] for extra in chosen)


def experiment(seeds=(0,)) -> dict:
    """`experiment.json` of the folder."""
    systems = {name: {"method": "baselines.all_physical"} for name in ("a12", "a10", "a8", "a6", "a4")}
    systems |= {name: {"method": "methods.unfolding"} for name in ("f8", "f6", "f4", "d8", "j8")}
    rows4 = {name: {"system": system, "path": " ".join(map(str, path))} for name, (system, path) in TABLE4.items()}
    rows1 = {name: {"system": system, "depth": depth} for name, (system, depth) in TABLE1.items()}
    common = {"decode": "greedy"}
    return {
        "name": "tiny",
        "title": "A tiny run",
        "note": "made up",
        "evidence": False,
        "corpus": {"name": "made_up", "settings": {}},
        "dev_set": "dev",
        "test_sets": ["test_clean", "test_noisy"],
        "seeds": list(seeds),
        "decodes": {"greedy": {}, "beam": {}},
        "systems": systems,
        "tables": {
            "table1": {"kind": "table1", "published": "paper_table1", "reference": "1", "rows": rows1, **common},
            "table4": {"kind": "table4", "published": "paper_table4", "reference": "0", "rows": rows4, **common},
        },
        "figures": {
            "figure2": {
                "kind": "depth_curves",
                "systems": ["f8", "f6", "f4"],
                "baselines": ["a12", "a10", "a8", "a6", "a4"],
                **common,
            }
        },
    }


def points(system: str) -> list[dict]:
    """The points of one system: all paths it offers, and the further ones of Table 4."""
    foldable = {**FOLDABLE, **ABLATIONS, **FAMILY_FOLDABLE}
    if system != "a8" and system in foldable:
        physical, repeatable = foldable[system]
        offered = [path for depth in range(physical, 13) for path in paths(physical, repeatable, depth)]
        further = []
    else:
        physical = int(system[1:])
        offered = [[1] * physical]
        further = {"a12": [[1] * 8 + [0] * 4], "a8": [UNFOLDED]}.get(system, [])
    return [
        {
            "id": f"d{sum(path):02d}_{number:02d}",
            "path": path,
            "depth": sum(path),
            "label": " ".join(map(str, path)),
            "offered": path in offered,
            "trained": sum(path) in (physical, 12) and path in offered,
            "settings": {},
        }
        for number, path in enumerate(offered + further)
    ]


def make(folder: Path, seeds=(0,), word="w{}") -> Path:
    """Write the whole folder. `word` shapes the words, to let hostile ones in."""
    rng = random.Random(7)
    content = experiment(seeds)
    write_json(folder / "experiment.json", content)
    references = {name: _reference(rng, name, size, word) for name, size in SETS.items()}
    for name, reference in references.items():
        _write_reference(folder / "data" / "made_up" / f"{name}.trn", reference)
    few = dict(list(references["test_clean"].items())[:5])
    write_trn(folder / "data" / "made_up" / "test_clean.5.trn", _joined(few))
    for system in content["systems"]:
        for seed in seeds:
            _write_system(folder, rng, system, seed, references, few)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "train_f6.tsv").write_text("s\th:m:s\tmax_rss\n61.5\t0:01:01\t512.25\n")
    return folder


def add_family(folder: Path, seeds=(0,)) -> Path:
    """Add to a results folder a family of speech models with Tables 2 and 3, Figure 3 and a further set."""
    rng = random.Random(11)
    content = json.loads((folder / "experiment.json").read_text())
    names = ("foundation", "w12", "w6", "w3", "fw6", "fw3")
    methods = {name: "methods.unfolding" if name in FAMILY_FOLDABLE else "baselines.all_physical" for name in names}
    methods["foundation"] = "baselines.masked_prediction"
    starts = {"w12": "foundation", "w6": "w12", "w3": "w12", "fw6": "w12", "fw3": "w12"}
    for name in names:
        settings = {"start": {"system": starts[name], "layers": "sensitivity"}} if name in starts else {}
        content["systems"][name] = {"family": "w2v2", "method": methods[name], "settings": settings}
    content["families"] = {"w2v2": {"title": FAMILY_TITLE, "backbone": {"name": "wav2vec2"}, "decodes": ["greedy"]}}
    content["further_sets"] = [*FAMILY_SETS]
    rows2, rows3 = (
        {name: {"system": system, "depth": depth} for name, (system, depth) in rows.items()}
        for rows in (TABLE2, TABLE3)
    )
    common = {"decode": "greedy"}
    sets = ["test_clean", "test_other", "dev"]
    content["tables"] |= {
        "table2": {
            "kind": "table2", "published": "paper_table2", "reference": "1", "sets": sets, "rows": rows2, **common
        },
        "table3": {
            "kind": "table3", "published": "paper_table3", "reference": "F_12^3-W2V2", "rows": rows3, **common
        },
    }  # fmt: skip
    content["figures"]["figure3"] = {
        "kind": "depth_curves",
        "systems": ["fw6", "fw3"],
        "baselines": ["w12", "w6", "w3"],
        "table": "table2",
        "sensitivity": "w12",
        **common,
    }
    write_json(folder / "experiment.json", content)
    data = folder / "data" / "made_up"
    references = {name: _reference(rng, name, size, "w{}") for name, size in FAMILY_SETS.items()}
    for name, reference in references.items():
        _write_reference(data / f"{name}.trn", reference)
    references |= {name: _read(data / f"{name}.trn") for name in SETS}
    for seed in seeds:
        for name in names[1:]:
            _write_system(folder, rng, name, seed, references, {})
        home = folder / "systems" / "foundation" / f"seed{seed}"
        header = {"schema": 1, "system": "foundation", "seed": seed, "physical_layers": 12}
        write_json(home / "eval" / "points.json", {**header, "points": [], "decodes": {}})
        costs = {"device": "cpu", "threads": 1, "audio_seconds": 10.0, "points": {}}
        write_json(home / "measured" / "costs.json", {**header, **costs, "schema": 2})
        write_json(folder / "systems" / "w12" / f"seed{seed}" / "sensitivity.json", sensitivity(seed))
    return folder


def sensitivity(seed: int = 0) -> dict:
    """`sensitivity.json` of `w12`."""

    def counts(errors: int) -> dict:
        return {"sub": errors, "del": 0, "ins": 0, "ref_words": 200}

    without = [{"layer": layer, **counts(errors)} for layer, errors in enumerate(SENSITIVITY, start=1)]
    header = {"schema": 1, "system": "w12", "seed": seed, "physical_layers": 12, "decode": "greedy", "set": "dev"}
    return {**header, "full": counts(10), "without": without, "drop_order": DROP_ORDER}


def _read(path: Path) -> dict[str, list[str]]:
    """The utterances of a `.trn` file with their words."""
    lines = [line.rpartition(" (") for line in path.read_text(encoding="utf-8").splitlines()]
    return {utterance.rstrip(")"): words.split() for words, _, utterance in lines}


def _write_system(folder: Path, rng: random.Random, system: str, seed: int, references: dict, few: dict) -> None:
    """All files of one system. `few` are the utterances of its beam search; a system without any has none."""
    home = folder / "systems" / system / f"seed{seed}"
    all_points = points(system)
    physical = len(all_points[0]["path"])
    for point in all_points:
        for name, reference in references.items():
            rate = 0.03 + 0.9 / point["depth"] / physical**0.5 + 0.03 * (name in ("test_noisy", "test_other"))
            rate += 0.3 * (not point["offered"])
            heard = {u: _recognise(rng, words, rate) for u, words in reference.items()}
            write_trn(home / "eval" / "greedy" / name / f"{point['id']}.trn", _joined(heard))
    first = all_points[0]["id"]
    data = f"results/{folder.name}/data/made_up"
    ids = [point["id"] for point in all_points]
    greedy = {n: {"reference": f"{data}/{n}.trn", "points": ids, "utterances": len(r)} for n, r in references.items()}
    files = {name: folder / "data/made_up" / f"{name}.trn" for name in references}
    chosen = choices(home / "eval" / "greedy", files, all_points, ["test_clean", "test_noisy"], "dev")
    decodes = {"greedy": {"sets": greedy, "choices": chosen}}
    if few:
        write_trn(home / "eval" / "beam" / "test_clean" / f"{first}.trn", _joined(few))
        beam = {"test_clean": {"reference": f"{data}/test_clean.5.trn", "points": [first], "utterances": len(few)}}
        decodes["beam"] = {"sets": beam}
    header = {"schema": 1, "system": system, "seed": seed}
    write_json(
        home / "eval" / "points.json", {**header, "physical_layers": physical, "points": all_points, "decodes": decodes}
    )
    parameters = 100_000 + 10_000 * physical
    cost = {
        "parameters_stored": parameters,
        "parameters_nonzero": parameters,
        "parameters_executed": parameters,
        "stored_bytes": 4 * parameters,
        "macs": 10**9,
        "real_time_factor": {"median": 0.01, "min": 0.009, "max": 0.02, "repeats": 5},
        "peak_memory_bytes": 10**7,
        "training_peak_memory_bytes": 3 * 10**7,
        "training_step_seconds": {"median": 0.2, "min": 0.19, "max": 0.22, "repeats": 3},
        "training_seconds": 64.0,
    }
    costs = {
        **header,
        "schema": 2,
        "device": "cpu",
        "threads": 1,
        "audio_seconds": 10.0,
        "points": dict.fromkeys(ids, cost),
    }
    write_json(home / "measured" / "costs.json", costs)
    provenance = {**header, "commit": "0" * 40, "device": "cpu", "versions": {"python": "3.11"}, "wall_seconds": 61.5}
    write_json(home / "provenance.json", provenance)


def _reference(rng: random.Random, name: str, size: int, word: str) -> dict[str, list[str]]:
    words = [word.format(n) for n in range(20)]
    return {f"spk{n % 12}-{name}-{n:03d}": rng.choices(words, k=rng.randint(3, 9)) for n in range(size)}


def _recognise(rng: random.Random, words: list[str], rate: float) -> list[str]:
    return [rng.choice(words) + "x" if rng.random() < rate else word for word in words if rng.random() > rate / 4]


def _write_reference(path: Path, utterances: dict[str, list[str]]) -> None:
    """The words of a set, and beside them its speakers."""
    write_trn(path, _joined(utterances))
    write_speakers(speakers_file(path), {utterance: utterance.partition("-")[0] for utterance in utterances})


def _joined(utterances: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(utterance, " ".join(words)) for utterance, words in utterances.items()]


def write_json(path: Path, value) -> None:
    """Write JSON, making the folders on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
