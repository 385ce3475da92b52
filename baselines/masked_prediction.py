"""A speech foundation model from speech alone: masked prediction of clustered features, HuBERT's objective.

Hsu et al., HuBERT (2021): the features of every frame are clustered by k-means; spans of the encoder's input are
masked, and the model predicts the clusters of the masked frames by cosine similarity with one embedding a cluster. This
is its first iteration, on MFCCs. Where no published model can be fetched, or its size does not fit, this gives the
encoder that is fine-tuned and compressed. It has seen the experiment's training speech and nothing else: far from
wav2vec2-base or hubert-base, which have heard 960 hours.

The result recognises nothing yet: it has no operating points, and its CTC layer is random until it is fine-tuned.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.backbones import Batch
from asr.backbones.speech_encoder import SpeechEncoder
from asr.clusters import Clusters
from asr.precision import no_autocast
from asr.processes import mean_of_all
from asr.settings import TrainingSettings
from common.settings import Settings
from methods.contract import Method, Point, Stage, Step


class MaskedPrediction(Method):
    """Pre-training of a wav2vec2 or HuBERT encoder without transcripts."""

    kind = "foundation model"
    backbones = ("wav2vec2", "hubert")
    recognises = False

    class Config(Settings):
        clusters: int = Field(100, gt=1)
        clustered_seconds: float = Field(3600.0, gt=0)
        """So much training speech is clustered."""
        masked_share: float = Field(0.8, gt=0, le=1)
        """Masked frames over all frames if spans did not overlap (HuBERT: 8 % of the frames begin a span of 10)."""
        span: int = Field(10, gt=0)
        """Frames of a masked span."""
        unmasked_weight: float = Field(0.0, ge=0)
        """Weight of the frames that are not masked, beside those that are (alpha of HuBERT's Eq. 4 is 1 here)."""
        projection: int = Field(256, gt=0)
        temperature: float = Field(0.1, gt=0)

    def build(self) -> nn.Module:
        return Pretraining(self.backbone.build(), self.config)

    def stages(self, training: TrainingSettings) -> list[Stage]:
        return [Stage("pretrain", training, labelled=False)]

    def begin_stage(self, module: nn.Module, stage: Stage, batches: Iterable[Batch]) -> nn.Module:
        seconds, frames = 0.0, []
        for batch in batches:
            features = module.clusters.features(batch.inputs, batch.input_lengths)
            counts = module.backbone.output_lengths(batch.input_lengths.tolist())
            frames += [row[:count].cpu().numpy() for row, count in zip(features, counts, strict=True)]
            seconds += float(batch.input_lengths.sum()) / module.backbone.config.sampling_rate
            if seconds > self.config.clustered_seconds:
                break
        module.clusters.fit(np.concatenate(frames), seed=int(torch.randint(2**31, ())))
        return module

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        backbone, config = module.backbone, self.config
        labels = module.clusters(batch.inputs, batch.input_lengths)
        counts = backbone.output_lengths(batch.input_lengths.tolist())
        masked = masked_spans(counts, labels.size(1), config.masked_share, config.span, step.generator("mask"))
        chosen = int(masked.sum())
        masked = masked.to(labels.device, non_blocking=True)
        ones = (1,) * backbone.layers
        drop = backbone.draw_layer_drop(backbone.layers, step.layers_generator("layer drop")) if step.training else None
        state = backbone.run_path(ones, backbone.front_end(batch.inputs, batch.input_lengths, masked), drop)
        logits = module.logits(backbone.finish(state).frames)
        losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        right = logits.detach().argmax(-1) == labels
        parts = {
            "masked": (masked, chosen),
            "unmasked": (state.valid & ~masked, int(state.lengths.sum()) - chosen),
        }
        terms = {}
        for name, (where, frames) in parts.items():
            loss = torch.where(where, losses, 0.0).sum() / max(1, frames)
            accuracy = (right & where).sum() / max(1, frames)
            terms[name], terms[f"{name}_accuracy"] = (mean_of_all(each, frames) for each in (loss, accuracy))
        return {"total": terms["masked"] + config.unmasked_weight * terms["unmasked"], **terms}

    def finish(self, module: nn.Module, calibration: Iterable[Batch]) -> nn.Module:
        """The encoder; clusters and prediction layer have served."""
        return module.backbone

    def architecture(self, module: nn.Module) -> dict[str, Any]:
        return {"pretraining": isinstance(module, Pretraining)}

    def outline(self) -> nn.Module:
        return self.backbone.outline()

    def rebuild(self, architecture: dict[str, Any]) -> nn.Module:
        return self.build() if architecture["pretraining"] else self.backbone.build()

    def output_lengths(self, module: nn.Module, lengths: list[int]) -> list[int]:
        return (module.backbone if isinstance(module, Pretraining) else module).output_lengths(lengths)

    def points(self, module: nn.Module) -> list[Point]:
        return []


class Pretraining(nn.Module):
    """An encoder, the clusters it learns to predict, and the layer that compares with them."""

    def __init__(self, backbone: SpeechEncoder, config: MaskedPrediction.Config):
        super().__init__()
        self.backbone = backbone
        self.backbone.model.lm_head.requires_grad_(False)  # no letters are learnt here
        self.temperature = config.temperature
        self.clusters = Clusters(backbone, config.clusters)
        self.projection = nn.Linear(backbone.config.width, config.projection)
        self.embeddings = nn.Parameter(torch.rand(config.clusters, config.projection))

    def logits(self, frames: Tensor) -> Tensor:
        """`frames` (batch, frames, width) -> (batch, frames, clusters): cosine similarity over the temperature (HuBERT,
        Eq. 3), in float32: so low a temperature would multiply bfloat16's rounding."""
        projected = self.projection(frames)
        with no_autocast(frames.device):
            projected = F.normalize(projected.float(), dim=-1)
            return projected @ F.normalize(self.embeddings, dim=-1).T / self.temperature


def masked_spans(counts: list[int], frames: int, share: float, span: int, generator: torch.Generator) -> Tensor:
    """(utterances, frames) bool: in each utterance of so many frames, spans at random starts, at least one."""
    masked = torch.zeros(len(counts), frames, dtype=torch.bool)
    for row, count in enumerate(counts):
        starts = torch.randperm(max(1, count - span + 1), generator=generator)
        for start in starts[: max(1, round(share * count / span))].tolist():
            masked[row, start : min(start + span, count)] = True
    return masked
