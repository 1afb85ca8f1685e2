"""An engine without a model: rows that follow a table, a tokenizer of a few letters, and what a request gives alone."""

from __future__ import annotations

import time
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crane_app.backends.draw import GREEDY
from crane_app.contract import Device, Sampling
from crane_app.engine.engine import Engine
from crane_app.engine.loading import Loaded
from crane_app.engine.lookup import Gain, Way
from crane_app.engine.models import Shelved
from crane_app.engine.null import NullCache, NullRunner
from crane_app.engine.request import End, ModelCard, Piece, Reason, Resolved, Stream
from crane_app.engine.scheduler import Scheduler
from crane_app.engine.sequence import Sequence
from crane_app.errors import NotEnoughMemory
from crane_app.library.store import Store
from crane_app.media.detokenize import Detokenizer

VOCABULARY = 97
END = 96  # the model's own end
PIECES = [*"abcdefgh", "the ", " and", "\n", *(bytes([b]) for b in "é€😀".encode()), ""]  # half characters too


def table(token: int, position: int) -> int:
    """Any token but the end, which comes about once in forty."""
    mixed = (token * 2654435761 + position * 40503 + 12345) % 2**32
    return END if mixed % 40 == 0 else (mixed >> 7) % END


class Letters:
    """A tokenizer: id i stands for PIECES[i mod their number]; a text's ids are its letters'."""

    bos = None
    size = VOCABULARY

    def piece(self, id: int, first: bool, special: bool = False) -> bytes | None:
        piece = PIECES[id % len(PIECES)]
        return None if id == END else piece.encode() if isinstance(piece, str) else piece

    def decode(self, ids: Many[int], special: bool = False) -> str:
        return b"".join(self.piece(id, False) or b"" for id in ids).decode("utf-8", "replace")

    def encode(self, text: str, special: bool = False) -> list[int]:
        return [ord(letter) % END for letter in text]


def resolved(
    max_tokens: int = 20,
    min_tokens: int = 0,
    stop: tuple[str, ...] = (),
    stop_ids: Many[int] = (END,),
    n: int = 1,
    sampling: Sampling = GREEDY,
) -> Resolved:
    return Resolved(sampling, max_tokens, min_tokens, stop, frozenset(stop_ids), 0, n)


@dataclass
class Told:
    """A choice and all that was said of it."""

    sequence: Sequence
    pieces: list[Piece] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def finishes(self) -> list[Reason]:
        return [piece.finish for piece in self.pieces if piece.finish is not None]


def told(
    prompt: Many[int],
    asked: Resolved,
    choice: int = 0,
    context: int = 4096,
    lane: str = "chat",
    arrived: float = 0.0,
    words: bool = True,
    held: bool = False,
    owner: str = "",
    salt: str = "",
) -> Told:
    pieces: list[Piece] = []
    sequence = Sequence(
        id="",
        choice=choice,
        prompt=np.array(prompt, np.int32),
        resolved=asked,
        context=context,
        emit=pieces.append,
        arrived=arrived,
        lane=lane,
        salt=salt,
        words=Detokenizer(Letters()) if words else None,
        held=held,
        owner=owner,
    )
    return Told(sequence, pieces)


def alone(
    prompt: Many[int], asked: Resolved, choice: int = 0, context: int = 4096, words: bool = True
) -> tuple[list[int], str, Reason]:
    """Tokens, text and reason by the rules, word for word; stop texts must be of one length."""
    letters, made, given = Letters(), [], list(prompt)
    for i in range(min(asked.max_tokens, context - len(prompt))):
        token = (table(given[-1], len(given)) + choice) % VOCABULARY
        while i < asked.min_tokens and token in asked.stop_ids:
            token = (token + 1) % VOCABULARY
        given.append(token)
        made.append(token)
        if token in asked.stop_ids:
            return made, letters.decode(made[:-1]) if words else "", "stop"
        text = letters.decode(made) if words else ""
        free = len(letters.decode(made[: asked.min_tokens]))
        cuts = [at for stop in asked.stop if (at := text.find(stop, free)) >= 0]
        if cuts and i >= asked.min_tokens:
            return made, text[: min(cuts)], "stop"
    return made, text, "length"


class Scarce(NullCache):
    """A cache whose memory fails for once: so many more allocations succeed, the next one raises, and all after that
    succeed. Rows, growth, kept blocks, and what is saved, loaded and pasted are counted."""

    def __init__(self, budget: int):
        super().__init__(budget)
        self.allocations = self.saved = 0
        self.left, self.fault = -1, Exception()

    def fail(self, left: int, fault: Exception) -> None:
        self.left, self.fault = left, fault

    def _count(self, fault: Exception | None = None) -> None:
        self.allocations += 1
        self.left -= 1
        if self.left == -1:
            raise fault or self.fault

    def _allocate(self, row: int, length: int) -> None:
        self._count()
        super()._allocate(row, length)

    def _grow(self, row: int, length: int) -> None:
        self._count()
        super()._grow(row, length)

    def _copy(self, row: int, start: int) -> list[int]:
        self._count(NotEnoughMemory("no block is left"))  # no other error is allowed here
        return super()._copy(row, start)

    def _write(self, row: int, start: int, blocks: list[list[int]]) -> None:
        self._count()
        super()._write(row, start, blocks)

    def _read(self, row: int, length: int) -> tuple[np.ndarray, ...]:
        self._count()
        self.saved += 1
        return super()._read(row, length)

    def _restore(self, row: int, layers: tuple[np.ndarray, ...]) -> None:
        self._count()
        super()._restore(row, layers)


class NullBackend:
    """What a card, a budget and an unload ask of a backend."""

    device, dtype = Device("torch", "cpu", "none"), "float32"

    def __init__(self, limit: int = 2**40) -> None:
        self.trims, self._limit = 0, limit

    def limit(self) -> int:
        return self._limit

    def trim(self) -> None:
        self.trims += 1


class Always(Gain):
    """Guesses whenever there is something to guess."""

    def worth(self, rows: int, way: Way = Way.FOUND) -> bool:
        return True


def shelved(runner: NullRunner, name: str = "null", context: int = 4096, letters: bool = True) -> Shelved:
    """A model of that name around a runner."""
    end, backend = (END,), NullBackend(runner.budget + 1000)
    loaded = Loaded(Path(f"/{name}"), runner, backend, "Null", runner.vocabulary, context, end, {}, 1000, ())
    card = ModelCard(
        name=name,
        folder=f"/{name}",
        architecture="Null",
        backend="torch",
        device="cpu",
        dtype="float32",
        context=context,
        vocabulary=runner.vocabulary,
        nbytes=1000,
        batched=runner.batched,
        chat=False,
        eos=end,
    )
    return Shelved(card, loaded, Scheduler(runner), Letters() if letters else None, None)


def engine(*models: Shelved, start: bool = True, store: Store | None = None) -> Engine:
    """An engine with these models on its shelf."""
    made = Engine(start=start, store=store)
    for model in models:
        made._shelf.put(model)
    return made


def events(stream: Stream, seconds: float = 20.0) -> tuple[list, End]:
    """All that a stream says, to the End; fails if it takes longer."""
    found, until = [], time.monotonic() + seconds
    while True:
        event = stream.get(timeout=max(until - time.monotonic(), 0.001))
        if isinstance(event, End):
            return found, event
        found.append(event)


def tokens_of(found: list, choice: int = 0) -> list[int]:
    return [t for e in found if isinstance(e, Piece) and e.choice == choice for t in e.tokens]
