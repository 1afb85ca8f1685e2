"""Bodies that are no JSON, too much of it, or a lie: each one answer, and the next request is served."""

from __future__ import annotations

import json
import socket

import pytest

from tests.server.conftest import serving
from tests.server.scripted import Scripted, said
from tests.server.test_guard import said_raw

GOOD = b'{"messages": [{"role": "user", "content": "x"}]}'


@pytest.fixture(scope="module")
def plain():
    with serving(Scripted(*said("Hi"))) as server:
        yield server
        assert server.http.post("/v1/chat/completions", content=GOOD).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"temperature": NaN}', b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}', b'{"model": "a", "model": "b"}', b'{"messages": [{"role": "user", "role": "x"}]}',
        b"[" * 100_000, b'{"a":' * 50_000, b'{"n": ' + b"9" * 5000 + b"}", b"{'model': 'x'}",
    ],
    ids=lambda body: str(body[:20]),
)  # fmt: skip
def test_what_is_no_json_object_is_400(plain, body):
    got = plain.http.post("/v1/chat/completions", content=body)
    assert got.status_code == 400
    assert got.json()["error"]["type"] == "invalid_request_error"


def test_a_byte_order_mark_is_no_harm(plain):
    assert plain.http.post("/v1/chat/completions", content=b"\xef\xbb\xbf" + GOOD).status_code == 200


def test_more_than_32_mib_is_413(plain):
    """Whether or not the length is said beforehand."""
    large = b"x" * ((32 << 20) + 1)
    assert plain.http.post("/v1/chat/completions", content=large).status_code == 413
    assert plain.http.post("/v1/chat/completions", content=iter([large])).status_code == 413


def test_a_length_that_lies(plain):
    """Too long: the client hangs up before the rest. Too short: the rest is no request. Neither is a number."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %s\r\n\r\n"
    before = len(plain.engine.requests)
    said_raw(plain.port, head % b"1000" + GOOD, hang_up=True)
    assert b" 400 " in said_raw(plain.port, head % b"5" + GOOD)[:20]
    assert b" 400 " in said_raw(plain.port, head % b"-1" + GOOD)[:20]
    assert b" 400 " in said_raw(plain.port, head % b"many" + GOOD)[:20]
    assert b" 413 " in said_raw(plain.port, head % b"99999999999" + GOOD)[:20]
    assert len(plain.engine.requests) == before


def test_a_long_list_of_messages(plain):
    body = json.dumps({"messages": [{"role": "user", "content": "x"}] * 10_001})
    assert plain.http.post("/v1/chat/completions", content=body).status_code == 400


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.soak)])
def test_sockets_that_say_nothing_keep_nobody_waiting(plain, files, count):
    begun = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    idle = [socket.create_connection(("127.0.0.1", plain.port)) for _ in range(count)]
    for number, sock in enumerate(idle):
        sock.sendall(begun[: number % len(begun) + 1])
    assert plain.http.post("/v1/chat/completions", content=GOOD).status_code == 200
    for sock in idle:
        sock.close()
