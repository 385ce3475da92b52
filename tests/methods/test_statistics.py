"""Over which points batch-norm statistics are estimated, and the baseline that takes other ones."""

import dataclasses

import pytest
import torch

from asr.batch_norm import batch_norms, estimating, statistics_of
from baselines.all_physical import AllPhysical
from common.errors import UserError
from methods.contract import Step, TrainedSystem, make_method, path_points
from tests.models import STILL, batch, conformer, factory
from workflows.systems import load_system, save_system

ONES, UNFOLDED = (1, 1, 1, 1), (1, 1, 2, 2)


def named(settings, batches=1, seed=0, name="methods.unfolding"):
    """Paths that a method names, batch by batch."""
    method = make_method(name, settings, factory(**STILL))
    module = method.build()
    steps = [Step("statistics", index, seed) for index in range(batches)]
    return [[point.path for point in method.statistics_points(module, step)] for step in steps]


def test_the_trained_points_are_named():
    path = {"depth": 6, "training_path": "1 1 2 2"}
    assert named({}, name="baselines.all_physical") == [[ONES]]
    assert named(path, batches=2) == [[ONES, UNFOLDED]] * 2
    assert named({**path, "alpha_p": 0, "alpha_kl": 0}) == [[UNFOLDED]]
    assert named({**path, "alpha_f": 0, "alpha_p": 1, "alpha_kl": 0}) == [[ONES]]
    assert named({"depth": 4}) == [[ONES]]


def test_all_points_where_none_says_that_it_was_trained():
    class Untrained(AllPhysical):
        def points(self, module):
            return path_points([ONES, UNFOLDED], trained=[])

    method = Untrained(Untrained.Config(), factory(**STILL))
    module = method.build()
    assert method.statistics_points(module, Step("statistics", 0, 0)) == method.points(module)


def test_of_random_paths_one_is_drawn_for_each_batch_reproducibly():
    settings = {"depth": 6, "training_path": "random"}
    drawn = named(settings, batches=40)
    assert all(len(paths) == 2 and paths[0] == ONES and sum(paths[1]) == 6 for paths in drawn)
    assert len({paths[1] for paths in drawn}) > 3
    torch.manual_seed(123)
    assert named(settings, batches=40) == drawn
    assert named(settings, batches=40, seed=1) != drawn
    without_seed = named({**settings, "alpha_p": 0, "alpha_kl": 0}, batches=40)
    assert without_seed == [paths[1:] for paths in drawn]


def source(settings=None, name="methods.unfolding", running=True):
    """A system as a finished training leaves it: other statistics in the model than beside it."""
    settings = {"depth": 6, "last": 2} if settings is None else settings
    method = make_method(name, settings, factory(**STILL), packages=["tests.toys"])
    module = conformer(**STILL).eval().requires_grad_(False)
    before = statistics_of(module)
    with estimating(module):
        module.encode(batch().inputs, batch().input_lengths, UNFOLDED)
    return TrainedSystem("f4", module, method, running_statistics=before if running else {})


def statistics(inputs=None, backbone=None, **settings):
    settings = {"source": {"system": "f4"}, **settings}
    return make_method("baselines.statistics", settings, backbone or factory(**STILL), inputs)


def test_running_statistics_and_nothing_else_are_exchanged():
    given = source()
    method = statistics({"source": given}, use="running")
    module = method.build()
    moved = statistics_of(module)
    assert moved.keys() == given.running_statistics.keys()
    for name, tensor in module.state_dict().items():
        expected = given.running_statistics.get(name, given.module.state_dict()[name])
        assert torch.equal(tensor, expected), name
    changed = [name for name in moved if not torch.equal(moved[name], given.module.state_dict()[name])]
    assert len(changed) == len(moved)
    assert method.statistics_points(module, Step("statistics", 0, 0)) == []
    assert method.points(module) == [point for point in given.method.points(given.module) if point.trained]
    assert [point.path for point in method.points(module)] == [ONES, UNFOLDED]
    assert all(
        a.data_ptr() != b.data_ptr() for a, b in zip(module.parameters(), given.module.parameters(), strict=True)
    )


