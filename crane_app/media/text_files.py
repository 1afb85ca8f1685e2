"""A file that is given with a question, as text; what is no text is refused with a sentence."""

from __future__ import annotations

import codecs
from pathlib import Path

from crane_app.errors import BadInput

LARGEST = 4 * 2**20  # bytes; more than any model's context
MARKS = (  # the longer ones first: one of UTF-32 begins like one of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """The file's text, line ends as `\\n`: by its byte order mark, else UTF-8, else Windows-1252 if that fits.

    Raises BadInput for folders, files that cannot be read, are larger than LARGEST, or are no text.
    """
    try:
        if path.is_dir():
            raise BadInput(f"{path.name} is a folder. Give the files in it.")
        if path.exists() and not path.is_file():  # a pipe or a device may never come to an end
            raise BadInput(f"{path.name} is not a file that can be read to its end.")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise BadInput(f"{path.name} cannot be read: {error.strerror or error}.") from None
    if len(raw) > LARGEST:
        raise BadInput(f"{path.name} is larger than {LARGEST >> 20} MB, which is more than a model can take.")
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), None)
    if encoding is None and b"\0" in raw:
        raise BadInput(f"{path.name} is not a text file.")
    for each in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            return raw.decode(each).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
    raise BadInput(f"{path.name} is not a text file, or not in UTF-8.")
