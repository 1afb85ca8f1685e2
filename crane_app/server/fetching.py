"""What stands at an address that a client names: data in the address itself, or, where that is allowed, on the web.

The server fetches with its own place in the network, so an address must lead out of it: every name is resolved once,
what it means is checked, and the connection goes to that very address (OWASP, "Server Side Request Forgery").
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from crane_app.server.problems import Problem, refused

LARGEST = 25 << 20  # bytes
PATIENCE = 20.0  # seconds for all of it
HOPS = 3  # redirects that are followed
LONGEST = 4096  # characters of an address on the web
REDIRECTS = (301, 302, 303, 307, 308)
Resolve = Callable[[str, int], Awaitable[list[str]]]
UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291, 2.4 and IANA: all that is given out
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


async def resolved(host: str, port: int) -> list[str]:
    """All addresses of a name; OSError if it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[4][0]) for place in found]


def is_public(address: str) -> bool:
    """Whether it is out on the internet, whichever way it is written; an IPv4 address inside an IPv6 one counts."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        inner += [ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)] if found in NAT64 else []
        if any(one is not None and not is_public(str(one)) for one in inner):
            return False
        if found.ipv4_mapped is not None or found in NAT64:
            return True
        if found not in UNICAST:
            return False
    return found.is_global and not found.is_multicast


def inside(address: str, param: str, largest: int = LARGEST) -> bytes:
    """The data of a data: address (RFC 2397). Problem 400 if it has none, or too much."""
    head, comma, data = address.partition(",")
    if not comma:
        raise refused(param, f"{param} is a data: address without data.")
    try:
        found = base64.b64decode(unquote_to_bytes(data), validate=True) if head.endswith(";base64") else None
    except (binascii.Error, ValueError):
        raise refused(param, f"{param} is a data: address whose base64 is damaged.") from None
    found = unquote_to_bytes(data) if found is None else found
    if len(found) > largest:
        raise _too_large(param, largest)
    return found


class Web:
    """Fetches from the web. resolve and fits: how names become addresses, and which of them may be asked."""

    def __init__(
        self,
        resolve: Resolve = resolved,
        fits: Callable[[str], bool] = is_public,
        verify: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._resolve, self._fits, self._verify, self._patience = resolve, fits, verify, patience

    async def fetch(self, address: str, param: str, largest: int = LARGEST) -> bytes:
        """What stands there. Problem 400 or 413, with the field that named it, for what cannot be had."""
        import httpx2

        try:
            async with asyncio.timeout(self._patience):
                for _ in range(HOPS + 1):
                    found, address = await self._asked(address, param, largest)
                    if found is not None:
                        return found
        except TimeoutError:
            raise refused(param, f"{param} could not be fetched within {self._patience:g} seconds.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ssl.SSLError) as error:
            raise refused(param, f"{param} could not be fetched: {error!s:.100}.") from None
        raise refused(param, f"{param} leads from one address to the next more than {HOPS} times.")

    async def _asked(self, address: str, param: str, largest: int) -> tuple[bytes | None, str]:
        """The body at an address, or None and the address that it sends one to."""
        import httpx2

        host, port, target, secure, named = _parts(address, param)
        places = await self._places(host, port, param)
        place = f"[{places[0]}]" if ":" in places[0] else places[0]
        url = f"{'https' if secure else 'http'}://{place}:{port}{target}"
        headers = {"Host": named, "Accept-Encoding": "identity", "User-Agent": "crane"}
        verify: Any = self._verify if self._verify is not None else True
        async with (
            httpx2.AsyncClient(trust_env=False, verify=verify, timeout=self._patience) as client,
            client.stream("GET", url, headers=headers, extensions={"sni_hostname": host}) as answer,
        ):
            if answer.status_code in REDIRECTS and "location" in answer.headers:
                return None, urljoin(address, answer.headers["location"])
            if answer.status_code != 200:
                raise refused(param, f"{param} could not be fetched: {host:.100} answered {answer.status_code}.")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise refused(param, f"{param} comes packed, which was not asked for.")
            return await _body(answer, param, largest), address

    async def _places(self, host: str, port: int, param: str) -> list[str]:
        """Where a name leads; all of it must be out on the internet."""
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise refused(param, f"{param} names '{host:.100}', which cannot be found.")
        if not all(self._fits(place) for place in found):
            raise refused(param, f"{param} leads to '{host:.100}', which is no public address.")
        return found


def _parts(address: str, param: str) -> tuple[str, int, str, bool, str]:
    """Host, port, path with query, whether by TLS, and the Host header."""
    try:
        split = urlsplit(address)
        host, port = split.hostname or "", split.port
    except ValueError:
        split, host, port = urlsplit(""), "", None
    wrong = split.username is not None or split.password is not None or any(c <= " " or c == "\x7f" for c in address)
    if split.scheme not in ("http", "https") or not host or wrong or len(address) > LONGEST:
        raise refused(param, f"{param} must be an http or https address, without a password in it.")
    secure = split.scheme == "https"
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    named = f"[{host}]" if ":" in host else host
    named += f":{port}" if port is not None and port != (443 if secure else 80) else ""
    return host, port if port is not None else (443 if secure else 80), target, secure, named


async def _body(answer: Any, param: str, largest: int) -> bytes:
    promised = answer.headers.get("content-length", "")
    if promised.isdigit() and int(promised) > largest:
        raise _too_large(param, largest)
    parts, size = [], 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > largest:
            raise _too_large(param, largest)
        parts.append(part)
    return b"".join(parts)


def _too_large(param: str, largest: int) -> Problem:
    return Problem(413, f"{param} is larger than {largest >> 20} MiB.", param)
