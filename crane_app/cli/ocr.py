"""`crane ocr`: pictures and PDFs as text on standard output or in a file."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crane_app.errors import BadInput, CraneError

if TYPE_CHECKING:
    from crane_app.pipelines.reading import PageText, Reading

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
        _check(args.out, args.files)
    failed: list[str] = []
    pieces = _pieces(args, Reading(Reader()), failed)
    if args.out is None:
        for piece in pieces:
            _write(piece)
    else:
        written = "".join(pieces)
        if len(failed) < len(args.files):
            _save(Path(args.out), written)
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
            piece = write([page], keep_lines=args.keep_lines)
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


def _check(out: str, files: list[str]) -> None:
    """Before the work: that the output can be written, and is none of the inputs."""
    path = Path(out)
    if path.is_dir():
        raise CraneError(f"'{out}' is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise CraneError(f"There is no folder '{path.parent}'. Make it first.")
    if any(Path(file).exists() and path.exists() and path.samefile(file) for file in files):
        raise CraneError(f"'{out}' is one of the files to read. Name another one for the output.")


def _save(path: Path, text: str) -> None:
    """Write the whole file or nothing: whoever reads it sees the old text or the new."""
    temporary = None
    path = path.resolve()  # a link stays a link
    try:
        if path.exists() and not path.is_file():  # /dev/null has no old text to keep
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=".crane-", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.chmod(_mode(path))
        temporary.replace(path)
    except OSError as error:
        raise CraneError(f"'{path}' cannot be written ({error.strerror}). Check the folder and disk.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """The permissions that the file has, or a new one would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
