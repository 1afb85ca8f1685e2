"""The native kernels against numpy in float64 and the gguf package: each instruction set that this processor has."""

from __future__ import annotations

import os
import signal
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import dequantize

from crane_app.backends.torch import forms
from crane_app.host import SIZES, Groups
from tests.gguf_checkpoint import blocks
from tests.ops.oracle import EPS, host, rounded

torch = pytest.importorskip("torch")
native = pytest.importorskip("crane_app.backends.torch.native")

pytestmark = pytest.mark.skipif(native.library() is None, reason="the native library is not built")


def _here() -> list[str]:
    """The kernels that this processor runs."""
    c = native.library()
    if c is None:
        return []
    found = [name for name in native.KERNELS if c.crane_choose(name.encode())]
    c.crane_choose(b"")
    return found


KERNELS = _here()
ROOT = Path(__file__).parents[2]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FORMS = native.FORMS
PACKED = [form for form in FORMS if form not in DTYPES]


@pytest.fixture(params=KERNELS)
def kernels(request) -> Iterator[str]:
    c = native.library()
    c.crane_choose(request.param.encode())
    yield request.param
    c.crane_choose(b"")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def matrix(form: str, rows: int, columns: int, exact: bool = False, seed: int = 0) -> tuple[native.Matrix, np.ndarray]:
    """A packed matrix and its numbers in float64."""
    if form in DTYPES:
        weight = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) * 0.1)
        weight = weight.to(DTYPES[form])
        return native.packed(weight), weight.double().numpy()
    if form in native.GROUPS.values():
        return grouped(form, rows, columns, exact, seed)
    data = blocks(Type[form], (rows, columns), seed)
    numbers = dequantize(data, Type[form]).reshape(rows, columns)
    return native.pack(
        form, data.reshape(rows, -1), columns, torch.float32 if exact else torch.float16
    ), numbers.astype(np.float64)


