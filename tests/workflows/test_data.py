"""Prepared data as training and evaluation read it: what is left out, features, statistics, speeds; and provenance."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from asr.backbones import BackboneFactory
from asr.batches import SpeechSet, round_the_speakers
from asr.corpora import Utterance, read_audio, read_cuts
from asr.corpora.content import set_content
from asr.examples import Example
from asr.features import FeatureExtractor, Normaliser, WaveformExtractor, perturb_speed
from asr.settings import FeatureSettings, TrainingSettings
from asr.training import make_fabric
from baselines.all_physical import AllPhysical
from common.errors import UserError
from common.files import sha256
from methods.contract import TrainedSystem, make_method
from tests.workflows.commands import ROOT, TINY, read
from workflows.data import PreparedData, keep_for_validation, leave_out_too_long, open_data
from workflows.experiment import load_experiment
from workflows.experiment.decides import training_configuration
from workflows.steps.evaluate import Decoder
from workflows.steps.inputs import prepare_features, prepare_inputs
from workflows.steps.stage_batches import stage_data
from workflows.steps.train import _fixed_batches, _Run
from workflows.systems import load_system

CPU = torch.device("cpu")
SPEEDS = [0.9, 1.0, 1.1]


def examples(*rows):
    """Examples of so many frames and such tokens."""
    made = []
    for number, (frames, tokens) in enumerate(rows):
        utterance = Utterance(f"s-{number}", ROOT / "none.wav", 8000, frames / 100, "s", "x")
        made.append(Example(utterance, 1.0, frames, tokens))
    return SpeechSet(made, FeatureExtractor(FeatureSettings(mels=20), 8000), Normaliser(np.zeros(20), np.ones(20)))


def left(speech):
    leave_out_too_long(speech, lambda lengths: [length // 4 for length in lengths], "train")
    return [example.utterance.id for example in speech.examples]


def test_a_transcript_may_fill_its_frames_but_no_more(capsys):
    """CTC needs a frame for each token and a blank between equal neighbours, and one frame in any case."""
    rows = [
        (12, (1, 2, 3)),  # 3 frames for 3 tokens: just fits
        (11, (1, 2, 3)),  # 2 frames: too few
        (12, (1, 1, 2)),  # a blank between the equal ones: needs 4
        (16, (1, 1, 2)),
        (16, (1, 2, 1, 2)),  # equal but not neighbours
        (20, (1, 1, 1)),  # two blanks: needs 5
        (16, (1, 1, 1)),
        (3, None),  # unlabelled, but no frame at all
        (4, None),
    ]
    assert left(examples(*rows)) == ["s-0", "s-3", "s-4", "s-5", "s-8"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "4 of 9 utterances of 'train'" in said


def test_what_is_left_has_a_finite_loss_and_what_is_dropped_has_none():
    """The rule against CTC itself."""
    for frames, tokens in [(12, (1, 2, 3)), (11, (1, 2, 3)), (12, (1, 1, 2)), (16, (1, 1, 2)), (16, (1, 1, 1))]:
        count = frames // 4
        log_probs = torch.zeros(count, 1, 5).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(
            log_probs, torch.tensor([tokens]), torch.tensor([count]), torch.tensor([len(tokens)])
        )
        assert bool(torch.isfinite(loss)) == bool(left(examples((frames, tokens))))


def test_nothing_is_said_when_all_fit(capsys):
    assert left(examples((40, (1, 2)))) == ["s-0"]
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def tiny():
    return load_experiment(TINY)


def ids(batches):
    return [each for batch in batches for each in batch.ids]


def test_validation_uses_so_much_of_the_dev_set_of_all_its_speakers(run, tiny):
    data = PreparedData(run / "data/synth", tiny.features)
    train = data.speech_set("train", True)
    in_file = read_cuts(run / "data/synth/dev.jsonl.gz")
    in_turn = [in_file[index] for index in round_the_speakers(in_file)]
    assert len({utterance.speaker for utterance in in_turn[:2]}) == 2
    frames = {example.utterance.id: example.frames for example in data.speech_set("dev", True).examples}
    two = sum(frames[utterance.id] for utterance in in_turn[:2]) / data.extractor.frames_per_second
    for seconds, count in [(1e9, len(in_file)), (two - 0.01, 2), (two + 0.01, 3), (0.0, 1)]:
        dev = data.speech_set("dev", True)
        keep_for_validation(dev, seconds)
        settings = TrainingSettings(steps=1, batch_seconds=3.0)
        stage = stage_data(train, dev, settings, 0, CPU, labelled=True)
        assert sorted(ids(stage.dev())) == sorted(utterance.id for utterance in in_turn[:count])
        lengths = [frames[each] for each in ids(stage.dev())]
        assert ids(stage.dev()) == ids(stage.dev()) and lengths == sorted(lengths)


def test_fixed_batches_hear_all_speakers_first(run, tiny):
    """The four speakers in the first four utterances, and then everybody again, whatever the method."""
    data = open_data(tiny, "a4", run / "data/synth")
    found = {}
    for name in ("a4", "f2"):
        system = load_system(run / "systems" / name / "seed0", packages=["tests.toys"])
        (stage,) = system.method.stages(tiny.training_of(name))
        found[name] = list(_fixed_batches(data, system.method, system.module, stage, CPU))
    speakers = {utterance.id: utterance.speaker for utterance in read_cuts(run / "data/synth/train.jsonl.gz")}
    heard = [speakers[each] for each in ids(found["a4"])]
    assert len(heard) == len(speakers)
    for start in range(0, 12, 4):
        assert len(set(heard[start : start + 4])) == 4
    assert ids(found["f2"]) == ids(found["a4"])
    longest = [batch.inputs.size(1) * len(batch.ids) for batch in found["a4"]]
    assert max(longest) <= tiny.training.batch_seconds * data.extractor.frames_per_second


def test_fixed_batches_are_let_go_before_the_stage(run, tiny, tmp_path):
    """A method that has taken as many as it wants leaves nobody behind who reads on."""
    seen = []

    class TakesOne(AllPhysical):
        def begin_stage(self, module, stage, batches):
            seen.append(next(batches).ids)
            self.batches = batches
            return module

        def losses(self, module, batch, step):
            seen.append(self.batches.gi_frame)
            return super().losses(module, batch, step)

    data, name = open_data(tiny, "a4", run / "data/synth"), "baselines.all_physical"
    backbone = BackboneFactory(**tiny.backbone_of("a4"), vocabulary=len(data.tokenizer))
    method = TakesOne(make_method(name, {}, backbone).config, backbone)
    training = TrainingSettings(steps=1, batch_seconds=6.0, tensorboard=False)
    _Run(make_fabric(training), method, data, training, tiny.dev_set, [1.0], 0, tmp_path).all_stages({})
    assert seen[0] and len(seen) > 2 and not any(seen[1:])


def test_training_batches_follow_from_seed_and_position(run, tiny):
    data = PreparedData(run / "data/synth", tiny.features)
    train, dev = data.speech_set("train", True), data.speech_set("dev", True)

    def first(seed, start):
        stage = stage_data(train, dev, TrainingSettings(steps=1, batch_seconds=6.0), seed, CPU, labelled=True)
        batches = stage.train(start, 0, 1)
        return [next(batches).ids for _ in range(4)]

    assert first(0, 0)[2:] == first(0, 2)[:2] and first(0, 0) != first(1, 0)


@pytest.fixture(scope="module")
def stored(run, tmp_path_factory):
    """The tiny experiment's data prepared with a feature store, at three speeds."""
    folder = tmp_path_factory.mktemp("stored") / "data"
    shutil.copytree(run / "data/synth", folder)
    settings = FeatureSettings(mels=20, speed_factors=SPEEDS, store=True)
    sets = {name: read_cuts(folder / f"{name}.jsonl.gz") for name in ("train", "dev", "test_a", "test_b")}
    contents = {name: set_content(folder, name) for name in sets}
    prepare_features(settings, sets, contents, read(folder / "corpus.json")["sampling_rate"], folder)
    return folder


