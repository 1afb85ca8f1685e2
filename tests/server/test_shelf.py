"""Models that are loaded when they are asked for, and leave when nobody does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from crane_app.engine.request import End, Job, Part, Request, Stream, failed
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
    assert stocked.engine.loads == [("/other", "other", None, "auto", None, None, False, "auto")]
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


def gone(server: Serving, name: str, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while name not in server.engine.unloads and time.monotonic() < until:
        time.sleep(0.01)
    return name in server.engine.unloads


def test_a_model_that_nobody_asks_for_leaves_and_comes_back():
    """The server's own and those it has loaded; not those of other programs."""
    engine = Stocked()
    engine.cards = [*engine.cards, replace(CARD, name="theirs")]
    with serving(engine, limits=Limits(stock=Stock(stock, 0.1)), name="mine") as server:
        for model in ("mine", "other", "theirs"):
            assert ask(server, model).status_code == 200
        assert gone(server, "tiny")
        assert gone(server, "other")
        assert {model["id"] for model in server.http.get("/v1/models").json()["data"]} >= {"mine", "other", "theirs"}
        assert ask(server, "mine").json()["model"] == "mine"
        assert engine.loads[-1] == (CARD.folder, "tiny", CARD.backend, CARD.device, CARD.dtype, None, False, "auto")
        assert ask(server, "other").status_code == 200
        assert "theirs" not in engine.unloads


def test_a_model_at_work_stays():
    engine = Stocked()
    engine.events = (None, *said("Hi"))
    with serving(engine, limits=Limits(stock=Stock(None, 0.05))) as server:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(ask(server, "tiny").status_code))
        thread.start()
        while not engine.requests:
            time.sleep(0.01)
        assert not gone(server, "tiny", 0.3)
        engine.go.set()
        thread.join(10)
        assert found == [200]
        assert gone(server, "tiny")
