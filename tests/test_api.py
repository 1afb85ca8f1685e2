"""The Python API as a program uses it, on a tiny chat model."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import crane_app
from crane_app import AutoTokenizer, CraneError, GenerationConfig, Message, TextStreamer, load
from crane_app.errors import BadCheckpoint, BadInput, ModelNotFound, Unsupported
from tests.chat_checkpoint import SPECIALS, write_chat

ROOT = Path(__file__).parents[1]
CHATS = [Message("user", "hello"), Message("assistant", "Hi, how are you?"), Message("user", "I am OK.")]
SHORT = GenerationConfig(max_new_tokens=12, do_sample=False, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat(tmp_path_factory.mktemp("api") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    with load(folder, device="cpu", dtype="float32") as model:
        yield model


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


# Names


def test_importing_crane_is_light():
    """Somebody who wants the version does not wait for numpy, let alone a tensor library."""
    code = "import sys, crane_app; print([m for m in ('numpy', 'torch', 'mlx', 'crane_app.api') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert told.stdout.strip() == "[]"


def test_all_names_are_there_and_no_others():
    for name in crane_app.__all__:
        assert getattr(crane_app, name) is not None
        assert name in dir(crane_app)
    with pytest.raises(AttributeError, match="no attribute 'typo'"):
        crane_app.typo  # noqa: B018


# Tokenizer


def test_tokens_by_name(tokenizer):
    assert [tokenizer.get_token(name) for name in SPECIALS] == [0, 1, 2]
    assert tokenizer.get_token("<|end_of_text|>") is None


def test_a_conversation_becomes_a_prompt(tokenizer):
    prompt = tokenizer.apply_chat_template(CHATS, add_generation_prompt=True)
    assert isinstance(prompt, str)
    assert prompt == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nHi, how are you?<|im_end|>\n"
        "<|im_start|>user\nI am OK.<|im_end|>\n<|im_start|>assistant\n"
    )
    dicts = [{"role": m.role, "content": m.content} for m in CHATS]
    assert tokenizer.apply_chat_template(dicts) == prompt
    assert not tokenizer.apply_chat_template(CHATS, add_generation_prompt=False).endswith("assistant\n")
    assert tokenizer.apply_chat_template(CHATS, enable_thinking=True).endswith("<think>\n")


def test_ids_and_text(tokenizer):
    ids = tokenizer.encode("<|im_start|>user\nnaïve 🦜")
    assert ids[0] == 1
    assert tokenizer.decode(ids) == "<|im_start|>user\nnaïve 🦜"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\nnaïve 🦜"
    assert tokenizer.decode(2) == "<|im_end|>"
    assert 1 not in tokenizer.encode("<|im_start|>", special=False)


def test_what_a_person_types_stays_text_on_the_way_through_a_prompt(model, tokenizer):
    prompt = tokenizer.apply_chat_template([Message("user", "a<|im_end|>b")])
    assert "a<|im_end|>b" in prompt
    assert model.prepare_inputs(prompt).count(2) == 1
    assert model.prepare_inputs(str(prompt) + "").count(2) == 2  # a text of one's own: its markup counts


def test_a_model_without_a_template(tmp_path):
    bare = AutoTokenizer.from_pretrained(write_chat(tmp_path, template=None))
    with pytest.raises(BadInput, match="no chat template"):
        bare.apply_chat_template(CHATS)


# Answers


def test_generate_gives_the_ids_of_the_answer_and_streams_their_text(model, tokenizer):
    ids = model.prepare_inputs(tokenizer.apply_chat_template(CHATS))
    out = io.StringIO()
    made = model.generate(ids, SHORT, TextStreamer(tokenizer, skip_prompt=True, out=out))
    assert len(made) == 12
    assert out.getvalue() == tokenizer.decode(made, skip_special_tokens=True) + "\n"
    assert model.generate(np.array(ids), SHORT) == made
    assert (model.usage.prompt_tokens, model.usage.output_tokens) == (len(ids), 12)


def test_a_streamer_shows_the_prompt_unless_told_not_to(model, tokenizer):
    out = io.StringIO()
    streamer = TextStreamer(tokenizer, out=out)
    for _ in range(2):
        model.generate(tokenizer.encode("<|im_start|>hello"), GenerationConfig(max_new_tokens=1), streamer)
    assert out.getvalue().count("hello") == 2
    assert "<|im_start|>" not in out.getvalue()


def test_any_streamer_gets_the_prompt_then_ids_then_the_end(model):
    told = []

    class Mine:
        def put(self, ids):
            told.append(list(ids))

        def end(self):
            told.append("end")

    made = model.generate([5, 6], SHORT, Mine())
    assert told[0] == [5, 6]
    assert [id for ids in told[1:-1] for id in ids] == made
    assert told[-1] == "end"


def test_an_error_in_a_streamer_stops_the_answer(model):
    class Broken:
        def put(self, ids):
            raise RuntimeError("no paper")

        def end(self): ...

    with pytest.raises(RuntimeError, match="no paper"):
        model.generate([5], GenerationConfig(max_new_tokens=4000, ignore_eos=True), Broken())
    assert len(model.generate([5], SHORT)) == 12


def test_a_token_that_ends_an_answer_is_its_last(model, tokenizer):
    ends = GenerationConfig(max_new_tokens=9, eos_token_id=9, logit_bias={9: 100.0}, do_sample=False)
    assert model.generate([5], ends) == [9]
    assert model.generate([5], dataclasses.replace(ends, eos_token_id=[9, 10])) == [9]
    assert model.generate([5], dataclasses.replace(ends, eos_token_id=None)) == [9] * 9


def test_a_stop_text_is_not_shown(model, tokenizer):
    first = tokenizer.decode(model.generate([5], SHORT))
    stop = first[4:6]
    out = io.StringIO()
    config = dataclasses.replace(SHORT, stop=stop)
    model.generate([5], config, TextStreamer(tokenizer, skip_prompt=True, out=out))
    assert out.getvalue() == first[: first.index(stop)] + "\n"


def test_sampling_is_seeded(model):
    hot = GenerationConfig(max_new_tokens=20, temperature=2.0, top_k=0, seed=1, do_sample=True, ignore_eos=True)
    assert model.generate([5], hot) == model.generate([5], hot)
    assert model.generate([5], hot) != model.generate([5], dataclasses.replace(hot, seed=2))
    cold = dataclasses.replace(hot, do_sample=False)
    assert model.generate([5], cold) == model.generate([5], dataclasses.replace(cold, seed=2))


def test_the_last_n_tokens_are_looked_back_on(model):
    plain = dataclasses.replace(SHORT, max_new_tokens=40)
    penalised = dataclasses.replace(plain, repetition_penalty=100.0, repeat_last_n=1)
    made = model.generate([5], penalised)
    assert all(a != b for a, b in pairwise(made))
    assert made != model.generate([5], plain)


def test_speeds_are_told_on_stderr(model, capsys):
    model.generate([5, 6, 7], dataclasses.replace(SHORT, report_speed=True))
    said = capsys.readouterr()
    assert re.fullmatch(r"3 tokens read at [\d.]+ tok/s, 12 made at [\d.]+ tok/s\n", said.err)
    assert said.out == ""


def test_chat_is_an_iterator_of_text(model, tokenizer):
    text = "".join(model.chat(CHATS, SHORT))
    assert text == tokenizer.decode(
        model.generate(model.prepare_inputs(tokenizer.apply_chat_template(CHATS)), SHORT), skip_special_tokens=True
    )
    assert "".join(model.chat("hello", SHORT)) == "".join(model.chat([Message("user", "hello")], SHORT))
    assert model.usage.output_tokens == 12


def test_closing_the_iterator_stops_the_answer(model):
    answer = model.chat("hello", GenerationConfig(max_new_tokens=4000, ignore_eos=True))
    next(answer)
    answer.close()
    assert 0 < model.usage.output_tokens < 4000


def test_threads_share_a_model(model):
    alone = model.generate([5], SHORT)
    made: list[list[int]] = []
    threads = [threading.Thread(target=lambda: made.append(model.generate([5], SHORT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [alone] * 4


def test_warming_up_leaves_nothing_behind(model):
    before = model.generate([5], SHORT)
    model.warmup()
    assert model.generate([5], SHORT) == before


# Faults


def test_an_unknown_field_is_no_small_thing():
    with pytest.raises(TypeError, match="max_tokens"):
        GenerationConfig(max_tokens=3)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_new_tokens": 0}, "max_tokens"),
        ({"stop": ""}, "stop"),
        ({"eos_token_id": 199}, "199"),
        ({"regex": "[a"}, "regex cannot be used"),
        ({"json_schema": {"not": {}}}, "json_schema cannot be used"),
        ({"choices": []}, "choices cannot be used"),
        ({"grammar": "nothing"}, "grammar cannot be used"),
        ({"regex": "a", "choices": ["a"]}, "not both"),
        ({"regex": "a", "thought": "deep"}, "thought"),
    ],
)
def test_a_value_out_of_range_is_named(model, config, said):
    with pytest.raises(BadInput, match=said):
        model.generate([5], GenerationConfig(**config))


@pytest.mark.parametrize(
    ("config", "pattern"),
    [
        ({"json_schema": {"enum": [1, 22]}}, "1|22"),
        ({"json_schema": '{"type": "boolean"}'}, "true|false"),
        ({"regex": "[ab]{5}"}, "[ab]{5}"),
        ({"choices": ["yes", "no"]}, "yes|no"),
        ({"grammar": 'root ::= "<" [xy] ">"'}, "<[xy]>"),
        ({"choices": ["yes"], "thought": "open", "logit_bias": {4: 30.0}}, r"</think>\n*yes"),
    ],
)
def test_an_answer_is_held_to_what_it_must_be(model, config, pattern):
    held = GenerationConfig(temperature=1.0, seed=3, max_new_tokens=50, **config)
    assert re.fullmatch(pattern, "".join(model.chat("hello", held)))
    assert re.fullmatch(pattern, model.tokenizer.decode(model.generate([70, 71], held), skip_special_tokens=True))


@pytest.mark.parametrize("ids", [[], [199], [-1], [5] * 5000])
def test_ids_that_cannot_be_a_prompt(model, ids):
    with pytest.raises(BadInput):
        model.generate(ids, SHORT)


def test_folders_that_are_no_model(tmp_path):
    for call in (load, AutoTokenizer.from_pretrained):
        with pytest.raises(ModelNotFound, match="none"):
            call(tmp_path / "none")
    with pytest.raises(BadCheckpoint, match="tokenizer"):
        AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(CraneError, match="config"):
        load(tmp_path)


def test_a_device_that_is_not_there(folder):
    with pytest.raises(Unsupported):
        load(folder, device="abacus")


# Lives


def test_two_models_share_an_engine_and_closing_one_leaves_the_other(folder):
    one, other = load(folder, dtype="float32"), load(folder, dtype="float32")
    assert one.card.name != other.card.name
    assert one._engine is other._engine
    one.close()
    one.close()
    with pytest.raises(CraneError, match="was closed"):
        one.generate([5])
    assert len(other.generate([5], SHORT)) == 12
    other.close()


def test_a_draft_model_changes_no_token(folder, model, tmp_path):
    small = write_chat(tmp_path / "small")
    with load(folder, device="cpu", dtype="float32", draft_model=small) as guided:
        assert guided.card.draft == str(small)
        ids = guided.prepare_inputs("hello")
        assert guided.generate(ids, SHORT) == model.generate(ids, SHORT)
    with pytest.raises(ModelNotFound):
        load(folder, draft_model=tmp_path / "nowhere")


def test_the_engine_ends_with_its_last_model(tmp_path):
    """A program that forgets to close ends all the same."""
    code = f"""
import threading
from crane_app import load
model = load({str(write_chat(tmp_path / "tiny"))!r}, device="cpu")
print(next(model.chat("hello")) != "")
model.close()
print([t.name for t in threading.enumerate() if t.name == "crane-device"])
load(model.card.folder, device="cpu")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (told.returncode, told.stdout.split()) == (0, ["True", "[]"]), told.stderr
    assert told.stderr == ""


# Documentation


@pytest.mark.parametrize("page", ["docs/api.md", "README.md"])
def test_what_the_pages_show_runs(page, tmp_path, monkeypatch, capsys):
    """Their blocks run, one after the other and word for word, with models of those names that are here."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    for repo in ("Qwen--Qwen2.5-0.5B-Instruct", "Qwen--Qwen3-0.6B"):
        write_chat(tmp_path / f"models--{repo}" / "snapshots" / ("a" * 40))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert capsys.readouterr().out


def test_the_page_names_every_field_and_name():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    fields = [field.name for field in dataclasses.fields(GenerationConfig)]
    missing = [name for name in [*crane_app.__all__, *fields] if f"`{name}" not in page]
    assert not missing
