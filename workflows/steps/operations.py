"""What a point costs by counting: parameters, bytes, multiply-accumulates."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from asr.backbones import Backbone
from methods.contract import Point, TrainedSystem
from methods.shared.matrices import bits_a_weight
from workflows.steps.recognition import Speech


@torch.inference_mode()
def counted_costs(system: TrainedSystem, point: Point, speech: Speech) -> dict[str, int | float | None]:
    """Everything about a point that is counted, not measured; MACs for the speech's seconds."""
    features, lengths = speech.features()
    recogniser = system.method.at(system.module, point)
    with eager_attention(system.module):
        macs = count_macs(lambda: recogniser.ctc_log_probs(recogniser.encode(features, lengths)))
    count = system.method.parameters(system.module, point)
    bits = system.method.bits_a_weight(system.module, point)
    return {
        "parameters_stored": count.stored,
        "parameters_nonzero": count.nonzero,
        "parameters_executed": count.executed,
        "stored_bytes": system.method.stored_bytes(system.module, [point]),
        "bits_a_weight": bits_a_weight(system.module) if bits is None else bits,
        "macs": macs,
    }


def count_macs(forward: Callable[[], Any]) -> int:
    """Multiply-accumulates of matrix products and convolutions: half the operations of torch's counter."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops() // 2


def eager_attention(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Attention as matrix products inside this context: in fused attention the counter sees nothing on CPU."""
    return module.eager_attention() if isinstance(module, Backbone) else contextlib.nullcontext()
