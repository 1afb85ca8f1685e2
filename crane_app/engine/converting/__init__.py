"""A model written anew: a folder of safetensors in mlx-lm's layout, or one GGUF file, packed or not.

Tensors pass through one at a time. What is written appears whole or not at all.
"""

from __future__ import annotations

from pathlib import Path

from crane_app.engine import sources
from crane_app.engine.converting import to_folder, to_gguf
from crane_app.engine.converting.pieces import Plan, Progress
from crane_app.engine.loading import check
from crane_app.errors import BadInput
from crane_app.host import QUANTS
from crane_app.models import registry


def convert(source: Path, target: Path, quantize: str | None = None) -> Progress:
    """Write the model at `source` to `target`: a GGUF file if it is called so, else a folder.

    quantize: one of QUANTS; without it, plain weights stay plain and packed ones as they are. Yields (bytes read,
    bytes in all). Raises BadInput where `target` is there already, Unsupported for what the target cannot say,
    CraneError where the disk has no room; then nothing is left.
    """
    if quantize is not None and quantize not in QUANTS:
        raise BadInput(f"There is no way to pack called '{quantize}'. There are: {', '.join(QUANTS)}.")
    found = sources.find(source)
    module = registry.find(found.config)
    with found.blamed():
        config = module.read(found.config)
    parameters = module.parameters(config)
    with found.weights() as checkpoint:
        with found.blamed():
            check(checkpoint, parameters)
        plan = Plan(found, checkpoint, parameters, config, quantize)
        yield from (to_gguf if target.suffix.lower() == ".gguf" else to_folder).write(plan, target)
