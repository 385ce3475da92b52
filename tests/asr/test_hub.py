"""Published models, from folders and from the hub's cache: the weights that were saved are the weights that run."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from asr.backbones.hub import check_model, fetch, find, load_weights
from asr.tokenizer import LETTERS
from common.errors import UserError
from tests.models import small_encoder, waves
from tests.published import (
    change_json,
    change_weights,
    in_cache,
    publish,
    save_as_safetensors,
    write,
)

NAMES = ["wav2vec2", "hubert"]
SOURCE, REVISION = "some-lab/tiny-speech", "0123456789abcdef0123456789abcdef01234567"


@torch.no_grad()
def logits(backbone):
    """Of one utterance, from transformers' own model."""
    return backbone.eval().model(waves().inputs[:1]).logits


@torch.no_grad()
def frames(backbone):
    return backbone.eval().encode(waves().inputs[:1], waves().input_lengths[:1]).frames


def refused(backbone, folder):
    """The message of the refusal: one line, and the weights are as they were."""
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(backbone, folder)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["safetensors", "bin"])
@pytest.mark.parametrize("shape", [{}, {"pre_norm": True, "conv_norm": "layer", "conv_bias": True}])
def test_a_model_with_a_ctc_layer(name, layout, shape, tmp_path):
    original, loaded = small_encoder(name, **shape), small_encoder(name, seed=5, **shape)
    assert (logits(original) - logits(loaded)).abs().max() > 0.1
    folder = publish(tmp_path / "model", original, layout)
    assert load_weights(loaded, folder) is True
    torch.testing.assert_close(logits(loaded), logits(original), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("name", "layout"), [("wav2vec2", "encoder"), ("wav2vec2", "pretraining"), ("hubert", "encoder")]
)
def test_an_encoder_without_a_ctc_layer(name, layout, tmp_path):
    original, loaded = small_encoder(name), small_encoder(name, seed=5)
    own = loaded.model.lm_head.weight.clone()
    folder = publish(tmp_path / "model", original, layout)
    if layout == "pretraining":
        assert any(key.startswith("quantizer.") for key in torch.load(folder / "pytorch_model.bin"))
    assert load_weights(loaded, folder) is False
    torch.testing.assert_close(frames(loaded), frames(original), atol=0, rtol=0)
    assert torch.equal(loaded.model.lm_head.weight, own)


def test_old_names_in_a_safetensors_file(tmp_path):
    """As the hub's converter wrote them from official files."""
    original, loaded = small_encoder(), small_encoder(seed=5)
    folder = publish(tmp_path / "model", original)
    save_as_safetensors(folder)
    assert load_weights(loaded, folder)
    torch.testing.assert_close(logits(loaded), logits(original), atol=0, rtol=0)


def test_output_init_does_not_scale_loaded_weights(tmp_path):
    original, loaded = small_encoder(), small_encoder(seed=5, output_init=0.1)
    load_weights(loaded, publish(tmp_path / "model", original))
    torch.testing.assert_close(logits(loaded), logits(original), atol=0, rtol=0)


def test_half_precision_becomes_single(tmp_path):
    original, loaded = small_encoder(), small_encoder(seed=5)
    folder = publish(tmp_path / "model", original)
    change_weights(folder, lambda state: state.update({name: tensor.half() for name, tensor in state.items()}))
    load_weights(loaded, folder)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(logits(loaded), logits(original), atol=0.05, rtol=0)


def offline(cache, code):
    """Run code in a process of its own that sees this cache and no network."""
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "what is as it should be needs no words, of transformers' either"
    return result.stdout


