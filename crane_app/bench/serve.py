"""One side of a bench, from within: reads a request a line, runs it, answers with a line.

    {"version": {}}                                        -> {"version": {"torch": "2.13.0"}}
    {"load": {"folder", "backend", "device", "dtype", "threads"}} -> {"ready": {...}, "seconds": 1.2}
    {"prefill": {"tokens": 512}}                           -> {"seconds": 0.9}, until the first token is on the host
    {"decode": {"context": 128, "batch": 1, "steps": 16}}  -> {"seconds": 0.4}, for `steps` tokens in each row
    {"memory": {}}                                         -> {"peak": 1830000000}, of the process since its start
    {"stream": {}}                                         -> {"rate": 3.5e10}, if the side can read the device's memory

What cannot be done is answered with {"error": "a sentence"}. The process ends with its standard input, whatever it is
doing. What libraries print goes to standard error.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

import numpy as np

from crane_app.errors import CraneError, Unsupported

Request = dict[str, Any]


class Model(Protocol):
    """A loaded model. The first call of a case may prepare; `rounds` does not count it."""

    @property
    def ready(self) -> Mapping[str, Any]:
        """What the reader of the bench may want to know of it."""

    def prefill(self, tokens: int) -> float:
        """Seconds from a prompt of `tokens` to its first token on the host."""

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Seconds for `steps` greedy tokens in each of `batch` rows that hold `context` positions."""


def serve(load: Callable[..., Model], packages: tuple[str, ...]) -> None:
    """Answer until standard input ends. `load` takes what the request "load" holds; `packages` must be installed."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()
    model: Model | None = None
    while True:
        words = json.loads(requests.get())
        try:
            (word, given), *_ = words.items()
            if word == "load":
                start = time.perf_counter()
                model = load(**given)
                answer = {"ready": dict(model.ready), "seconds": time.perf_counter() - start}
            else:
                answer = _answer(model, packages, word, given)
        except Exception as error:
            answer = {"error": sentence(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _listen(stdin: TextIO, requests: queue.Queue[str]) -> None:
    for line in stdin:
        requests.put(line)
    os._exit(0)


def _answer(model: Model | None, packages: tuple[str, ...], word: str, given: Request) -> Request:
    if word == "version":
        return {"version": {name: version(name) for name in packages}}
    if word == "memory":
        return {"peak": peak()}
    if model is None or word not in ("prefill", "decode", "stream") or not hasattr(model, word):
        raise Unsupported(f"This side does not know the request '{word}' now.")
    return {"rate" if word == "stream" else "seconds": getattr(model, word)(**given)}


def version(package: str) -> str:
    """Of an installed package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Unsupported(f"{package} is not installed. pip install {package}") from None


def sentence(error: Exception) -> str:
    """What a reader of the bench is told about an error of any library."""
    text = " ".join(str(error).split())
    if isinstance(error, CraneError):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate" in text:
        return "There is not enough memory for this. Take a smaller model, context or batch."
    return f"{type(error).__name__}: {text:.300}" if text else type(error).__name__


def prompt(tokens: int, rows: int, vocabulary: int) -> np.ndarray:
    """The same random ids on all sides, int32 [rows, tokens]."""
    return np.random.default_rng(0).integers(0, vocabulary, (rows, tokens), np.int32)


def peak() -> int:
    """The most bytes that this process has had in memory, mapped files included.

    Linux's ru_maxrss would begin with the parent's size at the fork; VmHWM, proc(5), is this program's own.
    """
    if sys.platform == "win32":
        return _windows_peak()
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _windows_peak() -> int:
    """GetProcessMemoryInfo's PeakWorkingSetSize (Microsoft Learn, psapi.h)."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", ctypes.c_ulong),
            ("PageFaultCount", ctypes.c_ulong),
            *((f"field_{i}", ctypes.c_size_t) for i in range(8)),
        )

    counters = Counters()
    counters.cb = ctypes.sizeof(counters)
    process = ctypes.c_void_p(-1)  # the pseudo handle of GetCurrentProcess
    ctypes.windll.kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)  # type: ignore[attr-defined]
    return int(counters.field_0)