def test_the_store_gives_what_is_computed_on_the_fly(stored):
    """Every utterance at every speed, alone in its batch and among others."""
    kept = PreparedData(stored, FeatureSettings(mels=20, speed_factors=SPEEDS, store=True))
    fresh = PreparedData(stored, FeatureSettings(mels=20, speed_factors=SPEEDS))
    for name, speeds in (("train", tuple(SPEEDS)), ("dev", (1.0,))):
        one, other = kept.speech_set(name, True, speeds), fresh.speech_set(name, True, speeds)
        assert one.stored is not None and other.stored is None
        assert len(one) == len(other) == len(speeds) * len(read_cuts(stored / f"{name}.jsonl.gz"))
        for indices in ([0, 1, 2], [3], list(range(4, min(24, len(one))))):
            if max(indices) >= len(one):
                continue
            a, b = one.batch(indices, CPU), other.batch(indices, CPU)
            assert a.ids == b.ids and torch.equal(a.input_lengths, b.input_lengths)
            assert torch.equal(a.targets, b.targets)
            for row, (length, index) in enumerate(zip(a.input_lengths.tolist(), indices, strict=True)):
                assert length == one.examples[index].frames
                torch.testing.assert_close(a.inputs[row, :length], b.inputs[row, :length], atol=1e-4, rtol=0)