def test_the_cache_of_the_hub_without_a_network(tmp_path):
    """Through the environment, as a user has it; the same pinned revision is found, another one is not."""
    folder = publish(tmp_path / "model", small_encoder("hubert"), "encoder")
    snapshot = in_cache(tmp_path / "cache", SOURCE, REVISION, folder)
    other = "f" * 40
    found, head, message = offline(
        tmp_path / "cache",
        f"""
from asr.backbones.hub import fetch, find, load_weights
from common.errors import UserError
from tests.models import small_encoder

print(fetch("{SOURCE}", "{REVISION}"))
print(load_weights(small_encoder("hubert"), find("{SOURCE}", "{REVISION}")))
assert find("{SOURCE}", "{other}") is None
try:
    fetch("{SOURCE}", "{other}")
except UserError as error:
    print(error)
""",
    ).splitlines()
    assert (Path(found), head) == (snapshot, "False")
    loaded = small_encoder("hubert", seed=5)
    load_weights(loaded, Path(found))
    torch.testing.assert_close(frames(loaded), frames(small_encoder("hubert")), atol=0, rtol=0)
    for part in (SOURCE, other, "config.json", "model.safetensors or pytorch_model.bin", "vocab.json",
                 f"into {tmp_path / 'cache' / 'models--some-lab--tiny-speech' / 'snapshots' / other}",
                 f"https://huggingface.co/{SOURCE}/tree/{other}"):  # fmt: skip
        assert part in message


def test_files_put_where_the_message_says_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        fetch(SOURCE, REVISION)
    folder = Path(str(error.value).split(" into ")[1].split(",")[0])
    publish(folder, small_encoder("hubert"), "encoder")
    assert find(SOURCE, REVISION) == folder == fetch(SOURCE, REVISION)


