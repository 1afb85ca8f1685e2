"""The pictures and PDFs of a folder, in the order in which a person would count them."""

from __future__ import annotations

import os
import re
from pathlib import Path

SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg"),
    *(".pdf", ".png", ".tif", ".tiff", ".webp"),
}
MOST = 5000  # files of one folder


def documents_in(folder: Path, most: int = MOST) -> tuple[list[Path], int]:
    """Its pictures and PDFs and those of the folders within, at most `most`; and how many more there are.

    What is hidden stays out, and so does what lies behind a link, which may lead back or anywhere.
    """
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in names if _document(name)]
    found.sort(key=lambda path: [natural(part) for part in path.relative_to(folder).parts])
    return found[:most], max(0, len(found) - most)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key by which page 2 comes before page 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _parts(name)]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d{1,18})", name.casefold()) if part]


def _document(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
