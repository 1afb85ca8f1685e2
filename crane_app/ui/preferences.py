"""The settings as the window has them: asked for by name, told when they change, written a moment later.

The file is written on a worker's thread, several changes at once. What CRANE_* variables say stands above the file.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from crane_app import settings
from crane_app.errors import BadInput, CraneError
from crane_app.ui.worker import Worker, sentence

DRAWING = ("max-tokens", "temperature", "top-p", "top-k")
SOON_MS = 300  # changes within this time are written together


class Preferences(QObject):
    """The values in the file at `path`. notice: what was wrong with it or the variables, in sentences.

    changed carries the name of a setting that has another value now, problem a sentence.
    """

    changed = Signal(str)
    problem = Signal(str)

    def __init__(self, path: Path | None = None):
        super().__init__()
        self.path = path or settings.settings_path()
        self._unsaved: dict[str, Any] = {}
        self._being_saved: dict[str, Any] = {}
        self._writer: Worker | None = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SOON_MS)
        self._soon.timeout.connect(self._save)
        self._values, problems = self._load()
        self._fixed, more = _from_variables()
        self.notice = " ".join(problems + more)

    def get(self, name: str) -> Any:
        """The value that holds: the variable's, else the file's, else the default."""
        return self._fixed.get(name, self._values.get(name, settings.TABLE[name].default))

    def set(self, name: str, value: Any) -> None:
        """Keep it in the file; BadInput if the setting may not have this value."""
        before, value = self.get(name), settings.checked(settings.TABLE[name], value)
        if value == self._values.get(name, settings.TABLE[name].default):
            return
        self._values[name] = self._unsaved[name] = value
        self._soon.start()
        if self.get(name) != before:
            self.changed.emit(name)

    def reset(self, name: str) -> None:
        """Back to the default."""
        self.set(name, settings.TABLE[name].default)

    def is_default(self, name: str) -> bool:
        return bool(self.get(name) == settings.TABLE[name].default)

    def overruled(self, name: str) -> str:
        """Why changing it changes nothing, as a sentence; "" if it does."""
        if name not in self._fixed:
            return ""
        variable = settings.variable(settings.TABLE[name])
        return self.tr("Set by {variable} where Crane was started.").format(variable=variable)

    def flush(self) -> None:
        """Write what is unsaved now, before the program ends."""
        self._soon.stop()
        if self._writer is not None:
            self._writer.wait()
        self._unsaved = {**self._being_saved, **self._unsaved}
        if not self._unsaved:
            return
        try:
            settings.save(self.path, self._unsaved)
            self._unsaved = {}
        except CraneError as error:
            self.problem.emit(sentence(error))

    def _save(self) -> None:
        if self._writer is not None:
            self._soon.start()
            return
        self._being_saved, self._unsaved = self._unsaved, {}
        self._writer = Worker(_saving(self.path, self._being_saved))
        self._writer.returned.connect(lambda _nothing: self._saved())
        self._writer.failed.connect(self._not_saved)
        self._writer.start()

    def _saved(self) -> None:
        self._being_saved, self._writer = {}, None

    def _not_saved(self, error: Exception) -> None:
        """The next change tries again."""
        self._unsaved = {**self._being_saved, **self._unsaved}
        self._saved()
        self.problem.emit(sentence(error))

    def _load(self) -> tuple[dict[str, Any], list[str]]:
        try:
            document = settings.load(self.path)
        except BadInput:
            return {}, [self._set_aside()]
        except CraneError as error:
            return {}, [str(error)]
        values, problems = {}, []
        for name in settings.TABLE.keys() & document["values"].keys():
            try:
                values[name] = settings.kept(settings.TABLE[name], document)
            except BadInput as error:
                ignored = self.tr("The settings in {path} are not all as they should be: {what} The default is used.")
                problems.append(ignored.format(path=self.path, what=error))
        return values, problems

    def _set_aside(self) -> str:
        try:
            kept = settings.set_aside(self.path)
        except CraneError as error:
            return str(error)
        told = self.tr("The file with the settings was damaged. It is kept as {path}, and the defaults are used.")
        return told.format(path=kept)


def starting_options(preferences: Any) -> dict[str, Any]:
    """How a new conversation is answered, where the settings say: fields of engine.request.Asked, and `think`."""
    found = {name.replace("-", "_"): preferences.get(name) for name in DRAWING}
    found["think"] = {"yes": True, "no": False}.get(preferences.get("think"))
    return {name: value for name, value in found.items() if value is not None}


def _from_variables() -> tuple[dict[str, Any], list[str]]:
    """What the CRANE_* variables say, and what is wrong with them."""
    values, problems = {}, []
    for setting in settings.SETTINGS:
        text = os.environ.get(settings.variable(setting))
        if not text:
            continue
        try:
            values[setting.name] = settings.parsed(setting, text)
        except BadInput as error:
            problems.append(f"{settings.variable(setting)}: {error}")
    return values, problems


def _saving(path: Path, changes: dict[str, Any]) -> Iterator[None]:
    settings.save(path, changes)
    yield
