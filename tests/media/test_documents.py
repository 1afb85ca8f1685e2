"""Every kind of picture and PDF becomes pages of uint8 [H, W, 3]; everything else a sentence."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from crane_app.errors import BadInput, CraneError
from crane_app.media import documents
from crane_app.media.documents import Document, Page

# Of Pillow, on damaged files; pytest undoes the module's own filters.
pytestmark = pytest.mark.filterwarnings("ignore")


def saved(picture: Image.Image, format: str = "PNG", **choices: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **choices)
    return file.getvalue()


def pages(source: bytes | str | Path, name: str = "") -> list[Page]:
    with Document(source, name) as document:
        return list(document)


def only(source: bytes) -> np.ndarray:
    (page,) = pages(source)
    assert page.image.dtype == np.uint8
    assert page.image.ndim == 3
    assert page.image.shape[2] == 3
    return page.image


def ramp(dtype: type, white: float) -> np.ndarray:
    return np.linspace(0, white, 256).astype(dtype)[None, :].repeat(4, axis=0)


def refused(source: bytes | str | Path, name: str = "x.png") -> str:
    with pytest.raises(BadInput) as caught:
        pages(source, name)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def pdf(*sizes: tuple[float, float]) -> bytes:
    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    for size in sizes:
        document.new_page(*size)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def twelve_bits(packed: bytes) -> bytes:
    """A TIFF of one row with 12 bits a pixel (TIFF 6.0, section 2)."""
    width = len(packed) * 8 // 12
    shorts = {256: width, 257: 1, 258: 12, 259: 1, 262: 1, 277: 1, 278: 1}
    longs = {273: 8 + 2 + 9 * 12 + 4, 279: len(packed)}
    entries = [(tag, 3, value) for tag, value in shorts.items()] + [(tag, 4, v) for tag, v in longs.items()]
    packed_entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, 9) + packed_entries + bytes(4) + packed


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I", "I;16", "F", "LAB"])
def test_every_mode_is_black_where_it_is_dark_and_white_where_it_is_bright(mode: str) -> None:
    grey = Image.fromarray(np.array([[0, 0, 255, 255]], np.uint8).repeat(2, axis=0))
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        picture = ImageCms.profileToProfile(grey.convert("RGB"), *profiles, outputMode="LAB")
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        picture = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    image = only(saved(picture, "TIFF" if mode in ("CMYK", "YCbCr", "F", "LAB", "I") else "PNG"))
    assert image[:, :2].max() < 8
    assert image[:, 2:].min() > 247


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 65535), (np.int32, 65535), (np.float32, 1.0)])
def test_wide_greys_keep_their_steps(dtype: type, white: float) -> None:
    image = only(saved(Image.fromarray(ramp(dtype, white)), "TIFF"))
    assert np.abs(image[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_a_scan_of_twelve_bits_is_not_nearly_black() -> None:
    assert only(twelve_bits(b"\xff\xff\xff\x00\x00\x00")).tolist() == [[[255] * 3, [255] * 3, [0] * 3, [0] * 3]]


def test_nothing_but_nan_is_black() -> None:
    assert only(saved(Image.fromarray(np.full((3, 3), np.nan, np.float32)), "TIFF")).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    if mode == "P":
        picture = Image.new("P", (4, 4), 0)
        picture.putpalette([0, 0, 0] * 256)
        data = saved(picture, transparency=0)
    else:
        data = saved(clear.convert("RGBA" if mode == "PA" else mode))
    assert only(data).min() == 255


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_taken_sideways_stands_upright(format: str, orientation: int) -> None:
    upright = np.full((24, 48, 3), 255, np.uint8)
    upright[:8, :16] = 0  # the dark corner is top-left, and wider than high
    turn = Image.Transpose
    made_by = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(made_by[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = only(saved(stored, format, exif=exif))
    assert image.shape == (24, 48, 3)
    assert image[2:6, 2:14].mean() < 40
    assert image[12:, 20:].mean() > 215


def test_a_tiff_has_pages_and_an_animation_one() -> None:
    frames = [Image.new("RGB", (5 + i, 4), (80 * i, 0, 0)) for i in range(3)]
    found = pages(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], dpi=(300, 300)))
    assert [(p.number, p.count, p.image.shape[1], p.image[0, 0, 0]) for p in found] == [
        (1, 3, 5, 0),
        (2, 3, 6, 80),
        (3, 3, 7, 160),
    ]
    assert found[0].dpi == pytest.approx(300)
    same = [frame.resize((5, 4)) for frame in frames]
    for format in ("GIF", "WEBP", "PNG"):
        assert len(pages(saved(same[0], format, save_all=True, append_images=same[1:]))) == 1


def test_a_resolution_that_makes_no_sense_is_none() -> None:
    assert pages(saved(Image.new("L", (9, 9)), dpi=(150, 150)))[0].dpi == pytest.approx(150, abs=0.1)
    assert pages(saved(Image.new("L", (9, 9)), "JPEG"))[0].dpi is None
    assert pages(saved(Image.new("L", (9, 9)), "JPEG", dpi=(1, 1)))[0].dpi is None


def test_pages_of_a_pdf_come_one_at_a_time_at_a_readable_size() -> None:
    found = pages(pdf((595, 842), (842, 595)))
    assert [(p.number, p.count, p.dpi) for p in found] == [(1, 2, 200.0), (2, 2, 200.0)]
    assert found[0].image.shape == (2339, 1653, 3)
    assert found[0].image.min() == 255


@pytest.mark.parametrize("size", [(28_346, 28_346), (28_346, 10), (1, 28_346), (0.0001, 1e7)])
def test_a_pdf_page_of_ten_metres_is_drawn_smaller(size: tuple[float, float]) -> None:
    (page,) = pages(pdf(size))
    assert page.image.shape[0] * page.image.shape[1] <= documents.PDF_PIXELS * 1.01
    assert page.dpi is not None
    assert page.dpi < 30 or min(size) < 100


def test_of_ten_thousand_pages_only_the_one_asked_for_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = documents._Pdf.draw

    def noted(self: documents._Pdf, index: int) -> tuple[np.ndarray, float | None]:
        drawn.append(index)
        return draw(self, index)

    monkeypatch.setattr(documents._Pdf, "draw", noted)
    with Document(pdf(*[(72 + number % 7, 72) for number in range(10_000)])) as document:
        assert document.count == 10_000
        page = document.page(9_999)
    assert drawn == [9_998]
    assert (page.number, page.image.shape[1]) == (9_999, round((72 + 9_998 % 7) * 200 / 72))


def test_the_pages_beside_a_damaged_one_can_be_drawn() -> None:
    frames = [Image.effect_noise((40 + number, 40), 50) for number in range(3)]
    data = bytearray(
        saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_adobe_deflate")
    )
    with Image.open(io.BytesIO(bytes(data))) as tiff:
        tiff.seek(1)
        start = tiff.tag_v2[273][0]  # StripOffsets
    data[start : start + 400] = b"\xff" * 400
    with Document(bytes(data), "scan.tif") as document:
        with pytest.raises(BadInput, match=r"'scan\.tif' is damaged"):
            document.page(2)
        assert [document.page(number).image.shape[1] for number in (1, 3)] == [40, 42]


def test_a_tiff_of_a_thousand_frames_is_opened_at_its_last() -> None:
    frames = [Image.new("1", (8 + number % 5, 8), 1) for number in range(1000)]
    with Document(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])) as document:
        assert document.count == 1000
        assert document.page(1000).image.shape[1] == 8 + 999 % 5


def test_a_pdf_is_opened_when_named_like_a_picture_and_starts_late(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\n\n" + pdf((72, 72)))
    assert pages(path)[0].image.shape == (200, 200, 3)


@pytest.mark.parametrize("name", ["two words.png", "crane \U0001f54a.png", "zażółć.png", "%s{0}.png"])
def test_any_file_name_will_do(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(saved(Image.new("L", (3, 2))))
    assert pages(path)[0].image.shape == (2, 3, 3)
    assert pages(str(path))[0].image.shape == (2, 3, 3)
    path.write_bytes(b"")
    assert name in refused(path, "")


def test_a_newline_in_a_name_stays_out_of_the_sentence() -> None:
    assert r"a\nb.png" in refused(b"", "a\nb.png")
    assert "\ud800" not in refused(b"", "a\ud800.png")


# A PDF whose check value /U fits no empty password (PDF 1.7, 7.6.3); PDFium rebuilds the missing table.
LOCKED = b"""%%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 72 72]>> endobj
4 0 obj <</Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s>>> endobj
trailer <</Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>] /Size 5>>
%%%%EOF
""" % (b"11" * 32, b"22" * 32)

PAGELESS = b"""%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [] /Count 0>> endobj
trailer <</Root 1 0 R /Size 3>>
%%EOF
"""
PNG = saved(Image.effect_noise((60, 60), 50))
JPEG = saved(Image.effect_noise((60, 60), 50), "JPEG")
BAD = {
    "nothing": (b"", "is empty"),
    "text": (b"hello, these are words\n" * 300, "plain text"),
    "utf-16": ("\ufeffhello".encode("utf-16-le"), "plain text"),
    "umlaut cut": (b"a" * 4095 + "ü".encode() * 9, "plain text"),
    "svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "film": (b"\0\0\0\x18ftypisom" + bytes(40), "film"),
    "docx": (b"PK\x03\x04" + bytes(40), "office document or an archive"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "zeros": (bytes(5000), "not a picture or PDF"),
    "cut png": (PNG[: len(PNG) // 2], "damaged"),
    "cut jpeg": (JPEG[: len(JPEG) // 2], "damaged"),
    "png head": (PNG[:8], "damaged"),
    "bad checksum": (PNG[:60] + bytes(40) + PNG[100:], "damaged"),
    "broken pdf": (b"%PDF-1.7\nnothing more", "damaged or has no pages"),
    "pdf without pages": (PAGELESS, "has no pages"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_cannot_be_read_says_why_and_what_to_do(what: str) -> None:
    data, reason = BAD[what]
    sentence = refused(data)
    assert reason in sentence
    assert sentence.startswith("'x.png'")
    assert sentence.count(". ") >= 1


def test_a_locked_pdf_says_so() -> None:
    assert "password" in refused(LOCKED)


IDAT = struct.pack(">I", 10) + b"IDAT" + zlib.compress(b"\0\0") + struct.pack(">I", 0)


def test_a_picture_too_big_is_refused_before_it_is_decoded() -> None:
    for side in (30_000, 11_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        assert "120 million pixels" in refused(b"\x89PNG\r\n\x1a\n" + chunk + IDAT)


def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(tmp_path: Path) -> None:
    assert "no file" in refused(tmp_path / "none.png")
    assert "folder" in refused(tmp_path)
    refused("a\0b")
    refused("n" * 5000)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "pipe" in refused(tmp_path / "pipe")


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root")
def test_a_file_one_may_not_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    path.chmod(0)
    assert "permissions" in refused(path)


def test_a_permission_error_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert "permissions" in refused(path)


def test_a_closed_document_has_let_go_of_its_file(tmp_path: Path) -> None:
    for data in (PNG, pdf((72, 72))):
        path = tmp_path / "gone"
        path.write_bytes(data)
        with Document(path) as document:
            next(iter(document))
            file = document._sheets._file
        assert file.closed


@settings(max_examples=60)
@given(st.data())
def test_damage_anywhere_is_pixels_or_a_sentence(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(SMALL))
    broken = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CraneError):
        assert all(page.image.dtype == np.uint8 for page in pages(bytes(broken)))


SMALL = [
    saved(Image.effect_noise((16, 16), 50), format) for format in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP")
] + [pdf((72, 72))]
