"""Greedy and beam decoding against hand cases and against every label sequence there is."""

from itertools import product

import pytest
import torch

from asr.backbones import BackboneFactory
from asr.decoding import greedy
from asr.search import BeamSearch
from asr.settings import DecodeSettings
from asr.tokenizer import Tokenizer
from tests.models import SMALL, STILL

TOKENIZER = Tokenizer.train(["a b c"], "word")
LABELS = (1, 2, 3)
FRAMES = 4
EVERY_SEQUENCE = [labels for length in range(FRAMES + 1) for labels in product(LABELS, repeat=length)]


def log_probs_of(rows):
    """Frames whose best label is as given, (utterances, frames, 4)."""
    return torch.nn.functional.one_hot(torch.tensor(rows), 4).float().log_softmax(-1)


def test_greedy_collapses_repeats_then_removes_blanks():
    rows = [[0, 1, 1, 0, 1, 2, 2, 3, 3, 0], [2, 2, 0, 0, 2, 1, 1, 1, 3, 3]]
    assert greedy(log_probs_of(rows), torch.tensor([10, 10])) == [[1, 1, 2, 3], [2, 2, 1, 3]]


def test_greedy_reads_no_frame_behind_the_end():
    rows = [[1, 2, 3, 3], [1, 2, 3, 3], [1, 2, 3, 3]]
    assert greedy(log_probs_of(rows), torch.tensor([4, 2, 0])) == [[1, 2, 3], [1, 2], []]


def test_greedy_with_another_blank():
    assert greedy(log_probs_of([[0, 0, 3, 0, 3, 3, 1]]), torch.tensor([7]), blank=3) == [[0, 0, 1]]


def test_greedy_wants_a_length_of_every_utterance():
    with pytest.raises(ValueError, match="shorter"):
        greedy(log_probs_of([[1, 2], [2, 3]]), torch.tensor([2]))


@pytest.fixture(scope="module")
def model():
    """A random Conformer whose CTC and attention outputs are far from flat, and disagree."""
    torch.manual_seed(3)
    model = BackboneFactory("conformer", {**SMALL, **STILL}, len(TOKENIZER)).build().eval()
    with torch.no_grad():
        model.ctc.ctc_lo.weight.mul_(3)
        model.decoder.output_layer.weight.mul_(3)
    return model.requires_grad_(False)


def encoder_frames(seed, frames=FRAMES):
    """Encoder output of one utterance, (frames, width)."""
    return torch.randn(frames, SMALL["width"], generator=torch.Generator().manual_seed(seed))


def ctc_scores(model, frames):
    """log p_ctc of every sequence by torch's own loss: exact sums over all alignments."""
    log_probs = model.ctc.log_softmax(frames[None]).transpose(0, 1).expand(-1, len(EVERY_SEQUENCE), -1)
    lengths = torch.tensor([len(labels) for labels in EVERY_SEQUENCE])
    targets = torch.tensor([[*labels, *[1] * (FRAMES - len(labels))] for labels in EVERY_SEQUENCE])
    full = torch.full((len(EVERY_SEQUENCE),), len(frames))
    return -torch.nn.functional.ctc_loss(log_probs.double(), targets, full, lengths, reduction="none")


def attention_scores(model, frames):
    """log p_att of every sequence with its end, one teacher-forced pass for each length."""
    scores = []
    for length in range(FRAMES + 1):
        labels = [labels for labels in EVERY_SEQUENCE if len(labels) == length]
        tokens = torch.tensor([[TOKENIZER.sos_eos, *row, TOKENIZER.sos_eos] for row in labels])
        lengths = torch.full((len(labels),), length + 1)
        memory = frames.expand(len(labels), -1, -1)
        logits, _ = model.decoder(memory, torch.full((len(labels),), len(frames)), tokens[:, :-1], lengths)
        scores.append(logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).sum((1, 2)))
    return torch.cat(scores).double()


