"""`crane serve --keep-prefixes`: what a restarted server still computes; no key gets anything from another's."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
from pathlib import Path

import httpx
import pytest

from crane_app.engine.engine import Engine
from crane_app.engine.request import Stats
from crane_app.errors import BadInput
from crane_app.library.secret import secret_path
from crane_app.library.store import OWNER, Store
from crane_app.server import keeping as server_keeping
from crane_app.server.keeping import Keeping
from crane_app.server.run import serve
from tests.chat_checkpoint import SIZE, write_chat
from tests.process.conftest import wait_for
from tests.server.conftest import loaded, serving
from tests.server.scripted import CARD, Scripted
from tests.server.test_serve import Process

KEYS = ("first-key", "second-key")
TOKENS = random.Random(1).choices(range(5, SIZE), k=900)


def owner(keeping: Keeping, number: int) -> str:
    return asyncio.run(keeping.owner(number))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", spare=0)


def test_each_key_has_its_own_and_a_restart_changes_nothing(store):
    keeping, again = Keeping(KEYS, store, b"s" * 32), Keeping(KEYS[::-1], store, b"s" * 32)
    assert len({owner(keeping, 0), owner(keeping, 1), owner(Keeping((), store, b"s" * 32), 0)}) == 3
    assert len({keeping.salt(0), keeping.salt(1), Keeping((), store, b"s" * 32).salt(0)}) == 3
    assert (owner(again, 1), again.salt(1)) == (owner(keeping, 0), keeping.salt(0)), "the key counts, not its place"
    other = Keeping(KEYS, store, b"t" * 32)
    assert owner(other, 0) != owner(keeping, 0), "no key can be tried out without the secret"
    assert other.salt(0) != keeping.salt(0)
    assert all(OWNER.fullmatch(path.name) for path in store.root.iterdir())


def test_without_the_flag_nothing_is_kept_and_another_server_shares_nothing(store):
    assert [owner(Keeping(KEYS), number) for number in (0, 1)] == ["", ""]
    assert Keeping().salt(0) != Keeping().salt(0)
    Keeping().clear()


def test_clearing_takes_all_keys_and_no_conversations(store):
    keeping, chat = Keeping(KEYS, store, b"s" * 32), store.enter("chat-1")
    before = [owner(keeping, number) for number in (0, 1)]
    keeping.clear()
    assert [path.name for path in store.root.iterdir()] == [chat]
    assert not {owner(keeping, number) for number in (0, 1)} & set(before), "what is on its way comes too late"


def test_a_folder_that_cannot_be_is_no_reason_for_not_answering(tmp_path, caplog):
    (tmp_path / "file").write_text("", "utf-8")
    with caplog.at_level(logging.WARNING, "crane_app.server.keeping"):
        assert owner(Keeping(KEYS, Store(tmp_path / "file")), 0) == ""
    assert "not kept" in caplog.text


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crane_app.server.keeping"]


def test_why_nothing_more_is_kept_is_said_once_where_the_server_was_started(store, monkeypatch, caplog):
    """And with it on, in the figures; a server that keeps nothing does not ask."""
    monkeypatch.setattr(server_keeping, "WRITTEN_S", 0)
    asked = []

    def stats() -> Stats:
        asked.append(1)
        return Stats("idle", 0, 0, 1, 0, 0, 0, 0, 0.0, 1, store_problem="The disk is full. Make room.")

    async def answers(keeping: Keeping) -> None:
        for _ in range(3):
            keeping.heed(stats)
            while keeping._heeding and not keeping._heeding.done():
                await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING, "crane_app.server.keeping"):
        asyncio.run(answers(Keeping(KEYS, store)))
        assert (said(caplog), len(asked)) == (["The disk is full. Make room."], 3)
        asyncio.run(answers(Keeping(KEYS)))
    assert len(asked) == 3


def test_a_disk_that_refuses_is_told_by_the_figures_and_by_the_server(tmp_path, monkeypatch, caplog):
    """From the engine's writer to both, with an engine whose disk is full."""

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    pytest.importorskip("torch")
    monkeypatch.setattr(server_keeping, "WRITTEN_S", 0.01)
    monkeypatch.setattr(Store, "write", full)
    store, engine = Store(tmp_path / "store", spare=0), None
    try:
        engine = Engine(store=store)
        loaded(engine, write_chat(tmp_path / "tiny"))
        with serving(engine, keeping=Keeping((), store)) as server, caplog.at_level(logging.WARNING):
            body = {"prompt": TOKENS[:300], "max_tokens": 2, "ignore_eos": True}
            assert server.http.post("/v1/completions", json=body).status_code == 200

            def figures() -> str | None:
                return server.http.get("/v1/stats").json()["engine"]["store_problem"]

            assert wait_for(lambda: figures() is not None, 20)
            assert "No space left on device. Make room" in figures()
            assert server.http.post("/v1/completions", json=body).status_code == 200
            assert wait_for(lambda: bool(said(caplog)), 20)
        assert len(said(caplog)) == 1
    finally:
        if engine is not None:
            engine.close(drain=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, folder in (("HOME", "."), ("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


def blocks() -> list[Path]:
    return sorted(Store().root.glob("*/*.block"))


def cached(process: Process, key: str, tokens: list[int]) -> int:
    """Tokens of this prompt that the server had computed already."""
    body = {"prompt": tokens, "max_tokens": 2, "ignore_eos": True}
    header = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{process.url}/v1/completions", json=body, headers=header, timeout=60).json()
    assert answer["usage"]["prompt_tokens"] == len(tokens)
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_after_a_restart_of_the_server_a_conversation_prefills_only_what_is_new(home):
    """Of 600 tokens two blocks are kept; the next turn computes what follows them, another key computes all."""
    pytest.importorskip("torch")
    flags = ("-m", str(write_chat(home / "tiny")), "--api-key", ",".join(KEYS), "--keep-prefixes")
    process = Process(*flags)
    try:
        assert "keeps    what it has computed" in process.said
        assert cached(process, KEYS[0], TOKENS[:600]) == 0
        assert wait_for(lambda: len(blocks()) == 2, 20)
        assert cached(process, KEYS[1], TOKENS[:600]) == 0
        assert wait_for(lambda: len(blocks()) == 4, 20)
    finally:
        process.end()
    if os.name == "posix":
        assert secret_path().stat().st_mode & 0o777 == 0o600
        assert {path.stat().st_mode & 0o777 for path in (Store().root, *Store().root.iterdir())} == {0o700}
        assert {path.stat().st_mode & 0o777 for path in blocks()} == {0o600}
    process = Process(*flags)
    try:
        assert cached(process, KEYS[0], TOKENS) == 512, "the next turn"
        assert cached(process, KEYS[1], [*TOKENS[:512], *TOKENS[700:]]) == 512, "the other key's own"
        assert cached(process, KEYS[1], TOKENS[100:800]) == 0
        assert httpx.post(f"{process.url}/flush_cache", headers={"x-api-key": KEYS[0]}, timeout=60).json()["success"]
        assert blocks() == []
        assert cached(process, KEYS[0], TOKENS) == 0
    finally:
        process.end()


def test_another_key_gets_nothing_from_what_the_first_has_left(home):
    pytest.importorskip("torch")
    flags = ("-m", str(write_chat(home / "tiny")), "--api-key", ",".join(KEYS), "--keep-prefixes")
    process = Process(*flags)
    try:
        assert cached(process, KEYS[0], TOKENS[:600]) == 0
        assert wait_for(lambda: len(blocks()) == 2, 20)
    finally:
        process.end()
    process = Process(*flags)
    try:
        assert cached(process, KEYS[1], TOKENS[:600]) == 0
        assert cached(process, KEYS[0], TOKENS[:600]) == 512
    finally:
        process.end()


def test_with_no_reuse_there_is_nothing_to_keep(home):
    from contextlib import nullcontext

    engine = Scripted()
    engine.stats = lambda: type("Stats", (), {"prefix_reuse": "none"})()
    with pytest.raises(BadInput, match="--prefix-reuse none"):
        serve(lambda: nullcontext((engine, {"m": CARD})), "127.0.0.1", 0, (), (), False, 1, 1, None, keeps=True)
