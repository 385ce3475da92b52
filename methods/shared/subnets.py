"""Sub-nets of one set of weights: a width and a precision each, run as views that are made for the length of one call.

Nothing of a sub-net is held but its batch-norm statistics: what a norm sees depends on width and precision, and one
mixture over all of them is known to fail (slimmable networks, Yu et al., 2019). Affine maps are shared, and so are the
statistics of all depths of a sub-net, for the layers of a shallower one are the first layers of a deeper one. The
module's own norms hold those of the largest sub-net; those of the others are in `module.statistics`, as norms that are
never run: they are put in place of the module's own, as weights are, and training and estimating update them.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from asr.backbones import Backbone
from asr.batch_norm import KEPT, batch_norms
from methods.shared.bitmap import Bitmap
from methods.shared.fakequant import straight_through
from methods.shared.layers import prefixes
from methods.shared.matrices import is_matrix, stored_bits
from methods.shared.narrow import fewer_heads, narrowed, parts_of_layers
from methods.shared.nested import Reconstruction, Scales, codes_of, most_significant, value_of
from methods.shared.packed import Packed
from methods.shared.views import Viewed, with_weights

FLOAT = 32
"""Bits of a weight that has no code."""
SCALE_BYTES = 2
"""Of a scale in the file: float16."""
BANK = "statistics"

Codes = dict[str, tuple[Tensor, Tensor]]
"""Codes and scales by the name of the matrix, kept from one sub-net to the next of a call."""


@dataclasses.dataclass(frozen=True)
class SubNet:
    """A share of the inner units, and bits a weight."""

    width: float
    bits: int

    @property
    def id(self) -> str:
        return f"w{round(100 * self.width):03d}b{self.bits:02d}"


@dataclasses.dataclass(frozen=True)
class SubNets:
    """All sub-nets of a module. The largest one is the finished module as it is."""

    widths: Sequence[float]
    """Descending, from 1."""
    bits: Sequence[int]
    """Descending."""
    heads: bool
    scales: Scales
    reconstruction: Reconstruction

    @property
    def all(self) -> list[SubNet]:
        """The largest first, the smallest last."""
        return [SubNet(width, bits) for width in self.widths for bits in self.bits]

    def add_statistics(self, module: Backbone) -> Backbone:
        """The module with statistics of batch norm for each sub-net but the largest, those of its own norms to begin
        with; as it is where it has no batch norm."""
        norms = batch_norms(module).values()
        if norms and self.all[1:]:
            bank = {net.id: nn.ModuleList(_statistics_like(norm) for norm in norms) for net in self.all[1:]}
            module.add_module(BANK, nn.ModuleDict(bank))
        return module

    def run(
        self,
        module: Backbone,
        net: SubNet,
        function: Callable[..., Any],
        *arguments: Any,
        codes: Codes | None = None,
        layers: Collection[int] | None = None,
    ) -> Any:
        """`function(module, *arguments)` while `module` is the sub-net, in the layers from 0 that run (None: all).
        `codes` keeps what the sub-nets of one call have in common."""
        inside = prefixes(module, range(module.layers) if layers is None else layers)
        views = self._views(module, net, {} if codes is None else codes, inside)
        weights = views | self._statistics(module, net)
        if not weights:
            return function(module, *arguments)
        with fewer_heads(module, net.width) if self.heads else contextlib.nullcontext():
            return with_weights(module, weights, function, *arguments)

    def spared(self, module: Backbone, net: SubNet, layers: Collection[int]) -> int:
        """Weights of these layers that do not run at a sub-net."""
        left, inside = narrowed(module, net.width, self.heads), prefixes(module, layers)
        pairs = [(_tensor(module, name), kept) for name, kept in left.items() if name.startswith(inside)]
        return sum(weight.numel() - weight.narrow(*kept).numel() for weight, kept in pairs)

    def stored_bytes(self, module: Backbone, nets: Collection[SubNet], layers: Collection[int]) -> int:
        """Bytes of a file from which these sub-nets run, in these layers: the weights of the widest among them, in the
        bits of the most precise, and a set of batch-norm statistics for each."""
        left, matrices = narrowed(module, _around(nets).width, self.heads), layer_matrices(module)
        inside, every = prefixes(module, layers), (f"{BANK}.", *prefixes(module, range(module.layers)))
        total, _ = self.matrix_bytes(module, nets, layers)
        for name, tensor in module.state_dict().items():
            part, _, kind = name.rpartition(".")
            of_matrix = part in matrices and kind != "bias"
            if not of_matrix and (name.startswith(inside) or not name.startswith(every)):
                total += (tensor.narrow(*left[name]) if name in left else tensor).numel() * tensor.element_size()
        statistics = [norm for name, norm in _own_norms(module).items() if name.startswith(inside)]
        return total + (len(set(nets)) - 1) * sum(getattr(norm, key).nbytes for norm in statistics for key in KEPT)

    def matrix_bytes(self, module: Backbone, nets: Collection[SubNet], layers: Collection[int]) -> tuple[int, int]:
        """Of the matrices of these layers in such a file: bytes, scales included, and weights."""
        largest, inside = _around(nets), prefixes(module, layers)
        left = narrowed(module, largest.width, self.heads)
        found = weights = 0
        for name, part in layer_matrices(module).items():
            if not name.startswith(inside):
                continue
            shape = [part.outputs, part.inputs] if isinstance(part, Viewed) else list(part.weight.shape[:2])
            kept, bits = left.get(f"{name}.weight"), min(largest.bits, held_bits(part))
            if kept is not None:
                shape[kept[0]] = kept[2]
            rows, columns = shape
            if kept is None and bits == held_bits(part):
                found += stored_bits(part) // 8
            elif isinstance(part, Bitmap) and bits == FLOAT:
                found += -(-rows * columns // 8) + 4 * int(part.weight.narrow(*kept).count_nonzero())
            else:
                found += -(-rows * columns * bits // 8) + (0 if bits == FLOAT else rows * SCALE_BYTES)
            weights += rows * columns
        return found, weights

    def _views(self, module: Backbone, net: SubNet, codes: Codes, inside: tuple[str, ...]) -> dict[str, Tensor]:
        """The weights that are others at a sub-net than in the module, by where they run, of what names begin with."""
        matrices = {name: part for name, part in layer_matrices(module).items() if name.startswith(inside)}
        found = {
            f"{name}.weight": self._rounded(name, part, net.bits, codes)
            for name, part in matrices.items()
            if net.bits < held_bits(part)
        }
        left = narrowed(module, net.width, self.heads)
        for name, kept in ((name, kept) for name, kept in left.items() if name.startswith(inside)):
            found[name] = (found[name] if name in found else _tensor(module, name)).narrow(*kept)
        packed = {f"{name}.weight": f"{name}.view" for name, part in matrices.items() if isinstance(part, Viewed)}
        return {packed.get(name, name): view for name, view in found.items()}

    def _rounded(self, name: str, part: nn.Module, bits: int, codes: Codes) -> Tensor:
        """The weight of a matrix in so many bits; gradients go straight through."""
        if name not in codes:
            codes[name] = codes_of(part, self.scales)
        found, scales = codes[name]
        value = (value_of(most_significant(found, bits), bits, self.reconstruction) * scales).view_as(part.weight)
        if not isinstance(part, Packed):  # a pruned weight is no small one: its code has a bin, it has none
            value = value.masked_fill(part.weight == 0, 0.0)
        return straight_through(value, part.weight)

    def _statistics(self, module: Backbone, net: SubNet) -> dict[str, Tensor]:
        """Batch-norm statistics of a sub-net by the names of the module's own."""
        if net == self.all[0] or not hasattr(module, BANK):
            return {}
        held = zip(_own_norms(module), module.get_submodule(f"{BANK}.{net.id}"), strict=True)
        return {f"{name}.{key}": getattr(norm, key) for name, norm in held for key in KEPT}


