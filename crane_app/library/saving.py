"""Texts that a person wants in a file: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from crane_app.errors import CraneError


def check(out: str | Path, inputs: Iterable[str | Path]) -> None:
    """Before the work: that `out` can be written, and is none of the inputs. CraneError otherwise."""
    path = Path(out)
    if path.is_dir():
        raise CraneError(f"'{out}' is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise CraneError(f"There is no folder '{path.parent}'. Make it first.")
    if any(Path(file).exists() and path.exists() and path.samefile(file) for file in inputs):
        raise CraneError(f"'{out}' is one of the files to read. Name another one for the output.")


def save(path: Path, text: str) -> None:
    """Write the whole file or nothing: whoever reads it sees the old text or the new. CraneError where it cannot be."""
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