def test_statistics_are_those_of_numpy(run):
    """Mean and deviation over all frames of the training set, each frame counted once."""
    data = PreparedData(run / "data/synth", FeatureSettings(mels=20))
    frames = []
    for utterance in read_cuts(run / "data/synth/train.jsonl.gz"):
        samples = read_audio(utterance)
        features, lengths = data.extractor(torch.from_numpy(samples)[None], [len(samples)])
        frames.append(features[0, : int(lengths[0])].double().numpy())
    everything = np.concatenate(frames)
    np.testing.assert_allclose(data.normaliser.mean, everything.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(data.normaliser.deviation, everything.std(0), rtol=1e-4, atol=1e-4)


def test_a_store_of_other_recordings_is_refused(stored, tmp_path):
    folder = shutil.copytree(stored, tmp_path / "data")
    data = PreparedData(folder, FeatureSettings(mels=20, speed_factors=SPEEDS, store=True))
    assert data.speech_set("dev", labelled=True).stored is not None
    for name in ("dev", "test_a"):  # as after a preparation of the corpus alone
        shutil.copy(folder / "train.content.json", folder / f"{name}.content.json")
        with pytest.raises(UserError, match=rf"features_{name}\.json: .* other recordings .* prepare the inputs again"):
            data.speech_set(name, labelled=True)


def test_normalised_training_features_have_mean_zero_and_deviation_one(stored):
    """Over all speeds, as they are used."""
    data = PreparedData(stored, FeatureSettings(mels=20, speed_factors=SPEEDS, store=True))
    speech = data.speech_set("train", True, tuple(SPEEDS))
    batch = speech.batch(range(len(speech)), CPU)
    real = torch.arange(batch.inputs.size(1)) < batch.input_lengths[:, None]
    values = batch.inputs[real].double()
    torch.testing.assert_close(values.mean(0), torch.zeros(20).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.std(0), torch.ones(20).double(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("factor", SPEEDS)
def test_speed_moves_length_and_pitch(factor):
    """A tone of 400 Hz played at this speed; resampling needs no torchaudio."""
    rate = 8000
    tone = (0.5 * np.sin(2 * np.pi * 400 * np.arange(2 * rate) / rate)).astype(np.float32)
    played = perturb_speed(tone, rate, factor)
    assert played.dtype == np.float32 and abs(len(played) - 2 * rate / factor) <= 2
    spectrum = np.abs(np.fft.rfft(played))
    assert np.argmax(spectrum) * rate / len(played) == pytest.approx(400 * factor, abs=1)
    assert np.abs(played[800:-800]).max() == pytest.approx(0.5, abs=0.02)


def test_frames_do_not_depend_on_the_padding_behind_them():
    extractor = FeatureExtractor(FeatureSettings(mels=20), 8000)
    samples = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0))
    alone, length = extractor(samples, [5000])
    padded, _ = extractor(torch.nn.functional.pad(samples, (0, 4000)), [5000])
    assert alone.size(1) == int(length) == 1 + (5000 - 200) // 80
    torch.testing.assert_close(padded[:, : int(length)], alone, atol=1e-4, rtol=0)


def test_waveforms_are_normalised_as_transformers_does():
    from transformers import Wav2Vec2FeatureExtractor

    generator = np.random.default_rng(0)
    waves = [(0.1 * generator.standard_normal(n) + 0.05).astype(np.float32) for n in (4000, 2500, 1)]
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)(
        waves, sampling_rate=16000, padding=True, return_tensors="pt"
    )
    extractor = WaveformExtractor(16000)
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
    ours, lengths = extractor(padded + 0, [len(wave) for wave in waves])
    assert lengths.tolist() == theirs.attention_mask.sum(1).tolist() == [4000, 2500, 1]
    torch.testing.assert_close(ours, theirs.input_values, atol=1e-5, rtol=0)
    assert extractor.frames(4000) == 4000 and extractor.frames_per_second == 16000
    silent, _ = extractor(torch.zeros(2, 5), [5, 0])
    assert torch.equal(silent, torch.zeros(2, 5))


