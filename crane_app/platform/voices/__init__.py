"""The system's voice: programs that come with it, each a small module, tried in order; one process per sentence.

Text reaches a program through its standard input, never as an argument or through a shell.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crane_app.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from crane_app.platform.voices.process import Rendering


@dataclass(frozen=True)
class Voice:
    """id: what the program calls it; name: for people; language: a tag like en-gb, in lower case."""

    id: str
    name: str
    language: str


class SystemVoice(Protocol):
    """A program that turns text into sound."""

    name: str

    def voices(self) -> tuple[Voice, ...]:
        """All its voices; raises CraneError where it cannot tell."""
        ...

    def render(self, text: str, voice: str) -> Rendering:
        """Start to say `text` in the voice of that id, "" for the program's own choice."""
        ...


MANDARIN = {"zh": "cmn", "cmn": "zh"}  # Chinese, and the language of it that is meant (ISO 639-3, macrolanguages)
# By sys.platform, modules with `find() -> SystemVoice | None`; elsewhere ELSEWHERE.
ORDER = {"darwin": ("say", "espeak"), "win32": ("system_speech", "espeak")}
ELSEWHERE = ("espeak",)


def find(system: str = sys.platform) -> SystemVoice:
    """The first program that is here; raises Unsupported with how to get one."""
    names = ORDER.get(system, ELSEWHERE)
    modules = [importlib.import_module(f"crane_app.platform.voices.{name}") for name in names]
    for module in modules:
        found: SystemVoice | None = module.find()
        if found is not None:
            return found
    raise Unsupported(f"This machine has no voice to read aloud with. {modules[0].MEND}")


def chosen(voices: tuple[Voice, ...], wish: str) -> Voice:
    """The voice whose id, name or language is `wish`; raises BadInput where there is none."""
    low = wish.strip().lower()
    for voice in voices:
        if low in (voice.id.lower(), voice.name.lower(), voice.language):
            return voice
    related = for_language(voices, low)
    if related is None:
        raise BadInput(f"There is no voice '{wish:.60}' here. Choose another one; `crane say --list-voices` shows all.")
    return related


def for_language(voices: tuple[Voice, ...], language: str) -> Voice | None:
    """The first voice of a language, else of a related one: `en` is met by en-gb, and `en-nz` by any other en."""
    family = language.partition("-")[0]
    exact = [voice for voice in voices if voice.language == language]
    related = [voice for voice in voices if voice.language.partition("-")[0] == family]
    other = [voice for voice in voices if voice.language.partition("-")[0] == MANDARIN.get(family)]
    return next(iter(exact + related + other), None)
