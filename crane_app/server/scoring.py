"""The log-probabilities of a prompt's own tokens, as OpenAI's, vLLM's and SGLang's APIs ask for them.

The numbers are the engine's (engine/embedding.py, `score`): on the grid on which the prompt is computed for an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crane_app.contract import Drawn
from crane_app.server.service import Call
from crane_app.server.spelling import Spelt


@dataclass(frozen=True)
class Scored:
    """A prompt's tokens, the first of which has no log-probability. top: how many of the likeliest go with each."""

    tokens: tuple[Spelt, ...] = ()
    top: int = 0

    def as_vllm(self) -> list[dict[str, Any] | None]:
        """`prompt_logprobs`: by id, the likeliest and the token itself; a rank is known among the likeliest alone."""
        return [None if one.drawn.logprob is None else _ranked(one, self.top) for one in self.tokens]

    def rows(self, start: int, texts: bool) -> list[list[Any]]:
        """SGLang's `input_token_logprobs` from a position on."""
        return [_row(one, one.drawn.token, one.drawn.logprob, texts) for one in self.tokens[start:]]

    def top_rows(self, start: int, texts: bool) -> list[list[list[Any]] | None]:
        """SGLang's `input_top_logprobs` from a position on."""
        if not self.top:
            return []
        return [
            None if one.drawn.logprob is None else [_row(one, id, p, texts) for id, p in one.drawn.top]
            for one in self.tokens[start:]
        ]


async def scored(call: Call, model: str, prompt: str | Sequence[int], top: int) -> Scored:
    """The prompt's own tokens, each after those before it; waits for its turn as an answer does."""
    given, answers = prompt if isinstance(prompt, str) else list(prompt), call.service.answers
    async with answers.gate.enter(1, []):
        found = await answers.part("score", given, model, top=top, spell=True)
    spelled = {id: text.encode() for id, text in found["named"].items()}
    drawn = [Drawn(found["tokens"][0]), *found["drawn"]]
    spelt = (Spelt(text, text.encode(), one, spelled) for text, one in zip(found["texts"], drawn, strict=True))
    return Scored(tuple(spelt), top)


def _ranked(one: Spelt, top: int) -> dict[str, Any]:
    likeliest = {id: (logprob, rank) for rank, (id, logprob) in enumerate(one.drawn.top[:top], 1)}
    both = {one.drawn.token: (one.drawn.logprob, None), **likeliest}
    return {
        str(id): {"logprob": logprob, "rank": rank, "decoded_token": one.named(id)}
        for id, (logprob, rank) in both.items()
    }


def _row(one: Spelt, id: int, logprob: float | None, texts: bool) -> list[Any]:
    return [logprob, id, one.named(id) if texts else None]
