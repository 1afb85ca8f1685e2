"""One side of a bench, from outside: a process that is asked and answers, and that never outlives the question.

Knows the form of the answers (`serve`), not what they mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from crane_app.errors import BadInput, CraneError

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
PARTING = 2.0  # seconds that a side has to leave by itself


class Lost(CraneError):
    """The process is gone: it died, or was ended because it did not answer."""


class Refused(CraneError):
    """The process answered that it cannot do this; it can be asked for something else."""


class Side:
    """A running side. Use it as a context: the process is gone afterwards, whatever happened."""

    def __init__(self, name: str, command: Sequence[str], threads: int | None, patience: float):
        self.name, self.patience = name, patience
        self.started = time.perf_counter()
        self._closed = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: Ctrl-C in a terminal reaches the bench alone, which ends its sides in order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(threads),
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, word: str, **given: Any) -> dict[str, Any]:
        """The answer to {word: given}. Raises Refused for {"error": ...}, Lost if none came in time or ever will."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # a dead side is found by its answer
            self._process.stdin.write(json.dumps({word: given}) + "\n")
            self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=self.patience)
        except queue.Empty:
            self.close(0)
            raise Lost(
                f"{self.name} gave no answer to '{word}' for {self.patience:.0f} s and was ended (--timeout)."
            ) from None
        if line is None:
            raise Lost(self._epitaph(word))
        try:
            answer = json.loads(line)
            assert isinstance(answer, dict)
        except (ValueError, AssertionError):
            self.close(0)
            raise Lost(f"{self.name} answered '{word}' with something that is no JSON object: {line!r:.80}") from None
        if "error" in answer:
            raise Refused(f"{self.name}: {answer['error']}")
        return answer

    def close(self, parting: float = PARTING) -> None:
        """End the process: its standard input closes, which it takes as the end; then the hard way. Idempotent."""
        if self._closed:
            return
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(parting)
        finally:
            self._closed = True
            self._kill()
            self._process.wait()
            self._errors.close()

    def _kill(self) -> None:
        """The process, and on POSIX whatever it started."""
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self, stdout: IO[str]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stdout:
                self._answers.put(line)
        self._answers.put(None)

    def _epitaph(self, word: str) -> str:
        """Why there is no answer, as far as the system and the last line of standard error tell."""
        try:
            code = self._process.wait(PARTING)
        except subprocess.TimeoutExpired:
            self.close(0)
            return f"{self.name} closed its answers during '{word}' and was ended."
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        self.close()
        if code == -9:
            return f"{self.name} was ended by the system during '{word}', most likely because memory ran out."
        said = next((f": {line.strip():.200}" for line in reversed(lines) if line.strip()), ".")
        return f"{self.name} ended during '{word}' (status {code}){said}"


def crane(threads: int | None, patience: float) -> Side:
    """Crane's own side."""
    return Side("crane", ["-m", "crane_app.bench.side"], threads, patience)


def peer(name: str, threads: int | None, patience: float) -> Side:
    """The side in benchmarks/peers/NAME.py, or in the file that `name` is the path of; llama.cpp's is llama_cpp.py."""
    path = Path(name) if name.endswith(".py") else PEERS / f"{name.replace('.', '_').replace('-', '_')}.py"
    if path.is_file():
        return Side(path.stem, [str(path.resolve())], threads, patience)
    known = sorted(p.stem for p in PEERS.glob("[!_]*.py"))
    if not known:
        raise BadInput("Peers are in the folder benchmarks/peers of Crane's source; this is an installed Crane.")
    raise BadInput(f"There is no peer '{name}'. There are: {', '.join(known)}.")


def _environment(threads: int | None) -> Mapping[str, str]:
    """This process's, with Crane's own folder to import from and the thread counts that libraries read at import."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), found.get("PYTHONPATH"))))
    return found if threads is None else found | dict.fromkeys(THREADS, str(threads))
