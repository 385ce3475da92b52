"""Results folders with chosen errors: every row of a table is a system, every speaker makes as many errors as asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.scoring.speakers import write_speakers
from analysis.scoring.trn import write_trn
from tests.analysis.choices import choices
from tests.analysis.results_folder import write_json

Errors = Sequence[int] | Mapping[str, Sequence[int]]  # of each speaker, on all sets or by set
TABLES = {f"table{number}": f"paper_table{number}" for number in (1, 2, 3, 4)}
OWN = "mine"  # a table beside which nothing was published


def make(
    folder: Path,
    rows: Mapping[str, Sequence[Sequence[Errors]]],
    parameters: Mapping[str, int] | None = None,
    costs: Mapping[str, Mapping] | None = None,
    words: int = 50,
    utterances: int = 1,
    evidence: bool = True,
    test_sets: Sequence[str] = ("test",),
    further_sets: Sequence[str] = (),
) -> Path:
    """Write a folder. `rows` maps `table1.S1` to errors by seed, path and speaker; speakers are the same everywhere,
    and a row has seeds from 0 on, those of the first row being the experiment's.

    Every speaker speaks `utterances` of `words` words in each set; errors are substitutions, three words apart, or as
    far as there is room for. Rows with `parameters` have costs, with `costs` among them.
    """
    seeds, sets = range(len(next(iter(rows.values())))), [*test_sets, *further_sets]
    first = next(iter(rows.values()))[0][0]
    speakers = len(first[sets[0]] if isinstance(first, Mapping) else first)
    spoken = {f"spk{s}-{u}": [f"w{n}" for n in range(words)] for s in range(speakers) for u in range(utterances)}
    for name in sets:
        write_trn(folder / "data" / f"{name}.trn", [(utterance, " ".join(text)) for utterance, text in spoken.items()])
        write_speakers(folder / "data" / f"{name}.speakers.json", {each: each.partition("-")[0] for each in spoken})
    for row, by_seed in rows.items():
        for seed, paths in enumerate(by_seed):
            _system(
                folder,
                system(row),
                seed,
                paths,
                spoken,
                utterances,
                sets,
                test_sets,
                (parameters or {}).get(row),
                (costs or {}).get(row, {}),
            )
    tables = {}
    for table in {row.partition(".")[0] for row in rows}:
        named = {row.partition(".")[2]: {"system": system(row), "depth": 12} for row in rows if row.startswith(table)}
        kind = "systems" if table == OWN else table
        common = {"kind": kind, "published": TABLES.get(table), "decode": "greedy", "sets": sets}
        tables[table] = {**common, "reference": next(iter(named)), "rows": named}
    experiment = {"name": folder.name, "evidence": evidence, "corpus": {"name": "made_up"}, "dev_set": "dev"}
    experiment |= {"test_sets": [*test_sets], "further_sets": [*further_sets]}
    experiment |= {"seeds": [*seeds], "decodes": {"greedy": {}}, "tables": tables}
    own = {system(row): {"seeds": [*range(len(by_seed))]} for row, by_seed in rows.items()}
    write_json(folder / "experiment.json", {**experiment, "systems": own})
    return folder


def system(row: str) -> str:
    """The name of a row's system."""
    return f"s_{row.replace('.', '_')}"


def _system(folder, name, seed, paths, spoken, utterances, sets, test_sets, parameters, further_costs) -> None:
    home = folder / "systems" / name / f"seed{seed}"
    points = []
    for number, errors in enumerate(paths):
        for one in sets:
            here = errors[one] if isinstance(errors, Mapping) else errors
            heard = []
            for position, (utterance, text) in enumerate(spoken.items()):
                share, extra = divmod(here[position // utterances], utterances)
                count = share + (position % utterances < extra)
                apart = min(3, len(text) // max(count, 1))
                wrong = {apart * n for n in range(count)}
                heard.append((utterance, " ".join("x" if n in wrong else word for n, word in enumerate(text))))
            write_trn(home / "eval" / "greedy" / one / f"p{number}.trn", heard)
        point = {"id": f"p{number}", "path": [1] * 11 + [1 + number], "depth": 12, "offered": True, "trained": True}
        points.append(point)
    ids, data = [point["id"] for point in points], f"results/{folder.name}/data"
    decoded = {one: {"reference": f"{data}/{one}.trn", "points": ids} for one in sets}
    header = {"system": name, "seed": seed, "physical_layers": 12}
    files = {one: folder / "data" / f"{one}.trn" for one in sets}
    greedy = {"sets": decoded, "choices": choices(home / "eval" / "greedy", files, points, test_sets, None)}
    write_json(home / "eval" / "points.json", {**header, "points": points, "decodes": {"greedy": greedy}})
    if parameters:
        cost = dict.fromkeys(("parameters_stored", "parameters_nonzero", "parameters_executed"), parameters)
        cost |= {
            "stored_bytes": 4 * parameters,
            "macs": 1,
            "real_time_factor": {"median": 0.1},
            "peak_memory_bytes": 1,
            **further_costs,
        }
        machine = {"device": "cpu", "processor": cost.pop("processor", None), "threads": 1}
        costs = {**machine, "audio_seconds": 1.0, "points": {p["id"]: cost for p in points}}
        write_json(home / "measured" / "costs.json", costs)
