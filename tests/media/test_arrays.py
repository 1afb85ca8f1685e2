"""PyTorch's and numpy's files are read as their own libraries read them, and nothing in them is ever run."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane_app.errors import BadCheckpoint, CraneError, Unsupported
from crane_app.media.files.arrays import Arrays, files_in
from crane_app.media.files.bare_pickles import MAGIC, VERSION, is_bare, open_bare
from crane_app.media.files.npz import open_npz
from crane_app.media.files.pickles import MOST_INSTRUCTIONS, open_archive
from tests.media.memory import modest

torch = pytest.importorskip("torch", exc_type=ImportError)
MANY = 4 * settings.default.max_examples


def bits(x) -> np.ndarray:
    x = x.detach()
    return (x.view(torch.uint16) if x.dtype is torch.bfloat16 else x).numpy()


def model() -> dict:
    torch.manual_seed(0)
    run = torch.randn(10)
    return {
        "plain": torch.randn(3, 4),
        "turned": torch.randn(3, 4).T,
        "half": torch.randn(5).half(),
        "brain": torch.randn(2, 2).bfloat16(),
        "whole": torch.arange(4),
        "part": run[3:7],
        "steps": run[1::3],
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(3.0),
    }


def test_tensors_of_every_form_are_what_torch_saved(tmp_path):
    torch.save(model(), tmp_path / "model.pth")
    archive = open_archive(tmp_path / "model.pth")
    for name, tensor in model().items():
        read = archive.read(name)
        np.testing.assert_array_equal(read, bits(tensor), name)
        assert read.flags.c_contiguous
        assert read.flags.owndata


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_may_lie_in_a_dict(tmp_path, key):
    torch.save({key: torch.nn.Linear(3, 2).state_dict(), "epoch": 3, "lr": 0.5, "names": ["a"]}, tmp_path / "m.bin")
    assert sorted(open_archive(tmp_path / "m.bin").tensors) == ["bias", "weight"]


def old(file: Path, what: object, **said: object) -> Path:
    """Saved as PyTorch did before 1.6."""
    torch.save(what, file, _use_new_zipfile_serialization=False, **said)
    return file


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_tensors_of_the_form_from_before_are_what_torch_saved(tmp_path, protocol):
    file = old(tmp_path / "old.pth", model(), pickle_protocol=protocol)
    assert is_bare(file)
    bare = open_bare(file)
    for name, tensor in model().items():
        read = bare.read(name)
        np.testing.assert_array_equal(read, bits(tensor), name)
        assert read.flags.owndata


def test_a_folder_may_have_weights_of_the_form_from_before(tmp_path):
    old(tmp_path / "pytorch_model.bin", {"state_dict": {"a": torch.arange(6.0).view(2, 3)}})
    with Arrays.open(tmp_path) as arrays:
        np.testing.assert_array_equal(arrays.read("a").array, [[0, 1, 2], [3, 4, 5]])


def test_code_in_the_form_from_before_is_refused_by_name_and_never_run(tmp_path):
    file = old(tmp_path / "m.pth", {"a": torch.ones(2), "b": Evil(tmp_path / "ran")})
    with pytest.raises(Unsupported, match=r"asks for .*, which no weights need"):
        open_bare(file)
    (tmp_path / "n.pth").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), 2))
    with pytest.raises(Unsupported, match=r"asks for .*, which no weights need"):
        open_bare(tmp_path / "n.pth")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_something_else_and_a_cut_one_are_sentences(tmp_path):
    (tmp_path / "m.pth").write_bytes(pickle.dumps([1, 2], 2))
    with pytest.raises(BadCheckpoint, match=r"is a pickle, but not one of PyTorch's weights"):
        open_bare(tmp_path / "m.pth")
    file = old(tmp_path / "old.pth", model())
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(BadCheckpoint, match=r"ends inside storage .*download it again"):
        open_bare(file)
    file.write_bytes(whole[:300])
    with pytest.raises(BadCheckpoint, match=r"old\.pth"):
        open_bare(file)


def archive_of(path: Path, data: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", data)
        for name, content in members.items():
            archive.writestr(f"m/data/{name}", content)
    return path


class Evil:
    """Pickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(2, 5))
