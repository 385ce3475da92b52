"""What every method has to keep, as checks that can be run on any file: on a small backbone, in a second or two each.

    for check in CHECKS:
        check(case("baselines.low_rank", "conformer"), folder)      # raises BrokenContract

`python -m workflows.check_method` runs them on one method; the tests run them on all methods of this project.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from asr.backbones import Backbone, Batch, EncoderState, LayerDrop
from asr.batch_norm import batch_norms, estimating
from asr.seeds import seed_step
from common.errors import UserError
from methods.contract import (
    HoldsWeights,
    Method,
    ParameterCount,
    Step,
    TrainedSystem,
    all_points,
    number_of_weights,
)
from methods.shared.bitmap import dense_again
from methods.shared.matrices import matrices
from workflows.steps.contract_cases import (
    LENGTHS,
    TRAINING,
    BrokenContract,
    Case,
    finished,
    in_stages,
    require,
    save,
)
from workflows.steps.host_waits import DEVICE, HostWaits
from workflows.steps.training_step import without_layer_drop
from workflows.systems import load_system

PACKED = {"int8", "uint8", "int16", "uint16", "float8_e4m3fn", "float8_e5m2", "float16", "bfloat16"}
"""Types of buffers that hold weights; statistics are float32, positions int64."""
MANY, TWO_OF_MANY = 1000, (500, 501)
"""Steps of a stage, and two in its midst: what is made once is made in the first of them, and what is due every so many
steps is not due after the second."""


def check_stages(case: Case, folder: Path) -> None:
    """Every stage trains something; gradients reach whatever it trains, in the last stage all of it."""
    method = case.method(case.sources())
    number = len(method.stages(TRAINING))
    for stage, module in itertools.islice(in_stages(case, method), number):
        trainable = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
        require(bool(trainable), f"stage '{stage.name}': nothing is trainable: no parameter has requires_grad")
        grouped = [id(p) for group in method.parameter_groups(module, stage) for p in group["params"]]
        require(
            sorted(grouped) == sorted(trainable),
            f"stage '{stage.name}': parameter_groups does not name every trainable parameter once",
        )
        terms = method.losses(module, case.batch(labelled=stage.labelled), Step(stage.name, 0, 0))
        total = terms["total"]
        require(
            total.shape == () and bool(torch.isfinite(total)), f"stage '{stage.name}': the total is no finite number"
        )
        require(total.requires_grad, f"stage '{stage.name}': the total depends on no trainable parameter")
        total.backward()
        reached = {id(p) for p in module.parameters() if p.grad is not None}
        without = [name for identity, name in trainable.items() if identity not in reached]
        require(len(without) < len(trainable), f"stage '{stage.name}': no trainable parameter gets a gradient")
        if stage == method.stages(TRAINING)[-1]:
            require(not without, f"stage '{stage.name}': no gradient reaches {', '.join(without[:5])}")


def check_host_waits(case: Case, folder: Path) -> None:
    """A step of training never makes the host wait for a GPU."""
    with HostWaits() as host:
        sources = {role: _moved(source) for role, source in case.sources().items()}
        method = case.method(sources)
        torch.manual_seed(0)
        module = method.build()
        for stage in method.stages(TRAINING):
            batches = (batch.to(DEVICE) for batch in case.batches(stage.labelled))
            module = method.begin_stage(module.to(DEVICE), stage, batches).to(DEVICE)
            without_layer_drop(module.train())
            optimiser = torch.optim.AdamW(method.parameter_groups(module, stage), lr=1e-3)
            for index in TWO_OF_MANY:
                host.waits.clear()
                step, batch = Step(stage.name, index, 7, steps=MANY), case.batch(labelled=stage.labelled).to(DEVICE)
                method.losses(module, batch, step)["total"].backward()
                optimiser.step()
                method.after_step(module, step)
                optimiser.zero_grad()
            found = list(dict.fromkeys(host.waits))
            require(not found, f"stage '{stage.name}': a step waits for the device: {'; '.join(found[:3])}")


def _moved(source: TrainedSystem) -> TrainedSystem:
    return dataclasses.replace(source, module=source.module.to(DEVICE))


def check_first_loss(case: Case, folder: Path) -> None:
    """The same seed gives the same first loss."""
    losses: list[list[float]] = [[], []]
    for found in losses:
        method = case.method(case.sources())
        for stage, module in itertools.islice(in_stages(case, method), len(method.stages(TRAINING))):
            seed_step(7, stage.name, 0, 0)
            batch = case.batch(labelled=stage.labelled)
            found.append(float(method.losses(module, batch, Step(stage.name, 0, 7))["total"].detach()))
    require(losses[0] == losses[1], f"the same seed gives first losses {losses[0]} and {losses[1]}")


def check_sources(case: Case, folder: Path) -> None:
    """What the method starts from stays as it is: it may be another system's teacher, and is evaluated itself."""
    sources = case.sources()
    before = {role: copy_of(source.module) for role, source in sources.items()}
    own = {tensor.data_ptr() for source in sources.values() for tensor in source.module.state_dict().values()}
    for stage, module in in_stages(case, case.method(sources)):
        shared = [n for n, t in module.state_dict().items() if t.numel() > 1 and t.data_ptr() in own]
        require(not shared, f"'{stage.name}': {', '.join(shared[:3])} is the source's own tensor, not a copy")
    for role, source in sources.items():
        after = source.module.state_dict()
        changed = [n for n, t in before[role].items() if n not in after or not same(t, after[n])]
        require(not changed, f"source '{role}': {', '.join(changed[:3])} was changed in place")
        require(not source.module.training, f"source '{role}' was left in training mode")
        thawed = [n for n, p in source.module.named_parameters() if p.requires_grad]
        require(not thawed, f"source '{role}': {', '.join(thawed[:3])} was made trainable")


