"""Systems to take away: written by the real command, loaded as a user loads them, compared with the system itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import soundfile
import torch
import transformers
import yaml
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.layers.global_mvn import GlobalMVN
from onnx import numpy_helper
from safetensors import safe_open

import asr.exported.huggingface  # noqa: F401
from analysis.inputs.results import Results
from analysis.significance.intervals import wer_interval
from asr.decoding import greedy
from asr.features import make_extractor
from common.errors import UserError
from common.errors import run as command_status
from common.files import write_json
from methods.paths import format_path
from tests.systems import RATE, chain_folder, speech, system_folder
from tests.workflows.commands import ROOT, command, contents, one_clear_error
from workflows.export import main
from workflows.steps.export.espnet import UNKNOWN
from workflows.steps.export.folder import export_system
from workflows.steps.export.onnx import save_checked, write_onnx
from workflows.steps.export.system import Evaluation, read_system

BACKBONES = ("conformer", "wav2vec2", "hubert")
MEASURED = (0.9, 2.1, 1.4)
"""Seconds of the utterances that are recognised."""


@pytest.fixture(scope="module", params=BACKBONES)
def made(request, tmp_path_factory):
    """A system and its export with ONNX at depth 5: the system as read, and the folder."""
    root = tmp_path_factory.mktemp(request.param)
    folder = system_folder(root, request.param)
    out = root / "out" / "f3"
    export_system(folder, out, None, "5", None)
    return read_system(folder, None), out


@torch.inference_mode()
def recognised(system, path, waveforms):
    """Log-probabilities and words of each utterance alone, by the code that evaluation uses."""
    rows, words = [], []
    for waveform in waveforms:
        extractor = make_extractor(system.features, RATE)
        inputs, lengths = extractor(torch.from_numpy(waveform)[None], [len(waveform)])
        if system.normaliser is not None:
            inputs = system.normaliser(inputs)
        encoded = system.module.encode(inputs, lengths, path)
        rows.append(system.module.ctc_log_probs(encoded))
        words += [system.tokenizer.decode(ids) for ids in greedy(rows[-1], encoded.lengths)]
    return rows, words


def load(out, **arguments):
    return transformers.AutoModelForCTC.from_pretrained(out, **arguments)


def pipeline(out, **arguments):
    return transformers.pipeline("automatic-speech-recognition", str(out), **arguments)


def as_input(waveform):
    return {"raw": waveform, "sampling_rate": RATE}


@torch.inference_mode()
@pytest.mark.parametrize("depth", [3, 4, 5, 6])
def test_each_depth_is_the_backbone_at_its_path(made, depth):
    system, out = made
    model = load(out, depth=depth)
    processor = transformers.AutoProcessor.from_pretrained(out)
    assert (model.depth, model.path, model.training) == (depth, system.chosen[depth].path, False)
    for waveform, (expected,) in zip(
        speech(MEASURED), recognised(system, model.path, speech(MEASURED))[0], strict=True
    ):
        inputs = processor(waveform, sampling_rate=RATE, return_tensors="pt")
        assert torch.allclose(model(**inputs).logits[0].log_softmax(-1), expected, atol=1e-5)


@torch.inference_mode()
def test_the_depth_changes_after_loading_and_with_it_the_output(made):
    system, out = made
    model = load(out)
    assert model.depth == system.default_depth == 6
    inputs = transformers.AutoProcessor.from_pretrained(out)(speech()[0], sampling_rate=RATE, return_tensors="pt")
    outputs = {}
    for depth in (6, 3, 5, 4):
        model.depth = depth
        outputs[depth] = model(**inputs).logits
    model.path = "2 1 1"
    assert (model.depth, model.config.path) == (4, "2 1 1")
    outputs["2 1 1"] = model(**inputs).logits
    model.path = (1, 1, 1)
    assert torch.equal(model(**inputs).logits, outputs[3])
    values = list(outputs.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


def test_what_is_saved_again_keeps_depth_and_paths(made, tmp_path):
    _, out = made
    model = load(out, path="1 2 1")
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.path == (1, 2, 1) and again.config.paths == model.config.paths
    again.depth = 5
    again.save_pretrained(tmp_path)
    assert load(tmp_path).depth == 5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"depth": 7}, ["depth 7", "3, 4, 5, 6"]),
        ({"depth": "deep"}, ["depth deep", "3, 4, 5, 6"]),
        ({"path": "3 1 1"}, ["'3 1 1' is not allowed", "depth 5", "'1 2 2', '2 1 2', '2 2 1'"]),
        ({"path": "1 1 1 1"}, ["'1 1 1 1' is not allowed", "'1 1 2'"]),
        ({"path": "4 4 4"}, ["depth 12", "3, 4, 5, 6"]),
        ({"path": "one"}, ["'one' is not a path"]),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(made, wrong, said):
    _, out = made
    model = load(out)
    before = model.path
    with pytest.raises(ValueError) as loading:
        load(out, **wrong)
    with pytest.raises(ValueError) as setting:
        setattr(model, *next(iter(wrong.items())))
    assert model.path == before
    for text in said:
        assert text in str(loading.value) and text in str(setting.value)


@pytest.mark.parametrize("depth", [3, 6])
def test_a_padded_batch_gives_what_each_utterance_gives_alone(made, depth):
    system, out = made
    waveforms = speech(MEASURED)
    _, expected = recognised(system, system.chosen[depth].path, waveforms)
    assert len(set(expected)) == len(expected) and all(expected)  # these utterances can be told apart
    recognise = pipeline(out, model_kwargs={"depth": depth})
    assert recognise.model.depth == depth
    alone = [recognise(as_input(waveform))["text"] for waveform in waveforms]
    together = [each["text"] for each in recognise([as_input(waveform) for waveform in waveforms], batch_size=3)]
    assert alone == together == expected
    processor = transformers.AutoProcessor.from_pretrained(out)
    inputs = processor(waveforms, sampling_rate=RATE, padding=True, return_tensors="pt")
    assert inputs["attention_mask"].sum(1).tolist() != [inputs["attention_mask"].size(1)] * 3
    with torch.inference_mode():
        assert processor.batch_decode(recognise.model(**inputs).logits.argmax(-1)) == expected


def test_speech_too_short_for_a_frame_says_nothing(made):
    assert pipeline(made[1])(as_input(speech((0.004,))[0]))["text"] == ""


def test_another_sampling_rate_is_refused(made):
    _, out = made
    with pytest.raises((UserError, ValueError), match="8000"):
        transformers.AutoProcessor.from_pretrained(out)(speech()[0], sampling_rate=8000)
    with pytest.raises(ImportError, match="resample"):
        pipeline(out)({"raw": speech()[0], "sampling_rate": 8000})


def test_every_weight_is_stored_once(made):
    system, out = made
    with safe_open(out / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    assert size == system.method.stored_bytes(system.module, system.offered)
    assert size <= (out / "model.safetensors").stat().st_size < 1.25 * size  # names and shapes beside it
    layers = {int(found[1]) for name in stored if (found := re.search(r"\.(?:layers|encoders)\.(\d+)\.", name))}
    assert layers == {0, 1, 2}


def blocks(path):
    """Python blocks of a Markdown file that transcribe through transformers."""
    found = re.findall(r"```python\n(.*?)```", Path(path).read_text(), re.DOTALL)
    return [block for block in found if "transformers.pipeline(" in block]


DOCUMENTED = [(path, block) for path in ("README.md", "docs/export.md") for block in blocks(path)]


def test_three_lines_are_documented():
    """Beside the imports."""
    assert {path for path, _ in DOCUMENTED} == {"README.md", "docs/export.md"}
    for _, block in DOCUMENTED:
        assert len([line for line in block.splitlines() if line and not line.startswith("import ")]) <= 3


def test_the_lines_documented_for_a_checkout_transcribe_a_wav_file(made, tmp_path):
    (block,) = [block for _, block in DOCUMENTED if "asr.exported.huggingface" in block]
    check_transcript(made, tmp_path, block, re.search(r'"(exported/\w+)"', block)[1])


def test_the_lines_of_the_card_transcribe_a_wav_file(made, tmp_path):
    (block,) = blocks(made[1] / "README.md")
    check_transcript(made, tmp_path, block, "f3")


def check_transcript(made, tmp_path, block, folder):
    """A program of these lines, beside the exported folder and a wav file, prints what the system recognises."""
    system, out = made
    shutil.copytree(out, tmp_path / folder)
    (waveform,) = speech((1.7,))
    soundfile.write(tmp_path / "speech.wav", waveform, RATE, subtype="FLOAT")
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    words = recognised(system, system.chosen[6].path, [waveform])[1][0]
    assert done.stdout.strip() == words and words


@pytest.mark.parametrize("depth", [3, 5])
def test_onnx_equals_torch(made, tmp_path, depth):
    system, out = made
    file = out / "onnx" / "model.onnx"
    if depth != 5:
        if system.method.backbone.name != "wav2vec2":
            pytest.skip("HuBERT runs the same code, the Conformer at depth 4 in another test; tracing takes long")
        file = tmp_path / "model.onnx"
        assert write_onnx(system, system.chosen[depth].path, file).largest_difference < 2e-4
    session = onnxruntime.InferenceSession(file)
    waveforms = speech(MEASURED, seed=11)
    lengths = np.array([len(waveform) for waveform in waveforms])
    padded = np.zeros((3, max(lengths)), np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    log_probs, frames = session.run(["log_probs", "frames"], {"waveform": padded, "lengths": lengths})
    expected, words = recognised(system, system.chosen[depth].path, waveforms)
    assert frames.tolist() == [row.size(1) for row in expected]
    for ours, count, theirs in zip(log_probs, frames, expected, strict=True):
        assert np.allclose(ours[:count], theirs[0].numpy(), atol=2e-4)
    ids = greedy(torch.from_numpy(log_probs), torch.from_numpy(frames))
    assert [system.tokenizer.decode(each) for each in ids] == words


def test_onnx_stores_each_weight_once(made):
    """A layer that runs twice is twice in the graph; the initialisers are no more than the weights that run, and the
    tables that are no weights."""
    system, out = made
    graph = onnx.load(out / "onnx" / "model.onnx").graph
    values = [numpy_helper.to_array(each) for each in graph.initializer]
    assert len({(value.shape, value.dtype, value.tobytes()) for value in values}) == len(values)
    tables = {"conformer": 4 * 9999 * 32 + 4 * 20 * 257 + 4 * 400, "wav2vec2": 0, "hubert": 0}
    decoder = "decoder."
    weights = sum(
        4 * tensor.numel() for name, tensor in system.module.state_dict().items() if not name.startswith(decoder)
    )
    table = tables[system.method.backbone.name]
    stored = sum(value.nbytes for value in values)
    assert 0.95 * weights < stored - table <= weights + 2000
    layer = sum(4 * parameter.numel() for parameter in system.module.layer_module(0).parameters())
    assert layer > 10_000  # two layers run twice: copies of them would have been seen
    two_executions = sum(node.op_type == "Softmax" for node in graph.node)
    assert two_executions == 5


def test_an_onnx_file_that_differs_is_not_kept(made, tmp_path):
    """The graph of another path."""
    system, out = made
    model = onnx_ir.load(out / "onnx" / "model.onnx")
    with pytest.raises(UserError, match="differ from torch's by .*'2 2 1'; the file was not kept"):
        save_checked(model, system, (2, 2, 1), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    save_checked(model, system, system.chosen[5].path, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == (out / "onnx" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("wanted", "units", "make"),
    [("3", "word", system_folder), ("1 2 2", "char", system_folder), ("1 2 2", "word", chain_folder)],
)
@torch.inference_mode()
def test_espnet_loads_the_checkpoint_and_gives_the_same(tmp_path, monkeypatch, wanted, units, make):
    """Of packed weights the values that they stand for."""
    folder = make(tmp_path, "conformer", units=units)
    export_system(folder, tmp_path / "out", None, None, wanted)
    monkeypatch.chdir(tmp_path / "out" / "espnet")  # ESPnet's files name each other from where it runs
    model, config = espnet_model()
    system = read_system(folder, None)
    path = system.find(wanted, "")
    assert len(model.encoder.encoders) == sum(path)
    (waveform,) = speech((1.3,))
    features, lengths = make_extractor(system.features, RATE)(torch.from_numpy(waveform)[None], [len(waveform)])
    frames, counts = model.encode(features.clone(), lengths)
    encoded = system.module.encode(system.normaliser(features), lengths, path)
    assert torch.allclose(frames, encoded.frames, atol=1e-5) and counts.tolist() == encoded.lengths.tolist()
    unknown = config["token_list"].index(UNKNOWN)
    known = [number for number in range(len(config["token_list"])) if number != unknown]
    ours, theirs = system.module.ctc_log_probs(encoded), model.ctc.log_softmax(frames)
    assert torch.allclose(theirs[..., known], ours, atol=1e-5) and float(theirs[..., unknown].max()) < -5000
    tokens = torch.tensor([[system.tokenizer.sos_eos, 1, 2, 3]])
    logits, _ = system.module.decoder(encoded.frames, encoded.lengths, tokens, torch.tensor([4]))
    tokens[0, 0] = model.sos
    other, _ = model.decoder(frames, counts, tokens, torch.tensor([4]))
    assert torch.allclose(other.log_softmax(-1)[..., known], logits.log_softmax(-1), atol=1e-5)
    assert [config["token_list"][number] for number in known] == system.tokenizer.tokens
    assert model.eos == len(known) == config["token_list"].index("<sos/eos>")


def espnet_model():
    """ESPnet's own classes, put together as its ASR task does, with every weight from the file."""
    config = yaml.safe_load(Path("config.yaml").read_text())
    tokens = config["token_list"]
    encoder = ConformerEncoder(config["input_size"], **config["encoder_conf"])
    model = ESPnetASRModel(
        vocab_size=len(tokens),
        token_list=tokens,
        frontend=None,
        specaug=None,
        normalize=GlobalMVN(**config["normalize_conf"]),
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=TransformerDecoder(len(tokens), encoder.output_size(), **config["decoder_conf"]),
        ctc=CTC(len(tokens), encoder.output_size(), **config["ctc_conf"]),
        joint_network=None,
        **config["model_conf"],
    )
    statistics = model.normalize.mean.clone(), model.normalize.std.clone()
    model.load_state_dict(torch.load("model.pth", weights_only=True), strict=True)
    for mine, loaded in zip(statistics, (model.normalize.mean, model.normalize.std), strict=True):
        assert torch.allclose(mine.float(), loaded.float(), rtol=1e-5)
    return model.eval(), config