def test_a_path_is_named_and_offered_beside_the_others():
    given = source(name="baselines.all_physical", settings={})
    for path, ids in (("1 1 2 2", ["d04_00", "d06_00"]), ([1, 1, 1, 1], ["d04_00"]), ("2 2 0 0", ["d04_00", "d04_01"])):
        method = statistics({"source": given}, use="path", path=path, points="all")
        module = method.build()
        assert [point.id for point in method.points(module)] == ids
        (named_point,) = method.statistics_points(module, Step("statistics", 0, 0))
        assert named_point == method.points(module)[-1]
        assert named_point.path == tuple(map(int, path.split() if isinstance(path, str) else path))
        alone = statistics({"source": given}, use="path", path=path)
        assert alone.points(alone.build()) == [named_point]


@pytest.mark.parametrize("use", [{"use": "running"}, {"use": "path", "path": "1 1 2 2"}])
def test_all_points_of_the_source_are_a_setting(use):
    given = source()
    method = statistics({"source": given}, points="all", **use)
    assert method.points(method.build()) == given.method.points(given.module)


def test_all_points_are_offered_where_none_was_trained():
    class Untrained(AllPhysical):
        def points(self, module):
            return path_points([ONES, UNFOLDED], trained=[])

    given = source(name="baselines.all_physical", settings={})
    given = dataclasses.replace(given, method=Untrained(Untrained.Config(), factory(**STILL)))
    method = statistics({"source": given})
    assert [point.path for point in method.points(method.build())] == [ONES, UNFOLDED]


def test_it_is_rebuilt_without_its_source(tmp_path):
    given = source()
    settings = {"source": {"system": "f4"}, "use": "path", "path": "3 1 1 1", "points": "all"}
    method = statistics({"source": given}, **settings)
    module = method.build().eval()
    described = {"name": "x", "seed": 0, "method": "baselines.statistics", "settings": settings, "vocabulary": 12}
    save_system(tmp_path, module, method, described, given.running_statistics)
    loaded = load_system(tmp_path)
    points = method.points(module)
    assert loaded.method.points(loaded.module) == points and len(points) == 5
    data = batch()
    for point in points:
        ours, theirs = (
            each.at(one, point).encode(data.inputs, data.input_lengths).frames
            for each, one in ((method, module), (loaded.method, loaded.module))
        )
        assert torch.equal(ours, theirs)
    kept = loaded.running_statistics
    assert kept.keys() == given.running_statistics.keys()
    assert all(torch.equal(tensor, given.running_statistics[name]) for name, tensor in kept.items())
    save_system(tmp_path, module, method, described)
    assert load_system(tmp_path).running_statistics == {}, "left over from before"


def estimated(method, module, batches):
    """What the training job does after `finish`."""
    with estimating(module):
        for number, data in enumerate(batches):
            for point in method.statistics_points(module, Step("statistics", number, 0)):
                method.at(module, point).encode(data.inputs, data.input_lengths)


def heard(module, batches, *paths):
    """By hand: what each batch norm is given, execution by execution, over some paths of each batch."""
    seen = {name: [] for name in batch_norms(module)}
    hooks = [
        norm.register_forward_pre_hook(lambda _, rows, seen=seen[name]: seen.append(rows[0].double()))
        for name, norm in batch_norms(module).items()
    ]
    with torch.no_grad(), estimating(module):
        for data in batches:
            for path in paths:
                module.encode(data.inputs, data.input_lengths, path)
    for hook in hooks:
        hook.remove()
    return list(seen.values())


@pytest.mark.parametrize("path", ["1 1 2 2", None])
def test_each_execution_has_the_statistics_of_what_it_is_given(path):
    given, batches = source(), [batch(seed=1), batch(seed=2)]
    method = statistics({"source": given}, use="execution", **({"path": path} if path else {}))
    module = method.build()
    estimated(method, module, batches)
    paths = [UNFOLDED] if path else [ONES, UNFOLDED]
    sets = [
        [layer.conv_module.norm, *(norm for each in further for norm in each)]
        for layer, further in zip(module.encoder.encoders, module.further_statistics, strict=True)
    ]
    assert [len(each) for each in sets] == [1, 1, 2, 2]
    for layer, rows in enumerate(heard(conformer(**STILL), batches, *paths)):
        executions = [number for _ in batches for ran in paths for number in range(ran[layer])]
        for number, norm in enumerate(sets[layer]):
            own = [row for row, execution in zip(rows, executions, strict=True) if execution == number]
            assert int(norm.num_batches_tracked) == len(own)
            for what in ("mean", "var"):
                by_hand = torch.stack([getattr(row, what)(0) for row in own]).mean(0).float()
                torch.testing.assert_close(getattr(norm, f"running_{what}"), by_hand, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(sets[2][0].running_mean, sets[2][1].running_mean)
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in given.module.parameters())


