"""`crane transcribe`: what is said in a sound file, as text, subtitles or JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crane_app import settings
from crane_app.cli import engines
from crane_app.cli.sampling import whole
from crane_app.cli.terminal import any_text
from crane_app.library.saving import check, save

if TYPE_CHECKING:
    from crane_app.pipelines.transcript import Steps, Transcript

SENTENCE = "Write down what is said in a sound file"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="A sound file: WAV, FLAC, MP3, Ogg and others")
    settings.add_flags(parser, "model", "backend", "device", "dtype")
    parser.add_argument("--whole", action="store_true", help="Give the model the file uncut, not what is said in it")
    parser.add_argument(
        "--max-tokens",
        type=whole(1, 1_000_000),
        metavar="N",
        help="The most of each segment, instead of what its length allows",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("text", "srt", "json"), default="text", help="Of the output (text)")
    form.add_argument("--json", dest="format", action="store_const", const="json", help="Same as --format json")
    parser.add_argument("--out", metavar="FILE", help="Write there instead of standard output")
    engines.add_flag(parser)


def run(args: argparse.Namespace) -> int:
    from crane_app.media.sound import Sound
    from crane_app.pipelines.hearing import Ear
    from crane_app.pipelines.transcript import transcribe

    if args.out is not None:
        check(args.out, [args.file])
    any_text()
    with Sound(args.file) as sound, engines.one_off(args) as opened:
        engines.notes(opened)
        ear = Ear(opened.engine, opened.card.name)
        transcript = _watched(transcribe(ear, sound, args.whole, args.max_tokens))
    written = _formed(transcript, args.format)
    if args.out is not None:
        save(Path(args.out), written)
    else:
        sys.stdout.write(written)
        sys.stdout.flush()
    return 0


def _watched(steps: Steps) -> Transcript:
    """Its end, with how far it is on a terminal."""
    from crane_app.engine.request import Progress

    try:
        while True:
            event = next(steps)
            if isinstance(event, Progress):
                engines.show(event)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()
        engines.show(None)


def _formed(transcript: Transcript, form: str) -> str:
    from crane_app.pipelines.transcript import as_json, as_srt, as_text

    return {"text": lambda t: as_text(t.segments), "srt": lambda t: as_srt(t.segments), "json": as_json}[form](
        transcript
    )
