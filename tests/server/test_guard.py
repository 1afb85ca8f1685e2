"""Who may ask: this machine by its own name, pages that were let in, and who has a key."""

from __future__ import annotations

import socket

import pytest

from crane_app.server.guard import Access
from tests.server.conftest import serving
from tests.server.scripted import Scripted, said

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def plain():
    with serving(Scripted(*said("Hi"))) as server:
        yield server


@pytest.fixture(scope="module")
def locked():
    with serving(Scripted(*said("Hi")), Access(("first", "second"), ("https://mine.example",), False)) as server:
        yield server


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_this_machine_by_its_names(plain, host):
    assert plain.http.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "[::1", ""])
def test_a_name_that_only_points_here_is_refused(plain, host):
    """DNS rebinding: a page's own name comes to mean this machine."""
    got = plain.http.get("/v1/models", headers={"host": host})
    assert got.status_code in (400, 403)


def test_a_web_page_may_neither_read_nor_write(plain):
    headers = {"origin": "https://evil.example", "content-type": "text/plain"}
    got = plain.http.post("/v1/chat/completions", json=HELLO, headers=headers)
    assert got.status_code == 403
    assert "access-control-allow-origin" not in got.headers
    assert plain.http.options("/v1/models", headers=headers).status_code == 403
    assert not plain.engine.requests


def test_a_page_that_was_let_in(locked):
    origin = {"origin": "https://mine.example"}
    asked = {**origin, "access-control-request-headers": "authorization", "access-control-request-method": "POST"}
    got = locked.http.options("/v1/chat/completions", headers=asked)
    assert got.status_code == 204
    assert got.headers["access-control-allow-origin"] == "https://mine.example"
    assert got.headers["access-control-allow-headers"] == "authorization"
    got = locked.http.post("/v1/chat/completions", json=HELLO, headers={**origin, "x-api-key": "first"})
    assert got.headers["access-control-allow-origin"] == "https://mine.example"
    assert locked.http.get("/v1/models", headers=origin).headers["access-control-allow-origin"]
    assert locked.http.get("/v1/models", headers={"origin": "https://other.example"}).status_code == 403


def test_a_key_opens(locked):
    assert [model.id for model in locked.openai("second").models.list()] == ["tiny"]
    assert locked.http.get("/v1/models", headers={"x-api-key": "first"}).status_code == 200
    assert locked.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "first"}, {"x-api-key": ""}, {"x-api-key": "firs\u00e9"}],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/nothing", "/ready"])
def test_nothing_opens_without_one(locked, headers, path):
    raw = {name: value.encode() for name, value in headers.items()}
    got = locked.http.get(path, headers=raw)
    assert got.status_code == 401
    assert got.json()["error"]["type"] == "authentication_error"
    assert got.headers["www-authenticate"] == "Bearer"


def test_paths_may_end_in_a_slash(plain):
    assert plain.http.get("/v1/models/").json() == plain.http.get("/v1/models").json()
    assert plain.http.get("/v1/models/tiny").json()["id"] == "tiny"
    assert plain.http.get("/v1/models/other").status_code == 404


def test_what_is_not_there_is_said_in_the_same_form(plain):
    assert plain.http.get("/nowhere").json()["error"]["type"] == "invalid_request_error"
    got = plain.http.get("/v1/chat/completions")
    assert got.status_code == 405
    assert "does not take GET" in got.json()["error"]["message"]


def said_raw(port: int, text: bytes, hang_up: bool = False) -> bytes:
    """What comes back on a socket until it is closed; hang_up: end our side after the text."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(text)
        if hang_up:
            sock.shutdown(socket.SHUT_WR)
        found = b""
        while part := sock.recv(65536):
            found += part
        return found


def test_http_1_0_without_a_host(plain):
    assert said_raw(plain.port, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
    body = b'{"messages":[{"role":"user","content":"x"}],"stream":true}'
    head = b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert said_raw(plain.port, head + body).endswith(b"data: [DONE]\n\n")


def test_a_websocket_is_turned_away(plain):
    head = b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
    keys = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert said_raw(plain.port, head + keys).split()[1] in (b"400", b"403", b"404", b"426")
