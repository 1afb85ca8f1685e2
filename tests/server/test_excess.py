"""More than anybody needs, and engines that end: one answer with a reason each, and the next request is served."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

from crane_app.engine.null import NullRunner
from crane_app.server.guard import Access
from tests.engine.nulls import VOCABULARY, engine, shelved, table
from tests.server.conftest import Serving, serving

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def served_as_ever(server: Serving) -> bool:
    return server.http.post(CHAT, json=HELLO).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"stop": [f"stop {i}" for i in range(10_000)]}, "stop", "10000"),
        ({"logit_bias": {str(i): 1 for i in range(150_000)}}, "logit_bias", "150000"),
        ({"stop_token_ids": list(range(100_000))}, "stop_token_ids", "100000"),
        ({"n": 17}, "n", "17"),
        ({"n": 16, "max_tokens": 10**12}, "max_tokens", ""),
        ({"guided_regex": "a" * 1_000_000}, "guided_regex", "1000000"),
        ({"guided_regex": "(" * 50_000 + "a" + ")" * 50_000}, "guided_regex", ""),
        ({"guided_choice": [f"choice {i}" for i in range(200_000)]}, "guided_choice", "131072"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("stream", [False, True])
def test_too_much_of_a_field_is_refused_and_named(tiny, fields, param, word, stream):
    got = tiny.http.post(CHAT, json={**HELLO, **fields, "stream": stream})
    assert (got.status_code, got.json()["error"]["param"]) == (400, param), got.text[:500]
    assert word in got.json()["error"]["message"].replace(",", "")
    assert served_as_ever(tiny)


@pytest.mark.parametrize(
    "regex", ["(a+)+b", "(a|a)*c", "(a|aa)+", "(.*)*x", "(((a{1,1000}){1,1000}){1,1000}){1,1000}", "(a?){500}a{500}"]
)
def test_a_regex_that_others_backtrack_over_for_ever(tiny, regex):
    """Kept or refused, either way with one answer."""
    got = tiny.http.post(CHAT, json={**HELLO, "guided_regex": regex, "max_tokens": 40})
    assert got.status_code in (200, 400), got.text
    if got.status_code == 200:
        assert got.json()["usage"]["completion_tokens"] <= 40
    assert served_as_ever(tiny)


def test_a_reader_that_takes_a_byte_at_a_time_gets_them_all(tiny):
    """While it reads, the others are served; what it gets is what a quick one gets."""
    body = json.dumps({**HELLO, "max_tokens": 60, "seed": 1, "stream": True, "ignore_eos": True}).encode()
    head = b"POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body))
    quick = tiny.http.post(CHAT, content=body).text
    with socket.create_connection(("127.0.0.1", tiny.port), timeout=30) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.sendall(head + body)
        found = b""
        while byte := slow.recv(1):
            found += byte
            if len(found) % 2000 == 1:
                assert served_as_ever(tiny)
    assert contents(found.split(b"\r\n\r\n", 1)[1].decode()) == contents(quick)
    assert found.endswith(b"data: [DONE]\n\n")


def contents(stream: str) -> str:
    frames = [json.loads(frame[6:]) for frame in stream.split("\n\n") if frame.startswith("data: {")]
    return "".join(choice["delta"].get("content", "") for frame in frames for choice in frame["choices"])


def test_a_key_cannot_end_what_another_key_asked_for_even_all_at_once(tiny_engine):
    held = {"prompt": "x", "max_tokens": 3000, "ignore_eos": True, "stream": True, "rid": "mine"}
    with (
        serving(tiny_engine, Access(("first", "second"))) as server,
        server.http.stream("POST", COMPLETIONS, json=held, headers={"x-api-key": "first"}) as got,
    ):
        lines = got.iter_lines()
        next(lines)
        other = {"x-api-key": "second"}
        assert server.http.post("/abort_request", json={"rid": "mine"}, headers=other).status_code == 404
        said = server.http.post("/abort_request", json={"abort_all": True}, headers=other).json()
        assert said["aborted"] == 0
        assert server.http.post(COMPLETIONS, json={**held, "max_tokens": 1}, headers=other).status_code == 400
        assert server.http.post("/abort_request", json={"rid": "mine"}, headers={"x-api-key": "first"}).json()[
            "aborted"
        ]
        assert "[DONE]" not in list(lines)[-2:]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_engines_thread_is_told_to_everybody():
    """Who streams has an error event as the last, who waits an error, who asks for health or more 503."""
    ends = threading.Event()

    def launch(works: Any) -> None:
        if ends.is_set():
            raise SystemExit("the thread ends")

    made = engine(shelved(NullRunner(table, VOCABULARY, on_launch=launch)))
    body = {"prompt": [3, 5, 7], "max_tokens": 4000, "ignore_eos": True}
    waited: list[Any] = []
    with serving(made, name="null") as server:
        assert server.http.get("/health").status_code == 200
        waits = threading.Thread(target=lambda: waited.append(server.http.post(COMPLETIONS, json=body)))
        waits.start()
        with server.http.stream("POST", COMPLETIONS, json={**body, "stream": True}) as got:
            lines = got.iter_lines()
            next(lines)
            ends.set()
            last = [line for line in lines if line][-1]
        waits.join(30)
        assert "error" in json.loads(last.removeprefix("data: "))
        assert waited[0].status_code >= 500
        assert server.http.get("/health").status_code == 503
        assert server.http.get("/ready").status_code == 503
        assert server.http.post(COMPLETIONS, json={**body, "max_tokens": 1}).status_code >= 500
    made.close(drain=False)
