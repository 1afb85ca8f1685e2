"""Short of memory and full of clients: every reply is the one it is alone, to the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from crane_app.contract import BLOCK
from crane_app.engine.engine import Engine
from crane_app.server.service import Limits
from tests.chat_checkpoint import write_chat
from tests.server.conftest import Serving, loaded, serving

ROWS = 4  # that fit into memory, until they grow
POSITION = 2 * 3 * 2 * 32 * 4  # bytes of the tiny model: keys and values, layers, groups, their size, float32


@pytest.fixture
def short_of_memory(backend_name: str, tmp_path: Any) -> Iterator[Serving]:
    """A server whose cache holds four rows of two blocks; each row asked for grows to more."""
    folder = write_chat(tmp_path / "tiny")
    first = Engine()
    weights = loaded(first, folder, backend_name).nbytes
    first.close(drain=False)
    made = Engine(memory_limit=f"{(weights + 2 * ROWS * BLOCK * POSITION) // 1024 + 1}K", threads=1)
    try:
        loaded(made, folder, backend_name)
        with serving(made, limits=Limits(32)) as server:
            yield server
    finally:
        made.close(drain=False)


def asked(number: int) -> dict[str, Any]:
    """Prompts of nearly a block and answers of more than one: two blocks at first, three at the end."""
    sampling = {
        "max_new_tokens": 265 + number % 7,
        "ignore_eos": True,
        "temperature": [0.0, 1.0][number % 2],
        "sampling_seed": number,
        "repetition_penalty": [1.0, 1.2][number // 2 % 2],
    }
    return {
        "input_ids": [(number * 7 + i) % 190 + 5 for i in range(248 + number % 8)],
        "sampling_params": sampling,
        "stream": number % 4 > 1,
    }


async def ids(client: httpx.AsyncClient, number: int) -> list[int]:
    """Token ids, which say more than texts."""
    got = await client.post("/generate", json=asked(number))
    assert got.status_code == 200, got.text
    said = got.text.split("\n\n")[-3].removeprefix("data: ") if asked(number)["stream"] else got.text
    found: list[int] = json.loads(said)["output_ids"]
    return found


def evictions(server: Serving) -> int:
    count: int = server.http.get("/v1/stats").json()["engine"]["evictions"]
    return count


@pytest.mark.parametrize("clients", [8, pytest.param(32, marks=pytest.mark.soak)])
def test_whoever_gives_way_answers_as_if_alone(short_of_memory, clients):
    async def together() -> tuple[list[list[int]], list[list[int]], int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=short_of_memory.url, timeout=600, limits=limits) as client:
            solo = [await ids(client, number) for number in range(clients)]
            before = evictions(short_of_memory)
            return solo, await asyncio.gather(*(ids(client, number) for number in range(clients))), before

    solo, crowd, before = asyncio.run(together())
    assert before == 0, "alone nobody gives way"
    assert crowd == solo
    assert [len(one) for one in solo] == [
        asked(number)["sampling_params"]["max_new_tokens"] for number in range(clients)
    ]
    assert len({tuple(one) for one in solo}) == clients
    assert evictions(short_of_memory) > 0
    assert f"crane_num_preemptions_total {evictions(short_of_memory)}" in short_of_memory.http.get("/metrics").text


def test_choices_that_together_are_more_than_memory_holds(short_of_memory):
    """Five of more than a block each, where four begin: all are made, each as it is where memory is no matter."""
    body = {"prompt": asked(1)["input_ids"], "max_tokens": 270, "ignore_eos": True, "temperature": 1.0, "seed": 3}

    def texts(n: int) -> list[str]:
        got = short_of_memory.http.post("/v1/completions", json={**body, "n": n}, timeout=600).json()
        assert got["usage"]["completion_tokens"] == n * 270
        return [choice["text"] for choice in got["choices"]]

    few, many = texts(2), texts(5)
    assert many[:2] == few
    assert len(set(many)) == 5
    assert evictions(short_of_memory) > 0


def test_a_prompt_that_memory_never_holds_is_refused_with_both_counts(short_of_memory):
    got = short_of_memory.http.post("/v1/completions", json={"prompt": [5] * 2500, "max_tokens": 8})
    assert got.status_code in (400, 413, 503)
    assert "2500" in got.json()["error"]["message"]
    assert str(2 * ROWS * BLOCK) in got.json()["error"]["message"]
