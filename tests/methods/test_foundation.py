"""Published models as systems: what is refused before any work, what a system remembers, and what starts from it."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from asr.backbones import BackboneFactory
from asr.settings import TokenizerSettings, TrainingSettings
from common.errors import UserError
from common.files import read_json, sha256
from common.settings import parse
from methods.contract import TrainedSystem, make_method
from tests.models import SMALL_ENCODER, factory, small_encoder, waves
from tests.published import change_json, in_cache, publish
from workflows.check import check_systems
from workflows.experiment import Experiment
from workflows.systems import load_system, save_system

METHOD, LETTERS = "baselines.foundation", 32
SOURCE, REVISION = "some-lab/tiny-speech", "0123456789abcdef0123456789abcdef01234567"
LETTER = TokenizerSettings(units="letter")


def encoder_factory(name="wav2vec2", **settings):
    return BackboneFactory(name, {**SMALL_ENCODER, **settings}, LETTERS)


def foundation(source, backbone=None, **settings):
    return make_method(METHOD, {"source": str(source), **settings}, backbone or encoder_factory())


def saved(method, module, folder):
    """Save a system and load it again."""
    description = {"name": "published", "seed": 0, "method": METHOD, "vocabulary": LETTERS}
    save_system(folder, module, method, {**description, "settings": method.config.model_dump()})
    return load_system(folder)


@torch.no_grad()
def frames(module):
    return module.eval().encode(waves().inputs, waves().input_lengths).frames


def test_a_recogniser(tmp_path):
    folder = publish(tmp_path / "model", small_encoder())
    method = foundation(folder)
    module = method.build()
    assert method.stages(TrainingSettings(steps=4, schedule={"kind": "linear", "warmup_steps": 1})) == []
    assert [(point.path, point.trained) for point in method.points(module)] == [((1, 1, 1), True)]
    torch.testing.assert_close(frames(module), frames(small_encoder()), atol=0, rtol=0)


def test_an_encoder_is_no_recogniser(tmp_path):
    folder = publish(tmp_path / "model", small_encoder("hubert"), "encoder")
    method = foundation(folder, encoder_factory("hubert"))
    assert method.points(method.build()) == []


@pytest.mark.parametrize(("name", "layout"), [("wav2vec2", "safetensors"), ("hubert", "encoder")])
def test_a_system_needs_neither_hub_nor_folder_again(name, layout, tmp_path):
    """Rebuilt from system.json, which names the files it came from."""
    folder = publish(tmp_path / "model", small_encoder(name), layout)
    method = foundation(folder, encoder_factory(name))
    module = method.build()
    files = {path.name: sha256(path) for path in folder.iterdir() if path.name in ("config.json", "model.safetensors",
                                                                                   "pytorch_model.bin")}  # fmt: skip
    shutil.rmtree(folder)
    loaded = saved(method, module, tmp_path / "system")
    architecture = read_json(tmp_path / "system" / "system.json")["architecture"]
    assert architecture == {"ctc_layer": "random" if layout == "encoder" else "trained", "sha256": files}
    assert len(files) == 2
    torch.testing.assert_close(frames(loaded.module), frames(small_encoder(name)), atol=0, rtol=0)
    assert loaded.method.points(loaded.module) == method.points(module)


def test_from_the_cache_of_the_hub(tmp_path, monkeypatch):
    in_cache(tmp_path / "cache", SOURCE, REVISION, publish(tmp_path / "model", small_encoder()))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    method = foundation(SOURCE, revision=REVISION)
    method.check_experiment(LETTER)
    torch.testing.assert_close(frames(method.build()), frames(small_encoder()), atol=0, rtol=0)
    with pytest.raises(UserError, match="4 physical layers are asked for; this model has 3"):
        foundation(SOURCE, encoder_factory(layers=4), revision=REVISION).check_experiment(LETTER)
    elsewhere = foundation(SOURCE, revision="f" * 40)
    elsewhere.check_experiment(LETTER)  # asks no network, so it cannot know
    with pytest.raises(UserError, match="is not in the cache and cannot be fetched .*offline.*; put config.json"):
        elsewhere.build()


@pytest.mark.parametrize("revision", ["main", "v1.0", REVISION[:7], REVISION.upper(), REVISION + "0", ""])
def test_a_revision_that_is_not_pinned(revision):
    with pytest.raises(UserError, match="not the 40 digits of a commit; a branch or a tag can come to mean other wei"):
        foundation(SOURCE, revision=revision)


def test_what_is_found_before_any_work(tmp_path):
    with pytest.raises(UserError, match=r"no folder 'some-lab/tiny-speech'; .* needs settings\.revision too"):
        foundation(SOURCE).check_experiment(LETTER)
    folder = publish(tmp_path / "model", small_encoder())
    foundation(folder).check_experiment(LETTER)
    for tokenizer in (TokenizerSettings(units="char"), TokenizerSettings(units="letter", letters="other/vocab.json")):
        with pytest.raises(UserError, match="published models go with the 32 letters of wav2vec2-base-100h"):
            foundation(folder).check_experiment(tokenizer)
    with pytest.raises(UserError, match="not wav2vec2 as the backbone"):
        foundation(publish(tmp_path / "hubert", small_encoder("hubert"))).check_experiment(LETTER)
    with pytest.raises(UserError, match="hidden_size is 32, backbone.width is 64"):
        foundation(folder, encoder_factory(width=64)).check_experiment(LETTER)
    change_json(folder / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(UserError, match="hears 8000 samples a second, the backbone 16000"):
        foundation(folder).check_experiment(LETTER)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="there is no config.json"):
        foundation(folder).check_experiment(LETTER)


def test_it_needs_a_speech_encoder():
    with pytest.raises(UserError, match="this method works on wav2vec2 and hubert, not on conformer"):
        foundation(SOURCE, factory(), revision=REVISION)


def test_fewer_layers_in_a_system_that_starts_from_it(tmp_path):
    """The published model whole, and half a system of it, its layers dropped by their sensitivity."""
    folder = publish(tmp_path / "model", small_encoder())
    method = foundation(folder)
    loaded = saved(method, method.build(), tmp_path / "system")
    source = TrainedSystem("published", loaded.module, loaded.method, drop_order=(2, 1, 3))
    start = {"start": {"system": "published", "layers": "sensitivity"}}
    smaller = make_method("baselines.all_physical", start, encoder_factory(layers=2), {"start": source}).build()
    with torch.no_grad():
        expected = loaded.module.encode(waves().inputs, waves().input_lengths, (1, 0, 1)).frames
    torch.testing.assert_close(frames(smaller), expected, atol=1e-6, rtol=0)


def experiment(**settings):
    """One system, as an experiment's file describes it."""
    described = {
        "name": "test",
        "title": "a test",
        "corpus": {"name": "synth"},
        "test_sets": ["test"],
        "backbone": {"name": "conformer"},
        "training": {"steps": 4, "schedule": {"kind": "linear", "warmup_steps": 1}},
        "decodes": {"greedy": {"kind": "greedy"}},
        "families": {
            "w2v2": {
                "title": "a published model",
                "backbone": {"name": "wav2vec2", "settings": {**SMALL_ENCODER, "sampling_rate": 8000}},
                "tokenizer": {"units": "letter"},
                "features": {"kind": "waveform"},
            }
        },
        "systems": {"base": {"family": "w2v2", "method": METHOD, "settings": settings}},
    }
    return parse(Experiment, described, "test.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "facebook/wav2vec2-base-100h"}, "needs settings.revision too"),
        ({"source": "facebook/wav2vec2-base-100h", "revision": "main"}, "is not the 40 digits of a commit"),
        ({"source": "no/such/folder"}, "there is no folder 'no/such/folder'"),
        ({"source": "tests"}, "tests: not a wav2vec2 or HuBERT model: there is no config.json"),
    ],
)
def test_the_check_of_an_experiment_names_the_system(settings, message):
    with pytest.raises(UserError) as error:
        check_systems(experiment(**settings), "test.yaml")
    assert str(error.value).startswith("test.yaml: systems.base: ") and message in str(error.value)


def test_an_experiment_with_a_published_model_passes_its_check(tmp_path):
    folder = publish(tmp_path / "model", small_encoder(sampling_rate=8000))
    change_json(folder / "preprocessor_config.json", sampling_rate=8000)
    full = check_systems(experiment(source=str(folder)), "test.yaml")
    assert full["base"]["settings"] == {"source": str(folder), "revision": None}


def test_the_pinned_revisions_of_the_documentation_are_commits():
    text = (Path(__file__).parents[2] / "docs" / "foundation_models.md").read_text()
    for source in ("facebook/wav2vec2-base-100h", "facebook/hubert-base-ls960"):
        revision = text.split(f"source: {source}, revision: ")[1].split("}")[0]
        foundation(source, revision=revision)
