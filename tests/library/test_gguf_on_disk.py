"""GGUF files on disk are models, each told from its metadata, and no file stops the others from being found."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane_app.errors import BadCheckpoint
from crane_app.library import fit, gguf_facts, hub_cache
from crane_app.library.models import below, examine, found, import_folder, kept_in, needed_memory
from crane_app.library.weighing import Terms
from crane_app.models.gguf import FAMILIES

MANY = 4 * settings.default.max_examples


def write(path: Path, architecture: str = "qwen3") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_token_list(["a", "b" * 5000])
    writer.add_block_count(28)
    writer.add_head_count(16)
    writer.add_head_count_kv(8)
    writer.add_key_length(128)
    writer.add_embedding_length(1024)
    writer.add_context_length(40960)
    writer.add_file_type(15)
    writer.add_license("apache-2.0")
    writer.add_tensor("token_embd.weight", np.zeros((100, 144), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_tells_its_job_size_context_type_and_memory(tmp_path):
    file = write(tmp_path / "Qwen3-0.6B-Q4_K_M.gguf")
    entry = examine(file)
    assert (entry.name, entry.job, entry.architecture) == ("Qwen3-0.6B-Q4_K_M", "chat", "Qwen3ForCausalLM")
    assert (entry.nbytes, entry.context, entry.dtype, entry.problem) == (file.stat().st_size, 40960, "Q4_K_M", "")
    assert entry.licence == "apache-2.0"
    assert entry.cache == 28 * 2 * 8 * 128 * 2 * 8192
    for quick, weights in ((True, 100 * 144), (False, 100 * 2 * 256)):  # a block has 256 numbers in 144 bytes
        terms = Terms("bfloat16", lambda scheme, use, quick=quick: quick)
        assert needed_memory(entry, 10**12, terms).needed == weights + entry.cache + fit.RUNTIME


def test_every_file_of_a_folder_is_a_model_and_folders_below_are_searched(tmp_path):
    write(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf", "llama")
    write(tmp_path / "deeper" / "c.gguf", "qwen2")
    write(tmp_path / "mmproj-b.gguf", "clip")
    assert [(e.name, e.architecture) for e in below(tmp_path)] == [
        ("a", "Qwen3ForCausalLM"),
        ("b", "LlamaForCausalLM"),
        ("c", "Qwen2ForCausalLM"),
    ]
    assert examine(tmp_path).problem.startswith("It holds 2 models. Name the file that is meant: a.gguf")
    assert examine(tmp_path / "deeper").architecture == "Qwen2ForCausalLM"
    assert import_folder(tmp_path / "a.gguf") == tmp_path


def test_a_split_model_is_one_and_names_what_it_lacks(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path / f"big-0000{number}-of-00003.gguf")
    [entry] = below(tmp_path)
    assert (entry.name, entry.problem) == ("big", "")
    assert entry.nbytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    (tmp_path / "big-00002-of-00003.gguf").unlink()
    [entry] = below(tmp_path)
    assert entry.problem == "It is not complete: big-00002-of-00003.gguf is missing."


def test_beside_safetensors_it_is_not_listed(tmp_path):
    write(tmp_path / "model.gguf")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    assert [entry.architecture for entry in below(tmp_path)] == ["Qwen2ForCausalLM"]


def test_what_crane_cannot_run_says_so(tmp_path):
    assert examine(write(tmp_path / "a.gguf", "gemma3")).problem == "Crane has no use for gemma3 yet."
    assert "sees pictures" in examine(write(tmp_path / "b.gguf", "clip")).problem
    assert {name: published for name, (published, _) in FAMILIES.items()} == gguf_facts.OURS


def test_files_in_the_cache_are_models_with_their_id(tmp_path):
    kept = hub_cache.folder_of(tmp_path, "someone/Qwen3-GGUF")
    shot = kept / "snapshots" / ("a" * 40)
    blob = write(kept / "blobs" / ("b" * 64))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a" * 40)
    shot.mkdir(parents=True)
    (shot / "q4.gguf").symlink_to(blob)
    [one] = found([], tmp_path)
    assert (one.name, one.repo, one.folder, kept_in(one)) == ("someone/Qwen3-GGUF", "someone/Qwen3-GGUF", shot, kept)
    (shot / "q8.gguf").symlink_to(write(kept / "blobs" / ("c" * 64)))
    both = list(found([], tmp_path))
    assert [entry.name for entry in both] == ["someone/Qwen3-GGUF/q4.gguf", "someone/Qwen3-GGUF/q8.gguf"]
    assert kept_in(both[0]) == blob  # the other stays
    blob.unlink()
    assert [entry.folder for entry in found([], tmp_path)] == [shot]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\3\0\0\0", b"tjgg" + bytes(60), b"\0" * 99])
def test_rubbish_is_a_sentence(tmp_path, content):
    file = tmp_path / "a.gguf"
    file.write_bytes(content)
    entry = examine(file)
    assert "a.gguf" in entry.problem
    assert entry.nbytes == len(content)


def test_a_file_cut_off_anywhere_is_a_sentence(tmp_path):
    whole = write(tmp_path / "a.gguf").read_bytes()
    head = whole.index(b"token_embd.weight") + 50
    for length in [*range(0, 200), *range(5000, head, 7)]:
        (tmp_path / "a.gguf").write_bytes(whole[: min(length, head - 30)])
        assert examine(tmp_path / "a.gguf").problem


@settings(max_examples=MANY)
@given(
    kind=st.integers(0, 13),
    inner=st.integers(0, 13),
    count=st.sampled_from([0, 1, 2, 2**16, 2**32, 2**61, 2**63, 2**64 - 1]),
    rest=st.binary(max_size=40),
    counts=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_any_head_is_read_or_is_a_sentence(tmp_path_factory, kind, inner, count, rest, counts):
    file = tmp_path_factory.getbasetemp() / "any.gguf"
    name = b"general.architecture"
    pair = struct.pack("<Q", len(name)) + name + struct.pack("<I", kind)
    value = struct.pack("<IQ", inner, count) if kind == 9 else struct.pack("<Q", count)
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + pair + value + rest)
    try:
        gguf_facts.head(file)
    except BadCheckpoint as error:
        assert str(error)  # noqa: PT017
