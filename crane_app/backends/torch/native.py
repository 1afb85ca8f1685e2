"""The native library: matrices packed for this processor, and the C functions that work on them.

Built with the package from csrc/ by the system's compiler for C; where there was none, `library` is None and everything
runs on PyTorch's own ops. Structures mirror csrc/crane.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache

import numpy as np
import torch

from crane_app.backends.torch.forms import FORMS, GROUPS, LIBRARY, STRIP, named
from crane_app.backends.torch.pages import Pages
from crane_app.host import Blocks, Packed, Scheme

FORMATS = {name: number for number, name in enumerate(FORMS)}
OF_DTYPE = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
KERNELS = ("plain", "avx2", "avx512", "avx512_bf16", "neon", "neon_dotprod", "neon_i8mm")  # csrc/dispatch.c
ALIGNED = 64
WEIGHTS = Pages()


class _Matrix(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("format", "rows", "columns", "exact")),
        ("strips", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The library with its functions' types set, on the widest kernels that this processor runs; None without it."""
    found = importlib.util.find_spec(LIBRARY)
    if found is None or found.origin is None:
        return None
    try:
        c = ctypes.CDLL(found.origin)
    except OSError:
        return None
    whole, wide, at = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    c.crane_kernels.restype = ctypes.c_char_p
    c.crane_choose.argtypes = (ctypes.c_char_p,)
    for name, result, types in (
        ("strip_bytes", wide, (whole, whole)),
        ("prepared_bytes", wide, (whole, whole, whole)),
        ("prepared_for", whole, (whole, whole)),
        ("tile_columns", whole, (whole,)),
        ("pack", whole, (whole, at, wide, whole, whole, at, whole)),
        ("fill", None, (at,)),
        ("pack_groups", None, (whole, at, at, at, whole, whole, whole, at, whole)),
        ("expand", None, (at, at, whole, at, whole)),
        ("product", None, (at, at, whole, at, wide, whole)),
        ("best", None, (at, whole, whole, wide, at, whole)),
        ("top", None, (at, whole, whole, wide, at, whole, at, at, whole)),
        ("pick", None, (at, whole, whole, wide, at, at, at, at, whole)),
        ("run", None, (at, at)),
        ("stream", ctypes.c_double, (at, wide, whole)),
    ):
        function = getattr(c, f"crane_{name}")
        function.restype, function.argtypes = result, types
    c.crane_choose(b"")
    return c


def kernels() -> str | None:
    """Which of KERNELS run; None without the library."""
    c = library()
    return None if c is None else c.crane_kernels().decode()


def threads() -> int:
    """As many as PyTorch uses: the two take turns."""
    return torch.get_num_threads()


def aligned(nbytes: int) -> np.ndarray:
    """uint8 [nbytes] that begin a line of the processor's cache."""
    memory = np.empty(nbytes + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + nbytes]


