"""What a Hugging Face hub, or a mirror of it, says about a model: its files, with sizes and checksums.

    with client(place) as http: model = ask(http, place, "Qwen/Qwen3-0.6B", "main")

The only sockets are to the place and to where it redirects. One question is asked, `/api/models/ID/revision/REVISION`
(https://huggingface.co/docs/hub/api); files come from `/ID/resolve/COMMIT/FILE`.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crane_app.errors import BadInput, CraneError, ModelNotFound
from crane_app.library import facts, hub_cache
from crane_app.version import VERSION

if TYPE_CHECKING:
    import httpx2

DEFAULT = "https://huggingface.co"
CONNECT_S = 15.0
LARGEST_ANSWER = 64 * 2**20  # bytes
LONGEST_PAUSE = 300.0  # seconds that a hub may make us wait
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
FILE = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+ -]{0,198}[A-Za-z0-9_+-])?")  # of the top folder; no path
SHA256, SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
KEPT = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # beside the weights
PAGES = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


class Broken(CraneError):
    """It did not work this time; trying again may. after: seconds that the hub asked for."""

    def __init__(self, sentence: str, after: float | None = None):
        super().__init__(sentence)
        self.after = after


class Damaged(Broken):
    """What came is not what it should be, and was thrown away."""


class Unreachable(Broken):
    """No way to the hub at all."""


@dataclass(frozen=True)
class Place:
    """Which hub, and by which proxy; stall: seconds without a byte after which a connection counts as broken."""

    endpoint: str = DEFAULT
    proxy: str = ""
    stall: float = 60.0

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.endpoint).netloc


@dataclass(frozen=True)
class File:
    """A file of a model: bytes, and its checksum, which is its blob's name: sha256, or git's sha1 of small files."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """What the hub has of a model at one commit."""

    repo: str
    commit: str
    files: tuple[File, ...]

    @property
    def nbytes(self) -> int:
        return sum(file.size for file in self.files)


def place(endpoint: str | None = None, proxy: str | None = None, stall: float = 60.0) -> Place:
    """The hub that was named, else that of HF_ENDPOINT, else huggingface.co. BadInput for what is no address."""
    said = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT).strip().rstrip("/")
    for address, what in ((said, "hub"), ((proxy or "").strip(), "proxy")):
        schemes = ("http", "https") if what == "hub" else ("http", "https", "socks5", "socks5h")
        try:
            parts = urllib.parse.urlsplit(address)
            fine = parts.scheme in schemes and parts.hostname and not parts.query and parts.port != 0
        except ValueError:
            fine = False
        if address and not fine:
            raise BadInput(f"'{address:.80}' is no address of a {what}. Write it like https://example.org.")
    return Place(said, (proxy or "").strip(), stall)


def checked(repo: str, revision: str = "main") -> None:
    """BadInput unless these can be the id and the revision of a model."""
    if not hub_cache.valid(repo):
        raise BadInput(f"'{repo:.100}' is no model's id. Write it like Qwen/Qwen3-0.6B.")
    if not REVISION.fullmatch(revision) or ".." in revision:
        raise BadInput(f"'{revision:.100}' is no branch, tag or commit of a model.")


def client(where: Place) -> httpx2.Client:
    """A connection to the hub; BadInput where the proxy cannot be used."""
    import httpx2

    headers = {"User-Agent": f"crane/{VERSION}", "Accept-Encoding": "identity"}
    token = _token(where)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    timeout = httpx2.Timeout(where.stall, connect=min(CONNECT_S, where.stall))
    try:
        return httpx2.Client(
            headers=headers, timeout=timeout, follow_redirects=True, max_redirects=8, proxy=where.proxy or None
        )
    except (ValueError, ImportError) as error:
        raise BadInput(f"The proxy {where.proxy} cannot be used ({error}).") from error


def ask(http: httpx2.Client, where: Place, repo: str, revision: str) -> Listing:
    """The files of a model. Raises Unreachable, Broken, ModelNotFound and CraneError, each with a sentence."""
    address = f"{where.endpoint}/api/models/{repo}/revision/{urllib.parse.quote(revision, safe='')}"
    with guarded(where), http.stream("GET", address, params={"blobs": "true"}) as answer:
        refuse(answer, where, repo, revision)
        text = bytearray()
        for piece in answer.iter_bytes():
            text += piece
            if len(text) > LARGEST_ANSWER:
                raise CraneError(f"{where.host} gave an answer about {repo} that is too long to be one.")
    return _listing(text, where, repo)


def address_of(where: Place, listing: Listing, file: File) -> str:
    """Where a file's bytes are."""
    return f"{where.endpoint}/{listing.repo}/resolve/{listing.commit}/{urllib.parse.quote(file.name)}"


