"""What the native library multiplies by, told without PyTorch, which takes seconds to import."""

from __future__ import annotations

from crane_app.host import Scheme

LIBRARY = "crane_app.backends.torch._native"
FORMS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q6_K", "A4_BF16", "A4_F16", "A8_BF16", "A8_F16")
BLOCKS = ("Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q6_K")  # of GGUF
GROUPS = {(4, "bfloat16"): "A4_BF16", (4, "float16"): "A4_F16", (8, "bfloat16"): "A8_BF16", (8, "float16"): "A8_F16"}


def named(scheme: Scheme) -> bool:
    """Whether one of FORMS is a matrix packed in this way."""
    if scheme.kind == "affine":
        return scheme.size % 64 == 0 and (scheme.bits, scheme.dtype) in GROUPS
    return scheme.kind in BLOCKS
