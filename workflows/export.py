"""Write a trained system as a folder to take away: for Hugging Face's transformers, ONNX Runtime and ESPnet.

    python -m workflows.export results/smoke/systems/f6/seed0 exported/f6
    python -m workflows.export results/smoke/systems/f6/seed0 exported/f6 --onnx 8 --espnet 12
    python -m workflows.export results/reference/mini_cpu/systems/f6/seed0 exported/f6     one that is committed

OUT gets `config.json`, `model.safetensors` (physical layers once), the processor's files and a model card, `README.md`,
and for wav2vec2 and HuBERT the modules that run them without this project.
`--onnx` adds `onnx/model.onnx`, `--espnet` adds `espnet/`, each at one depth, or one path written `"1 1 2 2"`.
"""

import argparse
import sys
from pathlib import Path

from common.errors import UserError, run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.export", description="Write a trained system as a folder to take away."
    )
    parser.add_argument("system", type=Path, metavar="SYSTEM", help="folder written by workflows.train")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must be new or empty")
    parser.add_argument(
        "--data", type=Path, help="prepared data it was trained on (found by itself where the run left it)"
    )
    parser.add_argument("--onnx", metavar="DEPTH", help="also write ONNX at this depth or path ('1 1 2 2')")
    parser.add_argument("--espnet", metavar="DEPTH", help="also write an ESPnet checkpoint at this depth or path")
    parser.add_argument(
        "--package", action="append", default=[], help="a package, beside this project, that may hold its method"
    )
    arguments = parser.parse_args()
    check_folders(arguments.system, arguments.out)

    from workflows.kept import whole
    from workflows.steps.export.folder import export_system

    formats = (arguments.onnx, arguments.espnet)
    with whole(arguments.system) as system:
        export_system(system, arguments.out, arguments.data, *formats, packages=arguments.package)


def check_folders(system: Path, out: Path) -> None:
    """Raises `UserError` when SYSTEM is no system, or something is in the way at OUT."""
    if not (system / "system.json").is_file():
        raise UserError(
            f"{system}: no trained system (there is no system.json); name a folder such as "
            "results/smoke/systems/f6/seed0"
        )
    from workflows.kept import ARCHIVE, WEIGHTS

    if (system / ARCHIVE).is_file() and not (system / WEIGHTS[0]).is_file():
        experiment, _, name, seed = system.resolve().parts[-4:]
        again = f"EXPERIMENT={experiment} SYSTEMS={name} SEEDS={seed.removeprefix('seed')} FRESH=1"
        raise UserError(
            f"{system}: its weights are not among the committed results; `make reproduce {again}` trains it again, "
            "export it from there"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file stands there; name a new folder")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: the folder is not empty; name a new one, or empty it")


if __name__ == "__main__":
    sys.exit(run(main))
