"""Clusters of speech frames, one label for each frame of a speech encoder: k-means over MFCCs (HuBERT, section 2.1)."""

import math
import warnings

import numpy as np
import torch
from lhotse.features.kaldi.layers import Wav2MFCC
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from asr.backbones.speech_encoder import SpeechEncoder
from asr.portable.speech import shortest_input
from asr.precision import no_autocast
from common.errors import UserError

COEFFICIENTS = 13
LONGEST_WINDOW_SECONDS = 0.025
FEWEST_FRAMES = 10
"""For each cluster, on average."""


class Clusters(nn.Module):
    """Nearest centroids of standardised MFCCs with their first and second differences (39 numbers a frame).

    One window for each encoder frame, in the middle of what that frame sees.
    """

    def __init__(self, backbone: SpeechEncoder, clusters: int):
        super().__init__()
        rate = backbone.config.sampling_rate
        self.seen = shortest_input(backbone.model)
        self.shift = math.prod(backbone.config.conv_stride)
        window = min(self.seen, round(LONGEST_WINDOW_SECONDS * rate))
        self.offset = (self.seen - window) // 2
        with warnings.catch_warnings():
            # lhotse warns that its own manifests of features expect another number of frames; we keep none.
            warnings.filterwarnings("ignore", message="Setting snip_edges=True")
            self.mfcc = Wav2MFCC(
                sampling_rate=rate,
                frame_length=window / rate,
                frame_shift=self.shift / rate,
                num_ceps=COEFFICIENTS,
                snip_edges=True,
            ).eval()
        for parameter in self.mfcc.parameters():
            parameter.requires_grad_(False)
        self.register_buffer("mean", torch.zeros(3 * COEFFICIENTS))
        self.register_buffer("deviation", torch.ones(3 * COEFFICIENTS))
        self.register_buffer("centroids", torch.zeros(clusters, 3 * COEFFICIENTS))

    @torch.no_grad()
    def features(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """`waveforms` (batch, samples), padded, of so many samples (`lengths`, (batch,)) -> (batch, frames, 39), in
        float32 in a training of any precision. An utterance's own frames see nothing of the padding behind them."""
        if waveforms.size(1) < self.seen:
            waveforms = torch.nn.functional.pad(waveforms, (0, self.seen - waveforms.size(1)))
        frames = (waveforms.size(1) - self.seen) // self.shift + 1
        with no_autocast(waveforms.device):
            steady = self.mfcc(waveforms[:, self.offset :].float())[:, :frames]
        counts = (lengths - self.seen) // self.shift + 1
        first = difference(steady, counts)
        return torch.cat([steady, first, difference(first, counts)], dim=-1)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """The cluster of each frame: (batch, frames)."""
        standard = (self.features(waveforms, lengths) - self.mean) / self.deviation
        centroids = self.centroids.expand(len(standard), -1, -1)
        # Difference by difference: through matrix products, near ties would depend on the size of the batch.
        with no_autocast(waveforms.device):
            return torch.cdist(standard, centroids, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)

    def fit(self, frames: np.ndarray, seed: int) -> None:
        """Find the centroids of `frames` (frames, 39). Raises `UserError` when there are too few."""
        from sklearn.cluster import MiniBatchKMeans

        count = len(self.centroids)
        if len(frames) < FEWEST_FRAMES * count:
            raise UserError(
                f"settings.clusters: {count} clusters need at least {FEWEST_FRAMES * count} frames of speech; "
                f"there are {len(frames)}"
            )
        mean, deviation = frames.mean(0), frames.std(0) + 1e-6
        kmeans = MiniBatchKMeans(count, n_init=3, batch_size=10000, random_state=seed)
        with threadpool_limits(torch.get_num_threads()):  # sums in another order would give other centroids
            kmeans.fit((frames - mean) / deviation)
        found = ((self.mean, mean), (self.deviation, deviation), (self.centroids, kmeans.cluster_centers_))
        for buffer, values in found:
            buffer.copy_(torch.as_tensor(values, dtype=torch.float32))


def difference(frames: Tensor, counts: Tensor) -> Tensor:
    """Half the difference between the next frame and the last, the ends of each utterance of `counts` (batch,) frames
    repeated: (batch, frames, numbers)."""
    numbers = torch.arange(frames.size(1), device=frames.device)
    last = (numbers - 1).clamp(min=0)
    following = torch.minimum(numbers + 1, (counts.to(frames.device, non_blocking=True)[:, None] - 1).clamp(min=0))
    return 0.5 * (frames.gather(1, following[:, :, None].expand_as(frames)) - frames[:, last])
