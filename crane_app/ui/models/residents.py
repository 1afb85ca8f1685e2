"""What stays in memory by a person's wish, and what left it for something else: one account for the whole window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.ui.models.memory import left
from crane_app.ui.worker import Worker, sentence

PINNED = "pinned-models"  # the setting that names them, a folder or file on each line
SAME_S = 1.0  # two looks tell the moment of a parting this exactly


class Residents(QObject):
    """Follows the looks of a connection, and never asks on its own; `of` gives the one that all views share.

    What the setting names is pinned in the engine whenever it is loaded there.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, connection: Any, preferences: Any):
        super().__init__(connection)
        self._connection, self._preferences = connection, preferences
        self._wishes: dict[str, bool] = {}  # by the model's name, until the engine says the same
        self._refused: set[str] = set()  # pins that failed, until the model is loaded anew
        self._known: list[tuple[str, str, float]] | None = None  # partings that were told
        self._pid = 0
        self._last: Worker | None = None  # one wish after the other
        connection.changed.connect(self._seen)
        self._seen()

    @classmethod
    def of(cls, connection: Any, preferences: Any) -> Residents:
        """The one that belongs to this connection, made when first asked for."""
        return connection.findChild(cls) or cls(connection, preferences)

    def holding(self, card: Any) -> Any:
        """What the engine holds of a loaded model, as engine.request.Holding; None before it was looked at."""
        held = self._connection.stats.held if self._connection.stats is not None else ()
        return next((each for each in held if card is not None and each.name == card.name), None)

    def kept(self, folder: Path | str, card: Any) -> bool:
        """Whether it stays, or is to stay once it is loaded. card: the engine's, None unless it is loaded."""
        held = self.holding(card)
        known = held is not None and held.pinned
        return self._wishes.get(card.name if card is not None else "", known or _whole(folder) in self._named())

    def keep(self, folder: Path | str, card: Any, on: bool) -> None:
        """Let it stay from now on, also when it is loaded another time; or lift that."""
        named = [each for each in self._named() if each != _whole(folder)]
        self._preferences.set(PINNED, "\n".join([*named, _whole(folder)] if on else named))
        if card is not None:
            self._refused.discard(card.name)
            self._wish(card.name, on)
        self.changed.emit()

    def away(self) -> list[Any]:
        """What left for something that is still there and is not back, the last parting of each."""
        stats = self._connection.stats
        if stats is None:
            return []
        there = {each.name for each in stats.held}
        last = {each.name: each for each in stats.gone}
        return [each for each in last.values() if each.room in there and each.name not in there]

    # After each look

    def _seen(self) -> None:
        stats = self._connection.stats
        if stats is None:
            return
        if stats.pid != self._pid:
            self._wishes.clear()
            self._refused.clear()
            self._known = [] if self._pid else None
            self._pid = stats.pid
        self._apply()
        self._tell(stats)

    def _apply(self) -> None:
        cards = {card.name: card for card in self._connection.cards}
        self._refused &= cards.keys()
        named = set(self._named())
        for name in [*self._wishes]:
            if name not in cards or self._is_pinned(cards[name]) is self._wishes[name]:
                del self._wishes[name]
        for name, card in cards.items():
            wanted = _whole(card.folder) in named and self._is_pinned(card) is False
            if wanted and name not in self._wishes and name not in self._refused:
                self._wish(name, True)

    def _is_pinned(self, card: Any) -> bool | None:
        held = self.holding(card)
        return None if held is None else held.pinned

    def _wish(self, name: str, on: bool) -> None:
        self._wishes[name] = on
        worker = self._last = self._connection.run(lambda engine: _pinning(engine, name, on), self._last)
        worker.returned.connect(lambda _: self._connection.look())
        worker.failed.connect(lambda error: self._failed(name, sentence(error)))

    def _failed(self, name: str, why: str) -> None:
        self._wishes.pop(name, None)
        self._refused.add(name)
        self.said.emit(why)
        self.changed.emit()

    def _tell(self, stats: Any) -> None:
        """Say what is new among what has left; what left before the window came is no news."""
        now = [(each.name, each.room, stats.uptime_s - each.ago_s) for each in stats.gone]
        if self._known is not None:
            fresh = [each for each, mark in zip(stats.gone, now, strict=True) if each.room and self._is_news(mark)]
            if fresh:
                self.said.emit(left(fresh))
        self._known = now

    def _is_news(self, mark: tuple[str, str, float]) -> bool:
        return not any(mark[:2] == old[:2] and abs(mark[2] - old[2]) < SAME_S for old in self._known or ())

    def _named(self) -> list[str]:
        return [each for each in str(self._preferences.get(PINNED) or "").split("\n") if each]


def _whole(folder: Path | str) -> str:
    return str(Path(folder).expanduser().absolute())


def _pinning(engine: Any, name: str, on: bool) -> Iterator[None]:
    engine.pin(name, on)
    if not on and any(each.name == name and each.pinned for each in engine.stats().held):
        engine.keep(name, None)  # another program asked for it to stay for ever
    return
    yield
