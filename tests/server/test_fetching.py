"""What is fetched from the web for a client: from where it may be, how much, how long, and by which connection."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from crane_app.server.fetching import Web, inside, is_public
from crane_app.server.problems import Problem

FAR = "127.0.0.1"  # stands for the internet in these tests


class Site(http.server.ThreadingHTTPServer):
    """A web site: path -> what it does with a request. seen: (path, Host) of each; named: what TLS asked for."""

    daemon_threads = True

    def __init__(self, pages: dict[str, Callable[[Any], None]], tls: ssl.SSLContext | None = None) -> None:
        self.pages, self.seen = pages, list[tuple[str, str]]()
        super().__init__((FAR, 0), Visit)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Visit(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site: Any = self.server
        site.seen.append((self.path, self.headers["Host"]))
        site.pages[self.path](self)

    def log_message(self, *_: Any) -> None:
        pass


def page(data: bytes, status: int = 200, **headers: str) -> Callable[[Any], None]:
    def show(visit: Any) -> None:
        visit.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            visit.send_header(name.replace("_", "-"), value)
        visit.end_headers()
        with contextlib.suppress(OSError):
            visit.wfile.write(data)

    return show


@contextlib.contextmanager
def site(pages: dict[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    made = Site(pages, tls)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


class Names:
    """A resolver with a few names; asked: how often for each."""

    def __init__(self, **places: list[str]) -> None:
        self.places, self.asked = places, list[str]()

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.places:
            raise socket.gaierror("no such name")
        return self.places[host]


def fetched(address: str, names: Names | None = None, largest: int = 100, **options: Any) -> bytes:
    names = names or Names(far=[FAR])
    web = Web(names, lambda place: place == FAR, **options)
    return asyncio.run(web.fetch(address, "url", largest))


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(Problem) as raised:
        fetched(*args, **options)
    assert raised.value.param == "url"
    assert raised.value.status in (400, 413)
    return raised.value.message


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::127.0.0.1", "nonsense", "", "0177.0.0.1", "2130706433",
    ],
)  # fmt: skip
def test_what_is_near_is_not(address):
    """Loopback, private, link-local, shared, multicast, reserved and documented, also inside IPv6 (RFC 6890)."""
    assert not is_public(address)


def test_a_name_is_resolved_once_and_that_address_is_asked():
    names = Names(far=[FAR])
    with site({"/a?b=1": page(b"sound")}) as made:
        assert fetched(f"http://far:{made.port}/a?b=1#part", names) == b"sound"
        assert made.seen == [("/a?b=1", f"far:{made.port}")]
    assert names.asked == ["far"]


def test_by_tls_the_name_is_asked_for_and_held_against_the_certificate():
    authority, asked = trustme.CA(), list[str]()
    tls, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("far").configure_cert(tls)
    authority.configure_trust(trust)
    tls.sni_callback = lambda _, name, __: asked.append(name)
    with site({"/": page(b"sound")}, tls) as made:
        assert fetched(f"https://far:{made.port}/", verify=trust) == b"sound"
        assert asked == ["far"]
        wrong = Names(other=[FAR])
        assert "could not be fetched" in refusal(f"https://other:{made.port}/", wrong, verify=trust)
        assert "could not be fetched" in refusal(f"https://far:{made.port}/")


def test_a_redirect_is_followed_and_checked_anew():
    names = Names(far=[FAR], further=[FAR], near=["127.0.0.2"], both=[FAR, "10.0.0.1"])
    with site({}) as made:
        end = f":{made.port}/end"
        made.pages |= {
            "/": page(b"", 302, Location="/next"),
            "/next": page(b"", 307, Location=f"http://further{end}"),
            "/end": page(b"sound"),
            "/round": page(b"", 301, Location="/round"),
            "/file": page(b"", 302, Location="file:///etc/passwd"),
        }
        made.pages |= {f"/{host}": page(b"", 302, Location=f"http://{host}{end}") for host in ("near", "both", "none")}
        base = f"http://far:{made.port}"
        assert fetched(base, names) == b"sound"
        assert names.asked == ["far", "far", "further"]
        before = len(made.seen)
        assert "no public address" in refusal(f"{base}/near", names)
        assert "no public address" in refusal(f"{base}/both", names)
        assert "cannot be found" in refusal(f"{base}/none", names)
        assert "http or https" in refusal(f"{base}/file", names)
        assert len(made.seen) == before + 4
        assert "more than 3 times" in refusal(f"{base}/round", names)


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd", "ftp://far/x", "gopher://far/", "//far/x", "/etc/passwd", "far", "http://", "http://[::1",
        "http://far:99999/", "http://user:secret@far/", "http://far/a\r\nX: y", "http://far/" + "a" * 5000, "",
    ],
)  # fmt: skip
def test_only_addresses_of_the_web(address):
    assert "http or https" in refusal(address)


def test_too_much_is_not_read_to_its_end():
    def endless(visit: Any) -> None:
        visit.send_response(200)
        visit.end_headers()
        with contextlib.suppress(OSError):
            while True:
                visit.wfile.write(b"x" * 1000)

    with site({"/said": page(b"x" * 101), "/endless": endless, "/fits": page(b"x" * 100)}) as made:
        base = f"http://far:{made.port}"
        assert "larger than" in refusal(f"{base}/said")
        assert "larger than" in refusal(f"{base}/endless")
        assert len(fetched(f"{base}/fits")) == 100


def test_what_comes_packed_or_not_at_all_is_refused():
    with site({"/packed": page(b"x", Content_Encoding="gzip"), "/gone": page(b"", 404)}) as made:
        base = f"http://far:{made.port}"
        assert "packed" in refusal(f"{base}/packed")
        assert "answered 404" in refusal(f"{base}/gone")
    assert "could not be fetched" in refusal(f"http://far:{made.port}/")


def test_a_site_that_keeps_silent_is_left():
    over = threading.Event()
    with site({"/": lambda visit: over.wait(10)}) as made:
        assert "within 0.1 seconds" in refusal(f"http://far:{made.port}/", patience=0.1)
        over.set()


def test_data_in_the_address_itself():
    assert inside("data:audio/wav;base64,c291bmQ=", "url") == b"sound"
    assert inside("data:,a%20b", "url") == b"a b"
    for wrong in ("data:audio/wav;base64", "data:;base64,c291bm%", "data:;base64,????"):
        with pytest.raises(Problem, match="data: address"):
            inside(wrong, "url")
    with pytest.raises(Problem, match="larger than"):
        inside("data:," + "x" * 20, "url", largest=10)
