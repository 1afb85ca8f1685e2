"""Many clients, some of whom leave: every answer is its own, nobody is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import socket
import threading
import time
from typing import Any

import httpx
import pytest

from crane_app.engine.engine import Engine
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, Request, Stream
from crane_app.server.guard import Access
from crane_app.server.service import Limits
from tests.engine.nulls import VOCABULARY, alone, engine, resolved, shelved, table
from tests.server.conftest import Serving, serving

TOKENS = 60


@pytest.fixture
def nulls():
    made: Engine = engine(shelved(NullRunner(table, VOCABULARY)))
    with serving(made, name="null") as server:
        yield server
    made.close(drain=False)


def body(number: int, tokens: int = TOKENS, stream: bool = False) -> dict[str, Any]:
    return {"prompt": [number % 90 + 1, 5, 7], "max_tokens": tokens, "stream": stream}


def expected(number: int) -> str:
    return alone([number % 90 + 1, 5, 7], resolved(TOKENS))[1]


def streams_left() -> int:
    """Requests that something still holds on to, after they have ended."""
    gc.collect()
    return sum(isinstance(each, Stream) for each in gc.get_objects())


def empty(server: Serving, seconds: float = 10.0) -> bool:
    """Whether nothing is under way any more: no row, no seat; and, kept beginnings dropped, no byte of the cache."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stats = server.http.get("/v1/stats").json()
        if not any((stats["active_sequences"], stats["waiting_sequences"])):
            server.http.post("/flush_cache")
            if not server.http.get("/v1/stats").json()["engine"]["kv_bytes"]:
                return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("clients", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_many_clients_on_sixteen_seats(nulls, files, clients):
    """Streams and whole answers mixed: each is word for word what it would be alone."""
    before = streams_left()

    async def one(client: httpx.AsyncClient, number: int) -> str:
        got = await client.post("/v1/completions", json=body(number, stream=number % 2 == 0))
        assert got.status_code == 200, got.text
        if number % 2:
            return got.json()["choices"][0]["text"]
        frames = [frame.removeprefix("data: ") for frame in got.text.split("\n\n") if frame.startswith("data")]
        return "".join(json.loads(frame)["choices"][0]["text"] for frame in frames[:-1])

    async def all_of_them() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=nulls.url, timeout=600, limits=limits) as client:
            return await asyncio.gather(*(one(client, number) for number in range(clients)))

    assert asyncio.run(all_of_them()) == [expected(number) for number in range(clients)]
    assert empty(nulls)
    assert streams_left() <= before


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_a_hundred_hang_up_at_any_moment(nulls, files, times):
    """Before it is admitted, under way, at the end; the next one is served as ever."""
    before = streams_left()
    chance = random.Random(7)

    async def one(client: httpx.AsyncClient, number: int) -> None:
        try:
            async with asyncio.timeout(chance.random() * 0.2):
                async with client.stream("POST", "/v1/completions", json=body(number, 4000, number % 3 > 0)) as got:
                    async for _ in got.aiter_raw():
                        pass
        except TimeoutError:
            pass

    async def all_of_them() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=nulls.url, timeout=60, limits=limits) as client:
            await asyncio.gather(*(one(client, number) for number in range(100)))

    for _ in range(times):
        asyncio.run(all_of_them())
        assert empty(nulls)
    assert streams_left() <= before
    assert nulls.http.post("/v1/completions", json=body(1)).json()["choices"][0]["text"] == expected(1)


def test_too_many_are_told_to_come_again():
    made = engine(shelved(NullRunner(table, VOCABULARY, on_launch=lambda works: time.sleep(0.002))))
    try:
        with serving(made, limits=Limits(1), name="null") as server:
            answers = server_answers(server)
            answers.gate.longest = 2
            codes: list[int] = []

            def post(number: int) -> None:
                got = server.http.post("/v1/completions", json={**body(number), "ignore_eos": True})
                codes.append(got.status_code)
                if got.status_code == 429:
                    assert got.headers["retry-after"] == "1"

            threads = [threading.Thread(target=post, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert codes.count(200) >= 3
            assert codes.count(429) == 8 - codes.count(200) > 0
            assert empty(server)
    finally:
        made.close(drain=False)


def server_answers(server: Serving) -> Any:
    return server.app.service.answers


def test_a_slow_reader_keeps_nobody_waiting(nulls):
    with socket.create_connection(("127.0.0.1", nulls.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        data = json.dumps({**body(3, 3500, True), "ignore_eos": True}).encode()
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        slow.recv(1)
        assert nulls.http.post("/v1/completions", json=body(1)).json()["choices"][0]["text"] == expected(1)
    assert empty(nulls)


def test_a_key_is_not_told_what_was_asked_with_another():
    """What it finds computed is of its own prompts alone, and the window's are nobody's on the net."""
    made = engine(shelved(NullRunner(table, VOCABULARY)))
    prompt = (7,) * 600
    for _ in made.submit(Request("null", tokens=prompt, asked=Asked(max_tokens=3))):
        pass

    def cached(key: str) -> int:
        got = server.http.post(
            "/v1/completions", json={"prompt": list(prompt), "max_tokens": 3}, headers={"x-api-key": key}
        )
        return got.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    try:
        with serving(made, Access(("first", "second")), name="null") as server:
            assert [cached(key) for key in ("first", "first", "second", "second")] == [0, 512, 0, 512]
    finally:
        made.close(drain=False)


def test_a_reply_does_not_depend_on_the_others(backend_name, tmp_path):
    """Thirty-two at once, streamed and not, greedy and drawn, short and long: each as it is alone, in float32."""
    from tests.chat_checkpoint import write_chat
    from tests.server.conftest import loaded

    made = Engine()
    loaded(made, write_chat(tmp_path / "tiny"), backend=backend_name)

    def asked(number: int) -> dict[str, Any]:
        return {
            "prompt": [(number * 7 + i) % 190 + 5 for i in range(number * 11 % 300 + 1)],
            "max_tokens": 5 + number % 13,
            "temperature": [0.0, 1.0][number % 2],
            "seed": number,
            "repetition_penalty": [1.0, 1.2][number // 2 % 2],
        }

    async def one(client: httpx.AsyncClient, number: int) -> list[int]:
        """Token ids, which say more than texts."""
        said = asked(number)
        body = {"input_ids": said.pop("prompt"), "sampling_params": {"max_new_tokens": said.pop("max_tokens"), **said}}
        got = await client.post("/generate", json={**body, "stream": number % 3 == 0})
        last = got.text.split("\n\n")[-3].removeprefix("data: ") if number % 3 == 0 else got.text
        return json.loads(last)["output_ids"]

    async def together(server: Serving) -> tuple[list[list[int]], list[list[int]]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            solo = [await one(client, number) for number in range(32)]
            return solo, await asyncio.gather(*(one(client, number) for number in range(32)))

    try:
        with serving(made, limits=Limits(32)) as server:
            solo, crowd = asyncio.run(together(server))
    finally:
        made.close(drain=False)
    assert crowd == solo
    assert len({tuple(ids) for ids in solo}) > 20
