"""What stands below a table: how its numbers came about, what may be compared, what is known about the paper's own."""

from analysis.inputs.published import slips
from analysis.tables.accepted import accepted_notes
from analysis.tables.cells import CONSTANT, FEW, FEW_SPEAKERS
from analysis.tables.choice_notes import choice_notes
from analysis.tables.content import Content
from analysis.tables.formats import MISSING
from analysis.tables.rows import most_seeds, seeds_differ, shown_numbers

OTHER_DATA = "The paper's numbers come from other data and larger systems: compare directions, not values."
OTHER_MODELS = (
    "The paper's numbers are for LibriSpeech with wav2vec2-base and HuBERT-base; with other speech or smaller models "
    "compare directions, not values."
)


def pooled_notes(content: Content) -> list[str]:
    experiment, spec, rows = content.experiment, content.spec, content.rows
    notes = [
        f"WER in percent, from errors pooled over {', '.join(experiment.test_sets)} (decode: {spec.decode}), aligned "
        "as NIST's sclite does.",
        OTHER_DATA,
        _star(content, f"Sys. {spec.reference}", "all test sets pooled"),
    ]
    holm = f"corrected for this table's {len(rows) - 1} comparisons" if len(rows) > 2 else None
    return [*notes, *_common_notes(content, holm)]


def notes_by_set(content: Content) -> list[str]:
    experiment, spec, rows = content.experiment, content.spec, content.rows
    notes = [
        f"WER in percent (decode: {spec.decode}), aligned as NIST's sclite does; pooled over "
        f"{', '.join(experiment.test_sets)}, and for each set by itself.",
        OTHER_MODELS,
        _star(content, f"Sys. {spec.reference} on the same set", "that set alone; for the pooled WER all test sets")
        + " As in the paper, a star is not corrected for the number of cells.",
    ]
    if experiment.dev_set in content.sets:
        notes.append(f"{experiment.dev_set} is the development set, on which training is validated.")
    cells = (len(rows) - 1) * len(content.sets)
    holm = f"corrected for all {cells} cells of the table, that of the pooled WER for its {len(rows) - 1} rows"
    return [*notes, *_common_notes(content, holm if cells > 1 else None)]


def notes_of_methods(content: Content, test_set: str) -> list[str]:
    spec, rows = content.spec, content.rows
    notes = [
        f"WER in percent on {test_set} (decode: {spec.decode}), aligned as NIST's sclite does.",
        OTHER_MODELS,
        "Like for like are our rows among each other, and in protocol the paper's F_12 rows with ours: the whole model "
        "is fine-tuned. The competitors' published WERs are not like for like with either: theirs are SUPERB's, where "
        "the compressed encoder is frozen and a BLSTM is trained on a weighted sum of its layers. In that way "
        "wav2vec2-base itself has 6.43 %, fully fine-tuned 5.41 %.",
        "Training data: transcribed speech for full fine-tuning, untranscribed for the distilled models; what the "
        "foundation model saw before is not counted. Models in memory: what is held while the compressed model trains.",
    ]
    if len(rows) > 1:
        notes.append(_star(content, spec.reference, f"on {test_set}"))
    holm = f"corrected for this table's {len(rows) - 1} comparisons" if len(rows) > 2 else None
    return [*notes, *_common_notes(content, holm)]


def notes_of_own(content: Content, zeros: bool) -> list[str]:
    """`zeros`: whether the table has shares of zeros."""
    experiment, spec, rows = content.experiment, content.spec, content.rows
    notes = [
        f"WER in percent, from errors pooled over {', '.join(experiment.test_sets)} (decode: {spec.decode}), aligned "
        "as NIST's sclite does.",
        "Bits a weight: of the matrices of the physical layers on disk, scales included. kB: all weights and buffers "
        "that the point needs, decoder and CTC layer among them; 1 kB = 1000 bytes.",
    ]
    if zeros:
        notes.append(
            "Zeros: of the weights of these matrices as they run, and of all encoder parameters, of which papers count "
            "them; of the whole system, whatever part of it a point executes. Rounding leaves zeros too."
        )
    notes.append(
        "Few bits and zeros change bytes here, not operations: what runs are dense products of unpacked weights. "
        "Times, memory and multiply-accumulates as they were measured stand in the table of costs."
    )
    pairs = [name for name in rows if spec.reference_of(name) is not None]
    if pairs:
        notes.append(_star(content, "the row named under 'against'", "all test sets pooled"))
    holm = f"corrected for this table's {len(pairs)} comparisons" if len(pairs) > 1 else None
    return [*notes, *_common_notes(content, holm)]