def test_the_espnet_file_holds_repeated_layers_once(tmp_path):
    folder = system_folder(tmp_path)
    for depth in ("3", "6"):
        export_system(folder, tmp_path / depth, None, None, depth)
    small, large = ((tmp_path / depth / "espnet" / "model.pth").stat().st_size for depth in ("3", "6"))
    layer = sum(p.numel() * 4 for p in read_system(folder, None).module.layer_module(0).parameters())
    assert large - small < layer  # three more layers, and only their names are new


def test_byte_pair_units_come_with_their_model(tmp_path):
    folder = system_folder(tmp_path, units="bpe")
    export_system(folder, tmp_path / "out", None, None, "3")
    system = read_system(folder, None)
    assert (tmp_path / "out" / "espnet" / "bpe.model").read_bytes() == system.tokenizer.model
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "out")
    ids = processor.tokenizer("seven nine").input_ids
    assert ids == system.tokenizer.encode("seven nine")
    spread = [number for each in ids for number in (each, each, 0)]
    assert processor.decode(spread) == "seven nine"


@pytest.mark.parametrize(("name", "depths"), [("f2", [2, 3, 4]), ("fw1", [1, 2])])
def test_an_evaluated_system_says_how_well_each_depth_does(run, tmp_path, name, depths):
    """Numbers of the card are those of analysis, at the path that stands for the depth."""
    done = command("workflows.export", run / "systems" / name / "seed0", tmp_path / name)
    assert done.returncode == 0, done.stderr
    results = Results(run)
    config = json.loads((tmp_path / name / "config.json").read_text())
    card = (tmp_path / name / "README.md").read_text()
    rows = depth_table(card)
    assert list(rows) == depths and config["depth"] == depths[-1]
    points = {point.path: point for point in results.points(name, 0).points}
    costs = results.costs(name, 0)
    for depth, (path, _, *cells) in rows.items():
        assert path == config["chosen"][str(depth)] and path in config["paths"][str(depth)]
        point = points[tuple(map(int, path.split()))]
        for cell, test_set in zip(cells, ("test_a", "test_b"), strict=False):
            alignment = results.alignment(point, "greedy", test_set)
            interval = wer_interval([alignment])
            assert cell == f"{alignment.counts.wer:.2f} \\[{interval.low:.2f}, {interval.high:.2f}\\]"
        measured = next(costs.points[p.id] for p in points.values() if p.depth == depth and p.id in costs.points)
        assert cells[2] == f"{measured.real_time_factor.median:.4f}"
        assert cells[4] == f"{measured.parameters_executed:,}"
    assert "not evaluated" not in card and "no evidence" in card


