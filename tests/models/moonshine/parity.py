"""Moonshine's parity table: every case on every backend in every dtype against transformers, and planted faults.

    python -m tests.models.moonshine.parity

float32: encoder states and logits within 1e-4 and 32 greedy tokens equal, for both sounds; float16 and bfloat16: the
error (root mean square, against float32 on the same rounded weights) as a multiple of the reference's own in that
dtype, at most 1.5. Exits 1 if a row fails, or a planted fault passes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from crane_app import backends
from crane_app.contract import DType, Work
from crane_app.engine.loading import Loaded, load
from tests.models.faults import Spoiled
from tests.models.moonshine.cases import SOUNDS, STEPS, Case, case, case_names, heard
from tests.models.parity import DTYPES, LARGEST, RATIO, rms

ROOM = 64  # positions of a row


def encoded(loaded: Loaded, sound: np.ndarray):
    """The encoder's states, on the device."""
    x = loaded.backend.array(sound[:, None])
    for piece in loaded.listener.encoder(len(sound)):
        x = loaded.backend.call(piece, x)
    return x


def opening(loaded: Loaded, states, tokens, logits: int) -> Work:
    """A row's first step: it remembers the states."""
    return Work(loaded.runner.cache.open(ROOM), np.asarray(tokens, np.int32), logits, memory=len(states), states=states)


def score(loaded: Loaded, sound: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Logits [L, V] of all tokens in one step."""
    work = opening(loaded, encoded(loaded, sound), tokens, len(tokens))
    logits = loaded.runner.launch([work], keep_logits=True).read().logits
    loaded.runner.cache.close(work.row)
    return logits


def decode(loaded: Loaded, sounds: list[np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Greedy tokens [R, steps] and the logits [R, steps, V] they were drawn from, all sounds in each step."""
    runner, start = loaded.runner, loaded.listener.start
    works = [opening(loaded, encoded(loaded, sound), [start], 1) for sound in sounds]
    rows, pending, results = [work.row for work in works], None, []
    for _ in range(steps):
        pending = runner.launch(works, pending, keep_logits=True)
        results.append(pending.read())
        works = [Work(row, None) for row in rows]
    for row in rows:
        runner.cache.close(row)
    tokens = [[result.drawn[i][0].token for result in results] for i in range(len(rows))]
    return np.array(tokens), np.stack([result.logits for result in results], axis=1)


def worst(loaded: Loaded, known: Case) -> float:
    """The largest error of a logit over both sounds."""
    arrays = known.arrays
    return max(
        float(np.abs(score(loaded, heard(known, w), arrays[f"tokens_{w}"]) - arrays[f"logits_{w}"]).max())
        for w in SOUNDS
    )


def ratio(loaded: Loaded, known: Case, dtype: DType) -> float:
    """The error of our logits in 16 bits over that of transformers."""
    ours, theirs = [], []
    for which in SOUNDS:
        exact = known.arrays[f"logits_{which}_{dtype}_f32"]
        ours.append(score(loaded, heard(known, which), known.arrays[f"tokens_{which}"]) - exact)
        theirs.append(known.arrays[f"logits_{which}_{dtype}"] - exact)
    return rms(np.stack(ours)) / rms(np.stack(theirs))


def pairs_as_halves(loaded: Loaded) -> None:
    ops = loaded.listener.ops
    loaded.listener.ops = Spoiled(ops, rope=lambda x, rotary, pairs: ops.rope(x, rotary))


def turned_recall(loaded: Loaded) -> None:
    """Queries and keys of the cross-attention are turned by their places too."""
    ops, inverse = loaded.listener.ops, loaded.listener.config.inverse

    def remember(k, v, step, layer):
        places = np.arange(k.shape[0], dtype=np.int32)
        ops.remember(ops.rope(k, ops.rotary(places, inverse), True), v, step, layer)

    def recall(q, step, layer):
        return ops.recall(ops.rope(q, ops.rotary(step, inverse), True), step, layer)

    loaded.listener.ops = Spoiled(ops, remember=remember, recall=recall)


def no_convolution_bias(loaded: Loaded) -> None:
    w = loaded.listener.w.model.encoder
    w.conv2 = replace(w.conv2, bias=None)


def gate_first(loaded: Loaded) -> None:
    ops = loaded.listener.ops
    loaded.listener.ops = Spoiled(ops, swiglu=lambda gate, up: ops.swiglu(up, gate))


def no_tanh(loaded: Loaded) -> None:
    loaded.listener.ops = Spoiled(loaded.listener.ops, tanh=lambda x: x)


def norm_of_each_frame(loaded: Loaded) -> None:
    ops = loaded.listener.ops
    loaded.listener.ops = Spoiled(ops, group_norm=lambda x, w, groups, eps: ops.layer_norm(x, w, eps))


def sound_in_two_parts(loaded: Loaded) -> None:
    """The encoder's frames read their own half only."""
    ops = loaded.listener.ops

    def full_attention(q, k, v, cuts):
        return ops.full_attention(q, k, v, np.array([0, cuts[1] // 2, cuts[1]]))

    loaded.listener.ops = Spoiled(ops, full_attention=full_attention)


def all_dims_turned(loaded: Loaded) -> None:
    model = loaded.listener
    dim = model.config.dim
    rates = np.interp(np.linspace(0, 1, dim // 2), np.linspace(0, 1, len(model.config.inverse)), model.config.inverse)
    model.config = replace(model.config, inverse=rates)


FAULTS = (
    pairs_as_halves,
    turned_recall,
    no_convolution_bias,
    gate_first,
    no_tanh,
    norm_of_each_frame,
    sound_in_two_parts,
    all_dims_turned,
)


def row(name: str, backend: str, dtype: DType, folder: Path, fault=None) -> tuple[bool, str]:
    """Whether it is right, and its line of the table."""
    known = case(name)
    loaded = load(known.write(folder / f"{name}-{dtype}", dtype), backend, "cpu", dtype)
    if fault is not None:
        fault(loaded)
        error = worst(loaded, known)
        return error > LARGEST, f"{name + ' with ' + fault.__name__:34} {backend:6} {dtype:9} {error:9.1e}  seen"
    if dtype != "float32":
        error = ratio(loaded, known, dtype)
        return error < RATIO, f"{name:34} {backend:6} {dtype:9} {error:7.2f} x"
    error, right = worst(loaded, known), 0
    for which in SOUNDS:
        states = loaded.backend.numpy(encoded(loaded, heard(known, which)))
        error = max(error, float(np.abs(states - known.arrays[f"states_{which}"]).max()))
        tokens, _ = decode(loaded, [heard(known, which)], STEPS)
        right += int((tokens[0] == known.arrays[f"greedy_{which}"]).sum())
    whole = len(SOUNDS) * STEPS
    return error < LARGEST and right == whole, f"{name:34} {backend:6} {dtype:9} {error:9.1e}  {right}/{whole}"


def rows(folder: Path) -> Iterator[tuple[bool, str]]:
    """The whole table."""
    for name in case_names():
        for backend in backends.installed():
            for dtype in DTYPES:
                yield row(name, backend, dtype, folder)
            for fault in FAULTS:
                yield row(name, backend, "float32", folder, fault)


def main() -> int:
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for right, line in rows(Path(folder)):
            bad += not right
            print(line if right else f"{line}  <- WRONG", flush=True)
    print("every row is right, every fault was seen" if not bad else f"{bad} rows are wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
