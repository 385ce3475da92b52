"""Settings of features, training and decoding, typed and torch-free, so that an experiment is checked before any work.

Every class refuses unknown keys (`common.settings`). Units are in the names.
"""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from common.settings import Settings

Precision = Literal["32-true", "tf32-mixed", "bf16-mixed"]
"""`asr.precision` says what each means."""


class FeatureSettings(Settings):
    """What a model reads.

    log_mel: Kaldi-compatible filter banks, normalised by the training set's mean and deviation. waveform: the samples,
    normalised utterance by utterance; of the other settings only `speed_factors` goes with it.
    """

    kind: Literal["log_mel", "waveform"] = "log_mel"
    mels: int = Field(80, gt=0)
    frame_length_seconds: float = 0.025
    frame_shift_seconds: float = 0.01
    speed_factors: list[float] = [1.0]
    """Training utterances are also used at these speeds (lhotse's resampling perturbation), each as an utterance
    more."""
    store: bool = False
    """Compute once and keep on disk: right for corpora of a few hours on CPU; off, they are computed on the device."""

    @model_validator(mode="after")
    def _waveforms_have_no_filters(self) -> "FeatureSettings":
        if self.kind == "waveform":
            meaningless = sorted(self.model_fields_set - WAVEFORM_KEYS)
            if meaningless:
                raise ValueError(f"{', '.join(meaningless)}: not for kind 'waveform', which reads the samples")
        return self

    @model_serializer(mode="wrap")
    def _only_what_has_a_meaning(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        return {key: values[key] for key in values if self.kind == "log_mel" or key in WAVEFORM_KEYS}


WAVEFORM_KEYS = {"kind", "speed_factors"}


class TokenizerSettings(Settings):
    units: Literal["word", "char", "bpe", "letter"] = "bpe"
    """letter: a fixed list, that of wav2vec2's published models or the one in `letters`."""
    vocabulary: int = 2000
    """Number of BPE pieces; word and char units take what the training transcripts hold."""
    letters: str | None = None
    """For letter units: a `vocab.json` in Hugging Face's layout; None: the 32 entries of wav2vec2-base-100h."""

    @model_validator(mode="after")
    def _letters_go_with_their_unit(self) -> "TokenizerSettings":
        if self.letters is not None and self.units != "letter":
            raise ValueError("letters: a list of letters goes with units 'letter'")
        return self


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
    warmup_share: float | None = Field(None, ge=0, lt=1)
    """Where it is given, `warmup_steps` are this share of the training's steps."""
    final_ratio: float = 0.0
    """cosine and linear end at this share of the peak."""
    noam_factor: float = 5.0
    noam_width: int = 256
    """noam ignores the optimiser's learning rate: factor * width^-0.5 * min(step^-0.5, step * warmup^-1.5)."""


class TrainingSettings(Settings):
    steps: int = Field(gt=0)
    passes: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Where it is given, training lasts as many steps as so many passes over the training set take, `steps` at most and
    `least_steps` at least: for corpora whose size is not known when the experiment is written."""
    least_steps: int = Field(1, gt=0)
    batch_seconds: float = Field(320.0, gt=0)
    """Audio in a batch on one device, padding counted."""
    batch_utterances: int | None = Field(None, gt=0)
    """Instead, so many utterances in a training batch on one device, whatever their length."""
    pad_to_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Inputs of a training batch end at a multiple of so many seconds, so that there are few shapes; 0: where the
    longest utterance ends."""
    buckets: int = Field(10, gt=0)
    accumulate: int = Field(1, gt=0)
    """Batches whose gradients are summed before one optimiser step; losses are divided by it."""
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    precision: Precision = "32-true"
    """Of training steps; validation is in float32. tf32-mixed: on GPUs, other devices stay exact. bf16-mixed: on CPUs
    too."""
    compile: Literal["none", "blocks"] = "none"
    """blocks: layers of the encoder go through torch's compiler in training steps, but for those that keep their input
    only (`checkpoint_layers`). The sums are in another order."""
    devices: int = Field(1, gt=0)
    """Of one training, a process each, on one machine or on those over which a launcher spreads its tasks evenly."""
    batch_norm: Literal["local", "global"] = "local"
    """Whose real frames batch norm takes its statistics from in training: each device's own, where those of the first
    one are kept, or those of all devices, which then run the same layers in each step."""
    validate_every: int = Field(1000, gt=0)
    validation_seconds: float = 3600.0
    """So much of the dev set is used for validation, of all its speakers in turn, or all of it."""
    keep: Literal["last", "best", "average"] = "average"
    """Which state training ends with: that of the last step, the best validated one, or the average of the best
    `keep_states`. They are ranked on the dev set by one term that compared systems have in common
    (`Method.selection_term`), never by totals of different losses."""
    keep_states: int = Field(10, gt=0)
    """So many states `average` takes."""
    checkpoint_every: int = Field(1000, gt=0)
    log_every: int = Field(50, gt=0)
    all_blank: Literal["warn", "stop"] = "warn"
    """What to do when, after a quarter of the steps, every frame still comes out as blank."""
    tensorboard: bool = True
    workers: int = Field(0, ge=0)
    """Processes that read batches ahead on one device; 0: the training process reads each when it is its turn."""
    prefetch: int = Field(2, gt=0)
    """Batches that each worker reads ahead."""
    features_on: Literal["device", "workers"] = "device"
    """Where a GPU is: who makes log-mel features that are not stored. On CPUs it is always the process that reads."""

    @model_validator(mode="before")
    @classmethod
    def _a_share_becomes_steps(cls, data: Any) -> Any:
        schedule, steps = (data.get("schedule"), data.get("steps")) if isinstance(data, dict) else (None, None)
        share = schedule.get("warmup_share") if isinstance(schedule, dict) else None
        if not isinstance(share, float | int) or not isinstance(steps, int):
            return data
        return {**data, "schedule": {**schedule, "warmup_steps": round(share * steps)}}

    @model_validator(mode="after")
    def _passes_have_a_length(self) -> "TrainingSettings":
        if self.passes is not None and self.batch_utterances is not None:
            raise ValueError("passes are counted in seconds of audio: give batch_seconds, not batch_utterances")
        if self.passes is not None and self.schedule.kind != "noam" and self.schedule.warmup_share is None:
            raise ValueError("with passes the number of steps is not known: give schedule.warmup_share")
        if self.least_steps > self.steps:
            raise ValueError(f"least_steps {self.least_steps} is above steps {self.steps}")
        return self

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
    max_length_ratio: float = Field(0.0, ge=0)
    """Longest hypothesis in tokens over encoder frames; 0: as many tokens as frames."""
    batch_hypotheses: int = Field(320, gt=0)
    """Of beam search: so many hypotheses are searched together, of as many utterances and points as fit, one at least:
    as much as memory holds. Transcripts do not depend on it."""
    utterances: int | None = Field(None, gt=0)
    """Only so many utterances of each set, of its speakers in turn; None: all."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Of the encoder; labels are found from float32."""
    points: Literal["all", "tables", "own_tables"] = "all"
    """tables: only points that a table of the experiment shows; which of several at one depth, the first decode that
    covers all points says. own_tables: the same of the tables that name this decode; systems in none of their rows are
    not decoded by it."""