def check_without_inputs(case: Case, folder: Path) -> None:
    """What a trained system is asked, and how it is trained, is known without the systems that it starts from."""
    method, module = finished(case)
    alone = case.method()
    require(without_inputs(alone, "stages", TRAINING) == method.stages(TRAINING), "`stages` depends on self.inputs")
    rebuilt = without_inputs(alone, "rebuild", method.architecture(module))
    rebuilt.load_state_dict(module.state_dict())
    points = method.points(module)
    require(without_inputs(alone, "points", rebuilt) == points, "`points` depends on self.inputs")
    for point in points:
        same_count = without_inputs(alone, "parameters", rebuilt, point) == method.parameters(module, point)
        require(same_count, "`parameters` depends on self.inputs")
        without_inputs(alone, "cost_key", point)
    without_inputs(alone, "stored_bytes", rebuilt, points)
    without_inputs(alone, "output_lengths", rebuilt, list(LENGTHS[case.backbone.name]))


def without_inputs(method: Method, name: str, *arguments: Any) -> Any:
    try:
        return getattr(method, name)(*arguments)
    except KeyError as error:
        raise BrokenContract(f"`{name}` reads self.inputs[{error}], which is there while training only") from None


def check_storage(case: Case, folder: Path) -> None:
    """No weight is stored twice."""
    _, module = finished(case)
    names: dict[int, str] = {}
    for name, tensor in module.state_dict().items():
        if tensor.numel() > 1:
            require(tensor.data_ptr() not in names, f"{name} and {names.get(tensor.data_ptr())} are one tensor")
            names[tensor.data_ptr()] = name


def check_packing(case: Case, folder: Path) -> None:
    """What holds its matrices otherwise than dense says so, and nothing prunes or packs them after; bitmaps aside,
    which lose nothing."""
    method, module = finished(case)
    module = dense_again(module)
    now, parts = list(matrices(module)), dict(module.named_modules())
    dense = {*now, *(name.rpartition(".")[0] for name in now)}  # two factors in the place of a matrix are dense too
    packed = [name for name in matrices(case.backbone.build()) if name in parts and name not in dense]
    require(not packed or method.packs, f"{', '.join(packed[:3])} hold no dense weights any more: set `packs = True`")


