"""Low rank: every matrix of the physical layers becomes the product of two thin ones, and training goes on.

    settings: {source: {system: f6}, keep: 0.5}
    settings: {source: {system: f6}, by: energy, keep: 0.95}

A matrix W (outputs, inputs) is replaced by U_r (U_r^T W), U_r the first r left singular vectors of W L, with L L^T the
covariance of the matrix's inputs: of all matrices of rank r the one whose outputs differ least, in squares summed over
the calibration speech. `weighting: none` takes L = 1, the plain decomposition. Two factors of rank r hold r (m + n)
weights in the place of m n, so only r < m n / (m + n) saves any; a matrix that would not save stays as it is. Then the
factors are fine-tuned with the source's own losses, at all its trained points.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.backbones import Batch
from common.errors import UserError
from methods.contract import Method, Point, Stage, Step
from methods.shared.derived import Derived
from methods.shared.matrices import matrices

DAMPING = 0.01
"""Of the mean variance, added to that of each input: what calibration did not hear is not given up for nothing."""
PRUNED = 0.01
"""Share of zeros from which on a matrix counts as pruned."""


class LowRank(Derived):
    """The source with two factors in the place of each matrix."""

    kind = "low rank"

    class Config(Derived.Config):
        keep: float = Field(0.5, gt=0, le=1)
        """Of what `by` names. 1 keeps all: nothing is factorised."""
        by: Literal["share", "energy"] = "share"
        """share: the factors hold this share of their matrix's weights. energy: the smallest rank that keeps this share
        of the squared singular values, matrix by matrix."""
        weighting: Literal["inputs", "none"] = "inputs"
        """What the squared error is weighted by: how the matrix's inputs are distributed, or nothing."""
        utterances: int = Field(64, gt=0)
        """So many training utterances, of all speakers in turn, say how the inputs are distributed."""

    def check_sources(self, sources: Mapping[str, Method]) -> None:
        super().check_sources(sources)
        if self.source_has_sub_nets:
            raise UserError(
                f"settings.source: points of '{self.config.source.system}' run slices or roundings of its matrices, "
                "which factors are none; name a source whose points are paths"
            )

    def prepare(self, module: nn.Module) -> nn.Module:
        parts = self.matrices_to("factorise", module)
        if any(float((part.weight == 0).float().mean()) > PRUNED for part in parts.values()):
            raise UserError(
                f"settings.source: the matrices of '{self.config.source.system}' are pruned, and a product of factors "
                "has no zeros; factorise first, then prune the factors"
            )
        return module

    def begin_stage(self, module: nn.Module, stage: Stage, batches: Iterable[Batch]) -> nn.Module:
        self._zeros = {}  # a few of a matrix that is no more
        parts = matrices(module)
        roots = self._input_roots(module, parts, batches) if self.config.weighting == "inputs" else {}
        for name, part in parts.items():
            vectors, energies = directions(part.weight.flatten(1), roots.get(name))
            rank = self._rank(part, energies)
            if rank is not None:
                module.set_submodule(name, Factors(part, rank).set_to(part, vectors[:, :rank]))
        return module

    def _rank(self, part: nn.Linear | nn.Conv1d, energies: Tensor | None) -> int | None:
        """The rank of the factors, by the energies where these decide it; None where they would not save anything."""
        outputs, inputs = part.weight.shape[:2]
        most = outputs * inputs / (outputs + inputs)
        if self.config.by == "share":
            rank = max(1, int(self.config.keep * most))
        else:
            shares = energies.cumsum(0) / energies.sum()
            rank = 1 + int((shares < self.config.keep).sum())
        return rank if rank < most and self.config.keep < 1 else None

    def _input_roots(
        self, module: nn.Module, parts: Mapping[str, nn.Module], batches: Iterable[Batch]
    ) -> dict[str, Tensor]:
        """A root of the covariance of what each matrix is given at the trained points."""

        def hear() -> None:
            for number, (inputs, lengths) in enumerate(one_by_one(batches)):
                if number == self.config.utterances:
                    break
                step = Step("calibration", number, 0)
                for point in self.statistics_points(module, step) or self.points(module):
                    self.at(module, point).encode(inputs, lengths)

        training = module.training
        module.eval()
        products = products_of_inputs(parts, hear)
        module.train(training)
        return {name: root_of(product) for name, product in products.items()}

    def outline(self) -> nn.Module | None:
        module = self.made_by.outline()
        if module is None or self._learned:
            return None
        module = copy.deepcopy(module)
        with torch.device("meta"):
            ranks = {name: self._rank(part, None) for name, part in matrices(module).items()}
            return self.reshape(module, {name: rank for name, rank in ranks.items() if rank is not None})

    def costs_are_learned(self, point: Point) -> bool:
        return self._learned or super().costs_are_learned(point)

    @property
    def _learned(self) -> bool:
        """Whether the ranks follow from the weights."""
        return self.config.by == "energy" and self.config.keep < 1

    def form(self, module: nn.Module) -> dict[str, Any]:
        return {name: part.rank for name, part in module.named_modules() if isinstance(part, Factors)}

    def reshape(self, module: nn.Module, form: dict[str, Any]) -> nn.Module:
        for name, rank in form.items():
            part = module.get_submodule(name)
            if not isinstance(part, Factors):  # the source's own are there already
                module.set_submodule(name, Factors(part, rank))
        return module


