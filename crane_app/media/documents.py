"""Pictures and PDFs as pages of pixels, one page in memory at a time.

What a file is, its content decides, not its name. Knows nothing of the text on the pages.
"""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from crane_app.errors import BadInput, NotEnoughMemory
from crane_app.media import opening

Source = str | os.PathLike[str] | bytes

MOST_PIXELS = 120_000_000  # of a picture; the biggest phone cameras make 108 million
PDF_DPI = 200.0
PDF_PIXELS = 25_000_000  # of a rendered page; A3 at 200 dpi has 8 million
# Pillow opens more than these; some of them run other programs (EPS) or are no pictures of text.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "TIFF", "WEBP")

_pdfium = threading.Lock()  # PDFium is not thread-safe, whichever document is meant

# MOST_PIXELS is checked before anything is decoded, so Pillow need not warn of it, nor of odd metadata.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Page:
    """Page `number` of `count` (from 1): uint8 [H, W, 3], and its resolution where the file says."""

    number: int
    count: int
    image: np.ndarray
    dpi: float | None


class Document:
    """An open picture or PDF: `count` pages, decoded as they are asked for. Raises BadInput.

    Close it, or use `with`. A PDF and a TIFF have pages; of an animation only the first frame counts.
    """

    def __init__(self, source: Source, name: str = "") -> None:
        self.name = called(source, name)
        file = opened(source, self.name)
        try:
            self._sheets = _sheets(file, self.name)
        except BaseException:
            file.close()
            raise
        self.count = self._sheets.count

    def __iter__(self) -> Iterator[Page]:
        for number in range(1, self.count + 1):
            yield self.page(number)  # no name here holds a page while the next is decoded

    def page(self, number: int) -> Page:
        """One page, from 1; the others may be readable where it is damaged."""
        try:
            return Page(number, self.count, *self._sheets.draw(number - 1))
        except MemoryError as error:
            raise NotEnoughMemory(f"{self.name} does not fit in memory. Make it smaller.") from error

    def close(self) -> None:
        self._sheets.close()

    def __enter__(self) -> Document:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sheets(Protocol):
    count: int

    def draw(self, index: int) -> tuple[np.ndarray, float | None]: ...
    def close(self) -> None: ...


def opened(source: Source, name: str) -> BinaryIO:
    """The bytes of a source, to be read and sought; raises BadInput with the name, which comes quoted."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return opening.opened(source, name, "the pictures or PDFs")


def _sheets(file: BinaryIO, name: str) -> _Sheets:
    try:
        head = file.read(4096)
        file.seek(0)
    except OSError as error:
        raise BadInput(f"{name} cannot be read ({error.strerror}). Check its disk.") from error
    if b"%PDF-" in head[:1024]:  # PDF 1.7, implementation note 13: the header may come late
        return _Pdf(file, name)
    try:
        return _Picture(file, name)
    except UnidentifiedImageError as error:
        raise BadInput(_why_refused(head, name)) from error


class _Picture:
    """The frames of a TIFF, or the first frame of any other picture."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._picture = self._guarded(lambda: Image.open(file, formats=FORMATS), UnidentifiedImageError)
        self._check_size(name)
        paged = self._picture.format == "TIFF"
        self.count: int = self._guarded(lambda: getattr(self._picture, "n_frames", 1)) if paged else 1

    def draw(self, index: int) -> tuple[np.ndarray, float | None]:
        def turn_to_page() -> None:
            if self.count > 1:
                self._picture.seek(index)

        page = f"Page {index + 1} of {self._name}" if self.count > 1 else self._name
        self._guarded(turn_to_page, called=page)
        self._check_size(page)
        white = _white(self._picture)
        image: np.ndarray = self._guarded(lambda: _pixels(_upright(self._picture), white), called=page)
        return image, _dpi(self._picture)

    def close(self) -> None:
        self._picture.close()
        self._file.close()

    def _check_size(self, called: str) -> None:
        if math.prod(self._picture.size) > MOST_PIXELS:
            raise _too_big(called)

    def _guarded(self, step: Callable[[], Any], *passed_on: type[Exception], called: str = "") -> Any:
        """The result of `step`; whatever else a decoder stumbles over means that the file is damaged."""
        try:
            return step()
        except MemoryError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_big(called or self._name) from error
        except Exception as error:
            if isinstance(error, passed_on):
                raise
            why = shown(str(error)) or type(error).__name__
            raise BadInput(f"{called or self._name} is damaged ({why}). Get or save it again.") from error


