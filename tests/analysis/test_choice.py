"""Which path stands for a depth."""

import json

import pytest

from analysis.inputs.choice import choose
from analysis.inputs.results import Results
from analysis.inputs.schemas import Point, Row
from analysis.scoring.counts import Counts
from analysis.scoring.median import median_point
from analysis.tables.figures import figure_caption
from common.errors import UserError


def point(*path: int) -> Point:
    name = "".join(map(str, path))
    return Point(id=name, path=path, depth=sum(path), offered=True, trained=False, system="f", seed=0)


def counted(*pairs) -> list[tuple[Point, Counts]]:
    return [(point(*path), Counts(errors, 0, 0, 100)) for path, errors in pairs]


def test_the_median_of_an_odd_number():
    assert median_point(counted(((1, 1, 2), 30), ((1, 2, 1), 10), ((2, 1, 1), 20))).path == (2, 1, 1)


def test_the_lower_one_of_an_even_number():
    assert median_point(
        counted(((1, 1, 2, 2), 40), ((1, 2, 1, 2), 10), ((1, 2, 2, 1), 20), ((2, 1, 1, 2), 30))
    ).path == (
        1,
        2,
        2,
        1,
    )


def test_ties_in_path_order():
    assert median_point(counted(((2, 1, 1), 10), ((1, 2, 1), 10), ((1, 1, 2), 10))).path == (1, 2, 1)
    assert median_point(counted(((2, 1), 10), ((1, 2), 10))).path == (1, 2)


def test_errors_are_pooled_over_the_test_sets_and_dev_chooses_beside(pristine):
    results = Results(pristine)
    choice = choose(results, Row(system="f6", depth=8), 0, "greedy", "here")
    assert len(choice.candidates) == 15

    def errors(candidate: Point, sets: list[str]) -> int:
        return sum(results.alignment(candidate, "greedy", name).counts.errors for name in sets)

    for chosen, sets in ((choice.point, ["test_clean", "test_noisy"]), (choice.on_dev, ["dev"])):
        ranked = sorted(choice.candidates, key=lambda candidate: (errors(candidate, sets), candidate.path))
        assert chosen == ranked[7]


def change_choice(folder, change):
    """Edit what the evaluation of f6 wrote of depth 8."""
    path = folder / "systems/f6/seed0/eval/points.json"
    content = json.loads(path.read_text())
    (entry,) = [each for each in content["decodes"]["greedy"]["choices"] if each["depth"] == 8]
    change(content["decodes"]["greedy"], entry)
    path.write_text(json.dumps(content))


def test_nothing_is_chosen_anew(folder):
    """Whatever the errors are: the point that was chosen may be the only one that another decode holds."""
    before = choose(Results(folder), Row(system="f6", depth=8), 0, "greedy", "here")
    other = next(point for point in before.candidates if point not in (before.point, before.on_dev))
    change_choice(folder, lambda decode, entry: entry.update(point=other.id, on_dev=before.point.id))
    after = choose(Results(folder), Row(system="f6", depth=8), 0, "greedy", "here")
    assert (after.point, after.on_dev) == (other, before.point)


def test_a_figure_says_where_its_paths_were_chosen_and_on_how_much(folder):
    """From what the evaluation wrote: Figure 2 and the tables may hear different amounts."""

    def caption(sets, **decode):
        for path in folder.glob("systems/f*/seed0/eval/points.json"):
            content = json.loads(path.read_text())
            for entry in content["decodes"]["greedy"]["choices"]:
                entry["chosen_on"] = sets
            path.write_text(json.dumps(content))
        experiment = json.loads((folder / "experiment.json").read_text())
        (folder / "experiment.json").write_text(json.dumps(experiment | {"decodes": {"greedy": decode}}))
        return figure_caption(Results(folder), "figure2")

    on_dev = caption(["dev"], utterances=300)
    assert "the path with the median errors on the development set 'dev'." in on_dev
    assert "All of it on the first 300 utterances of each test set, so that WERs differ from a table's." in on_dev
    on_test = caption(["test_clean", "test_noisy"])
    assert "median errors on the test sets, as the paper chooses it." in on_test and "utterances" not in on_test


def test_no_choice_is_an_error_that_says_so(folder):
    change_choice(folder, lambda decode, entry: decode["choices"].remove(entry))
    for decode in ("greedy", "beam"):
        with pytest.raises(
            UserError, match=rf"here: .*points.json says of none of the 15 points of depth 8 .*{decode}"
        ):
            choose(Results(folder), Row(system="f6", depth=8), 0, decode, "here")


def test_a_dev_choice_that_was_not_decoded_is_none(folder):
    before = choose(Results(folder), Row(system="f6", depth=8), 0, "greedy", "here")
    other = next(point for point in before.candidates if point not in (before.point, before.on_dev))

    def drop(decode, entry):
        entry["on_dev"] = other.id
        decode["sets"]["test_noisy"]["points"].remove(other.id)

    change_choice(folder, drop)
    assert choose(Results(folder), Row(system="f6", depth=8), 0, "greedy", "here").on_dev is None


def test_only_offered_points_stand_for_a_depth(pristine):
    results = Results(pristine)
    with pytest.raises(UserError, match=r"here: system 'a12' .* no point of depth 8 \(offered depths: 12\)"):
        choose(results, Row(system="a12", depth=8), 0, "greedy", "here")
    dropped = choose(results, Row(system="a12", path="1 1 1 1 1 1 1 1 0 0 0 0"), 0, "greedy", "here")
    assert not dropped.point.offered and dropped.point.depth == 8
