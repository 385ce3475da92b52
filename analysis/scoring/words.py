"""Numbers for words, compiled: equal words, and only they, get equal numbers.

Words are what sclite takes for words: bytes between ASCII white space, ASCII letters in lower case. The hash table
compares the words' own bytes on every hit, so no two words are ever mistaken for each other.
"""

import numba
import numpy as np

NEWLINE, SPACE = 10, 32


@numba.njit(cache=True)
def number_words(text):
    """The words of a text (uint8) whose lines all end in a newline.

    Returns the number of each word (int32) and where each line's words start (int64, one longer than there are lines).
    """
    size = 1
    while size < len(text):  # at most every second byte begins a word, so at most half of the table is filled
        size *= 2
    table = np.full(size, -1, dtype=np.int32)  # the word that a slot belongs to, as an index of `begins`
    begins = np.empty(len(text) // 2 + 1, dtype=np.int64)  # where each different word first stands
    lengths = np.empty(len(text) // 2 + 1, dtype=np.int64)
    numbers = np.empty(len(text) // 2 + 1, dtype=np.int32)
    starts = np.zeros(np.sum(text == NEWLINE) + 1, dtype=np.int64)
    words = lines = different = 0
    begin = 0
    for end in range(len(text)):
        if not _is_space(text[end]):
            continue
        if end > begin:
            slot = _hash(text, begin, end) & (size - 1)
            while table[slot] >= 0 and not _same(text, begins[table[slot]], lengths[table[slot]], begin, end - begin):
                slot = (slot + 1) & (size - 1)
            if table[slot] < 0:
                table[slot], begins[different], lengths[different] = different, begin, end - begin
                different += 1
            numbers[words] = table[slot]
            words += 1
        begin = end + 1
        if text[end] == NEWLINE:
            lines += 1
            starts[lines] = words
    return numbers[:words].copy(), starts


@numba.njit(cache=True)
def _is_space(byte):
    return byte == SPACE or 9 <= byte <= 13


@numba.njit(cache=True)
def _folded(byte):
    return byte + 32 if 65 <= byte <= 90 else byte


@numba.njit(cache=True)
def _hash(text, begin, end):
    """FNV-1a, 32 bits."""
    value = np.uint32(2166136261)
    for position in range(begin, end):
        value = np.uint32((value ^ np.uint32(_folded(text[position]))) * np.uint32(16777619))
    return np.int64(value)


@numba.njit(cache=True)
def _same(text, first, first_length, second, second_length):
    if first_length != second_length:
        return False
    for offset in range(first_length):  # noqa: SIM110 - numba compiles no generators
        if _folded(text[first + offset]) != _folded(text[second + offset]):
            return False
    return True