def test_a_waveform_does_not_depend_on_its_batch(run, tiny):
    data = open_data(tiny, "w2", run / "data/synth")
    speech = data.speech_set("train", True, (0.9, 1.0))
    whole = speech.batch(range(12), CPU)
    for index in range(12):
        alone = speech.batch([index], CPU)
        length = int(alone.input_lengths)
        assert length == int(whole.input_lengths[index]) == alone.inputs.size(1)
        assert torch.equal(alone.inputs[0], whole.inputs[index, :length])
        assert not whole.inputs[index, length:].any()
    expected = read_cuts(run / "data/synth/train.jsonl.gz")[0]
    assert abs(int(whole.input_lengths[0]) - expected.samples / 0.9) <= 2


def test_batches_of_a_number_of_utterances_hold_as_many(run, tiny):
    data = open_data(tiny, "w2", run / "data/synth")
    train, dev = data.speech_set("train", True), data.speech_set("dev", True)
    stage = stage_data(train, dev, tiny.training_of("w2"), 0, CPU, labelled=True)
    batches = stage.train(0, 0, 1)
    assert [len(next(batches).ids) for _ in range(10)] == [4] * 10
    assert [len(batch.ids) for batch in stage.dev()] == [4, 2]


def test_preparing_again_gives_the_same_bytes(run, tiny, tmp_path):
    """Each family by its own command, in either order."""
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(run / "data/synth", folder, ignore=shutil.ignore_patterns("tokenizer.json", "cmvn.json"))
    for family in ("speech", None):
        prepare_inputs(tiny, family, folder)
    for file in ("tokenizer.json", "cmvn.json", "speech/tokenizer.json"):
        assert (folder / file).read_bytes() == (run / "data/synth" / file).read_bytes()
    assert read(folder / "speech/tokenizer.json")["units"] == "letter"
    assert not (folder / "speech/cmvn.json").exists()


def random_system(run, **backbone):
    """The tiny experiment's foldable system with scattered weights: every utterance sounds different to it."""
    trained = load_system(run / "systems/f2/seed0")
    torch.manual_seed(0)
    module = trained.method.backbone.build(branch_scale=1.0, **backbone).eval().requires_grad_(False)
    with torch.no_grad():
        module.ctc.ctc_lo.weight.mul_(8)
    return TrainedSystem("random", module, trained.method)


