"""What models, the engine and the backends promise each other.

Everything a forward touches is here; no tensor library is. Letters: N new tokens of all rows of a step,
M of them with logits, H query heads, G key heads, D head size, E hidden, F inner width, X experts, V vocabulary,
S cached positions, C columns of a memory or channels of a signal, T frames, I and O channels in and out, K taps.
All index arrays and tokens are int32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from crane_app.contract.cache import BLOCK as BLOCK
from crane_app.contract.cache import Cache as Cache
from crane_app.contract.cache import Layout as Layout
from crane_app.contract.cache import Saved as Saved
from crane_app.contract.cache import Slot as Slot
from crane_app.host import DType as DType
from crane_app.host import Host, Scheme
from crane_app.host import HostTensor as HostTensor
from crane_app.host import KVCache as KVCache

if TYPE_CHECKING:
    import numpy as np

Array = Any  # an array of the backend: mlx.core.array or torch.Tensor
Rotary = Any  # what `Ops.rotary` returns and `Ops.rope` takes; its inside is the backend's
Use = Literal["product", "table", "tied"]  # of a matrix: multiplied by; gathered from; both, as a tied head


class Leaf(Protocol):
    """A parameter as a backend holds it: weight, bias, packing and merging are its own business."""

    shape: tuple[int, ...]  # logical [O, I]; [X, O, I] for stacked experts; [O, I, K] for a convolution; [E] for a norm
    loss: float  # RMS of what packing it anew changed, by the RMS of its numbers; 0 where nothing was changed


@dataclass(frozen=True)
class Sampling:
    """How a row's tokens are drawn; complete, nothing left to a default elsewhere. temperature 0 is greedy.

    Order: what is allowed (Work.allowed), bias, repetition penalty, presence and frequency, temperature, top_k (exactly
    k, ties to the lower id), top_p (of the mass top_k left; a token stays while the mass before it is below), min_p
    (times the best). The noise of a draw depends on (seed, choice, position, head) alone. `repeat_last_n` 0 looks at no
    token, -1 at all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repeat_last_n: int = -1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int = 0
    choice: int = 0

    @property
    def plain(self) -> bool:
        """The likeliest token as it is."""
        return self.temperature <= 0 and not self.logit_bias and not self.penalised

    @property
    def penalised(self) -> bool:
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


@dataclass(slots=True)
class Work:
    """What one row does in one step. Not frozen, like what else is made for each row of each step: six times as fast.

    tokens: int32 [L]; None is one token, the one that the step before drew for this row.
    singly: they run as L spans of one token, each as it would in a step of its own, which is how generated tokens are
        run again: the same bits, which a chunk of them need not give.
    fork: the row of a work earlier in this step: this one's becomes a copy of it as it is after the step, brings no
        tokens [0], and draws once more from the logits of its last token.
    logits: how many of the last tokens get logits: 0 for a middle chunk, L to score all of them.
    draw: how a token is drawn from each of these logits; None draws greedily.
    given: int32 [logits], taken as if they had been drawn, so that they get their log-probabilities.
    seen: int32, the row's prompt and output so far (without a token still on the device), for penalties.
    made: how many of the last of `seen` were generated.
    allowed: of a work with one logit, bits of the tokens that may be drawn, uint32 [(V + 31) // 32], the lowest bit of
        the first word for token 0; at least one is set. None for all. Reported log-probabilities are as without it.
    top: how many of the likeliest tokens to report for each drawn one.
    positions: int32 [3, L] where an image sets them (MRoPE); None counts on from the cached length.
    memory: columns that a forward with `remember` writes for this row; 0 when it writes none.
    states: on the device, [memory, E], what an encoder gave for them; None where the forward needs none.
    """

    row: int
    tokens: np.ndarray | None
    logits: int = 1
    draw: Sampling | None = None
    seen: np.ndarray | None = None
    made: int = 0
    top: int = 0
    allowed: np.ndarray | None = None
    singly: bool = False
    fork: int | None = None
    positions: np.ndarray | None = None
    memory: int = 0
    states: Array | None = None
    given: np.ndarray | None = None


@dataclass(slots=True)
class Span:
    """The part of a step that belongs to one row: cached length before, new tokens, index of the first in [N]."""

    row: int
    start: int
    new: int
    first: int


class Step(Protocol):
    """What a forward may know. Made by the backend from a host plan; its index arrays live on the device."""

    spans: tuple[Span, ...]  # for ops; models may not look. A row stands in several where its work runs singly
    positions: Array  # int32 [N], or [3, N]
    out: Array  # int32 [M], which of [N] go through the head
    form: Literal["mixed", "decode"]  # decode: one token a row, each row once