def test_code_is_refused_by_name_and_never_run(tmp_path, protocol):
    file = archive_of(tmp_path / "m.pth", pickle.dumps({"a": Evil(tmp_path / "ran")}, protocol))
    with pytest.raises(Unsupported, match="open, which no weights need"):
        open_archive(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00lsq\x01\x85q\x02Rq\x03.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x04\x8c\x05torch\x8c\x05ClassR.",
        b"\x80\x02(X\x02\x00\x00\x00lscos\nsystem\no.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
        b"\x80\x02]r\xff\xff\xff\x7fs.",
        b"\x80\x02X\xff\xff\xff\x7fab.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"\x80\x02(((((.",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02}.",
        b"\x80\x02h\x05.",
        b"",
        b"(dp0\nS'a'\nI1\ns.",
        b"\x80\x02}(]K\x01u.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nNK\x00K\x01tR.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
    ],
    ids=repr,
)
def test_a_hostile_pickle_is_a_sentence(tmp_path, data):
    with pytest.raises(CraneError) as raised:
        open_archive(archive_of(tmp_path / "m.pth", data))
    assert "m.pth" in str(raised.value)


def described(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int) -> bytes:
    """A pickle of one float32 tensor."""

    def number(n: int) -> bytes:
        raw = n.to_bytes(9, "little", signed=True)
        return b"\x8a\x09" + raw

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    text = b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    storage = b"(" + text + number(count) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(strides)
    return b"\x80\x02}X\x01\x00\x00\x00w" + call + b"\x89NtRs."


def test_a_tensor_as_torch_describes_it(tmp_path):
    file = archive_of(tmp_path / "m.pth", described(1, (2, 2), (2, 1), 5), **{"0": np.arange(5, dtype="<f4").tobytes()})
    assert open_archive(file).read("w").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "count"),
    [
        (2, (2, 2), (2, 1), 5),
        (0, (2, 2), (2**61, 1), 5),
        (0, (2**40,), (0,), 5),
        (-1, (2,), (1,), 5),
        (0, (2,), (-1,), 5),
        (0, (2,), (1, 1), 5),
        (2**62, (1,), (1,), 5),
        (0, (6,), (1,), 6),
        (0, (1,), (1,), 2**61),
    ],
)
def test_a_tensor_outside_its_storage_is_a_sentence(tmp_path, offset, shape, strides, count):
    file = archive_of(tmp_path / "m.pth", described(offset, shape, strides, count), **{"0": bytes(20)})
    with pytest.raises(BadCheckpoint, match=r"m\.pth"):
        open_archive(file).read("w")


def doubled(times: int) -> bytes:
    """A pickle that has a tuple twice in a tuple, and that one twice in the next, on top of its stack."""
    return b"K\x01" + times * b"q\x00h\x00\x86"


@pytest.mark.parametrize(
    "data",
    [doubled(18) + b"\x8c\x05torch\x93.", b"\x8c\x05torch" + doubled(18) + b"\x93.", doubled(18) + b"h\x00\x93."],
    ids=["a module", "a name", "both"],
)
def test_what_would_take_for_ever_to_be_shown_is_not_shown(tmp_path, data):
    """In a file of some 200 bytes."""
    with pytest.raises(BadCheckpoint, match="no text"), modest(50_000):
        open_archive(archive_of(tmp_path / "m.pth", b"\x80\x02" + data))


def test_keys_of_storages_that_are_no_texts_are_not_compared(tmp_path):
    """A list cannot be; tuples of tuples would take for ever. In the form from before."""
    head = b"".join(pickle.dumps(each, 2) for each in (MAGIC, VERSION, {"little_endian": True}))
    file = tmp_path / "m.pth"
    file.write_bytes(head + described(0, (3,), (1,), 3) + b"\x80\x02]]a." + bytes(20))
    with pytest.raises(BadCheckpoint, match="storages that are not those of the tensors"):
        open_bare(file)


def test_marks_above_many_values_take_no_time_of_their_own(tmp_path):
    """Were each mark looked for from the bottom of the stack, it would be found after the time that a test has."""
    data = b"\x80\x02" + b"N" * 200_000 + b"(t" * 100_000 + b"."
    with pytest.raises(BadCheckpoint, match="no tensors by name"):
        open_archive(archive_of(tmp_path / "m.pth", data))


def test_a_pickle_that_makes_more_and_more_is_ended(tmp_path, monkeypatch):
    """A byte makes a list of 56."""
    monkeypatch.setattr("crane_app.media.files.pickles.MOST_INSTRUCTIONS", 1000)
    with pytest.raises(BadCheckpoint, match="more than 1000 instructions"), modest(400_000):
        open_archive(archive_of(tmp_path / "m.pth", b"\x80\x02" + b"]" * 50_000 + b"."))


def test_a_large_model_has_few_instructions(tmp_path):
    torch.save({f"model.layers.{i}.weight": torch.zeros(2, 2) for i in range(1000)}, tmp_path / "m.pth")
    with zipfile.ZipFile(tmp_path / "m.pth") as archive:
        count = sum(1 for _ in pickletools.genops(archive.read("m/data.pkl")))
    assert 50_000 / 1000 * count < MOST_INSTRUCTIONS


def lying(path: Path, members: dict[str, tuple[bytes, int]]) -> Path:
    """An archive whose directory gives its members sizes of its own choice. APPNOTE.TXT of PKWARE, 4.3 and 4.5.3."""
    data = directory = b""
    for name, (content, size) in members.items():
        sizes = struct.pack("<HHQQ", 1, 16, size, size)
        what = struct.pack("<HHHHHIIIHH", 45, 0, 0, 0, 0, zlib.crc32(content), *[2**32 - 1] * 2, len(name), len(sizes))
        directory += struct.pack("<4sH", b"PK\1\2", 45) + what
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(data)) + name.encode() + sizes
        data += b"PK\3\4" + what + name.encode() + sizes + content
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *[len(members)] * 2, len(directory), len(data), 0)
    path.write_bytes(data + directory + end)
    return path


