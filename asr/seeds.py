"""What is random about a step of training: a function of the seed and of where the step stands."""

import random

import numpy as np
import torch


def seed_step(seed: int, stage: str, index: int, rank: int) -> None:
    """Seed dropout, masks and warps of one step on one device (transformers draws its masks with numpy)."""
    number = random.Random(f"{seed} {stage} {index} {rank}").getrandbits(48)
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)
