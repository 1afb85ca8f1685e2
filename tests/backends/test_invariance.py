"""A row's numbers are the same bits whatever else is in its step; op by op, float32, one thread and two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from crane_app.backends.draw import plan_draw
from crane_app.contract import BLOCK, Sampling, Slot, Work
from tests.ops.oracle import Rows, host, leaf, normal

pytestmark = pytest.mark.parametrize("dtype", ["float32"])

COUNTS = [*range(1, 41), 64, 65, 255]
LAYOUT = (Slot("full", 2, 32), Slot("window", 2, 32, window=7))


@pytest.fixture(params=["mlx", "torch, 1 thread", "torch, 2 threads"])
def backend_name(request) -> Iterator[str]:
    """MLX has no setting for its threads."""
    if request.param == "mlx":
        pytest.importorskip("mlx.core", exc_type=ImportError)
        yield "mlx"
    else:
        torch = pytest.importorskip("torch")
        torch.set_num_threads(2 if "2" in request.param else 1)
        yield "torch"
        torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(30)


def differing(backend, x, op, counts=COUNTS):
    """Of how many rows the first ones, and the last ones, are not bitwise what they are among all of x."""
    whole = backend.numpy(op(x))
    wrong = []
    for count in counts:
        for part in (slice(0, count), slice(len(x) - count, len(x))):
            if not np.array_equal(backend.numpy(op(x[part])), whole[part]):
                wrong.append(count)
    return sorted(set(wrong))


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (96, 64), (1024, 3072)])
def test_rows_of_linear(backend, rng, inputs, outputs, bias):
    x = normal(rng, 300, inputs, dtype="float32")
    b = normal(rng, outputs, dtype="float32") if bias else None
    w = leaf(backend, normal(rng, outputs, inputs, dtype="float32", scale=inputs**-0.5), b)
    counts = COUNTS if backend.device.backend == "torch" or inputs < 1000 else COUNTS[::6]  # MLX is slow on a CPU
    assert differing(backend, x, lambda part: backend.ops.linear(backend.array(part), w), counts) == []


def test_rows_of_a_tied_head(backend, rng):
    x, w = (
        normal(rng, 300, 64, dtype="float32"),
        leaf(backend, normal(rng, 500, 64, dtype="float32"), use="tied"),
    )
    assert differing(backend, x, lambda part: backend.ops.linear(backend.array(part), w)) == []


def test_rows_of_linears(backend, rng):
    x = normal(rng, 300, 64, dtype="float32")
    ws = backend.leaves([(host(normal(rng, n, 64, dtype="float32"), "float32"), None) for n in (64, 32, 32)])
    for which in range(3):
        assert differing(backend, x, lambda part, i=which: backend.ops.linears(backend.array(part), ws)[i]) == []
        assert differing(backend, x, lambda part, i=which: backend.ops.linear(backend.array(part), ws[i])) == []


@pytest.mark.parametrize("width", [64, 1024])
def test_rows_of_rms_norm(backend, rng, width):
    x, w = normal(rng, 300, width, dtype="float32"), leaf(backend, normal(rng, width, dtype="float32"))
    assert differing(backend, x, lambda part: backend.ops.rms_norm(backend.array(part), w, 1e-6)) == []


@pytest.mark.parametrize("width", [64, 1024])
def test_rows_of_layer_norm(backend, rng, width):
    x, w = normal(rng, 300, width, dtype="float32"), leaf(backend, normal(rng, width, dtype="float32"))
    assert differing(backend, x, lambda part: backend.ops.layer_norm(backend.array(part), w, 1e-5)) == []


@pytest.mark.parametrize("width", [96, 1152])
def test_rows_of_gelu_and_tanh(backend, rng, width):
    x = normal(rng, 300, width, dtype="float32")
    for op in (backend.ops.gelu, backend.ops.tanh):
        assert differing(backend, x, lambda part, op=op: op(backend.array(part))) == []


@pytest.mark.parametrize("width", [96, 1152])
def test_rows_of_swiglu(backend, rng, width):
    """1152 wide, 300 rows are cut among threads in the middle of a row."""
    x = normal(rng, 300, 2, width, dtype="float32")
    swiglu = lambda part: backend.ops.swiglu(*(backend.array(part[:, i]) for i in (0, 1)))  # noqa: E731
    assert differing(backend, x, swiglu) == []


@pytest.mark.parametrize("pairs", [False, True], ids=["halves", "pairs"])
def test_rows_of_rope(backend, rng, pairs):
    """A token alone turns as in a prompt; 12 angles are no whole number of vector registers."""
    x, inverse = normal(rng, 120, 3, 32, dtype="float32"), 100.0 ** -(np.arange(12) / 12)

    def turn(start, new):
        cache = backend.cache((Slot("full", 1, 1),))
        row = cache.open(BLOCK)
        if start:
            backend.step(cache, [Work(row, np.zeros(start, np.int32))])
        rotary = backend.ops.rotary(backend.step(cache, [Work(row, np.zeros(new, np.int32))]), inverse)
        return backend.numpy(backend.ops.rope(backend.array(x[start : start + new]), rotary, pairs))

    whole = turn(0, 120)
    for start, new in ((0, 1), (0, 2), (1, 1), (1, 3), (5, 7), (17, 1), (40, 33), (119, 1)):
        np.testing.assert_array_equal(turn(start, new), whole[start : start + new])


def together(backend, layout, story, reserves):
    rows, out = Rows(backend, layout), {}
    ids = {row: rows.open(reserve) for row, reserve in reserves.items()}
    for step in story:
        got = rows.run([{ids[row]: part for row, part in layer.items()} for layer in step])
        first = 0
        for row, (q, _, _) in step[0].items():
            out.setdefault(row, []).append([y[first : first + len(q)] for y in got])
            first += len(q)
    return out


def story_of(backend, layout, steps):
    """The q, k, v of every step: a list of layers, each row -> (q, k, v)."""
    rows = Rows(backend, layout, seed=31)
    return [rows.inputs(*step.items()) for step in steps]


STEPS = [
    {"a": 30, "b": 9},
    {"b": 1, "a": 1},
    {"c": 17, "a": 1, "b": 1},
    {"a": 1, "d": 5, "b": 1, "c": 1},
    {"d": 1, "c": 1, "b": 1, "a": 1},
    {"a": 1},
    {"e": 2, "f": 3, "g": 1, "h": 1, "a": 1, "c": 40},
    {"h": 1, "g": 1, "f": 1, "e": 1, "d": 1, "c": 1, "b": 1, "a": 1},
    {"c": 1, "h": 1},
]


@pytest.mark.parametrize("kv_cache", ["auto", "int8"])
@pytest.mark.parametrize("reserve", [BLOCK, 2 * BLOCK])
def test_attend_of_a_row_alone_is_attend_of_the_row_in_company(backend, reserve):
    """Decode rows and chunks in any order; the row's own chunks are the same, as they lie on a grid."""
    story = story_of(backend, LAYOUT, STEPS)
    mixed = together(backend, LAYOUT, story, dict.fromkeys("abcdefgh", reserve))
    for row in "abcdefgh":
        own = [[{row: layer[row]} for layer in step] for step in story if row in step[0]]
        single = together(backend, LAYOUT, own, {row: reserve})[row]
        for turn, (got, want) in enumerate(zip(mixed[row], single, strict=True)):
            for layer in range(len(LAYOUT)):
                np.testing.assert_array_equal(got[layer], want[layer], f"row {row}, its step {turn}, layer {layer}")