def decoded(run, tiny, system, decode):
    """Texts of a test set at the shallowest and the deepest point, one utterance a batch, and all in one."""
    data = PreparedData(run / "data/synth", tiny.features)
    points = system.method.points(system.module)
    settings = tiny.decodes[decode].model_copy(update={"max_length_ratio": 0.15, "utterances": 5})
    return [
        Decoder(system, data, settings, seconds, CPU).decode("test_a", [points[0], points[-1]])
        for seconds in (0.1, 1e4)
    ]


@pytest.mark.parametrize("decode", ["greedy", "beam"])
def test_a_transcript_does_not_depend_on_its_batch(run, tiny, decode):
    alone, together = decoded(run, tiny, random_system(run), decode)
    assert alone == together
    texts = [text for point in alone.values() for text in point.values()]
    assert len(texts) == 10 and len(set(texts)) > 3


def test_with_padding_in_the_convolutions_it_would(run, tiny):
    """ESPnet's way, to see that the test above can fail."""
    alone, together = decoded(run, tiny, random_system(run, mask_padding=False), "greedy")
    assert alone != together


def test_provenance_is_present_and_true(run, tiny):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    for folder in (run / "systems").iterdir():
        found = read(folder / "seed0/provenance.json")
        if head.returncode == 0:
            assert re.fullmatch("[0-9a-f]{40}", found["commit"]) and isinstance(found["modified"], bool)
            known = subprocess.run(["git", "cat-file", "-t", found["commit"]], cwd=ROOT, capture_output=True, text=True)
            assert known.stdout.strip() == "commit"
        assert found["seed"] == 0 and found["device"] == "cpu" and found["threads"] == tiny.threads == 1
        assert found["versions"]["torch"] == torch.__version__ and found["versions"]["numpy"] == np.__version__
        configuration = dict(found["configuration"])
        orders = {role: drop_order(run, name) for role, name in needed(tiny, folder.name).items()}
        assert configuration.pop("drop_orders") == orders
        family = tiny.systems[folder.name].family
        files = ["tokenizer.json", "cmvn.json"] if family is None else [f"{family}/tokenizer.json"]
        assert configuration.pop("data") == {name: sha256(run / "data/synth" / name) for name in files}
        assert configuration.pop("corpus")["name"] == "synth"
        # Whatever the experiment says stands there, and every default that it leaves open beside it.
        inputs = json.loads(json.dumps(training_configuration(tiny, folder.name)))
        assert holds(configuration, inputs) and set(configuration) == set(inputs)
        defaults = {"layer_drop", "mask_padding"} | ({"ctc_weight", "label_smoothing"} if family is None else set())
        assert defaults <= set(configuration["backbone"]["settings"])
        if folder.name == "f2":
            assert configuration["settings"]["alpha_p"] == 0.25
            assert configuration["settings"]["kl"]["reduction"] == "batch"
        finished = datetime.fromisoformat(found["finished"])
        assert timedelta(0) <= datetime.now(UTC) - finished < timedelta(days=1)
        assert 0 < found["wall_seconds"] < 600 and f"--system {folder.name}" in found["command"]


def holds(whole, part):
    """Whether `whole` says everything that `part` says."""
    if isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    return whole == part


def needed(experiment, system):
    settings = experiment.systems[system].settings
    return {role: value["system"] for role, value in settings.items() if isinstance(value, dict) and "system" in value}


def drop_order(run, name):
    path = run / "systems" / name / "seed0/sensitivity.json"
    return read(path)["drop_order"] if path.exists() else None


def test_the_commit_is_the_one_that_is_checked_out():
    from workflows.provenance import commit

    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode:
        pytest.skip("not a clone")
    assert commit()["commit"] == head.stdout.strip()
