"""Matrices read from their files in one go, against the same packed from memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from crane_app.errors import BadCheckpoint
from crane_app.host import Blocks, Groups, Lying, LyingGroups, Packed, Stretch
from crane_app.media.files.raw import stamp_of
from tests.gguf_checkpoint import blocks
from tests.ops.oracle import host, rounded

torch = pytest.importorskip("torch")
native = pytest.importorskip("crane_app.backends.torch.native")
filling = pytest.importorskip("crane_app.backends.torch.filling")

pytestmark = pytest.mark.skipif(native.library() is None, reason="the native library is not built")
BLOCKS = [form for form in native.FORMS if form not in ("F32", "F16", "BF16") and not form.startswith("A")]
LARGE = 3000, 1024  # in several pieces, the last of them no whole strip


def written(file: Path, arrays: Sequence[np.ndarray], before: int = 77) -> list[Stretch]:
    """The arrays in a file, one behind the other, past so many bytes of something else."""
    starts = np.cumsum([before, *(x.nbytes for x in arrays)])
    file.write_bytes(b"\xaa" * before + b"".join(x.tobytes() for x in arrays) + b"\xbb" * 9)
    with file.open("rb") as handle:
        stamp = stamp_of(handle)
    return [Stretch(f"tensor {i}", file, stamp, int(start)) for i, start in enumerate(starts[:-1])]


def unread(*_: object) -> np.ndarray:
    raise AssertionError("the library reads by itself")


def in_blocks(form: str, shape: tuple[int, int], seed: int = 0) -> Blocks:
    return Blocks(form, blocks(Type[form], shape, seed).reshape(shape[0], -1), shape)


def in_groups(form: str, shape: tuple[int, int], size: int = 64) -> Groups:
    bits, dtype = next(key for key, name in native.GROUPS.items() if name == form)
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 1 << 32, (shape[0], shape[1] * bits // 32), np.uint32)
    scales, biases = (host(rounded(rng.standard_normal((shape[0], shape[1] // size)), dtype), dtype) for _ in range(2))
    return Groups(packed, scales, biases, size, bits)


def lying(matrix: Packed, places: Sequence[Stretch], heads: int = 0) -> Lying | LyingGroups:
    if isinstance(matrix, Blocks):
        return Lying(matrix.kind, (matrix.shape[0], matrix.shape[1]), places[0], unread, heads)
    return LyingGroups(matrix.scheme, matrix.shape, places, unread)


def filled(*every: Lying | LyingGroups) -> list[np.ndarray]:
    """The strips of all."""
    all_of_them = filling.Filling()
    made = [all_of_them.add(each, torch.bfloat16) for each in every]
    assert all_of_them.left == sum(each.nbytes for each in every)
    for _ in all_of_them.run():
        assert all_of_them.left >= 0
    assert all_of_them.left == 0
    return [matrix.strips for matrix in made]


@pytest.mark.parametrize("shape", [(16, 256), (37, 512), (1, 256), LARGE])
@pytest.mark.parametrize("form", BLOCKS)
def test_blocks_in_a_file_are_packed_as_those_in_memory(tmp_path, form, shape):
    matrix = in_blocks(form, shape)
    (found,) = filled(lying(matrix, written(tmp_path / "f", [matrix.data])))
    assert np.array_equal(found, native.taken(matrix, torch.bfloat16).strips)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("shape", [(16, 128), (37, 256), LARGE])
@pytest.mark.parametrize("form", sorted(native.GROUPS.values()))
def test_groups_in_a_file_are_packed_as_those_in_memory(tmp_path, form, shape, size):
    matrix = in_groups(form, shape, size)
    (found,) = filled(lying(matrix, written(tmp_path / "f", matrix.arrays)))
    assert np.array_equal(found, native.taken(matrix, torch.bfloat16).strips)


@pytest.mark.parametrize("form", ["Q4_0", "Q6_K"])
@pytest.mark.parametrize(("heads", "dim"), [(1, 64), (3, 8), (40, 64)])
def test_rows_that_lie_in_pairs_are_put_in_order(tmp_path, form, heads, dim):
    """As models/gguf.py puts them in order in memory."""
    matrix = in_blocks(form, (heads * dim, 1024))
    apart = matrix.data.reshape(heads, dim // 2, 2, -1).swapaxes(1, 2).reshape(matrix.data.shape)
    (found,) = filled(lying(matrix, written(tmp_path / "f", [matrix.data]), heads))
    whole = native.taken(Blocks(form, np.ascontiguousarray(apart), matrix.shape), torch.bfloat16)
    assert np.array_equal(found, whole.strips)


def test_matrices_of_many_kinds_and_files_are_filled_together(tmp_path):
    several = [in_blocks(form, (40 + 100 * i, 1024), i) for i, form in enumerate(BLOCKS)] * 3
    several += [in_groups(form, (333, 640)) for form in native.GROUPS.values()]
    files = [written(tmp_path / str(i), matrix.arrays) for i, matrix in enumerate(several)]
    found = filled(*map(lying, several, files))
    for strips, matrix in zip(found, several, strict=True):
        assert np.array_equal(strips, native.taken(matrix, torch.bfloat16).strips)
        assert strips.ctypes.data % native.ALIGNED == 0


def test_two_may_read_one_file_at_once(tmp_path):
    matrix = in_blocks("Q4_K", LARGE)
    places = written(tmp_path / "f", [matrix.data])
    found: list[np.ndarray] = []
    both = [threading.Thread(target=lambda: found.extend(filled(lying(matrix, places)))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(found) == 2
    assert np.array_equal(found[0], found[1])


def test_a_file_that_ends_too_soon_is_named_with_its_tensor(tmp_path):
    matrix = in_blocks("Q4_0", LARGE)
    first, last = written(tmp_path / "short.gguf", [matrix.data, matrix.data])
    (tmp_path / "short.gguf").write_bytes((tmp_path / "short.gguf").read_bytes()[:-5000])
    with (tmp_path / "short.gguf").open("rb") as handle:
        stamp = stamp_of(handle)
    every = [Stretch(place.name, place.file, stamp, place.start) for place in (first, last)]
    with pytest.raises(BadCheckpoint, match=r"short.gguf: cannot be read: it ends inside tensor tensor 1"):
        filled(*(lying(matrix, [place]) for place in every))


@pytest.mark.parametrize("lacking", [1, 6_000, 20_000])
def test_groups_whose_file_ends_too_soon_are_a_sentence(tmp_path, lacking):
    """Inside their biases, their scales, or their integers, which lie in this order from the end of the file."""
    matrix = in_groups("A4_BF16", (300, 512))
    places = written(tmp_path / "f", matrix.arrays)
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes()[: -9 - lacking])
    with (tmp_path / "f").open("rb") as handle:
        stamp = stamp_of(handle)
    places = [Stretch(place.name, place.file, stamp, place.start) for place in places]
    with pytest.raises(BadCheckpoint, match="f: cannot be read: it ends inside tensor tensor 0"):
        filled(lying(matrix, places))


def test_a_file_that_was_replaced_is_refused(tmp_path):
    matrix = in_blocks("Q4_0", (32, 64))
    places = written(tmp_path / "f", [matrix.data])
    (tmp_path / "f").write_bytes(bytes(5000))
    with pytest.raises(BadCheckpoint, match="changed while it was loaded"):
        filled(lying(matrix, places))


def test_what_the_system_says_of_a_read_is_passed_on(tmp_path, monkeypatch):
    """Of a folder nothing can be read, though it can be opened."""
    matrix = in_blocks("Q4_0", (32, 64))
    places = written(tmp_path / "f", [matrix.data])
    told: list[int] = []
    monkeypatch.setattr(filling, "_described", lambda *given: told.append(1) or _of_a_folder(tmp_path, *given))
    with pytest.raises(BadCheckpoint, match="Is a directory"):
        filled(lying(matrix, places))
    assert told


def _of_a_folder(folder, wanted, files):
    import os

    number = os.open(folder, os.O_RDONLY)
    files.callback(os.close, number)
    for c in DESCRIBED(wanted, files):
        c.file[0] = number
        yield c


DESCRIBED = filling._described


def test_given_up_it_reads_no_further(tmp_path):
    matrix = in_blocks("Q8_0", LARGE)
    place = written(tmp_path / "f", [matrix.data])
    several = filling.Filling()
    for _ in range(50):
        several.add(lying(matrix, place), torch.bfloat16)
    whole = several.left
    steps = several.run()
    next(steps)
    steps.close()
    assert 0 < several.left <= whole
    assert not any(thread.name.startswith("crane-fill") for thread in threading.enumerate())
    assert list(several.run()) == []


def test_without_anything_there_is_nothing_to_do():
    assert list(filling.Filling().run()) == []
