"""A reply's text, as it arrives, told apart into what the model thinks and what it answers.

Knows tags only; text that never closes a thought is thinking to its end.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["thinking", "answer"]


class ThinkingSplitter:
    """Text in pieces to pieces of thinking and answer; no part of a tag is ever shown.

    `open`: the prompt has opened the thought already (see `leaves_open`); a model that then repeats the start tag
    shows nothing for it. All pieces, joined, are the text without its tags, whatever the pieces were pushed in.
    Tags do not nest: a start tag in a thought and an end tag in an answer are dropped and change nothing.
    """

    def __init__(self, start: str = "<think>", end: str = "</think>", open: bool = False) -> None:
        if start in end or end in start:
            raise ValueError("a start tag and an end tag may not contain each other")
        self.kind: Kind = "thinking" if open else "answer"
        self._kinds: dict[str, Kind] = {start: "thinking", end: "answer"}
        self._held = ""

    def push(self, text: str) -> list[tuple[Kind, str]]:
        """What is certain now; the beginning of what may be a tag is held back."""
        self._held += text
        shown = self._split()
        kept = max(map(self._begun, self._kinds))
        return self._show(shown, len(self._held) - kept)

    def flush(self) -> list[tuple[Kind, str]]:
        """The end: what was held back was no tag."""
        return self._show([], len(self._held))

    def _split(self) -> list[tuple[Kind, str]]:
        """Takes everything up to the last whole tag."""
        shown: list[tuple[Kind, str]] = []
        while True:
            found = [(place, -len(tag), tag) for tag in self._kinds if (place := self._held.find(tag)) >= 0]
            if not found:
                return shown
            place, _, tag = min(found)
            shown = self._show(shown, place)
            self._held = self._held[len(tag) :]
            self.kind = self._kinds[tag]

    def _show(self, shown: list[tuple[Kind, str]], length: int) -> list[tuple[Kind, str]]:
        text, self._held = self._held[:length], self._held[length:]
        if not text:
            return shown
        if shown and shown[-1][0] == self.kind:
            return [*shown[:-1], (self.kind, shown[-1][1] + text)]
        return [*shown, (self.kind, text)]

    def _begun(self, tag: str) -> int:
        """How much of `tag` the held text ends with."""
        lengths = range(min(len(tag) - 1, len(self._held)), 0, -1)
        return next((length for length in lengths if self._held.endswith(tag[:length])), 0)


def leaves_open(prompt: str, start: str = "<think>") -> bool:
    """Whether a prompt ends with an open thought, as templates of models that always think do."""
    return prompt.rstrip().endswith(start)
