"""The server's process: a socket, a banner, requests until a signal; the first drains, the second ends at once."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import uvicorn

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import ModelCard, Stats
from crane_app.errors import BadInput, CraneError
from crane_app.platform import addresses
from crane_app.server.app import build
from crane_app.server.fetching import Web
from crane_app.server.guard import Access, App
from crane_app.server.keeping import Keeping, lasting
from crane_app.server.service import Limits
from crane_app.server.shelf import Stock, Stored

Opened = Callable[[], AbstractContextManager[tuple[EngineLike, dict[str, ModelCard]]]]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048  # connections that wait to be accepted
IDLE_S = 75  # seconds that a connection may rest between two requests


class Server(uvicorn.Server):
    """uvicorn with our signals: it ends without raising them once more."""

    def __init__(self, app: App) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                timeout_keep_alive=IDLE_S,
                backlog=BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            print("Ending after the requests under way. Once more to end now.", file=sys.stderr, flush=True)
        self.should_exit = True

    def stop(self) -> None:
        """End now, from any thread."""
        self.should_exit = self.force_exit = True


def bound(host: str, port: int) -> socket.socket:
    """A socket at that address, which does not listen yet; CraneError if it cannot be had."""
    try:
        return addresses.bound(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CraneError(f"The server cannot be at {host}, port {port}: {reason}. Choose another --port.") from error


def serve(
    opened: Opened,
    host: str,
    port: int,
    keys: tuple[str, ...],
    origins: tuple[str, ...],
    insecure: bool,
    max_concurrent: int,
    decode_tokens_per_seq: int,
    max_length: int | None,
    fetches: bool = False,
    stored: Callable[[], dict[str, tuple[Any, ...]]] | None = None,
    idle_s: float | None = None,
    pins: tuple[str, ...] = (),
    keeps: bool = False,
) -> int:
    """Serve what `opened` gives until a signal; the exit status. Nothing is loaded where the address cannot be had.

    stored: the arguments of shelf.Stored of every model that may be loaded when it is asked for, by name.
    pins: names of models that go by hand alone. keeps: whether beginnings of prompts are kept on disk.
    """
    loopback = addresses.is_loopback(host)
    if not loopback and not keys and not insecure:
        raise BadInput(
            f"At {host} other machines could use this server: set a key (--api-key or CRANE_API_KEY), or --insecure."
        )
    look = None if stored is None else lambda: {name: Stored(*each) for name, each in stored().items()}
    stock = Stock(look, idle_s, frozenset(pins))
    limits = Limits(max_concurrent, decode_tokens_per_seq, max_length, Web() if fetches else None, stock)
    access = Access(keys, origins, loopback)
    keeping = lasting(keys) if keeps else Keeping(keys)
    _log()
    with bound(host, port) as listener, opened() as (engine, own):
        _wish(engine, own, stock)
        if keeps and engine.stats().prefix_reuse == "none":
            raise BadInput("--keep-prefixes has nothing to keep with --prefix-reuse none. Leave one of them out.")
        server = Server(build(engine, own, access, limits, keeping))
        listener.listen(BACKLOG)  # who reads the banner may call at once
        for line in banner(own, engine.stats(), _url(listener), access, limits, keeping):
            print(line, flush=True)
        server.run([listener])
    print("Ended.", flush=True)
    return 0


def _wish(engine: EngineLike, own: dict[str, ModelCard], stock: Stock) -> None:
    """Tell the engine how long the server's own models stay. BadInput for a pin on what is not here."""
    there = {name: card.name for name, card in own.items()} | {card.name: card.name for card in own.values()}
    known = there if stock.look is None else {**{name: name for name in stock.look()}, **there}
    if unknown := sorted(stock.pins - known.keys()):
        raise BadInput(f"--pin {unknown[0]} names no model that is served. There are: {', '.join(known)[:500]}.")
    pins = frozenset(known[name] for name in stock.pins)
    for card in own.values():
        replace(stock, pins=pins).tell(engine, card.name)


def banner(
    own: dict[str, ModelCard], stats: Stats, url: str, access: Access, limits: Limits, keeping: Keeping
) -> Iterator[str]:
    """What is served, how, where, and to whom."""
    for name, card in own.items():
        how = f"{card.architecture}, {card.backend} on {card.device} in {card.numbers}"
        yield f"model    {name}: {how}, {_room(card, limits)}"
    room = max(stats.limit_nbytes - stats.weights_nbytes, 0) if stats.limit_nbytes else "what the device gives"
    yield f"cache    kv_bytes {stats.cache_nbytes}, kv_budget {room}; {limits.max_concurrent} answers at once"
    whom = "this machine only" if access.loopback else "all machines that reach it"
    locked = f"{len(access.keys)} keys" if access.keys else "no key"
    yield f"access   {whom}, {locked}; web pages of {', '.join(access.origins) or 'this address only'}"
    if limits.stock.look is not None:
        yield "loading  other models of this computer, when a request names them"
    if limits.stock.idle_s is not None:
        yield f"unload   models that nobody has asked for in {limits.stock.idle_s / 60:g} minutes"
    if limits.stock.pins:
        yield f"pinned   {', '.join(sorted(limits.stock.pins))}"
    if keeping.on_disk:
        yield "keeps    what it has computed of prompts, on this computer; their text can be told from it"
        if stats.store_problem:
            yield f"warning  {stats.store_problem}"
    if limits.web is not None:
        yield "fetches  addresses on the internet that requests name; none of this network"
    if not access.loopback and not access.keys:
        yield "warning  anybody who reaches this machine can use this server"
    yield f"serving at {url} (OpenAI clients: {url}/v1). Ctrl-C ends it."


def _room(card: ModelCard, limits: Limits) -> str:
    if card.hears:
        return "turns speech into text"
    return f"{min(card.context, limits.max_length or card.context)} tokens of context"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log() -> None:
    """What goes wrong here is said where the server was started."""
    said = logging.StreamHandler()
    said.setFormatter(logging.Formatter("crane: %(message)s"))
    logging.getLogger("crane_app.server").addHandler(said)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
