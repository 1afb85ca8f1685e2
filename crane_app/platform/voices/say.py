"""macOS: the program `say`, with all voices that System Settings has, Siri's excepted."""

from __future__ import annotations

import re
import shutil
from functools import cached_property

from crane_app.platform.voices import Voice
from crane_app.platform.voices.process import OUT, Rendering, listing

MEND = "macOS has the program `say` in /usr/bin; add that folder to PATH."
RATE = 22_050


def find() -> Say | None:
    program = shutil.which("say")
    return Say(program) if program else None


class Say:
    name = "say"

    def __init__(self, program: str) -> None:
        self._program = program

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    @cached_property
    def _voices(self) -> tuple[Voice, ...]:
        """Lines like `Bad News   en_US   # Hello!`; a name may have spaces and brackets."""
        found = re.findall(r"^(\S.*?)\s+([a-z]{2,3}[_-]\S+)\s+#", listing(self.name, [self._program, "-v", "?"]), re.M)
        return tuple(Voice(name, name, language.replace("_", "-").lower()) for name, language in found)

    def render(self, text: str, voice: str) -> Rendering:
        wanted = ["-v", voice] if voice else []
        command = [self._program, "-f", "-", "-o", OUT, f"--data-format=LEI16@{RATE}", *wanted]
        # An app that the Finder starts has no locale, and `say` then reads its input as Mac Roman.
        return Rendering(self.name, command, text, {"LC_ALL": "en_US.UTF-8"})
