"""Addresses to listen at, on sockets of this machine."""

from __future__ import annotations

import errno
import ipaddress
import socket

import pytest

from crane_app.platform import addresses


def test_a_bound_socket_has_the_address_and_is_not_passed_on():
    with addresses.bound("127.0.0.1", 0) as made:
        assert made.getsockname()[0] == "127.0.0.1"
        assert not made.get_inheritable()


def test_a_port_is_taken_while_somebody_listens_there():
    with addresses.bound("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(OSError) as refusal:  # noqa: PT011 (errno says which)
            addresses.bound("127.0.0.1", first.getsockname()[1])
        assert refusal.value.errno == errno.EADDRINUSE


def test_the_next_free_port_can_be_had():
    with addresses.bound("127.0.0.1", 0) as first:
        first.listen()
        taken = first.getsockname()[1]
        found = addresses.free_port("127.0.0.1", taken)
        assert found == 0 or taken < found <= taken + addresses.FURTHER
        addresses.bound("127.0.0.1", found).close()


def test_beyond_the_last_port_there_is_only_any():
    assert addresses.free_port("127.0.0.1", 65535) == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_only_this_machine_reaches_loopback(host: str):
    assert addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.org", ""])
def test_others_reach_any_other_address(host: str):
    assert not addresses.is_loopback(host)


def test_its_own_address_is_one_of_this_machine():
    """Only an address of this machine can be bound."""
    found = addresses.own()
    assert ipaddress.ip_address(found).version == 4
    addresses.bound(found, 0).close()


def test_without_a_network_its_own_address_is_loopback(monkeypatch):
    def unreachable(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    class Socket(socket.socket):
        connect = unreachable

    monkeypatch.setattr(addresses.socket, "socket", Socket)
    assert addresses.own() == "127.0.0.1"
