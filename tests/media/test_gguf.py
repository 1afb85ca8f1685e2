"""Our reader of GGUF agrees with the gguf package on good files, to the last bit, and explains every bad one."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from crane_app.errors import BadCheckpoint, CraneError, ModelNotFound, Unsupported
from crane_app.media.files import gguf as ours
from crane_app.media.files.gguf import Gguf, files_of, holds_gguf
from crane_app.media.files.gguf_blocks import FORMS
from crane_app.media.files.gguf_header import AT_ONCE, Texts, read_header
from tests.gguf_checkpoint import PACKED, blocks
from tests.media.memory import modest

U32, F32, TEXT, ARRAY = 4, 6, 8, 9
MANY = 4 * settings.default.max_examples


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def info(name: str, shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    """A tensor; its shape in the file's order, fastest first."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def pack(
    keys: list[bytes] = (),  # type: ignore[assignment]
    tensors: list[bytes] = (),  # type: ignore[assignment]
    data: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """A file; counts: what the header says of tensors and keys instead of the truth."""
    count, pairs = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, count, pairs) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def put(folder: Path, content: bytes, name: str = "model.gguf") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def refused(path: Path, word: str, error: type[CraneError] = BadCheckpoint) -> None:
    with pytest.raises(error) as raised:
        Gguf.open(path)
    sentence = str(raised.value)
    assert word in sentence, sentence
    assert path.name in sentence or path.parent.name in sentence
    assert len(sentence) < 600


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Equal to the last bit; any nan is as good as another."""
    numbers = ~np.isnan(b)
    np.testing.assert_array_equal(np.isnan(a), ~numbers)
    np.testing.assert_array_equal(a[numbers].view(np.uint32), b[numbers].view(np.uint32))


# Numbers


def test_the_sizes_of_all_types_are_known():
    for kind, (block, nbytes) in gguf.GGML_QUANT_SIZES.items():
        if kind not in (Type.Q8_1, Type.Q8_K):  # of sums in memory, never of files
            assert (FORMS[kind].name, FORMS[kind].block, FORMS[kind].nbytes) == (kind.name, block, nbytes)


def test_every_packed_type_that_is_asked_for_is_unpacked():
    assert [kind.name for kind in PACKED] == [form.name for form in sorted(FORMS.values(), key=_order) if form.unpack]


def _order(form: Any) -> int:
    names = [kind.name for kind in PACKED]
    return names.index(form.name) if form.name in names else -1


@pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.name)
def test_any_bits_are_unpacked_as_the_gguf_package_does(kind):
    """Also scales that are infinite, not a number, or minus nought."""
    form = FORMS[kind]
    raw = np.random.default_rng(int(kind)).integers(0, 256, (3000, form.nbytes), np.uint8)
    raw[:4] = [[0x00], [0xFF], [0x80], [0x7F]]
    with np.errstate(all="ignore"):
        same(form.unpack(raw), gguf.dequantize(raw, kind))  # type: ignore[misc]


@pytest.mark.parametrize("kind", [*PACKED, Type.F32, Type.F16, Type.BF16], ids=lambda kind: kind.name)
def test_a_tensor_is_read_from_a_file_as_the_gguf_package_reads_it(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(ours, "PIECE", 1000)  # several pieces, the last one short
    shape = (5, 3, 512)
    plain = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    raw = blocks(kind, shape) if kind in PACKED else gguf.quantize(plain, kind)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("before", np.ones(3, np.float32))
    writer.add_tensor("w", raw, raw_dtype=kind)
    writer.add_tensor("after", np.ones(3, np.float32))
    finish(writer)
    host = Gguf.open(tmp_path / "model.gguf").read("w")
    assert host.shape == shape
    [theirs] = [t for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors if t.name == "w"]
    held = np.asarray(host.array)
    wide = (held.astype(np.uint32) << 16).view(np.float32) if host.dtype == "bfloat16" else held.astype(np.float32)
    same(wide, gguf.dequantize(theirs.data, kind).reshape(shape))


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_rows_are_read_without_the_rest(tmp_path):
    raw = blocks(Type.Q4_K, (6, 512))
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("w", raw, raw_dtype=Type.Q4_K)
    finish(writer)
    out = np.empty((2, 512), np.float32)
    Gguf.open(tmp_path / "model.gguf").read_rows("w", 3, out)
    same(out, gguf.dequantize(raw, Type.Q4_K)[3:5])
    with pytest.raises(ValueError, match="fill"):
        Gguf.open(tmp_path / "model.gguf").read_rows("w", 5, out)


def test_unpacking_takes_little_more_than_what_it_gives(tmp_path):
    """Piece by piece, so that the peak of loading is the weights and one tensor."""
    put(tmp_path, pack([], [info("w", (2**22,), 12)], bytes(2**22 // 256 * 144)))
    model = Gguf.open(tmp_path)
    tracemalloc.start()
    host = model.read("w")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < host.array.nbytes + 16 * 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="the file would not be sparse")
def test_a_file_may_be_larger_than_four_gigabytes(tmp_path):
    start = 5 * 2**30
    head = pack([], [info("a", (start // 4,)), info("b", (2,), offset=start)])
    with put(tmp_path, head).open("r+b") as file:
        file.seek(len(head) + start)
        file.write(np.array([1.5, -2], "<f4").tobytes())
    assert Gguf.open(tmp_path).read("b").array.tolist() == [1.5, -2]


def test_a_type_that_is_not_unpacked_is_named(tmp_path):
    file = put(tmp_path, pack([], [info("w", (256,), 34)], bytes(54)))
    with pytest.raises(Unsupported, match="w is TQ1_0"):
        Gguf.open(file).read("w")


# Metadata


def test_every_type_of_metadata_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    numbers: dict[str, Any] = {
        "uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768, "uint32": 2**32 - 1, "int32": -(2**31),
        "uint64": 2**64 - 1, "int64": -(2**63), "float32": 1e-6, "float64": 1e-300, "bool": True, "string": "größe",
    }  # fmt: skip
    for name, value in numbers.items():
        getattr(writer, f"add_{name}")(name, value)
    writer.add_array("ints", [1, 2, 3])
    writer.add_array("floats", [0.5, 0.25])
    writer.add_array("bools", [True, False])
    writer.add_array("texts", ["a", "", "ü"])
    writer.add_array("nested", [[1, 2], [3]])
    finish(writer)
    read = Gguf.open(tmp_path / "model.gguf").metadata
    assert {name: read[name] for name in numbers} == numbers  # float32 too: as it was written down
    assert {name: type(read[name]) for name in numbers} == {name: type(value) for name, value in numbers.items()}
    assert [list(read[name]) for name in ("ints", "floats", "bools", "texts")] == [
        [1, 2, 3],
        [0.5, 0.25],
        [True, False],
        ["a", "", "ü"],
    ]
    assert [inner.tolist() for inner in read["nested"]] == [[1, 2], [3]]
    assert read["texts"][1:] == ["", "ü"]
    assert read["texts"][-1] == "ü"
    with pytest.raises(IndexError):
        read["texts"][3]


def array_of(tmp_path, texts: list[str]) -> Texts:
    """The texts, read from a file."""
    content = struct.pack("<IQ", TEXT, len(texts)) + b"".join(map(text, texts))
    found = Gguf.open(put(tmp_path, pack([key("a", ARRAY, content)]))).metadata["a"]
    assert isinstance(found, Texts)
    return found


@pytest.mark.parametrize("odd", [None, 0, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 6])
def test_all_texts_are_the_same_as_one_by_one(tmp_path, odd):
    """They are cut apart some thousand at a time, at a sign that a text may have itself."""
    texts = [f"{'ü' * (i % 5)}{i}" for i in range(2 * AT_ONCE + 7)]
    if odd is not None:
        texts[odd] = "\0 a \0"
    found = array_of(tmp_path, texts)
    assert list(found) == texts
    assert [found[i] for i in (0, -1, AT_ONCE)] == [texts[i] for i in (0, -1, AT_ONCE)]


def test_texts_of_two_words_are_pairs(tmp_path):
    texts = [f"{'ü' * (i % 3)} {i}" for i in range(AT_ONCE + 7)]
    pairs = array_of(tmp_path, texts).pairs()
    assert pairs is not None
    assert list(pairs) == list(pairs) == [tuple(each.split(" ")) for each in texts]
    assert (len(pairs), pairs[-1], pairs[:2]) == (len(texts), list(pairs)[-1], list(pairs)[:2])
    assert array_of(tmp_path, []).pairs() is not None


@pytest.mark.parametrize("wrong", [["a"], ["a b c"], ["a b c", "d"], ["d", "a b c"], ["a ", "b", "c d e"], [""]])
@pytest.mark.parametrize("before", [0, 1, AT_ONCE - 1])
def test_texts_of_other_than_two_words_are_no_pairs(tmp_path, wrong, before):
    assert array_of(tmp_path, ["left right"] * before + wrong).pairs() is None


def test_texts_of_any_length_are_read_as_they_lie(tmp_path):
    """Also at the borders of what is looked through at once, past 255 bytes, and with zeros in them."""
    random = np.random.default_rng(0)
    short = [bytes(random.integers(33, 127, size, np.uint8)) for size in random.integers(0, 20, 9000)]
    long = [b"x" * size for size in (255, 256, 257, 70_000, 0)]
    for texts in (short, short[:100] + long + short, [b"\0" * 9, *short, b"\0"], [b""] * 3000, ["ü".encode(), b"\xc3"]):
        value = struct.pack("<IQ", TEXT, len(texts)) + b"".join(map(text, texts))
        found = Gguf.open(put(tmp_path, pack([key("a", ARRAY, value)]))).metadata["a"]
        wanted = [each.decode("utf-8", "replace") for each in texts]
        assert list(found) == wanted
        assert [found[i] for i in range(0, len(found), 97)] == wanted[::97]


def test_a_model_that_somebody_holds_is_not_read_again(tmp_path):
    file = put(tmp_path, pack([], [info("w")], bytes(32)))
    held = Gguf.open(file)
    assert Gguf.open(file) is held
    put(tmp_path, pack([], [info("v")], bytes(32)))
    os.utime(file, ns=(1, 1))
    assert list(Gguf.open(file).tensors) == ["v"]


def test_version_2_is_the_same(tmp_path):
    content = pack([key("a", U32, b"\7\0\0\0")], [info("w", (2,))], np.array([1.5, -2], "<f4").tobytes(), version=2)
    model = Gguf.open(put(tmp_path, content))
    assert model.metadata == {"a": 7}
    assert model.read("w").array.tolist() == [1.5, -2]


def test_an_alignment_of_its_own(tmp_path):
    keys = [key("general.alignment", U32, struct.pack("<I", 128))]
    tensors = [info("a", (1,)), info("b", (1,), offset=128)]
    data = struct.pack("<f124xf", 3, 4)
    model = Gguf.open(put(tmp_path, pack(keys, tensors, data, alignment=128)))
    assert [model.read(name).array.item() for name in "ab"] == [3, 4]


def test_a_number_alone_is_a_tensor(tmp_path):
    model = Gguf.open(put(tmp_path, pack([], [info("w", ())], struct.pack("<f", 5))))
    assert model.read("w").array == np.float32(5)


# Files


def split(folder: Path) -> list[Path]:
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama", split_max_tensors=2)
    for i in range(5):
        writer.add_tensor(f"t{i}", np.full(4, i, np.float32))
    finish(writer)
    return sorted(folder.glob("*.gguf"))


def test_a_split_model_is_read_from_any_of_its_files_and_from_its_folder(tmp_path):
    files = split(tmp_path)
    assert [file.name for file in files] == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for path in (*files, tmp_path):
        model = Gguf.open(path)
        assert model.metadata["general.architecture"] == "llama"
        assert [int(model.read(f"t{i}").array[0]) for i in range(5)] == [0, 1, 2, 3, 4]


def test_a_missing_file_of_a_split_model_is_named(tmp_path):
    files = split(tmp_path)
    files[1].unlink()
    refused(files[0], files[1].name)
    refused(tmp_path, files[1].name)


def test_a_tensor_in_two_files_is_refused(tmp_path):
    files = split(tmp_path)
    files[2].write_bytes(files[1].read_bytes())
    refused(files[0], "also in")


def test_a_file_that_says_it_is_one_of_more_is_refused(tmp_path):
    file = split(tmp_path)[0].rename(tmp_path / "alone.gguf")
    refused(file, "is one of 3")


@pytest.mark.parametrize("name", ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-00001-of-99999.gguf"])
def test_a_name_that_counts_wrongly(tmp_path, name):
    refused(put(tmp_path, pack(), name), "its name says")


def test_of_several_models_in_a_folder_none_is_guessed(tmp_path):
    put(tmp_path, pack(), "a.gguf")
    put(tmp_path, pack(), "b.gguf")
    refused(tmp_path, "a.gguf, b.gguf")


def test_the_part_that_sees_pictures_is_not_the_model_of_a_folder(tmp_path):
    put(tmp_path, pack(), "mmproj-model-f16.gguf")
    assert not holds_gguf(tmp_path)
    model = put(tmp_path, pack(), "model-q4.gguf")
    assert files_of(tmp_path) == [model]


def test_a_file_is_known_by_its_name_or_by_its_first_bytes(tmp_path):
    assert holds_gguf(put(tmp_path, b"", "a.gguf"))
    assert holds_gguf(put(tmp_path, pack(), "blob"))
    assert not holds_gguf(put(tmp_path, b"{}", "config.json"))
    assert not holds_gguf(tmp_path / "absent.gguf")
    put(tmp_path, b"", "model.safetensors")
    assert not holds_gguf(tmp_path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ModelNotFound, match=r"absent\.gguf"):
        Gguf.open(tmp_path / "absent.gguf")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "no GGUF")


def test_a_file_that_changes_under_way_is_noticed(tmp_path):
    file = put(tmp_path, pack([], [info("w")], bytes(32)))
    model = Gguf.open(file)
    file.write_bytes(pack([], [info("w")], bytes(31)))
    with pytest.raises(BadCheckpoint, match="changed while"):
        model.read("w")


@pytest.mark.parametrize(
    ("content", "word", "error"),
    [
        (b"lmgg" + bytes(60), "old format ggml. Convert it to GGUF with convert_llama_ggml_to_gguf.py", Unsupported),
        (b"tjgg\3\0\0\0" + bytes(60), "old format ggjt", Unsupported),
        (b"algg\1\0\0\0" + bytes(60), "old format ggla. Convert it to GGUF with convert_lora_to_gguf.py", Unsupported),
        (pack(version=1), "version 1", Unsupported),
        (b"GGUF\0\0\0\3" + bytes(60), "big-endian", Unsupported),
        (pack(version=4), "version 4", Unsupported),
        (pack(version=0), "version 0", Unsupported),
        (b"", "empty", BadCheckpoint),
        (b"PK\3\4" + bytes(60), "not a GGUF file", BadCheckpoint),
        (pack(counts=(2**63, 0)), "9223372036854775808 tensors", BadCheckpoint),
        (pack(counts=(0, 2**63)), "9223372036854775808 keys", BadCheckpoint),
        (pack(counts=(0, 2**64 - 1)), "keys", BadCheckpoint),
        (pack([struct.pack("<Q", 2**63) + b"a"], counts=(0, 1)), "truncated", BadCheckpoint),
        (pack([key("a", TEXT, struct.pack("<Q", 2**63))]), "truncated", BadCheckpoint),
        (pack([key("a", ARRAY, struct.pack("<IQ", U32, 2**62))]), "numbers", BadCheckpoint),
        (pack([key("a", ARRAY, struct.pack("<IQ", TEXT, 2**61))]), "texts", BadCheckpoint),
        (pack([key("a", ARRAY, struct.pack("<IQ", ARRAY, 2**60))]), "arrays", BadCheckpoint),
        (pack([key("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 9)]), "too deep", BadCheckpoint),
        (pack([key("a", 13, b"")]), "type 13", BadCheckpoint),
        (pack([key("a", ARRAY, struct.pack("<IQ", 99, 0)), key("b", 99, b"")]), "type 99", BadCheckpoint),
        (pack([key("a", U32, bytes(4))] * 2), "key a twice", BadCheckpoint),
        (pack([text(b"\xff\xfe") + struct.pack("<II", U32, 0)]), "not UTF-8", BadCheckpoint),
        (pack([key("general.alignment", U32, bytes(4))]), "power of two, not 0", BadCheckpoint),
        (pack([key("general.alignment", U32, struct.pack("<I", 33))]), "not 33", BadCheckpoint),
        (pack([key("general.alignment", U32, struct.pack("<I", 1 << 31))]), "not 2147483648", BadCheckpoint),
        (pack([key("general.alignment", TEXT, text("32"))]), "power of two", BadCheckpoint),
        (pack([], [info("w")], bytes(31)), "truncated", BadCheckpoint),
        (pack([], [info("w", (8,), offset=64)], bytes(64)), "truncated", BadCheckpoint),
        (pack([], [info("w", (8,), offset=2**64 - 32)], bytes(64)), "truncated", BadCheckpoint),
        (pack([], [info("w", (8,), offset=8)], bytes(64)), "multiple of 32", BadCheckpoint),
        (pack([], [info("w"), info("w", offset=32)], bytes(64)), "tensor w twice", BadCheckpoint),
        (pack([], [info("v"), info("w")], bytes(64)), "w overlaps tensor v", BadCheckpoint),
        (pack([], [info("v", (16,)), info("w", offset=32)], bytes(64)), "overlaps", BadCheckpoint),
        (pack([], [info("w", (2**40, 2**40))], bytes(64)), "truncated", BadCheckpoint),
        (pack([], [info("w", (2**63, 2))], bytes(64)), "shape", BadCheckpoint),
        (pack([], [info("w", (0,))], bytes(64)), "shape", BadCheckpoint),
        (pack([], [info("w", (33,), 2)], bytes(64)), "Q4_0 cannot have", BadCheckpoint),
        (pack([], [info("w", (), 2)], bytes(64)), "Q4_0 cannot have", BadCheckpoint),
        (pack([], [info("w", (1, 1, 1, 1, 8))], bytes(64)), "5 dimensions", BadCheckpoint),
        (pack([], [text("w") + struct.pack("<I", 2**32 - 1)], bytes(64)), "4294967295 dimensions", BadCheckpoint),
        (pack([], [info("w", (8,), 4)], bytes(64)), "type 4, which", Unsupported),
        (pack([], [info("w\n\x1b[31m" * 99, offset=8)], bytes(64)), "multiple", BadCheckpoint),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, content, word, error):
    refused(put(tmp_path, content), word, error)


def test_a_hostile_header_takes_no_memory(tmp_path):
    """Counts that fit into the file are believed no further than what the file holds."""
    hostile = [
        pack([key("a", ARRAY, struct.pack("<IQ", TEXT, 100_000) + bytes(800_000))]),
        pack([key("a", ARRAY, struct.pack("<IQ", TEXT, 100_000) + text("ab") * 80_000)]),
        pack([key("a", ARRAY, struct.pack("<IQ", U32, 200_000) + bytes(800_000))]),
        pack([key("a", TEXT, text(b"\xff" * 800_000))]),
    ]
    for content in hostile:
        file = put(tmp_path, content)
        tracemalloc.start()
        with contextlib.suppress(BadCheckpoint):
            Gguf.open(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5 * len(content), len(content)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Every kind of thing that a header has, in few bytes."""
    file = tmp_path_factory.mktemp("small") / "model.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_array("texts", ["a", "bc"])
    writer.add_array("nested", [[1], [2, 3]])
    writer.add_array("floats", [0.5])
    writer.add_bool("flag", True)
    writer.add_float32("eps", 1e-5)
    writer.add_tensor("w", np.arange(8, dtype=np.float32))
    writer.add_tensor("q", blocks(Type.Q8_0, (1, 32)), raw_dtype=Type.Q8_0)
    finish(writer)
    return file.read_bytes()


