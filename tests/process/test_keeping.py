"""The real engine's process: what it computed for a conversation is there for the next one, and not for others."""

from __future__ import annotations

import random

import pytest

from crane_app.engine.process.client import connect
from crane_app.engine.process.place import Place
from crane_app.engine.process.reach import Start, own_command
from crane_app.engine.request import Asked, Request
from crane_app.library.store import Store
from tests.chat_checkpoint import SIZE, write_chat
from tests.process.conftest import wait_for

TOKENS = tuple(random.Random(1).randrange(5, SIZE) for _ in range(700))


def cached(place: Place, folder: str, owner: str, log) -> int:
    """How much of the prompt a new engine finds; it has ended when this returns."""
    client = connect(new_engine=True, place=place, how=Start(own_command(), log=log))
    try:
        for _ in client.load(folder, "m", "torch", "cpu", "float32"):
            pass
        stream = client.submit(Request("m", tokens=TOKENS, asked=Asked(max_tokens=2, ignore_eos=True), owner=owner))
        for _ in stream:
            pass
        if owner:
            assert wait_for(lambda: len(list(Store().root.glob(f"{owner}/*.block"))) == 2, 20)
        return stream.usage.cached_tokens
    finally:
        client.close()


def test_a_conversation_outlives_the_process_of_its_engine(place, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    store, folder, log = Store(), str(write_chat(tmp_path / "m")), tmp_path / "engine.log"
    store.admit("chat-1")
    assert not store.crowded(), "on a disk that is nearly full nothing is kept"
    assert cached(place, folder, "chat-1", log) == 0
    assert cached(place, folder, "chat-1", log) == 512
    assert cached(place, folder, "", log) == 0
