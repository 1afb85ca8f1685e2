"""Who shares the beginnings of prompts that are kept computed, and on whose behalf they are kept on disk as well.

Each API key has its own, and the window has others. No key can be told from a folder's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Callable

from crane_app.engine.request import Stats
from crane_app.errors import CraneError
from crane_app.library.secret import lasting_secret
from crane_app.library.store import Store

log = logging.getLogger(__name__)
KIND = "key"
WRITTEN_S = 2.0  # after an answer, by when what it leaves is on the disk or is not


class Keeping:
    """keys: by their numbers; without any, number 0 is everybody. store, secret: where on disk, and what outlives us.

    With the default nothing is kept on disk, and nothing is shared with another server.
    """

    def __init__(self, keys: tuple[str, ...] = (), store: Store | None = None, secret: bytes = b""):
        self._keys, self._store = keys or ("",), store
        self._secret = secret or secrets.token_bytes(32)
        self._heeding: asyncio.Task[None] | None = None
        self._told = ""

    @property
    def on_disk(self) -> bool:
        return self._store is not None

    def salt(self, number: int) -> str:
        """What only requests of this key know: none learns from times or counts what was asked with another."""
        return self._derived("salt", number)

    async def owner(self, number: int) -> str:
        """Whose blocks those of this key are on disk, "" for nobody's."""
        if self._store is None:
            return ""
        try:
            return await asyncio.to_thread(self._store.enter, self._who(number))
        except CraneError as error:  # it is no reason for not answering
            log.warning("what is computed is not kept: %s", error)
            return ""

    def heed(self, stats: Callable[[], Stats]) -> None:
        """After an answer: if nothing more is kept, say why, once, where the server was started."""
        if self._store is not None and (self._heeding is None or self._heeding.done()):
            self._heeding = asyncio.create_task(self._heed(stats))

    async def _heed(self, stats: Callable[[], Stats]) -> None:
        await asyncio.sleep(WRITTEN_S)
        with contextlib.suppress(CraneError):
            problem = (await asyncio.to_thread(stats)).store_problem
            if problem and problem != self._told:
                log.warning("%s", problem)
                self._told = problem

    def check(self) -> None:
        """CraneError where nothing can be kept."""
        if self._store is not None:
            self._store.enter(self._who(0))

    def clear(self) -> None:
        """Forget on disk what was kept for any key. Takes a while."""
        if self._store is not None:
            self._store.keep_only(KIND, ())

    def _who(self, number: int) -> str:
        return f"{KIND}-{self._derived('owner', number)[:40]}"

    def _derived(self, what: str, number: int) -> str:
        return hmac.digest(self._secret, f"{what} {self._keys[number]}".encode(), "sha256").hex()


def lasting(keys: tuple[str, ...]) -> Keeping:
    """One that outlives this program. CraneError where nothing can be kept."""
    keeping = Keeping(keys, Store(), lasting_secret())
    keeping.check()
    return keeping
