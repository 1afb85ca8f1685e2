"""One sentence in a process of its own: started, waited for or killed, its WAV read."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import tempfile
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crane_app.errors import Cancelled, CraneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_S = 120  # for one sentence; a program that takes longer hangs
HIDDEN = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # no console window flashes up on Windows
NONE: Mapping[str, str] = {}
OUT = "{out}"  # in a command: the file that it must write


@dataclass(frozen=True)
class Sound:
    """samples: float32 [n] in -1..1; rate: of them, a second."""

    samples: NDArray[np.float32]
    rate: int


class Rendering:
    """A process that says one sentence into a WAV: the file OUT of its command, else its standard output."""

    def __init__(self, name: str, command: Sequence[str], text: str, variables: Mapping[str, str] = NONE) -> None:
        self._name, self._text, self._cancelled = name, speakable(text), False
        self._things = contextlib.ExitStack()
        self._out: Path | None = None
        if OUT in (*command, *variables.values()):
            folder = tempfile.TemporaryDirectory(prefix="crane-voice-", ignore_cleanup_errors=True)
            self._out = Path(self._things.enter_context(folder), "sentence.wav")
        try:
            self._process = subprocess.Popen(
                [self._filled(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **{key: self._filled(part) for key, part in variables.items()}},
                creationflags=HIDDEN,
            )
        except OSError as error:
            self._things.close()
            raise CraneError(f"{name} cannot be started ({error.strerror or error}). Install it again.") from error

    def sound(self) -> Sound:
        """Wait for the sentence; raises Cancelled after `cancel()`, and CraneError where the program failed."""
        with self._things:
            told, problem = self._finish()
            if self._cancelled:
                raise Cancelled("The voice was stopped.")
            made = self._out.read_bytes() if self._out and self._out.exists() else told
            # espeak-ng calls it a success when it knows no such voice.
            if self._process.returncode != 0 or (problem and not made):
                raise CraneError(f"{self._name} could not say a sentence{_reason(problem)}. Try another voice.")
            return _wav(made, self._name)

    def cancel(self) -> None:
        """Kill the process; from any thread, and any number of times."""
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._process.kill()

    def _finish(self) -> tuple[bytes, bytes]:
        try:
            return self._process.communicate(self._text.encode(), timeout=LONGEST_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.communicate()
            raise CraneError(f"{self._name} did not finish a sentence within {LONGEST_S} s. Try again.") from error

    def _filled(self, part: str) -> str:
        return str(self._out) if part == OUT else part


def listing(name: str, command: Sequence[str]) -> str:
    """What a program prints when it is asked for its voices."""
    try:
        told = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True, creationflags=HIDDEN
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CraneError(f"{name} does not tell its voices. Install it again.") from error
    return told.stdout.decode("utf-8", "replace")


_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")


def speakable(text: str) -> str:
    """The text without control signs, halves of letters, and what `say` or espeak-ng takes for a command.

    Both read what stands in double brackets as instructions: speed and silence the one, phonemes the other.
    """
    text = _UNSPEAKABLE.sub(" ", text)
    return re.sub(r"\[(?=\[)", "[ ", text)


def _wav(data: bytes, name: str) -> Sound:
    """The sound of a WAV of 16 bits, whose header may claim more than follows; nothing at all is silence."""
    import numpy as np

    if not data:
        return Sound(np.zeros(0, np.float32), 22_050)
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise CraneError(f"{name} made a sound that cannot be read. Try another voice.") from error
    if width != 2 or not rate:
        raise CraneError(f"{name} made a sound that cannot be read. Try another voice.")
    whole = len(frames) - len(frames) % (2 * channels)
    samples = np.frombuffer(frames[:whole], "<i2").reshape(-1, channels).mean(axis=1)
    return Sound((samples / 32_768).astype(np.float32), rate)


def _reason(problem: bytes) -> str:
    words = problem.decode("utf-8", "replace").split()
    return f" ({' '.join(words).rstrip('.'):.200})" if words else ""