class Matrix:
    """A matrix [O, I] in strips of 16 rows; csrc/strips.h says how they lie. See leaf.Matrix.

    dtype: of its rows. exact: activations are not quantised, whatever the format.
    """

    def __init__(self, form: str, shape: tuple[int, int], strips: np.ndarray, dtype: torch.dtype, exact: bool):
        self.format, self.shape, self.strips, self.dtype, self.exact = form, shape, strips, dtype, exact
        self.nbytes = strips.nbytes
        self._c = self.c()

    def c(self, bias: np.ndarray | None = None) -> _Matrix:
        """As the library knows it, with a bias float32 [O]; both must outlive it."""
        held = 0 if bias is None else bias.ctypes.data
        return _Matrix(FORMATS[self.format], *self.shape, self.exact, self.strips.ctypes.data, held)

    def times(self, x: torch.Tensor) -> torch.Tensor:
        c, wide, width = library(), x.float().contiguous(), -(-self.shape[0] // STRIP) * STRIP
        y = torch.empty(x.shape[0], width)
        c.crane_product(ctypes.byref(self._c), wide.data_ptr(), x.shape[0], y.data_ptr(), width, threads())
        return y[:, : self.shape[0]].to(x.dtype)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        c, index = library(), index.int().contiguous()
        found = torch.empty(len(index), self.shape[1])
        c.crane_expand(ctypes.byref(self._c), index.data_ptr(), len(index), found.data_ptr(), threads())
        return found.to(self.dtype)


def pack(form: str, source: np.ndarray, columns: int, dtype: torch.dtype) -> Matrix:
    """From rows uint8 [O, bytes] in the form of GGUF's blocks, or floats of that type; ValueError for broken blocks.

    In float32 nothing is rounded to fewer bits; else activations are, to 8 bits for each 32 of them, where the weights
    are in blocks.
    """
    c, rows = library(), len(source)
    source = np.ascontiguousarray(source)
    strips = WEIGHTS.take(nbytes_of(form, (rows, columns)))
    given = FORMATS[form], source.ctypes.data, source.strides[0], rows, columns, strips.ctypes.data, threads()
    if not c.crane_pack(*given):
        raise ValueError(f"{columns} columns are no whole blocks of {form}")
    return Matrix(form, (rows, columns), strips, dtype, dtype == torch.float32)


def nbytes_of(form: str, shape: tuple[int, int]) -> int:
    """Bytes of the strips of a matrix."""
    each: int = library().crane_strip_bytes(FORMATS[form], shape[1])
    return -(-shape[0] // STRIP) * each


def knows(scheme: Scheme) -> bool:
    """Whether there are kernels for matrices packed in this way."""
    return named(scheme) and library() is not None


def takes(matrix: Packed) -> bool:
    return len(matrix.shape) == 2 and knows(matrix.scheme)


def form_of(matrix: Packed) -> str:
    """Which of FORMS is what `takes` says yes to."""
    return matrix.kind if isinstance(matrix, Blocks) else GROUPS[matrix.bits, matrix.scheme.dtype]


def taken(matrix: Packed, dtype: torch.dtype) -> Matrix:
    """What `takes` says yes to, in strips and without loss."""
    form, shape = form_of(matrix), (matrix.shape[0], matrix.shape[1])
    held = [np.ascontiguousarray(x) for x in matrix.arrays]
    if isinstance(matrix, Blocks):
        return pack(form, held[0], shape[1], dtype)
    strips = WEIGHTS.take(nbytes_of(form, shape))
    sources = (x.ctypes.data for x in held)
    library().crane_pack_groups(FORMATS[form], *sources, matrix.size, *shape, strips.ctypes.data, threads())
    return Matrix(form, shape, strips, dtype, dtype == torch.float32)


def packed(weight: torch.Tensor) -> Matrix:
    """Of a matrix [O, I] in one of PyTorch's dtypes on the CPU."""
    weight = weight.contiguous()
    raw = weight.view(torch.uint8).numpy() if weight.dtype == torch.float32 else weight.view(torch.int16).numpy()
    return pack(OF_DTYPE[weight.dtype], raw.view(np.uint8), weight.shape[1], weight.dtype)


def best(logits: torch.Tensor) -> torch.Tensor:
    """int32 [M]: the likeliest of float32 logits [M, V] on the CPU, the first of equals."""
    c = library()
    found = torch.empty(logits.shape[0], dtype=torch.int32)
    c.crane_best(logits.data_ptr(), *logits.shape, logits.stride(0), found.data_ptr(), threads())
    return found


def likeliest(logits: torch.Tensor, temperature: np.ndarray, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of float32 logits [M, V] on the CPU, over temperatures float32 [M]: the `keep` likeliest, and the mass of all.

    Ids int64 [M, keep] in descending order, the first of equals first; float32 [M], the largest having a mass of 1.
    """
    rows, width = logits.shape
    ids, total = torch.empty(rows, keep, dtype=torch.int32), torch.empty(rows)
    given = logits.data_ptr(), rows, width, logits.stride(0), temperature.ctypes.data
    library().crane_top(*given, keep, ids.data_ptr(), total.data_ptr(), threads())
    return ids.long(), total


def pick(logits: torch.Tensor, temperature: np.ndarray, min_p: np.ndarray, noise: np.ndarray) -> torch.Tensor:
    """int32 [M], drawn from float32 logits [M, V] on the CPU; the others float32 [M], as Group has them."""
    found = torch.empty(logits.shape[0], dtype=torch.int32)
    given = (x.ctypes.data for x in (temperature, min_p, noise))
    library().crane_pick(logits.data_ptr(), *logits.shape, logits.stride(0), *given, found.data_ptr(), threads())
    return found