def test_the_exhaustive_scores_are_a_distribution(model):
    """The reference of the tests below is sound: CTC gives all sequences together probability one."""
    total = ctc_scores(model, encoder_frames(0)).exp().sum()
    frames = model.ctc.log_softmax(encoder_frames(0)[None]).exp()[0]
    end = frames[:, TOKENIZER.sos_eos]  # alignments that pass through sos/eos are no sequence of labels
    assert float(total) == pytest.approx(float((1 - end).prod()), rel=1e-5)


def found(search, frames):
    """The tokens of one utterance."""
    (best,) = search([frames])
    return best.tokens


@pytest.mark.parametrize("seed", range(4))
def test_beam_search_by_ctc_alone_finds_the_most_probable_sequence(model, seed):
    frames = encoder_frames(seed)
    search = BeamSearch(model.scorers(), TOKENIZER, settings(ctc_weight=1.0, penalty=0.0))
    best = EVERY_SEQUENCE[int(ctc_scores(model, frames).argmax())]
    assert found(search, frames) == list(best)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("weight", "penalty"), [(0.0, 0.0), (0.3, 0.0), (0.5, 0.7), (0.7, -0.5)])
def test_joint_beam_search_finds_the_sequence_of_the_highest_joint_score(model, seed, weight, penalty):
    """(1 - w) log p_att + w log p_ctc + penalty for each token, over all sequences of no more labels than frames."""
    frames = encoder_frames(seed)
    search = BeamSearch(model.scorers(), TOKENIZER, settings(ctc_weight=weight, penalty=penalty))
    joint = joint_scores(model, frames, weight, penalty)
    (best,) = search([frames])
    assert best.tokens == list(EVERY_SEQUENCE[int(joint.argmax())])
    # The search's own score counts the end of the sentence as a token, too.
    assert best.score == pytest.approx(float(joint.max()) + penalty, abs=1e-4)


def test_weight_and_penalty_change_what_is_found(model):
    """The cases above are no accident of a search that ignores its settings."""
    chosen = {
        EVERY_SEQUENCE[int(joint_scores(model, encoder_frames(1), weight, penalty).argmax())]
        for weight, penalty in [(0.3, 0.0), (1.0, 0.0), (0.3, 3.0), (0.3, -3.0)]
    }
    assert len(chosen) > 1


def joint_scores(model, frames, weight, penalty):
    tokens = torch.tensor([len(labels) for labels in EVERY_SEQUENCE])
    attention, ctc = attention_scores(model, frames), ctc_scores(model, frames)
    return (1 - weight) * attention + (weight * ctc if weight else 0.0) + penalty * tokens


def settings(beam=130, **changes):
    return DecodeSettings(kind="beam", beam=beam, **changes)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_no_frames_give_no_tokens(model, weight):
    search = BeamSearch(model.scorers(), TOKENIZER, settings(ctc_weight=weight))
    assert found(search, torch.zeros(0, SMALL["width"])) == []


@pytest.mark.parametrize("beam", [1, 4, 20])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_results_hold_labels_only(model, weight, beam):
    """Neither blank nor the decoder's start and end, with beams narrower and wider than the vocabulary."""
    search = BeamSearch(model.scorers(), TOKENIZER, settings(beam, ctc_weight=weight))
    for frames in (1, 2, 6):
        assert set(found(search, encoder_frames(0, frames))) <= set(LABELS)


def test_longest_hypothesis_is_a_share_of_the_frames(model):
    """A high reward for each token asks for as many as are allowed; the end of the sentence may take the last place."""
    for ratio, longest in ((0.75, 6), (0.25, 2)):
        rewarded = settings(10, ctc_weight=0.3, penalty=50.0, max_length_ratio=ratio)
        search = BeamSearch(model.scorers(), TOKENIZER, rewarded)
        assert len(found(search, encoder_frames(0, 8))) in (longest - 1, longest)
