"""One request on one model: the prompt in chunks on the fixed grid, then a token a step, one step ahead of the reader.

Knows tokens only. Several requests at once are the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from crane_app.contract import BLOCK, Drawn, Pending, Sampling, Work
from crane_app.engine.loading import Loaded
from crane_app.errors import BadInput, PromptTooLong


def check_prompt(loaded: Loaded, tokens: Sequence[int]) -> np.ndarray:
    """The prompt int32 [L]; BadInput if it is empty, holds an id the model does not have, or leaves no room.

    A model that hears takes none.
    """
    if loaded.listener is not None:
        raise BadInput("This model turns speech into text and takes no prompt. Choose a model for text.")
    if not tokens:
        raise BadInput("The prompt is empty. Give at least one token.")
    for token in tokens:
        if not 0 <= token < loaded.vocabulary:
            raise BadInput(f"The token {token} is outside the model's vocabulary of {loaded.vocabulary}.")
    if len(tokens) > loaded.context:
        raise PromptTooLong(
            f"The prompt has {len(tokens)} tokens; the model's context holds {loaded.context}. Shorten it."
        )
    return np.array(tokens, np.int32)


def chunks(length: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Cuts of positions start..length on the grid of BLOCK: where a prompt is cut never depends on load."""
    while start < length:
        end = min((start // BLOCK + 1) * BLOCK, length)
        yield start, end
        start = end


def generate(
    loaded: Loaded, tokens: Sequence[int], sampling: Sampling, max_tokens: int, top: int = 0
) -> Iterator[Drawn]:
    """Drawn tokens until `max_tokens` or the context's end; closing the generator stops and frees the row.

    `top` asks for that many likeliest tokens and the log-probability of each drawn one.
    """
    prompt = check_prompt(loaded, tokens)
    count = min(max_tokens, loaded.context - len(prompt))
    if count <= 0:
        return
    row = loaded.runner.cache.open(len(prompt) + min(count, BLOCK))
    try:
        yield from _steps(loaded, row, prompt, count, sampling, top)
    finally:
        loaded.runner.cache.close(row)


def _steps(loaded: Loaded, row: int, prompt: np.ndarray, count: int, sampling: Sampling, top: int) -> Iterator[Drawn]:
    runner, length = loaded.runner, len(prompt)
    seen = np.zeros(length + count, np.int32)
    seen[:length] = prompt
    pending = None
    for start, end in chunks(length):
        work = Work(row, prompt[start:end], logits=int(end == length), draw=sampling, seen=prompt[:end], top=top)
        pending = runner.launch([work], pending)
    for made in range(count):
        assert pending is not None
        ahead = _ahead(loaded, row, pending, seen[: length + made], made, sampling, top) if made + 1 < count else None
        drawn = pending.read().drawn[0][0]
        seen[length + made] = drawn.token
        yield drawn
        pending = ahead


def _ahead(
    loaded: Loaded, row: int, pending: Pending, seen: np.ndarray, made: int, sampling: Sampling, top: int
) -> Pending:
    """Launch the next step on the token that `pending` has not handed out yet."""
    cache = loaded.runner.cache
    cache.reserve(row, cache.length(row) + 1)
    return loaded.runner.launch([Work(row, None, draw=sampling, seen=seen, made=made, top=top)], pending)


def surprise(loaded: Loaded, tokens: Sequence[int]) -> float:
    """The mean negative log-likelihood of each token but the first after those before it, in nats."""
    logits = score(loaded, tokens)[:-1].astype(np.float64)
    most = logits.max(-1, keepdims=True)
    whole = most[:, 0] + np.log(np.exp(logits - most).sum(-1))
    return float(np.mean(whole - logits[np.arange(len(logits)), np.asarray(tokens[1:])]))


def score(loaded: Loaded, tokens: Sequence[int]) -> np.ndarray:
    """Logits float32 [L, V] after each token of a text."""
    prompt = check_prompt(loaded, tokens)
    row = loaded.runner.cache.open(len(prompt))
    try:
        parts = []
        for start, end in chunks(len(prompt)):
            work = Work(row, prompt[start:end], logits=end - start)
            logits = loaded.runner.launch([work], keep_logits=True).read().logits
            assert logits is not None
            parts.append(logits)
        return np.concatenate(parts)
    finally:
        loaded.runner.cache.close(row)
