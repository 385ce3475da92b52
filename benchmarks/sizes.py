"""What USM-Lite's grid takes at the papers' shapes: counted on the very modules that hold the weights, which have no
memory here (torch's meta device).

    python -m benchmarks.sizes                  wav2vec2-base, 12 layers
    python -m benchmarks.sizes --backbone conformer --output-bits 4

A row for each precision and sparsity: bits a weight of the matrices of the physical layers (codes and positions alone,
as `analysis/published/usmlite_size_arithmetic.csv` counts them, then with scales), and the share of float32 that the
matrices, and that the whole file takes.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.comparison import Bench, Row, counted, parser
from common.errors import run

if TYPE_CHECKING:
    from asr.backbones import BackboneFactory

VOCABULARY = {"conformer": 2002, "wav2vec2": 32, "hubert": 32}
"""Tokens of the papers' systems (arXiv 2505.21237, section 3.1)."""
PRECISIONS = (None, 8, 4, 2)
SPARSITIES = (None, (2, 4), (1, 4))


@dataclasses.dataclass(frozen=True)
class Size:
    """One cell of the grid."""

    precision: str
    sparsity: str
    bits_a_weight: float
    """Of the matrices: codes and positions."""
    bits_with_scales: float
    percent_of_float32: float
    """The matrices, without scales."""
    file_percent_of_float32: float
    """Everything in the file."""


def main(argv: Sequence[str] | None = None) -> list[Row]:
    options = parser("sizes", __doc__)
    options.add_argument("--backbone", choices=list(VOCABULARY), default="wav2vec2")
    options.add_argument("--output-bits", type=int, choices=(8, 4, 2), help="of decoder and CTC layer; default float32")
    arguments = options.parse_args(argv)

    from asr.backbones import BackboneFactory

    report = Bench(arguments).report
    backbone = BackboneFactory(arguments.backbone, {}, VOCABULARY[arguments.backbone])
    sizes = grid(backbone, arguments.output_bits)
    if arguments.json is None:
        print(json.dumps([dataclasses.asdict(size) for size in sizes], indent=1))
    report.say(sizes=[dataclasses.asdict(size) for size in sizes])
    for size in sizes[1:]:
        work = f"file of {arguments.backbone}, 12 layers; {size.bits_with_scales:.3g} bits a weight with scales"
        name = f"USM-Lite, {size.precision}, {size.sparsity}"
        report.add(counted(name, "float32, dense", 100 / size.file_percent_of_float32, work))
    return report.rows


def grid(backbone: "BackboneFactory", output_bits: int | None = None) -> list[Size]:
    """Every precision with every sparsity."""
    return [size_of(backbone, bits, kept, output_bits) for bits in PRECISIONS for kept in SPARSITIES]


def size_of(
    backbone: "BackboneFactory", bits: int | None, kept: tuple[int, int] | None, output_bits: int | None
) -> Size:
    """What `methods.usmlite` writes of a backbone in `bits` with n of every m weights `kept`, decoder and CTC layer in
    `output_bits`; None: float32, all."""
    import torch

    from methods.contract import make_method
    from methods.shared.matrices import matrices, stored_bits

    n, m = kept or (None, None)
    settings = {"source": {"system": "source"}, "bits": bits, "n": n, "m": m, "output_bits": output_bits}
    method = make_method("methods.usmlite", settings, backbone)
    with torch.device("meta"):
        plain = backbone.build()
        weights = {name: part.weight.numel() for name, part in matrices(plain).items()}
        whole = _bytes(plain)
        module = method.reshape(plain, {"packed": method.packs})
    parts = [module.get_submodule(name) for name in weights]
    count = sum(weights.values())
    stored = sum(map(stored_bits, parts))
    alone = (stored - 8 * sum(part.scales.nbytes for part in parts if hasattr(part, "scales"))) / count
    return Size(
        precision="float32" if bits is None else f"int{bits}",
        sparsity="dense" if kept is None else f"{n}:{m}",
        bits_a_weight=alone,
        bits_with_scales=stored / count,
        percent_of_float32=100 * alone / 32,
        file_percent_of_float32=100 * _bytes(module) / whole,
    )


def _bytes(module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


if __name__ == "__main__":
    sys.exit(run(main))
