"""The bundled reader: pixels in, lines of text out. RapidOCR with the PP-OCRv6 models of its own package.

It opens no connection: each model is named by its file, and RapidOCR downloads only what has no file.
Knows nothing of pages, columns or files.

Reference: rapidocr/main.py (3.10), `run_ocr_steps`; what we add is on which pixels it runs.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crane_app.errors import CraneError, NotEnoughMemory

Point = tuple[float, float]
Box = tuple[Point, Point, Point, Point]

VERSION = "PP-OCRv6 small 1"  # another one where a page is read, or laid out, differently than before
LEAST_SCORE = 0.5  # RapidOCR's own
MOST_THREADS = 4
LEAST_SIDE = 8  # pixels; no letter is smaller
SMALL_SIDE = 736  # smaller pictures get a margin and are enlarged (RapidOCR's limit_side_len)
MARGIN = 32
DETECTION_PIXELS = 2_900_000  # A4 at 170 dpi
STRIP_ROWS = 2016


@dataclass(frozen=True)
class Line:
    """A line of text, its box in page pixels clockwise from the text's top-left, and how sure it is."""

    text: str
    box: Box
    score: float  # 0 to 1

    @property
    def height(self) -> float:
        a, b, c, d = self.box
        return (math.dist(a, d) + math.dist(b, c)) / 2

    @property
    def angle(self) -> float:
        """The direction in which it is read, in radians: 0 to the right, pi / 2 downwards."""
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = self.box
        return math.atan2(by - ay + cy - dy, bx - ax + cx - dx)


@dataclass(frozen=True)
class Strip:
    """Rows `top` to `bottom` of a page; its own lines have their centre in `own_top` to `own_bottom`."""

    top: int
    bottom: int
    own_top: float
    own_bottom: float


def strips(height: int, width: int) -> list[Strip]:
    """A page as it is, or a very tall one (a whole web page) cut in overlapping strips.

    Reduced as a whole, its letters would become too small to be found.
    """
    length = max(2 * width, STRIP_ROWS)
    if height <= 1.5 * length:
        return [Strip(0, height, -math.inf, math.inf)]
    overlap = length // 8
    tops = list(range(0, height - overlap, length - overlap))
    cuts = [-math.inf, *(top + overlap / 2 for top in tops[1:]), math.inf]
    return [
        Strip(top, min(top + length, height), *own) for top, own in zip(tops, itertools.pairwise(cuts), strict=True)
    ]


def detection_scale(height: int, width: int) -> float:
    """By how much a page is reduced, or a small one enlarged, before text is looked for on it."""
    pixels = height * width
    if pixels < SMALL_SIDE**2:
        return min(2.0, SMALL_SIDE / math.sqrt(pixels))
    return min(1.0, math.sqrt(DETECTION_PIXELS / pixels))


def framed(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Contiguous BGR [H + 2m, W + 2m, 3] and m: letters at the very edge of a picture are not found."""
    margin = MARGIN if min(image.shape[:2]) < SMALL_SIDE else 0
    height, width = image.shape[:2]
    page = np.empty((height + 2 * margin, width + 2 * margin, 3), np.uint8)
    if margin:
        edges = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        page[:] = np.median(edges, axis=0)[::-1]
    page[margin : margin + height, margin : margin + width] = image[..., ::-1]
    return page, margin


def is_upended(box: np.ndarray) -> bool:
    """Whether points [4, 2] are a tall box, whose crop RapidOCR turns left (`get_rotate_crop_image`)."""
    width = int(max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[2] - box[3])))
    height = int(max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2])))
    return height >= 1.5 * width


def _box(points: np.ndarray, shape: tuple[int, ...]) -> Box:
    """Points [4, 2] as a box inside a page of shape [H, W, 3]."""
    x = np.clip(points[:, 0], 0, shape[1])
    y = np.clip(points[:, 1], 0, shape[0])
    a, b, c, d = [(round(float(p), 1), round(float(q), 1)) for p, q in zip(x, y, strict=True)]
    return a, b, c, d


def _short(error: Exception) -> str:
    """The last line of what an error says; onnxruntime's come with a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]


def _load() -> Any:
    """A RapidOCR on the models in its package, silent, on a few threads."""
    # onnxruntime numbers this machine in ~/.cache/Microsoft and tells Microsoft about each use; read at its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import rapidocr

    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    models = Path(rapidocr.__file__).parent / "models"
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    files = {
        "Det": "PP-OCRv6_det_small.onnx",
        "Rec": "PP-OCRv6_rec_small.onnx",
        "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    }
    for file in files.values():
        if not (models / file).is_file():
            raise ImportError(f"{file} is missing")
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_vertical_padding": False,  # `framed` does it, in the picture's own colour
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",  # `detection_scale` decides
            "Det.limit_side_len": 1 << 20,
            **{f"{part}.model_path": str(models / file) for part, file in files.items()},
        }
    )


