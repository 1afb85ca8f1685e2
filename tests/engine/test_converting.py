"""A model written anew is read by mlx-lm or by the gguf package, loads again in ours, and never lies half written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from crane_app.engine import generation
from crane_app.engine.converting import convert
from crane_app.engine.loading import load
from crane_app.errors import BadInput, CraneError, Unsupported
from crane_app.host import QUANTS
from crane_app.library import parts
from crane_app.media.chat_template import ChatTemplate
from crane_app.media.files import writing
from crane_app.media.tokenizer import Tokenizer
from tests.chat_checkpoint import library, write_chat
from tests.engine.test_loading_gguf import CASES, TOKENS, wide
from tests.engine.test_loading_grouped import ROUTER, write_grouped
from tests.engine.test_packing import folder_and_twin
from tests.gguf_checkpoint import write_gguf
from tests.models.scramble import golden, write_checkpoint

FAMILIES = ["qwen2", "qwen3", "llama", "hunyuan", "qwen3_moe"]


def run(source: Path, target: Path, quantize: str | None = None) -> Path:
    for _ in convert(source, target, quantize):
        pass
    return target


def scores(path: Path, backend: str = "torch", *packed: str) -> np.ndarray:
    return generation.score(load(path, backend, "cpu", "float32", *packed), TOKENS)


def theirs(model) -> np.ndarray:
    """The logits of a model of mlx-lm, in float32."""
    import mlx.core as mx

    model.set_dtype(mx.float32)
    return np.array(model(mx.array([TOKENS])))[0]


# A folder


@pytest.mark.parametrize("quantize", QUANTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_packed_folder_has_the_logits_of_packing_while_loading(tmp_path, backend_name, name, quantize):
    folder, _ = folder_and_twin(tmp_path, name, "q4")
    target = run(folder, tmp_path / "out", quantize)
    assert load(target, backend_name, "cpu", "float32").packed in (
        "",
        quantize,
    )  # torch unpacks what it has no kernel for
    # MLX packs in groups, as the folder has them; PyTorch may pack in blocks, but reads the folder as it is.
    want = scores(folder, "mlx", quantize)
    np.testing.assert_allclose(scores(target, backend_name), want, rtol=0, atol=3e-4)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama", "qwen3_moe"])
def test_mlx_lm_gives_the_logits_of_a_folder_that_we_packed(tmp_path, name):
    pytest.importorskip("mlx_lm")
    from mlx_lm.utils import load_model

    folder, _ = folder_and_twin(tmp_path, name, "q4")
    target = run(folder, tmp_path / "out", "q4")
    model, _ = load_model(target)
    np.testing.assert_allclose(scores(target, "mlx"), theirs(model), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama", "qwen3_moe"])
def test_a_folder_that_mlx_lm_packed_has_its_logits(tmp_path, backend_name, name):
    pytest.importorskip("mlx_lm")
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    folder, _ = folder_and_twin(tmp_path, name, "q4")
    config = json.loads((folder / "config.json").read_text())
    config.setdefault("rope_theta", config.get("rope_parameters", {}).get("rope_theta"))  # as mlx-lm's version asks
    (folder / "config.json").write_text(json.dumps(config))
    model, config = load_model(folder)
    model, config = quantize_model(model, config, 64, 5)
    (tmp_path / "out").mkdir()
    save_model(tmp_path / "out", model)
    save_config(config, tmp_path / "out" / "config.json")
    model, _ = load_model(tmp_path / "out")
    np.testing.assert_allclose(scores(tmp_path / "out", backend_name), theirs(model), rtol=0, atol=1e-3)


def test_the_words_go_along(tmp_path):
    folder = write_chat(tmp_path / "chat")
    (folder / "LICENSE").write_text("Apache License")
    (folder / "run.py").write_text("print('no code goes along')")
    target = run(folder, tmp_path / "out", "q8")
    names = {"LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert {file.name for file in target.iterdir()} == names | {"tokenizer_config.json"}
    ours, theirs = Tokenizer.open(target), Tokenizer.open(folder)
    assert ours.encode("the ring") == theirs.encode("the ring")
    assert load(target, "torch", "cpu", "float32").eos == load(folder, "torch", "cpu", "float32").eos


def test_a_folder_may_be_packed_again_in_fewer_bits(tmp_path):
    twin = write_grouped(tmp_path / "eight", "qwen3_moe", **ROUTER)
    assert twin
    target = run(tmp_path / "eight", tmp_path / "out", "q8")
    config = json.loads((target / "config.json").read_text())
    assert config["quantization"]["bits"] == 8
    np.testing.assert_allclose(scores(target), scores(tmp_path / "eight"), rtol=0, atol=0.2)


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K"])
def test_a_gguf_file_becomes_a_folder_with_the_same_numbers(tmp_path, kind):
    config, shapes = wide("qwen3")
    write_gguf(tmp_path / "a.gguf", config, shapes, gguf.GGMLQuantizationType[kind])
    target = run(tmp_path / "a.gguf", tmp_path / "out")
    np.testing.assert_array_equal(scores(target), scores(tmp_path / "a.gguf"))


def test_a_gguf_file_that_no_groups_hold_is_a_sentence(tmp_path):
    config, shapes = wide("qwen3")
    write_gguf(tmp_path / "a.gguf", config, shapes, gguf.GGMLQuantizationType.Q6_K)
    with pytest.raises(BadInput, match="Say --quantize to pack anew"):
        run(tmp_path / "a.gguf", tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.gguf"]


# A file


@pytest.mark.parametrize("quantize", [None, *QUANTS])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_gguf_file_of_ours_loads_again(tmp_path, name, quantize):
    folder, _ = folder_and_twin(tmp_path, name, "q4")
    target = run(folder, tmp_path / "out.gguf", quantize)
    limit = {None: 1e-3, "q4": 0.5, "q5": 0.25, "q6": 0.15, "q8": 0.05}[quantize]
    limit *= 2 if name == "qwen3_moe" else 1  # random routing sends a token elsewhere at the least change
    ours, theirs = scores(target), scores(folder)
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < limit * np.std(theirs)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gguf_package_reads_the_numbers_of_our_file(tmp_path, name):
    """By its own names; rows of q and k turned where the converter of llama.cpp turns them."""
    folder, _ = folder_and_twin(tmp_path, name, "q4")
    ours = gguf.GGUFReader(run(folder, tmp_path / "out.gguf", "q8"))
    config, shapes = wide(name)
    write_gguf(tmp_path / "theirs.gguf", config, shapes)  # by the gguf package and the converter's rules
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "theirs.gguf").tensors}
    assert {tensor.name for tensor in ours.tensors} == set(theirs)
    for tensor in ours.tensors:
        x = gguf.dequantize(tensor.data, tensor.tensor_type)
        want = gguf.dequantize(theirs[tensor.name].data, theirs[tensor.name].tensor_type)
        assert x.shape == want.shape
        assert np.abs(x - want).max() <= 0.012 * np.abs(want).max(), tensor.name


@pytest.mark.parametrize("name", [name for name in CASES if "sliding" not in name])
def test_what_our_file_says_is_what_the_converter_says(tmp_path, name):
    case = golden(name)
    folder = write_checkpoint(tmp_path / "folder", case.config, case.shapes)
    try:
        ours = gguf.GGUFReader(run(folder, tmp_path / "out.gguf"))
    except Unsupported as error:
        pytest.fail(str(error)) if "sliding window" not in str(error) else None
        return
    write_gguf(tmp_path / "theirs.gguf", case.config, case.shapes)
    theirs = gguf.GGUFReader(tmp_path / "theirs.gguf")
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            got = ours.fields[key].contents()
            assert got == pytest.approx(field.contents()) if isinstance(got, float) else got == field.contents(), key


def test_one_file_chats(tmp_path):
    folder = write_chat(tmp_path / "folder")
    target = run(folder, tmp_path / "out.gguf", "q8")
    ours, theirs = Tokenizer.open(target), Tokenizer.open(folder)
    for text in ("the ring", "Naïve café\n\n 12345 it's", "<think>hm</think><|im_end|>"):
        assert ours.encode(text, True) == theirs.encode(text, True)
    talk = [{"role": "user", "content": "Say the name."}]
    assert ChatTemplate.open(target).text(talk) == ChatTemplate.open(folder).text(talk)
    assert load(target, "torch", "cpu", "float32").eos == load(folder, "torch", "cpu", "float32").eos
    again = run(target, tmp_path / "again.gguf", "q4")
    assert Tokenizer.open(again).encode("the ring") == theirs.encode("the ring")
    back = run(target, tmp_path / "back")
    assert Tokenizer.open(back).encode("the ring") == theirs.encode("the ring")
    assert ChatTemplate.open(back).text(talk) == ChatTemplate.open(folder).text(talk)


def test_a_tokenizer_that_gguf_has_no_name_for_is_a_sentence(tmp_path):
    from tokenizers import pre_tokenizers

    folder = write_chat(tmp_path / "folder")
    words = library()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    with pytest.raises(Unsupported, match="Name a folder"):
        run(folder, tmp_path / "out.gguf", "q8")
    assert not (tmp_path / "out.gguf").exists()


# Whole or not at all


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "from here").mkdir()
    return golden("qwen3").write(tmp_path / "from here" / "Modell 🦢 ä", "bfloat16")


@pytest.mark.parametrize("name", ["out", "out.gguf", "ein Name 🦩 mit Leerzeichen", "日本.gguf"])
def test_names_may_be_any(source, tmp_path, name):
    target = run(source, tmp_path / name, "q4")
    assert len(scores(target)) == len(TOKENS)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["from here", name])


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_what_is_there_stays(source, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadInput, match="is there already"):
        run(source, tmp_path / name, "q4")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_what_appears_meanwhile_stays_too(source, tmp_path, name):
    steps = convert(source, tmp_path / name, "q4")
    next(steps)
    (tmp_path / name).mkdir() if name == "out" else (tmp_path / name).write_text("mine")
    with pytest.raises(CraneError, match="cannot be written"):
        list(steps)
    there = {each.name for each in tmp_path.iterdir()}
    assert there == {"from here", name}


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_a_disk_without_room_is_told_before_anything_is_written(source, tmp_path, monkeypatch, name):
    monkeypatch.setattr(parts, "free_disk", lambda folder: 1000)
    with pytest.raises(CraneError, match="Make room first"):
        run(source, tmp_path / name, "q4")
    assert [each.name for each in tmp_path.iterdir()] == ["from here"]


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_a_disk_that_fills_up_leaves_nothing(source, tmp_path, monkeypatch, name):
    put, count = writing._put, iter(range(100))

    def full(*args):
        if next(count) == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(*args)

    monkeypatch.setattr(writing, "_put", full)
    with pytest.raises(CraneError, match="is full"):
        run(source, tmp_path / name, "q4")
    assert [each.name for each in tmp_path.iterdir()] == ["from here"]


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_giving_up_leaves_nothing(source, tmp_path, name):
    steps = convert(source, tmp_path / name, "q4")
    next(steps)
    next(steps)
    assert len(list(tmp_path.iterdir())) == 2
    steps.close()
    assert [each.name for each in tmp_path.iterdir()] == ["from here"]


def test_what_a_killed_one_left_is_cleared_by_the_next(source, tmp_path):
    (tmp_path / f"{parts.PREFIX}old").mkdir()
    (tmp_path / f"{parts.PREFIX}old" / "part").write_text("half")
    (tmp_path / f"{parts.PREFIX}new").mkdir()
    past = time.time() - 2 * parts.ABANDONED
    for path in (tmp_path / f"{parts.PREFIX}old" / "part", tmp_path / f"{parts.PREFIX}old"):
        os.utime(path, (past, past))
    run(source, tmp_path / "out", "q4")
    assert {each.name for each in tmp_path.iterdir()} == {"from here", "out", f"{parts.PREFIX}new"}


def test_a_damaged_source_leaves_nothing(tmp_path):
    case = golden("qwen3")
    folder = replace(case).write(tmp_path / "folder", "float32")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-4 * 2000 :] = np.full(2000, np.nan, np.float32).tobytes()
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(CraneError, match="not finite"):
        run(folder, tmp_path / "out.gguf", "q4")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_leaves_nothing(source, tmp_path):
    slow = (
        "import sys, time; from crane_app.media.files import writing; put = writing._put\n"
        "def late(*args): put(*args); print('one', flush=True); time.sleep(0.2)\n"
        "writing._put = late\n"
        "from crane_app.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", slow, "convert", source, tmp_path / "out.gguf", "--quantize", "q4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout.readline() == b"one\n"
    child.send_signal(signal.SIGINT)
    assert b"Stopped." in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert [each.name for each in tmp_path.iterdir()] == ["from here"]
