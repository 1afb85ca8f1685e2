"""Models that are loaded when they are asked for, and leave when nobody does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from crane_app.engine.request import End, Holding, Job, Part, Parting, Request, Stats, Stream, failed
from crane_app.errors import BadCheckpoint, ModelNotFound
from crane_app.server.service import Limits
from crane_app.server.shelf import Stock, Stored
from tests.server.conftest import Serving, serving
from tests.server.scripted import CARD, Scripted, said
from tests.server.test_chat import HELLO


class Stocked(Scripted):
    """Loads by name; a model that is not loaded answers nothing."""

    def __init__(self) -> None:
        super().__init__(*said("Hi"))
        self.loads: list[tuple[Any, ...]] = []
        self.unloads: list[str] = []
        self.slowly = threading.Event()
        self.slowly.set()

    def load(self, *given: Any) -> Stream:
        self.loads.append(given)
        folder, name, *_ = given
        if folder == "/broken":
            return self._start([failed(BadCheckpoint("The file is damaged."))])
        card = replace(CARD, name=name, folder=folder)
        stream = Stream(f"load{len(self.loads)}", lambda: None)

        def play() -> None:
            self.slowly.wait(5)
            self.cards = [*self.cards, card]
            stream.put(Part(card))
            stream.put(End("stop"))

        threading.Thread(target=play, daemon=True).start()
        return stream

    def unload(self, name: str) -> None:
        self.unloads.append(name)
        self.cards = [card for card in self.cards if card.name != name]

    def submit(self, request: Request) -> Stream:
        if request.model not in {card.name for card in self.cards}:
            return self._start([failed(ModelNotFound(request.model))])
        return super().submit(request)

    def open(self, job: Job) -> Stream:
        assert job.model in {card.name for card in self.cards}
        return super().open(job)


def stock() -> dict[str, Stored]:
    return {"other": Stored("/other", 512), "broken": Stored("/broken")}


@pytest.fixture
def stocked() -> Iterator[Serving]:
    with serving(Stocked(), limits=Limits(stock=Stock(stock))) as server:
        yield server


def ask(server: Serving, model: str | None) -> Any:
    return server.http.post("/v1/chat/completions", json={"model": model, "messages": HELLO})


def test_a_model_on_disk_is_listed_and_loaded_when_it_is_asked_for(stocked):
    listed = {model["id"]: model for model in stocked.http.get("/v1/models").json()["data"]}
    assert set(listed) == {"tiny", "other", "broken"}
    assert (listed["other"]["loaded"], listed["other"]["max_model_len"]) == (False, 512)
    assert stocked.http.get("/v1/models/other").json() == listed["other"]
    assert stocked.engine.loads == []
    assert ask(stocked, "other").json()["model"] == "other"
    assert ask(stocked, "other").json()["choices"][0]["message"]["content"] == "Hi"
    assert stocked.engine.loads == [("/other", "other", None, "auto", None, None, False, "auto", None)]
    assert "loaded" not in stocked.http.get("/v1/models/other").json()
    assert ask(stocked, None).json()["model"] == "tiny"


def test_many_who_ask_at_once_load_it_once(stocked):
    stocked.engine.slowly.clear()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(stocked, "other").status_code)) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert stocked.http.get("/health").status_code == 200
    stocked.engine.slowly.set()
    for thread in threads:
        thread.join(10)
    assert answers == [200] * 5
    assert len(stocked.engine.loads) == 1


def test_what_cannot_be_loaded_says_why(stocked):
    got = ask(stocked, "broken")
    assert (got.status_code, got.json()["error"]["code"]) == (503, "not_loaded")
    assert "damaged" in got.json()["error"]["message"]


def test_what_is_nowhere_is_404_with_the_list(stocked):
    got = ask(stocked, "nowhere")
    assert got.status_code == 404
    assert "tiny, other, broken" in got.json()["error"]["message"]


def test_nothing_is_loaded_where_it_is_not_allowed():
    with serving(Stocked()) as server:
        assert ask(server, "other").status_code == 404
        assert server.engine.loads == []
        assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["tiny"]


def test_the_engine_is_told_how_long_a_model_that_was_loaded_stays():
    """Those of the server's own loading; not those of other programs."""
    engine = Stocked()
    engine.cards = [*engine.cards, replace(CARD, name="theirs")]
    with serving(engine, limits=Limits(stock=Stock(stock, 60.0, frozenset({"other"})))) as server:
        for model in ("tiny", "other", "theirs"):
            assert ask(server, model).status_code == 200
        assert engine.wishes == [("other", 60.0), ("other", True)]


def test_a_model_that_was_let_go_is_listed_and_loaded_again():
    """Its own by the engine, which knows how it was loaded; one of the disk by its name."""
    engine = Stocked()
    with serving(engine, limits=Limits(stock=Stock(stock))) as server:
        assert ask(server, "other").status_code == 200
        engine.cards = []
        assert {model["id"] for model in server.http.get("/v1/models").json()["data"]} >= {"tiny"}
        deadline = time.monotonic() + 10
        while len(engine.loads) < 2 and time.monotonic() < deadline:
            ask(server, "other")
        assert engine.loads[1][:2] == ("/other", "other")


def test_ollama_says_how_long_a_model_stays():
    engine = Stocked()
    with serving(engine, limits=Limits(stock=Stock(stock))) as server:

        def kept(value: Any, **more: Any) -> Any:
            body = {"model": "tiny", "prompt": "x", "stream": False, "keep_alive": value, **more}
            return server.http.post("/api/generate", json=body)

        for value, seconds in ((300, 300), ("5m", 300), ("1h30m", 5400), ("10", 10), (0, 0), (-1, inf), ("-1m", inf)):
            assert kept(value).status_code == 200, value
            assert engine.requests[-1].keep == seconds
        for value in (True, "soon", [], "5 m", 1e300, "nan"):
            assert kept(value).status_code == 400, value
        assert (
            server.http.post("/api/generate", json={"model": "tiny", "prompt": "x", "stream": False}).status_code == 200
        )
        assert engine.requests[-1].keep is None


def test_ollama_loads_and_gives_back_without_a_question():
    engine = Stocked()
    with serving(engine, limits=Limits(stock=Stock(stock))) as server:
        engine.cards = []
        body = {"model": "tiny", "keep_alive": "5m"}
        assert server.http.post("/api/generate", json=body).json()["done_reason"] == "load"
        assert [card.name for card in engine.cards] == ["tiny"]
        assert server.http.post("/api/chat", json={**body, "keep_alive": 0}).json()["done_reason"] == "unload"
        assert engine.wishes == [("tiny", 300.0), ("tiny", 0.0)]


def test_the_table_of_what_is_loaded_is_in_the_figures():
    engine = Stocked()
    held = Holding("tiny", "text", "cpu", 1000, 20, 1.5, None, True, False)
    gone = (Parting("b", 9, "tiny", 2.0),)
    engine.stats = lambda: Stats(
        "idle", 0, 0, 1, 1000, 20, 0, 0, 0.0, 1, held=(held,), gone=gone, store_problem="Full."
    )
    with serving(engine) as server:
        told = server.http.get("/v1/stats").json()["engine"]
    assert told["held"] == [
        {"name": "tiny", "job": "text", "device": "cpu", "bytes": 1000, "kv_bytes": 20, "idle_s": 1.5, "keep_s": None,
         "pinned": True, "busy": False}
    ]  # fmt: skip
    assert told["store_problem"] == "Full."
    assert told["gone"] == [{"name": "b", "bytes": 9, "room_for": "tiny", "ago_s": 2.0}]
