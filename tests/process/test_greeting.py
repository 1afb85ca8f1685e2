"""Who does not know the key hears nothing and is not heard."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from crane_app.engine.process.link import STRANGER, Gone, Link, Peer, Refused, greet_client, greet_engine
from crane_app.engine.process.protocol import GREETINGS, ProtocolError, encode

KEY, OTHER = b"k" * 32, b"o" * 32
ENGINE = Peer(1, "1.0", "boot")


def greet(client_key: bytes, client_version: str = "1.0") -> tuple[Peer | Exception, Peer | Exception]:
    """What the client learns, and what the engine does."""
    ends = [Link(end) for end in socket.socketpair()]
    told: list[Peer | Exception] = []

    def engine() -> None:
        try:
            told.append(greet_client(ends[1], KEY, ENGINE))
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=engine)
    thread.start()
    try:
        learned: Peer | Exception = greet_engine(ends[0], client_key, client_version)
    except Exception as error:
        learned = error
    thread.join(5)
    for end in ends:
        end.close()
    return learned, told[0]


def test_both_sides_learn_who_the_other_is():
    assert greet(KEY) == (ENGINE, Peer(os.getpid(), "1.0"))


def test_a_client_with_another_key_is_refused():
    learned, told = greet(OTHER)
    assert isinstance(learned, Refused)
    assert isinstance(told, Refused)
    assert "key" in str(learned)


def test_another_version_is_told_which_this_is_and_let_go():
    learned, told = greet(KEY, "0.9")
    assert learned == ENGINE
    assert isinstance(told, Refused)
    assert "0.9" in str(told)


def test_an_engine_that_does_not_know_the_key_is_found_out():
    near, far = (Link(end) for end in socket.socketpair())

    def impostor() -> None:
        far.write([encode("challenge", nonce=b"n" * 32)])
        heard = far.read(GREETINGS).fields
        # The best that it can do is to send the client's own proof back.
        far.write([encode("welcome", mac=heard["mac"], version="1.0", pid=1, boot="b")])

    thread = threading.Thread(target=impostor)
    thread.start()
    with pytest.raises(Refused, match="not the engine"):
        greet_engine(near, KEY, "1.0")
    thread.join(5)
    near.close()
    far.close()


def test_a_stranger_cannot_make_the_engine_take_much():
    near, far = (Link(end) for end in socket.socketpair())
    near.write([encode("proof", nonce=b"n" * STRANGER, mac=b"", version="", pid=1)])
    with pytest.raises(ProtocolError, match="more than"):
        greet_client(far, KEY, ENGINE)
    near.close()
    far.close()


def test_a_stranger_who_says_nothing_is_not_waited_for():
    near, far = (Link(end) for end in socket.socketpair())
    far.patience(0.05)
    with pytest.raises(Gone):
        greet_client(far, KEY, ENGINE)
    near.close()
    far.close()