class Factors(nn.Sequential):
    """Two linear maps, or convolutions of width 1, in the place of a dense one; the second has the bias."""

    def __init__(self, part: nn.Linear | nn.Conv1d, rank: int):
        outputs, inputs = part.weight.shape[:2]
        kind, width = (nn.Conv1d, (1,)) if isinstance(part, nn.Conv1d) else (nn.Linear, ())
        has_bias = part.bias is not None
        super().__init__(kind(inputs, rank, *width, bias=False), kind(rank, outputs, *width, bias=has_bias))
        self.rank = rank

    @torch.no_grad()
    def set_to(self, part: nn.Linear | nn.Conv1d, vectors: Tensor) -> "Factors":
        """The matrix of `part` projected on `vectors` (outputs, rank), which are orthonormal. Row k of the first factor
        and column k of the second get one length: AdamW moves large and small weights by the same amount."""
        first = vectors.T @ part.weight.flatten(1).double()
        scale = first.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
        self[0].weight.copy_((first / scale[:, None]).view_as(self[0].weight))
        self[1].weight.copy_((vectors * scale).view_as(self[1].weight))
        if part.bias is not None:
            self[1].bias.copy_(part.bias)
        return self.to(part.weight.device)


@torch.no_grad()
def directions(weight: Tensor, root: Tensor | None) -> tuple[Tensor, Tensor]:
    """Left singular vectors of `weight` (outputs, inputs) times a root of its inputs' covariance (inputs, inputs), and
    the squared singular values, largest first, in float64."""
    weighted = weight.double() if root is None else weight.double() @ root
    vectors, values, _ = torch.linalg.svd(weighted, full_matrices=False)
    return vectors, values.square()


@torch.no_grad()
def products_of_inputs(parts: Mapping[str, nn.Module], work: Callable[[], None]) -> dict[str, Tensor]:
    """The sum of x x^T (inputs, inputs) over all x that each matrix is given while `work` runs, in float64."""
    products = {name: part.weight.new_zeros((part.weight.size(1),) * 2).double() for name, part in parts.items()}

    def watch(name: str) -> Any:
        def add(part: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            given = arguments[0].transpose(1, 2) if isinstance(part, nn.Conv1d) else arguments[0]
            given = given.flatten(0, -2).double()
            products[name] += given.T @ given

        return add

    hooks = [part.register_forward_pre_hook(watch(name)) for name, part in parts.items()]
    try:
        work()
    finally:
        for hook in hooks:
            hook.remove()
    return products


def one_by_one(batches: Iterable[Batch]) -> Iterable[tuple[Tensor, Tensor]]:
    """Each utterance by itself, so that no padding is heard: (1, time, ...) and its length (1,)."""
    for batch in batches:
        for row, length in zip(batch.inputs, batch.input_lengths, strict=True):
            yield row[None, : int(length)], length[None]


def root_of(product: Tensor) -> Tensor:
    """L of the damped product, L L^T, lower triangular; 1 for a product of nothing, as where no layer ran."""
    one = torch.eye(len(product), dtype=product.dtype, device=product.device)
    mean = product.diagonal().mean()
    return torch.linalg.cholesky(product + DAMPING * mean * one) if mean > 0 else one
