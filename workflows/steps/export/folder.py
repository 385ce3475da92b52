"""Exporting a system: everything is written beside its place, and the folder appears when all of it is there."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import UserError, is_disk_full
from methods.paths import format_path
from workflows.steps.export.card import write_card
from workflows.steps.export.espnet import write_espnet
from workflows.steps.export.huggingface import write_huggingface
from workflows.steps.export.onnx import write_onnx
from workflows.steps.export.system import read_system


def export_system(
    folder: Path, out: Path, data: Path | None, onnx: str | None, espnet: str | None, packages: Sequence[str] = ()
) -> None:
    """Write the system in `folder` to `out`; `onnx` and `espnet` name a depth or a path each, `packages` what may hold
    its method beside this project. Raises `UserError`."""
    system = read_system(folder, data, packages)
    onnx_path = None if onnx is None else system.find(onnx, "--onnx")
    espnet_path = None if espnet is None else system.find(espnet, "--espnet")
    onnx_file = None
    with appearing(out) as stage:
        write_huggingface(system, stage)
        if espnet_path is not None:
            write_espnet(system, espnet_path, stage / "espnet")
        if onnx_path is not None:
            onnx_file = write_onnx(system, onnx_path, stage / "onnx" / "model.onnx")
        write_card(system, stage, out.name, onnx_file, espnet_path)
    left_out = [point.id for point in system.method.points(system.module) if point not in system.offered]
    depths = ", ".join(map(str, system.chosen))
    size = (out / "model.safetensors").stat().st_size / 1e6
    print(f"{out}: physical layers {system.module.layers}, {size:.2f} MB; depths {depths}")
    if left_out:
        print(
            f"{out}: without {len(left_out)} points that are more than a path of these weights: {left_out[0]} and so on"
        )
    if onnx_file is not None:
        size = (out / "onnx" / "model.onnx").stat().st_size / 1e6
        print(
            f"{out}/onnx/model.onnx: path '{format_path(onnx_file.path)}', {size:.2f} MB; largest difference from "
            f"torch's log-probabilities {onnx_file.largest_difference:.1e}"
        )
    if espnet_path is not None:
        print(f"{out}/espnet: path '{format_path(espnet_path)}', {sum(espnet_path)} layers")


@contextlib.contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `out`, new or empty, when nothing failed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield stage
        umask = os.umask(0)
        os.umask(umask)
        stage.chmod(0o777 & ~umask)  # mkdtemp makes private folders, safetensors private files
        for path in stage.rglob("*"):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.replace(stage, out)
    except BaseException as error:
        if is_disk_full(error):
            raise UserError(f"{out}: no space left on the disk while writing; nothing was exported") from error
        raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
