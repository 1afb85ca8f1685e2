"""Requests a second, and time to and between tokens: `crane serve` against mlx_lm.server and transformers serve.

    python -m benchmarks.serve [--folder MODEL] [--clients 1 8 32] [--rounds 3] [--peer-python PATH]

All serve the same checkpoint in float32 on the processor: a tiny one made on the spot, or any chat model by --folder.
Each server is one process (Crane: and its engine) that runs all the time; in every round each is asked in turn, in an
order that changes, by so many clients at once, and every client asks --each times, streamed and greedy; without it, so
often that a round has 24 requests, and the first ones after a pause do not decide. No prompt comes twice, so that
nobody answers from what it kept of an earlier round. A peer that --peer-python cannot import is left out, and said to
be (pip install mlx-lm; transformers, accelerate, fastapi). Of all rounds: median, least and most. Time between tokens
is an answer's time after its first text, shared out among its other tokens (as vLLM's benchmark has it). A connection
that a server drops before it answers is opened once more, and counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.chat_checkpoint import write_chat

START_S = 180.0
CONTENT = "Tell me how the lighthouse keeper spends a long winter night, and what the sea says to him."


@dataclass(frozen=True)
class Peer:
    """module: what must be importable; command: from the model's folder and a port; body: what its requests add."""

    name: str
    module: str
    command: Callable[[str, str, int], list[str]]
    path: str = "/v1/chat/completions"
    body: dict[str, Any] = field(default_factory=dict)


PLAIN = {"temperature": 0.0, "repetition_penalty": 1.0}


def _crane(name: str, backend: str) -> Peer:
    return Peer(
        name,
        "crane_app",
        lambda python, folder, port: [
            python, "-m", "crane_app", "serve", "--model-path", folder, "--model-name", folder, "--port", str(port),
            "--new-engine", "--cpu", "--dtype", "float32", "--backend", backend, "--max-concurrent", "32",
        ],
        body=PLAIN,
    )  # fmt: skip


PEERS = (
    _crane("crane", "torch"),
    _crane("crane-mlx", "mlx"),
    Peer(
        "mlx_lm.server",
        "mlx_lm",
        lambda python, folder, port: [
            python, "-m", "mlx_lm", "server", "--model", folder, "--host", "127.0.0.1", "--port", str(port),
        ],
        body={"temperature": 0.0},
    ),
    Peer(
        "transformers serve",
        "transformers",
        lambda python, folder, port: [
            python, "-m", "transformers.cli.transformers", "serve", folder, "--port", str(port), "--host", "127.0.0.1",
            "--device", "cpu", "--dtype", "float32", "--continuous-batching",
        ],
        body={"temperature": 0.0},
    ),
)  # fmt: skip


@dataclass
class Round:
    """What one round of one server took. first, between: seconds of each answer; tokens: made; dropped: connections."""

    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    dropped: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", help="a chat model; a tiny one if not given")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, help="requests of a client in a round")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--peer-python", default=sys.executable)
    args = parser.parse_args()
    fresh = itertools.count()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = args.folder or str(write_chat(Path(scratch) / "tiny"))
        there = [peer for peer in PEERS if _there(peer, args)]
        urls = {peer.name: stack.enter_context(_served(peer, folder, args.peer_python, fresh)) for peer in there}
        for clients in args.clients:
            for name, found in _rounds(there, urls, folder, clients, args, fresh).items():
                print(json.dumps({"server": name, "clients": clients, **found}), flush=True)
    print(
        json.dumps({"machine": f"{platform.machine()} {platform.processor()}".strip(), "model": args.folder or "tiny"})
    )


def _there(peer: Peer, args: argparse.Namespace) -> bool:
    if args.only and peer.name not in args.only:
        return False
    if subprocess.run([args.peer_python, "-c", f"import {peer.module}"], capture_output=True).returncode:
        print(f"{peer.name} is left out: {peer.module} is not installed in {args.peer_python}.", file=sys.stderr)
        return False
    return True


@contextlib.contextmanager
def _served(peer: Peer, folder: str, python: str, fresh: Iterator[int]) -> Iterator[str]:
    """Its address, once it answers a request."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(peer.command(python, folder, port), stdout=said, stderr=said)
        try:
            url, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    asyncio.run(_round(peer, url, folder, 1, 1, 2, fresh))
                    break
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise SystemExit(f"{peer.name} did not start: {said.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _rounds(
    there: list[Peer], urls: dict[str, str], folder: str, clients: int, args: Any, fresh: Iterator[int]
) -> dict[str, Any]:
    """Every server in turn, each round begun by another one."""
    runs: dict[str, list[Round]] = {peer.name: [] for peer in there}
    each = args.each or max(4, 24 // clients)
    for number in range(args.rounds):
        turn = number % len(there)
        for peer in [*there[turn:], *there[:turn]]:
            run = asyncio.run(_round(peer, urls[peer.name], folder, clients, each, args.tokens, fresh))
            runs[peer.name].append(run)
    return {name: _summary(found, clients * each) for name, found in runs.items()}


async def _round(
    peer: Peer, url: str, folder: str, clients: int, each: int, tokens: int, fresh: Iterator[int]
) -> Round:
    """So many clients, each asking so often, one request after the other. fresh: a number for every prompt."""
    run, start = Round(), time.perf_counter()
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as client:

        async def ask() -> None:
            for _ in range(each):
                content = f"{next(fresh):06d} {CONTENT}"
                body = {"model": folder, "messages": [{"role": "user", "content": content}], "stream": True}
                more = {"max_tokens": tokens, "stream_options": {"include_usage": True}}
                await _asked(client, peer, {**body, **more, **peer.body}, run)

        await asyncio.gather(*(ask() for _ in range(clients)))
    run.seconds = time.perf_counter() - start
    return run


async def _asked(client: httpx2.AsyncClient, peer: Peer, body: dict[str, Any], run: Round) -> None:
    """Until it is answered: a server may have too short a queue for so many clients."""
    begun = time.perf_counter()
    while True:
        try:
            await _one(client, peer, body, run, begun)
            return
        except (httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.ConnectError):
            run.dropped += 1
            if run.dropped > 1000:
                raise


async def _one(client: httpx2.AsyncClient, peer: Peer, body: dict[str, Any], run: Round, begun: float) -> None:
    first, made = 0.0, 0
    async with client.stream("POST", peer.path, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            said = json.loads(line.removeprefix("data: "))
            if "error" in said:
                raise SystemExit(f"{peer.name}: {said['error']}")
            made = (said.get("usage") or {}).get("completion_tokens", made)
            delta = said["choices"][0]["delta"] if said.get("choices") else {}
            if not first and any(delta.get(name) for name in ("content", "reasoning", "reasoning_content")):
                first = time.perf_counter()
    last = time.perf_counter()
    run.first.append((first or last) - begun)
    run.between += [(last - first) / (made - 1)] if first and made > 1 else []
    run.tokens += made


def _summary(runs: list[Round], requests: int) -> dict[str, Any]:
    def spread(values: list[float], scale: float = 1.0) -> list[float]:
        return [round(scale * value, 3) for value in (statistics.median(values), min(values), max(values))]

    return {
        "requests_per_s": spread([requests / run.seconds for run in runs]),
        "first_token_ms": spread([statistics.median(run.first) for run in runs], 1e3),
        "between_tokens_ms": spread([statistics.median(run.between or [0.0]) for run in runs], 1e3),
        "tokens": [run.tokens for run in runs],
        "dropped": sum(run.dropped for run in runs),
    }


if __name__ == "__main__":
    main()
