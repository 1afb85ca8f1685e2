"""espeak-ng, or its older kin espeak: the voice on Linux, and anywhere else it is installed."""

from __future__ import annotations

import os
import shutil
from functools import cached_property

from crane_app.platform.voices import Voice, for_language
from crane_app.platform.voices.process import Rendering, listing

MEND = "Install espeak-ng: sudo apt-get install espeak-ng (Debian, Ubuntu) or sudo dnf install espeak-ng (Fedora)."
DEFAULT = "en-us"


def find() -> Espeak | None:
    program = shutil.which("espeak-ng") or shutil.which("espeak")
    return Espeak(program) if program else None


class Espeak:
    name = "espeak-ng"

    def __init__(self, program: str) -> None:
        self._program = program

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    @cached_property
    def _voices(self) -> tuple[Voice, ...]:
        """Priority, language, gender, name and file of a line; those of mbrola, a program of its own, are left out."""
        found: dict[str, Voice] = {}
        for line in listing(self.name, [self._program, "--voices"]).splitlines()[1:]:
            parts = line.split()
            if len(parts) >= 5 and not parts[4].startswith("mb"):
                language = parts[1].lower()
                found.setdefault(language, Voice(language, _shown(parts[3]), language))
        return tuple(sorted(found.values(), key=lambda voice: voice.name))

    def render(self, text: str, voice: str) -> Rendering:
        command = [self._program, "-b", "1", "-v", voice or self._own, "--stdin", "--stdout"]
        return Rendering(self.name, command, text)

    @cached_property
    def _own(self) -> str:
        """The voice of the language that the system speaks; the program's own choice is always English."""
        tag = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
        found = for_language(self._voices, tag.partition(".")[0].replace("_", "-").lower())
        return found.id if found else DEFAULT


def _shown(name: str) -> str:
    """`English_(Great_Britain)` and `english-us` as people write them."""
    return name.replace("_", " ").replace("-", " ").strip()
