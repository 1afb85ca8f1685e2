"""Which conversations are kept ready on disk: those that are kept themselves, as long as the settings say so.

Their text is on disk anyway. What is deleted takes along what was computed for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from crane_app.errors import CraneError
from crane_app.library.fit import human
from crane_app.library.store import CROWDED, LIMIT, Store

log = logging.getLogger(__name__)
KIND = "chat"


class Readiness:
    """wanted: asked at each answer; limit: bytes of all. From any thread; what takes longer than a frame says so."""

    def __init__(self, wanted: Callable[[], bool], limit: Callable[[], int] = lambda: LIMIT, root: Path | None = None):
        self.store, self._wanted = Store(root, limit), wanted

    @property
    def wanted(self) -> bool:
        return self._wanted()

    def owner(self, chat: int) -> str:
        """Whose blocks a conversation's are, "" where none are kept: of a request to the engine.

        To be asked before its words are read: what is deleted after that is never kept.
        """
        if not self.wanted:
            return ""
        try:
            return self.store.enter(f"{KIND}-{chat}")
        except CraneError as error:  # it is no reason for not answering
            log.warning("a conversation is not kept ready: %s", error)
            return ""

    def forget(self, chat: int) -> threading.Thread:
        """A conversation or a part of it was deleted: out of the way at once; the thread frees the disk."""
        self.store.set_aside(f"{KIND}-{chat}")
        sweeper = threading.Thread(target=self.store.sweep, name="crane-sweep", daemon=True)
        sweeper.start()
        return sweeper

    def keep_only(self, chats: Iterable[int]) -> None:
        """Forget all conversations but these, or all where none are wanted, and what is too much. Takes a while."""
        self.store.keep_only(KIND, {f"{KIND}-{chat}" for chat in chats} if self.wanted else ())
        self.store.trim()

    def clear(self) -> None:
        """Forget all, also what was kept for other programs. Takes a while."""
        self.store.clear()

    def told(self) -> tuple[str, str]:
        """How much is kept, and why no more can be, "" if it can. Takes a while."""
        return human(self.store.nbytes()), CROWDED if self.store.crowded() else ""
