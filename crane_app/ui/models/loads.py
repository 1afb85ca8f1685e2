"""Which models are loaded, being loaded or could not be, by folder: one account of it for the whole window."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.library.fit import Verdict
from crane_app.library.models import OnDisk
from crane_app.pipelines import room
from crane_app.ui.worker import sentence


class Loads(QObject):
    """Loads and gives back models through a connection; `of` gives the one that all its views share."""

    changed = Signal(str)  # a folder

    def __init__(self, connection: Any, preferences: Any):
        super().__init__(connection)
        self._connection, self._preferences = connection, preferences
        self._percents: dict[str, int] = {}
        self._stops: dict[str, threading.Event] = {}
        self._errors: dict[str, str] = {}
        self._leaving: set[str] = set()

    @classmethod
    def of(cls, connection: Any, preferences: Any) -> Loads:
        """The one that belongs to this connection, made when first asked for."""
        return connection.findChild(cls) or cls(connection, preferences)

    def card(self, folder: Path | str) -> Any:
        """The engine's card of the model in that folder; None unless it is loaded."""
        wanted = Path(folder).expanduser().absolute()
        return next((card for card in self._connection.cards if Path(card.folder) == wanted), None)

    def percent(self, folder: Path | str) -> int | None:
        """How much of it is loaded; None when it is not being loaded."""
        return self._percents.get(str(folder))

    def error(self, folder: Path | str) -> str:
        """Why the last try failed; "" if it did not."""
        return self._errors.get(str(folder), "")

    def busy(self, folder: Path | str) -> bool:
        """Whether it is being loaded or given back."""
        return str(folder) in self._percents or str(folder) in self._leaving

    def verdict(self, entry: OnDisk, memory: int) -> Verdict:
        """Whether it would fit into `memory` bytes."""
        return room.verdict(entry, memory, self._preferences.get)

    def load(self, folder: Path | str) -> None:
        """Begin to load it, unless it is there or on its way."""
        name = str(folder)
        if self.busy(name) or self.card(name) is not None:
            return
        stop = self._stops[name] = threading.Event()
        self._percents[name] = 0
        self._errors.pop(name, None)
        get = self._preferences.get
        choices = (
            get("backend"),
            get("device") or "auto",
            get("dtype"),
            get("quantize"),
            get("kv-cache-dtype") or "auto",
        )
        worker = self._connection.run(lambda engine: _loading(engine, name, choices, stop))
        worker.yielded.connect(lambda percent: self._came(name, percent, stop))
        worker.failed.connect(lambda error: self._over(name, stop, sentence(error)))
        worker.returned.connect(lambda _card: self._over(name, stop))
        self.changed.emit(name)

    def cancel(self, folder: Path | str) -> None:
        """Give up loading it; the engine hears of it in its own time."""
        stop = self._stops.get(str(folder))
        if stop is not None:
            stop.set()
            self._over(str(folder), stop)

    def unload(self, folder: Path | str) -> None:
        """Give its memory back."""
        card, name = self.card(folder), str(folder)
        if card is None or self.busy(name):
            return
        self._leaving.add(name)
        worker = self._connection.run(lambda engine: _leaving(engine, card.name))
        worker.failed.connect(lambda error: self._left(name, sentence(error)))
        worker.returned.connect(lambda _: self._left(name))
        self.changed.emit(name)

    def _came(self, name: str, percent: int, stop: threading.Event) -> None:
        if self._stops.get(name) is stop:
            self._percents[name] = percent
            self.changed.emit(name)

    def _over(self, name: str, stop: threading.Event, error: str = "") -> None:
        if self._stops.get(name) is not stop:
            return
        del self._stops[name], self._percents[name]
        self._errors.pop(name, None)
        if error:
            self._errors[name] = error
        self._connection.look()
        self.changed.emit(name)

    def _left(self, name: str, error: str = "") -> None:
        self._leaving.discard(name)
        if error:
            self._errors[name] = error
        self._connection.look()
        self.changed.emit(name)


def _loading(engine: Any, folder: str, choices: tuple[Any, ...], stop: threading.Event) -> Iterator[int]:
    from crane_app.pipelines.conversation import Model, loaded

    for loading in loaded(engine, Model(folder, *choices), stop.is_set):
        yield loading.percent


def _leaving(engine: Any, name: str) -> Iterator[None]:
    engine.unload(name)
    return
    yield
