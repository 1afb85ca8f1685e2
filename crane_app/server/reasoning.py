"""What a model thinks and what it answers, told apart as it comes.

A thought stands between <think> and </think> at the very beginning; the prompt may have opened it. Tags further on are
the answer's own words.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["reasoning", "content"]
OPEN, CLOSE = "<think>", "</think>"


class Reasoning:
    """Splits a text that comes in pieces of any size; the empty lines before a thought and after it are dropped.

    thinking: the prompt has opened the thought, which a model may do once more.
    """

    def __init__(self, thinking: bool = False) -> None:
        self._opened = thinking
        self._state: Literal["start", "thought", "gap", "answer"] = "start"
        self._held = ""
        self._fresh = True  # nothing of the thought has come yet

    @property
    def thinking(self) -> bool:
        """Whether what comes next is still thought."""
        return self._state == "thought" or (self._state == "start" and self._opened)

    @property
    def undecided(self) -> bool:
        """Whether it is open yet if it begins with a thought."""
        return self._state == "start"

    def push(self, text: str) -> list[tuple[Kind, str]]:
        """What is certain now."""
        self._held += text
        shown: list[tuple[Kind, str]] = []
        if self._state == "start":
            self._begin()
        if self._state == "thought":
            self._think(shown)
        if self._state == "gap":
            self._held = self._held.lstrip("\n")
            self._state = "answer" if self._held else "gap"
        if self._state == "answer":
            self._show(shown, "content", len(self._held))
        return shown

    def flush(self) -> list[tuple[Kind, str]]:
        """The end: what was held back was no tag."""
        shown: list[tuple[Kind, str]] = []
        self._show(shown, "reasoning" if self.thinking else "content", len(self._held))
        return shown

    def _begin(self) -> None:
        """Wait until it is clear whether a thought is opened."""
        bare = self._held.lstrip()
        if bare.startswith(OPEN):
            self._held, self._state = bare[len(OPEN) :], "thought"
        elif not OPEN.startswith(bare):
            self._state = "thought" if self._opened else "answer"

    def _think(self, shown: list[tuple[Kind, str]]) -> None:
        if self._fresh:
            self._held = self._held.lstrip("\n")
            self._fresh = not self._held
        place = self._held.find(CLOSE)
        if place < 0:
            kept = next((n for n in range(len(CLOSE) - 1, 0, -1) if self._held.endswith(CLOSE[:n])), 0)
            self._show(shown, "reasoning", len(self._held) - kept)
            return
        self._show(shown, "reasoning", place)
        self._held, self._state = self._held[len(CLOSE) :], "gap"

    def _show(self, shown: list[tuple[Kind, str]], kind: Kind, length: int) -> None:
        text, self._held = self._held[:length], self._held[length:]
        if text:
            shown.append((kind, text))
