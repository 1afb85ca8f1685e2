"""Windows: System.Speech of the .NET that comes with it, through PowerShell.

The script is fixed; the voice and the file travel in variables of the environment, the text on standard input.
"""

from __future__ import annotations

import base64
import shutil
from functools import cached_property

from crane_app.platform.voices import Voice
from crane_app.platform.voices.process import OUT, Rendering, listing

MEND = "Windows has PowerShell in System32\\WindowsPowerShell\\v1.0; add that folder to PATH."
START = "$ErrorActionPreference='Stop'; Add-Type -AssemblyName System.Speech; "
START += "$speech = New-Object System.Speech.Synthesis.SpeechSynthesizer; "
# Not [Console]::In: it has the code page of a console, or fails where there is none.
RENDER = START + (
    "$in = New-Object IO.StreamReader([Console]::OpenStandardInput(), [Text.Encoding]::UTF8); "
    "$text = $in.ReadToEnd(); "
    "if ($env:CRANE_VOICE) { $speech.SelectVoice($env:CRANE_VOICE) }; "
    "$speech.SetOutputToWaveFile($env:CRANE_OUT); $speech.Speak($text); $speech.Dispose()"
)
LIST = START + (
    "$lines = $speech.GetInstalledVoices() | Where-Object Enabled | ForEach-Object "
    "{ $_.VoiceInfo.Culture.Name + [char]9 + $_.VoiceInfo.Name }; "
    "$bytes = [Text.Encoding]::UTF8.GetBytes(($lines -join [char]10)); "
    "[Console]::OpenStandardOutput().Write($bytes, 0, $bytes.Length)"
)


def find() -> SystemSpeech | None:
    program = shutil.which("powershell")
    return SystemSpeech(program) if program else None


class SystemSpeech:
    name = "System.Speech"

    def __init__(self, program: str) -> None:
        self._program = program

    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    @cached_property
    def _voices(self) -> tuple[Voice, ...]:
        lines = listing(self.name, self._command(LIST)).splitlines()
        pairs = [line.strip().partition("\t") for line in lines if "\t" in line]
        return tuple(Voice(name, name, language.lower()) for language, _, name in pairs)

    def render(self, text: str, voice: str) -> Rendering:
        return Rendering(self.name, self._command(RENDER), text, {"CRANE_VOICE": voice, "CRANE_OUT": OUT})

    def _command(self, script: str) -> list[str]:
        encoded = base64.b64encode(script.encode("utf-16-le")).decode()
        return [self._program, "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]
