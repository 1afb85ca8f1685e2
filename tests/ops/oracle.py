"""What every op must give, in numpy float64, written from the docstrings of crane_app.contract.

Knows no tensor library and no implementation. Inputs are rounded to the dtype first, so that the arithmetic
inside an op and the rounding of its result are all there is to tolerate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crane_app.contract import BLOCK, Backend, HostTensor, Layout, Sampling, Work

EPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# A float32 op rounds after each of its many sums; a half one sums in float32 and rounds a few times.
ULPS = {"float32": 32, "float16": 4, "bfloat16": 4}
# Bits of the significand; least and greatest exponent in the sense of frexp.
FORMATS = {"float32": (24, -125, 128), "float16": (11, -13, 16), "bfloat16": (8, -125, 128)}


def rounded(x: Any, dtype: str) -> np.ndarray:
    """The float64 values that `x` has in `dtype`: nearest, ties to even, past the greatest infinite."""
    x = np.asarray(x, np.float64)
    bits, least, greatest = FORMATS[dtype]
    quantum = np.ldexp(1.0, np.maximum(np.frexp(x)[1], least) - bits)
    with np.errstate(invalid="ignore"):
        y = np.rint(x / quantum) * quantum
    return np.where(np.abs(y) >= 2.0**greatest, np.copysign(np.inf, y), y)


def normal(rng: np.random.Generator, *shape: int, dtype: str, scale: float = 1.0) -> np.ndarray:
    """Gaussian values that `dtype` holds exactly."""
    return rounded(rng.standard_normal(shape) * scale, dtype)


def host(x: np.ndarray, dtype: str) -> HostTensor:
    """Values that `dtype` holds exactly, as a checkpoint holds them."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16
        return HostTensor(bits.astype(np.uint16), dtype)
    return HostTensor(np.ascontiguousarray(x, dtype), dtype)


def leaf(backend: Backend, w: np.ndarray, bias: np.ndarray | None = None, *, use: str = "product") -> Any:
    return backend.leaf(host(w, backend.dtype), None if bias is None else host(bias, backend.dtype), use=use)


def assert_close(
    got: np.ndarray,
    want: np.ndarray,
    dtype: str,
    *,
    scale: float | np.ndarray = 1.0,
    ulps: float | None = None,
) -> None:
    """|got - want| <= ulps * eps * (|want| + scale); scale is the size of the terms that were summed."""
    assert got.shape == want.shape, f"shape {got.shape}, not {want.shape}"
    bound = (ulps or ULPS[dtype]) * EPS[dtype] * (np.abs(want) + scale)
    with np.errstate(invalid="ignore"):
        error = np.where(got == want, 0.0, np.abs(got.astype(np.float64) - want)) / bound
    assert not np.isnan(error).any(), f"{int(np.isnan(error).sum())} of {error.size} values are not numbers"
    worst = float(error.max(initial=0.0))
    assert worst <= 1, f"worst error is {worst:.3g} times the bound of {ulps or ULPS[dtype]} ulps of {dtype}"


