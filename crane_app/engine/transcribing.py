"""Speech to text as a job: the encoder piece by piece, then a token a step, one step ahead of the reader.

Knows nothing of files and pauses: one sound in, one text out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from crane_app.contract import Array, Listener, Work
from crane_app.engine.loading import Loaded
from crane_app.engine.request import Job, Part
from crane_app.errors import BadInput

if TYPE_CHECKING:
    from crane_app.engine.models import Shelf

RATE = 16000  # samples a second
LONGEST_S = 64.0  # seconds heard at once; attention grows with their square
SILENT = 1e-4  # a peak below -80 dB of full scale is a muted microphone, not a quiet voice
BREATH_S = 0.05  # seconds of tokens between two places to stop


def transcribe(shelf: Shelf, job: Job) -> Iterator[Part | None]:
    """inputs: float32 [n] at 16 kHz, in [-1, 1] -> {"text": str, "tokens": list[int]}, without the token that ends it.

    options: max_tokens instead of the limit that the sound's length sets.
    """
    shelved = shelf.get(job.model or "")
    card, loaded = shelved.card, shelved.loaded
    if loaded.listener is None:
        raise BadInput(f"The model '{card.name}' does not hear. Choose a speech model, such as Moonshine.")
    if shelved.tokenizer is None:
        raise BadInput(f"The model '{card.name}' has no tokenizer, so its words cannot be written.")
    sound = _checked(job.inputs, loaded.listener.shortest)
    limit = _limit(job.options.get("max_tokens"), loaded.listener.limit(len(sound)), loaded.context)
    states: Array = None
    for states in _encoded(loaded, loaded.listener, sound):  # noqa: B007  the last ones are kept
        yield None
    tokens: list[int] = []
    rested = time.monotonic()
    for token in _tokens(loaded, loaded.listener, states, limit):
        tokens.append(token)
        if time.monotonic() - rested > BREATH_S:
            yield None
            rested = time.monotonic()
    yield Part({"text": shelved.tokenizer.decode(tokens).strip(), "tokens": tokens})


def _checked(sound: Any, shortest: int) -> np.ndarray:
    """float32 [n], or what is wrong with it."""
    if not isinstance(sound, np.ndarray) or sound.ndim != 1 or sound.dtype.kind != "f":
        raise BadInput("A recording must be samples of one channel, as floating-point numbers at 16,000 Hz.")
    seconds = len(sound) / RATE
    if len(sound) < shortest:
        raise BadInput(f"The recording has {seconds:.2f} seconds: too short for a word. Speak a little longer.")
    if seconds > LONGEST_S:
        raise BadInput(f"The recording has {seconds:.0f} seconds; at most {LONGEST_S:.0f} fit. Cut it at its pauses.")
    if not np.isfinite(sound).all():
        raise BadInput("The recording holds values that are not numbers. Record it again, or convert it to WAV.")
    if np.abs(sound).max() < SILENT:
        raise BadInput("The recording is silent. Check that the microphone is on and that Crane may use it.")
    return sound.astype(np.float32, copy=False)


def _limit(asked: Any, usual: int, context: int) -> int:
    """How many tokens may be made."""
    if asked is None:
        return usual
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= context:
        raise BadInput(f"max_tokens must be a whole number from 1 to {context}, not {asked!r:.60}.")
    return asked


def _encoded(loaded: Loaded, listener: Listener, sound: np.ndarray) -> Iterator[Array]:
    """What each piece of the encoder gives; its states [C, E] come last."""
    backend = loaded.backend
    x = backend.array(sound[:, None])
    for piece in listener.encoder(len(sound)):
        x = backend.call(piece, x)
        yield x


def _tokens(loaded: Loaded, listener: Listener, states: Array, limit: int) -> Iterator[int]:
    """The likeliest tokens until one ends the text or there are `limit`; closing the generator frees the row."""
    runner = loaded.runner
    row = runner.cache.open(limit)
    try:
        start = np.array([listener.start], np.int32)
        pending = runner.launch([Work(row, start, memory=states.shape[0], states=states)])
        for made in range(limit):
            ahead = runner.launch([Work(row, None)], pending) if made + 1 < limit else pending
            token = pending.read().drawn[0][0].token
            if token in loaded.eos:
                return
            yield token
            pending = ahead
    finally:
        runner.cache.close(row)
