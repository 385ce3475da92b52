"""How many bits a model computes with: float32, TF32 or bfloat16.

    32-true     exact: no product of float32 numbers is rounded to less
    tf32-mixed  GPUs multiply float32 with 10 bits of mantissa, in matrix products and convolutions
    bf16-mixed  torch's autocast to bfloat16, on CPUs too; weights, gradients and the optimiser's state are float32

Training, decoding and measuring use one context manager, around the forward pass and its loss:

    with precision_of(settings.precision, device):
        loss = method.losses(module, batch, step)["total"]

The backward pass of bfloat16 stands outside of it (autograd uses the numbers of the forward pass); that of TF32 reads
the same switches as the forward pass and needs `float32_products` around both.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from asr.settings import Precision


def what_runs(precision: Precision, device: torch.device) -> Precision:
    """The precision that a device gives when it is asked for `precision`: `32-true` where it cannot do it."""
    if device.type == "cuda":
        tf32, bf16 = torch.cuda.get_device_capability(device) >= (8, 0), torch.cuda.is_bf16_supported()
    else:
        tf32, bf16 = False, True
    possible = {"32-true": True, "tf32-mixed": tf32, "bf16-mixed": bf16}
    return precision if possible[precision] else "32-true"


@contextlib.contextmanager
def precision_of(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside, forward passes on `device` run in `precision`, as far as the device can."""
    bf16 = what_runs(precision, device) == "bf16-mixed"
    cast = torch.autocast(device.type, torch.bfloat16) if bf16 else no_autocast(device)
    with float32_products(precision, device), cast:
        yield


@contextlib.contextmanager
def float32_products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside, matrix products and convolutions of float32 numbers are exact, or in TF32 where `precision` asks for
    it. torch's own default is TF32 for convolutions."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    tf32 = what_runs(precision, device) == "tf32-mixed"
    _set_products("high" if tf32 else "highest", tf32)
    try:
        yield
    finally:
        _set_products(*before)


def exact_by_default() -> None:
    """From here on float32 products are exact wherever no context of this module says otherwise."""
    _set_products("highest", False)


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, nothing is cast: for losses, targets and features, whose inputs are brought to float32 by the caller."""
    if not torch.amp.is_autocast_available(device.type):  # as on torch's `meta`
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def _set_products(matrices: str, convolutions_in_tf32: bool) -> None:
    torch.set_float32_matmul_precision(matrices)
    torch.backends.cudnn.allow_tf32 = convolutions_in_tf32
