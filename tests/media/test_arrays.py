"""PyTorch's and numpy's files are read as their own libraries read them, and nothing in them is ever run."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane_app.errors import BadCheckpoint, CraneError, Unsupported
from crane_app.media.files.arrays import Arrays, files_in
from crane_app.media.files.bare_pickles import is_bare, open_bare
from crane_app.media.files.npz import open_npz
from crane_app.media.files.pickles import open_archive

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


def attempt(file: Path) -> None:
    with contextlib.suppress(CraneError):
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


@settings(max_examples=MANY)
@given(cuts=st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=6)), min_size=1, max_size=3))
def test_an_npz_with_any_bytes_replaced_is_read_or_is_a_sentence(tmp_path_factory, cuts):
    file = tmp_path_factory.getbasetemp() / "mended.npz"
    np.savez(file, a=np.zeros((2, 3), np.float32), b=np.ones(2, np.float16))
    content = bytearray(file.read_bytes())
    for at, new in cuts:
        content[at : at + len(new)] = new
    file.write_bytes(content)
    with contextlib.suppress(CraneError):
        for member in open_npz(file).values():
            member.read()


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
