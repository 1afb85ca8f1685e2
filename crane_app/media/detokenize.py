"""A reply's text while its tokens still arrive: what is certain now, and where it must stop.

Knows bytes and characters; what an id stands for is tokenizer.py's.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence

from crane_app.media.tokenizer import Tokenizer


class Detokenizer:
    """Ids to text, one at a time; all that is returned, joined, is `tokenizer.decode` of all ids.

    Holds back at most the bytes of one unfinished character: a token costs the same in a reply of any length.
    `continues`: the ids follow a text, so a leading space stays.
    """

    def __init__(self, tokenizer: Tokenizer, special: bool = False, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._first = not continues
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The characters that `id` completes, and U+FFFD for bytes that can no longer become one."""
        piece = self._tokenizer.piece(id, self._first, self._special)
        if piece is None:
            return ""
        self._first = False
        return self._utf8.decode(piece)

    def raw(self, id: int, hidden: bool = False) -> bytes:
        """The bytes that `id` would add here; with `hidden` also those of a special one that is not shown."""
        return self._tokenizer.piece(id, self._first, self._special or hidden) or b""

    def flush(self) -> str:
        """The end: U+FFFD if a character is left unfinished."""
        return self._utf8.decode(b"", final=True)


class StopText:
    """Text up to the first stop string, in pieces; no part of that stop string is ever shown.

    The stop string that begins earliest wins, whatever the pieces; `matched` is it (the shortest, if several
    begin there). A tree of all stop strings with failure links finds them: a character costs the same however
    many there are. Aho and Corasick 1975.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise ValueError("a stop string may not be empty")
        self.matched: str | None = None
        self._next: list[dict[str, int]] = [{}]
        self._fail = [0]
        self._depth = [0]
        self._ends: list[str | None] = [None]  # the longest stop string that ends in this state
        for stop in stops:
            self._plant(stop)
        self._link()
        self._firsts = frozenset(self._next[0])
        self._state = 0  # the longest end of the text so far that begins a stop string
        self._held = ""
        self._cut: int | None = None  # where in `_held` a match begins, while an earlier one may still come
        self._candidate: str | None = None

    def push(self, text: str) -> tuple[str, bool]:
        """What may be shown now, and whether a stop string was met; after that nothing is shown any more."""
        if self.matched is not None:
            return "", True
        if not self._state and self._firsts.isdisjoint(text):
            return text, False  # nothing is held in this state
        start = len(self._held)
        self._held += text
        for end, character in enumerate(text, start + 1):
            self._step(character)
            stop = self._ends[self._state]
            if stop is not None and (self._cut is None or end - len(stop) < self._cut):
                self._cut, self._candidate = end - len(stop), stop
            if self._cut is not None and self._cut <= end - self._depth[self._state]:
                self.matched = self._candidate
                return self._held[: self._cut], True
        shown = len(self._held) - self._depth[self._state]
        self._cut = None if self._cut is None else self._cut - shown
        text, self._held = self._held[:shown], self._held[shown:]
        return text, False

    def flush(self) -> str:
        """The end: what was held back, up to a stop string in it, which `matched` then is."""
        if self.matched is not None:
            return ""
        self.matched = self._candidate
        text, self._held = self._held[: self._cut], ""
        return text

    def _plant(self, stop: str) -> None:
        state = 0
        for character in stop:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self._depth.append(self._depth[state] + 1)
                self._ends.append(None)
            state = self._next[state][character]
        self._ends[state] = stop

    def _link(self) -> None:
        """Failure links, nearest states first: the longest proper end of a state that is a state too."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            self._ends[state] = self._ends[state] or self._ends[self._fail[state]]
            for character, child in self._next[state].items():
                link = self._fail[state]
                while link and character not in self._next[link]:
                    link = self._fail[link]
                self._fail[child] = self._next[link].get(character, 0)
                waiting.append(child)

    def _step(self, character: str) -> None:
        while self._state and character not in self._next[self._state]:
            self._state = self._fail[self._state]
        self._state = self._next[self._state].get(character, 0)