def check_file(case: Case, folder: Path) -> None:
    """A saved system is the same system: tensors with their types, points, and outputs at each of them."""
    method, module = finished(case)
    save(case, method, module, folder)
    loaded = load_system(folder, packages=case.packages)
    state = loaded.module.state_dict()
    for name, tensor in module.state_dict().items():
        require(
            tensor.dtype == state[name].dtype,
            f"{name} is {tensor.dtype} and comes back from `rebuild` as {state[name].dtype}",
        )
        require(same(tensor, state[name]), f"{name} comes back with other values")
    points = all_points(method, module, [])
    require(points == all_points(loaded.method, loaded.module, []), "a loaded system has other points")
    with torch.no_grad():
        compare_outputs(case, method, module, loaded)


def compare_outputs(case: Case, method: Method, module: nn.Module, loaded: TrainedSystem) -> None:
    """Points run together in the one and each alone in the other give the same frames."""
    points, data = all_points(method, module, []), case.batch()
    pairs = method.encode_points(module, data.inputs, data.input_lengths, points)
    together = {point.id: encoded for point, encoded in pairs}
    require(set(together) == {point.id for point in points}, "`encode_points` does not give every point")
    for point in points:
        recogniser = loaded.method.at(loaded.module, point)
        encoded = recogniser.encode(data.inputs, data.input_lengths)
        shape = recogniser.ctc_log_probs(encoded).shape
        require(shape[::2] == (len(data.ids), case.backbone.vocabulary), f"point {point.id}: log-probabilities {shape}")
        lengths = method.output_lengths(module, data.input_lengths.tolist())
        require(encoded.lengths.tolist() == lengths, f"point {point.id}: lengths are not those of `output_lengths`")
        torch.testing.assert_close(together[point.id].frames, encoded.frames, atol=1e-5, rtol=0)


def check_points(case: Case, folder: Path) -> None:
    """A recogniser has points, each with an id of its own, and those that were said before training."""
    method, module = finished(case)
    points = method.points(module)
    require(
        bool(points) == method.recognises,
        "a method that recognises offers points" if method.recognises else "a method with points recognises something",
    )
    require(len({point.id for point in points}) == len(points), "two points have one id")
    expected = case.method().expected_points()
    require(expected in (None, points), "`expected_points` names other points than the trained system has")


