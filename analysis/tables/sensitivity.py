"""How much each layer of a system matters: its WER with that layer left out, and when the layer is dropped.

The counts are those of `sensitivity.json`, which decided the drop order; they are not scored again.
"""

from analysis.inputs.results import Results
from analysis.inputs.studies import Sensitivity
from analysis.tables.formats import Column, Table

COLUMNS = [
    Column("system", "system", numeric=False),
    Column("seed", "seed"),
    Column("layer", "layer left out"),
    *[Column(key) for key in ("sub", "del", "ins", "ref_words")],
    Column("wer", "WER %"),
    Column("full_wer", "full model WER %"),
    Column("increase", "increase"),
    Column("rank", "place in the drop order"),
]


def sensitivity_table(results: Results) -> Table:
    """One line for each layer of every system whose sensitivity a figure shows; no line where none does."""
    rows, measured = [], []
    shown = [figure.sensitivity for figure in results.experiment.figures.values() if figure.sensitivity is not None]
    for system in dict.fromkeys(shown):
        for seed in results.seeds_of_study("sensitivity", system):
            found = results.sensitivity(system, seed)
            if found is not None:
                measured.append(found)
                rows += [_cells(found, number) for number in range(found.physical_layers)]
    notes = [_order(found, len(results.seeds_of_study("sensitivity", found.system)) > 1) for found in measured]
    notes += [
        "Counted on the words as they were recognised: no normaliser, as when the order was decided.",
        *results.experiment.family_notes(row["system"] for row in rows),
    ]
    title = f"Sensitivity: WER with one layer left out ({results.experiment.name})"
    return Table("sensitivity", title, COLUMNS, rows, notes)


def _cells(found: Sensitivity, number: int) -> dict:
    variant, full = found.without[number], found.full.wer
    wer = variant.counts.wer
    return {
        "system": found.system,
        "seed": found.seed,
        "layer": variant.layer,
        **variant.counts.to_json(),
        "wer": (wer, f"{wer:.2f}"),
        "full_wer": (full, f"{full:.2f}"),
        "increase": (wer - full, f"{wer - full:+.2f}"),
        "rank": found.rank(variant.layer),
    }


def _order(found: Sensitivity, several_seeds: bool) -> str:
    seed = f" (seed {found.seed})" if several_seeds else ""
    return (
        f"{found.system}{seed}, measured on {found.set} (decode: {found.decode}): layers are dropped in the order "
        f"{', '.join(map(str, found.drop_order))}."
    )
