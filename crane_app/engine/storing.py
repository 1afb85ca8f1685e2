"""The way of kept blocks to disk and back, so that a conversation costs no prompt again after a restart.

A row that ends leaves its chain; one block of it in each step is copied to the host, and a thread writes it. What a
prompt needs and memory has not is read before it is computed. Only for rows whose request names an owner.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from crane_app.contract import BLOCK, Cache
from crane_app.engine.prefixes import Kept, Prefixes
from crane_app.library.block_file import Block
from crane_app.library.store import Crowded, Store

log = logging.getLogger(__name__)

WAITING = 256 << 20  # bytes on their way to the disk, beyond which no more are copied
READ = 2  # blocks of one prompt that are read in a step; about what a step computes of prompts at most
LOOKS = 64  # blocks of one chain that are looked for on the disk in a step
FULL = (
    "What was computed for conversations is not kept on the disk any more: {why}. Make room or allow writing "
    "there, and start Crane anew."
)


class Writer:
    """The thread that writes; one for all models. problem: why nothing is kept at present, as a sentence, or "".

    wake: called from the thread when there is room again.
    """

    def __init__(self, store: Store, wake: Callable[[], None] = lambda: None):
        self.store, self.problem = store, ""
        self._wake = wake
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._coming: dict[tuple[str, str], int] = {}  # bytes of what waits, by owner and name
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def room(self) -> bool:
        """Whether another block may be handed over."""
        return sum(tuple(self._coming.values())) < WAITING

    def has(self, owner: str, name: str) -> bool:
        return (owner, name) in self._coming or self.store.has(owner, name)

    def put(self, owner: str, block: Block, used: int) -> None:
        """Write it soon; used: nanoseconds, of when it was."""
        self._coming[owner, block.name] = block.nbytes
        self._do(lambda: self._write(owner, block, used))

    def touch(self, owner: str, used: dict[str, int]) -> None:
        self._do(lambda: self.store.touch(owner, used))

    def close(self, drain: bool) -> None:
        """End: with `drain` after everything is written."""
        self._stopped = self._stopped or not drain
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

    def _do(self, task: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="crane-store", daemon=True)
            self._thread.start()
        self._tasks.put(task)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception:
                log.exception("a block could not be kept")

    def _write(self, owner: str, block: Block, used: int) -> None:
        try:
            if not self._stopped:
                self.store.write(owner, block, used)
                self.problem = ""
        except Crowded as error:
            self._tell(str(error))
        except OSError as error:
            self._stopped = True
            self._tell(FULL.format(why=error.strerror or error))
        finally:
            del self._coming[owner, block.name]
            self._wake()

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem


@dataclass
class Chain:
    """A row's keys, of which those before `at` have been seen to. used: nanoseconds; names: what is on disk already."""

    owner: str
    keys: Sequence[bytes]
    used: int
    at: int = 0
    names: dict[str, int] = field(default_factory=dict)


class Nowhere:
    """Where nothing is kept on disk; see Stored."""

    busy = owes = False

    def want(self, owner: str, chain: Sequence[bytes]) -> None: ...

    def advance(self, prefixes: Prefixes) -> None: ...

    def hand_over(self, prefixes: Prefixes) -> None: ...

    def recall(self, owner: str, chain: Sequence[bytes], place: int, prefixes: Prefixes, exact: bool) -> list[Kept]:
        return []

    def forget(self) -> None: ...


class Stored:
    """The blocks of one model on disk. Only the device thread calls it. identity: as identity.identity gives it."""

    def __init__(self, writer: Writer, cache: Cache, identity: bytes):
        self._writer, self._cache, self._identity = writer, cache, identity
        self._chains: deque[Chain] = deque()

    @property
    def busy(self) -> bool:
        """Whether `advance` has something to do now."""
        return bool(self._chains) and self._writer.room

    @property
    def owes(self) -> bool:
        """Whether something is to be handed to the writer yet."""
        return bool(self._chains)

    def want(self, owner: str, chain: Sequence[bytes]) -> None:
        """Keep what is in memory of this chain on the disk too; of one too long for the limit its beginning."""
        if owner and chain:
            self._chains.append(Chain(owner, chain, time.time_ns()))

    def advance(self, prefixes: Prefixes) -> None:
        """Copy the next block to the host and hand it to the writer."""
        if not self.busy:
            return
        chain = self._chains[0]
        looked, end = 0, len(chain.keys)
        while chain.at < end and looked < LOOKS:
            name, kept = self._name(chain.keys[chain.at]), prefixes.get(chain.keys[chain.at])
            used = chain.used - 1000 * chain.at  # a block never goes before those behind it
            if kept is None:
                break
            chain.at += 1
            looked += 1
            if self._writer.has(chain.owner, name):
                chain.names[name] = used
            else:
                self._send(chain, name, kept, used)
                return
        if looked < LOOKS:
            self._writer.touch(chain.owner, chain.names)
            self._chains.popleft()

    def hand_over(self, prefixes: Prefixes) -> None:
        """All that is owed to the writer, as far as it has room: the cache goes."""
        while self.busy:
            self.advance(prefixes)

    def recall(self, owner: str, chain: Sequence[bytes], place: int, prefixes: Prefixes, exact: bool) -> list[Kept]:
        """The next blocks of the chain from `place` on that the disk has, kept in memory now; READ at most."""
        found: list[Kept] = []
        for index in range(place, min(place + READ, len(chain)) if owner else place):
            name = self._name(chain[index])
            block = self._writer.store.read(owner, name)
            if block is None or (exact and not block.exact):
                break
            try:
                kept = prefixes.adopt(chain, index, block.arrays, block.exact)
            except ValueError as error:
                log.warning("a block on disk is not used: %s", error)
                self._writer.store.discard(owner, name)
                break
            if kept is None or (exact and not kept.exact):
                break
            found.append(kept)
        return found

    def forget(self) -> None:
        self._chains.clear()

    def _send(self, chain: Chain, name: str, kept: Kept, used: int) -> None:
        try:
            arrays = self._cache.export(kept.block)
        except Exception:  # what cannot be kept is computed again
            log.exception("a block could not be copied")
            chain.keys = chain.keys[: chain.at]
            return
        block = Block(name, (chain.at - 1) * BLOCK, kept.exact, arrays)
        if chain.at * block.nbytes > self._writer.store.limit():
            chain.keys = chain.keys[: chain.at]  # the rest would take the place of this
        else:
            self._writer.put(chain.owner, block, used)

    def _name(self, key: bytes) -> str:
        return blake2b(key, key=self._identity, digest_size=16).hexdigest()
