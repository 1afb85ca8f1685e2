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
from crane_app.errors import CraneError
from crane_app.library.saving import check, save

if TYPE_CHECKING:
    from crane_app.pipelines.transcript import Segment, Steps, Transcript

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
    """0, or 1 where the text could not be saved and was printed; what was heard before an error is written too."""
    from crane_app.media.sound import Sound
    from crane_app.pipelines.hearing import Ear
    from crane_app.pipelines.transcript import Transcript, transcribe

    if args.out is not None:
        check(args.out, [args.file])
    any_text()
    with Sound(args.file) as sound, engines.one_off(args) as opened:
        engines.notes(opened)
        ear = Ear(opened.engine, opened.card.name)
        came: list[Segment] = []
        try:
            transcript = _watched(transcribe(ear, sound, args.whole, args.max_tokens), came, _at_once(args))
        except BaseException:
            if came:
                _write(args, Transcript(ear.model, came[-1].end, tuple(came)))
            raise
    return _write(args, transcript)


def _watched(steps: Steps, came: list[Segment], at_once: bool) -> Transcript:
    """Its end, with how far it is on a terminal; each segment goes to `came`, and at once to standard output."""
    from crane_app.engine.request import Progress
    from crane_app.pipelines.transcript import Segment, as_text

    try:
        while True:
            event = next(steps)
            if isinstance(event, Progress):
                engines.show(event)
            elif isinstance(event, Segment):
                came.append(event)
                if at_once:
                    engines.show(None)
                    _print(as_text([event]))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()
        engines.show(None)


def _at_once(args: argparse.Namespace) -> bool:
    """Whether segments are printed as they come; other forms are one piece."""
    return args.out is None and args.format == "text"


def _write(args: argparse.Namespace, transcript: Transcript) -> int:
    """All that is not printed yet; where it cannot be saved it is printed, with a sentence, and the status is 1."""
    if _at_once(args):
        return 0
    written = _formed(transcript, args.format)
    if args.out is None:
        _print(written)
        return 0
    try:
        save(Path(args.out), written)
    except CraneError as error:
        print(f"crane: {error} The text is on standard output instead.", file=sys.stderr)
        _print(written)
        return 1
    return 0


def _print(written: str) -> None:
    sys.stdout.write(written)
    sys.stdout.flush()


def _formed(transcript: Transcript, form: str) -> str:
    from crane_app.pipelines.transcript import as_json, as_srt, as_text

    return {"text": lambda t: as_text(t.segments), "srt": lambda t: as_srt(t.segments), "json": as_json}[form](
        transcript
    )
