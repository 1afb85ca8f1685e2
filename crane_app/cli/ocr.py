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
    """0, or 1 where a file could not be read; raises CraneError where nothing can be written.

    A pipe that closes raises BrokenPipeError, which the caller of all verbs answers.
    """
    from crane_app.media.reader import Reader
    from crane_app.pipelines.reading import Reading

    if args.out is not None:
        check(args.out, args.files)
    failed: list[str] = []
    pieces = _pieces(args, Reading(Reader()), failed)
    if args.out is None:
        for piece in pieces:
            _write(piece)
    else:
        written = "".join(pieces)
        if len(failed) < len(args.files):
            save(Path(args.out), written)
    return 1 if failed else 0


def _pieces(args: argparse.Namespace, reading: Reading, failed: list[str]) -> Iterator[str]:
    """The output as it comes; names of unread files go to `failed`, the reasons to standard error."""
    from crane_app.media.documents import shown
    from crane_app.pipelines.reading import as_json, as_markdown, as_text, escaped

    if args.format == "json":
        files = ((name, list(_pages(name, reading, failed))) for name in args.files)
        yield as_json((name, pages) for name, pages in files if name not in failed)
        return
    markdown = args.format == "markdown"
    write = as_markdown if markdown else as_text
    empty = True
    for name in args.files:
        header = f"# {escaped(shown(name))}\n" if markdown else f"==> {shown(name)} <==\n"
        for page in _pages(name, reading, failed):
            piece = write([page], "lines" if args.keep_lines else "paragraphs")
            if page.page == 1 and len(args.files) > 1:
                piece = f"{header}\n{piece}" if piece else header
            if piece:
                yield piece if empty else "\n" + piece
                empty = False


def _pages(name: str, reading: Reading, failed: list[str]) -> Iterator[PageText]:
    """The pages of one file; a file that cannot be read ends here with a sentence."""
    try:
        if name == STANDARD_INPUT:
            yield from reading.read(_standard_input(), "standard input")
        else:
            yield from reading.read(name)
    except CraneError as error:
        print(f"crane: {error}", file=sys.stderr)
        failed.append(name)


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
