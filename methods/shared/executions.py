"""Statistics of batch norm for each execution of a layer: beside the layer's own, which its first execution has.

A layer that runs twice normalises other frames the second time. In training each execution has the statistics of its
batch; afterwards all executions share one mean and one variance, unless they are kept apart:

    keep_by_execution(module, (1, 1, 2, 2))      # layers 3 and 4 have a second set, in `module.further_statistics`
    AtExecutions(module, (1, 1, 2, 2)).encode(inputs, lengths)

They are buffers of the module like any other statistics: estimated again, saved and counted with them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from asr.backbones import Backbone, Encoded, EncoderState
from asr.batch_norm import KEPT, batch_norms
from asr.paths import Path
from methods.shared.layers import prefixes
from methods.shared.views import with_weights


def keep_by_execution(module: Backbone, executions: Sequence[int]) -> Backbone:
    """`module` with so many sets of statistics for each physical layer, in place; further ones begin as copies."""
    module.further_statistics = nn.ModuleList(
        nn.ModuleList(_copies(module.layer_module(layer)) for _ in range(count - 1))
        for layer, count in enumerate(executions)
    )
    return module


def executions_kept(module: Backbone) -> list[int]:
    """The sets of statistics of each physical layer."""
    return [1 + len(sets) for sets in module.further_statistics]


@dataclasses.dataclass(frozen=True)
class AtExecutions:
    """A backbone at one path, as a `Recogniser`: each execution of a layer has its own statistics, and one beyond those
    that are kept has the last ones."""

    backbone: Backbone
    path: Path

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        state = self.backbone.front_end(inputs, lengths)
        for layer, count in enumerate(self.path):
            sets = [{}, *self._further_sets(layer)]
            for execution in range(count):
                kept = sets[min(execution, len(sets) - 1)]
                state = with_weights(self.backbone, kept, _run_layer, layer, state)
        return self.backbone.finish(state)

    def _further_sets(self, layer: int) -> list[dict[str, Tensor]]:
        """Of each further execution of a layer the statistics, by the names that the layer's own have."""
        (inside,) = prefixes(self.backbone, [layer])
        names = [f"{inside}{name}" for name in batch_norms(self.backbone.layer_module(layer))]
        return [
            {f"{name}.{key}": getattr(norm, key) for name, norm in zip(names, norms, strict=True) for key in KEPT}
            for norms in self.backbone.further_statistics[layer]
        ]

    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        return self.backbone.ctc_log_probs(encoded)

    def scorers(self) -> dict[str, Any]:
        return self.backbone.scorers()


def _run_layer(backbone: Backbone, layer: int, state: EncoderState) -> EncoderState:
    return backbone.run_layer(layer, state)


def _copies(layer: nn.Module) -> nn.ModuleList:
    """Batch norms with the statistics of those of a layer, and without weights."""
    found = nn.ModuleList()
    for norm in batch_norms(layer).values():
        copy = nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum, affine=False, device=norm.running_mean.device)
        copy.load_state_dict({key: getattr(norm, key) for key in KEPT})
        found.append(copy)
    return found
