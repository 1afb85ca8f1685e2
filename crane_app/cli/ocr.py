"""`crane ocr`: pictures and PDFs as text on standard output or in a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crane_app.errors import BadInput, CraneError
from crane_app.library.saving import check, save

if TYPE_CHECKING:
    from crane_app.media.pages import PageText
    from crane_app.pipelines.reading import Reading

SENTENCE = "Read the text in pictures and PDFs"
STANDARD_INPUT = "-"
MOST_INPUT = 1 << 30  # bytes of standard input


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="A picture or PDF; - reads standard input")
    parser.add_argument("--format", choices=["text", "markdown", "json"], default="text", help="Of the output (text)")
    parser.add_argument("--out", metavar="FILE", help="Write there instead of standard output")
    parser.add_argument("--keep-lines", action="store_true", help="Break lines where the page does")


def run(args: argparse.Namespace) -> int:
    """0, or 1 where a file or a page could not be read; raises CraneError where nothing can be written.

    A pipe that closes raises BrokenPipeError, which the caller of all verbs answers.
    """
    from crane_app.media.reader import Reader
    from crane_app.pipelines.reading import Reading

    if args.out is not None:
        check(args.out, args.files)
    tally = _Tally()
    pieces = _pieces(args, Reading(Reader()), tally)
    if args.out is None:
        for piece in pieces:
            _write(piece)
    else:
        written = "".join(pieces)
        if tally.pages:
            save(Path(args.out), written)
    return 1 if tally.failed else 0


class _Tally:
    """How many pages were read, and whether anything could not be."""

    def __init__(self) -> None:
        self.pages, self.failed = 0, False

    def fail(self, error: CraneError) -> None:
        print(f"crane: {error}", file=sys.stderr)
        self.failed = True


def _pieces(args: argparse.Namespace, reading: Reading, tally: _Tally) -> Iterator[str]:
    """The output as it comes; why a file or a page is not in it goes to standard error."""
    from crane_app.media.documents import shown
    from crane_app.pipelines.reading import as_json, as_markdown, as_text, escaped

    if args.format == "json":
        files = ((name, list(_pages(name, reading, tally))) for name in args.files)
        yield as_json((name, pages) for name, pages in files if pages)
        return
    markdown = args.format == "markdown"
    write = as_markdown if markdown else as_text
    empty = True
    for name in args.files:
        header = f"# {escaped(shown(name))}\n" if markdown else f"==> {shown(name)} <==\n"
        for number, page in enumerate(_pages(name, reading, tally)):
            piece = write([page], "lines" if args.keep_lines else "paragraphs")
            if number == 0 and len(args.files) > 1:
                piece = f"{header}\n{piece}" if piece else header
            if piece:
                yield piece if empty else "\n" + piece
                empty = False


def _pages(name: str, reading: Reading, tally: _Tally) -> Iterator[PageText]:
    """The pages of one file; one that cannot be read is left out with a sentence, and so is a whole file."""
    try:
        piped = name == STANDARD_INPUT
        source, shown = (_standard_input(), "standard input") if piped else (name, "")
        for page in reading.read(source, shown, tally.fail):
            tally.pages += 1
            yield page
    except CraneError as error:
        tally.fail(error)


def _standard_input() -> bytes:
    data = sys.stdin.buffer.read(MOST_INPUT + 1)
    if len(data) > MOST_INPUT:
        raise BadInput("Standard input has more than 1 GB. Save it to a file and name that.")
    return data


def _write(text: str) -> None:
    """To standard output at once; signs that it cannot show become question marks."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
