"""SpecAugment against ESPnet's module with the same seed, and what is masked and warped."""

import pytest
import torch
from espnet2.asr.specaug.specaug import SpecAug

from asr.backbones.spec_augment import SpecAugment, SpecAugmentSettings

OFF = {"time_warp_window": 0, "frequency_masks": 0, "time_masks": 0}


def spec_augment(**settings):
    return SpecAugment(SpecAugmentSettings(**{**OFF, **settings}))


@pytest.mark.parametrize("lengths", [(100, 100, 100), (100, 63, 11, 10, 1)])
@pytest.mark.parametrize("ratio", [None, 0.2])
def test_the_same_frames_as_espnet_with_the_same_seed(lengths, ratio):
    """Utterances of equal and of different lengths, some too short to be warped."""
    ours = SpecAugment(SpecAugmentSettings(frequency_width=8, time_width=20, time_width_ratio=ratio))
    theirs = SpecAug(
        time_warp_window=5,
        freq_mask_width_range=(0, 8),
        time_mask_width_range=(0, 20) if ratio is None else None,
        time_mask_width_ratio_range=None if ratio is None else (0.0, ratio),
    )
    lengths = torch.tensor(lengths)
    inputs = torch.randn(len(lengths), 100, 20).masked_fill(torch.arange(100)[:, None] >= lengths[:, None, None], 0.0)
    for seed in range(20):
        torch.manual_seed(seed)
        found = ours(inputs, lengths)
        torch.manual_seed(seed)
        expected, _ = theirs(inputs.clone(), lengths)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(found, inputs)


def spec_augmented(draws=150, **settings):
    """Ones of 100 frames and 20 bands after SpecAugment, (draws, frames, bands), zeros where it masks."""
    module = spec_augment(**settings)
    torch.manual_seed(0)
    ones = torch.ones(1, 100, 20)
    return torch.cat([module(ones, torch.tensor([100])) for _ in range(draws)])


def widths(augmented, dimension):
    """Masked bands (dimension 1) or frames (2) of each draw."""
    return (augmented == 0).all(dimension).sum(1).tolist()


def test_frequency_masks_are_as_many_and_as_wide_as_said():
    one, two = (widths(spec_augmented(frequency_width=5, frequency_masks=masks), 1) for masks in (1, 2))
    assert 0 in one and 3 <= max(one) <= 5 < max(two) <= 10
    for off in ({"frequency_masks": 0}, {"frequency_masks": 2, "frequency_width": 0}):
        assert set(widths(spec_augmented(**off), 1)) == {0}


def test_time_masks_are_as_many_and_as_wide_as_said():
    one, two = (widths(spec_augmented(time_width=8, time_masks=masks), 2) for masks in (1, 2))
    assert 0 in one and 5 <= max(one) <= 8 < max(two) <= 16
    share = widths(spec_augmented(time_width_ratio=0.1, time_masks=1, time_width=90), 2)
    assert 0 in share and 7 <= max(share) <= 10 and 3 < sum(share) / len(share) < 6
    assert set(widths(spec_augmented(time_masks=0, time_width=8), 2)) == {0}


def test_masks_of_both_kinds_leave_the_other_dimension_alone():
    assert set(widths(spec_augmented(frequency_width=5, frequency_masks=2), 2)) == {0}
    assert set(widths(spec_augmented(time_width=8, time_masks=2), 1)) == {0}


def test_time_warping_moves_frames_only_where_it_is_on():
    inputs = torch.arange(1.0, 101.0)[None, :, None].expand(1, 100, 20)
    for window, moved in ((0, False), (1, True), (5, True)):
        module = spec_augment(time_warp_window=window, frequency_masks=1, frequency_width=9)
        warped = [module(inputs, torch.tensor([100])) for _ in range(20)]
        distances = [float((one - inputs)[one != 0].abs().max()) for one in warped]
        assert (max(distances) > 0) == moved and max(distances) <= window + 1
