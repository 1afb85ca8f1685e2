"""A Hugging Face hub on this machine, as kind or unkind as a test wants it.

    with Hub() as hub:
        hub.put("a/b", {"config.json": b"{}", "model.safetensors": b"..."})
        hub.next("model.safetensors", Drop(100))  # what happens at the next request for it; then the next of them

Files whose name ends in .safetensors are as LFS: named by sha256, and sent from another address. The answers have the
form of https://huggingface.co/docs/hub/api; `sent` counts bytes of bodies by file name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import urllib.parse
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_S = 20
CONFIG = json.dumps({"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 4096}).encode()


@dataclass(frozen=True)
class Drop:
    """The connection ends after so many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Hold:
    """Nothing more comes after so many bytes, until `hub.let()` or the end."""

    after: int


@dataclass(frozen=True)
class Say:
    """Another answer altogether."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"no"


@dataclass(frozen=True)
class Send:
    """200 with this body, whatever was asked for. length: whether it is said how long it is."""

    body: bytes
    length: bool = True


@dataclass(frozen=True)
class WrongPart:
    """206 with a range that was not asked for."""


def sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Hub:
    """Serves what was `put`; `requests` are "GET /path" with the Range asked for."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.faults: dict[str, deque[Any]] = defaultdict(deque)
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.sent: Counter[str] = Counter()
        self.relative = False  # whether redirects name the path alone
        self.token = ""  # that a request for a gated model must bring
        self.lies: dict[str, dict[str, Any]] = {}  # file name -> what its entry in the listing says instead
        self._open = threading.Event()
        self.held = threading.Semaphore(0)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._answers())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that hangs up is no news, and stderr is a test's
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=lambda: self._server.serve_forever(0.01), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let()
        self._server.shutdown()
        self._server.server_close()

    def put(self, repo: str, files: dict[str, bytes], commit: str = "c" * 40) -> None:
        self.repos[repo], self.commits[repo] = files, commit

    def next(self, name: str, *faults: Any) -> None:
        """What happens at the next requests for that file, or for "api"; after them all is well."""
        self.faults[name].extend(faults)

    def let(self) -> None:
        """Send what is held back."""
        self._open.set()

    def wait_held(self) -> None:
        """Until a body is held back."""
        assert self.held.acquire(timeout=PATIENCE_S)

    def gets(self, name: str) -> list[str]:
        """The ranges asked for, of requests that were answered with bytes of that file."""
        return [wanted for path, wanted in self.requests if path.startswith("/cdn/") and path.endswith(name)]

    def listing(self, repo: str) -> dict[str, Any]:
        siblings = []
        for name, body in self.repos[repo].items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(body), "blobId": sha1(body)}
            if name.endswith(".safetensors"):
                entry |= {"blobId": sha1(b"pointer"), "lfs": {"sha256": sha256(body), "size": len(body)}}
            siblings.append(entry | self.lies.get(name, {}))
        return {"id": repo, "sha": self.commits[repo], "siblings": siblings}

    def _answers(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.requests.append((urllib.parse.unquote(self.path), self.headers.get("Range", "")))
                hub.headers.append(dict(self.headers))
                with contextlib.suppress(OSError):
                    self.answer(urllib.parse.unquote(urllib.parse.urlsplit(self.path).path))

            def answer(self, path: str) -> None:
                kind, _, rest = path[1:].partition("/")
                if kind == "api":
                    repo, _, revision = rest.removeprefix("models/").partition("/revision/")
                    self.tell_listing(repo, revision)
                elif kind == "cdn":
                    repo, _, name = rest.rpartition("/")
                    self.body(name, hub.repos[repo][name])
                else:
                    self.redirect(*path[1:].split("/resolve/"))

            def tell_listing(self, repo: str, revision: str) -> None:
                if hub.faults["api"]:
                    fault = hub.faults["api"].popleft()
                    return self.say(fault.status, fault.body, fault.headers)
                if repo not in hub.repos:
                    return self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self.say(401, b"{}", {"X-Error-Code": "GatedRepo"})
                if revision not in ("main", hub.commits[repo]):
                    return self.say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return self.say(200, json.dumps(hub.listing(repo)).encode())

            def redirect(self, repo: str, rest: str) -> None:
                name = rest.partition("/")[2]
                there = f"/cdn/{repo}/{urllib.parse.quote(name)}"
                self.say(302, b"", {"Location": there if hub.relative else hub.address + there})

            def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def say_all(self, body: bytes) -> None:
                """The end of the connection is the end of the body."""
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def body(self, name: str, body: bytes) -> None:
                fault = hub.faults[name].popleft() if hub.faults[name] else None
                if isinstance(fault, Say):
                    return self.say(fault.status, fault.body, fault.headers)
                if isinstance(fault, Send):
                    hub.sent[name] += len(fault.body)
                    return self.say(200, fault.body) if fault.length else self.say_all(fault.body)
                wanted = self.headers.get("Range", "")
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                if start >= len(body) and wanted:
                    return self.say(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                part = f"bytes {start + isinstance(fault, WrongPart)}-{len(body) - 1}/{len(body)}"
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(body) - start))
                if wanted:
                    self.send_header("Content-Range", part)
                self.end_headers()
                return self.pour(name, body[start:], fault)

            def pour(self, name: str, body: bytes, fault: Any) -> None:
                cut = min(getattr(fault, "after", len(body)), len(body))
                hub.sent[name] += cut
                self.wfile.write(body[:cut])
                if isinstance(fault, Drop):
                    self.close_connection = True
                    self.connection.shutdown(2)
                elif isinstance(fault, Hold):
                    hub.held.release()
                    hub._open.wait(PATIENCE_S)
                    hub.sent[name] += len(body) - cut
                    self.wfile.write(body[cut:])

        return Answer