class Ops(Protocol):
    """The words in which models are written. Each returns the dtype of its first argument unless it says otherwise."""

    def embed(self, tokens: Array, w: Leaf) -> Array:
        """Rows [N, E] of the table w [V, E] for tokens [N]."""

    def linear(self, x: Array, w: Leaf) -> Array:
        """x [N, I] times w [O, I] transposed, plus its bias if it has one: [N, O]."""

    def linears(self, x: Array, ws: tuple[Leaf, ...]) -> tuple[Array, ...]:
        """Several products of one input, as `linear` each; leaves loaded as one group run as one product."""

    def rms_norm(self, x: Array, w: Leaf, eps: float) -> Array:
        """x / sqrt(mean(x^2) + eps) * w over the last axis, in float32 inside. arXiv 1910.07467."""

    def layer_norm(self, x: Array, w: Leaf, eps: float) -> Array:
        """(x - mean) / sqrt(variance + eps) * w over the last axis, plus the bias if w has one; in float32 inside.

        arXiv 1607.06450.
        """

    def group_norm(self, x: Array, w: Leaf, groups: int, eps: float) -> Array:
        """As `layer_norm`, over all frames of each group of channels of one signal [T, C]. arXiv 1803.08494."""

    def swiglu(self, gate: Array, up: Array) -> Array:
        """silu(gate) * up. arXiv 2002.05202."""

    def gelu(self, x: Array) -> Array:
        """x times the normal distribution's share below x, exactly (by erf). arXiv 1606.08415."""

    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""

    def conv1d(self, x: Array, w: Leaf, stride: int) -> Array:
        """One signal [T, I] under the taps w [O, I, K], plus its bias if it has one: [(T - K) // stride + 1, O]."""

    def take(self, x: Array, index: Array) -> Array:
        """Rows x[index] of [N, ...]; [M, ...]."""

    def put(self, x: Array, index: Array, values: Array) -> Array:
        """A copy of x [N, ...] with rows `index` replaced by values [M, ...]; x is left as it was."""

    def rotary(self, step: Step | np.ndarray, inverse: np.ndarray, axis: np.ndarray | None = None) -> Rotary:
        """Angles positions[axis[j]] * inverse[j], j < D/2, in float32.

        Positions are the step's; int32 [N] or [3, N] from the host for what is in no step (frames, patches).

        `inverse` [D/2] is float64 on the host and carries every scaling (llama3, NTK). `axis` [D/2] says which of the
        three position streams turns pair j (MRoPE); without it the first does.
        """

    def rope(self, x: Array, rotary: Rotary, pairs: bool = False) -> Array:
        """Turn x [N, H, D] by its J = len(inverse) angles: dims j and j + J, or 2j and 2j + 1 with `pairs`.

        Dims past 2J pass through.
        Computed in float32. arXiv 2104.09864.
        """

    def attend(self, q: Array, k: Array, v: Array, step: Step, layer: int, *, scale: float | None = None) -> Array:
        """Cache k, v [N, G, D] of the step's rows, then causal attention of q [N, H, D] over each token's own row.

        Returns [N, H, D]; query head h reads key head h * G // H. The layer's slot says its window: a token at p reads
        positions > p - window. scale is D ** -0.5 unless given. A token's result depends on its own row only.
        """

    def remember(self, k: Array, v: Array, step: Step, layer: int) -> None:
        """Fill the fixed memory of a `memory` slot with k, v [C, G, D]: each work's `memory` columns in turn.

        ValueError if no work of the step brings any.
        """

    def recall(self, q: Array, step: Step, layer: int, *, scale: float | None = None) -> Array:
        """Unmasked attention of q [N, H, D] over its row's memory (cross-attention), heads as in `attend`."""

    def full_attention(self, q: Array, k: Array, v: Array, cuts: np.ndarray, *, scale: float | None = None) -> Array:
        """Unmasked attention of q [N, H, D] over k, v [N, G, D], each part cuts[i]:cuts[i + 1] within itself.

        Nothing is cached; heads and scale as in `attend`. A part's result depends on that part only.
        """

    def experts(self, x: Array, scores: Array, gate_up: Leaf, down: Leaf, k: int, *, normalise: bool) -> Array:
        """Mixture of experts: each token's k best by softmax(scores [N, X]) in float32, weighted and summed; [N, E].

        gate_up is [X, 2F, E] (gate first), down [X, E, F]; each expert is down(swiglu(gate, up)). With `normalise` the
        k weights are scaled to sum to 1. No routing decision leaves the op.
        """

    def sample(self, logits: Array, draw: Any) -> Array:
        """Tokens int32 [M] drawn from logits [M, V] as `backends.draw` says, ties to the lower id."""


@dataclass
class Inputs:
    """What enters a forward: tokens int32 [N]; `replace` puts embeddings (index [K], values [K, E]) in their place.

    states: of an encoder, [C, E], what each work's `memory` columns are made of; None where no work brings any.
    """

    tokens: Array
    replace: tuple[Array, Array] | None = None
    states: Array | None = None


@dataclass
class Outputs:
    """What leaves it: tokens int32 [M], and the logits [M, V] they were drawn from."""

    tokens: Array
    logits: Array


class Model(Protocol):
    """An architecture over its weights; written once, runs on every backend."""

    layout: Layout
    vocabulary: int

    def forward(self, inputs: Inputs, step: Step, draw: Callable[[Array, int], Array]) -> Outputs:
        """One step of all its rows. `draw(logits, head)` turns logits [M, V] into tokens [M]."""


