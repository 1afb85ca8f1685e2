"""A model written anew: as a folder of safetensors in mlx-lm's layout, or as one GGUF file, plain or packed.

Tensors pass through one at a time. What is written appears whole or not at all.
"""

from __future__ import annotations
