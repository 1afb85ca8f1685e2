"""Sound as it is spoken in, words out: some that may still change while somebody speaks, certain ones at each pause.

Knows no microphone and no model: blocks are given, and the engine may still be on its way. It never waits for the
engine while blocks come, so that nothing said is lost.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crane_app.errors import CraneError
from crane_app.library.takes import Recording, Said, State, Take, Takes
from crane_app.media.sound import RATE, level
from crane_app.pipelines.hearing import Ear, Hearing, Written
from crane_app.pipelines.utterances import Finder, Utterance, Utterances
from crane_app.platform.microphone import SILENCE

FIRST_S = 0.7  # of speech before the first guess
STEP_S = 0.5  # of new speech before the next one
SILENT_S = 1.5  # of nothing but zeros, which no microphone gives
MOST_WAITING_S = 600.0  # of speech that waits for the engine: 38 MB
POLL_S = 0.05

Blocks = Iterable[NDArray[np.float32]]


@dataclass(frozen=True)
class Heard:
    """What was said from `start` to `end` seconds. Until it is final, only `settled` of its letters will stay."""

    text: str
    final: bool
    start: float
    end: float
    settled: int = 0


@dataclass(frozen=True)
class Level:
    """Loudness of a block in decibels below full scale, the recording's seconds, and whether that is speech."""

    decibels: float
    seconds: float
    speaking: bool


@dataclass(frozen=True)
class Writing:
    """Nobody speaks any more; so many utterances are still to be written."""

    waiting: int


@dataclass(frozen=True)
class Note:
    """A sentence about what went wrong on the way; listening goes on."""

    sentence: str


Event = Heard | Level | Writing | Note


class Dictation:
    """One take. `heard`: what is certain; `unwritten`: how many utterances have no text, and why was told in a Note.

    ear: what writes, or the promise of it; utterances wait until then. `model`: its name, "" before it is there.
    """

    def __init__(self, ear: Ear | Future[Ear], finder: Finder | None = None) -> None:
        self.model = ""
        self.heard: list[Heard] = []
        self.unwritten = 0
        self._ear: Future[Ear] = ear if isinstance(ear, Future) else _there(ear)
        self._utterances = Utterances(finder)
        self._waiting: deque[Utterance] = deque()
        self._final: Hearing | None = None
        self._guess: Hearing | None = None
        self._guessing = True
        self._guessed = 0.0  # seconds of speech in the last guess
        self._settling = Settling()
        self._notes: list[str] = []

    @property
    def text(self) -> str:
        """Everything that is certain, in one paragraph."""
        return " ".join(heard.text for heard in self.heard if heard.text)

    def listen(self, blocks: Blocks) -> Iterator[Event]:
        """Words while `blocks` float32 [512] at 16 kHz come, and after their end what is still to be written.

        A fault of the microphone or the engine is a Note. Closing the generator stops the engine's work.
        """
        try:
            yield from self._live(blocks)
            while self._final or self._waiting:
                yield Writing(len(self._waiting) + bool(self._final))
                yield from self._news(POLL_S)
        finally:
            for hearing in (self._final, self._guess):
                if hearing is not None:
                    hearing.cancel()
            self._final = self._guess = None

    def _live(self, blocks: Blocks) -> Iterator[Event]:
        silence = Silence()
        for block in self._until_fault(blocks):
            if silence.lasts(block):
                yield Note(SILENCE)
            for utterance in self._utterances.push(block):
                self._take(utterance)
            yield Level(level(block), self._utterances.samples / RATE, self._utterances.speaking)
            yield from self._news(0)
        for utterance in self._utterances.finish():
            self._take(utterance)
        yield from self._told()

    def _until_fault(self, blocks: Blocks) -> Iterator[NDArray[np.float32]]:
        try:
            yield from blocks
        except CraneError as error:
            self._notes.append(str(error))

    def _take(self, utterance: Utterance) -> None:
        """An utterance is over: it is written next, and no more guesses are made at it."""
        self._drop_guess()
        self._settling = Settling()
        self._guessed = 0.0
        if sum(each.end - each.start for each in self._waiting) > MOST_WAITING_S:
            self._lose("Writing is far behind; what you say from here on is only recorded.")
            return
        self._waiting.append(utterance)

    def _news(self, wait: float) -> Iterator[Event]:
        """What the engine has written by now, or within `wait` seconds."""
        ear = self._ready(wait)
        if ear is not None:
            self._ask(ear)
            yield from self._answered(wait)
        yield from self._told()

    def _told(self) -> Iterator[Event]:
        while self._notes:
            yield Note(self._notes.pop(0))

    def _ready(self, wait: float) -> Ear | None:
        """What writes, if it is there; if it never will be, nothing waits for it."""
        try:
            ear = self._ear.result(timeout=wait)
            self.model = ear.model
            return ear
        except TimeoutError:
            return None
        except CraneError as error:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()
                self._lose(str(error))
            return None

    def _ask(self, ear: Ear) -> None:
        """Give the engine what is most urgent, one thing at a time."""
        if self._final is None and self._waiting:
            self._final = Hearing(ear, self._waiting.popleft())
        step = max(STEP_S if self._guessed else FIRST_S, self._guessed / 10)  # a guess costs as much as it is long
        due = self._utterances.seconds - self._guessed >= step
        if self._guessing and due and self._final is None and self._guess is None:
            said = self._utterances.so_far()
            if said is not None:
                self._guessed = said.end - said.start
                self._guess = Hearing(ear, said)

    def _answered(self, wait: float) -> Iterator[Event]:
        hearing = self._final or self._guess
        if hearing is None:
            return
        try:
            written = hearing.wait(wait)
        except CraneError as error:
            if hearing is self._final:
                self._final = None
                self._lose(f"{error} What you said is recorded; write it again from the list of takes.")
            else:
                self._guess, self._guessing = None, False
            return
        if written is None:
            return
        yield self._final_one(hearing, written) if hearing is self._final else self._guessed_one(hearing, written)

    def _final_one(self, hearing: Hearing, written: Written) -> Heard:
        said = hearing.utterance
        self._final = None
        self.heard.append(Heard(written.text, True, said.start, said.end, len(written.text)))
        return self.heard[-1]

    def _guessed_one(self, hearing: Hearing, written: Written) -> Heard:
        said = hearing.utterance
        self._guess = None
        text, settled = self._settling.take(written.text)
        return Heard(text, False, said.start, said.end, settled)

    def _drop_guess(self) -> None:
        if self._guess is not None:
            self._guess.cancel()
            self._guess = None

    def _lose(self, why: str) -> None:
        if not self.unwritten:
            self._notes.append(why)
        self.unwritten += 1


