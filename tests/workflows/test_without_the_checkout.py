"""Exported folders where this project is not installed: loaded by a process that cannot import it, packed ones too, and
compared with the systems that they were written from."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file

import asr.exported.huggingface  # noqa: F401
from asr.decoding import greedy
from asr.features import make_extractor
from asr.portable.speech import ctc_logits
from methods.shared.bitmap import bitmaps
from methods.shared.matrices import packed_matrices
from tests.systems import chain_folder, derived_folder, speech, system_folder
from tests.workflows.commands import ROOT
from workflows.steps.export.folder import export_system
from workflows.steps.export.onnx import largest_difference
from workflows.steps.export.system import read_system
from workflows.steps.export.weights import is_backbone, packed_forms
from workflows.systems import load_system

LENGTHS = (0.9, 2.1, 1.4)
"""Seconds of the utterances of a batch."""
MODULES = {"bitmap.py", "foldable.py", "masks.py", "packed.py", "speech.py"}
ELSEWHERE = """
import importlib.util, json, sys
import numpy, torch, transformers

for name in ("asr", "baselines", "common", "methods", "workflows"):
    assert importlib.util.find_spec(name) is None, name
job, found = json.load(open(sys.argv[1])), {}
for folder in job["folders"]:
    for arguments in ({}, {"trust_remote_code": False}):
        try:
            transformers.AutoModelForCTC.from_pretrained(folder, **arguments)
        except ValueError as error:
            assert "trust_remote_code=True" in str(error), error
        else:
            raise AssertionError("code of the folder was run without trust")
    assert not any(name.startswith("transformers_modules." + folder) for name in sys.modules)
    processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    rate = processor.feature_extractor.sampling_rate
    waveforms = [numpy.array(numpy.load(f"{rate}.npz")[name]) for name in ("0", "1", "2")]
    inputs = processor(waveforms, sampling_rate=rate, padding=True, return_tensors="pt")
    found[f"{folder} inputs"], found[f"{folder} mask"] = inputs["input_values"], inputs["attention_mask"]
    model = transformers.AutoModelForCTC.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules")
    for depth in model.config.chosen:
        model.depth = int(depth)
        with torch.inference_mode():
            found[f"{folder} depth {depth}"] = model(**inputs).logits
    model.save_pretrained(f"{folder}_again")
    lowest = min(map(int, model.config.chosen))
    again = transformers.AutoModelForCTC.from_pretrained(f"{folder}_again", trust_remote_code=True, depth=lowest)
    with torch.inference_mode():
        assert again.depth == lowest and torch.equal(again(**inputs).logits, found[f"{folder} depth {lowest}"])
    try:
        model.depth = 99
    except ValueError as error:
        assert "depth 99" in str(error) and str(lowest) in str(error)
    else:
        raise AssertionError("depth 99")
