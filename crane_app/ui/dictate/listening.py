"""A take while it is made: the microphone on one thread, the speech model on its way to the engine on another."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.errors import CraneError
from crane_app.ui.worker import Worker, sentence


class Listening(QObject):
    """From `start` to `over`, which comes once, with the take or None.

    came carries events of pipelines.dictation; loading the percent of the speech model.
    """

    came = Signal(object)
    loading = Signal(int)
    over = Signal(object)

    def __init__(self):
        super().__init__()
        self._until, self._dropped = threading.Event(), threading.Event()
        self._ear: Future[Any] = Future()
        self._worker: Worker | None = None
        self.stopped = False
        self.dropped = False

    def start(self, microphone: Any, takes: Any) -> None:
        """Record and listen; words come as soon as `wait_for` or `refuse` has told what writes them."""
        self._worker = Worker(_take(microphone, self._ear, takes, self._until, self._dropped))
        self._worker.yielded.connect(self.came)
        self._worker.returned.connect(self.over)
        self._worker.failed.connect(self._failed)
        self._worker.start()

    def wait_for(self, connection: Any, model: Any) -> None:
        """The model (pipelines.conversation.Model) writes, once the engine has it."""
        coming = connection.run(lambda engine: _loaded(engine, model, self._ear))
        coming.yielded.connect(lambda loading: self.loading.emit(loading.percent))
        coming.returned.connect(lambda _: self.loading.emit(100))
        coming.failed.connect(lambda error: self.refuse(sentence(error)))

    def refuse(self, why: str) -> None:
        """Nothing will write; it is only recorded."""
        if not self._ear.done():
            self._ear.set_exception(CraneError(why))

    def stop(self) -> None:
        """The person has finished speaking; what was said is still written."""
        self.stopped = True
        self._until.set()

    def drop(self) -> None:
        """The person does not want it; the take stays as discarded."""
        self.dropped = True
        self._dropped.set()
        self.stop()

    def leave(self) -> None:
        """The window closes: the take stays as far as it came."""
        self.stop()
        if self._worker is not None:
            self._worker.cancel()

    def _failed(self, error: Exception) -> None:
        from crane_app.pipelines.dictation import Note

        self.came.emit(Note(sentence(error)))
        self.over.emit(None)


def _take(
    microphone: Any, ear: "Future[Any]", takes: Any, until: threading.Event, dropped: threading.Event
) -> Iterator[Any]:
    from crane_app.pipelines.dictation import Dictation, record
    from crane_app.platform.wakefulness import awake

    with awake("somebody is dictating"):
        return (yield from record(Dictation(ear), microphone.blocks(until), takes, dropped))


def _loaded(engine: Any, model: Any, ear: "Future[Any]") -> Iterator[Any]:
    from crane_app.pipelines.conversation import loaded
    from crane_app.pipelines.hearing import Ear

    card = yield from loaded(engine, model, lambda: False)
    if not ear.done():
        ear.set_result(Ear(engine, card.name))