@pytest.mark.parametrize("kv_cache", ["auto", "int8"])
def test_attend_does_not_feel_how_much_room_its_neighbours_have(backend):
    story = story_of(backend, LAYOUT, STEPS[:5])
    even = together(backend, LAYOUT, story, dict.fromkeys("abcd", BLOCK))
    uneven = together(backend, LAYOUT, story, {"a": BLOCK, "b": 4 * BLOCK, "c": 2 * BLOCK, "d": 2 * BLOCK})
    for got, want in zip(uneven["a"], even["a"], strict=True):
        np.testing.assert_array_equal(got[0], want[0])


@pytest.mark.parametrize("kv_cache", ["auto", "int8"])
def test_attend_does_not_feel_what_its_memory_held_before(backend):
    """A row in the place of a closed one, a cut row, a neighbour that left."""
    story = story_of(backend, LAYOUT, [{"a": 30}, {"a": 1}, {"a": 5}, {"a": 1}])
    fresh = together(backend, LAYOUT, story, {"a": BLOCK})["a"]
    rows = Rows(backend, LAYOUT)
    old, neighbour = rows.open(), rows.open()
    rows.run(rows.inputs((old, 200), (neighbour, 100)))
    rows.close(old)
    row = rows.open()
    rows.run(rows.inputs((row, 90)))
    rows.truncate(row, 0)
    for turn, step in enumerate(story):
        got = rows.run([{row: layer["a"]} for layer in step])
        for y, want in zip(got, fresh[turn], strict=True):
            np.testing.assert_array_equal(y, want)


