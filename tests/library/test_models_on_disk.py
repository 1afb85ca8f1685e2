"""Models are found wherever they lie, and no folder, however hostile, stops the others from being found."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crane_app import settings
from crane_app.errors import BadInput
from crane_app.library import facts, fit, hub_cache
from crane_app.library.models import OnDisk, examine, found, import_folder, needed_memory, own_folder
from crane_app.library.weighing import Terms
from crane_app.models.registry import MODULES

QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 1024,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}
PLAIN = Terms("bfloat16", lambda scheme, use: True)


def write(folder: Path, config: object = QWEN3, weights: int = 1000, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), "utf-8")
    if weights:
        (folder / "model.safetensors").write_bytes(b"\1" * weights)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, "utf-8")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def in_cache(cache: Path, repo: str, commit: str = "a" * 40, ref: str = "main", **kept) -> Path:
    folder = hub_cache.folder_of(cache, repo)
    shot = write(folder / "snapshots" / commit, **kept)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    return shot


def names(entries) -> list[str]:
    return [entry.name for entry in entries]


def test_a_model_tells_its_job_size_context_type_and_licence(tmp_path, cache):
    folder = write(tmp_path / "Qwen3", README__md="---\nlanguage: en\nlicense: apache-2.0\n---\n# Qwen3\n")
    [entry] = found([folder], cache)
    assert entry == OnDisk(
        folder, "Qwen3", "chat", "Qwen3ForCausalLM", 1000, 40960, "bfloat16", "apache-2.0", "folder", cache=entry.cache,
    )  # fmt: skip


def test_keys_and_values_of_a_long_conversation_are_counted(tmp_path):
    # 28 layers, keys and values, 8 heads of 128 numbers of 2 bytes, 8,192 tokens
    assert examine(write(tmp_path)).cache == 28 * 2 * 8 * 128 * 2 * 8192


def test_a_short_context_needs_no_more_than_it_has(tmp_path):
    config = {**QWEN3, "max_position_embeddings": 100}
    assert examine(write(tmp_path, config)).cache == 28 * 2 * 8 * 128 * 2 * 100


def test_every_architecture_that_crane_defines_has_a_job():
    assert set(MODULES) <= set(facts.OURS)


def test_dictation_models_are_for_dictation(tmp_path):
    entry = examine(write(tmp_path, {"architectures": ["MoonshineForConditionalGeneration"]}))
    assert (entry.job, entry.problem, entry.remark) == ("dictate", "", "")


def test_a_family_of_others_says_how_it_runs(tmp_path):
    entry = examine(write(tmp_path, {"architectures": ["GemmaForCausalLM"]}))
    assert (entry.job, entry.problem) == ("chat", "")
    assert entry.remark == "Runs through mlx-lm or transformers, one at a time."


def test_what_crane_cannot_run_says_so(tmp_path):
    entry = examine(write(tmp_path, {"architectures": ["WhisperForConditionalGeneration"]}))
    assert (entry.job, entry.problem) == ("other", "Crane has no use for WhisperForConditionalGeneration yet.")


def test_weights_that_are_packed_in_another_way_are_told_before_loading(tmp_path):
    entry = examine(write(tmp_path, {**QWEN3, "quantization_config": {"quant_method": "gptq"}}))
    assert entry.problem == "Its weights are packed as gptq; Crane reads MLX's groups and GGUF."
    groups = {"bits": 4, "group_size": 64}
    entry = examine(write(tmp_path, {**QWEN3, "quantization": groups, "quantization_config": groups}))
    assert entry.problem == ""


def test_the_numbers_of_a_picture_model_are_those_of_its_text_part(tmp_path):
    config = {"architectures": ["SomeForConditionalGeneration"], "text_config": {"max_position_embeddings": 77}}
    assert examine(write(tmp_path, config)).context == 77


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("head_dim", 0),
        ("head_dim", -128),
        ("head_dim", "128"),
        ("head_dim", True),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", [28]),
        ("num_attention_heads", 0),
        ("max_position_embeddings", 1e99),
    ],
)
def test_a_config_with_an_impossible_number_names_it(tmp_path, field, value):
    entry = examine(write(tmp_path, {**QWEN3, field: value}))
    assert f'"{field}"' in entry.problem
    assert entry.nbytes == 1000  # what could be read is still told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"architectures": ' + "[" * 100_000,
        '{"architectures": [], "x": ' + "9" * 5000 + "}",
        '{"architectures": "Qwen3ForCausalLM"}',
        '{"architectures": [null, 5, {}]}',
        "\0\0\0",
        '{"architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": NaN}',
    ],
)
def test_a_config_of_rubbish_is_a_sentence(tmp_path, text):
    entry = examine(write(tmp_path, text))
    assert entry.problem.startswith("config.json")
    assert entry.problem.endswith(".")


def test_a_config_that_is_no_text_is_a_sentence(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\xff{}")
    assert examine(tmp_path).problem == "config.json is damaged: it is not valid JSON."


def test_a_huge_config_is_not_read(tmp_path):
    write(tmp_path)
    with (tmp_path / "config.json").open("r+b") as file:
        file.truncate(facts.LARGEST_CONFIG + 1)
    assert examine(tmp_path).problem == "config.json is too large to be what its name says."


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_a_pipe_in_the_place_of_a_config_is_not_opened(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    assert examine(tmp_path).problem == "There is no config.json in the folder."


def test_code_that_comes_with_a_model_is_neither_run_nor_in_the_way(tmp_path):
    write(tmp_path, {**QWEN3, "auto_map": {"AutoModel": "evil.Model"}}, evil__py="raise SystemExit('ran')")
    assert examine(tmp_path).problem == ""


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a\\b.safetensors", "..", "", "a\0b", 5])
def test_an_index_that_points_outside_the_folder_is_refused(tmp_path, name):
    write(tmp_path, weights=0)
    (tmp_path / "a.safetensors").write_bytes(b"1")
    (tmp_path / facts.INDEX).write_text(json.dumps({"weight_map": {"t": name}}))
    assert "names a file outside the model's folder" in examine(tmp_path).problem


def test_a_missing_shard_is_named(tmp_path):
    write(tmp_path, weights=0)
    (tmp_path / "model-00001-of-00003.safetensors").write_bytes(b"1")
    assert examine(tmp_path).problem == (
        "It is not complete: model-00002-of-00003.safetensors and 1 more files are missing."
    )
    shards = {f"t{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2)}
    (tmp_path / facts.INDEX).write_text(json.dumps({"weight_map": shards}))
    assert examine(tmp_path).problem == "It is not complete: model-00002-of-00003.safetensors is missing."


def test_weights_in_other_forms_are_named(tmp_path):
    write(tmp_path, weights=0, model__h5="x")
    assert examine(tmp_path).problem == "Its weights are .h5 files; Crane reads safetensors."


@pytest.mark.parametrize("name", ["pytorch_model__bin", "model__pth", "model__npz"])
def test_weights_of_pytorch_and_numpy_are_read_of_our_own_families(tmp_path, name):
    folder = write(tmp_path / "ours", weights=0, **{name: "12345", "training_args__bin": "x"})
    assert (examine(folder).problem, examine(folder).nbytes) == ("", 5)
    other = write(tmp_path / "other", {"architectures": ["GPT2LMHeadModel"]}, weights=0, **{name: "12345"})
    assert "Crane reads safetensors" in examine(other).problem


def test_models_in_subfolders_are_found_with_odd_names(tmp_path, cache):
    for name in ("a", "b c", "🐦 crane", "deep/er/still"):
        write(tmp_path / "models" / name)
    write(tmp_path / "models/one/two/three/four")  # too deep
    (tmp_path / "models" / "project").mkdir()
    (tmp_path / "models" / "project" / "config.json").write_text("{}")
    assert sorted(names(found([tmp_path / "models"], cache))) == ["a", "b c", "still", "🐦 crane"]


def test_links_that_lead_back_end(tmp_path, cache):
    write(tmp_path / "models" / "one")
    (tmp_path / "models" / "loop").symlink_to(tmp_path / "models")
    (tmp_path / "models" / "self").symlink_to(tmp_path / "models" / "self")
    (tmp_path / "models" / "again").symlink_to(tmp_path / "models" / "one")
    assert len(names(found([tmp_path / "models", tmp_path / "models" / "one"], cache))) == 1


def test_a_thousand_folders_are_looked_through(tmp_path, cache):
    for number in range(1000):
        (tmp_path / "many" / f"{number}").mkdir(parents=True)
    write(tmp_path / "many" / "999")
    assert names(found([tmp_path / "many"], cache)) == ["999"]


def test_a_folder_that_went_away_stays_in_the_list_with_the_reason(tmp_path, cache):
    [entry] = found([tmp_path / "gone"], cache)
    assert (entry.name, entry.problem) == ("gone", "There is no such folder any more.")


def test_a_folder_that_may_not_be_read_does_not_hide_the_others(tmp_path, cache, monkeypatch):
    closed, opened = tmp_path / "closed", write(tmp_path / "open")
    closed.mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    entries = list(found([closed, opened], cache))
    assert [entry.problem for entry in entries] == ["The folder cannot be read (Permission denied).", ""]


def test_models_of_our_own_folder_are_found(cache):
    folder = write(own_folder() / "mine")
    try:
        [entry] = found([], cache)
        assert (entry.name, entry.source) == ("mine", "imported")
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_the_hugging_face_cache_is_read(cache):
    shot = in_cache(cache, "Qwen/Qwen3-0.6B")
    in_cache(cache, "gpt2", commit="b" * 40, config={"architectures": ["GPT2LMHeadModel"]})
    (cache / "datasets--a--b").mkdir()
    (cache / "version.txt").write_text("1")
    gpt, qwen = sorted(found([], cache), key=lambda entry: entry.name.lower())
    assert (qwen.folder, qwen.name, qwen.repo, qwen.source) == (shot, "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "hub")
    assert gpt.name == "gpt2"


def test_of_several_snapshots_the_one_that_main_names_counts(cache):
    in_cache(cache, "a/b", commit="b" * 40, ref="main")
    newer = in_cache(cache, "a/b", commit="c" * 40, ref="other")
    os.utime(newer, (2e9, 2e9))
    [entry] = found([], cache)
    assert entry.folder.name == "b" * 40


def test_without_main_the_newest_snapshot_counts(cache):
    in_cache(cache, "a/b", commit="b" * 40, ref="v1")
    newer = in_cache(cache, "a/b", commit="c" * 40, ref="v2")
    os.utime(newer, (2e9, 2e9))
    [entry] = found([], cache)
    assert entry.folder == newer


def test_a_reference_that_points_elsewhere_is_not_followed(cache, tmp_path):
    shot = in_cache(cache, "a/b")
    write(tmp_path / "elsewhere")
    (hub_cache.folder_of(cache, "a/b") / "refs" / "main").write_text("../../../elsewhere")
    [entry] = found([], cache)
    assert entry.folder == shot


def test_an_unfinished_download_is_told_as_one(cache):
    in_cache(cache, "a/b", weights=0)
    blobs = hub_cache.folder_of(cache, "a/b") / "blobs"
    blobs.mkdir()
    (blobs / f"{'f' * 64}.incomplete").write_bytes(b"half")
    [entry] = found([], cache)
    assert (entry.partial, entry.problem) == (True, "The download is not finished.")


def test_a_tokenizer_alone_is_no_model(cache):
    in_cache(cache, "a/b", weights=0, tokenizer__json="{}")
    assert list(found([], cache)) == []


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"HF_HUB_CACHE": "/x/hub"}, "/x/hub"),
        ({"HF_HOME": "/x"}, "/x/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HF_HUB_CACHE": "$HF_HOME/y", "HF_HOME": "/x"}, "/x/y"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch, environment, place):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hub_cache.root() == Path(place)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ('---\nlicense: "apache-2.0"\n---', "apache-2.0"),
        ("---\nlicense: other\nlicense_name: tencent-hunyuan\n---\n", "tencent-hunyuan"),
        ("# no front matter\nlicense: mit\n", ""),
        ("---\ntags:\n- x\n---\nlicense: mit\n", ""),
    ],
)
def test_the_licence_is_what_the_front_matter_says(tmp_path, page, said):
    assert examine(write(tmp_path, README__md=page)).licence == said


def test_a_licence_file_is_known_by_its_first_lines(tmp_path):
    text = "\n      Apache License\n   Version 2.0, January 2004\n"
    assert examine(write(tmp_path, LICENSE=text)).licence == "apache-2.0"


def test_a_model_fits_well_tightly_or_not():
    entry = OnDisk(Path("x"), "x", nbytes=3 * 10**9, cache=600 * 10**6)
    assert [needed_memory(entry, memory * 10**9, PLAIN).fit for memory in (8, 6, 4, 0)] == [
        "well",
        "tight",
        "no",
        "unknown",
    ]
    assert needed_memory(entry, 4 * 10**9, PLAIN).sentence == (
        "Too large for this computer. It needs about 4.0 GB of memory; this computer has 4.0 GB."
    )


def test_what_a_model_takes_packed_is_foretold(tmp_path):
    """PyTorch's files, whose heads are not read: groups of 64 with a scale and a bias in the weights' own type."""
    write(tmp_path, weights=0)
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(1_600_000))
    entry = examine(tmp_path)
    every = [replace(PLAIN, quantize=quantize) for quantize in (None, *settings.QUANTS)]
    taken = [needed_memory(entry, 0, terms).needed - fit.RUNTIME - entry.cache for terms in every]
    assert taken == [1_600_000, 450_000, 550_000, 650_000, 850_000]


def test_what_is_not_known_of_weights_is_as_large_as_its_files(tmp_path):
    entry = examine(write(tmp_path))
    assert (entry.problem, entry.tensors) == ("", ())
    assert needed_memory(entry, 0, PLAIN).needed == 1000 + entry.cache + fit.RUNTIME


@pytest.mark.parametrize(
    "head",
    [
        *("[]", '{"a": 1}', '{"a": {}}', '{"a": {"dtype": "F32", "shape": 3}}', "{", "[" * 10**5),
        *('{"a": {"dtype": 1, "shape": [1e999]}}', '{"a": {"dtype": "F32", "shape": [null]}}', "\xff"),
    ],
    ids=range(9),
)
def test_no_head_of_a_file_stops_the_others_from_being_found(tmp_path, head):
    folder = write(tmp_path, {**QWEN3, "quantization": {"bits": 4}})
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head.encode("latin-1"))
    assert examine(folder).tensors == ()


def test_this_computer_has_memory_and_a_disk(tmp_path):
    assert fit.memory() > 10**8
    assert fit.free_disk(tmp_path / "not" / "yet") > 0


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [(0, "0 bytes"), (12_345, "12 kB"), (999_999, "1 MB"), (988e6, "988 MB"), (1.29e9, "1.3 GB"), (123e9, "123 GB")],
)
def test_sizes_are_for_people(nbytes, words):
    assert fit.human(nbytes) == words


def test_a_dropped_folder_is_kept_as_a_whole_path(tmp_path):
    folder = write(tmp_path / "a model")
    assert import_folder(tmp_path / "a model" / ".." / "a model") == folder.resolve()
    assert import_folder(folder / "config.json") == folder.resolve()


def test_a_dropped_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput, match="There is no model in 'photos'"):
        import_folder(tmp_path / "photos")
    with pytest.raises(BadInput, match="There is no folder"):
        import_folder(tmp_path / "nowhere")