class Silence:
    """Whether a recording begins with nothing but zeros, told once."""

    def __init__(self) -> None:
        self._samples = 0
        self._over = False

    def lasts(self, block: NDArray[np.float32]) -> bool:
        """Whether it has now lasted SILENT_S."""
        self._over = self._over or bool(block.any())
        self._samples += len(block)
        if self._over or self._samples < SILENT_S * RATE:
            return False
        self._over = True
        return True


class Settling:
    """Guesses at a growing utterance: what two in a row agree on does not change any more.

    Source: LocalAgreement-2 of Macháček et al. 2023, arXiv 2307.14743.
    """

    WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]\s*|[^\s\u3040-\u30ff\u3400-\u9fff]+\s*")

    def __init__(self) -> None:
        self._settled: list[str] = []
        self._last: list[str] = []

    def take(self, guess: str) -> tuple[str, int]:
        """The text to show for the next guess, and how many of its letters are settled."""
        words = self.WORDS.findall(guess)
        agreed = 0
        while agreed < min(len(words), len(self._last)) and words[agreed].rstrip() == self._last[agreed].rstrip():
            agreed += 1
        self._last = words
        self._settled += words[len(self._settled) : agreed]
        shown = self._settled + words[len(self._settled) :]
        return "".join(shown).rstrip(), len("".join(self._settled).rstrip())


def record(
    dictation: Dictation, blocks: Blocks, takes: Takes, dropped: threading.Event
) -> Generator[Event, None, Take | None]:
    """Listen, with every block on disk before it is heard; returns the take, None where nothing came.

    dropped: the person does not want it; it ends at once and stays as discarded.
    """
    recording = takes.record()
    notes: list[str] = []
    state: State = "interrupted"  # unless it comes to its end
    try:
        for event in dictation.listen(_recorded(blocks, recording, notes)):
            yield event
            while notes:
                yield Note(notes.pop())
            if dropped.is_set():
                break
        state = "discarded" if dropped.is_set() else "unwritten" if dictation.unwritten else "done"
    finally:
        said = tuple(Said(heard.start, heard.end, heard.text) for heard in dictation.heard)
        take = recording.finish(state, dictation.text, said, dictation.model if said else "")
    return take


def _recorded(blocks: Blocks, recording: Recording, notes: list[str]) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        try:
            recording.write(block)
        except CraneError as error:  # the words are still heard
            notes.append(str(error))
        yield block


def _there(ear: Ear) -> Future[Ear]:
    future: Future[Ear] = Future()
    future.set_result(ear)
    return future