class Reader:
    """Reads one picture at a time; calls from several threads wait for each other.

    Made at no cost: the models (30 MB on disk) are loaded by the first picture and kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ocr: Any = None

    def lines(self, image: np.ndarray) -> list[Line]:
        """The lines of text in uint8 [H, W, 3], in no promised order; raises CraneError."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"need uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
        if min(image.shape[:2]) < LEAST_SIDE or image.min() == image.max():
            return []
        with self._lock:
            try:
                self._ocr = self._ocr or _load()
                return [line for strip in strips(*image.shape[:2]) for line in self._strip(image, strip)]
            except MemoryError as error:
                raise NotEnoughMemory("The picture does not fit in memory. Make it smaller.") from error
            except ImportError as error:
                raise CraneError(f"The reader of pictures cannot start ({error}). Install Crane again.") from error
            except Exception as error:
                raise CraneError(
                    f"The reader failed on this picture ({_short(error)}). Save it in another size or format."
                ) from error

    def _strip(self, image: np.ndarray, strip: Strip) -> Iterator[Line]:
        """The lines whose centre is in the strip's own part."""
        part = image[strip.top : strip.bottom]
        for text, points, score in self._read(part):
            points = points + np.array([0.0, strip.top])
            if strip.own_top <= points[:, 1].mean() < strip.own_bottom:
                yield Line(text, _box(points, image.shape), score)

    def _read(self, part: np.ndarray) -> Iterator[tuple[str, np.ndarray, float]]:
        """Text, points [4, 2] from the text's top-left and score of each line in uint8 [H, W, 3]."""
        import cv2
        from rapidocr.main import RapidOCRError

        page, margin = framed(part)
        scale = detection_scale(*page.shape[:2])
        size = [round(side * scale) for side in (page.shape[1], page.shape[0])]
        reduced = page if scale == 1 else cv2.resize(page, size, interpolation=cv2.INTER_AREA)
        try:
            crops, found = self._ocr.detect_and_crop(reduced, {})
            boxes = found.boxes
            if scale != 1:
                boxes = (boxes * (page.shape[1] / size[0], page.shape[0] / size[1])).astype(np.float32)
                crops = self._ocr.crop_text_regions(page, boxes)
            turns, texts, scores = self._recognize(crops, boxes)
        except RapidOCRError:  # its way to say that there is no text
            return
        for box, turn, text, score in zip(boxes, turns, texts, scores, strict=True):
            if text.strip() and score >= LEAST_SCORE:
                yield text.strip(), np.roll(box, -turn, axis=0) - margin, float(score)

    def _recognize(self, crops: list[np.ndarray], boxes: np.ndarray) -> tuple[list[int], list[str], list[float]]:
        """Quarter turns, text and score of each crop.

        Upright lines are read once. Those that may stand on their head, or all where most do, are read both
        ways and the surer one kept: the classifier alone is often wrong on short lines.
        """
        turns = [int(is_upended(box)) for box in boxes]
        _, told = self._ocr.cls_and_rotate(crops)
        headlong = [label == "180" for label, _ in told.cls_res]
        most = 2 * sum(headlong) > len(crops)
        doubtful = [i for i, turn in enumerate(turns) if turn or headlong[i] or most]
        read = self._ocr.recognize_txt(crops + [np.rot90(crops[i], 2) for i in doubtful])
        texts, scores = list(read.txts), list(read.scores)
        for flipped, i in enumerate(doubtful, start=len(crops)):
            if scores[flipped] > scores[i]:
                turns[i], texts[i], scores[i] = turns[i] + 2, texts[flipped], scores[flipped]
        return turns, texts[: len(crops)], scores[: len(crops)]
