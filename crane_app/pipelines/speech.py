"""Text in, spoken sentences out: the next ones are made while one is heard, and none is made twice.

Knows no speaker and no window; the program with the voice is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crane_app.errors import BadInput, Cancelled
from crane_app.media.script_language import languages
from crane_app.media.sentences import Sentence
from crane_app.media.sound_files import SoundFile
from crane_app.media.spoken_text import script
from crane_app.media.stretch import stretched
from crane_app.platform.voices import SystemVoice, chosen, for_language
from crane_app.platform.voices.process import Rendering, Sound

AHEAD = 3  # sentences made before they are asked for
AT_ONCE = 2  # processes
KEPT = 64 << 20  # bytes of sound


@dataclass(frozen=True)
class Spoken:
    """A sentence and its sound: samples float32 [n] in -1..1 at `rate` Hz."""

    sentence: Sentence
    samples: NDArray[np.float32]
    rate: int


class Speech:
    """The system's voice, with the sound of what it said last."""

    def __init__(self, teller: SystemVoice, voice: str = "") -> None:
        """voice: an id, name or language; "" for one that the system and the script of each sentence choose."""
        self._teller = teller
        self.voice = voice
        self._kept: OrderedDict[bytes, Sound] = OrderedDict()
        self._lock = threading.Lock()

    def say(self, text: str) -> Reading:
        """The sentences of plain text."""
        return self.read(script(text))

    def read(self, sentences: Sequence[Sentence]) -> Reading:
        """These sentences in order, in the voice chosen now."""
        wish = self.voice and chosen(self._teller.voices(), self.voice).id
        return Reading(self, sentences, wish)

    def render(self, text: str, wish: str) -> Rendering:
        """Start to say one sentence; wish: a voice's id, "" to go by its script."""
        return self._teller.render(text, wish or self._by_script(text))

    def kept(self, key: bytes) -> Sound | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: bytes, sound: Sound) -> None:
        """Keep a sentence's sound, and forget the longest unheard beyond KEPT bytes."""
        with self._lock:
            self._kept[key] = sound
            while sum(each.samples.nbytes for each in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)

    def _by_script(self, text: str) -> str:
        for language in languages(text):
            if (voice := for_language(self._teller.voices(), language)) is not None:
                return voice.id
        return ""


class Reading(Iterator[Spoken]):
    """Sentences on their way: iterating gives them in order, and raises CraneError at one that cannot be said.

    `close()` may come from any thread; it kills what is under way, and the iteration ends.
    """

    def __init__(self, speech: Speech, sentences: Sequence[Sentence], wish: str) -> None:
        self._speech, self._wish = speech, wish
        self._rest = iter(sentences)
        self._waiting: deque[tuple[Sentence, Future[Sound]]] = deque()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="voice")
        self._lock = threading.Lock()
        self._running: set[Rendering] = set()
        self._closed = False

    def __next__(self) -> Spoken:
        self._go_ahead()
        if not self._waiting:
            self.close()
            raise StopIteration
        sentence, future = self._waiting.popleft()
        try:
            sound = future.result()
        except (Cancelled, CancelledError):
            raise StopIteration from None
        return Spoken(sentence, sound.samples, sound.rate)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for rendering in self._running:
                rendering.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _go_ahead(self) -> None:
        """Begin the next sentences, unless the reading is closed."""
        with self._lock:
            while not self._closed and len(self._waiting) <= AHEAD:
                sentence = next(self._rest, None)
                if sentence is None:
                    return
                self._waiting.append((sentence, self._pool.submit(self._sound, sentence.text)))

    def _sound(self, text: str) -> Sound:
        key = hashlib.sha256(f"{self._wish}\0{text}".encode("utf-8", "surrogatepass")).digest()
        sound = self._speech.kept(key)
        if sound is None:
            sound = self._rendered(text)
            self._speech.keep(key, sound)
        return sound

    def _rendered(self, text: str) -> Sound:
        if self._closed:
            raise Cancelled("The voice was stopped.")
        rendering = self._speech.render(text, self._wish)  # may take seconds, for which `close` must not wait
        with self._lock:
            self._running.add(rendering)
            if self._closed:
                rendering.cancel()
        try:
            return rendering.sound()
        finally:
            with self._lock:
                self._running.discard(rendering)


def save(reading: Reading, path: Path, speed: float = 1.0) -> Iterator[Spoken]:
    """Write the sentences to a sound file, each passed on when written; the whole file or, if left early, nothing.

    The kind of file is that of the name's end; its rate is the first sentence's.
    """
    with contextlib.closing(reading):
        first = next(reading, None)
        if first is None:
            raise BadInput("There is nothing to say in this text.")
        with SoundFile(path, first.rate) as file:
            for spoken in itertools.chain([first], reading):
                sound = stretched(spoken.samples, spoken.rate, speed)
                if spoken.rate != first.rate:
                    import soxr

                    sound = soxr.resample(sound, spoken.rate, first.rate)
                file.write(sound)
                yield spoken
