"""Beam search over a batch of utterances against ESPnet's own, one utterance at a time."""

import logging

import pytest
import torch
from espnet.nets.e2e_asr_common import end_detect
from torch.nn.utils.rnn import pad_sequence

from asr.backbones import BackboneFactory, Batch
from asr.search import BeamSearch
from asr.search.attention import AttentionDecoder
from asr.search.beam import _Batch, is_the_end
from asr.settings import DecodeSettings
from asr.tokenizer import Tokenizer
from benchmarks.espnet_search import AnyBeam, BatchBeamSearch, EspnetSearch
from methods.shared.packed import Packed
from tests.models import SMALL, STILL

TOKENIZER = Tokenizer.train([" ".join("abcdefghij")], "word")
WIDTH = SMALL["width"]
LENGTHS = (9, 1, 0, 5, 3)
logging.getLogger("espnet.nets.beam_search").setLevel(logging.ERROR)  # it warns of hypotheses as long as they may be


def settings(beam=8, **changes):
    return DecodeSettings(kind="beam", beam=beam, **changes)


def encoder_outputs(lengths=LENGTHS, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, WIDTH, generator=generator).to(dtype) for length in lengths]


def peaky(dtype=torch.float32, **changes):
    """A random Conformer whose CTC and attention outputs are far from flat, and disagree."""
    torch.manual_seed(3)
    changes = {**SMALL, **STILL, "layers": 1, "decoder_layers": 2, **changes}
    model = BackboneFactory("conformer", changes, len(TOKENIZER)).build().eval()
    with torch.no_grad():
        model.ctc.ctc_lo.weight.mul_(3)
        model.decoder.output_layer.weight.mul_(3)
    return model.requires_grad_(False).to(dtype)


