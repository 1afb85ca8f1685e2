"""The models on this computer, as the window knows them: looked for on a thread, told after each look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.library.models import OnDisk, examine, found, listed
from crane_app.ui.worker import Worker

FOLDERS = "model-folders"  # the setting that lists folders with models, as PATH lists folders with programs


def folders(preferences: Any) -> list[Path]:
    """The folders that the settings name, in their order."""
    return listed(str(preferences.get(FOLDERS) or ""))


def keep_folders(preferences: Any, every: Iterable[Path]) -> None:
    """Let the settings name these folders, each once."""
    preferences.set(FOLDERS, os.pathsep.join(dict.fromkeys(map(str, every))))


class Shelf(QObject):
    """entries: what the last look found, by name. Looks again when the settings name what it has not seen."""

    changed = Signal()

    def __init__(self, preferences: Any, find: Callable[[list[Path]], Iterable[OnDisk]] = found):
        super().__init__()
        self.entries: tuple[OnDisk, ...] = ()
        self._preferences, self._find = preferences, find
        self._looking: Worker | None = None
        self._again = False
        preferences.changed.connect(self._setting_changed)

    def rescan(self) -> None:
        """Look again; asked while looking, once more afterwards."""
        if self._looking is not None:
            self._again = True
            return
        chosen = str(self._preferences.get("model") or "")
        self._looking = Worker(_look(self._find, folders(self._preferences), chosen))
        self._looking.returned.connect(self._seen)
        self._looking.failed.connect(lambda _error: self._seen(self.entries))
        self._looking.start()

    def _seen(self, entries: tuple[OnDisk, ...]) -> None:
        self._looking = None
        self.entries = entries
        self.changed.emit()
        if self._again:
            self._again = False
            self.rescan()

    def _setting_changed(self, name: str) -> None:
        if name == FOLDERS or (name == "model" and not _has(self.entries, self._preferences.get(name))):
            self.rescan()


def _look(
    find: Callable[[list[Path]], Iterable[OnDisk]], named: list[Path], chosen: str
) -> Iterator[tuple[OnDisk, ...]]:
    """What is found, and the model that was chosen, wherever it lies."""
    entries = list(find(named))
    if not _has(entries, chosen):
        entries.append(examine(Path(chosen).expanduser()))
    return tuple(sorted(entries, key=lambda entry: (entry.name.lower(), str(entry.folder))))
    yield


def _has(entries: Iterable[OnDisk], folder: str | None) -> bool:
    """Whether the model in that folder is among them, or none is meant."""
    return not folder or any(entry.folder == Path(folder).expanduser() for entry in entries)
