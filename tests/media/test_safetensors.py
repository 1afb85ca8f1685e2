"""A reader of our own agrees with the safetensors package on good files and explains every bad one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from crane_app.errors import BadCheckpoint, ModelNotFound, Unsupported
from crane_app.media.files.safetensors import DTYPES, Checkpoint
from tests.media.memory import modest


def pack(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pack_all(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """A file of (dtype, shape, data) by name, in that order."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = entry(dtype, shape, len(data), len(data) + len(content))
        data += content
    return pack(header, data)


def put(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    (folder / name).write_bytes(content)
    return folder


def shards(folder: Path, **tensors: str) -> Path:
    """One float32 tensor [2] in each named shard, and an index that says so: shards(folder, a="1", b="2")."""
    for number in set(tensors.values()):
        names = [name for name, place in tensors.items() if place == number]
        arrays = {name: np.full(2, ord(name), np.float32) for name in names}
        safetensors.numpy.save_file(arrays, folder / f"{number}.safetensors")
    index(folder, {name: f"{number}.safetensors" for name, number in tensors.items()})
    return folder


def index(folder: Path, places: object) -> Path:
    text = json.dumps({"metadata": {"total_size": 1.5}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


# ---- good files


def test_all_dtypes_agree_with_the_safetensors_package(tmp_path: Path):
    rng = np.random.default_rng(0)
    content = pack_all(
        {
            f"{dtype}{shape}": (dtype, shape, rng.bytes(int(np.prod(shape)) * bits // 8))
            for dtype, (_, bits) in DTYPES.items()
            for shape in ([3, 8], [2, 4, 5], [2, 0, 7], *([[]] if bits > 7 else []))
        }
    )
    package = dict(safetensors.deserialize(content))
    with Checkpoint.open(put(tmp_path, content)) as checkpoint:
        assert checkpoint.shapes == {name: tuple(tensor["shape"]) for name, tensor in package.items()}
        assert checkpoint.nbytes == sum(len(tensor["data"]) for tensor in package.values())
        for name, tensor in package.items():
            assert name in checkpoint
            assert checkpoint.dtypes[name] == DTYPES[tensor["dtype"]][0]
            if tensor["dtype"] in ("F32", "F16", "BF16"):
                read = checkpoint.read(name)
                assert (read.dtype, read.shape) == (checkpoint.dtypes[name], checkpoint.shapes[name])
                assert read.array.tobytes() == bytes(tensor["data"])
            else:
                with pytest.raises(Unsupported, match=re.escape(f"model.safetensors: tensor {name}")):
                    checkpoint.read(name)


def test_numbers_are_those_the_package_reads(tmp_path: Path):
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "h": np.float16([[1.5], [-0.25]])}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name).array, array)


def test_what_is_read_is_memory_of_its_own(tmp_path: Path):
    safetensors.numpy.save_file({"w": np.ones(4, np.float32)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    first, second = checkpoint.read("w").array, checkpoint.read("w").array
    first[:] = 5
    assert first.flags.writeable
    assert second.tolist() == [1, 1, 1, 1]


def test_parts_of_a_merged_parameter_are_read_in_place(tmp_path: Path):
    bits = {name: np.arange(6, dtype="<u2").reshape(2, 3) + 100 * i for i, name in enumerate("qk")}
    put(tmp_path, pack_all({name: ("BF16", [2, 3], array.tobytes()) for name, array in bits.items()}))
    merged = np.zeros((4, 3), np.uint16)
    checkpoint = Checkpoint.open(tmp_path)
    checkpoint.read_into("q", merged[:2])
    checkpoint.read_into("k", merged[2:])
    np.testing.assert_array_equal(merged, np.concatenate([bits["q"], bits["k"]]))
    for wrong in (merged[:, :2], merged[:1], merged[:2].view(np.float16), np.zeros((3, 2), np.uint16).T):
        with pytest.raises(ValueError, match=r"uint16|contiguous"):
            checkpoint.read_into("q", wrong)


def test_reading_takes_no_memory_beside_the_tensor(tmp_path: Path):
    safetensors.numpy.save_file({"w": np.ones((1024, 1024), np.float32)}, tmp_path / "model.safetensors")
    checkpoint, out = Checkpoint.open(tmp_path), np.empty((1024, 1024), np.float32)
    tracemalloc.start()
    checkpoint.read_into("w", out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert (out == 1).all()


def test_a_long_read_is_made_of_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("crane_app.media.files.raw.CHUNK", 7)
    safetensors.numpy.save_file({"w": np.arange(9, dtype=np.float32)}, tmp_path / "model.safetensors")
    assert Checkpoint.open(tmp_path).read("w").array.tolist() == list(range(9))


def test_threads_may_read_at_once(tmp_path: Path):
    arrays = {str(i): np.full((64, 64), i, np.float32) for i in range(16)}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    checkpoint, wrong = Checkpoint.open(tmp_path), []

    def read_all() -> None:
        wrong.extend(name for name in arrays if not (checkpoint.read(name).array == int(name)).all())

    threads = [threading.Thread(target=read_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_closed_checkpoint_reads_no_more(tmp_path: Path):
    with Checkpoint.open(put(tmp_path, pack({"a": entry("F32", [1], 0, 4)}, bytes(4)))) as checkpoint:
        pass
    with pytest.raises(ValueError, match="closed"):
        checkpoint.read("a")


# ---- which files


def test_shards_are_found_by_the_index(tmp_path: Path):
    checkpoint = Checkpoint.open(shards(tmp_path, a="1", b="2", c="1"))
    assert {name: checkpoint.file_of(name).name for name in "abc"} == {
        "a": "1.safetensors",
        "b": "2.safetensors",
        "c": "1.safetensors",
    }
    assert checkpoint.read("b").array.tolist() == [ord("b")] * 2


def test_without_an_index_the_only_set_is_taken(tmp_path: Path):
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        safetensors.numpy.save_file({str(number): np.ones(1, np.float32)}, tmp_path / name)
    put(tmp_path, b"AppleDouble", "._model-00001-of-00002.safetensors")
    put(tmp_path, b"", "adapter_model.safetensors")
    assert set(Checkpoint.open(tmp_path).shapes) == {"1", "2"}


def test_one_file_of_any_name_will_do(tmp_path: Path):
    safetensors.numpy.save_file({"a": np.ones(1, np.float32)}, tmp_path / "weights.safetensors")
    assert "a" in Checkpoint.open(tmp_path)


def test_two_sets_without_an_index_are_refused(tmp_path: Path):
    put(put(tmp_path, pack({}), "one.safetensors"), pack({}), "two.safetensors")
    with pytest.raises(BadCheckpoint, match=r"one\.safetensors, two\.safetensors"):
        Checkpoint.open(tmp_path)


def test_a_shard_missing_from_a_set_is_named(tmp_path: Path):
    put(tmp_path, pack({}), "model-00002-of-00003.safetensors")
    with pytest.raises(BadCheckpoint, match="lacks model-00001-of-00003"):
        Checkpoint.open(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(ModelNotFound, match="nowhere"):
        Checkpoint.open(tmp_path / "nowhere")
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        Checkpoint.open(tmp_path)


def test_an_index_may_not_name_a_file_elsewhere(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    put(tmp_path, pack({"a": entry("F32", [0], 0, 0)}), "x.safetensors")
    for name in (
        "../x.safetensors",
        "../../x",
        str(tmp_path / "x.safetensors"),
        "..\\x",
        "c:\\x",
        "a/../../x",
        "\0",
    ):
        with pytest.raises(BadCheckpoint, match="not a file of its folder"):
            Checkpoint.open(index(folder, {"a": name}))
    for name in ("", ".", "gone.safetensors", "long" * 100):
        with pytest.raises(BadCheckpoint, match=r"is missing|is not a file|cannot be read"):
            Checkpoint.open(index(folder, {"a": name}))


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own on Windows")
def test_links_leave_the_folder_only_in_the_hugging_face_cache(tmp_path: Path):
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "0a1b", tmp_path / "models--x" / "blobs"
    for folder in (snapshot / "LLM", blobs):
        folder.mkdir(parents=True)
    put(blobs, pack({"a": entry("F32", [0], 0, 0)}), "c0ffee")
    for folder in (snapshot, snapshot / "LLM"):
        (folder / "1.safetensors").symlink_to(os.path.relpath(blobs / "c0ffee", folder))
        assert "a" in Checkpoint.open(index(folder, {"a": "1.safetensors"}))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.safetensors").symlink_to(blobs / "c0ffee")
    with pytest.raises(BadCheckpoint, match="outside its folder"):
        Checkpoint.open(index(elsewhere, {"a": "1.safetensors"}))
    (elsewhere / "2.safetensors").symlink_to("2.safetensors")
    with pytest.raises(BadCheckpoint, match=r"loop|missing"):
        Checkpoint.open(index(elsewhere, {"a": "2.safetensors"}))


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}'),
        *('{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}', "[" * 100_000, "\udcff"),
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str):
    file = tmp_path / "model.safetensors.index.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors\.index\.json"):
        Checkpoint.open(tmp_path)


def test_index_and_shards_must_agree(tmp_path: Path):
    shards(tmp_path, a="1", b="2")
    index(tmp_path, {"a": "2.safetensors", "b": "2.safetensors"})
    with pytest.raises(BadCheckpoint, match=r"2\.safetensors: lacks tensor a"):
        Checkpoint.open(tmp_path)
    index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"})
    with pytest.raises(BadCheckpoint, match=r"2\.safetensors: lacks tensor c"):
        Checkpoint.open(tmp_path)
    index(tmp_path, {"a": "1.safetensors", "b": "3.safetensors"})
    with pytest.raises(BadCheckpoint, match=r"3\.safetensors: is missing"):
        Checkpoint.open(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path):
    shards(tmp_path, a="1", b="2")
    safetensors.numpy.save_file({"a": np.ones(2), "b": np.ones(2)}, tmp_path / "2.safetensors")
    with pytest.raises(BadCheckpoint, match=r"2\.safetensors: tensor a is also in 1\.safetensors"):
        Checkpoint.open(tmp_path)


# ---- bad files

LOOKALIKES = {
    b"": "is empty",
    b"abc": "not a safetensors file",
    b"\n<!DOCTYPE html><html>": "an HTML page",
    b"<html><body>503": "an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00": "Git LFS pointer",
    b"PK\x03\x04" + b"\x14" * 60: "zip archive or a PyTorch file",
    b"\x80\x02}q\x00(X\x01\x00": "Python pickle",
    b"GGUF\x03\x00\x00\x00" + bytes(60): "a GGUF file",
    b'{"error": "Repository not found"}': "a JSON text",
    b"\xff" * 64: "not a safetensors file",
    (2).to_bytes(8, "little") + b"[]": "no JSON object",
    (10).to_bytes(8, "little") + b'{"a"': "truncated inside its header",
}


@pytest.mark.parametrize("content", LOOKALIKES)
def test_what_is_not_a_safetensors_file_is_called_what_it_is(tmp_path: Path, content: bytes):
    with pytest.raises(BadCheckpoint, match=LOOKALIKES[content]) as caught:
        Checkpoint.open(put(tmp_path, content))
    assert "model.safetensors" in str(caught.value)


GOOD = entry("F32", [2], 0, 8)
FAULTS = {
    "unknown dtype": entry("F128", [2], 0, 8),
    "dtype of a number": {**GOOD, "dtype": 3},
    "negative size": entry("F32", [-2], 0, 8),
    "a size that is a fraction": {**GOOD, "shape": [2.0]},
    "a size that is a truth": {**GOOD, "shape": [True]},
    "too many dimensions": entry("F32", [1] * 65, 0, 4),
    "sizes beyond any memory": entry("F32", [0, 1 << 62], 0, 0),
    "shape of a text": {**GOOD, "shape": "2"},
    "one offset": {**GOOD, "data_offsets": [0]},
    "offsets backwards": entry("F32", [2], 8, 0),
    "size and shape differ": entry("F32", [3], 0, 8),
    "overflowing product": entry("F32", [1 << 32, 1 << 32, 1 << 32], 0, 8),
    "beyond the end": entry("F32", [4], 0, 16),
    "lies about terabytes": entry("F32", [1 << 40], 0, 1 << 42),
    "half a byte": entry("F4", [3], 0, 1),
    "more keys": {**GOOD, "more": 1},
    "fewer keys": {"dtype": "F32"},
    "no object": 5,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_entry_names_file_and_tensor(tmp_path: Path, fault: str):
    put(tmp_path, pack({"layer.w": FAULTS[fault]}, bytes(8)))
    tracemalloc.start()
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors: tensor layer\.w"):
        Checkpoint.open(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"a": GOOD, "b": entry("F32", [2], 4, 12)}, "tensor b overlaps tensor a"),
        ({"a": GOOD, "b": entry("F32", [1], 12, 16)}, "a hole of 4 bytes before tensor b"),
        ({"a": GOOD, "b": entry("F32", [1], 8, 12)}, "its last 4 bytes belong to no tensor"),
        ({"a": entry("F32", [4], 0, 16), "__metadata__": {"format": 3}}, "__metadata__"),
        ({"a": entry("F32", [4], 0, 16), "__metadata__": "pt"}, "__metadata__"),
        (b'{"a": {}, "a": {}}', "a appears twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "dtype appears twice"),
        (b'{"a": NaN}', "tensor a"),
        (b'{"a": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
        (b'{"\xff": 1}', "damaged"),
        (b'{"\\ud800": 1}', r"tensor '\\ud800'"),
        (b"{", "damaged"),
    ],
)
def test_a_bad_header_is_explained(tmp_path: Path, header: object, sentence: str):
    with pytest.raises(BadCheckpoint, match=sentence) as caught:
        Checkpoint.open(put(tmp_path, pack(header, bytes(16))))
    str(caught.value).encode()


def test_a_missing_tensor_is_named(tmp_path: Path):
    checkpoint = Checkpoint.open(put(tmp_path, pack({"a": GOOD}, bytes(8))))
    for ask in (checkpoint.read, checkpoint.file_of):
        with pytest.raises(BadCheckpoint, match=r"no tensor model\.norm"):
            ask("model.norm")
    assert "model.norm" not in checkpoint


def test_a_file_replaced_under_way_is_refused(tmp_path: Path):
    checkpoint = Checkpoint.open(put(tmp_path, pack({"a": GOOD}, bytes(8))))
    put(tmp_path, pack({"a": GOOD}, bytes(4)))
    with pytest.raises(BadCheckpoint, match="changed while it was loaded"):
        checkpoint.read("a")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        checkpoint.read("a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX")
def test_a_pipe_or_a_folder_in_place_of_the_file_does_not_hang(tmp_path: Path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(BadCheckpoint, match="is not a file"):
        Checkpoint.open(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(BadCheckpoint, match="is not a file"):
        Checkpoint.open(tmp_path)


# ---- any bytes at all

SAMPLE = pack(
    {"a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [3], 16, 22), "__metadata__": {"format": "pt"}},
    bytes(range(22)),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SIZES = st.integers(-1, 30) | st.sampled_from([2**24, 2**28, 2**31, 2**32, 2**40, 2**60, 2**63, 2**64])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPES, "F128"]) | JSON,
        "shape": st.lists(SIZES, max_size=3) | JSON,
        "data_offsets": st.lists(SIZES, min_size=2, max_size=2) | JSON,
    }
)


def open_and_read_all(folder: Path, content: bytes) -> None:
    """Whatever the bytes: an error of ours, or tensors that the safetensors package finds as well."""
    put(folder, content)
    try:
        with modest(2**20):
            checkpoint = Checkpoint.open(folder)
    except BadCheckpoint as error:
        str(error).encode()  # fit to be shown
        return
    known = dict(safetensors.deserialize(content))
    assert checkpoint.shapes == {name: tuple(tensor["shape"]) for name, tensor in known.items()}
    for name, tensor in known.items():
        with contextlib.suppress(Unsupported), modest(2**20):
            assert checkpoint.read(name).array.tobytes() == bytes(tensor["data"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_every_truncation_is_refused(folder: Path):
    for length in range(len(SAMPLE)):
        with pytest.raises(BadCheckpoint):
            Checkpoint.open(put(folder, SAMPLE[:length]))
    open_and_read_all(folder, SAMPLE)


@given(changes=st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes_never_surprise(folder: Path, changes: list[tuple[int, int]]):
    content = bytearray(SAMPLE)
    for place, byte in changes:
        content[place] = byte
    open_and_read_all(folder, bytes(content))


@given(content=st.binary(max_size=200))
def test_any_bytes_never_surprise(folder: Path, content: bytes):
    open_and_read_all(folder, content)
    open_and_read_all(folder, pack(b"{" + content))


@given(
    header=st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), ENTRIES | JSON, max_size=3),
    data=st.integers(0, 40),
)
def test_any_header_never_surprises(folder: Path, header: dict[str, object], data: int):
    open_and_read_all(folder, pack(header, bytes(data)))


@given(index=JSON | st.fixed_dictionaries({"weight_map": st.dictionaries(st.text(), st.text(), max_size=3)}))
def test_any_index_never_surprises(tmp_path_factory: pytest.TempPathFactory, index: object):
    folder = tmp_path_factory.getbasetemp() / "index"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadCheckpoint):
        Checkpoint.open(folder)
