"""A GGUF file is a whole model: the same logits, tokens and manners as the folder that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from crane_app.engine import generation
from crane_app.engine.engine import Engine
from crane_app.engine.loading import load
from crane_app.engine.request import Asked, Request
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.media.files.gguf_groups import NEAREST
from crane_app.models import registry
from crane_app.models.weights import names
from tests.chat_checkpoint import CHATML, library, write_chat
from tests.engine.nulls import events
from tests.gguf_checkpoint import PACKED, write_gguf
from tests.media.test_gguf_words import said_of
from tests.models.scramble import golden, golden_names, write_checkpoint, write_safetensors

TOKENS = [1, 5, 77, 140, 3]
ASKED = ({"role": "user", "content": "Say the name of the ring."},)
# What GGUF cannot say: dense layers in a mixture, and weights of experts that do not sum to one.
CASES = [name for name in golden_names() if name != "qwen3_moe_sparse"]
SCALED = ("hunyuan", "hunyuan_v4", "llama")  # their frequencies are kept as float32
BLOCKS = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 64, "layer_types": None}
BLOCKS |= {"num_attention_heads": 4, "num_key_value_heads": 2}


def scores(path: Path, backend: str) -> np.ndarray:
    return generation.score(load(path, backend, "cpu", "float32"), TOKENS)


@pytest.mark.parametrize("name", CASES)
def test_every_family_gives_the_logits_of_its_safetensors(tmp_path, backend_name, name):
    case = golden(name)
    write_gguf(tmp_path / "model.gguf", case.config, case.shapes)
    folder = write_checkpoint(tmp_path / "folder", case.config, case.shapes)
    theirs, ours = (
        load(folder, backend_name, "cpu", "float32"),
        load(tmp_path / "model.gguf", backend_name, "cpu", "float32"),
    )
    facts = ["architecture", "vocabulary", "context", "nbytes", "notes"]
    assert [getattr(ours, fact) for fact in facts] == [getattr(theirs, fact) for fact in facts]
    close = 1e-4 if name in SCALED else 0
    np.testing.assert_allclose(generation.score(ours, TOKENS), generation.score(theirs, TOKENS), rtol=0, atol=close)


def wide(name: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """A tiny model whose rows are whole blocks of 256."""
    config = {**golden(name).config, **BLOCKS}
    config |= {"moe_intermediate_size": 256} if "moe" in name else {}
    module = registry.find(config)
    return config, names(module.parameters(module.read(config)))


@pytest.mark.parametrize("kind", [*PACKED, Type.F16, Type.BF16], ids=lambda kind: kind.name)
def test_packed_numbers_give_the_logits_of_their_unpacked_twin(tmp_path, backend_name, kind):
    config, shapes = wide("qwen3")
    twin = write_gguf(tmp_path / "model.gguf", config, shapes, kind)
    write_checkpoint(tmp_path / "twin", config, {})
    write_safetensors(tmp_path / "twin" / "model.safetensors", twin)
    ours = load(tmp_path / "model.gguf", backend_name, "cpu", "float32")
    got, theirs = generation.score(ours, TOKENS), scores(tmp_path / "twin", backend_name)
    anew = [note for note in ours.notes if "packed anew" in note]
    if backend_name == "mlx" and kind.name in NEAREST:
        assert kind.name in anew[0]
        assert np.sqrt(np.mean((got - theirs) ** 2)) < 0.15 * np.std(theirs)
    elif backend_name == "mlx":
        assert not anew
        np.testing.assert_allclose(got, theirs, rtol=0, atol=1e-4)
    else:
        np.testing.assert_array_equal(got, theirs)


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "qwen2"])
def test_packed_rows_are_turned_back_and_packed_experts_found(tmp_path, backend_name, name):
    """A packed row keeps its numbers together, so rows may be moved."""
    config, shapes = wide(name)
    twin = write_gguf(tmp_path / "model.gguf", config, shapes, Type.Q4_K)
    write_checkpoint(tmp_path / "twin", config, {})
    write_safetensors(tmp_path / "twin" / "model.safetensors", twin)
    ours, theirs = scores(tmp_path / "model.gguf", backend_name), scores(tmp_path / "twin", backend_name)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 if name == "llama" or backend_name == "mlx" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_that_packed_tensors_take_more_memory_is_said(tmp_path, dtype):
    config, shapes = wide("qwen3")
    write_gguf(tmp_path / "model.gguf", config, shapes, Type.IQ3_S)
    loaded = load(tmp_path / "model.gguf", "torch", "cpu", dtype)
    [note] = loaded.notes
    assert "15 of IQ3_S" in note
    assert dtype in note
    assert loaded.nbytes == sum(int(np.prod(shape)) for shape in shapes.values()) * (4 if dtype == "float32" else 2)


# A whole model in one file


def chat_file(path: Path, **say: Any) -> Path:
    """The tiny chat model of tests/chat_checkpoint.py as one GGUF file."""
    case, words = golden("qwen3"), said_of(library())
    kept = 199

    def told(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(words["tokens"][:kept])
        writer.add_token_types(words["token_type"][:kept])
        writer.add_token_merges(words["merges"])
        writer.add_eos_token_id(2)
        writer.add_chat_template(CHATML)
        for name, value in say.items():
            writer.add_float32(name.replace("__", "."), value)

    write_gguf(path, case.config, case.shapes, say=told)
    return path


def test_a_single_file_chats(tmp_path):
    """Tokenizer, template and end come from it too."""
    folder, file = write_chat(tmp_path / "folder", context=512), chat_file(tmp_path / "model.gguf")
    answers = []
    for path in (folder, file):
        engine = Engine()
        try:
            loading, _ = events(engine.load(str(path), "m", "torch", "cpu", "float32"))
            card = loading[-1].value
            assert (card.chat, card.eos, card.context, card.notes) == (True, (2, 0), 512, ())
            asked = Asked(max_tokens=12, temperature=0.0)
            answers.append(events(engine.submit(Request("m", messages=ASKED, asked=asked)))[0])
        finally:
            engine.close(drain=False)
    assert "".join(piece.text for piece in answers[0])
    assert answers[0] == answers[1]


def test_a_folder_with_one_file_and_a_split_model_are_the_same(tmp_path):
    case = golden("qwen3")
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    write_gguf(tmp_path / "one" / "model.gguf", case.config, case.shapes)
    write_gguf(tmp_path / "many" / "model.gguf", case.config, case.shapes, split_max_tensors=9)
    assert len(list((tmp_path / "many").iterdir())) > 3
    one = scores(tmp_path / "one" / "model.gguf", "torch")
    first = sorted((tmp_path / "many").iterdir())[0]
    for path in (tmp_path / "one", tmp_path / "many", first):
        np.testing.assert_array_equal(scores(path, "torch"), one)


def test_beside_safetensors_a_gguf_is_not_looked_at(tmp_path):
    case = golden("qwen3")
    write_checkpoint(tmp_path, case.config, case.shapes)
    (tmp_path / "model.gguf").write_bytes(b"GGUF broken")
    assert load(tmp_path, "torch", "cpu", "float32").architecture == "Qwen3ForCausalLM"


def test_the_publishers_sampling_is_kept(tmp_path):
    file = chat_file(tmp_path / "model.gguf", general__sampling__temp=0.7, general__sampling__top_p=0.8)
    loaded = load(file, "torch", "cpu", "float32")
    assert loaded.generation == {"eos_token_id": [2, 0], "temperature": 0.7, "top_p": 0.8}
    assert loaded.eos == (2, 0)  # what is called <|endoftext|> ends a text too


# What is refused


def described(path: Path, **said: Any) -> Path:
    """A Qwen3 file with other things said of it: dots are double underscores."""
    case = golden("qwen3")

    def told(writer: gguf.GGUFWriter) -> None:
        for name, value in said.items():
            key = name.replace("__", ".")
            writer.kv_data[0].pop(key, None)
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, float):
                writer.add_float32(key, value)
            elif isinstance(value, list):
                writer.add_array(key, value)
            elif value is not None:
                writer.add_uint32(key, value)

    write_gguf(path, case.config, case.shapes, say=told)
    return path


@pytest.mark.parametrize(
    ("said", "word", "error"),
    [
        ({"general__architecture": "gemma9"}, "'gemma9'", Unsupported),
        ({"general__architecture": "clip"}, "mmproj", Unsupported),
        ({"general__architecture": None}, "general.architecture", BadCheckpoint),
        ({"general__architecture": 7}, "general.architecture", BadCheckpoint),
        ({"general__type": "adapter"}, "adapter", Unsupported),
        ({"qwen3__block_count": None}, "qwen3.block_count", BadCheckpoint),
        ({"qwen3__block_count": "3"}, "qwen3.block_count", BadCheckpoint),
        ({"qwen3__block_count": 0}, "num_hidden_layers", BadCheckpoint),
        ({"qwen3__block_count": 2**32 - 1}, "num_hidden_layers", BadCheckpoint),
        ({"qwen3__block_count": 4}, "model.layers.3", BadCheckpoint),
        ({"qwen3__attention__head_count": 0}, "num_attention_heads", BadCheckpoint),
        ({"qwen3__attention__head_count": 7}, "multiple", BadCheckpoint),
        ({"qwen3__attention__head_count_kv": [2, 2, 1]}, "head_count_kv", BadCheckpoint),
        ({"qwen3__attention__value_length": 16}, "different sizes", Unsupported),
        ({"qwen3__attention__sliding_window": 8}, "sliding window", Unsupported),
        ({"qwen3__expert_count": 8}, "8 experts", Unsupported),
        ({"qwen3__rope__dimension_count": 16}, "in part", Unsupported),
        ({"qwen3__rope__scaling__type": "yarn", "qwen3__rope__scaling__factor": 4.0}, "yarn", Unsupported),
        ({"qwen3__rope__freq_base": float("nan")}, "rope_theta", BadCheckpoint),
        ({"qwen3__feed_forward_length": 97}, "mlp.gate_proj.weight", BadCheckpoint),
        ({"qwen3__embedding_length": 2**31}, "hidden_size", BadCheckpoint),
    ],
    ids=str,
)
def test_what_the_metadata_says_wrongly_is_a_sentence(tmp_path, said, word, error):
    file = described(tmp_path / "model.gguf", **said)
    with pytest.raises(error) as raised:
        load(file, "torch", "cpu", "float32")
    assert word in str(raised.value)
    assert "model.gguf" in str(raised.value)
    assert "config.json" not in str(raised.value)


def test_one_number_for_all_layers_may_be_listed_for_each(tmp_path):
    file = described(tmp_path / "a.gguf", qwen3__attention__head_count_kv=[2, 2, 2])
    plain = described(tmp_path / "b.gguf")
    np.testing.assert_array_equal(scores(file, "torch"), scores(plain, "torch"))


@pytest.mark.parametrize("kind", [Type.F32, Type.Q4_0], ids=lambda kind: kind.name)
def test_tensors_beyond_the_end_of_the_file_are_a_sentence(tmp_path, backend_name, kind):
    """Also those that the native library would read by itself."""
    file = tmp_path / "model.gguf"
    write_gguf(file, *wide("llama"), kind)
    whole = file.read_bytes()
    for length in (len(whole) - 64, len(whole) * 2 // 3):
        file.write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match=r"model\.gguf: tensor .* truncated"):
            load(file, backend_name, "cpu", "float32")


def test_an_old_file_names_its_converter(tmp_path):
    file = tmp_path / "ggml-model-q4_0.bin"
    file.write_bytes(b"tjgg" + bytes(100))
    with pytest.raises(
        Unsupported, match=r"ggml-model-q4_0\.bin: is a file of the old format ggjt.*convert_llama_ggml"
    ):
        load(file, "torch", "cpu", "float32")


def test_a_loaded_model_outlives_its_file(tmp_path, backend_name):
    case = golden("qwen3")
    write_gguf(tmp_path / "model.gguf", case.config, case.shapes)
    loaded = load(tmp_path / "model.gguf", backend_name, "cpu", "float32")
    before = generation.score(loaded, TOKENS)
    (tmp_path / "model.gguf").write_bytes(b"")
    np.testing.assert_array_equal(generation.score(loaded, TOKENS), before)
