"""`crane say`: text as speech, out of the speaker or into a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crane_app import settings
from crane_app.errors import BadInput

if TYPE_CHECKING:
    from crane_app.media.sentences import Sentence
    from crane_app.pipelines.speech import Speech
    from crane_app.platform.voices import SystemVoice

SENTENCE = "Read a text aloud, or write it to a sound file"
STANDARD_INPUT = "-"
MOST_INPUT = 16 << 20  # bytes of standard input
MARKDOWN = (".md", ".markdown")


def add_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", metavar="TEXT", help="What to say; - reads standard input")
    what.add_argument("--file", metavar="FILE", help="Say a text file instead; .md is read as Markdown")
    what.add_argument("--list-voices", action="store_true", help="Print the voices and their languages")
    parser.add_argument("--out", metavar="FILE", help="Write .wav, .flac, .mp3 or .ogg instead of playing")
    parser.add_argument("--json", action="store_true", help="Print one JSON object")
    settings.add_flags(parser, "voice", "speech-speed", "speech-volume", "speaker", "announce-code")
    refuse = parser.error
    advice = "Put -- before a TEXT that begins with a dash: crane say -- -hello"
    parser.error = lambda message: refuse(f"{message}. {advice}")  # type: ignore[method-assign]


def run(args: argparse.Namespace) -> int:
    from crane_app.media import sound_files
    from crane_app.media.spoken_text import CODE, script
    from crane_app.pipelines.speech import Speech
    from crane_app.platform import voices

    if args.out is not None:
        sound_files.check(Path(args.out))
    teller = voices.find()
    if args.list_voices:
        return _list(teller, args.json)
    text, markdown = _text(args)
    sentences = script(text, markdown, CODE if args.announce_code else "")
    if not sentences:
        raise BadInput("There is nothing to say in this text.")
    speech = Speech(teller, args.voice or "")
    seconds = _save(speech, sentences, args) if args.out is not None else _play(speech, sentences, args)
    if args.json:
        print(json.dumps(_report(sentences, seconds, args), ensure_ascii=False))
    return 0


def _save(speech: Speech, sentences: Sequence[Sentence], args: argparse.Namespace) -> list[float]:
    """The seconds of each sentence as it is in the file."""
    from crane_app.pipelines.speech import save

    spoken = save(speech.read(sentences), Path(args.out), args.speech_speed)
    return [len(each.samples) / each.rate / args.speech_speed for each in spoken]


def _play(speech: Speech, sentences: Sequence[Sentence], args: argparse.Namespace) -> list[float]:
    from crane_app.pipelines.narration import Narration
    from crane_app.platform.speaker import Speaker

    speaker = Speaker(args.speaker or "")
    narration = Narration(speech.read(sentences), speaker, args.speech_speed, args.speech_volume / 100)
    seconds: dict[int, float] = {}
    for moment in narration.moments():
        seconds[moment.index] = moment.length / args.speech_speed
    return list(seconds.values())


def _list(teller: SystemVoice, as_json: bool) -> int:
    if as_json:
        voices = [{"id": voice.id, "name": voice.name, "language": voice.language} for voice in teller.voices()]
        print(json.dumps({"program": teller.name, "voices": voices}, ensure_ascii=False))
        return 0
    width = max((len(voice.id) for voice in teller.voices()), default=0)
    for voice in teller.voices():
        print(f"{voice.id:{width}}  {voice.language:12}  {voice.name}")
    return 0


def _report(sentences: Sequence[Sentence], seconds: list[float], args: argparse.Namespace) -> dict[str, Any]:
    said = [
        {"start": each.start, "end": each.end, "text": each.text, "seconds": round(length, 3)}
        for each, length in zip(sentences, seconds, strict=True)
    ]
    return {"sentences": said, "seconds": round(sum(seconds), 3), "voice": args.voice or None, "out": args.out}


def _text(args: argparse.Namespace) -> tuple[str, bool]:
    """What to say, and whether it is Markdown."""
    from crane_app.media.text_files import read_text

    if STANDARD_INPUT in (args.text, args.file):
        return _standard_input(), False
    if args.file is None:
        return args.text, False
    path = Path(args.file)
    return read_text(path), path.suffix.lower() in MARKDOWN


def _standard_input() -> str:
    data = sys.stdin.buffer.read(MOST_INPUT + 1)
    if len(data) > MOST_INPUT:
        raise BadInput("Standard input has more than 16 MB. Save a part of it to a file and name that.")
    return data.decode("utf-8", "replace")
