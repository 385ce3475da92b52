"""SpecAugment (Park et al., 2019) as ESPnet's module does it, without a wait for the device.

Everything random is drawn on the host, from its generator and in ESPnet's order: with the same seed the same frames are
warped and masked. The device is told once, by one small tensor for each part.

    warping    an utterance's frames before a random centre are stretched or squeezed to end up to `window` frames away,
               those behind it to fill the rest, by cubic interpolation (Keys, 1981, a = -0.75)
    masks      so many spans of mel bands, and of frames, are set to zero
"""

import torch
from torch import Tensor, nn

from common.settings import Settings

CUBIC = -0.75
"""Keys' a, as in torch's bicubic interpolation."""
TAPS = 4
"""Frames from which cubic interpolation makes one."""


class SpecAugmentSettings(Settings):
    """Widths 0 switch a part off."""

    time_warp_window: int = 5
    frequency_masks: int = 2
    frequency_width: int = 30
    time_masks: int = 2
    time_width: int = 40
    time_width_ratio: float | None = None
    """Instead of `time_width`: widest time mask as a share of the utterance."""


class SpecAugment(nn.Module):
    """Warps and masks features; it holds no weights."""

    def __init__(self, settings: SpecAugmentSettings):
        super().__init__()
        self.settings = settings

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`x` (batch, frames, bands), of `lengths` (batch,) frames, which stand on the host; the given tensor is not
        changed. Utterances of different lengths are warped each in its own way, those of equal length alike."""
        settings = self.settings
        if settings.time_warp_window > 0:
            x = warped(x, lengths, *draw_warps(lengths, settings.time_warp_window))
        widest = settings.time_width
        if settings.time_width_ratio is not None:
            widest = min(x.size(1), int(x.size(1) * settings.time_width_ratio))
        for dimension, count, width in (
            (2, settings.frequency_masks, settings.frequency_width),
            (1, settings.time_masks, widest),
        ):
            if count > 0 and width > 0:
                spans = draw_spans(len(x), count, width, x.size(dimension)).to(x.device, non_blocking=True)
                x = x.masked_fill(spans[:, :, None] if dimension == 1 else spans[:, None, :], 0.0)
        return x


def draw_spans(rows: int, count: int, width: int, size: int) -> Tensor:
    """(rows, size) bool on the host: where any of `count` spans lies, of less than `width` positions each."""
    widths = torch.randint(0, width, (rows, count))
    starts = torch.randint(0, max(1, size - int(widths.max())), (rows, count))
    positions = torch.arange(size)
    return ((starts[:, :, None] <= positions) & (positions < (starts + widths)[:, :, None])).any(1)


def draw_warps(lengths: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Of each utterance the frame (batch,) at which it is cut, and where this frame comes to lie (batch,). The same
    number twice for an utterance too short to be warped."""
    alike = bool((lengths == lengths[0]).all())
    cuts = []
    for length in lengths[:1].tolist() if alike else lengths.tolist():
        if length - window <= window:
            cuts.append((1, 1))
            continue
        centre = int(torch.randint(window, length - window, (1,)))
        cuts.append((centre, int(torch.randint(centre - window, centre + window, (1,))) + 1))
    centres, ends = torch.tensor(cuts).expand(len(lengths), -1).T
    return centres, ends


def warped(x: Tensor, lengths: Tensor, centres: Tensor, ends: Tensor) -> Tensor:
    """`x` (batch, frames, bands) with its frames before `centres` stretched to end at `ends`, those behind to fill the
    rest of `lengths`; all three (batch,) on the host. Zeros behind an utterance's end."""
    numbers, shares = _taps(x.size(1), lengths, centres, ends)
    numbers, shares = numbers.to(x.device, non_blocking=True), shares.to(x.device, x.dtype, non_blocking=True)
    made = torch.zeros_like(x)
    for tap in range(TAPS):
        frames = x.gather(1, numbers[:, :, tap, None].expand_as(x))
        made.addcmul_(frames, shares[:, :, tap, None])
    return made


def _taps(frames: int, lengths: Tensor, centres: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Of which frames each frame is made, (batch, frames, TAPS), and of how much of each."""
    positions = torch.arange(frames)[None, :]
    lengths, centres, ends = (each[:, None] for each in (lengths, centres, ends))
    before = positions < ends
    first = torch.where(before, 0, centres)
    last = torch.where(before, centres, lengths) - 1
    scale = torch.where(before, centres / ends, (lengths - centres) / (lengths - ends).clamp(min=1))
    place = (positions - torch.where(before, 0, ends) + 0.5) * scale - 0.5
    left = place.floor()
    numbers = left.long()[:, :, None] + torch.arange(-1, TAPS - 1)
    numbers = (numbers + first[:, :, None]).clamp(min=first[:, :, None], max=last[:, :, None])
    shares = _cubic((place - left)[:, :, None] - torch.arange(-1, TAPS - 1))
    return numbers.clamp(min=0), shares * (positions < lengths)[:, :, None]


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel."""
    d = distance.abs()
    near = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1
    far = CUBIC * (((d - 5) * d + 8) * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