numpy.savez("found.npz", **{name: value.numpy() for name, value in found.items()})
"""


def isolated(code, folder, *arguments):
    """Run a program in `folder` with this interpreter and its packages, without this project and without a network."""
    home = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    words = [sys.executable, "-I", "-c", code, *arguments]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**environment, **home}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def systems(run, tmp_path_factory):
    """Folders of systems that read the waveform: those of the tiny experiment, all-physical, folded, folded and packed;
    and chains."""
    root = tmp_path_factory.mktemp("systems")
    hubert = chain_folder(root / "hubert", "hubert")
    half = hubert.parents[1] / "f3_half/seed0"
    large = {"layers": 6, "settings": {"depth": 12}, "conv_norm": "layer", "pre_norm": True}
    return {
        "w2": run / "systems/w2/seed0",
        "fw1": run / "systems/fw1/seed0",
        "fw1_int8": run / "systems/fw1_int8/seed0",
        "hubert_half": half,
        "hubert_int4": hubert,
        "hubert_int4_24": derived_folder(half, "f3_int4_24", "methods.usmlite", bits=4, n=2, m=4),
        "hubert_38": derived_folder(half, "f3_38", "methods.usmlite", n=3, m=8),
        "large_int4": chain_folder(root / "large", "wav2vec2", **large),
        "wav2vec2_int8": (chained := chain_folder(root / "wav2vec2", "wav2vec2", bits=8)),
        "wav2vec2_gated": derived_folder(
            chained.parents[1] / "f3/seed0", "f3_gated", "methods.selfpinching", target=0.5
        ),
    }


@pytest.fixture(scope="module")
def elsewhere(systems, tmp_path_factory):
    """A folder outside of this project that holds the exports, and what a process found there: arrays by name."""
    root = tmp_path_factory.mktemp("elsewhere")
    for name, folder in systems.items():
        export_system(folder, root / name, None, None, None)
    for rate in (8000, 16000):
        scaled = [seconds * rate / 16000 for seconds in LENGTHS]
        np.savez(root / f"{rate}.npz", **{str(number): row for number, row in enumerate(speech(scaled))})
    (root / "job.json").write_text(json.dumps({"folders": list(systems)}))
    isolated(ELSEWHERE, root, "job.json")
    return root, np.load(root / "found.npz")


DENSE = ("w2", "fw1", "hubert_half")
PACKED = ("fw1_int8", "hubert_int4", "hubert_int4_24", "hubert_38", "large_int4", "wav2vec2_int8")
NAMES = (*DENSE, *PACKED, "wav2vec2_gated")


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_every_depth_of_a_padded_batch_is_that_of_the_system(systems, elsewhere, name):
    _, found = elsewhere
    system = read_system(systems[name], None)
    inputs, mask = (torch.from_numpy(found[f"{name} {what}"]) for what in ("inputs", "mask"))
    lengths = mask.sum(1)
    assert len(set(lengths.tolist())) == 3, "padded"
    outputs = {}
    for depth, point in system.chosen.items():
        encoded = system.module.encode(inputs, lengths, point.path)
        expected = ctc_logits(system.module.model, encoded.frames)
        outputs[depth] = torch.from_numpy(found[f"{name} depth {depth}"])
        for row, count, theirs in zip(outputs[depth], encoded.lengths, expected, strict=True):
            torch.testing.assert_close(row[:count], theirs[:count], rtol=0, atol=1e-6)
            assert (row[count:].argmax(-1) == system.tokenizer.blank).all()
    values = list(outputs.values())
    assert (len(values) > 1 or name == "w2") and all(
        not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i]
    )


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_checkout_needs_no_trust_and_gives_the_same(elsewhere, name):
    root, found = elsewhere
    model = transformers.AutoModelForCTC.from_pretrained(root / name)
    assert type(model).__module__ == "asr.portable.foldable"
    logits = model(*(torch.from_numpy(found[f"{name} {what}"]) for what in ("inputs", "mask"))).logits
    torch.testing.assert_close(logits, torch.from_numpy(found[f"{name} depth {model.depth}"]), rtol=0, atol=1e-6)


def test_the_modules_in_the_folder_are_ours_and_need_torch_and_transformers_alone(elsewhere):
    root, _ = elsewhere
    for name in NAMES:
        assert {path.name for path in (root / name).glob("*.py")} == MODULES
        config = json.loads((root / name / "config.json").read_text())
        assert {value.partition(".")[0] for value in config["auto_map"].values()} == {"foldable"}
    for module in MODULES:
        code = (root / "fw1" / module).read_text()
        assert code == (ROOT / "asr/portable" / module).read_text()
        imported = set()
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.partition(".")[0])
        assert imported - set(sys.stdlib_module_names) <= {"torch", "transformers"}


@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_the_weights_as_they_are_stored(systems, elsewhere, name):
    """Packed ones packed: the bytes that are claimed, and a header; after saving from elsewhere too."""
    root, _ = elsewhere
    system = load_system(systems[name])
    claimed = system.method.stored_bytes(system.module, [])
    state = {name.removeprefix("model."): value for name, value in system.module.state_dict().items()}
    for file in (root / name / "model.safetensors", root / f"{name}_again" / "model.safetensors"):
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert file.stat().st_size - header == claimed
        stored = load_file(file)
        assert stored.keys() == state.keys()
        assert all(torch.equal(stored[key], state[key]) and stored[key].dtype == state[key].dtype for key in state)
    packed = packed_matrices(system.module)
    assert bool(packed) == (name in PACKED)
    pruned = bitmaps(system.module)
    assert bool(pruned) == ("gated" in name)
    held = {
        f"{place}.{key}": tensor for place, part in (packed | pruned).items() for key, tensor in part.named_buffers()
    }
    own = system.module.state_dict().items()
    dense = sum(4 * value.numel() for key, value in own if key not in held)
    assert claimed == dense + sum(tensor.nbytes for tensor in held.values())
    bits = {place: part.outputs * part.inputs + 32 * part.kept for place, part in pruned.items()}
    assert all(8 * sum(held[f"{place}.{key}"].nbytes for key in ("bitmap", "values")) == bits[place] for place in bits)


def test_the_card_says_the_chain_and_what_a_weight_takes(elsewhere, systems):
    root, _ = elsewhere
    card = (root / "hubert_int4/README.md").read_text()
    assert (
        "Chain: 'f3' (foldable, `methods.unfolding`) → 'f3_half' (pruned, `baselines.magnitude`) → "
        "'f3_packed' (quantised, `baselines.post_training`)" in card
    )
    # Of a layer five matrices have 32 inputs, a group of 32 * 4 + 16 bits, and one has 48, which take two groups.
    weights = (4 * 32 * 32 + 48 * 32, 32 * 48)
    four = (weights[0] * 144 / 32 + weights[1] * 2 * 144 / 48) / sum(weights)
    assert f"18 matrices in 4 bits, {four:.2f} a weight; 1 matrix in 8 bits, {(32 * 8 + 16) / 32:.2f} a weight" in card
    size = (root / "hubert_int4/model.safetensors").stat().st_size
    system = load_system(systems["hubert_int4"])
    assert f"{size:,} bytes, {system.method.stored_bytes(system.module, []):,} of them" in card
    gated = load_system(systems["wav2vec2_gated"])
    parts = bitmaps(gated.module).values()
    bits = 1 + 32 * sum(part.kept for part in parts) / sum(part.outputs * part.inputs for part in parts)
    said = (root / "wav2vec2_gated/README.md").read_text()
    assert (
        f"Of 18 matrices the weights that are not zero are stored, in float32, with a bit for each weight: {bits:.2f}"
        in said
    )
    half = load_system(systems["hubert_half"])
    nonzero = sum(int(parameter.count_nonzero()) for parameter in half.module.parameters())
    assert f"{nonzero:,} parameters are not zero; zeros are stored" in (root / "hubert_half/README.md").read_text()
    # A scale for each output, 208 a layer; positions of 3 bits fill up to whole bytes of a row.
    sparse = (root / "hubert_int4_24/README.md").read_text()
    scales = 16 * (4 * 32 + 48 + 32) / sum(weights)
    assert f"18 matrices in 4 bits, 2 of 4 weights with their positions, {3 + scales:.2f} a weight" in sparse
    assert "of N:M matrices only what is kept is stored" in sparse
    values = (weights[0] * (12 * 32 + 40) / 32 + weights[1] * (18 * 32 + 56) / 48) / sum(weights)
    said = (root / "hubert_38/README.md").read_text()
    assert f"18 matrices in float32, 3 of 8 weights with their positions, {values:.2f} a weight" in said


@torch.inference_mode()
def words(system, path, waveform):
    """What a system recognises, by the code that evaluation uses."""
    extractor = make_extractor(system.features, system.sampling_rate)
    inputs, lengths = extractor(torch.from_numpy(waveform)[None], [len(waveform)])
    inputs = inputs if system.normaliser is None else system.normaliser(inputs)
    encoded = system.module.encode(inputs, lengths, path)
    (ids,) = greedy(system.module.ctc_log_probs(encoded), encoded.lengths)
    return system.tokenizer.decode(ids)


def blocks(path, containing):
    """The Python blocks of a Markdown file that contain a text."""
    return [
        block for block in re.findall(r"```python\n(.*?)```", Path(path).read_text(), re.DOTALL) if containing in block
    ]


def test_the_documented_lines_transcribe_with_packed_weights(systems, elsewhere, tmp_path):
    root, _ = elsewhere
    name = "large_int4"
    documents = ("README.md", "docs/export.md", root / name / "README.md")
    lines = [block for path in documents for block in blocks(path, "trust_remote_code=True)\naudio")]
    folders = {re.search(r'recognition", "((?:exported/)?\w+)"', block)[1] for block in lines}
    assert len(lines) == 3 and folders == {"exported/fw6", name}
    lines += [f"{block}\nprint(*model.path)" for path in documents[1:] for block in blocks(path, "model.depth = 12")]
    (tmp_path / "exported").mkdir()
    for folder in folders:
        (tmp_path / folder).symlink_to(root / name)
    (waveform,) = speech((1.7,))
    soundfile.write(tmp_path / "speech.wav", waveform, 16000, subtype="FLOAT")
    system = read_system(systems[name], None)
    expected = words(system, system.chosen[system.default_depth].path, waveform)
    said = isolated("\n".join(lines), tmp_path).splitlines()
    assert expected and said == [*(3 * [expected]), "2 2 2 2 1 1", "2 2 2 2 2 2"]


@pytest.fixture(scope="module")
def conformer(tmp_path_factory):
    """A chain on a Conformer, exported with ONNX at depth 4."""
    root = tmp_path_factory.mktemp("conformer")
    folder = chain_folder(root, "conformer")
    export_system(folder, root / "exported/f6", None, "4", "3")
    return read_system(folder, None), root


@pytest.mark.parametrize("document", ["docs/export.md", None])
def test_a_packed_conformer_transcribes_through_onnx(conformer, document):
    system, root = conformer
    assert largest_difference(system, system.chosen[4].path, root / "exported/f6/onnx/model.onnx") < 2e-4
    (block,) = blocks(document or root / "exported/f6/README.md", "onnxruntime.InferenceSession")
    (waveform,) = speech((1.7,))
    folder = root if document else root / "exported"
    soundfile.write(folder / "speech.wav", waveform, 16000, subtype="FLOAT")
    expected = words(system, system.chosen[4].path, waveform)
    assert isolated(block, folder).strip() == expected and expected


@torch.inference_mode()
def test_a_packed_conformer_in_the_checkout(conformer):
    system, root = conformer
    model = transformers.AutoModelForCTC.from_pretrained(root / "exported/f6", depth=5)
    inputs = torch.randn(2, 120, model.config.backbone["input_dim"])
    encoded = system.module.encode(inputs, torch.tensor([120, 120]), system.chosen[5].path)
    assert torch.allclose(model(inputs).logits, system.module.ctc_log_probs(encoded), atol=1e-6)
    card = (root / "exported/f6/README.md").read_text()
    assert card.count("Its weights are float32, the values that the packed ones stand for.") == 2
    assert not list((root / "exported/f6").glob("*.py")) and "auto_map" not in model.config.to_dict()


def test_weights_that_another_class_unpacks_are_refused(tmp_path):
    """Stored like packed ones, they may mean something else."""
    system = load_system(derived_folder(system_folder(tmp_path, "hubert"), "int8", "baselines.post_training", bits=8))
    assert packed_forms(system.module) and is_backbone(system.module, system.method.backbone)
    part = next(iter(packed_matrices(system.module).values()))
    part.__class__ = type("Halved", (type(part),), {"weight": property(lambda self: super().weight / 2)})
    assert not is_backbone(system.module, system.method.backbone)
