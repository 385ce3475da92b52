"""Settings of features, training and decoding, typed and torch-free, so that an experiment is checked before any work.

Every class refuses unknown keys (`common.settings`). Units are in the names.
"""

from typing import Literal

from pydantic import Field, model_validator

from common.settings import Settings


class FeatureSettings(Settings):
    """Log-mel features (Kaldi-compatible filter banks), normalised by the training set's mean and deviation."""

    mels: int = Field(80, gt=0)
    frame_length_seconds: float = 0.025
    frame_shift_seconds: float = 0.01
    speed_factors: list[float] = [1.0]
    """Training utterances are also used at these speeds (lhotse's resampling perturbation), each as an utterance
    more."""
    store: bool = False
    """Compute once and keep on disk: right for corpora of a few hours on CPU; off, they are computed on the device."""


class TokenizerSettings(Settings):
    units: Literal["word", "char", "bpe"] = "bpe"
    vocabulary: int = 2000
    """Number of BPE pieces; the other units take what the training transcripts hold."""


class OptimiserSettings(Settings):
    """AdamW; with weight decay 0 it is Adam."""

    learning_rate: float = Field(2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip_norm: float = 5.0


class ScheduleSettings(Settings):
    """How the learning rate moves; `asr.schedules` has the formulas."""

    kind: Literal["noam", "cosine", "linear"] = "noam"
    warmup_steps: int = 25000
    final_ratio: float = 0.0
    """cosine and linear end at this share of the peak."""
    noam_factor: float = 5.0
    noam_width: int = 256
    """noam ignores the optimiser's learning rate: factor * width^-0.5 * min(step^-0.5, step * warmup^-1.5)."""


class TrainingSettings(Settings):
    steps: int = Field(gt=0)
    batch_seconds: float = Field(320.0, gt=0)
    """Audio in a batch on one device, padding counted."""
    buckets: int = Field(10, gt=0)
    accumulate: int = Field(1, gt=0)
    """Batches whose gradients are summed before one optimiser step; losses are divided by it."""
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """bf16-mixed takes effect on accelerators; CPU runs stay in float32."""
    devices: int = Field(1, gt=0)
    validate_every: int = Field(1000, gt=0)
    validation_seconds: float = 3600.0
    """At most so much of the dev set is used for validation, its first utterances."""
    keep_best: int = Field(10, gt=0)
    """The best so many validated states, by dev loss, are averaged."""
    checkpoint_every: int = Field(1000, gt=0)
    log_every: int = Field(50, gt=0)
    all_blank: Literal["warn", "stop"] = "warn"
    """What to do when, after a quarter of the steps, every frame still comes out as blank."""
    tensorboard: bool = True

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "TrainingSettings":
        if self.schedule.kind != "noam" and self.schedule.warmup_steps >= self.steps:
            raise ValueError(f"schedule.warmup_steps {self.schedule.warmup_steps} is not below steps {self.steps}")
        return self


class DecodeSettings(Settings):
    """One way to turn encoder outputs into words."""

    kind: Literal["greedy", "beam"] = "greedy"
    """greedy: best CTC label a frame, collapsed. beam: joint CTC/attention beam search."""
    beam: int = Field(20, gt=0)
    ctc_weight: float = Field(0.3, ge=0, le=1)
    penalty: float = 0.1
    """Added for each token of a hypothesis (ESPnet's length bonus)."""
    max_length_ratio: float = 0.0
    """Longest hypothesis in tokens over encoder frames; 0: as many tokens as frames."""
    utterances: int | None = Field(None, gt=0)
    """Only the first so many utterances of each set; None: all."""
    points: Literal["all", "tables"] = "all"
    """tables: only points that a table of the experiment shows, middle depths by the first decode's choice."""
