"""Does a folded layer suffer more from an error in its weights, because it is executed with it again?

A trained system is run with errors added to the matrices of its physical layers, at each of its trained points, and
compared with itself without them on the dev set: mean Kullback-Leibler divergence a frame of the CTC distributions, the
rise of the CTC loss, and the words. The errors are

- normal noise of the size that rounding to 4 bits has in each matrix (root mean square): the *same* at all executions
  of a layer, as any error of stored weights is, or, which no stored weights could have, a new draw for *each*. What the
  first execution gets is the same draw in both, so that they differ in nothing but the repetition.
- rounding itself, to 8, 4, 3 and 2 bits, as `methods.shared.packed` does it.

Small errors add up in the logits, and the divergence grows with their square. Where a layer passes on what its first
execution did as its second one does it (as residual layers near the identity do), the same error twice weighs twice as
much as two independent ones; where what the executions do is unrelated, it weighs as much.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.scoring.counts import Counts
from asr.backbones import Backbone, Batch, Encoded, EncoderState
from asr.decoding import greedy
from asr.portable.masks import before_the_end
from common.errors import UserError
from common.files import write_json
from methods.contract import AtPath, Point
from methods.paths import Path as LayerPath
from methods.shared.bitmap import dense_again
from methods.shared.matrices import matrices
from methods.shared.packed import rounded
from workflows.data import leave_out_too_long
from workflows.experiment import Experiment
from workflows.steps.choice import counts_of
from workflows.steps.opened import open_trained
from workflows.systems import load_description

SCHEMA = 1
BITS = (8, 4, 3, 2)
NOISE_BITS = 4
"""Noise is of the size of this rounding."""
GROUP = 32
"""Inputs that share a scale, below 8 bits."""
DRAWS = 6
SAME, EACH = "same", "each"

At = Callable[[str, int], Tensor]
"""What is added to a matrix, given by its name in the module, at an execution of its layer, numbered from 0."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """One kind of errors, and what is said about it."""

    about: dict[str, Any]
    at: At


@dataclasses.dataclass
class Sums:
    """What a condition added up over the dev set."""

    divergence: float = 0.0
    loss: float = 0.0
    words: dict[str, str] = dataclasses.field(default_factory=dict)


def measure_weight_errors(experiment: Experiment, name: str, data_folder: Path, model: Path, out: Path) -> None:
    """Write what each condition did to system `name`, at each trained path, to `out`.

    Raises `UserError` for a system that has no trained paths, or no dense matrices.
    """
    set_name = experiment.dev_set
    system, data, device = open_trained(experiment, name, data_folder, model, [set_name])
    module = dense_again(system.module).requires_grad_(False)
    if not isinstance(module, Backbone) or not matrices(module):
        raise UserError(f"{model}: errors are added to the dense matrices of physical layers, and there are none")
    trained = [point for point in system.method.points(module) if point.trained]
    points = [point for point in trained if isinstance(system.method.at(module, point), AtPath)]
    if not points:
        raise UserError(f"{model}: '{name}' was trained at no path")
    speech = data.speech_set(set_name, labelled=True)
    leave_out_too_long(speech, lambda lengths: system.method.output_lengths(module, lengths), set_name)
    order = speech.order(experiment.decoding_batch_seconds_of(name)).in_order()
    seed = load_description(model)["seed"]
    conditions = [*noises(module, seed), *roundings(module)]
    plan = {point.id: [one for one in conditions if _matters(one, point)] for point in points}
    sums = {point.id: [Sums() for _ in range(1 + len(plan[point.id]))] for point in points}
    frames = tokens = 0
    for indices in order:
        batch = speech.batch(indices, device, labelled=True)
        frames += sum(system.method.output_lengths(module, batch.input_lengths.tolist()))
        tokens += int(batch.target_lengths.sum())
        for point in points:
            _add(module, point, batch, plan[point.id], sums[point.id], data.tokenizer.decode)
    references = {each.utterance.id: each.utterance.text for each in speech.examples}

    def facts(found: Sums, without: Sums) -> dict[str, Any]:
        counts: Counts = counts_of(references, found.words, experiment.score)
        return {
            "divergence": found.divergence / frames,
            "ctc_loss": found.loss / tokens,
            "ctc_rise": (found.loss - without.loss) / tokens,
            **counts.to_json(),
        }

    listed = []
    for point in points:
        without, *others = sums[point.id]
        rows = [{**one.about, **facts(each, without)} for one, each in zip(plan[point.id], others, strict=True)]
        about = {"id": point.id, "label": point.label, "path": list(point.path), "depth": point.depth}
        listed.append({**about, "without": facts(without, without), "errors": rows})
    facts_of_all = {"set": set_name, "frames": frames, "tokens": tokens, "draws": DRAWS, "noise_bits": NOISE_BITS}
    write_json(out, {"schema": SCHEMA, **load_description(model), **facts_of_all, "points": listed})


def noises(module: Backbone, seed: int) -> Iterator[Condition]:
    """Normal noise as large as the rounding to NOISE_BITS: the same at all executions of a layer, and a draw for
    each. It is drawn when it is asked for, and always alike."""
    parts = matrices(module)
    sizes = {name: _error(part.weight, NOISE_BITS).square().mean().sqrt() for name, part in parts.items()}

    def drawn(draw: int, name: str, execution: int) -> Tensor:
        return sizes[name] * _normal(parts[name].weight, f"{seed} {draw} {execution} {name}")

    for draw in range(DRAWS):
        about = {"error": "noise", "bits": NOISE_BITS, "draw": draw}
        yield Condition({**about, "executions": SAME}, lambda name, _, draw=draw: drawn(draw, name, 0))
        yield Condition({**about, "executions": EACH}, functools.partial(drawn, draw))


def roundings(module: Backbone) -> Iterator[Condition]:
    """Rounding of all matrices to each number of bits."""
    for bits in BITS:
        errors = {name: _error(part.weight, bits) for name, part in matrices(module).items()}
        about = {"error": "rounding", "bits": bits, "draw": 0, "executions": SAME}
        yield Condition(about, lambda name, _, errors=errors: errors[name])


def _matters(condition: Condition, point: Point) -> bool:
    """A draw for each execution is the same thing where no layer is executed twice."""
    return condition.about["executions"] == SAME or max(point.path) > 1


@torch.no_grad()
def _error(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, None if bits == 8 else GROUP) - weight


def _normal(weight: Tensor, purpose: str) -> Tensor:
    number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big") >> 1
    return torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)).to(weight.device)


@torch.inference_mode()
def _add(
    module: Backbone,
    point: Point,
    batch: Batch,
    conditions: list[Condition],
    sums: list[Sums],
    decode: Callable[[list[int]], str],
) -> None:
    """Add a batch to the sums: first those without errors, then those of each condition."""
    state = module.front_end(batch.inputs, batch.input_lengths)
    true = None
    for condition, found in zip([None, *conditions], sums, strict=True):
        encoded = module.finish(run_with_errors(module, point.path, state, condition.at if condition else None))
        log_probs = module.ctc_log_probs(encoded)
        true = log_probs if true is None else true
        found.divergence += divergence(true, log_probs, encoded.lengths)
        found.loss += _ctc_loss(log_probs, encoded, batch)
        found.words |= zip(batch.ids, map(decode, greedy(log_probs, encoded.lengths)), strict=True)


def run_with_errors(module: Backbone, path: LayerPath, state: EncoderState, at: At | None) -> EncoderState:
    """The state after `path`, each layer with the errors of its execution; the weights are afterwards what they
    were."""
    parts = matrices(module)
    for layer, count in enumerate(path):
        inside = {id(part) for part in module.layer_module(layer).modules()}
        own = {name: part for name, part in parts.items() if id(part) in inside}
        for execution in range(count):
            with _added(own, at, execution):
                state = module.run_layer(layer, state)
    return state


@contextlib.contextmanager
def _added(parts: Mapping[str, nn.Module], at: At | None, execution: int) -> Iterator[None]:
    """Matrices with the errors of an execution inside this context."""
    kept = {name: part.weight.detach().clone() for name, part in parts.items()} if at else {}
    for name in kept:
        parts[name].weight += at(name, execution)
    try:
        yield
    finally:
        for name, weight in kept.items():
            parts[name].weight.copy_(weight)


def divergence(true: Tensor, found: Tensor, lengths: Tensor) -> float:
    """KL(true || found) in nats, summed over real frames; both log probabilities (batch, frames, vocabulary)."""
    real = before_the_end(lengths, true.size(1), true.device)
    each = (true.double().exp() * (true.double() - found.double())).sum(-1)
    return float(each[real].sum())


def _ctc_loss(log_probs: Tensor, encoded: Encoded, batch: Batch) -> float:
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), batch.targets.clamp(min=0), encoded.lengths, batch.target_lengths, reduction="sum"
    )
    return float(losses)
