"""What is said arrives as it was said, and what is no message is refused."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.contract import Drawn
from crane_app.engine.process.link import Gone, Link
from crane_app.engine.process.protocol import (
    ANSWERS,
    ASKS,
    FRAME,
    HEADER,
    LONG,
    MAGIC,
    PREFIX,
    Message,
    ProtocolError,
    encode,
)
from crane_app.engine.request import (
    Asked,
    End,
    Grammar,
    Job,
    ModelCard,
    Part,
    Piece,
    Progress,
    Request,
    Stats,
    Usage,
    error_of,
    failed,
)
from crane_app.errors import BadInput, NotEnoughMemory

KINDS = {**ASKS, **ANSWERS}
CARD = ModelCard("m", "/x", "Qwen3", "torch", "cpu", "float32", 4096, 100, 1 << 40, True, False, (1, 2), ("a note",))
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates, NUL and all
ASKED = st.builds(
    Asked,
    temperature=st.none() | st.floats(allow_nan=False),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 10), st.floats(allow_nan=False)),
    seed=st.none() | st.integers(0, 2**64),
    stop=st.none() | st.lists(TEXT).map(tuple),
    n=st.none() | st.integers(),
)
REQUESTS = st.builds(
    Request,
    model=TEXT,
    tokens=st.none() | st.lists(st.integers(0, 2**40)).map(tuple),
    text=st.none() | TEXT,
    messages=st.none() | st.lists(st.dictionaries(TEXT, TEXT)).map(tuple),
    template=st.dictionaries(TEXT, st.booleans() | TEXT),
    asked=ASKED,
    deadline=st.none() | st.floats(0, 1e9),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT | st.just("$"), inner, max_size=4)
        | st.dictionaries(st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


def pass_on(kind: str, **said: Any) -> Message:
    """The message as the other side reads it."""
    return read(b"".join(encode(kind, 7, **said).parts))


def read(raw: bytes, limit: int | None = None) -> Message:
    near, far = socket.socketpair()
    far.settimeout(5)
    link = Link(far)
    try:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
        near.sendall(raw)
        near.close()
        return link.read(KINDS, limit)
    finally:
        link.close()


def frame(header: bytes, body: bytes = b"") -> bytes:
    return PREFIX.pack(MAGIC, len(header), len(body)) + header + body


@given(REQUESTS)
def test_a_request_arrives_as_it_was_sent(request_: Request):
    message = pass_on("submit", request=request_)
    assert (message.kind, message.id, message.fields) == ("submit", 7, {"request": request_})


@given(PLAIN)
def test_plain_data_arrives_as_it_was_sent(value: Any):
    arrived = pass_on("open", job=Job("k", value)).fields["job"].inputs
    assert repr(arrived) == repr(value)  # -0.0 and the types, too


@pytest.mark.parametrize(
    "event",
    [
        Piece("hé", (1, 2), 3, (Drawn(1, -0.5, ((1, -0.5), (2, -1.5))), Drawn(2)), "stop"),
        Progress(1, 1 << 40, "reading"),
        Part("text"),
        Part(CARD),
        Part(b"\x00\xff"),
        Part({"boxes": [(0, 1.5)], "nested": {"deep": (None, True)}}),
        End("length", Usage(1, 2, 3, 0.1, 0.2, 0.3, 2**63)),
        End("error", error="No memory.", kind="NotEnoughMemory"),
    ],
)
def test_every_event_arrives_as_it_was_sent(event: Any):
    assert pass_on("event", event=event).fields["event"] == event


def test_models_and_stats_arrive_as_they_were_sent():
    stats = Stats("idle", 1, 2, 3, 4, 5, 6, 7, 0.5, 8)
    assert pass_on("reply", value=[CARD, CARD]).fields["value"] == [CARD, CARD]
    assert pass_on("reply", value=stats).fields["value"] == stats


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64", "complex64", ">f4"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (4, 5, 3)])
def test_an_array_arrives_with_its_type_and_shape(dtype: str, shape: tuple[int, ...]):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    arrived = pass_on("event", event=Part(array)).fields["event"].value
    assert arrived.dtype == array.dtype
    assert arrived.shape == shape
    np.testing.assert_array_equal(arrived, array)
    assert arrived.flags.writeable


def test_an_array_that_is_not_in_one_piece_arrives():
    array = np.arange(24, dtype=np.int32).reshape(4, 6)[::2, ::-1].T
    np.testing.assert_array_equal(pass_on("event", event=Part({"a": array})).fields["event"].value["a"], array)


def test_numbers_of_numpy_become_numbers():
    assert pass_on("event", event=Piece("", (np.int32(5),))).fields["event"] == Piece("", (5,))
    assert pass_on("reply", value=np.float32(0.5)).fields["value"] == 0.5


def test_long_texts_and_lists_travel_outside_the_header():
    request = Request("m", tokens=tuple(range(LONG)), text="\ud800" * LONG)
    sent = encode("submit", 1, request=request)
    assert len(sent.parts) == 3
    assert len(sent.parts[0]) < 1000
    assert pass_on("submit", request=request).fields["request"] == request


def test_a_grammar_travels_with_its_request():
    request = Request("m", text="Hi", asked=Asked(grammar=Grammar("regex", "é" * LONG, "open", "response_format")))
    assert pass_on("submit", request=request).fields["request"] == request


def test_an_error_arrives_as_its_own_class():
    error = error_of(pass_on("failed", end=failed(NotEnoughMemory("Too big."))).fields["end"])
    assert type(error) is NotEnoughMemory
    assert str(error) == "Too big."


def recursive() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "make",
    [
        lambda: object(),
        lambda: np.array([object()]),
        lambda: np.array(["text"]),
        lambda: np.zeros(2, [("a", "i4")]),
        lambda: {1, 2},
        lambda: 10**5000,
        recursive,
        lambda: np.empty(FRAME + 1, np.uint8),
    ],
)
def test_what_cannot_travel_is_refused_with_a_sentence(make: Callable[[], Any]):
    with pytest.raises(BadInput, match="engine"):
        encode("open", 1, job=Job("k", make()))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unheard", {}),
        ("submit", {}),
        ("submit", {"request": None}),
        ("submit", {"request": {"$": "Request", "v": ["m"]}}),
        ("submit", {"request": {"$": "Job", "v": ["k", None, {}, None, "chat", ""]}}),
        ("submit", {"request": {"$": "Request", "v": [5, None, None, None, {}, None, "", "", "", None]}}),
        ("cancel", {"extra": 1}),
        ("credit", {"nbytes": True}),
        ("load", {"folder": "x", "name": 5, "backend": None, "device": "", "dtype": None}),
        ("reply", {"value": {"$": "os.system", "v": ["ls"]}}),
        ("reply", {"value": {"$": "bytes", "i": 0}}),
        ("reply", {"value": {"$": "bytes", "i": -1}}),
        ("reply", {"value": {"$": "array", "i": 0, "d": "O", "s": [1]}}),
        ("reply", {"value": {"$": "pairs", "v": [[[], 1]]}}),
        ("reply", {"value": {"$": "pairs", "v": [1]}}),
        ("reply", {"value": {"$": []}}),
        ("event", {"event": "text"}),
    ],
)
def test_a_message_of_the_wrong_form_is_refused(kind: str, said: dict[str, Any]):
    with pytest.raises(ProtocolError):
        read(frame(json.dumps([kind, 1, said, []]).encode()))


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("<f4", [3]),
        ("<f4", [-1]),
        ("<f4", ["1"]),
        ("<f4", [2**70, 0]),
        ("|O", [1]),
        ("V8", [1]),
        ("<f9", [1]),
        (5, [1]),
    ],
)
def test_an_array_that_its_bytes_do_not_fill_is_refused(dtype: Any, shape: list[Any]):
    said = {"value": {"$": "array", "i": 0, "d": dtype, "s": shape}}
    with pytest.raises(ProtocolError):
        read(frame(json.dumps(["reply", 1, said, [8]]).encode(), bytes(8)))


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        PREFIX.pack(MAGIC, HEADER + 1, 0),
        PREFIX.pack(MAGIC, 10, FRAME),
        PREFIX.pack(MAGIC, 10, 2**64 - 1),
        frame(b"not json"),
        frame(b"\xff\xfe"),
        frame(b"[" * 200_000),
        frame(b"[" * 900 + b"]" * 900),
        frame(b'["reply", 1, {"value": ' + b"9" * 10_000 + b"}, []]"),
        frame(b'["stats", 1, {}, [5]]'),
        frame(b'["stats", 1, {}, [-1, 1]]'),
        frame(b'["stats", 1.5, {}, []]'),
        frame(b'["stats", 1, {}]'),
        frame(b"{}"),
    ],
)
def test_what_is_no_frame_is_refused(raw: bytes):
    with pytest.raises(ProtocolError):
        read(raw)


@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_a_message_an_error_or_an_end(raw: bytes):
    with pytest.raises((ProtocolError, Gone)):
        read(raw)


@given(st.data())
def test_a_message_with_some_bytes_changed_harms_nobody(data: st.DataObject):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = {"a": array, "t": (1, b"xyz"), "m": {1: 2.5}}
    raw = bytearray(b"".join(encode("open", 3, job=Job("k", inputs)).parts))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError, Gone):
        assert read(bytes(raw)).kind in KINDS
