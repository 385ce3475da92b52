"""Texts to token ids and back: words, characters, byte-pair units, or letters.

Id 0 is CTC's blank in every token list. Word, character and byte-pair units are taken from the training transcripts:
the list is `<blank>`, the units, and `<sos/eos>` (last, an attention decoder's): 2000 byte-pair units give 2002
entries. Letters are a given list, that of a pre-trained model; they have no sos/eos, so no decoder either.

There is no `<unk>` in use: a training transcript that cannot be written in the units is an error, and references are
scored as raw words, so nothing is ever mapped to it. Training is deterministic.
"""

import base64
import io
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece

from asr.settings import TokenizerSettings
from common.errors import UserError
from common.files import read_json, write_json

BLANK, SOS_EOS, SPACE = "<blank>", "<sos/eos>", "<space>"
PIECE_SPACE = "▁"  # how sentencepiece writes the space before a word
PAD, LETTER_SPACE = "<pad>", "|"
LETTERS = (PAD, "<s>", "</s>", "<unk>", LETTER_SPACE, *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""The 32 entries of wav2vec2-base-100h, in their order."""


class Tokenizer(ABC):
    """A token list and the way texts are cut into it. Words are separated by single spaces; case is kept, but for
    letters."""

    units: str

    def __init__(self, tokens: Sequence[str]):
        """`tokens` is the whole list, special ones included. Raises ValueError when it is none of this kind."""
        self.tokens = list(tokens)
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        self._specials = frozenset(self._special_tokens())

    @staticmethod
    def make(settings: TokenizerSettings, texts: Iterable[str]) -> "Tokenizer":
        """The tokenizer that the settings ask for; `texts` are the training transcripts."""
        if settings.units == "letter":
            return Letters() if settings.letters is None else Tokenizer.from_vocab(settings.letters)
        return Tokenizer.train(texts, settings.units, settings.vocabulary if settings.units == "bpe" else None)

    @staticmethod
    def train(texts: Iterable[str], units: str, vocabulary_size: int | None = None) -> "DecoderTokenizer":
        """Collect the units of `texts`. `vocabulary_size`, for byte-pair units only, is their number without the two
        special tokens. Raises `UserError` for unknown units, an impossible size, no text, or text that holds a special
        token."""
        texts = [" ".join(text.split()) for text in texts]
        if units not in TRAINED:
            raise UserError(f"tokenizer: units '{units}' are unknown (known: {', '.join(sorted(TRAINED))})")
        if (vocabulary_size is not None) != (units == "bpe"):
            raise UserError("tokenizer: vocabulary_size goes with units 'bpe', and only with them")
        if not any(texts):
            raise UserError("tokenizer: there are no words to train on")
        return BytePairs.collect(texts, vocabulary_size) if units == "bpe" else TRAINED[units].collect(texts)

    @staticmethod
    def from_vocab(path: Path | str) -> "Letters":
        """Letters from a `vocab.json` in Hugging Face's layout, `{"<pad>": 0, ..., "|": 4, "E": 5, ...}`.

        Raises `UserError` naming the file when it is no such list, or when its blank is not id 0.
        """
        ids = read_json(path)
        try:
            if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
                raise ValueError("it does not number its entries from 0 on")
            return Letters(sorted(ids, key=ids.get))
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: not a list of letters ({error}); give another vocab.json") from None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def blank(self) -> int:
        """CTC's blank: 0."""
        return 0

    @abstractmethod
    def _special_tokens(self) -> Iterable[str]:
        """Entries that stand for no text, the blank among them. Raises ValueError when the list lacks them."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises `UserError` naming the first word or character that is not in the token list."""

    @abstractmethod
    def _text(self, token: str) -> str:
        """What a token that is not special adds to a text; outer and double spaces do not matter."""

    @cached_property
    def texts(self) -> list[str]:
        """What each entry of the list adds to a text, special tokens nothing; outer and double spaces do not matter."""
        return ["" if token in self._specials else self._text(token) for token in self.tokens]

    def _look_up(self, parts: list[str], text: str, kind: str = "character") -> list[int]:
        for part in parts:
            if part not in self._ids or part in self._specials:
                raise UserError(f"transcript '{text}': {kind} {part!r} is not in the tokenizer")
        return [self._ids[part] for part in parts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens say nothing. Raises `IndexError` for an id outside the list."""
        parts = []
        for number in ids:
            if not 0 <= number < len(self.tokens):
                raise IndexError(f"token {number} is outside the list of {len(self.tokens)}")
            parts.append(self.texts[number])
        return " ".join("".join(parts).split())

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
        write_json(path, {"schema": 1, "units": self.units, "tokens": self.tokens, "model": self._model_text()})

    def _model_text(self) -> str | None:
        return None

    @staticmethod
    def load(path: Path | str) -> "Tokenizer":
        """Read `tokenizer.json`. Raises `UserError` naming the file when it is missing or is no tokenizer."""
        data = read_json(path)
        try:
            units, tokens, model = data["units"], data["tokens"], data["model"]
            if units not in KINDS:
                raise ValueError(f"units '{units}' are unknown")
            if (model is not None) != (units == "bpe"):
                raise ValueError("byte-pair units have a model, and only they")
            return BytePairs(tokens, base64.b64decode(model)) if units == "bpe" else KINDS[units](tokens)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise UserError(
                f"{path}: not a tokenizer ({type(error).__name__}: {error}); prepare the corpus again"
            ) from None


class DecoderTokenizer(Tokenizer):
    """Units taken from transcripts, between `<blank>` and `<sos/eos>`."""

    def _special_tokens(self) -> Iterable[str]:
        if self.tokens[0] != BLANK or self.tokens[-1] != SOS_EOS:
            raise ValueError("the token list does not begin with <blank> and end with <sos/eos>")
        return BLANK, SOS_EOS

    @property
    def sos_eos(self) -> int:
        """The decoder's start and end: the last id."""
        return len(self.tokens) - 1


class Words(DecoderTokenizer):
    """Whole words."""

    units = "word"

    @classmethod
    def collect(cls, texts: list[str]) -> "Words":
        """All words of `texts`, sorted."""
        words = {word for text in texts for word in text.split()}
        for special in (BLANK, SOS_EOS):
            if special in words:
                raise _reserved(next(text for text in texts if special in text.split()), special)
        return cls([BLANK, *sorted(words), SOS_EOS])

    def encode(self, text: str) -> list[int]:
        return self._look_up(text.split(), text, "word")

    def _text(self, token: str) -> str:
        return f" {token}"


class Characters(DecoderTokenizer):
    """Single characters, and `<space>` between words."""

    units = "char"

    @classmethod
    def collect(cls, texts: list[str]) -> "Characters":
        """All characters of `texts`, sorted."""
        return cls([BLANK, *sorted({part for text in texts for part in _characters(text, SPACE)}), SOS_EOS])

    def encode(self, text: str) -> list[int]:
        return self._look_up(_characters(text, SPACE), text)

    def _text(self, token: str) -> str:
        return " " if token == SPACE else token


class BytePairs(DecoderTokenizer):
    """Byte-pair units of a sentencepiece model."""

    units = "bpe"

    def __init__(self, tokens: Sequence[str], model: bytes):
        super().__init__(tokens)
        self.model = model
        """The sentencepiece model."""
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        if self._pieces.get_piece_size() != len(self.tokens) - 1:
            raise ValueError("the model and the token list differ in size")

    @classmethod
    def collect(cls, texts: list[str], vocabulary_size: int) -> "BytePairs":
        """Train a model with so many units on `texts`."""
        for text in texts:
            if PIECE_SPACE in text:
                raise _reserved(text, PIECE_SPACE)
        model, found = _train_pieces(texts, vocabulary_size)
        return cls([BLANK, *found, SOS_EOS], model)

    def encode(self, text: str) -> list[int]:
        words = text.split()
        ids = self._pieces.encode(" ".join(words))
        # The model's id 0 is its <unk>, where ours is the blank; from 1 on both lists agree.
        if 0 not in ids and PIECE_SPACE not in text:
            return ids
        known = set("".join(self.tokens[1:-1])) - {PIECE_SPACE}
        missing = next(character for character in "".join(words) if character not in known)
        raise UserError(f"transcript '{text}': character {missing!r} is not in the tokenizer")

    def _text(self, token: str) -> str:
        return token.replace(PIECE_SPACE, " ")

    def _model_text(self) -> str:
        return base64.b64encode(self.model).decode()


class Letters(Tokenizer):
    """A given list of letters: `<pad>` (0, CTC's blank), other special tokens, `|` for the space, letters.

    Special tokens are those in angle or square brackets. Texts are brought to the list's case, where it has one.
    """

    units = "letter"

    def __init__(self, tokens: Sequence[str] = LETTERS):
        super().__init__(tokens)
        letters = [token for token in self.tokens if token not in self._specials]
        if len(self._ids) < len(self.tokens) or any(len(letter) != 1 for letter in letters):
            odd = next((token for token in letters if len(token) != 1), "a letter that stands there twice")
            raise ValueError(f"{odd!r} is no letter")
        self._ids[" "] = self._ids.pop(LETTER_SPACE)  # in a transcript, '|' is not the space
        cases = {"upper" if letter.isupper() else "lower" for letter in letters if letter.lower() != letter.upper()}
        self.case = cases.pop() if len(cases) == 1 else None
        """`upper`, `lower`, or None for a list that has both or neither."""

    def _special_tokens(self) -> Iterable[str]:
        if self.tokens[:1] != [PAD] or LETTER_SPACE not in self._ids:
            raise ValueError(f"it does not begin with {PAD}, CTC's blank, or has no '{LETTER_SPACE}' for the space")
        return [token for token in self.tokens if re.fullmatch(r"<.+>|\[.+\]", token)]

    def encode(self, text: str) -> list[int]:
        return self._look_up(self._letters_of(text), text)

    def check(self, utterances: Iterable[Any]) -> None:
        """As for all tokenizers, but the message names all letters that the list lacks."""
        missing: dict[str, str] = {}
        for utterance in utterances:
            for letter in self._letters_of(utterance.text):
                if letter not in self._ids:
                    missing.setdefault(letter, utterance.id)
        if missing:
            letters = " ".join(map(repr, sorted(missing)))
            first = next(iter(missing.values()))
            raise UserError(
                f"tokenizer: the list of letters lacks {letters}, which transcripts hold (first: utterance {first}); "
                "correct the transcripts, or give another list"
            )

    def _letters_of(self, text: str) -> list[str]:
        """The characters of a text in the list's case."""
        cased = text if self.case is None else getattr(text, self.case)()
        if cased != text and self.case not in _said:
            _said.add(self.case)
            print(
                f"note: transcripts are brought to {self.case} case, the tokenizer's case", file=sys.stderr, flush=True
            )
        return _characters(cased, " ")

    def _text(self, token: str) -> str:
        return " " if token == LETTER_SPACE else token


TRAINED = {kind.units: kind for kind in (Words, Characters, BytePairs)}
KINDS = {**TRAINED, Letters.units: Letters}
_said: set[str] = set()
"""The cases to which this process has said that it brings transcripts."""


def _characters(text: str, space: str) -> list[str]:
    """The characters of a text with single spaces, `space` in their place."""
    return [space if character == " " else character for character in " ".join(text.split())]


def _reserved(text: str, special: str) -> UserError:
    return UserError(f"tokenizer: transcript '{text}' holds '{special}', which has a meaning of its own")


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
