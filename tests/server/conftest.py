"""Servers on real sockets: one with a tiny model that says noise, one with an engine that has none."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from openai import OpenAI

from crane_app.engine.engine import Engine
from crane_app.engine.request import ModelCard, Part
from crane_app.server.app import build
from crane_app.server.guard import Access
from crane_app.server.keeping import Keeping
from crane_app.server.run import Server, bound
from crane_app.server.service import Limits
from tests.chat_checkpoint import write_chat

OPEN, LIMITS = Access(), Limits()


@dataclass(frozen=True)
class Serving:
    """A server under test."""

    url: str
    engine: Any
    port: int
    card: ModelCard
    app: Any = None

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def openai(self, key: str = "none") -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)


@contextlib.contextmanager
def serving(
    engine: Any,
    access: Access = OPEN,
    limits: Limits = LIMITS,
    name: str = "tiny",
    hears: bool = False,
    keeping: Keeping | None = None,
) -> Iterator[Serving]:
    """Served on a port of its own until the end of the context."""
    card = next(card for card in engine.models() if card.hears == hears)
    listener = bound("127.0.0.1", 0)
    app = build(engine, {name: card}, access, limits, keeping)
    server = Server(app)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.005)
    port = listener.getsockname()[1]
    try:
        yield Serving(f"http://127.0.0.1:{port}", engine, port, card, app)
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive(), "the server does not end"


def loaded(engine: Engine, folder: Any, backend: str = "torch") -> ModelCard:
    """A model in float32 on the processor."""
    return next(e.value for e in engine.load(str(folder), None, backend, "cpu", "float32") if isinstance(e, Part))


@pytest.fixture(scope="package")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A chat model of 199 tokens."""
    pytest.importorskip("torch").set_num_threads(1)
    engine = Engine()
    loaded(engine, write_chat(tmp_path_factory.mktemp("served") / "tiny"))
    yield engine
    engine.close(drain=False)


@pytest.fixture(scope="package")
def tiny(tiny_engine: Engine) -> Iterator[Serving]:
    with serving(tiny_engine) as served:
        yield served


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as this user may have: both ends of every connection are in this process."""
    if sys.platform == "win32":  # has no such limit
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
