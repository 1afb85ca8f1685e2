"""Addresses of this machine to listen at: a socket there, who can reach it, the next free port. Sends nothing."""

from __future__ import annotations

import contextlib
import socket
import sys

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERY = ("0.0.0.0", "::")  # stand for all addresses of this machine
ELSEWHERE = ("192.0.2.1", 9)  # RFC 5737: an address that nobody has; nothing is sent to it
FURTHER = 100  # ports that are tried beyond one that is taken


def bound(host: str, port: int) -> socket.socket:
    """A socket at that address, which does not listen yet; OSError or OverflowError if it cannot be had."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would let another program take the same port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    made.set_inheritable(False)
    return made


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    return host in LOOPBACK or host.startswith("127.")


def own() -> str:
    """The address that other computers know this one by; that of this machine alone where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)  # of a datagram socket this sends nothing: it only chooses the way
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def free_port(host: str, after: int) -> int:
    """The first port beyond `after` that can be had; 0, which takes any, if there is none nearby."""
    for port in range(after + 1, min(after + FURTHER, 65535) + 1):
        with contextlib.suppress(OSError):
            bound(host, port).close()
            return port
    return 0
