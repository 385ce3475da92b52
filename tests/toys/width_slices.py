"""Toy method: one set of weights at several widths.

At a share s of the width, only the first s of the feed-forward units run and only the first s of the encoder's output
features are read, so the CTC layer is narrower too. Slices are views made at each call: nothing is copied or aliased.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from asr.backbones import Backbone, Batch, Encoded, Outputs
from asr.precision import no_autocast
from common.settings import Settings
from methods.contract import Method, ParameterCount, Point, Step


class WidthSlices(Method):
    backbones = ("conformer",)

    class Config(Settings):
        shares: list[float] = [1.0, 0.5]

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        terms = {}
        for share in self.config.shares:
            sliced = Sliced(module, share)
            encoded = sliced.encode(batch.inputs, batch.input_lengths)
            outputs = Outputs(sliced.ctc_logits(encoded), encoded.lengths)
            labels = batch.targets.clamp(min=0)
            with no_autocast(labels.device):
                log_probs = torch.log_softmax(outputs.ctc_logits.float(), -1).transpose(0, 1)
                each = F.ctc_loss(log_probs, labels, outputs.lengths, batch.target_lengths, reduction="none")
            terms[f"ctc {share}"] = each.mean()
        if step.training:  # the decoder is trained at full width only
            whole = module.outputs(module.encode(batch.inputs, batch.input_lengths), batch)
            terms["whole"] = module.loss(whole, batch)["total"]
        return {"total": sum(terms.values()), **terms}

    def selection_term(self, terms: Collection[str]) -> str:
        return f"ctc {max(self.config.shares)}"

    def points(self, module: nn.Module) -> list[Point]:
        return [
            Point(f"width{round(100 * share):03d}", f"width {share}", settings={"share": share}, trained=True)
            for share in self.config.shares
        ]

    def at(self, module: nn.Module, point: Point) -> "Sliced":
        return Sliced(module, point.settings["share"])

    def parameters(self, module: nn.Module, point: Point) -> ParameterCount:
        whole = super().parameters(module, point)
        spared = whole.stored - sum(p.numel() for p in self._at_share(module, point).values())
        return ParameterCount(whole.stored, whole.nonzero, whole.executed - spared)

    def stored_bytes(self, module: nn.Module, points: Sequence[Point]) -> int:
        widest = max(points, key=lambda point: point.settings["share"])
        spared = super().parameters(module, widest).stored - sum(
            p.numel() for p in self._at_share(module, widest).values()
        )
        return super().stored_bytes(module, points) - 4 * spared

    @staticmethod
    def _at_share(module: nn.Module, point: Point) -> dict[str, Tensor]:
        sliced = Sliced(module, point.settings["share"])
        narrow = {**sliced.slices(), "ctc.ctc_lo.weight": sliced.ctc_weight()}
        return {**dict(module.named_parameters()), **narrow}


@dataclasses.dataclass(frozen=True)
class Sliced:
    backbone: Backbone
    share: float

    def slices(self) -> dict[str, Tensor]:
        """Views of the feed-forward weights, by parameter name."""
        views = {}
        for name, value in self.backbone.encoder.named_parameters(prefix="encoder"):
            if ".feed_forward" in name:
                kept = round(self.share * self.backbone.config.ffn)
                if name.endswith("w_2.weight"):
                    views[name] = value[:, :kept]
                elif ".w_1." in name:
                    views[name] = value[:kept]
        return views

    def ctc_weight(self) -> Tensor:
        return self.backbone.ctc.ctc_lo.weight[:, : round(self.share * self.backbone.config.width)]

    def encode(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        encoded = functional_call(self.backbone, self.slices(), (inputs, lengths))
        return Encoded(encoded.frames[..., : self.ctc_weight().size(1)], encoded.lengths)

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        return F.linear(encoded.frames, self.ctc_weight(), self.backbone.ctc.ctc_lo.bias)

    def ctc_log_probs(self, encoded: Encoded) -> Tensor:
        return self.log_softmax(encoded.frames)

    def log_softmax(self, frames: Tensor) -> Tensor:
        """What a CTC scorer asks of a CTC layer: `frames` (batch, frames, width)."""
        return F.linear(frames, self.ctc_weight(), self.backbone.ctc.ctc_lo.bias).log_softmax(-1)

    def scorers(self) -> dict[str, Any]:
        """The decoder reads frames of full width; narrower points are searched by CTC alone."""
        whole = self.backbone.scorers()
        if self.ctc_weight().size(1) == self.backbone.config.width:
            return whole
        return {"ctc": type(whole["ctc"])(ctc=self, eos=self.backbone.sos_eos)}