def best_of(peer, frames):
    found = peer(frames)
    return found[0] if found else ([], -float("inf"))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("beam", "penalty", "ratio"),
    [(1, 0.0, 0.0), (3, 1.0, 0.0), (3, -0.5, 0.6), (8, 0.1, 0.0), (30, 0.5, 0.0)],
)
def test_equals_espnet_in_float64(beam, penalty, ratio, weight):
    """Beam 3 looks at 4 tokens of the decoder's first, 8 at all 12, and 30 is wider than the vocabulary."""
    model = peaky(torch.float64)
    torch.set_default_dtype(torch.float64)  # ESPnet makes scores of the default type
    try:
        chosen = settings(beam, ctc_weight=weight, penalty=penalty, max_length_ratio=ratio)
        own = BeamSearch(model.scorers(), TOKENIZER, chosen)
        peer = EspnetSearch(model.scorers(), TOKENIZER, chosen)
        utterances = encoder_outputs(dtype=torch.float64)
        for found, frames in zip(own(utterances), utterances, strict=True):
            tokens, score = best_of(peer, frames)
            assert found.tokens == tokens
            assert found.score == pytest.approx(score, abs=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def spelled(count, seed):
    """Utterances in which each token is a pattern of its own in twelve frames of features, with noise."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(len(TOKENIZER), SMALL["input_dim"], generator=torch.Generator().manual_seed(99))
    targets = [torch.randint(1, len(TOKENIZER) - 1, (3 + k % 6,), generator=generator) for k in range(count)]
    inputs = [patterns[row].repeat_interleave(12, 0) for row in targets]
    inputs = [row + 0.5 * torch.randn(row.shape, generator=generator) for row in inputs]
    lengths, sizes = (torch.tensor([len(row) for row in rows]) for rows in (inputs, targets))
    padded = pad_sequence(targets, batch_first=True, padding_value=-1)
    return Batch(tuple(map(str, range(count))), pad_sequence(inputs, batch_first=True), lengths, padded, sizes)


@pytest.fixture(scope="module")
def trained():
    """A Conformer after a short training, and the encoder outputs of utterances that it did not see."""
    torch.manual_seed(0)
    model = BackboneFactory("conformer", {**SMALL, **STILL, "layers": 1}, len(TOKENIZER)).build()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(60):
        batch = spelled(16, step)
        optimiser.zero_grad()
        model.loss(model.outputs(model.encode(batch.inputs, batch.input_lengths), batch), batch)["total"].backward()
        optimiser.step()
    model.eval().requires_grad_(False)
    batch = spelled(8, 1000)
    encoded = model.encode(batch.inputs, batch.input_lengths)
    return model, [row[:length] for row, length in zip(encoded.frames, encoded.lengths.tolist(), strict=True)]


class Counting(AnyBeam):
    """ESPnet's search, which counts its steps."""

    steps = 0

    def search(self, *arguments, **named):
        self.steps += 1
        return super().search(*arguments, **named)


@pytest.mark.parametrize(("beam", "weight"), [(5, 0.3), (20, 0.7), (5, 0.0), (3, 1.0)])
def test_equals_espnet_on_a_trained_model(trained, beam, weight):
    """In float32: the same transcripts, or scores that differ by less than 1e-4."""
    model, utterances = trained
    chosen = settings(beam, ctc_weight=weight, penalty=0.1)
    peer = EspnetSearch(model.scorers(), TOKENIZER, chosen, kind=Counting)
    found = BeamSearch(model.scorers(), TOKENIZER, chosen)(utterances)
    for own, frames in zip(found, utterances, strict=True):
        ended = peer(frames)
        assert own.score == pytest.approx(ended[0][1], abs=1e-4)
        assert own.tokens in [tokens for tokens, score in ended if ended[0][1] - score < 1e-4]
    assert len({tuple(own.tokens) for own in found}) > 4
    if weight == 0.3:
        assert peer.search.steps < sum(map(len, utterances)), "the end was detected before all frames were spelled"


def test_the_end_is_where_espnet_detects_it():
    """Over random histories: in each step one hypothesis ended, or none."""
    generator = torch.Generator().manual_seed(0)
    steps, utterances = 10, 400
    scores = -20 * torch.rand(steps, utterances, generator=generator).double()
    scores[:, ::2] -= torch.arange(steps)[:, None]  # so that some histories end
    scores[torch.rand(scores.shape, generator=generator) < 0.1] = -torch.inf
    verdicts = []
    for step in range(steps):
        ended = list(scores[: step + 1])
        found = is_the_end(ended, torch.stack(ended).amax(0)).tolist()
        for utterance, verdict in enumerate(found):
            history = enumerate(scores[: step + 1, utterance].tolist())
            # Start and end of the sentence are among ESPnet's tokens: what ended in step 0 has two.
            listed = [{"score": score, "yseq": [0] * (k + 2)} for k, score in history if score > -float("inf")]
            assert verdict == end_detect(listed, step)
        verdicts += found
    assert 20 < sum(verdicts) < len(verdicts) - 20


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_an_utterance_alone_and_in_any_batch(trained, weight):
    model, utterances = trained
    utterances = [*utterances[:3], utterances[0][:0], utterances[5][:2], *utterances[6:]]
    found = {
        room: BeamSearch(model.scorers(), TOKENIZER, settings(4, ctc_weight=weight, batch_hypotheses=room))(utterances)
        for room in (1, 12, 1000)
    }
    alone = [BeamSearch(model.scorers(), TOKENIZER, settings(4, ctc_weight=weight))([each])[0] for each in utterances]
    for together in found.values():
        assert [each.tokens for each in together] == [each.tokens for each in alone]
        assert [each.score for each in together] == pytest.approx([each.score for each in alone], abs=1e-5)


def test_packed_decoders_are_searched_as_they_run(trained):
    model = peaky()
    for layer in model.decoder.decoders:
        for part in (layer.self_attn.linear_q, layer.src_attn.linear_v, layer.feed_forward.w_1):
            (name,) = [name for name, each in layer.named_modules() if each is part]
            layer.set_submodule(name, Packed.of(part, 4, 16))
    chosen = settings(4, ctc_weight=0.3)
    utterances = encoder_outputs((6, 4))
    peer = EspnetSearch(model.scorers(), TOKENIZER, chosen)
    for own, frames in zip(BeamSearch(model.scorers(), TOKENIZER, chosen)(utterances), utterances, strict=True):
        tokens, score = best_of(peer, frames)
        assert (own.tokens, own.score) == (tokens, pytest.approx(score, abs=1e-4))


def test_pruned_trees_give_what_the_decoder_gives():
    """Hypotheses that branch, end and are pruned, against the decoder's pass over whole prefixes."""
    model = peaky(torch.float64, decoder_layers=3)
    frames = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    lengths = torch.tensor([7, 4])
    tree = AttentionDecoder(model.decoder, frames, torch.arange(7) < lengths[:, None])
    generator = torch.Generator().manual_seed(0)
    prefixes = torch.full((2, 1, 1), TOKENIZER.sos_eos)
    for step in range(6):
        found = tree.log_probs(prefixes[..., -1])
        hypotheses = prefixes.size(1)
        whole, _ = model.decoder(
            frames.repeat_interleave(hypotheses, 0),
            lengths.repeat_interleave(hypotheses),
            prefixes.flatten(0, 1),
            torch.full((2 * hypotheses,), step + 1),
        )
        torch.testing.assert_close(found.flatten(0, 1), whole[:, -1].log_softmax(-1))
        parents = torch.randint(hypotheses, (2, 3), generator=generator)
        tokens = torch.randint(1, len(TOKENIZER), (2, 3, 1), generator=generator)
        prefixes = torch.cat((prefixes.gather(1, parents[..., None].expand(-1, -1, step + 1)), tokens), 2)
        tree.extend(parents, torch.ones(2, 3, dtype=torch.bool))
        before = tree.descent.size(2)
        tree.prune(int(tree.nodes().max()))
        assert tree.descent.size(2) <= before
    assert tree.descent.size(2) < 1 + 5 * 3, "some nodes were forgotten"


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_step_reads_nothing_from_the_device(weight):
    """On torch's device without data, whatever wants to know a number fails."""
    model = peaky().to("meta")
    search = BeamSearch(model.scorers(), TOKENIZER, settings(3, ctc_weight=weight))
    batch = _Batch(search, [0, 1], [torch.zeros(length, WIDTH, device="meta") for length in (12, 9)])
    for _ in range(8):
        batch.step()
    assert batch.running.shape == (2, 3) and batch.running.device.type == "meta"
    with pytest.raises(Exception, match="[Mm]eta"):
        batch.take_finished()


def test_espnets_own_class_has_no_beam_wider_than_the_vocabulary():
    """Why the peer is not ESPnet's class as it is."""
    peer = EspnetSearch(peaky().scorers(), TOKENIZER, settings(30), kind=BatchBeamSearch)
    with pytest.raises(RuntimeError, match="out of range"):
        peer(encoder_outputs((5,))[0])