def depth_table(card):
    """The cells behind each depth."""
    lines = [line.split("|") for line in card.splitlines() if re.match(r"\| \d", line)]
    return {int(cells[1]): [cell.strip() for cell in cells[2:-1]] for cells in lines}


def test_the_card_names_what_the_weights_began_with(run, tmp_path):
    export_system(run / "systems/fw1/seed0", tmp_path / "fw1", None, None, None)
    card = (tmp_path / "fw1/README.md").read_text()
    assert "'w2' (`baselines.all_physical`" in card and "'heard' (`baselines.masked_prediction`" in card
    title = json.loads((run / "experiment.json").read_text())["families"]["speech"]["title"]
    assert title in card


@pytest.mark.parametrize("by_another", [False, True])
@pytest.mark.parametrize("perfect", ["1 2", "2 1"])
def test_a_middle_depth_has_the_path_that_evaluation_chose_on_the_dev_set(run, tmp_path, perfect, by_another):
    """Where the decode of tables chose none for that depth, by one that decoded it."""
    root = tmp_path / run.name
    ignored = shutil.ignore_patterns("audio", "a2", "a4", "int8", "student", "widths", "work")
    shutil.copytree(run, root, ignore=ignored)
    points = Results(root).points("f2", 0).points
    (point,) = [point.id for point in points if point.shown == perfect]
    listed = root / "systems/f2/seed0/eval/points.json"
    content = json.loads(listed.read_text())
    for decode in content["decodes"].values():
        (choice,) = [choice for choice in decode["choices"] if choice["depth"] == 3]
        choice["on_dev"] = point
    if by_another:
        name = Evaluation(Results(root), "f2", 0).decode
        content["decodes"] = {name: {**content["decodes"][name], "choices": []}, "wide": content["decodes"][name]}
    listed.write_text(json.dumps(content))
    system = read_system(root / "systems/f2/seed0", None)
    assert format_path(system.chosen[3].path) == perfect
    assert {depth: point.trained for depth, point in system.chosen.items()} == {2: True, 3: False, 4: True}