@pytest.mark.parametrize("size", [2**28, 2**36, 2**60])
def test_a_directory_that_lies_about_sizes_is_not_believed(tmp_path, size):
    """Memory for what is said to be there would be asked for before a byte of it is read."""
    pickled = described(0, (size // 4,), (1,), size // 4)
    there = {"m/data.pkl": (pickled, len(pickled)), "m/data/0": (bytes(70_000), size)}
    with pytest.raises(BadCheckpoint, match="not as many"), modest(300_000):
        open_archive(lying(tmp_path / "m.pth", there)).read("w")
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4 - 32},)}}".ljust(128 - 12).encode()
    array = b"\x93NUMPY\2\0" + struct.pack("<I", len(head)) + head + bytes(70_000)
    with pytest.raises(BadCheckpoint, match="not as long"), modest(300_000):
        open_npz(lying(tmp_path / "m.npz", {"a.npy": (array, size)}))["a"].read()


def attempt(file: Path) -> None:
    with contextlib.suppress(CraneError), modest(2**20 + 100 * file.stat().st_size):
        archive = open_bare(file) if is_bare(file) else open_archive(file)
        for name in archive.tensors:
            archive.read(name)


@pytest.mark.slow
@settings(max_examples=MANY)
@given(cuts=st.lists(st.tuples(st.integers(0, 2500), st.binary(max_size=6)), min_size=1, max_size=3))
def test_a_file_with_any_bytes_replaced_is_read_or_is_a_sentence(tmp_path_factory, cuts):
    file = tmp_path_factory.getbasetemp() / "mended.pth"
    if not file.exists():
        torch.save(model(), file)
        file.with_suffix(".good").write_bytes(file.read_bytes())
    content = bytearray(file.with_suffix(".good").read_bytes())
    for at, new in cuts:
        content[at : at + len(new)] = new
    file.write_bytes(content)
    attempt(file)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")  # of pickletools, in texts that are refused
@settings(max_examples=MANY)
@given(
    cuts=st.lists(st.tuples(st.integers(2, 1700), st.binary(max_size=8)), max_size=3),
    end=st.integers(0, 1700),
)
def test_any_bytes_in_the_form_from_before_are_read_or_are_a_sentence(tmp_path_factory, cuts, end):
    file = tmp_path_factory.getbasetemp() / "bare.pth"
    if not file.exists():
        old(file, model())
        file.with_suffix(".good").write_bytes(file.read_bytes())
    content = bytearray(file.with_suffix(".good").read_bytes())
    for at, new in cuts:
        content[at : at + len(new)] = new
    file.write_bytes(content[: max(len(content) - end, 3)])
    attempt(file)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")  # of pickletools, in texts that are refused