def linear(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """[N, I] times [O, I] transposed, plus bias [O]."""
    y = np.einsum("ni,oi->no", x, w)
    return y if bias is None else y + bias


def rms_norm(x: np.ndarray, w: np.ndarray, eps: float) -> np.ndarray:
    """arXiv 1910.07467, equation 4, with eps under the root."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def layer_norm(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, eps: float) -> np.ndarray:
    """arXiv 1607.06450, equation 4, with eps under the root."""
    centred = x - x.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps) * w
    return y if bias is None else y + bias


def group_norm(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, groups: int, eps: float) -> np.ndarray:
    """arXiv 1803.08494, equation 1, of one signal [T, C]."""
    y = np.empty_like(x)
    for part in np.split(np.arange(x.shape[1]), groups):
        flat = x[:, part]
        y[:, part] = (flat - flat.mean()) / np.sqrt(flat.var() + eps)
    y = y * w
    return y if bias is None else y + bias


def gelu(x: np.ndarray) -> np.ndarray:
    """arXiv 1606.08415, section 2: x times the normal distribution function of x."""
    return x * np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2


def conv1d(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, stride: int) -> np.ndarray:
    """[T, I] under taps [O, I, K], one frame at a time."""
    taps = w.shape[2]
    frames = [np.einsum("ki,oik->o", x[t : t + taps], w) for t in range(0, len(x) - taps + 1, stride)]
    y = np.array(frames)
    return y if bias is None else y + bias


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """arXiv 2002.05202, equation 5, before its last product."""
    return gate * np.exp(-np.logaddexp(0, -gate)) * up


def angles(positions: np.ndarray, inverse: np.ndarray, axis: np.ndarray | None = None) -> np.ndarray:
    """Angles [N, D/2] of positions [N] or [3, N], as float32 gives them."""
    streams = positions[None] if positions.ndim == 1 else positions
    which = np.zeros(len(inverse), int) if axis is None or len(streams) == 1 else axis
    at = np.stack([streams[a] for a in which], axis=-1)
    return (at.astype(np.float32) * inverse.astype(np.float32)).astype(np.float64)


def rope(x: np.ndarray, angle: np.ndarray, pairs: bool = False) -> np.ndarray:
    """arXiv 2104.09864: (x_a, x_b) of each pair as the complex number x_a + i x_b, times e^(i angle)."""
    n = angle.shape[-1]
    a, b = (np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2)) if pairs else (np.arange(n), np.arange(n, 2 * n))
    turned = (x[..., a] + 1j * x[..., b]) * np.exp(1j * angle)[:, None]
    y = x.copy()
    y[..., a], y[..., b] = turned.real, turned.imag
    return y


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def recall(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Every query [L, H, D] reads every key [S, G, D]."""
    return attention(q, k, v, np.full(len(q), len(k)), scale=scale)


def full_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, cuts: np.ndarray, scale: float | None = None
) -> np.ndarray:
    """Every query reads every key of its own part cuts[i]:cuts[i + 1]."""
    parts = [slice(start, end) for start, end in itertools.pairwise(cuts)]
    return np.concatenate([recall(q[part], k[part], v[part], scale) for part in parts])


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, at: np.ndarray, window: int = 0, scale: float | None = None
) -> np.ndarray:
    """Queries [L, H, D] at positions `at` [L] of one row over its keys, values [S, G, D]."""
    length, heads, dim = q.shape
    out = np.empty_like(q)
    for i in range(length):
        first = max(at[i] - window + 1, 0) if window else 0
        for h in range(heads):
            g = h * k.shape[1] // heads
            scores = k[first : at[i] + 1, g] @ q[i, h] * (dim**-0.5 if scale is None else scale)
            out[i, h] = softmax(scores) @ v[first : at[i] + 1, g]
    return out


def in_bytes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [..., D] in 127ths of its largest number, as host.KVCache says: int8 [..., D] and their worth float32 [...]."""
    wide = x.astype(np.float32)
    most = np.abs(wide).max(-1)
    with np.errstate(divide="ignore"):
        inverse = np.where(most > 0, np.float32(127) / most, np.float32(0))
    with np.errstate(invalid="ignore"):
        return np.rint(wide * inverse[..., None]).astype(np.int8), most / np.float32(127)


def experts(
    x: np.ndarray, scores: np.ndarray, gate_up: np.ndarray, down: np.ndarray, k: int, normalise: bool
) -> np.ndarray:
    """One token and one expert at a time."""
    out = np.zeros_like(x)
    for n, row in enumerate(x):
        p = softmax(scores[n])
        best = np.argsort(-p, kind="stable")[:k]
        total = p[best].sum() if normalise else 1.0
        for e in best:
            gate, up = np.split(gate_up[e] @ row, 2)
            out[n] += p[e] / total * (down[e] @ swiglu(gate, up))
    return out


def adjusted(logits: np.ndarray, s: Sampling, seen: Sequence[int] = (), made: int = 0) -> np.ndarray:
    """Logits [V] after bias and penalties.

    Repetition is that of transformers' RepetitionPenaltyLogitsProcessor; presence and frequency come after
    it and are those of the OpenAI API reference.
    """
    x = logits.astype(np.float64).copy()
    for token, bias in s.logit_bias.items():
        x[token] += bias
    seen = list(seen)
    reach = seen if s.repeat_last_n < 0 else seen[len(seen) - min(s.repeat_last_n, len(seen)) :]
    for token in set(reach):
        x[token] = x[token] / s.repetition_penalty if x[token] > 0 else x[token] * s.repetition_penalty
    output = seen[len(seen) - made :]
    for token in set(output):
        x[token] -= s.presence_penalty + s.frequency_penalty * output.count(token)
    return x


def candidates(
    logits: np.ndarray, s: Sampling, seen: Sequence[int] = (), made: int = 0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Ids in the order of drawing, their probabilities, and how near to a border the filters were."""
    x = adjusted(logits, s, seen, made)
    if s.temperature <= 0:
        return np.array([x.argmax()]), np.ones(1), np.inf
    ranked = s.top_k > 0 or s.top_p < 1
    ids = np.argsort(-x, kind="stable") if ranked else np.arange(len(x))
    ids = ids[: s.top_k] if s.top_k > 0 else ids
    p = softmax(x[ids] / s.temperature)
    near = np.inf
    if s.top_p < 1:
        before = np.cumsum(p) - p
        near = float(np.abs(before[1:] - s.top_p).min(initial=np.inf))
        kept = np.maximum((before < s.top_p).sum(), 1)
        ids, p = ids[:kept], p[:kept]
    if s.min_p > 0:
        least = s.min_p * p.max()
        gaps = np.abs(p - least)[p < p.max()]
        near = min(near, float(gaps.min(initial=np.inf)))
        ids, p = ids[p >= least], p[p >= least]
    return ids, p / p.sum(), near


