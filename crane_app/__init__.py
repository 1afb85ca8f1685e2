"""Crane: private, fast, local AI on MLX and PyTorch.

The Python API is here by name and in api.py by definition; nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crane_app.api import (
        AutoTokenizer,
        CraneError,
        GenerationConfig,
        Message,
        Model,
        TextStreamer,
        load,
        print_build_info,
    )

__all__ = [
    "AutoTokenizer",
    "CraneError",
    "GenerationConfig",
    "Message",
    "Model",
    "TextStreamer",
    "load",
    "print_build_info",
]

if not TYPE_CHECKING:  # a checker would believe that there is every name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'crane_app' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module("crane_app.api"), name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