@settings(max_examples=MANY)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=4)), max_size=3),
    end=st.integers(0, 900),
)
def test_any_pickle_is_read_or_is_a_sentence(tmp_path_factory, cuts, end):
    file = tmp_path_factory.getbasetemp() / "pickled.pth"
    if not file.exists():
        torch.save(model(), file)
        with zipfile.ZipFile(file) as archive:
            file.with_suffix(".good").write_bytes(archive.read("pickled/data.pkl"))
    good = bytearray(file.with_suffix(".good").read_bytes())
    for at, new in cuts:
        good[at : at + len(new)] = new
    attempt(archive_of(file, bytes(good[: len(good) - end]), **{str(i): bytes(80) for i in range(9)}))


# Instructions that there are, with what some of them say, and a few that are refused.
WORDS = [
    *(b"(", b"}", b"]", b")", b"N", b"\x88", b"\x89", b"K\x02", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x01\x03"),
    *(
        b"X\x01\x00\x00\x00a",
        b"\x8c\x010",
        b"\x8c\x07storage",
        b"\x8c\x03cpu",
        b"\x8c\x0ctorch._utils",
        b"\x8c\x05torch",
    ),
    *(b"\x8c\x12_rebuild_tensor_v2", b"\x8c\x0cFloatStorage", b"t", b"\x85", b"\x86", b"\x87", b"s", b"u", b"a", b"e"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"\x93"),
    *(b"R", b"b", b"Q", b"q\x00", b"h\x00", b"r\x01\x00\x00\x00", b"h\x01", b"\x94", b"0", b"2", b"1", b"."),
    b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x08tQ",
]


@pytest.mark.slow
@settings(max_examples=MANY)
@given(
    words=st.lists(st.tuples(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), st.integers(1, 18)), max_size=12)
)
def test_any_instructions_are_read_or_are_a_sentence(tmp_path_factory, words):
    """Some of them many times over, so that what they make grows."""
    data = b"\x80\x02" + b"".join(times * b"".join(some) for some, times in words) + b"."
    attempt(archive_of(tmp_path_factory.getbasetemp() / "told.pth", data, **{"0": bytes(32)}))


@pytest.mark.parametrize("name", ["m.pth", "m.npz"])
def test_a_file_cut_off_anywhere_is_a_sentence(tmp_path, name):
    file = tmp_path / name
    if name == "m.pth":
        archive_of(file, described(0, (3,), (1,), 3), **{"0": bytes(12)})
    else:
        np.savez(file, w=np.ones(3, np.float32))
    assert len(Arrays.open(tmp_path).read("w").array) == 3
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match=name), modest(2**20):
            Arrays.open(tmp_path).read("w")


# numpy


def test_arrays_of_every_form_are_what_numpy_saved(tmp_path):
    arrays = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        "one": np.float32(3).reshape(()),
        "whole": np.arange(3),
    }
    np.savez(tmp_path / "model.npz", **arrays)
    for name, member in open_npz(tmp_path / "model.npz").items():
        np.testing.assert_array_equal(member.read(), arrays[name])
    np.savez(tmp_path / "b.npz", w=np.array([1, 2], "<u2").view("V2"))
    member = open_npz(tmp_path / "b.npz")["w"]
    assert (member.dtype, member.read().tolist()) == ("bfloat16", [1, 2])