class guarded:
    """Turns the errors of the connection into sentences."""

    def __init__(self, where: Place):
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        import httpx2

        host, said = self._where.host, ""
        if isinstance(error, httpx2.ProxyError):
            raise CraneError(f"The proxy refused the way to {host} ({error}). Check it in Settings.") from error
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            raise Unreachable(
                f"{host} cannot be reached. Check the internet connection, and the mirror and proxy in Settings."
            ) from error
        if isinstance(error, httpx2.TimeoutException):
            said = f"{host} sent nothing for {self._where.stall:g} seconds."
        elif isinstance(error, httpx2.TooManyRedirects):
            raise CraneError(f"{host} sends from one address to the next without end.") from error
        elif isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
            raise CraneError(f"{host} sends to an address that is none.") from error
        elif isinstance(error, httpx2.TransportError):
            said = f"The connection to {host} broke."
        if said:
            raise Broken(said) from error


def refuse(answer: httpx2.Response, where: Place, repo: str, revision: str) -> None:
    """Raises for an answer that is not the thing asked for; 416 is left to who asked for a part."""
    status, host = answer.status_code, where.host
    if status in (200, 206, 416):
        return
    if status == 429 or status >= 500 or status == 408:
        busy = "asks to wait" if status == 429 else f"has a problem (status {status})"
        raise Broken(f"{host} {busy}.", _pause(answer.headers.get("Retry-After", "")))
    reason = answer.headers.get("X-Error-Code", "")
    if status in (401, 403) and reason == "GatedRepo":
        raise CraneError(
            f"{repo} is given only to those who accept its terms at {where.endpoint}/{repo}. "
            "Accept them there, then set HF_TOKEN to your token."
        )
    if status in (401, 404) and reason == "RevisionNotFound":
        raise ModelNotFound(f"{repo} has no revision '{revision}' on {host}.")
    if status in (401, 404):
        raise ModelNotFound(f"There is no model {repo} on {host}, or it is private. Check how its name is written.")
    raise CraneError(f"{host} refused {repo} (status {status}).")


def needed(files: tuple[File, ...], repo: str) -> tuple[File, ...]:
    """Of a model's files those that it needs, small ones first. CraneError where it has no safetensors."""
    names = {file.name for file in files}
    weights = set(facts.weight_files(names))
    if any(name.startswith("model") for name in weights):  # mistral's `consolidated` says the same once more
        weights = {name for name in weights if not name.startswith("consolidated")}
    if not weights:
        raise CraneError(f"{repo} has no weights as safetensors in its top folder, so Crane cannot use it.")
    if "config.json" not in names:
        raise CraneError(f"{repo} has no config.json, so Crane cannot use it.")
    kept = [f for f in files if f.name in weights or f.name in PAGES or f.name.endswith(KEPT)]
    return tuple(sorted(kept, key=lambda file: (file.name in weights, file.name)))


def _listing(text: bytearray, where: Place, repo: str) -> Listing:
    fault = f"{where.host} gave an answer about {repo} that cannot be understood."
    try:
        said = json.loads(text)
        commit, siblings = said["sha"], said["siblings"]
        files = [_file(each) for each in siblings]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CraneError(f"{fault} Is {where.endpoint} a Hugging Face hub?") from error
    if not isinstance(commit, str) or not SHA1.fullmatch(commit):
        raise CraneError(fault)
    plain = tuple(file for file in files if file is not None)
    return Listing(repo, commit, needed(plain, repo))


def _file(said: dict[str, Any]) -> File | None:
    """One file of the answer; None for what lies deeper, or has no checksum to hold it to."""
    name, large = said["rfilename"], said.get("lfs") or {}
    size = large.get("size", said.get("size"))
    etag = large.get("sha256") or said.get("blobId") or ""
    if not isinstance(name, str) or not FILE.fullmatch(name) or not isinstance(etag, str):
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**50:
        return None
    return File(name, size, etag) if SHA256.fullmatch(etag) or SHA1.fullmatch(etag) else None


def _pause(said: str) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3), at most LONGEST_PAUSE."""
    if said.isascii() and said.isdigit():
        return min(float(said[:9]), LONGEST_PAUSE)
    import email.utils

    try:
        at = email.utils.parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError):
        return None
    return min(max(at - time.time(), 0.0), LONGEST_PAUSE)


def _token(where: Place) -> str:
    """The user's own token, for huggingface.co and for the hub that HF_ENDPOINT names; never for another."""
    if where.endpoint not in (DEFAULT, (os.environ.get("HF_ENDPOINT") or "").rstrip("/")):
        return ""
    from huggingface_hub import get_token

    return get_token() or ""
