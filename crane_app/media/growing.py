"""A byte-level tokenizer that holds what the texts so far can be made of, and grows with them.

The library takes a quarter of a second and some 60 MB to make one of 150,000 tokens, and holds Python's lock all the
while; a question can be made of a few hundred. BPE joins neighbours, so what it makes of a word depends on those tokens
alone that lie in the word, and a tokenizer without the others gives the same ids. They are found by their pairs of
neighbouring bytes: a token with a pair that no text had lies in none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import numpy as np

from crane_app.media.files.gguf_header import AT_ONCE, SPACE, Pairs, Texts

LONG = 2000  # characters of a text for which all is taken: a fifth of the tokens could be in it
FITS = 6  # how often it grows before it takes all that is left
MOST = 1 << 23  # bytes of a vocabulary that is taken piece by piece; Qwen's has 1.1 MB
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no byte of a text is lost (Knuth, volume 3, 6.4)

TWICE = "gives two ids to one token"

TABLE = 19  # bits
Make = Callable[[dict[str, int], Sequence[tuple[str, str]]], Any]


class Growing:
    """library: the tokenizer as it is now. whole: it has all tokens.

    named: bool, which tokens a text may have. held: bool, those of them that are there from the start. make: the
    library's tokenizer of these tokens and merges. Not safe to share between threads.
    """

    def __init__(self, tokens: Texts, named: np.ndarray, held: np.ndarray, merges: Pairs, make: Make) -> None:
        self._tokens, self._named, self._merges, self._make = tokens, named, merges, make
        self._held = (held | characters(tokens)) & named
        self._seen = np.zeros(1 << 16, bool)
        self._left = FITS
        self.whole = len(tokens.raw) > MOST or not spelt(tokens)
        self.library = self._all() if self.whole else self._made()

    def take(self, ids: Sequence[int]) -> bool:
        """Take in what a text can be made of that has these ids so far; False where all of it was there."""
        if self.whole:
            return False
        pairs = neighbours(np.frombuffer("".join(map(self._tokens.__getitem__, ids)).encode(), np.uint8))
        if self._seen[pairs].all():
            return False
        self._seen[pairs] = True
        self._left -= 1
        if self._left < 0:
            self.take_all()
        else:
            self.library = self._made()
        return True

    def take_all(self) -> Any:
        """The library's tokenizer of all tokens."""
        if not self.whole:
            self.whole, self.library = True, self._all()
        return self.library

    def text(self, id: int) -> str | None:
        """A token's text; None for an id that no text has."""
        return self._tokens[id] if 0 <= id < len(self._tokens) and self._named[id] else None

    def _made(self) -> Any:
        ids = np.flatnonzero(made_of(self._tokens, self._seen) & self._named | self._held).tolist()
        places = np.flatnonzero(made_of(self._merges.texts, self._seen)).tolist()
        merges = [self._merges[i] for i in places]
        return self._make({self._tokens[i]: i for i in ids}, merges)

    def _all(self) -> Any:
        ids = zip(self._tokens, range(len(self._tokens)), strict=True)
        return self._make(dict(compress(ids, self._named.tolist())), self._merges)


def spelt(texts: Texts) -> bool:
    """Whether each text is UTF-8: the bytes in a row are, and none begins inside a character."""
    try:
        texts.raw.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return not (texts.raw[texts.starts[texts.sizes > 0]] & 0xC0 == 0x80).any()


def characters(texts: Texts) -> np.ndarray:
    """bool [texts]: which of them are one character of byte-level spelling, of one byte or of two."""
    first = np.append(texts.raw, 0)[texts.starts]
    found: np.ndarray = (texts.sizes == 1) | ((texts.sizes == 2) & (first >= 0xC0))
    return found


def neighbours(raw: np.ndarray) -> np.ndarray:
    """uint16 [bytes - 1]: each byte with the one behind it."""
    found: np.ndarray = raw[:-1].astype(np.uint16) << 8 | raw[1:]
    return found


def made_of(texts: Texts, pairs: np.ndarray) -> np.ndarray:
    """bool [texts]: whether all neighbours in a text are among `pairs`, bool [2**16]; spaces do not count."""
    found = np.empty(len(texts), bool)
    for first in range(0, len(texts), AT_ONCE):
        starts, sizes = texts.starts[first : first + AT_ONCE], texts.sizes[first : first + AT_ONCE]
        raw = texts.raw[starts[0] : starts[-1] + sizes[-1]]
        kept = raw != SPACE
        at = np.append(0, np.cumsum(kept))[starts - starts[0]]
        fine = np.ones(np.count_nonzero(kept) + 1, bool)
        fine[1:-1] = pairs[neighbours(raw[kept])]
        fine[at] = True  # nothing is before the first
        found[first : first + AT_ONCE] = np.logical_and.reduceat(fine, at)
    return found


def marks(raw: np.ndarray, bounds: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """uint64 [texts]: a polynomial of each text's bytes, the same for the same text; spaces do not count.

    bounds: where texts begin and the last one ends. powers: FACTOR ** i, of more than the longest has bytes.
    """
    found = np.empty(len(bounds) - 1, np.uint64)
    for first in range(0, len(found), AT_ONCE):
        here = bounds[first : first + AT_ONCE + 1]
        at, sizes = here[:-1] - here[0], np.diff(here)
        text = raw[here[0] : here[-1]]
        terms = np.zeros(len(text) + 1, np.uint64)
        np.multiply(powers[np.arange(len(text)) - np.repeat(at, sizes)], text + np.uint64(1), out=terms[:-1])
        terms[:-1][text == SPACE] = 0
        found[first : first + AT_ONCE] = np.where(sizes, np.add.reduceat(terms, at), np.uint64(0))
    return found


def fault(tokens: Texts, named: np.ndarray, merges: Pairs) -> str:
    """What keeps them from being a vocabulary, "" if nothing does: a token twice, or a merge without its tokens."""
    bounds, cuts = np.append(tokens.starts, len(tokens.raw)), merges.texts.starts
    halves = np.append(np.stack([cuts, merges.spaces + 1], 1).reshape(-1), len(merges.texts.raw))
    longest = max(np.diff(bounds).max(initial=0), np.diff(halves).max(initial=0))
    powers = np.cumprod(np.append(np.uint64(1), np.full(longest, FACTOR)))
    known = np.sort(marks(tokens.raw, bounds, powers)[named])
    if (known[1:] == known[:-1]).any() and len(set(compress(tokens, named.tolist()))) < np.count_nonzero(named):
        return TWICE
    left, right = marks(merges.texts.raw, halves, powers).reshape(-1, 2).T
    wanted = np.concatenate([left, right, left + powers[merges.spaces - cuts] * right])
    return (
        "" if wanted.all() and within(known, wanted) else "has merges of tokens that it lacks (tokenizer.ggml.merges)"
    )


def within(known: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether each of these uint64 is one of the `known`, which are sorted.

    Most are seen at one look into a table by their first bits; a search takes ten times as long.
    """
    table = np.zeros(1 << TABLE, np.uint64)
    table[known >> np.uint64(64 - TABLE)] = known
    rest = wanted[table[wanted >> np.uint64(64 - TABLE)] != wanted]
    places = np.searchsorted(known, rest)
    return bool((places < len(known)).all() and (known[places] == rest).all())
