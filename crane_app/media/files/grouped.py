"""A checkpoint in mlx-lm's quantised layout: a packed `x.weight` is uint32 and has `x.scales` and `x.biases` beside it.

config.json's "quantization" says bits and group size, for all and for single paths. The experts of a mixture lie
stacked under `switch_mlp`; here they have their published names. Source: mlx-lm, quantize_model and load_model of
utils.py, sanitize of models/qwen3_moe.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np

from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.host import DType, Groups, HostTensor, LyingGroups, Scheme
from crane_app.media.files.groups import BITS
from crane_app.media.files.packed import expanded
from crane_app.media.files.raw import show
from crane_app.media.files.safetensors import HELD, Checkpoint

SIZES = (16, 32, 64, 128, 256)  # numbers of a group
STACK = re.compile(r"(.+)\.switch_mlp\.(gate_proj|up_proj|down_proj)\.weight")
MOST_EXPERTS = 1 << 18  # matrices of all layers; 94 layers of 128 have 36,096


class Grouped:
    """The tensors of one quantised model under their published names; a checkpoint like the plain ones.

    schemes: of the packed ones. dtypes as `read` gives them.
    """

    def __init__(self, checkpoint: Checkpoint, quantization: dict[str, Any]) -> None:
        self.folder, self._checkpoint = checkpoint.folder, checkpoint
        self._how = quantization
        self._places: dict[str, tuple[str, int | None]] = {}  # published name -> the file's, and which of its experts
        self.schemes: dict[str, Scheme] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.nbytes = checkpoint.nbytes
        stacks = (shape[0] for name, shape in checkpoint.shapes.items() if STACK.fullmatch(name) and len(shape) == 3)
        if sum(stacks) > MOST_EXPERTS:
            raise BadCheckpoint(f"{checkpoint.folder}: its files have more experts than any model")
        for name in checkpoint.shapes:
            path = name.rpartition(".")[0]
            if f"{path}.scales" not in checkpoint or not name.endswith((".weight", ".scales", ".biases")):
                self._add(name, name, checkpoint.shapes[name], checkpoint.dtypes[name])
            elif name.endswith(".weight"):
                scheme, shape = self._scheme(path)
                self._add(name, name, shape, "float32", scheme)

    def _add(self, name: str, at: str, shape: tuple[int, ...], dtype: str, scheme: Scheme | None = None) -> None:
        stack = STACK.fullmatch(name)
        if not stack or len(shape) != 3:
            self._put(name, at, None, shape, dtype, scheme)
            return
        for i in range(shape[0]):
            self._put(f"{stack[1]}.experts.{i}.{stack[2]}.weight", at, i, shape[1:], dtype, scheme)

    def _put(
        self, name: str, at: str, part: int | None, shape: tuple[int, ...], dtype: str, scheme: Scheme | None
    ) -> None:
        self._places[name], self.shapes[name], self.dtypes[name] = (at, part), shape, dtype
        if scheme:
            self.schemes[name] = scheme

    def _scheme(self, path: str) -> tuple[Scheme, tuple[int, ...]]:
        """Scheme and logical shape of a packed tensor, held against what lies in the file."""
        said = self._how.get(path)
        how = said if isinstance(said, dict) else self._how
        bits, size, mode = how.get("bits"), how.get("group_size"), how.get("mode", "affine")
        if mode != "affine":
            raise Unsupported(f"{self.folder}: {show(path)} is packed as {mode!r:.40}; Crane reads affine groups")
        if type(bits) is not int or type(size) is not int or bits not in BITS or size not in SIZES:
            raise BadCheckpoint(
                f"{self.folder}: config.json must give {show(path)} bits and a group_size that MLX has; "
                f"it says {bits!r:.20} and {size!r:.20}"
            )
        c = self._checkpoint
        q, scales = c.shapes[f"{path}.weight"], c.shapes[f"{path}.scales"]
        shape = (*q[:-1], q[-1] * 32 // bits) if q else ()
        kinds = (c.dtypes[f"{path}.weight"], c.dtypes[f"{path}.scales"], c.dtypes.get(f"{path}.biases"))
        good = kinds[0] == "uint32" and kinds[1] in HELD and kinds[1] == kinds[2]
        if not good or len(q) < 2 or scales[:-1] != q[:-1] or shape[-1] != scales[-1] * size:
            raise BadCheckpoint(
                f"{c.file_of(f'{path}.weight').name}: {show(path)} is not packed as config.json says: "
                f"{bits} bits in groups of {size}"
            )
        if c.shapes[f"{path}.biases"] != scales:
            raise BadCheckpoint(f"{c.file_of(f'{path}.weight').name}: {show(path)} has not as many biases as scales")
        return Scheme("affine", bits, size, cast(DType, kinds[1])), shape

    def __enter__(self) -> Grouped:
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpoint.close()

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def nbytes_of(self, name: str) -> int:
        """Bytes the tensor takes in its file."""
        at, part = self._places[name]
        names = self._names(at) if name in self.schemes else (at,)
        whole = sum(self._checkpoint.nbytes_of(each) for each in names)
        return whole if part is None else whole // self._checkpoint.shapes[at][0]

    def file_of(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._checkpoint.file_of(self._places[name][0])

    def read(self, name: str) -> HostTensor:
        """The tensor in memory of its own, packed numbers as float32."""
        if name in self.schemes:
            return expanded(self.read_packed(name))
        at, part = self._places[name]
        if part is None:
            return self._checkpoint.read(at)
        return HostTensor(self._checkpoint.raw(at, part), cast(DType, self.dtypes[name]))

    def read_packed(self, name: str) -> Groups:
        """A tensor of `schemes` as its groups; a matrix is read by its user."""
        at, part = self._places[name]
        how, shape, names = self.schemes[name], self.shapes[name], self._names(at)
        if len(shape) == 2:
            places = [self._checkpoint.stretch(each, part) for each in names]
            return LyingGroups(how, shape, places, lambda i: self._checkpoint.raw(names[i], part))
        q, scales, biases = (self._checkpoint.raw(each, part) for each in names)
        return Groups(q, HostTensor(scales, how.dtype), HostTensor(biases, how.dtype), how.size, how.bits)

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read into `out`: C-contiguous, of the tensor's shape and the type that `read` gives."""
        out[...] = self.read(name).array

    def _names(self, at: str) -> tuple[str, str, str]:
        path = at.rpartition(".")[0]
        return f"{path}.weight", f"{path}.scales", f"{path}.biases"
