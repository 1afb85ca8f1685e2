"""A server that this program starts, watches and ends: `crane serve` in a process of its own.

    server = Server()
    for now in server.run(Plan(model="/models/Qwen3-0.6B")): print(now.state, now.url)

It uses the engine that all programs of this user share. Knows no window, and nothing of what is asked of it.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from crane_app.errors import CraneError
from crane_app.platform import addresses

State = Literal["off", "starting", "on", "ending", "failed"]
Fault = Literal["", "model", "key", "port", "address", "died"]

LOOK_S = 1.0  # between two looks at how it is
ASK_S = 1.0  # for an answer to such a look
GRACE_S = 2.0  # for what is under way when this program ends
WHERE = re.compile(r"serving at (\S+)")
SAYS, NOTE = "crane: ", "crane: note: "  # how a command begins what it says to people
KEY_BYTES = 24


@dataclass(frozen=True)
class Plan:
    """What is to be served, where, to whom.

    model: a folder or file; name: what clients call it, "" for the name of its folder; key: what clients must send, ""
    for nothing.
    """

    model: str
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    key: str = ""


@dataclass(frozen=True)
class Served:
    """The server at one moment. sentence: what went wrong last; fault: of what kind, where it ended for that.

    url: without a / at the end; models: the names that clients use; active: answers made now; waiting: requests that
    wait for their turn; answered: since it is on; free_port: one that could be had, where the wanted one was taken.
    """

    state: State = "off"
    url: str = ""
    sentence: str = ""
    fault: Fault = ""
    models: tuple[str, ...] = ()
    active: int = 0
    waiting: int = 0
    answered: int = 0
    seconds: float = 0.0
    free_port: int = 0


class Unservable(CraneError):
    """Refused before anything was started."""

    def __init__(self, sentence: str, fault: Fault, free_port: int = 0):
        super().__init__(sentence)
        self.fault, self.free_port = fault, free_port


def new_key() -> str:
    """A key that nobody guesses."""
    return f"crane-{secrets.token_urlsafe(KEY_BYTES)}"


def own_command() -> tuple[str, ...]:
    """How this Crane starts a server."""
    if getattr(sys, "frozen", False):
        return (sys.executable, "serve")
    return (sys.executable, "-P", "-m", "crane_app", "serve")


class Server:
    """One server, started at most once. `stop` may be called from any thread."""

    def __init__(self, command: Sequence[str] | None = None, look_s: float = LOOK_S):
        self._command = tuple(command or own_command())
        self._look_s = look_s
        self._bell = threading.Event()
        self._stops = 0
        self._process: _Process | None = None

    def run(self, plan: Plan) -> Iterator[Served]:
        """How it is, told at least every second, until it has ended; closing the generator ends it soon."""
        yield Served("starting")
        try:
            check(plan)
            self._process = _Process([*self._command, *_flags(plan)], plan.key, self._bell)
        except CraneError as error:
            fault, port = (error.fault, error.free_port) if isinstance(error, Unservable) else ("died", 0)
            yield Served("failed", sentence=str(error), fault=fault, free_port=port)
            return
        try:
            now = Served("starting")
            while not self._process.over:
                yield (now := self._look(now, plan.key))
                self._bell.wait(self._look_s)
                self._bell.clear()
            yield self._ended(now)
        finally:
            self._process.end()

    def stop(self) -> None:
        """Let what is under way come to its end, asked again end at once."""
        self._stops += 1
        if self._process is not None:
            self._process.let_go() if self._stops == 1 else self._process.kill()
        self._bell.set()

    def _look(self, before: Served, key: str) -> Served:
        process = self._process
        assert process is not None
        if self._stops:
            process.let_go()
        if not process.url:
            return replace(before, state="ending" if self._stops else "starting", sentence=process.said)
        now = replace(before, state="ending" if self._stops else "on", url=process.url, sentence=process.said)
        now = replace(now, seconds=time.monotonic() - process.since)
        figures = _asked(process.url, "/v1/stats", key)
        if figures is None:
            return now
        listed = (None if self._stops else _asked(process.url, "/v1/models", key)) or {"data": ()}
        return replace(
            now,
            models=tuple(str(each["id"]) for each in listed["data"]) or now.models,
            active=int(figures["active_sequences"]),
            waiting=int(figures["waiting_sequences"]),
            answered=int(figures["completed_requests"]),
        )

    def _ended(self, before: Served) -> Served:
        process = self._process
        assert process is not None
        status = process.end()
        rest = replace(before, url="", models=(), active=0, waiting=0)
        if self._stops:
            return replace(rest, state="off", sentence="")
        if not before.url and process.said:
            return replace(rest, state="failed", fault="died", sentence=process.said)
        why = f"signal {-status}" if status < 0 else f"exit status {status}"
        last = f" It last said: {process.said}" if process.said else ""
        told = f"The server has stopped by itself ({why}), and its requests with it. Start it again.{last}"
        return replace(rest, state="failed", fault="died", sentence=told)


def check(plan: Plan) -> None:
    """Unservable, with what to do, for what cannot be served."""
    if not plan.model:
        raise Unservable("The server needs a model to answer with. Get one in Models.", "model")
    if not plan.key and not addresses.is_loopback(plan.host):
        raise Unservable(
            f"At {plan.host} other computers could use this one's models: make a key first.",
            "key",
        )
    try:
        addresses.bound(plan.host, plan.port).close()
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", 0) == errno.EADDRINUSE:
            free = addresses.free_port(plan.host, plan.port)
            raise Unservable(
                f"Another program is at port {plan.port} already. Choose another port, or end that program.",
                "port",
                free,
            ) from error
        why = getattr(error, "strerror", None) or error
        raise Unservable(
            f"The server cannot be at {plan.host}, port {plan.port}: {why}. Choose another address.", "address"
        ) from error


def _flags(plan: Plan) -> list[str]:
    """Never the key: other users can read command lines. But that there is none, since the settings may have one."""
    keyless = [] if plan.key else ["--api-key", ""]
    flags = ["--tied", "--host", plan.host, "--port", str(plan.port), "--model-path", plan.model]
    return [*flags, "--model-name", plan.name, *keyless]


def _reachable(url: str) -> str:
    """The address as other computers can use it, where the server is at all addresses of this one."""
    place = urlsplit(url)
    return f"http://{addresses.own()}:{place.port}" if place.hostname in addresses.EVERY else url


def _asked(url: str, path: str, key: str) -> dict[str, Any] | None:
    """What the server says, None if it does not now: one that is busy, or ending."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=ASK_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        found = json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return found if isinstance(found, dict) else None


