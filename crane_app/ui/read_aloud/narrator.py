"""Between the view that reads aloud and the pipelines that do: what is read, where it is, and the threads it takes.

Everything slow runs on workers: cutting the text into sentences, asking for voices, speaking, saving.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.ui.worker import Worker, sentence

Steps = Iterator[Any]


class Narrator(QObject):
    """Reads `sentences`, from the one numbered `index`. voices, speaker: stand-ins for what makes and plays the sound.

    changed: something of what this tells is different; moved: another sentence is next or heard. failed, not_listed and
    not_saved carry a sentence for people.
    """

    changed = Signal()
    moved = Signal()
    ended = Signal()  # the last sentence was heard
    failed = Signal(str)
    voices_came = Signal(tuple)
    not_listed = Signal(str)
    saved = Signal(str)
    not_saved = Signal(str)

    def __init__(self, preferences: Any, find_voice: Callable[[], Any] | None = None, speaker: Any = None):
        super().__init__()
        self._preferences = preferences
        self._studio = Studio(find_voice, speaker)
        self.sentences: list[Any] = []
        self.before = [0]  # letters of all sentences before each, and of all together
        self.index = 0
        self.share = 0.0  # of the sentence, heard
        self.fresh = True  # whether the sentences are those of the text
        self.speaking = self.audible = False
        self.saving: tuple[int, int] | None = None  # sentences written, and in all
        self._wanted: Callable[[], None] | None = None  # what to do as soon as the sentences are fresh
        self._preparing = self._speaking = self._saving = self._listing = None

    # What is read

    def outdate(self) -> None:
        """The text is changing: fall silent; `prepare` will follow."""
        self.fresh = False
        if self._preparing is not None:
            self._preparing.cancel()  # it cuts a text that is no more
        self.pause()

    def prepare(self, text: str, markdown: bool, code: str, place: int) -> None:
        """Cut the text into sentences, and go to the one at `place`; code: what is said for a block of it."""

        def came(sentences: list[Any]) -> None:
            if self.speaking:  # of other sentences, whose numbers mean nothing here
                self._hush()
            self.sentences, self.fresh = sentences, True
            self.before = [0, *itertools.accumulate(len(each.text) for each in sentences)]
            self.index = self.at(place)
            self._tell_place()
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                wanted()

        self._preparing = _replaced(self._preparing, _prepared(text, markdown, code), came, None, self._fail)

    def at(self, offset: int) -> int:
        """The number of the sentence at a place in the text, or the next one after it."""
        number = bisect.bisect_right(self.sentences, offset, key=lambda each: each.end)
        return number if number < len(self.sentences) else 0

    # What is heard

    def heard(self) -> int:
        """Letters that were heard, of the last of `before`."""
        if not self.sentences:
            return 0
        start, end = self.before[self.index], self.before[self.index + 1]
        return round(start + self.share * (end - start))

    def play(self) -> None:
        """Speak from the sentence that is next; when the sentences are not fresh, as soon as they are."""
        if not self.fresh:
            self._wanted = self.play
        elif self.sentences:
            self._hush()
            self.speaking, self.audible = True, False
            self._studio.speed = float(self._preferences.get("speech-speed"))
            self._studio.volume = self._preferences.get("speech-volume") / 100
            steps = self._studio.narrated(self.sentences, self.index, self._voice(), self._preferences.get("speaker"))
            self._speaking = _replaced(self._speaking, steps, self._finished, self._moment_came, self._fail)
        self.changed.emit()

    def pause(self) -> None:
        """Fall silent; the sentence is kept."""
        self._wanted = None
        self._hush()
        self.share = 0.0
        self.changed.emit()

    def stop(self) -> None:
        """Fall silent, and go back to the start."""
        self.pause()
        self.go_to(0)

    def go_to(self, index: int) -> None:
        """Go on with another sentence, as far as there are any; at once where one is heard."""
        self.index, self.share = max(0, min(index, len(self.sentences) - 1)), 0.0
        if self.speaking:
            self.play()
        self._tell_place()

    def follow_preferences(self) -> None:
        """Speed and volume at once; voice and speaker from the next sentence that is begun."""
        self._studio.steer(float(self._preferences.get("speech-speed")), self._preferences.get("speech-volume") / 100)

    def begin_again(self) -> None:
        """Say the sentence again, in another voice or out of another speaker."""
        if self.speaking:
            self.play()

    # What else

    def list_voices(self) -> None:
        if self._listing is None:
            self._listing = _replaced(None, self._studio.listed(), self.voices_came.emit, None, self._not_listed)

    def save(self, path: Path) -> None:
        """Write everything to a sound file; `saved` tells its name."""
        if self.saving is None and self.fresh and self.sentences:
            self.saving = (0, len(self.sentences))
            speed = float(self._preferences.get("speech-speed"))
            steps = self._studio.saved(self.sentences, self._voice(), path, speed)
            self._saving = _replaced(self._saving, steps, lambda _: self._saved(path), self._written, self._not_saved)
            self.changed.emit()

    def cancel_saving(self) -> None:
        if self._saving is not None and self.saving is not None:
            self._saving.cancel()
            self.saving = None
            self.changed.emit()

    def leave(self) -> None:
        self.pause()
        self.cancel_saving()

    # News of the workers

    def _voice(self) -> str:
        return self._preferences.get("voice")

    def _hush(self) -> None:
        self._studio.hush()
        if self._speaking is not None:
            self._speaking.cancel()
        self.speaking = self.audible = False

    def _moment_came(self, moment: Any) -> None:
        first, before = not self.audible, self.index
        self.audible = True
        self.index, self.share = moment.index, moment.seconds / moment.length if moment.length else 1.0
        if first:
            self.list_voices()  # where there was no program with voices before, there is one now
        if first or self.index != before:
            self._tell_place()
        else:
            self.changed.emit()

    def _tell_place(self) -> None:
        self.moved.emit()
        self.changed.emit()

    def _finished(self, _nothing: object) -> None:
        self.speaking = self.audible = False
        self.index, self.share = 0, 0.0
        self.ended.emit()
        self.changed.emit()

    def _fail(self, error: Exception) -> None:
        self.speaking = self.audible = False
        self._wanted = None
        self.failed.emit(sentence(error))
        self.changed.emit()

    def _not_listed(self, error: Exception) -> None:
        self._listing = None
        self.not_listed.emit(sentence(error))

    def _written(self, done: int) -> None:
        self.saving = (done, self.saving[1])
        self.changed.emit()

    def _saved(self, path: Path) -> None:
        self.saving = None
        self.saved.emit(path.name)
        self.changed.emit()

    def _not_saved(self, error: Exception) -> None:
        self.saving = None
        self.not_saved.emit(sentence(error))
        self.changed.emit()


class Studio:
    """The voice and the speaker, made when they are first needed, on a worker's thread. Its generators run there."""

    def __init__(self, find_voice: Callable[[], Any] | None, speaker: Any):
        self._find, self._speaker = find_voice, speaker
        self._speech = self._narration = None
        self.speed = self.volume = 1.0

    def steer(self, speed: float, volume: float) -> None:
        self.speed, self.volume = speed, volume
        if self._narration is not None:
            self._narration.speed, self._narration.volume = speed, volume

    def hush(self) -> None:
        if self._narration is not None:
            self._narration.stop()

    def listed(self) -> Steps:
        yield
        return self._teller().voices()

    def narrated(self, sentences: list[Any], first: int, voice: str, device: str) -> Steps:
        """Moments whose index is that of all sentences."""
        from dataclasses import replace

        from crane_app.pipelines.narration import Narration
        from crane_app.platform.speaker import Speaker
        from crane_app.platform.wakefulness import awake

        speech = self._voiced(voice)
        reading = speech.read(sentences[first:])
        self._narration = Narration(reading, self._speaker or Speaker(device), self.speed, self.volume)
        with awake("a text is read aloud"):
            for moment in self._narration.moments():
                yield replace(moment, index=first + moment.index)

    def saved(self, sentences: list[Any], voice: str, path: Path, speed: float) -> Steps:
        """How many sentences are written, again and again."""
        from crane_app.pipelines.speech import save

        for done, _ in enumerate(save(self._voiced(voice).read(sentences), path, speed), 1):
            yield done

    def _voiced(self, voice: str) -> Any:
        from crane_app.pipelines.speech import Speech

        if self._speech is None:
            self._speech = Speech(self._teller())
        self._speech.voice = voice
        return self._speech

    def _teller(self) -> Any:
        from crane_app.platform import voices

        return (self._find or voices.find)()


def _prepared(text: str, markdown: bool, code: str) -> Steps:
    from crane_app.media.spoken_text import script

    yield
    return script(text, markdown, code)


def _replaced(old: Worker | None, steps: Steps, returned=None, yielded=None, failed=None) -> Worker:
    """A worker that runs these steps once `old`, which says no more, is over."""
    if old is not None:
        old.cancel()
    made = Worker(steps, after=old)
    for signal, slot in ((made.returned, returned), (made.yielded, yielded), (made.failed, failed)):
        if slot is not None:
            signal.connect(slot)
    made.start()
    return made