def without_statistics(module: Backbone) -> Backbone:
    """The same module with the batch-norm statistics of the largest sub-net alone; the given one keeps all."""
    plain = copy.copy(module)
    plain._modules = {name: part for name, part in module._modules.items() if name != BANK}
    return plain


def layer_matrices(module: Backbone) -> dict[str, nn.Module]:
    """The matrices of the physical layers, dense or packed, by name."""
    parts = parts_of_layers(module).items()
    return {name: part for name, part in parts if is_matrix(part) or isinstance(part, Viewed)}


def held_bits(part: nn.Module) -> int:
    """Bits in which a matrix is held."""
    return part.bits or FLOAT if isinstance(part, Packed) else FLOAT


def _around(nets: Collection[SubNet]) -> SubNet:
    """The smallest one that holds all of `nets`."""
    return SubNet(max(net.width for net in nets), max(net.bits for net in nets))


def _own_norms(module: Backbone) -> dict[str, _BatchNorm]:
    return {name: norm for name, norm in batch_norms(module).items() if not name.startswith(f"{BANK}.")}


def _statistics_like(norm: _BatchNorm) -> nn.BatchNorm1d:
    """A norm with a copy of its statistics and without an affine map."""
    made = nn.BatchNorm1d(norm.num_features, affine=False)
    for key in KEPT:
        getattr(made, key).copy_(getattr(norm, key))
    return made


def _tensor(module: Backbone, name: str) -> Tensor:
    part, _, tensor = name.rpartition(".")
    return getattr(module.get_submodule(part), tensor)