class Embedder(Model, Protocol):
    """A model whose hidden states stand for the text."""

    def states(self, inputs: Inputs, step: Step) -> Array:
        """Hidden states [N, E] of all tokens after the last norm."""


class Listener(Model, Protocol):
    """A model that turns speech at 16 kHz into text: an encoder, and a decoder that recalls what it gave.

    start: the token that begins every transcript. shortest: samples without which there is no frame.
    """

    start: int
    shortest: int

    def encoder(self, samples: int) -> tuple[Callable[[Array], Array], ...]:
        """The encoder for a sound of that many samples in pieces of some 50 ms.

        The first takes the sound [T, 1], each other what the one before gave; the last gives the states [C, E].
        """

    def limit(self, samples: int) -> int:
        """How many tokens speech of this length can have; without it, noise is transcribed for ever."""


@dataclass(slots=True)
class Drawn:
    """One drawn token of a work: its log-probability and the likeliest (id, log-probability) pairs, best first."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Result:
    """What a step gave: per work its drawn tokens (one for each of its logits), and logits float32 [M, V] if kept."""

    drawn: tuple[tuple[Drawn, ...], ...]
    logits: np.ndarray | None = None


class Pending(Protocol):
    """A step under way."""

    def read(self) -> Result:
        """Wait for it: the one place where the host waits for the device."""


class Runner(Protocol):
    """One loaded model on one device."""

    batched: bool  # False: one row a step (adapters)
    layout: Layout
    cache: Cache

    def launch(self, work: Sequence[Work], previous: Pending | None = None, keep_logits: bool = False) -> Pending:
        """Submit one step and return at once; `previous` is the step that drew the tokens not given in `work`.

        Every index that reaches a cache write is checked here: unknown or doubled rows, rows without room, empty works,
        tokens outside the vocabulary raise ValueError before anything is changed. Lengths advance here.
        """

    def embed(self, item: Work) -> np.ndarray:
        """Hidden states float32 [L, E] of a work's tokens; raises as `launch`, and Unsupported without an Embedder."""


@dataclass(frozen=True)
class Device:
    """Where tensors live: kind is cpu, cuda or metal; name is for people."""

    backend: Literal["mlx", "torch"]
    kind: Literal["cpu", "cuda", "metal"]
    name: str


class Backend(Protocol):
    """A tensor library on one device in one dtype.

    kv_cache: how its caches keep keys and values. unread: bytes that leaves were made of and that still lie in files.
    """

    device: Device
    dtype: DType
    kv_cache: KVCache
    ops: Ops

    @property
    def unread(self) -> int: ...

    def array(self, x: np.ndarray) -> Array:
        """A host array on the device: floats in the backend's dtype, integers as int32."""

    def numpy(self, x: Array) -> np.ndarray:
        """A device array on the host: floats as float32, integers as int32. Waits."""

    def leaf(self, weight: Host, bias: HostTensor | None = None, use: Use = "product") -> Leaf:
        """A parameter in the backend's dtype. May keep the host's buffer as its own; vectors and stacks have no use.

        A packed one stays packed: products unpack it as they run, `embed` only the rows it gathers.
        """

    def fast(self, scheme: Scheme, use: Use = "product") -> bool:
        """Whether a parameter packed in this way is at least as fast as an unpacked one would be."""

    def held(self, scheme: Scheme, shape: tuple[int, ...]) -> int:
        """Bytes that a matrix or experts of this shape take once they are a leaf, packed in this way as they come."""

    def leaves(self, parts: Iterable[tuple[Host, HostTensor | None]]) -> tuple[Leaf, ...]:
        """The parameters of several products of one input, held so that `Ops.linears` can run them as one.

        Takes the parts one by one and keeps none, so that at most twice their size is held.
        """

    def fill(self) -> Iterator[None]:
        """Read the `unread`, with a yield now and then; closing it gives up.

        No leaf may be used before it has ended. Raises BadCheckpoint.
        """

    def cache(self, layout: Layout) -> Cache:
        """An empty cache."""

    def step(self, cache: Cache, work: Sequence[Work]) -> Step:
        """The step that `work` describes on `cache`, checked, with the rows' lengths advanced."""

    def runner(self, model: Model) -> Runner:
        """A model with a cache of its own, ready to be launched."""

    def call(self, work: Callable[..., Array], *arrays: Array) -> Array:
        """Device work that is no step, about 50 ms of it: work(*arrays). Waits."""

    def adapt(self, folder: Path) -> tuple[Runner, Any]:
        """A model that Crane does not define, run by the backend's own library of models; `backends.adapted.Facts`.

        Its runner is not batched. Raises Unsupported and BadCheckpoint.
        """

    def used(self) -> int:
        """Bytes the library holds on the device."""

    def limit(self) -> int:
        """Bytes that this process may hold on the device: what Metal recommends, what is free on a GPU, all of RAM."""

    def trim(self) -> None:
        """Give back memory that the library holds in reserve."""
