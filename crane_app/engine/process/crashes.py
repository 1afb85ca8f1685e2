"""What is remembered of engines that died: the last of them, and which models to leave alone."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from crane_app.errors import Unsupported

ENOUGH = 2  # deaths in the same phase after which a model is set aside


@dataclass(frozen=True)
class Crash:
    """A death. phase: what the engine was doing; status: the exit status, negative for a signal, None if not known.

    lost: ids of streams whose request the engine had not taken: they can be sent again as they are.
    interrupted: ids of streams that had begun; what arrived stands.
    """

    pid: int
    phase: str
    status: int | None
    lost: tuple[str, ...]
    interrupted: tuple[str, ...]

    @property
    def cause(self) -> str:
        """A half sentence, or nothing if nobody knows."""
        if self.status is None or self.status == 0:
            return ""
        if self.status == -9:
            return " (it was killed; often the memory was full)"
        return f" (signal {-self.status})" if self.status < 0 else f" (exit status {self.status})"


class Ledger:
    """Deaths by what the engine was doing with which model, as (doing, folder)."""

    def __init__(self) -> None:
        self._deaths: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def died(self, doing: str, folder: str) -> None:
        with self._lock:
            self._deaths[doing, folder] = self._deaths.get((doing, folder), 0) + 1

    def survived(self, doing: str, folder: str) -> None:
        """It went well this time, so what was before counts no more."""
        with self._lock:
            self._deaths.pop((doing, folder), None)

    def forget(self, folder: str) -> bool:
        """Let the model be loaded again; False if it was not set aside."""
        with self._lock:
            there = [key for key, count in self._deaths.items() if key[1] == folder and count >= ENOUGH]
            self._deaths = {key: count for key, count in self._deaths.items() if key[1] != folder}
        return bool(there)

    def check(self, folder: str) -> None:
        """Unsupported for a model that is set aside."""
        with self._lock:
            doing = [d for (d, f), count in self._deaths.items() if f == folder and count >= ENOUGH]
        if doing:
            raise Unsupported(
                f"The model in {folder} is set aside: the engine died {ENOUGH} times while {doing[0]} it. "
                "Its files may be damaged or it may not fit in the memory. Choose 'Try again' for it, or restart Crane."
            )
