"""What the model card says of loading: lines that can be run as they stand."""

from pathlib import Path

from workflows.steps.export.huggingface import is_portable
from workflows.steps.export.system import ExportedSystem

LOAD = """\
```python
import {imported}soundfile, transformers

recognise = transformers.pipeline("automatic-speech-recognition", "{name}"{trust})
audio, rate = soundfile.read("speech.wav")
print(recognise({{"raw": audio, "sampling_rate": rate}})["text"])
```
"""
LOAD_ONNX = """\
```python
import itertools, json, numpy, onnxruntime, soundfile

session = onnxruntime.InferenceSession("{name}/onnx/model.onnx")
texts = json.load(open("{name}/onnx/tokens.json", encoding="utf-8"))
audio, rate = soundfile.read("speech.wav", dtype="float32")
log_probs, frames = session.run(None, {{"waveform": audio[None], "lengths": numpy.array([len(audio)])}})
labels = log_probs[0, : frames[0]].argmax(-1)
print(" ".join("".join(texts[label] for label, _ in itertools.groupby(labels)).split()))
```
"""
IN_A_CHECKOUT = """\
`asr.exported.huggingface` is a module of this project: run it from a checkout, or with the checkout on `PYTHONPATH`."""
TRUST = """\
It needs torch and transformers. `trust_remote_code=True` lets transformers run the modules in this folder
({modules}); read them first. Without it transformers refuses. In a checkout of this project
`import asr.exported.huggingface` does instead, and no code of this folder is run."""


def how_to_load(system: ExportedSystem, out: Path, name: str, onnx: bool) -> str:
    """The section of the files in `out`, a folder that will be called `name`; `onnx`: whether ONNX is there."""
    trust = ", trust_remote_code=True" if is_portable(system) else ""
    lines = [LOAD.format(name=name, imported="" if trust else "asr.exported.huggingface, ", trust=trust)]
    modules = ", ".join(f"`{path.name}`" for path in sorted(out.glob("*.py")))
    lines.append((TRUST.format(modules=modules) if trust else IN_A_CHECKOUT) + "\n")
    lines.append(f"The depth is an argument, {system.default_depth} by default, and can be changed at any time:\n")
    other = min(system.chosen)
    lines.append(
        "```python\n"
        f'model = transformers.AutoModelForCTC.from_pretrained("{name}"{trust}, depth={other})\n'
        f"model.depth = {system.default_depth}\n"
        "```\n"
    )
    lines.append("Speech with another sampling rate is refused: resample it first.\n")
    if onnx:
        lines.append("With onnxruntime, without transformers and without a checkout; it looks at no sampling rate:\n")
        lines.append(LOAD_ONNX.format(name=name))
    elif not trust:
        lines.append("Without a checkout it runs as ONNX: export it with `--onnx DEPTH`.\n")
    return "\n".join(lines)
