"""Texts to token ids and back: words, characters, or byte-pair units.

The token list is `<blank>` (id 0, CTC's), the units, and `<sos/eos>` (last, the decoder's): 2000 byte-pair units
give 2002 entries. There is no `<unk>`: a training transcript that cannot be written in the units is an error, and
references are scored as raw words, so nothing is ever mapped to it. Training is deterministic.
"""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece

from common.errors import UserError
from common.files import read_json, write_json

Units = Literal["word", "char", "bpe"]
BLANK, SOS_EOS, SPACE = "<blank>", "<sos/eos>", "<space>"
PIECE_SPACE = "▁"  # how sentencepiece writes the space before a word


class Tokenizer:
    """A token list and the way texts are cut into it. Words are separated by single spaces; case is kept."""

    def __init__(self, units: Units, tokens: Sequence[str], model: bytes | None = None):
        """`tokens` is the whole list, with blank and sos/eos; `model` is the sentencepiece model of byte-pair units."""
        self.units = units
        self.tokens = list(tokens)
        self._model = model
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model) if units == "bpe" else None

    @classmethod
    def train(cls, texts: Iterable[str], units: Units, vocabulary_size: int | None = None) -> "Tokenizer":
        """Collect the units of `texts`. `vocabulary_size`, for byte-pair units only, is their number without the two
        special tokens. Raises `UserError` for unknown units, an impossible size, no text, or text that holds a special
        token."""
        texts = [" ".join(text.split()) for text in texts]
        _check_training(texts, units, vocabulary_size)
        model = None
        if units == "word":
            found = sorted({word for text in texts for word in text.split()})
        elif units == "char":
            found = sorted({SPACE if character == " " else character for text in texts for character in text})
        else:
            model, found = _train_pieces(texts, vocabulary_size)
        return cls(units, [BLANK, *found, SOS_EOS], model)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def blank(self) -> int:
        """CTC's blank: 0."""
        return 0

    @property
    def sos_eos(self) -> int:
        """The decoder's start and end: the last id."""
        return len(self.tokens) - 1

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises `UserError` naming the first word or character that is not in the token list."""
        words = text.split()
        if self.units == "bpe":
            ids = self._pieces.encode(" ".join(words))
            # The model's id 0 is its <unk>, where ours is the blank; from 1 on both lists agree.
            if 0 not in ids and PIECE_SPACE not in text:
                return ids
            known = set("".join(self.tokens[1:-1])) - {PIECE_SPACE}
            missing = next(character for character in "".join(words) if character not in known)
            raise UserError(f"transcript '{text}': character {missing!r} is not in the tokenizer")
        parts = words if self.units == "word" else [SPACE if c == " " else c for c in " ".join(words)]
        specials = (BLANK, SOS_EOS)
        for part in parts:
            if part not in self._ids or part in specials:
                kind = "word" if self.units == "word" else "character"
                raise UserError(f"transcript '{text}': {kind} {part!r} is not in the tokenizer")
        return [self._ids[part] for part in parts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; blank and sos/eos say nothing. Raises `IndexError` for an id outside the list."""
        tokens = []
        for number in ids:
            if not 0 <= number < len(self.tokens):
                raise IndexError(f"token {number} is outside the list of {len(self.tokens)}")
            if number not in (self.blank, self.sos_eos):
                tokens.append(self.tokens[number])
        if self.units == "word":
            return " ".join(tokens)
        if self.units == "char":
            text = "".join(" " if token == SPACE else token for token in tokens)
        else:
            text = "".join(tokens).replace(PIECE_SPACE, " ")
        return " ".join(text.split())

    def check(self, utterances: Iterable[Any]) -> None:
        """Check that all transcripts of a training set can be written in the units (`utterances` have `id` and `text`).

        Raises `UserError` naming the utterance and what is outside. Transcripts of test sets need no check.
        """
        for utterance in utterances:
            try:
                self.encode(utterance.text)
            except UserError as error:
                raise UserError(
                    f"utterance {utterance.id}: {error}; correct the transcript, or train the tokenizer on these texts"
                ) from None

    def save(self, path: Path | str) -> None:
        """Write `tokenizer.json`: units, token list, and the byte-pair model in base64."""
        model = base64.b64encode(self._model).decode() if self._model is not None else None
        write_json(path, {"schema": 1, "units": self.units, "tokens": self.tokens, "model": model})

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Read `tokenizer.json`. Raises `UserError` naming the file when it is missing or is no tokenizer."""
        data = read_json(path)
        try:
            units, tokens, model = data["units"], data["tokens"], data["model"]
            if units not in ("word", "char", "bpe") or tokens[0] != BLANK or tokens[-1] != SOS_EOS:
                raise ValueError("the token list does not begin with <blank> and end with <sos/eos>")
            if (model is not None) != (units == "bpe"):
                raise ValueError("byte-pair units have a model, and only they")
            tokenizer = cls(units, tokens, base64.b64decode(model) if model is not None else None)
            if units == "bpe" and tokenizer._pieces.get_piece_size() != len(tokens) - 1:
                raise ValueError("the model and the token list differ in size")
            return tokenizer
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise UserError(
                f"{path}: not a tokenizer ({type(error).__name__}: {error}); prepare the corpus again"
            ) from None


def _check_training(texts: list[str], units: str, vocabulary_size: int | None) -> None:
    if units not in ("word", "char", "bpe"):
        raise UserError(f"tokenizer: units '{units}' are unknown (known: bpe, char, word)")
    if (vocabulary_size is not None) != (units == "bpe"):
        raise UserError("tokenizer: vocabulary_size goes with units 'bpe', and only with them")
    if not any(texts):
        raise UserError("tokenizer: there are no words to train on")
    reserved = {"word": (BLANK, SOS_EOS), "char": (), "bpe": (PIECE_SPACE,)}[units]
    for text in texts:
        for special in reserved:
            if special in (text.split() if units == "word" else text):
                raise UserError(f"tokenizer: transcript '{text}' holds '{special}', which has a meaning of its own")


def _train_pieces(texts: list[str], size: int) -> tuple[bytes, list[str]]:
    """A byte-pair model with `size` units besides its <unk>, and the units in the model's order."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size + 1,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            max_sentence_length=1_000_000,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        limit = re.search(r"<= (\d+)", str(error))
        advice = f"; these texts allow at most {int(limit[1]) - 1}" if limit else ""
        raise UserError(
            f"tokenizer: vocabulary_size {size} is not possible{advice} (sentencepiece: {str(error).strip()})"
        ) from None
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return model.getvalue(), [pieces.id_to_piece(number) for number in range(1, pieces.get_piece_size())]
