"""Matrices made before they are read: their memory is there, and their rows still lie in files.

All are read and packed at once, by threads of the native library (csrc/fill.c) that never hold Python's lock: what else
a load does in Python goes on beside them, and so do the steps of other models.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import torch

from crane_app.backends.torch import native
from crane_app.backends.torch.pages import Pages
from crane_app.errors import BadCheckpoint
from crane_app.host import Lying, LyingGroups
from crane_app.media.files.raw import show, unchanged

CHUNK = 2**26  # bytes
BREATH = 0.01  # seconds between two looks at how far it is
SOURCES = 3  # of csrc/crane.h
ENDED = -1


class _Lying(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("format", "rows", "columns", "heads", "size")),
        ("file", ctypes.c_int32 * SOURCES),
        ("start", ctypes.c_int64 * SOURCES),
        ("strips", ctypes.c_void_p),
    )


class _Filling(ctypes.Structure):
    _fields_ = (
        ("matrices", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("next", "done")),
        *((name, ctypes.c_int32) for name in ("count", "threads", "stop", "fault", "faulty")),
    )


class Filling:
    """The matrices of one model. left: bytes of them that are still to be read."""

    def __init__(self) -> None:
        self.left = 0
        self._pages = Pages(chunk=CHUNK)  # its own: they are given back with the model, whatever else is loaded
        self._wanted: list[tuple[Lying | LyingGroups, native.Matrix]] = []

    def add(self, lying: Lying | LyingGroups, dtype: torch.dtype) -> native.Matrix:
        """What `native.takes` says yes to; whole when `run` has ended."""
        form, shape = native.form_of(lying), (lying.shape[0], lying.shape[1])
        strips = self._pages.take(native.nbytes_of(form, shape))
        matrix = native.Matrix(form, shape, strips, dtype, dtype == torch.float32)
        self._wanted.append((lying, matrix))
        self.left += lying.nbytes
        return matrix

    def run(self) -> Iterator[None]:
        """Read and pack all that was added, with a yield now and then; closing it gives up.

        Raises BadCheckpoint for a file that cannot be read, has become shorter or is not the one that was opened.
        """
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return
        with ExitStack() as files, ThreadPoolExecutor(1, thread_name_prefix="crane-fill") as thread:
            matrices = (_Lying * len(wanted))(*_described(wanted, files))
            c = _Filling(ctypes.addressof(matrices), count=len(wanted), threads=native.threads())
            filled: Future[None] = thread.submit(native.library().crane_fill, ctypes.addressof(c))
            before = self.left
            try:
                yield
                while not wait([filled], BREATH).done:
                    self.left = before - c.done
                    yield
            finally:
                c.stop = 1
        self.left = 0
        if c.fault:
            place = wanted[c.faulty][0].places[0]
            why = os.strerror(c.fault) if c.fault != ENDED else f"it ends inside tensor {show(place.name)}"
            raise BadCheckpoint(f"{place.file}: cannot be read: {why}")


def _described(wanted: list[tuple[Lying | LyingGroups, native.Matrix]], files: ExitStack) -> Iterator[_Lying]:
    """As the library knows them, with their files open."""
    numbers: dict[Path, int] = {}
    for lying, matrix in wanted:
        c = _Lying(native.FORMATS[matrix.format], *matrix.shape)
        c.heads, c.size = (lying.heads, 0) if isinstance(lying, Lying) else (0, lying.size)
        for i, place in enumerate(lying.places):
            if place.file not in numbers:
                numbers[place.file] = files.enter_context(unchanged(place.file, place.stamp)).fileno()
            c.file[i], c.start[i] = numbers[place.file], place.start
        c.strips = matrix.strips.ctypes.data
        yield c
