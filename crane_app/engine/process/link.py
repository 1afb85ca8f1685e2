"""One end of a connection: frames in, frames out, and the greeting by which both sides prove that they know the key.

One thread may read and another write; `close` may come from any.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crane_app.engine.process.protocol import (
    GREETINGS,
    HEADER,
    PREFIX,
    Frame,
    Message,
    ProtocolError,
    decode,
    encode,
    open_header,
    sizes,
)
from crane_app.errors import CraneError

STRANGER = 1 << 12  # bytes of a frame that are taken before the other side has proved the key
CHUNK = 1 << 20  # bytes written at once: between two, `busy_since` moves on
JOIN = 1 << 16  # smaller buffers are copied together and cost one call


class Refused(CraneError):
    """The other side does not know the key, or does not take us."""


class Gone(Exception):
    """The other side has closed the connection."""


class Silent(Gone):
    """The other side has said nothing for as long as we had patience."""


@dataclass(frozen=True)
class Peer:
    """Who is on the other side. boot: differs between any two starts of an engine; empty for a client."""

    pid: int
    version: str
    boot: str = ""


class Link:
    """Frames over a connected socket."""

    def __init__(self, sock: socket.socket):
        self._socket = sock
        self._reader = io.BufferedReader(sock.makefile("rb", buffering=0), CHUNK // 4)
        self.busy_since: float | None = None  # since when a write has not moved on; None: nothing is being written

    def read(self, known: Mapping[str, dict[str, Any]], limit: int | None = None) -> Message:
        """The next message; Gone at the end, ProtocolError for what is none."""
        prefix = self._bytes(PREFIX.size)
        header, body = sizes(prefix) if limit is None else sizes(prefix, limit)
        said, lengths = open_header(self._bytes(min(header, HEADER)), body)
        buffers = [self._buffer(length) for length in lengths]
        return decode(said, buffers, known, PREFIX.size + header + body)

    def write(self, frames: Sequence[Frame]) -> None:
        """Send them in order; blocks while the other side does not read. Gone when it has left."""
        waiting = bytearray()
        try:
            for part in (part for frame in frames for part in frame.parts):
                if len(part) < JOIN:
                    waiting += part
                if len(part) >= JOIN or len(waiting) >= CHUNK:
                    self._send(waiting)
                    waiting = bytearray()
                if len(part) >= JOIN:
                    self._send(part)
            self._send(waiting)
        except OSError as error:
            raise Gone(str(error)) from error
        finally:
            self.busy_since = None

    def _send(self, raw: bytes | bytearray | memoryview) -> None:
        view = memoryview(raw)
        while view:
            self.busy_since = time.monotonic()
            view = view[self._socket.send(view[:CHUNK]) :]

    def _bytes(self, length: int) -> bytes:
        return self._buffer(length).tobytes()

    def _buffer(self, length: int) -> np.ndarray:
        buffer = np.empty(length, np.uint8)
        view, filled = buffer.data, 0
        while filled < length:
            try:
                got = self._reader.readinto(view[filled:])
            except TimeoutError as error:
                raise Silent from error
            except (OSError, ValueError) as error:  # ValueError: closed by another thread
                raise Gone(str(error)) from error
            if not got:
                raise Gone("the connection was closed")
            filled += got
        return buffer

    def patience(self, seconds: float | None) -> None:
        """How long one read or write may take from now on."""
        self._socket.settimeout(seconds)

    def hang_up(self) -> None:
        """End it both ways: whoever reads or writes gets Gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; only when nobody reads any more."""
        self.hang_up()
        with contextlib.suppress(OSError):
            self._reader.close()
        self._socket.close()


def proof(key: bytes, who: str, *nonces: bytes) -> bytes:
    """What only a holder of the key can say about both sides' fresh numbers; `who` keeps it from being sent back."""
    return hmac.new(key, b"|".join((who.encode(), *nonces)), hashlib.sha256).digest()


def greet_client(link: Link, key: bytes, me: Peer) -> Peer:
    """The engine's side of the greeting: the client proves the key first. Refused without it, or if not our version."""
    ours = secrets.token_bytes(32)
    link.write([encode("challenge", nonce=ours)])
    said = link.read({"proof": GREETINGS["proof"]}, STRANGER).fields
    if not hmac.compare_digest(said["mac"], proof(key, "client", ours, said["nonce"])):
        link.write([encode("refused", sentence="The client does not know the engine's key.")])
        raise Refused(f"A client (process {said['pid']}) does not know the key.")
    mac = proof(key, "engine", said["nonce"], ours)
    link.write([encode("welcome", mac=mac, version=me.version, pid=me.pid, boot=me.boot)])
    if said["version"] != me.version:
        raise Refused(f"A client (process {said['pid']}) is Crane {said['version']}, this engine {me.version}.")
    return Peer(said["pid"], said["version"])


def greet_engine(link: Link, key: bytes, version: str) -> Peer:
    """The client's side: prove the key, then let the engine prove it. Refused if it is not ours; takes any version."""
    nonce = secrets.token_bytes(32)
    theirs = link.read({"challenge": GREETINGS["challenge"]}, STRANGER).fields["nonce"]
    mac = proof(key, "client", theirs, nonce)
    link.write([encode("proof", nonce=nonce, mac=mac, version=version, pid=os.getpid())])
    answer = link.read(GREETINGS, STRANGER)
    if answer.kind == "refused":
        raise Refused(answer.fields["sentence"] + " Close every Crane and try again, or use --new-engine.")
    if answer.kind != "welcome":
        raise ProtocolError(f"The engine greets with '{answer.kind}'.")
    said = answer.fields
    if not hmac.compare_digest(said["mac"], proof(key, "engine", nonce, theirs)):
        raise Refused("What answers at the engine's address is not the engine.")
    return Peer(said["pid"], said["version"], said["boot"])
