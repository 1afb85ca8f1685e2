"""Texts as vectors, and the log-probabilities of a text: jobs that read a prompt and draw nothing.

A prompt is cut on its grid as everywhere, so that what it gives depends on it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from crane_app.contract import Drawn, Work
from crane_app.engine.generation import check_prompt, chunks
from crane_app.engine.request import Job, Part
from crane_app.errors import BadInput
from crane_app.media.detokenize import Detokenizer

if TYPE_CHECKING:
    from crane_app.engine.models import Shelf, Shelved

POOLINGS = ("last", "mean")
MOST_TEXTS = 2048
MOST_TOP = 20
MOST_SCORES = 1 << 17  # log-probabilities of one text: what a message to another process holds


def embed(shelf: Shelf, job: Job) -> Iterator[Part | None]:
    """inputs: texts, or lists of ids -> {"vectors": float32 [texts, E], "tokens": how many were read}.

    options: pooling: `last`, the state of the last token, or `mean` of all; normalise: to length 1, unless False.
    """
    shelved = shelf.get(job.model or "")
    pooling, normalise = job.options.get("pooling", "last"), job.options.get("normalise", True)
    if pooling not in POOLINGS:
        raise BadInput(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r:.60}.")
    texts = _texts(job.inputs)
    vectors, count = [], 0
    for text in texts:
        prompt = _prompt(shelved, text)
        total, last = np.zeros(0), np.zeros(0)
        with _row(shelved, len(prompt)) as row:
            for start, end in chunks(len(prompt)):
                states = shelved.loaded.runner.embed(Work(row, prompt[start:end])).astype(np.float64)
                total, last = states.sum(0) + (total if start else 0.0), states[-1]
                yield None
        vector = last if pooling == "last" else total / len(prompt)
        vectors.append(vector / max(float(np.linalg.norm(vector)), 1e-12) if normalise else vector)
        count += len(prompt)
    yield Part({"vectors": np.stack(vectors).astype(np.float32), "tokens": count})


def score(shelf: Shelf, job: Job) -> Iterator[Part | None]:
    """inputs: a text, or ids -> {"tokens": ids, "drawn": a Drawn for each but the first, as if it had been drawn}.

    options: top: how many of the likeliest are named beside each. spell: tell what the ids mean, too: "texts" of the
    text's own, which joined are the text, and "named", that of every id as it is written where nothing is hidden.
    """
    shelved = shelf.get(job.model or "")
    top = job.options.get("top", 0)
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= MOST_TOP:
        raise BadInput(f"top must be a whole number from 0 to {MOST_TOP}, not {top!r:.60}.")
    prompt, drawn = _prompt(shelved, job.inputs), []
    if len(prompt) * (top + 1) > MOST_SCORES:
        most = MOST_SCORES // (top + 1)
        raise BadInput(f"The text has {len(prompt)} tokens; with {top} of the likeliest each, {most} can be scored.")
    if job.options.get("spell") and shelved.tokenizer is None:
        raise BadInput(f"The model '{shelved.card.name}' has no tokenizer, so its tokens have no text.")
    with _row(shelved, len(prompt)) as row:
        for start, end in chunks(len(prompt)):
            following = prompt[start + 1 : end + 1]
            count = end - start if end < len(prompt) else end - start - 1
            for part in _scored(shelved, row, prompt[start:end], following[:count], max(top, 1)):
                drawn.append(part if top else type(part)(part.token, part.logprob))
            yield None
    spelled = _spelled(shelved, prompt, drawn) if job.options.get("spell") else {}
    yield Part({"tokens": prompt.tolist(), "drawn": drawn, **spelled})


def _spelled(shelved: Shelved, prompt: np.ndarray, drawn: list[Drawn]) -> dict[str, Any]:
    """What `score` tells of the ids."""
    words, ids = Detokenizer(shelved.tokenizer), prompt.tolist()
    texts = [words.push(id) for id in ids]
    texts[-1] += words.flush()
    named = {*ids, *(id for one in drawn for id, _ in one.top)}
    pieces = {id: shelved.tokenizer.piece(id, False, True) or b"" for id in named}
    return {"texts": texts, "named": {id: piece.decode("utf-8", "replace") for id, piece in pieces.items()}}


def _scored(shelved: Shelved, row: int, tokens: np.ndarray, following: np.ndarray, top: int) -> tuple[Any, ...]:
    """The tokens that follow a chunk's, ranked. The last of a text has none, and gives what nobody asks for."""
    given = np.append(following, following[-1:] if len(following) else [0])[: len(tokens)].astype(np.int32)
    work = Work(row, tokens, logits=len(tokens), top=top, given=given)
    return shelved.loaded.runner.launch([work]).read().drawn[0][: len(following)]


@contextmanager
def _row(shelved: Shelved, length: int) -> Iterator[int]:
    """A row of that length, if need be in the place of kept beginnings."""
    scheduler = shelved.scheduler
    scheduler.prefixes.make_room(length)
    row = scheduler.cache.open(length)
    try:
        yield row
    finally:
        scheduler.cache.close(row)


def _texts(inputs: Any) -> list[Any]:
    if not isinstance(inputs, list | tuple) or not inputs:
        raise BadInput("Give a list of texts, or of lists of ids.")
    if len(inputs) > MOST_TEXTS:
        raise BadInput(f"At most {MOST_TEXTS} texts are taken at once, not {len(inputs)}.")
    return list(inputs)


def _prompt(shelved: Shelved, text: Any) -> np.ndarray:
    """int32 [L], checked."""
    from crane_app.engine.prepare import encode

    if isinstance(text, str):
        return check_prompt(shelved.loaded, encode(shelved, text, {}))
    if not isinstance(text, list | tuple) or not all(isinstance(id, int) and not isinstance(id, bool) for id in text):
        raise BadInput("A text must be a text, or a list of ids.")
    return check_prompt(shelved.loaded, text)