def attempt(file: Path) -> None:
    """All of it is read, or a sentence says why not."""
    try:
        with modest(2**20 + 20 * file.stat().st_size):
            model = Gguf.open(file)
            for name in model.tensors:
                model.read(name)
    except CraneError as error:
        assert 10 < len(str(error).replace(str(file), "")) < 600  # noqa: PT017


def test_a_file_cut_off_anywhere_is_a_sentence(tmp_path, small):
    file = tmp_path / "model.gguf"
    for length in range(len(small) - 1, -1, -1):
        file.write_bytes(small[:length])
        data = len(small) - 34 - 30  # the last tensor may lack nothing but padding
        if length < data:
            with pytest.raises(BadCheckpoint):
                Gguf.open(file)
        attempt(file)


def test_every_bit_of_a_small_file_may_be_wrong(tmp_path, small):
    file = tmp_path / "model.gguf"
    for at in range(len(small)):
        for flip in (0x01, 0x80, 0xFF):
            file.write_bytes(small[:at] + bytes([small[at] ^ flip]) + small[at + 1 :])
            attempt(file)


LARGE = [2**24, 2**28, 2**31, 2**32 - 1, 2**40, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
SIZES = st.one_of(st.integers(0, 300), st.sampled_from(LARGE))


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Files that are almost right: real structure with lengths, kinds and counts of any size."""

    def piece() -> bytes:
        raw = draw(st.binary(max_size=12))
        return struct.pack("<Q", draw(st.one_of(st.just(len(raw)), SIZES))) + raw

    def value(depth: int = 0) -> bytes:
        kind = draw(st.integers(0, 13))
        if kind == TEXT:
            return struct.pack("<I", kind) + piece()
        if kind != ARRAY or depth > 5:
            return struct.pack("<I", kind) + draw(st.binary(max_size=8))
        inner = b"".join(value(depth + 1) for _ in range(draw(st.integers(0, 2))))
        return struct.pack("<I", kind) + inner[:4] + struct.pack("<Q", draw(SIZES)) + inner[4:]

    keys = [piece() + value() for _ in range(draw(st.integers(0, 4)))]
    keys += [key("general.alignment", U32, struct.pack("<I", draw(SIZES) % 2**32))] if draw(st.booleans()) else []
    tensors = []
    for _ in range(draw(st.integers(0, 4))):
        shape = draw(st.lists(SIZES, max_size=5))
        rank = draw(st.one_of(st.just(len(shape)), SIZES)) % 2**32
        kind, offset = draw(st.integers(0, 42)), draw(SIZES)
        tensors.append(piece() + struct.pack(f"<I{len(shape)}QIQ", rank, *shape, kind, offset))
    counts = draw(st.one_of(st.none(), st.tuples(SIZES, SIZES)))
    return pack(keys, tensors, bytes(draw(st.integers(0, 400))), draw(st.sampled_from([3, 3, 3, 2, 1])), counts)


@pytest.mark.slow
@settings(max_examples=MANY)
@given(content=headers())
def test_any_header_is_read_or_is_a_sentence(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    file.write_bytes(content)
    attempt(file)


@pytest.mark.slow
@settings(max_examples=MANY)
@given(cuts=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=9)), min_size=1, max_size=4))
def test_a_file_with_any_bytes_replaced_is_read_or_is_a_sentence(tmp_path_factory, small, cuts):
    content = bytearray(small)
    for at, new in cuts:
        content[at : at + len(new)] = new
    file = tmp_path_factory.getbasetemp() / "mended.gguf"
    file.write_bytes(content)
    attempt(file)


def test_a_header_never_reads_past_its_file(tmp_path):
    header = read_header(put(tmp_path, pack([], [info("w")], bytes(32))))
    assert header.tensors["w"].start + header.tensors["w"].size == header.stamp[1]