def grouped(form: str, rows: int, columns: int, exact: bool, seed: int) -> tuple[native.Matrix, np.ndarray]:
    """Affine groups of 64 as mlx lays them out, and scale * q + bias in float32."""
    bits, dtype = next(key for key, name in native.GROUPS.items() if name == form)
    rng = np.random.default_rng(seed)
    q = rng.integers(0, 1 << bits, (rows, columns)).astype(np.uint8)
    packed = (q if bits == 8 else q[:, ::2] | q[:, 1::2] << 4).view(np.uint32)
    scales, biases = (rounded(rng.standard_normal((rows, columns // 64)) * 0.01, dtype) for _ in range(2))
    groups = Groups(packed, host(scales, dtype), host(biases, dtype), 64, bits)
    wide = [np.repeat(x.astype(np.float32), 64, axis=1) for x in (scales, biases)]
    numbers = wide[0] * q + wide[1]
    return native.taken(groups, torch.float32 if exact else torch.float16), numbers.astype(np.float64)


def inputs(count: int, columns: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, columns)).astype(np.float32))


def bound(form: str, exact: bool, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """How far a product may be off: what rounding the activations loses, and float32 sums."""
    sums = 64 * EPS["float32"] * (np.abs(x) @ np.abs(w).T) + 1e-6
    if exact or form in ("F32", "F16"):
        return sums
    if form == "BF16":
        return sums + 2.0**-8 * (np.abs(x) @ np.abs(w).T)
    starts = np.arange(0, x.shape[1], 32)
    most = np.maximum.reduceat(np.abs(x), starts, axis=1)  # a block is rounded to 127ths of its largest
    return sums + 1.01 / 254 * most @ np.add.reduceat(np.abs(w), starts, axis=1).T


def widths(form: str) -> tuple[int, ...]:
    if form in SIZES and SIZES[form][0] == 256:
        return 256, 1024
    return (64, 896) if form[0] == "A" else (32, 96, 896) if form in forms.BLOCKS else (7, 64, 300)


@pytest.mark.parametrize("form", FORMS)
def test_a_product_is_as_near_as_its_rounding_lets_it_be(kernels, form):
    for columns in widths(form):
        for rows in (1, 16, 50):
            m, w = matrix(form, rows, columns)
            for count in (1, 2, 5, 8, 17):
                x = inputs(count, columns)
                wide = x.double().numpy()
                error = np.abs(m.times(x).double().numpy() - wide @ w.T)
                assert (error <= bound(form, False, wide, w)).all(), (columns, rows, count)


def in_bytes(x: np.ndarray) -> np.ndarray:
    """Float32 [N, I] in 127ths of the largest of each 32, to the nearest even: what packed products multiply."""
    parts = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    most = np.abs(parts).max(-1, keepdims=True)
    whole = np.rint(parts * (np.float32(127) / np.where(most > 0, most, 1)))
    return (whole * (most / np.float32(127)).astype(np.float64)).reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("form", PACKED)
def test_a_product_is_that_of_activations_rounded_to_the_nearest(kernels, form):
    """So what a packed product is off by has no side: the numbers are rounded, and nothing else happens to them."""
    for columns in widths(form):
        m, w = matrix(form, 50, columns)
        x = inputs(17, columns)
        x[0, :32] = torch.arange(32) / 2
        x[0, 31] = 127  # so that the others stay halves
        x[1] = 0
        known = in_bytes(x.numpy())
        error = np.abs(m.times(x).double().numpy() - known @ w.T)
        assert (error <= bound(form, True, known, w)).all(), columns


@pytest.mark.parametrize("form", PACKED)
def test_an_exact_product_rounds_no_activation(kernels, form):
    for columns in widths(form):
        m, w = matrix(form, 50, columns, exact=True)
        x = inputs(3, columns)
        wide = x.double().numpy()
        assert (np.abs(m.times(x).double().numpy() - wide @ w.T) <= bound(form, True, wide, w)).all()


@pytest.mark.parametrize("form", FORMS)
def test_rows_come_back_bit_by_bit(kernels, form):
    for columns in widths(form):
        m, w = matrix(form, 50, columns, exact=True)
        index = torch.tensor([49, 0, 17, 17, 3])
        np.testing.assert_array_equal(m.rows(index).float().numpy(), w[index.numpy()].astype(np.float32))


@pytest.mark.parametrize("form", FORMS)
def test_a_row_has_the_same_bits_in_any_company(kernels, form):
    m, _ = matrix(form, 200, 512)
    x = inputs(16, 512)
    alone = torch.cat([m.times(x[i : i + 1]) for i in range(16)])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for count in range(1, 17):
            assert torch.equal(m.times(x[:count]), alone[:count]), (threads, count)
            assert torch.equal(m.times(x[16 - count :]), alone[16 - count :]), (threads, count)


def test_all_kernels_know_the_same_numbers():
    """Sums of integers are exact everywhere, so packed products differ by the rounding of a few float sums alone."""
    c = native.library()
    x = inputs(3, 512)
    for form in PACKED:
        m, w = matrix(form, 40, 512)
        found = {}
        for kernels in KERNELS:
            c.crane_choose(kernels.encode())
            found[kernels] = m.times(x).double().numpy()
        c.crane_choose(b"")
        size = np.abs(x.double().numpy()) @ np.abs(w).T
        for kernels, got in found.items():
            assert (np.abs(got - found["plain"]) <= 64 * EPS["float32"] * size).all(), (form, kernels)


def test_activations_of_zero_and_of_one_large_number(kernels):
    m, w = matrix("Q4_0", 32, 64)
    assert not m.times(torch.zeros(1, 64)).any()
    x = torch.zeros(1, 64)
    x[0, 40] = -3e5
    np.testing.assert_allclose(m.times(x).numpy()[0], -3e5 * w[:, 40], rtol=1e-5)


def test_halves_are_rounded_to_even(kernels):
    """A product with the unit matrix gives the activations as bfloat16 has them."""
    m = native.packed(torch.eye(64, dtype=torch.bfloat16))
    x = inputs(4, 64)
    x[0, 0], x[0, 1] = 1 + 2.0**-8, 1 + 3 * 2.0**-8
    np.testing.assert_array_equal(m.times(x).double().numpy(), rounded(x.double().numpy(), "bfloat16"))


def test_the_first_of_equals_is_the_likeliest(kernels):
    x = np.random.default_rng(3).standard_normal((5, 20000)).astype(np.float32)
    x[0, [7, 9000, 19999]] = 9
    x[1, 19999] = 9
    x[2] = -1
    x[3, :] = -np.inf
    assert native.best(torch.from_numpy(x)).tolist() == [7, 19999, 0, 0, int(x[4].argmax())]


def test_what_is_told_of_a_tile_without_the_library_is_so():
    c = native.library()
    for form, (columns, nbytes) in forms.TILES.items():
        assert c.crane_tile_columns(native.FORMATS[form]) == columns, form
        assert c.crane_strip_bytes(native.FORMATS[form], columns) == nbytes, form


@pytest.mark.parametrize("width", [1, 63, 64, 1000, 5000])
def test_the_likeliest_come_in_order_and_the_first_of_equals_first(kernels, width):
    x = np.random.default_rng(5).integers(-300, 300, (4, width)).astype(np.float32) / 8
    x[1, 1::2] = -np.inf
    x[2] = 0.5
    x[3, ::3] = -0.0
    temperature = np.array([0.3, 1.0, 0.7, 2.5], np.float32)
    for keep in {1, min(20, width), min(64, width), width}:
        ids, total = native.likeliest(torch.from_numpy(x), temperature, keep)
        scores = x / temperature[:, None]
        np.testing.assert_array_equal(ids.numpy(), np.argsort(-scores, axis=1, kind="stable")[:, :keep])
        wide = scores.astype(np.float64)
        np.testing.assert_allclose(total.numpy(), np.exp(wide - wide.max(1, keepdims=True)).sum(1), rtol=1e-6)


@pytest.mark.parametrize("min_p", [0.0, 0.3])
def test_a_draw_is_where_the_mass_so_far_exceeds_the_noise(kernels, min_p):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((400, 300)).astype(np.float32) * 2
    x[::2, :100] = -np.inf  # which no noise may find
    noise = rng.random(400).astype(np.float32)
    noise[:4] = 0, 0, 1 - 2.0**-24, 1 - 2.0**-24
    temperature = np.full(400, 0.8, np.float32)
    wide = (x / temperature[:, None]).astype(np.float64)
    mass = np.exp(wide - wide.max(1, keepdims=True))
    mass[mass < min_p] = 0
    so_far = mass.cumsum(1)
    goal = noise[:, None] * so_far[:, -1:]
    found = native.pick(torch.from_numpy(x), temperature, np.full(400, min_p, np.float32), noise).numpy()
    assert (mass[np.arange(400), found] > 0).all()
    near = (np.abs(so_far - goal) < 1e-5 * so_far[:, -1:]).any(1)
    right = (so_far > goal).argmax(1) == found
    assert (right | near).all()
    assert right.sum() > 380


def test_a_draw_has_the_same_bits_in_any_company(kernels):
    x = torch.randn(9, 3000, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(7)
    given = [rng.random(9).astype(np.float32) for _ in range(3)]
    ids, total = native.likeliest(x, given[0], 50)
    found = native.pick(x, *given)
    for i in range(9):
        own = native.likeliest(x[i : i + 1], given[0][i : i + 1], 50)
        assert torch.equal(own[0][0], ids[i])
        assert torch.equal(own[1][0], total[i])
        assert native.pick(x[i : i + 1], *(each[i : i + 1] for each in given))[0] == found[i]


def test_a_wheel_is_built_from_all_of_the_sources():
    """A header that is not listed is missing from what is published, and rebuilds nothing when it changes."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["ext-modules"][0]
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "crane_app/backends/torch/csrc").iterdir()}
    assert set(told["sources"]) | set(told["depends"]) == there


def test_columns_that_are_no_whole_blocks_are_refused():
    with pytest.raises(ValueError, match="no whole blocks"):
        native.pack("Q4_0", np.zeros((2, 18), np.uint8), 40, torch.float32)


def test_a_thousand_small_products_on_more_threads_than_there_are_processors():
    m, _ = matrix("Q8_0", 400, 64)
    x = inputs(2, 64)
    want = m.times(x)
    torch.set_num_threads(7)
    assert all(torch.equal(m.times(x), want) for _ in range(1000))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tried here
def test_a_forked_process_computes_though_it_was_made_amid_a_product():
    """It has none of the threads, nobody who could give the pool back, and no business with what was being computed."""
    m, _ = matrix("Q8_0", 4000, 512)
    x = inputs(4, 512)
    want, ended = m.times(x), threading.Event()

    def compute() -> None:
        while not ended.is_set():
            m.times(x)

    other = threading.Thread(target=compute)
    other.start()
    told = []
    for _ in range(20):
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout has its own
            signal.alarm(60)
            os._exit(0 if all(torch.equal(m.times(x), want) for _ in range(3)) else 1)
        told.append(os.waitpid(child, 0)[1])
        if told[-1]:
            break
    ended.set()
    other.join()
    assert told == [0] * 20