def test_objects_and_compressed_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.array([{}], object), allow_pickle=True)
    with pytest.raises(Unsupported, match="never reads"):
        open_npz(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", w=np.zeros(1000))
    with pytest.raises(Unsupported, match="compressed"):
        open_npz(tmp_path / "b.npz")


PARSED = 2**24  # bytes; Python's parser takes some hundred for each sign of a header
HEADS = st.recursive(
    st.sampled_from(
        ["'descr'", "'<f4'", "'fortran_order'", "'shape'", "False", "(1,)", "-1", "9" * 30, "1", "b''", "["]
    ),
    lambda inner: st.lists(inner, max_size=4).map("".join) | inner.map("({},)".format) | inner.map("{{{}: 1}}".format),
)


def read_all(file: Path) -> None:
    for member in open_npz(file).values():
        member.read()


def npz_of(file: Path, head: str, data: bytes = bytes(8)) -> Path:
    """A file of one array whose header is `head`."""
    with zipfile.ZipFile(file, "w") as archive:
        raw = head.encode()
        archive.writestr("a.npy", b"\x93NUMPY\2\0" + struct.pack("<I", len(raw)) + raw + data)
    return file


@pytest.mark.parametrize(
    "head",
    [
        *("-" * 9000 + "1", "(" * 9000, "[" * 9000, "1" + "+1" * 4000, "1" * 9000, "{" * 90 + "}" * 90, ""),
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 0)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -1)}",
        "{'descr': '<V0', 'fortran_order': False, 'shape': (4611686018427387904,)}",
        "{'descr': [('a', '<f4', (2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2))], 'shape': (1,)}",
    ],
    ids=lambda head: f"{head[:12]} {head[-20:]}",
)
def test_a_hostile_header_of_an_array_is_a_sentence(tmp_path, head):
    with pytest.raises(BadCheckpoint, match=r"m\.npz"), modest(PARSED):
        read_all(npz_of(tmp_path / "m.npz", head, b""))


@given(head=HEADS, times=st.integers(1, 60))
def test_any_header_of_an_array_is_read_or_is_a_sentence(tmp_path_factory, head, times):
    file = npz_of(tmp_path_factory.getbasetemp() / "headed.npz", (head * times)[:2000])
    with contextlib.suppress(CraneError), modest(PARSED):
        read_all(file)


@settings(max_examples=MANY)
@given(cuts=st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=6)), min_size=1, max_size=3))
def test_an_npz_with_any_bytes_replaced_is_read_or_is_a_sentence(tmp_path_factory, cuts):
    file = tmp_path_factory.getbasetemp() / "mended.npz"
    np.savez(file, a=np.zeros((2, 3), np.float32), b=np.ones(2, np.float16))
    content = bytearray(file.read_bytes())
    for at, new in cuts:
        content[at : at + len(new)] = new
    file.write_bytes(content)
    with contextlib.suppress(CraneError), modest(2**20):
        read_all(file)


# Folders


def test_what_training_leaves_is_no_weights(tmp_path):
    for name in ("training_args.bin", "optimizer.pt", "pytorch_model.bin", ".hidden.bin"):
        torch.save(model(), tmp_path / name)
    assert [file.name for file in files_in(tmp_path)] == ["pytorch_model.bin"]
    assert Arrays.open(tmp_path).read("plain").dtype == "float32"
    with pytest.raises(Unsupported, match="whole is int64"):
        Arrays.open(tmp_path).read("whole")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert files_in(tmp_path) == []


def test_shards_are_one_model_and_a_missing_one_is_named(tmp_path):
    for i in (1, 2):
        torch.save({f"t{i}": torch.ones(2) * i}, tmp_path / f"pytorch_model-0000{i}-of-00002.bin")
    assert sorted(Arrays.open(tmp_path).shapes) == ["t1", "t2"]
    (tmp_path / "pytorch_model-00001-of-00002.bin").unlink()
    torch.save({"t3": torch.ones(2)}, tmp_path / "pytorch_model-00003-of-00002.bin")
    with pytest.raises(BadCheckpoint, match=r"lacks pytorch_model-00001-of-00002\.bin"):
        Arrays.open(tmp_path)


def test_of_several_files_none_is_guessed(tmp_path):
    for name in ("a.pth", "b.pth"):
        torch.save(model(), tmp_path / name)
    with pytest.raises(BadCheckpoint, match=r"a\.pth, b\.pth"):
        Arrays.open(tmp_path)


def test_a_file_that_changes_under_way_is_noticed(tmp_path):
    torch.save(model(), tmp_path / "m.pth")
    arrays = Arrays.open(tmp_path)
    (tmp_path / "m.pth").write_bytes(b"x")
    with pytest.raises(BadCheckpoint, match="changed while"):
        arrays.read("plain")
