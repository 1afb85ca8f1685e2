"""What a test leaves in the caches of its engines: nothing. For the conftest of a folder that runs engines."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from crane_app.contract import Cache
from crane_app.engine.engine import Engine
from crane_app.engine.models import Shelf, Shelved


class Watch:
    """All engines that are alive, and the cache of every model that was on a shelf."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self.caches: list[weakref.ref[Cache]] = []
        begin, put = Engine.__init__, Shelf.put

        def begun(engine: Engine, *args: Any, **how: Any) -> None:
            begin(engine, *args, **how)
            self.engines.add(engine)

        def shelved(shelf: Shelf, model: Shelved) -> None:
            put(shelf, model)
            self.caches.append(weakref.ref(model.cache))

        monkeypatch.setattr(Engine, "__init__", begun)
        monkeypatch.setattr(Shelf, "put", shelved)

    def left(self) -> int:
        """Bytes in all caches, when open engines have done what they were asked, and forgotten what they kept."""
        for engine in list(self.engines):
            if engine._thread is not None and not engine._ended.is_set():
                engine._ask(partial(_settle, engine))
        alive = [(ref, cache) for ref in self.caches if (cache := ref()) is not None]
        self.caches = [ref for ref, _ in alive]
        return sum(cache.nbytes() for _, cache in alive)


def _settle(engine: Engine) -> None:
    """On the device thread: the rest of every request, then nothing is kept."""
    for shelved in engine._shelf:
        while shelved.scheduler.busy:
            shelved.scheduler.step()
        shelved.scheduler.forget()


@pytest.fixture(scope="session", autouse=True)
def watch() -> Iterator[Watch]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Watch(monkeypatch)


@pytest.fixture(autouse=True)
def no_cache_is_left(watch: Watch) -> Iterator[None]:
    """Set up first and so torn down last: engines that a test has closed are closed."""
    yield
    assert watch.left() == 0