def test_recall_of_a_row_alone_is_recall_of_the_row_in_company(backend, rng):
    layout = (Slot("memory", 2, 32),)
    memories = {"a": 5, "b": 40, "c": 17}
    kv = {row: [normal(rng, n, 2, 32, dtype="float32") for _ in range(2)] for row, n in memories.items()}
    q = {row: normal(rng, new, 4, 32, dtype="float32") for row, new in (("a", 1), ("b", 6), ("c", 1))}

    def recall(names):
        cache = backend.cache(layout)
        works = [Work(cache.open(64), np.zeros(len(q[n]), np.int32), memory=memories[n]) for n in names]
        step = backend.step(cache, works)
        k, v = (backend.array(np.concatenate([kv[n][i] for n in names])) for i in (0, 1))
        backend.ops.remember(k, v, step, 0)
        return backend.numpy(backend.ops.recall(backend.array(np.concatenate([q[n] for n in names])), step, 0))

    want = np.concatenate([recall([n]) for n in "cba"])
    np.testing.assert_array_equal(recall("cba"), want)


@pytest.mark.parametrize("k", [1, 2])
def test_rows_of_experts(backend, rng, k):
    x, scores = normal(rng, 80, 64, dtype="float32"), normal(rng, 80, 6, dtype="float32")
    gate_up = leaf(backend, normal(rng, 6, 48, 64, dtype="float32"))
    down = leaf(backend, normal(rng, 6, 64, 24, dtype="float32"))

    def op(part):
        parts = backend.array(part[:, :64]), backend.array(part[:, 64:])
        return backend.ops.experts(*parts, gate_up, down, k, normalise=True)

    both = np.concatenate([x, scores], axis=1)
    assert differing(backend, both, op, [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 64]) == []


WAYS = [
    {"temperature": 0.0},
    {},
    {"top_k": 3},
    {"top_k": 40},
    {"top_p": 0.9},
    {"min_p": 0.05},
    {"top_k": 100, "top_p": 0.8, "min_p": 0.02},
    {"repetition_penalty": 1.4, "repeat_last_n": 4},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5, "top_p": 0.9},
    {"logit_bias": {3: 2.0, 100: -1.0}, "top_k": 7},
    {"temperature": 0.0, "repetition_penalty": 2.0},
]


def test_sample_of_a_row_alone_is_sample_of_the_row_in_company(backend, rng):
    """Each way of drawing beside all others, beside its own kind, and alone; histories of unlike length."""
    count = 6 * len(WAYS)
    logits = normal(rng, count, 500, dtype="float32", scale=2)
    base = Sampling(temperature=1.2, seed=5)
    works = [
        Work(
            row=i,
            tokens=np.array([1], np.int32),
            draw=replace(base, **WAYS[i % len(WAYS)]),
            seen=rng.integers(0, 500, 3 + 7 * (i % 5)).astype(np.int32),
            made=i % 4,
        )
        for i in range(count)
    ]

    def sample(index):
        draw = plan_draw([works[i] for i in index], [10 + i for i in index])
        return backend.numpy(backend.ops.sample(backend.array(logits[index]), draw))

    whole = sample(np.arange(count))
    for index in (
        np.arange(count)[::-1],
        np.arange(0, count, len(WAYS)),
        np.arange(0, count, 7),
        np.arange(5, 20),
    ):
        np.testing.assert_array_equal(sample(index), whole[index])
    np.testing.assert_array_equal(np.concatenate([sample(np.array([i])) for i in range(count)]), whole)