class Hub(http.server.BaseHTTPRequestHandler):
    """Just enough of the hub: files of one repository at one commit."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self):
        self._answer(self.command == "GET")

    do_HEAD = do_GET

    def _answer(self, whole):
        name = self.path.removeprefix(f"/{SOURCE}/resolve/{REVISION}/")
        self.asked.append(name)
        content = self.files.get(name)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if whole:
            self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hub(files):
    Hub.files, Hub.asked = files, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("layout", ["safetensors", "bin", "encoder"])
def test_download_from_a_hub(layout, tmp_path, monkeypatch):
    """The hub's client against a server: the pinned commit, the files that are needed, and those alone."""
    folder = publish(tmp_path / "model", small_encoder("hubert"), layout)
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"tf_model.h5": b"x", "README.md": b"x"}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub(files) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        assert find(SOURCE, REVISION) is None
        fetched = fetch(SOURCE, REVISION)
    assert sorted(path.name for path in fetched.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert all((fetched / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())
    assert not {"tf_model.h5", "README.md"} & set(Hub.asked)
    assert find(SOURCE, REVISION) == fetched, "from now on no network is needed"
    loaded = small_encoder("hubert", seed=5)
    assert load_weights(loaded, fetched) is (layout != "encoder")
    torch.testing.assert_close(frames(loaded), frames(small_encoder("hubert")), atol=0, rtol=0)


def test_a_hub_that_has_no_weights_for_us(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub({"config.json": b"{}", "tf_model.h5": b"x"}) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(UserError, match=r"neither model\.safetensors nor pytorch_model\.bin at revision 0123456"):
            fetch(SOURCE, REVISION)


def test_a_folder_or_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder 'some-lab/tiny-speech'; a model of the Hugging Face hub needs sett"):
        find(SOURCE, None)
    Path(SOURCE).mkdir(parents=True)
    assert find(SOURCE, None) == Path(SOURCE)
    with pytest.raises(UserError, match="is a local folder, and folders have no revision"):
        find(SOURCE, REVISION)
    with pytest.raises(UserError, match=r"settings\.source: .*Repo id must be"):
        find("/no/such/folder", REVISION)


class Runs:
    """Unpickled in full, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_would_run_code_is_refused(zipped, tmp_path):
    folder, mark = publish(tmp_path / "model", small_encoder()), tmp_path / "it_ran"
    path = folder / "pytorch_model.bin"
    state = torch.load(path)
    torch.save({**state, "extra": Runs(mark)}, path, _use_new_zipfile_serialization=zipped)
    message = refused(small_encoder(seed=5), folder)
    assert not mark.exists()
    assert message.startswith(f"{path}: refused: it holds more than tensors (posix.mkdir), and full unpickling"), (
        message
    )
    torch.load(path, weights_only=False)
    assert mark.exists(), "read in full, the file does run code: the test can see it"


def test_damaged_weights(tmp_path):
    for layout, file in (("safetensors", "model.safetensors"), ("bin", "pytorch_model.bin")):
        path = publish(tmp_path / layout, small_encoder(), layout) / file
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b"<html>404</html>", b""):
            path.write_bytes(damaged)
            message = refused(small_encoder(seed=5), path.parent)
            assert message.startswith(f"{path}: ")
            assert "cannot be read" in message or "not a plain weight file" in message


def test_not_a_model(tmp_path):
    backbone = small_encoder()
    assert "not a wav2vec2 or HuBERT model: there is no config.json" in refused(backbone, tmp_path)
    folder = publish(tmp_path / "model", small_encoder())
    (folder / "pytorch_model.bin").rename(folder / "model.pt")
    assert "neither model.safetensors nor pytorch_model.bin" in refused(backbone, folder)
    (folder / "model.pt").rename(folder / "pytorch_model.bin")
    for wrong in ("bert", None):
        change_json(folder / "config.json", model_type=wrong)
        assert f"this is a model of type {wrong}, not wav2vec2 as the backbone" in refused(backbone, folder)
    write(folder / "config.json", ["a list"])
    assert "this is a model of type None" in refused(backbone, folder)
    (folder / "config.json").write_text("{")
    assert "config.json: not a JSON file" in refused(backbone, folder)


@pytest.mark.parametrize(("ours", "theirs"), [("wav2vec2", "hubert"), ("hubert", "wav2vec2")])
def test_the_other_architecture(ours, theirs, tmp_path):
    message = refused(small_encoder(ours), publish(tmp_path / "model", small_encoder(theirs)))
    assert f"config.json: this is a model of type {theirs}, not {ours} as the backbone" in message


def test_other_numbers_of_layers(tmp_path):
    folder = publish(tmp_path / "model", small_encoder())
    message = refused(small_encoder(layers=4), folder)
    assert message.endswith("backbone.layers: 4 physical layers are asked for; this model has 3")
    message = refused(small_encoder(layers=2), folder)
    assert "this model has 3, and all are loaded, not 2" in message
    assert "settings.start: {system: ..., layers: sensitivity}" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 64}, "hidden_size is 32, backbone.width is 64"),
        ({"conv_dim": [16, 16, 8]}, "conv_dim is [16, 16, 16], backbone.conv_dim is [16, 16, 8]"),
        ({"heads": 2}, "num_attention_heads is 4, backbone.heads is 2"),
        ({"conv_stride": [4, 2, 1]}, "conv_stride is [4, 2, 2], backbone.conv_stride is [4, 2, 1]"),
        ({"pre_norm": True}, "do_stable_layer_norm is False, backbone.pre_norm is True"),
    ],
)
def test_another_shape_is_named_field_by_field(settings, message, tmp_path):
    """Also where the weights would fit: heads, strides and the order of the norms are in no tensor's shape."""
    folder = publish(tmp_path / "model", small_encoder())
    assert message in refused(small_encoder(**settings), folder)


@pytest.mark.parametrize(("field", "value"), [("hidden_act", "relu"), ("layer_norm_eps", 1e-3), ("add_adapter", True)])
def test_what_we_do_not_configure_must_be_as_usual(field, value, tmp_path):
    folder = publish(tmp_path / "model", small_encoder())
    change_json(folder / "config.json", **{field: value})
    assert f"{field} is {value}, the backbone's {field} is" in refused(small_encoder(), folder)


def test_settings_of_training_may_differ(tmp_path):
    """Old configurations have fields that are gone, and dropout is ours to choose."""
    folder = publish(tmp_path / "model", small_encoder())
    change_json(folder / "config.json", feat_extract_dropout=0.0, gradient_checkpointing=False, layerdrop=0.05,
                hidden_dropout=0.3, ctc_loss_reduction="mean", mask_time_prob=0.65)  # fmt: skip
    assert load_weights(small_encoder(dropout=0.0), folder)


def test_the_model_hears_another_sampling_rate(tmp_path):
    folder = publish(tmp_path / "model", small_encoder())
    change_json(folder / "preprocessor_config.json", sampling_rate=8000)
    assert "preprocessor_config.json: this model hears 8000 samples a second, the backbone 16000" in refused(
        small_encoder(), folder
    )
    assert load_weights(small_encoder(sampling_rate=8000), folder)
    change_json(folder / "preprocessor_config.json", sampling_rate=16000, do_normalize=False)
    assert "trained on waveforms as they are" in refused(small_encoder(), folder)


def test_weights_that_are_missing_or_not_known(tmp_path):
    folder = publish(tmp_path / "model", small_encoder())
    change_weights(folder, lambda state: state.pop("wav2vec2.encoder.layers.1.attention.k_proj.bias"))
    assert "1 weights are missing: wav2vec2.encoder.layers.1.attention.k_proj.bias" in refused(small_encoder(), folder)
    folder = publish(tmp_path / "model", small_encoder())
    change_weights(folder, lambda state: state.update({"wav2vec2.pooler.weight": torch.zeros(2)}))
    assert "1 weights are not known: wav2vec2.pooler.weight" in refused(small_encoder(), folder)
    folder = publish(tmp_path / "model", small_encoder())
    change_weights(folder, lambda state: state.update({"wav2vec2.encoder.layer_norm.bias": torch.zeros(7)}))
    assert "wav2vec2.encoder.layer_norm.bias is [7], not [32]" in refused(small_encoder(), folder)
    folder = publish(tmp_path / "model", small_encoder())
    change_weights(folder, lambda state: state.pop("lm_head.bias"))
    assert "1 weights are missing: lm_head.bias" in refused(small_encoder(), folder), "half a CTC layer is none"


def test_letters(tmp_path):
    folder, backbone = publish(tmp_path / "model", small_encoder()), small_encoder(seed=5)
    path, listed = folder / "vocab.json", {letter: number for number, letter in enumerate(LETTERS)}
    write(path, {letter: number for letter, number in listed.items() if letter not in "QZ"})
    assert "vocab.json: letters that the tokenizer needs are missing: Q Z" in refused(backbone, folder)
    write(path, {letter.lower(): number for letter, number in listed.items()})
    assert "are missing: E T A O" in refused(backbone, folder)
    write(path, {**listed, "E": 6, "T": 5})
    assert "another list than that of the tokenizer: 'E' is 6, not 5; 'T' is 5, not 6" in refused(backbone, folder)
    write(path, {**listed, "Ä": 32})
    assert "'Ä' is not a letter of the tokenizer" in refused(backbone, folder)
    write(path, [*LETTERS])
    assert "vocab.json: not a list of letters" in refused(backbone, folder)
    path.unlink()
    assert "vocab.json: no such file; the model has a CTC layer" in refused(backbone, folder)
    write(path, dict(sorted(listed.items())))
    assert load_weights(backbone, folder), "the order of the file's lines means nothing"
    change_json(folder / "config.json", pad_token_id=31)
    assert "entry 31 is CTC's blank in this model, not 0" in refused(small_encoder(), folder)


def test_a_ctc_layer_of_another_size(tmp_path):
    folder = publish(tmp_path / "model", small_encoder(vocabulary=40))
    assert "its CTC layer has 40 entries, the tokenizer 32" in refused(small_encoder(), folder)


def test_the_check_reads_no_weights(tmp_path):
    """What is found before any work: everything but the content of the weight file."""
    folder = publish(tmp_path / "model", small_encoder())
    (folder / "pytorch_model.bin").write_bytes(b"")
    check_model(folder, small_encoder().model.config, 16000)
    with pytest.raises(UserError, match="backbone.width is 64"):
        check_model(folder, small_encoder(width=64).model.config, 16000)