def test_a_system_that_was_not_evaluated_says_so(made):
    card = (made[1] / "README.md").read_text()
    assert "was not evaluated" in card and "not measured" in card and "arXiv 2505.21237" in card


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return system_folder(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """The command with these arguments ends with one message that says all of `said`, and nothing was written."""

    def check(*arguments, said):
        before = contents(tmp_path)
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        assert command_status(main) == 1
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith("error: ") and contents(tmp_path) == before
        for text in said:
            assert text in message, (text, message)

    return check


def test_the_command_says_what_is_wrong(tmp_path):
    one_clear_error(command("workflows.export", tmp_path, tmp_path / "out"), str(tmp_path), "system.json")


def test_a_folder_that_is_no_system(tmp_path, refused):
    refused(tmp_path, tmp_path / "out", said=[str(tmp_path), "system.json"])


def test_a_folder_that_is_not_empty(plain, tmp_path, refused):
    (tmp_path / "mine.txt").write_text("keep")
    refused(plain, tmp_path, said=[str(tmp_path), "not empty"])
    refused(plain, tmp_path / "mine.txt", said=["a file stands there"])


@pytest.mark.parametrize(
    ("option", "wanted", "said"),
    [
        ("--onnx", "7", ["--onnx 7", "3, 4, 5, 6"]),
        ("--espnet", "1 3 1", ["--espnet '1 3 1'", "'1 2 2', '2 1 2', '2 2 1'"]),
        ("--onnx", "deep", ["deep", "not a path"]),
    ],
)
def test_an_unknown_depth(plain, tmp_path, refused, option, wanted, said):
    refused(plain, tmp_path / "out", option, wanted, said=said)


def test_espnet_is_for_conformers(tmp_path, refused):
    folder = system_folder(tmp_path, "hubert")
    refused(folder, tmp_path / "out", "--espnet", "3", said=["--espnet", "no Conformer"])


def test_a_method_whose_points_are_no_paths(tmp_path, refused):
    folder = system_folder(tmp_path, method="tests.toys.width_slices", settings={}, name="widths")
    toys = ("--package", "tests.toys")
    refused(folder, tmp_path / "out", *toys, said=["widths", "no paths", "width 1.0"])


def test_a_method_that_changes_the_weights(run, tmp_path, refused):
    toys = ("--package", "tests.toys")
    refused(run / "systems/int8/seed0", tmp_path / "out", *toys, said=["int8", "another shape or type"])


def test_a_system_without_operating_points(tmp_path, refused):
    folder = system_folder(
        tmp_path, "wav2vec2", method="baselines.masked_prediction", settings={"clusters": 5}, name="foundation"
    )
    refused(folder, tmp_path / "out", said=["foundation", "no operating points", "fine-tuned"])


def test_data_that_was_made_anew_is_noticed(tmp_path, refused):
    folder = system_folder(tmp_path)
    tokenizer = tmp_path / "data/synth/tokenizer.json"
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    refused(folder, tmp_path / "out", said=["--data", "no prepared data"])
    done = command("workflows.export", folder, tmp_path / "out", "--data", tmp_path / "elsewhere/synth")
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "data")
    write_json(tokenizer, {**json.loads(tokenizer.read_text()), "tokens": ["<blank>", "other", "<sos/eos>"]})
    refused(folder, tmp_path / "again", said=["trained with", "--data"])


def test_the_command_reads_its_arguments_without_torch():
    code = (
        "import sys\nfrom workflows.export import main\nsys.argv = ['export', 'nowhere', 'out']\n"
        "from common.errors import UserError\n"
        "try:\n    main()\nexcept UserError:\n    pass\n"
        "heavy = {'torch', 'transformers', 'onnx'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
