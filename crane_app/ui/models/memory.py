"""What everything loaded holds of the memory that it may take, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from PySide6.QtCore import QCoreApplication

from crane_app.library import fit


def taken(stats: Any) -> int:
    """Bytes that models, their conversations, the reader and what listens hold together; 0 without an engine."""
    return sum(each.nbytes + each.rows_nbytes for each in stats.held) if stats is not None else 0


def limit(stats: Any, memory: int) -> int:
    """Bytes that they may hold; those of this computer until a model has told what its device allows."""
    return (stats.limit_nbytes if stats is not None else 0) or memory


def called(name: str) -> str:
    """What a person calls something that is loaded, within a sentence."""
    tr = QCoreApplication.translate
    known = {"built-in reader": tr("Memory", "the built-in reader"), "voice finder": tr("Memory", "the voice finder")}
    return known.get(name, name)


def parts(stats: Any) -> list[str]:
    """What holds how much, the conversations of all models as one."""
    held = stats.held if stats is not None else ()
    words = [f"{called(each.name)} {fit.human(each.nbytes)}" for each in held if each.nbytes]
    rows = sum(each.rows_nbytes for each in held)
    return [*words, f"{QCoreApplication.translate('Memory', 'conversations')} {fit.human(rows)}"] if rows else words


def left(partings: Iterable[Any]) -> str:
    """What made room for what, and what becomes of it, in sentences; "" if nothing did."""
    rooms: dict[str, list[str]] = {}
    for each in partings:
        rooms.setdefault(each.room, []).append(f"{called(each.name)} ({fit.human(each.nbytes)})")
    words = QCoreApplication.translate("Memory", "To make room for {room}, {names} left the memory.")
    every = [words.format(room=called(room), names=", ".join(names)) for room, names in rooms.items()]
    again = QCoreApplication.translate("Memory", "What left comes back when it is needed.")
    return " ".join([*every, again]) if every else ""
