"""How MLX holds packed matrices, told without MLX, which only some machines have."""

from __future__ import annotations

from dataclasses import replace

from crane_app.contract import DType
from crane_app.host import Scheme
from crane_app.media.files.gguf_groups import regrouping

SIZES = (32, 64, 128)  # of the groups that MLX has kernels for


def scales(theirs: DType, backend: DType) -> DType:
    """What scales and biases are held in: the backend's dtype where they come in it, else float32, which holds all."""
    return backend if theirs == backend else "float32"


def held(scheme: Scheme, shape: tuple[int, ...], backend: DType) -> int:
    """Bytes of a matrix or of experts of this shape that come packed so."""
    groups = regrouping(scheme, SIZES, backend)
    return replace(groups, dtype=scales(groups.dtype, backend)).nbytes(shape)