class _Process:
    """The server's process: what it says is read on a thread, and each line rings the bell.

    url: where it serves, once it does; said: its last complaint; over: it says no more.
    """

    def __init__(self, command: Sequence[str], key: str, bell: threading.Event):
        from crane_app.engine.process import reach, tied

        self.url = self.said = ""
        self.over = False
        self.since = 0.0
        self._bell = bell
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**reach.environment(), "CRANE_API_KEY": key, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
                creationflags=reach.DETACHED,
                start_new_session=sys.platform != "win32",  # Ctrl-C in a terminal is for the program in front
            )
        except OSError as error:
            raise CraneError(f"The server could not be started: {error.strerror}.") from error
        self._tie = tied.bind(self._process)
        threading.Thread(target=self._listen, args=(self._process.stdout,), name="crane-server", daemon=True).start()

    def _listen(self, output: IO[bytes]) -> None:
        for raw in output:
            line = raw.decode("utf-8", "replace").rstrip()
            if found := WHERE.search(line):
                self.since, self.url = time.monotonic(), _reachable(found[1])
            elif line.startswith(SAYS) and not line.startswith(NOTE):
                self.said = line.removeprefix(SAYS)
            self._bell.set()
        output.close()
        self.over = True
        self._bell.set()

    def let_go(self) -> None:
        """Its standard input ends, which asks it to end after what is under way."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Its exit status, after at most GRACE_S."""
        self.let_go()
        try:
            return self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