def test_an_execution_reads_its_own_set_and_one_beyond_them_the_last(tmp_path):
    """A layer that runs twice is the same as two layers with the sets of one each."""
    given, data = source(), batch()
    settings = {"source": {"system": "f4"}, "use": "execution", "path": "1 1 1 2", "points": "all"}
    method = statistics({"source": given}, **settings)
    module = method.build().eval()
    estimated(method, module, [batch(seed=2)])
    unrolled = conformer(**STILL, layers=6).eval()
    unrolled.take_weights(plain(module), (0, 1, 2, 3, 3, 3))
    for layer in (4, 5):  # the second and the third execution of the fourth layer
        unrolled.encoder.encoders[layer].conv_module.norm.load_state_dict(
            module.further_statistics[3][0][0].state_dict(), strict=False
        )
    for path, depth in (((1, 1, 1, 2), 5), ((1, 1, 1, 3), 6)):
        (ours,) = [
            encoded
            for _, encoded in method.encode_points(
                module, data.inputs, data.input_lengths, path_points([path], trained=[])
            )
        ]
        theirs = unrolled.encode(data.inputs, data.input_lengths, (1,) * depth + (0,) * (6 - depth))
        torch.testing.assert_close(ours.frames, theirs.frames, atol=1e-6, rtol=1e-5)
    described = {"name": "x", "seed": 0, "method": "baselines.statistics", "settings": settings, "vocabulary": 12}
    save_system(tmp_path, module, method, described)
    loaded = load_system(tmp_path)
    for point in method.points(module):
        ours, theirs = (
            each.at(one, point).encode(data.inputs, data.input_lengths).frames
            for each, one in ((method, module), (loaded.method, loaded.module))
        )
        assert torch.equal(ours, theirs)


def plain(module):
    """A Conformer with the weights and the first sets of one that keeps several."""
    found = conformer(**STILL)
    found.load_state_dict({key: value for key, value in module.state_dict().items() if "further" not in key})
    return found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use": "path"}, "use: path needs the path over which"),
        ({"use": "running", "path": "1 1 1 1"}, "path: goes with use: path or execution"),
        ({"use": "path", "path": "1 1 2"}, "settings.path: path '1 1 2' has 3 counts for 4 physical layers"),
        ({"use": "path", "path": "0 0 0 0"}, "settings.path: path '0 0 0 0': counts are 0 or more"),
        ({"use": "path", "path": "1 1 x 1"}, "settings.path: '1 1 x 1' is not a path"),
        ({"use": "paths"}, "settings: use: Input should be 'running', 'path' or 'execution'"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        statistics(**settings)


def test_a_source_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="no running statistics stand beside 'f4' .*train it again"):
        statistics({"source": source(running=False)}).build()
    statistics({"source": source(running=False)}, use="path", path="1 1 1 1").build()
    other = statistics({"source": source()}, factory(**STILL, layers=3))
    with pytest.raises(
        UserError, match=r"the backbone of 'f4' is another \(different: layers\); leave out .backbone. and .family."
    ):
        other.build()
    widths = source(name="tests.toys.width_slices", settings={})
    with pytest.raises(UserError, match=r"settings\.path: the points of 'f4' are no paths"):
        statistics({"source": widths}, use="path", path="1 1 1 1").build()
    with pytest.raises(UserError, match=r"settings\.use: the points of 'f4' are no paths"):
        statistics({"source": widths}, use="execution").build()
    assert len(statistics({"source": widths}).build().state_dict()) > 0