def distribution(logits: np.ndarray, s: Sampling, seen: Sequence[int] = (), made: int = 0) -> np.ndarray:
    """Probability [V] of each token."""
    ids, p, _ = candidates(logits, s, seen, made)
    out = np.zeros(len(logits))
    out[ids] = p
    return out


def drawn(logits: np.ndarray, s: Sampling, noise: float, seen: Sequence[int] = (), made: int = 0) -> tuple[int, float]:
    """The first candidate whose cumulative probability exceeds the noise, and how close the call was."""
    ids, p, near = candidates(logits, s, seen, made)
    if len(ids) == 1:
        return int(ids[0]), near
    total = np.cumsum(p)
    which = min(int(np.searchsorted(total, noise, side="right")), int(np.flatnonzero(p)[-1]))
    return int(ids[which]), min(near, float(np.abs(total[:-1] - noise).min()))


class Rows:
    """A cache and, beside it, plain lists of what it should hold: every step is run on both."""

    def __init__(self, backend: Backend, layout: Layout, heads: int = 4, scale: float | None = None, seed: int = 0):
        self.backend, self.layout, self.heads, self.scale = backend, layout, heads, scale
        self.rng = np.random.default_rng(seed)
        self.cache = backend.cache(layout)
        self.held: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def open(self, reserve: int = BLOCK) -> int:
        row = self.cache.open(reserve)
        self.held[row] = [(np.zeros((0, s.heads, s.dim)),) * 2 for s in self.layout]
        return row

    def close(self, row: int) -> None:
        self.cache.close(row)
        del self.held[row]

    def truncate(self, row: int, length: int) -> None:
        self.cache.truncate(row, length)
        self.held[row] = [(k[:length], v[:length]) for k, v in self.held[row]]

    def length(self, row: int) -> int:
        return len(self.held[row][0][0])

    def inputs(self, *news: tuple[int, int]) -> list[dict[int, tuple[np.ndarray, ...]]]:
        """For each layer and row: new q [L, H, D], k and v [L, G, D]."""
        return [
            {row: tuple(self._normal(new, h, s.dim) for h in (self.heads, s.heads, s.heads)) for row, new in news}
            for s in self.layout
        ]

    def _normal(self, *shape: int) -> np.ndarray:
        return normal(self.rng, *shape, dtype=self.backend.dtype)

    def run(self, inputs: list[dict[int, tuple[np.ndarray, ...]]]) -> list[np.ndarray]:
        """What the backend gives for a step of these rows in this order: [N, H, D] of each layer."""
        work = [Work(row, np.zeros(len(q), np.int32)) for row, (q, _, _) in inputs[0].items()]
        step = self.backend.step(self.cache, work)
        out = []
        for layer, rows in enumerate(inputs):
            q, k, v = (self.backend.array(np.concatenate(x)) for x in zip(*rows.values(), strict=True))
            y = self.backend.ops.attend(q, k, v, step, layer, scale=self.scale)
            out.append(self.backend.numpy(y))
        return out

    def expect(self, inputs: list[dict[int, tuple[np.ndarray, ...]]]) -> list[np.ndarray]:
        """What it should give; the lists grow."""
        return [
            np.concatenate([self._row(layer, row, *qkv) for row, qkv in rows.items()])
            for layer, rows in enumerate(inputs)
        ]

    def kept(self, x: np.ndarray) -> np.ndarray:
        """Keys or values [L, G, D] as the cache gives them back."""
        if self.backend.kv_cache == "auto":
            return x
        whole, worth = in_bytes(x)
        return rounded(whole * worth[..., None], self.backend.dtype)

    def _row(self, layer: int, row: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        keys, values = (np.concatenate(x) for x in zip(self.held[row][layer], map(self.kept, (k, v)), strict=True))
        at = np.arange(len(keys) - len(q), len(keys))
        self.held[row][layer] = (keys, values)
        return attention(q, keys, values, at, self.layout[layer].window, self.scale)

    def check(self, *news: tuple[int, int]) -> None:
        """Run one step of (row, new tokens) and compare."""
        inputs = self.inputs(*news)
        for got, want in zip(self.run(inputs), self.expect(inputs), strict=True):
            assert_close(got, want, self.backend.dtype)