class _Pdf:
    """The pages of a PDF, drawn with its filled forms and notes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        import pypdfium2

        self._file = file
        self._name = name
        self._errors = (pypdfium2.PdfiumError, OSError, ValueError)
        with _pdfium:
            try:
                self._pdf = pypdfium2.PdfDocument(file)
                self._pdf.init_forms()
                self.count = len(self._pdf)
            except self._errors as error:
                if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD:
                    raise BadInput(
                        f"{name} is locked with a password. Save a copy without one and read that."
                    ) from error
                # PDFium does not tell the two apart.
                raise BadInput(f"{name} is a PDF that is damaged or has no pages. Save it again.") from error

    def draw(self, index: int) -> tuple[np.ndarray, float | None]:
        with _pdfium:
            try:
                page = self._pdf[index]
            except self._errors as error:
                raise self._damaged(index) from error
            try:
                dpi = _fitting_dpi(*page.get_size())
                bitmap = page.render(scale=dpi / 72, rev_byteorder=True)
                try:
                    return np.array(bitmap.to_numpy()[..., :3]), dpi
                finally:
                    bitmap.close()
            except self._errors as error:
                raise self._damaged(index) from error
            finally:
                page.close()

    def close(self) -> None:
        with _pdfium:
            self._pdf.close()
        self._file.close()

    def _damaged(self, index: int) -> BadInput:
        return BadInput(f"Page {index + 1} of {self._name} is damaged. Save the PDF again.")


def _fitting_dpi(width: float, height: float) -> float:
    """PDF_DPI, or less where a page of width x height points would have more than PDF_PIXELS."""
    # The scale s at which (s * width + 1) * (s * height + 1) is PDF_PIXELS: the last pixel of a side may be a part.
    sides, area = max(width + height, 1.0), width * height
    return min(PDF_DPI, 72 * 2 * PDF_PIXELS / (sides + math.sqrt(sides**2 + 4 * area * PDF_PIXELS)))


def _too_big(name: str) -> BadInput:
    return BadInput(f"{name} has more than {MOST_PIXELS // 1_000_000} million pixels. Make it smaller or cut it up.")


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; a damaged EXIF block turns nothing."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture


def _dpi(picture: Image.Image) -> float | None:
    """The resolution that the file claims, where it is a sensible number."""
    try:
        dpi = float(picture.info["dpi"][0])
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return dpi if 1 < dpi < 100_000 else None  # 1: a JPEG that says only its aspect ratio; nan: neither


def _pixels(picture: Image.Image, white: float | None) -> np.ndarray:
    """uint8 [H, W, 3] of a picture of any mode, on white where it is transparent."""
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = _grey(np.asarray(picture), white)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    if picture.mode == "LAB":  # Pillow has no way back to RGB without profiles; lightness is enough to read
        picture = picture.getchannel("L")
    return np.asarray(picture.convert("RGB"))


def _white(picture: Image.Image) -> float | None:
    """The value of white in a picture of 16 bits (or 12, in a TIFF); None where only the values can tell."""
    if not picture.mode.startswith("I;16"):
        return None
    bits = getattr(picture, "tag_v2", {}).get(258, (16,))  # 258: BitsPerSample
    return float(2 ** bits[0] - 1)


def _grey(values: np.ndarray, white: float | None) -> np.ndarray:
    """uint8 [H, W] from wide values [H, W]: 0 is black, white is `white`, or the next usual white."""
    values = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
    if white is None:
        values = values - min(float(values.min(initial=0.0)), 0.0)
        most = float(values.max(initial=0.0))
        usual = (1.0, 255.0, 65535.0) if most <= 1 else (255.0, 65535.0)
        white = next((value for value in usual if most <= value), most)
    return np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8)


def called(source: Source, name: str = "") -> str:
    """What errors call a source."""
    return f"'{shown(name or str(source))}'" if name or not isinstance(source, bytes) else "The input"


# --- why a file is not read, judged by its first bytes

# First bytes -> what the file is and what to do about it.
_OTHERS = {
    b"PK\x03\x04": "is an office document or an archive. Export it as PDF, or unpack it",
    b"\xd0\xcf\x11\xe0": "is an office document. Export it as PDF",
    b"%!PS": "is a PostScript file. Save it as PDF",
    b"{\\rtf": "is a text document. Export it as PDF",
    b"GIF8": "is a damaged GIF. Get or save it again",
    b"\x89PNG": "is a damaged PNG. Get or save it again",
    b"\xff\xd8\xff": "is a damaged JPEG. Get or save it again",
    b"II*\x00": "is a damaged TIFF. Get or save it again",
    b"MM\x00*": "is a damaged TIFF. Get or save it again",
}
_PHOTOS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def shown(name: str) -> str:
    """A file name on one line, whatever signs are in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _why_refused(head: bytes, name: str) -> str:
    """The sentence for a file that starts with `head` and is neither a picture nor a PDF."""
    if not head:
        return f"{name} is empty. Get or save it again."
    for first, what in _OTHERS.items():
        if head.startswith(first):
            return f"{name} {what}."
    if head[4:8] == b"ftyp":
        if head[8:12] in _PHOTOS:
            return f"{name} is a HEIC photo, which Crane cannot open. Save it as JPEG or PNG."
        return f"{name} is a film. Take a picture of the frame you want to read."
    if b"<svg" in head.lower():
        return f"{name} is an SVG drawing, which has no pixels. Export it as PNG or PDF."
    if _is_text(head):
        return f"{name} holds plain text, not a picture or a PDF. Open it in an editor."
    return f"{name} is not a picture or PDF that Crane can open. Save it as PNG, JPEG or PDF."


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    text = head.decode("utf-8", "ignore")
    lost = len(head) - len(text.encode())
    # A cut at the end may break one sign of up to four bytes.
    return lost <= 3 and not any(c < " " and c not in "\t\n\r\f" for c in text)
