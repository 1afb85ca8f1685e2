"""What a model thinks and what it says, told apart while the text still arrives.

Models that reason write it between `<think>` and `</think>` (Qwen3, DeepSeek-R1); some templates open it for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Said:
    """A part of an answer. thought: it lies between the tags, or is one of them."""

    text: str
    thought: bool


class Thoughts:
    """Splits a text that comes in pieces of any size; what comes out, joined, is what went in.

    thinking: whether the text begins inside a thought.
    """

    def __init__(self, thinking: bool = False) -> None:
        self.thinking = thinking
        self._held = ""

    def push(self, text: str) -> Iterator[Said]:
        """What is certain now: an unfinished tag is held back."""
        self._held += text
        while True:
            tag = CLOSE if self.thinking else OPEN
            before, met, after = self._held.partition(tag)
            if not met:
                break
            yield from self._said(before + tag if self.thinking else before)
            if not self.thinking:
                yield Said(tag, True)
            self.thinking, self._held = not self.thinking, after
        kept = _overlap(self._held, tag)
        ready, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        yield from self._said(ready)

    def flush(self) -> Iterator[Said]:
        """The end: what was held back."""
        ready, self._held = self._held, ""
        yield from self._said(ready)

    def _said(self, text: str) -> Iterator[Said]:
        if text:
            yield Said(text, self.thinking)


def spoken(text: str, thinking: bool = False) -> str:
    """The text without its thoughts and the empty lines they leave in front."""
    parts = Thoughts(thinking)
    said = [*parts.push(text), *parts.flush()]
    return "".join(part.text for part in said if not part.thought).lstrip("\n" if len(said) > 1 else "")


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of `text` begin `tag`."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)
