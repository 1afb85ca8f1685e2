"""A thought that may not be longer than asked: counts it, and closes it when its tokens are used up.

What is forced depends on the tokens before alone, so that an answer is the same whatever else runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from crane_app.contract import Sampling

OPEN, CLOSE = "<think>", "</think>"
FORCE = 1e9  # a bias that no logit outweighs


class Thought:
    """One choice's. budget: its tokens at most; opened: the prompt has opened it; closing: ids that close it."""

    def __init__(self, budget: int, opened: bool, closing: Sequence[int]) -> None:
        self._budget, self._left = budget, list(closing)
        self._state: Literal["start", "thinking", "closing", "done"] = "start"
        self._text = ""
        self._due = 0  # the token that is the first too many
        if opened:
            self._begin(0)

    def waits(self, index: int) -> bool:
        """Whether token `index` cannot be started before the one before it was read."""
        if self._state == "start":
            return self._budget == 0
        return self._state == "closing" or (self._state == "thinking" and index >= self._due)

    def forced(self) -> Sampling | None:
        """How the next token is drawn if it must be a certain one; all tokens before it have been read then."""
        return Sampling(logit_bias={self._left[0]: FORCE}) if self._state == "closing" else None

    def take(self, text: str, made: int) -> None:
        """A token was read, `made` by now; text: what it adds, stop texts apart."""
        if self._state == "closing":
            self._left.pop(0)
            self._state = "closing" if self._left else "done"
        elif self._state == "start":
            self._text = (self._text + text).lstrip()
            if self._text.startswith(OPEN):
                self._text = self._text[len(OPEN) :]
                self._begin(made)
            elif not OPEN.startswith(self._text):
                self._state = "done"
        elif self._state == "thinking":
            self._text = self._text[1 - len(CLOSE) :] + text
            self._count(made)

    def _begin(self, made: int) -> None:
        self._state, self._due = "thinking", made + self._budget
        self._count(made)

    def _count(self, made: int) -> None:
        if CLOSE in self._text:
            self._state = "done"
        elif made >= self._due:
            self._state = "closing"
