"""Tokens with their text, bytes and log-probabilities, handed out as the text that they make is shown.

A token that only begins a character has an empty text and its bytes; so all texts joined are what is shown, and all
bytes joined what the model wrote.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from crane_app.contract import Drawn
from crane_app.engine.request import Piece


@dataclass(frozen=True)
class Spelt:
    """One token. spelled: the bytes of each id in `drawn`."""

    text: str
    raw: bytes
    drawn: Drawn
    spelled: Mapping[int, bytes]

    def named(self, id: int) -> str:
        """An id's own bytes as text."""
        return self.spelled.get(id, b"").decode("utf-8", "replace")


class Spelling:
    """The tokens of one choice. A stop text cuts the token that it begins in; the token that ends it is left out."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: deque[Spelt] = deque()
        self._room = 0

    def push(self, piece: Piece) -> list[Spelt]:
        """The tokens whose text has been shown by now."""
        for raw, drawn in zip(piece.raw, piece.logprobs, strict=False):
            if not (piece.finish == "stop" and piece.matched == drawn.token):
                self._waiting.append(Spelt(self._utf8.decode(raw), raw, drawn, piece.spelled))
        self._room += len(piece.text)
        if piece.finish is not None:
            self._finish()
        shown = []
        while self._waiting and len(self._waiting[0].text) <= self._room:
            shown.append(self._waiting.popleft())
            self._room -= len(shown[-1].text)
        if piece.finish is not None and self._waiting and self._room:
            text = self._waiting[0].text[: self._room]
            shown.append(replace(self._waiting[0], text=text, raw=text.encode()))
        return shown

    def _finish(self) -> None:
        left = self._utf8.decode(b"", final=True)
        if left and self._waiting:
            self._waiting[-1] = replace(self._waiting[-1], text=self._waiting[-1].text + left)


def chat_logprobs(tokens: list[Spelt], top: int) -> list[dict[str, Any]]:
    """As /v1/chat/completions has them."""
    return [
        {
            "token": spelt.text,
            "logprob": spelt.drawn.logprob,
            "bytes": list(spelt.raw),
            "top_logprobs": [
                {"token": spelt.named(id), "logprob": logprob, "bytes": list(spelt.spelled.get(id, b""))}
                for id, logprob in spelt.drawn.top[:top]
            ],
        }
        for spelt in tokens
    ]