def check_costs(case: Case, folder: Path) -> None:
    """Numbers of weights and bytes are positive, agree with the file, and leave out no packed weights."""
    method, module = finished(case)
    points = all_points(method, module, [])
    held = weights_held(case, module)
    for point in points:
        count = method.parameters(module, point)
        require(0 < count.executed <= count.stored, f"point {point.id}: {count}: executed is not 1 to stored")
        require(0 < count.nonzero <= count.stored, f"point {point.id}: {count}: nonzero is not 1 to stored")
        require(count.stored >= held, missing_weights(count, held))
        foreseen = method.outline()
        require(
            foreseen is None or number_of_weights(foreseen) == count.stored,
            f"`outline` has not the {count.stored} weights that `parameters` counts; define it, or let it give None",
        )
    save(case, method, module, folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
    whole = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    stored = method.stored_bytes(module, points)
    require(stored == whole, f"`stored_bytes` of all points is {stored}; the file has {whole} bytes of tensors")
    require(method.stored_bytes(module, points[:1]) > 0, "`stored_bytes` of one point is 0")


def check_statistics(case: Case, folder: Path) -> None:
    """Estimating batch-norm statistics, as training jobs do after `finish`, runs some of the method's own points, and
    only batch norm moves."""
    method, module = finished(case)
    before = copy_of(module)
    points = method.statistics_points(module, Step("statistics", 0, 0))
    own = {point.id for point in method.points(module)}
    require({point.id for point in points} <= own, "`statistics_points` names points that `points` does not offer")
    data = case.batch(labelled=False)
    with estimating(module):
        for point in points:
            method.at(module, point).encode(data.inputs, data.input_lengths)
    changed = {name for name, tensor in module.state_dict().items() if not same(tensor, before[name])}
    changed = {name for name in changed if not name.endswith("num_batches_tracked")}  # may be as many as before
    executed = batch_norms(module) if points else ()
    wanted = {f"{name}.{key}" for name in executed for key in ("running_mean", "running_var")}
    require(changed == wanted, f"estimating statistics changed {', '.join(sorted(changed ^ wanted)[:3])}")


def check_same_layers(case: Case, folder: Path) -> None:
    """Devices that share their batch norm run the same layers in a step, whatever each draws for itself."""
    if not batch_norms(case.backbone.build()):
        return
    method = case.method(case.sources())
    for stage, module in itertools.islice(in_stages(case, method), len(method.stages(TRAINING))):
        batch = case.batch(labelled=stage.labelled)
        for index in range(2):
            runs = [
                layers_run(method, module, batch, Step(stage.name, index, 7, rank=rank, same_layers=True))
                for rank in (0, 1)
            ]
            require(
                runs[0] == runs[1],
                f"stage '{stage.name}': two devices that share their batch norm run other layers; draw what decides it "
                "from step.layers_generator",
            )


@torch.no_grad()
def layers_run(method: Method, module: nn.Module, batch: Batch, step: Step) -> list[tuple[int, bool]]:
    """The layers that the losses of a step ask for, in order, and whether layer drop lets them run."""
    found: list[tuple[int, bool]] = []
    backbones = [part for part in module.modules() if isinstance(part, Backbone)]

    def noting(run_layer: Callable[..., EncoderState]) -> Callable[..., EncoderState]:
        def run(layer: int, state: EncoderState, drop: LayerDrop | None = None) -> EncoderState:
            found.append((layer, drop is None or drop.branch_scale(state.executed) != 0))
            return run_layer(layer, state, drop)

        return run

    for part in backbones:
        part.layer_drop, part.run_layer = 0.5, noting(part.run_layer)
    try:
        method.losses(module, batch, step)
    finally:
        for part in backbones:
            del part.run_layer
            part.layer_drop = 0.0
    return found


def weights_held(case: Case, module: nn.Module) -> int:
    """Weights at least: parameters, what modules say that hold them otherwise, and other buffers that stand where the
    backbone has a parameter, or are of a packed type."""
    holders = [part for part in module.modules() if isinstance(part, HoldsWeights)]
    counted = {id(tensor) for part in holders for tensor in part.buffers()}
    uncompressed = {name for name, _ in case.backbone.build().named_parameters()}
    packed = [
        tensor
        for name, tensor in module.named_buffers()
        if id(tensor) not in counted
        and (name in uncompressed or (str(tensor.dtype).removeprefix("torch.") in PACKED and tensor.numel() > 1))
    ]
    said = sum(part.weight_count()[0] for part in holders)
    return said + sum(tensor.numel() for tensor in [*module.parameters(), *packed])


def missing_weights(count: ParameterCount, held: int) -> str:
    return f"`parameters` counts {count.stored} weights; the module holds {held}, packed ones in buffers among them"


def check_settings(case: Case, folder: Path) -> None:
    """A wrong setting gives a clear error."""
    wrong = dataclasses.replace(case, settings={**case.settings, "no_such_key": 1})
    try:
        wrong.method()
    except UserError as error:
        require("unknown key 'no_such_key'" in str(error), f"an unknown key is refused without its name: {error}")
    else:
        raise BrokenContract("an unknown key among the settings is accepted")


CHECKS: tuple[Callable[[Case, Path], None], ...] = (
    check_settings,
    check_stages,
    check_host_waits,
    check_first_loss,
    check_sources,
    check_without_inputs,
    check_storage,
    check_packing,
    check_file,
    check_points,
    check_statistics,
    check_same_layers,
    check_costs,
)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)