def _star(content: Content, reference: str, where: str) -> str:
    """What the star means; with several seeds it is a count."""
    seeds = most_seeds(content.rows.values())
    counted = f"; * {seeds - 1}/{seeds} says in how many seeds it is kept, each tested by itself" if seeds > 1 else ""
    return (
        f"* no significant increase over {reference}: left out only where MAPSSWE (two-sided, p < 0.05, {where}) finds "
        "a difference and the system makes more errors; where MAPSSWE is weak or says nothing, the exact (sign-flip) "
        f"test decides{counted}."
    )


def _common_notes(content: Content, holm: str | None) -> list[str]:
    """Paths, seeds, corrections (`holm` says for what), intervals, what the models are, the paper's slips."""
    experiment, spec, rows = content.experiment, content.spec, content.rows
    several = most_seeds(rows.values()) > 1
    notes, over = [], experiment.resampled
    notes += choice_notes(content)
    if several:
        notes.append(
            f"{shown_numbers(rows.values())} seeds: a WER is the mean over them, which is the rate of all their errors "
            f"together, for all hear the same words. Every interval is over seeds and {over}, p is that of the "
            "difference over both. Tests and paths belong to one seed: they are given for each, a path once where all "
            "have the same. In CSV substitutions, deletions and insertions are sums over the seeds, reference words "
            "are counted once."
        )
        notes += _unequal_seeds(content)
    else:
        notes.append("One seed: intervals and tests say what other speech would give, not what another training would.")
    if holm:
        weak = "; it starts from the exact p (sign-flip test) where one is shown, which is where MAPSSWE's own is weak"
        notes.append(f"Holm p: {holm}{'' if several else weak}.")
    notes.append(
        f"Intervals: {'over seeds and' if several else 'paired bootstrap over'} {over}. {FEW} fewer than 30 "
        f"segments, {FEW_SPEAKERS} fewer than 10 {over}: the approximation is weak. {CONSTANT} every segment differs "
        f"equally: MAPSSWE says nothing. {MISSING} does not apply, or is not part of this experiment."
    )
    unnamed = _without_speakers(content)
    if unnamed:
        notes.append(f"Nobody named the speakers of {', '.join(unnamed)}: there every utterance stands for itself.")
    notes += experiment.family_notes(row.row.system for row in rows.values())
    notes += accepted_notes(rows.values())
    if not experiment.evidence:
        notes.append("This experiment shows that the machinery works; it is no evidence about the method.")
    label = "Sys. " if spec.kind != "table3" else ""  # of methods, not of systems
    printed = slips(spec.published or "")
    return notes + [f"Paper, {label}{row}: {note}" if row else f"Paper: {note}" for row, note in printed]


def _unequal_seeds(content: Content) -> list[str]:
    """Which rows have which seeds, and what they are compared over, where not all have the same."""
    rows = content.rows
    if not seeds_differ(rows.values()):
        return []
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for name, row in rows.items():
        by_seeds.setdefault(row.seeds, []).append(name)
    who = "; ".join(f"{', '.join(map(str, seeds))}: {', '.join(names)}" for seeds, names in by_seeds.items())
    over = content.experiment.resampled
    one = f" A row with one seed has an interval over {over} alone." if (1 in map(len, by_seeds)) else ""
    return [
        f"Rows by their seeds: {who}. A WER is over all seeds of its row, a comparison over those that both rows have, "
        f"seed by seed, so that a difference need not be that of the two WERs.{one}"
    ]


def _without_speakers(content: Content) -> list[str]:
    """The sets of the table whose references know no speakers."""
    sets = list(dict.fromkeys([*content.experiment.test_sets, *content.sets]))
    (alignments, *_) = next(iter(content.rows.values())).alignments_by_seed(sets)
    return [name for name, found in zip(sets, alignments, strict=True) if found.reference.speakers is None]
