"""Pages as the window shows them: first the picture of a page, then its text.

Runs on a worker's thread: decoding, scaling and reading never touch the GUI thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QBuffer, QIODevice, Qt
from PySide6.QtGui import QImage

if TYPE_CHECKING:
    import numpy as np

Source = Path | bytes | QImage

# Sharp on a screen at 200 %, and decoded within a frame or two when the page is turned.
LONGEST_SIDE = 2000
QUALITY = 90


@dataclass(frozen=True)
class Sheet:
    """How a page looks: `picture` is a JPEG; `width` and `height` are the page's own pixels."""

    page: int
    count: int
    width: int
    height: int
    picture: bytes


class PageReader:
    """Reads documents with one reading pipeline that stays loaded."""

    def __init__(self, reading: Any = None):
        self._reading = reading

    def pages(self, source: Source, name: str) -> Iterator[Any]:
        """Each page twice: its Sheet as soon as it is decoded, then its PageText."""
        from crane_app.media.documents import Document
        from crane_app.media.reader import Reader
        from crane_app.pipelines.reading import Reading

        if isinstance(source, QImage):
            source = _encoded(source, "PNG", 100)  # 100: no compression, for speed
        self._reading = self._reading or Reading(Reader())
        # Decoding twice costs little beside reading, and the page is seen before its text is there.
        with Document(source, name) as document, closing(self._reading.read(source, name)) as texts:
            for page in document:
                yield sheet(page.number, document.count, page.image)
                yield next(texts)

    def as_text(self, pages: list[Any]) -> str:
        from crane_app.pipelines.reading import as_text

        return as_text(pages)

    def as_markdown(self, pages: list[Any]) -> str:
        from crane_app.pipelines.reading import as_markdown

        return as_markdown(pages)


def sheet(number: int, count: int, image: np.ndarray) -> Sheet:
    """A page's picture for the screen, from its pixels uint8 [H, W, 3]."""
    import numpy as np  # here, so that the window opens sooner

    pixels = np.ascontiguousarray(image)
    height, width = pixels.shape[:2]
    picture = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    if max(width, height) > LONGEST_SIDE:
        smooth = Qt.TransformationMode.SmoothTransformation
        picture = picture.scaled(LONGEST_SIDE, LONGEST_SIDE, Qt.AspectRatioMode.KeepAspectRatio, smooth)
    return Sheet(number, count, width, height, _encoded(picture, "JPEG", QUALITY))


def _encoded(picture: QImage, form: str, quality: int) -> bytes:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    picture.save(buffer, form, quality)
    return bytes(buffer.data())
