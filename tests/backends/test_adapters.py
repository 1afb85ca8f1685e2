"""Models that Crane does not define, through mlx-lm and transformers: as right as the library, and behind our contract.

Checkpoints are random and written by transformers, whose eager float32 forward over the whole text is the oracle.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from crane_app.backends import choose
from crane_app.backends.draw import plan_draw
from crane_app.contract import BLOCK, Sampling, Work
from crane_app.engine import generation
from crane_app.errors import BadCheckpoint, NotEnoughMemory, Unsupported
from crane_app.models.registry import MODULES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers writes the checkpoints and is the oracle")

VOCABULARY, CONTEXT = 97, 512
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOWED = {"num_hidden_layers": 6, "head_dim": 16, "sliding_window": 16, "query_pre_attn_scalar": 16}
LINEAR = {
    "head_dim": 16,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
}
LFM2 = {
    "layer_types": ["conv", "full_attention", "conv", "conv"],
    "block_dim": 64,
    "block_ff_dim": 256,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
}
FAMILIES = {
    "stablelm": {},
    "olmo2": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere2": {"rope_parameters": {"rope_type": "default", "rope_theta": 3000.0}},
    "gemma3_text": WINDOWED,
    "lfm2": LFM2,
    "qwen3_5_text": LINEAR,
}
STATEFUL = ("gemma3_text", "lfm2", "qwen3_5_text")  # cannot be cut once they are under way
ONLY_TORCH = {
    "mamba": {"state_size": 8},
    "jamba": {"mamba_d_state": 8, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1},
}

float32 = pytest.mark.parametrize("dtype", ["float32"])


def config(name: str, **fields):
    return transformers.CONFIG_MAPPING[name](**{**SIZES, **fields})


def write(folder: Path, name: str, **fields) -> Path:
    """A random checkpoint whose logits are far enough apart to tell tokens."""
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config(name, **fields))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory) -> Callable[[str], Path]:
    written: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in written:
            fields = {**FAMILIES, **ONLY_TORCH}[name]
            written[name] = write(tmp_path_factory.mktemp(name), name, **fields)
        return written[name]

    return of


@pytest.fixture
def adapt(backend_name, dtype):
    """A folder to a model as loading would give it: its runner, backend and facts."""
    pytest.importorskip({"mlx": "mlx_lm", "torch": "transformers"}[backend_name])
    backend = choose(backend_name, "cpu", dtype)
    module = importlib.import_module(f"crane_app.backends.{backend_name}.adapter")

    def loaded(folder: Path) -> SimpleNamespace:
        runner, facts = module.adapt(folder, backend)
        return SimpleNamespace(runner=runner, backend=backend, listener=None, **vars(facts))

    return loaded


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def text(length: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, VOCABULARY, length).astype(np.int32)


def oracle(folder: Path, tokens) -> np.ndarray:
    """Logits float32 [L, V] of the whole text at once, without a cache."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor(np.asarray(tokens))[None].long(), use_cache=False).logits[0].numpy()


def close(got, want) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def run(model, row: int, tokens, **fields) -> np.ndarray:
    """Logits after each of the tokens."""
    work = Work(row, np.asarray(tokens, np.int32), logits=len(tokens), **fields)
    return model.runner.launch([work], keep_logits=True).read().logits


def greedy(model, tokens, count: int) -> list[int]:
    drawn = generation.generate(model, list(map(int, tokens)), Sampling(), count)
    return [step.token for step in drawn]


# The same numbers


@float32
def test_logits_are_those_of_transformers_however_the_text_is_cut(adapt, folder_of, family):
    assert not set(json.loads((folder_of(family) / "config.json").read_text())["architectures"]) & set(MODULES)
    model, tokens = adapt(folder_of(family)), text(80)
    row = model.runner.cache.open(80)
    cuts = [0, 30, 31, 32, 50, 51, 80]
    got = [run(model, row, tokens[a:b]) for a, b in pairwise(cuts)]
    close(np.concatenate(got), oracle(folder_of(family), tokens))


@float32
def test_greedy_generation_is_that_of_transformers(adapt, folder_of, family):
    folder, prompt = folder_of(family), text(21)
    model = adapt(folder)
    made = greedy(model, prompt, 24)
    want = oracle(folder, [*prompt, *made])[len(prompt) - 1 : -1]
    assert made == want.argmax(-1).tolist()
    assert model.runner.cache.nbytes() == 0


@float32
@pytest.mark.parametrize("backend_name", ["torch"])
@pytest.mark.parametrize("family", ONLY_TORCH)
def test_a_model_that_loses_its_state_over_several_tokens_gets_them_one_by_one(adapt, folder_of, family):
    folder, tokens = folder_of(family), text(40)
    model = adapt(folder)
    assert model.runner.foreign.single
    row = model.runner.cache.open(40)
    got = np.concatenate([run(model, row, part) for part in np.split(tokens, [15, 16, 30])])
    want = oracle(folder, tokens)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_near(adapt, folder_of, dtype):
    folder, tokens = folder_of("olmo2"), text(30)
    model = adapt(folder)
    want = oracle(folder, tokens)
    assert np.abs(generation.score(model, tokens.tolist()) - want).max() < 0.05 * np.abs(want).max()


@float32
def test_a_prompt_of_several_chunks(adapt, folder_of):
    folder, tokens = folder_of("gemma3_text"), text(BLOCK + 40)
    close(generation.score(adapt(folder), tokens.tolist()), oracle(folder, tokens))


@float32
def test_facts_are_those_of_the_folder(adapt, folder_of, family):
    model = adapt(folder_of(family))
    assert (model.vocabulary, model.context) == (VOCABULARY, CONTEXT)
    assert model.architecture.endswith("ForCausalLM")
    assert "one request at a time" in model.notes[0]
    file = (folder_of(family) / "model.safetensors").stat().st_size
    assert 0.9 * file < model.nbytes < 1.1 * file


# Draws


@float32
@pytest.mark.parametrize("family", ["olmo2", "lfm2"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.8, seed=5),
        Sampling(temperature=1.1, top_k=9, top_p=0.8, seed=6, choice=2),
        Sampling(repetition_penalty=1.4, presence_penalty=0.5, frequency_penalty=0.3, logit_bias={5: 2.0}),
        Sampling(temperature=0.9, repetition_penalty=1.3, repeat_last_n=6, min_p=0.02, seed=7),
    ],
    ids=["plain", "sorted", "penalties", "all"],
)
def test_tokens_are_what_our_own_draw_takes_from_the_logits(adapt, folder_of, family, sampling):
    """Step by step with every token known, against steps that run ahead of what was read."""
    model, prompt = adapt(folder_of(family)), text(12).tolist()
    made = [step.token for step in generation.generate(model, prompt, sampling, 14)]
    logits = generation.score(model, prompt + made)
    for i, token in enumerate(made):
        end = len(prompt) + i
        seen = np.array(prompt + made[:i], np.int32)
        work = Work(0, seen[-1:], draw=sampling, seen=seen, made=i)
        draw = plan_draw([work], [end - 1])
        if draw.penalties is not None:
            draw.inputs = model.backend.array(seen[-1:])
        again = model.backend.ops.sample(model.backend.array(logits[end - 1 : end]), draw)
        assert int(model.backend.numpy(again)[0]) == token


@float32
def test_log_probabilities_are_those_of_the_logits(adapt, folder_of):
    folder, prompt = folder_of("olmo2"), text(9).tolist()
    model = adapt(folder)
    drawn = list(generation.generate(model, prompt, Sampling(), 5, top=3))
    logits = oracle(folder, prompt + [step.token for step in drawn]).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for i, step in enumerate(drawn):
        here = logprobs[len(prompt) - 1 + i]
        assert [token for token, _ in step.top] == np.argsort(-here)[:3].tolist()
        close(step.logprob, here[step.token])


# Rows


@float32
def test_a_cut_row_goes_on_as_if_the_rest_had_never_been(adapt, folder_of, family):
    folder, tokens = folder_of(family), text(60)
    model = adapt(folder)
    cache, row = model.runner.cache, model.runner.cache.open(70)
    run(model, row, text(60, seed=9)[:60])
    for length in (0, 45, 20, 20):
        cache.truncate(row, length)
        assert cache.length(row) == length
        kept = cache.rows[row].held
        assert kept == (length if family not in STATEFUL else 0)
        close(run(model, row, tokens[length:60]), oracle(folder, tokens)[length:])


@float32
def test_a_row_that_ran_ahead_can_be_cut_before_anybody_has_read_it(adapt, folder_of, family):
    folder, prompt = folder_of(family), text(20)
    model = adapt(folder)
    runner, row = model.runner, model.runner.cache.open(40)
    pending = runner.launch([Work(row, prompt)])
    for _ in range(4):
        pending = runner.launch([Work(row, None)], pending)
    runner.cache.truncate(row, 22)
    made = greedy(model, prompt, 3)
    close(run(model, row, [made[2]]), oracle(folder, [*prompt, *made])[-1:])


@float32
def test_two_rows_that_take_turns_keep_their_own_state(adapt, folder_of, family):
    folder, texts = folder_of(family), (text(40, seed=1), text(40, seed=2))
    model = adapt(folder)
    rows = [model.runner.cache.open(40) for _ in texts]
    parts = [[], []]
    for a, b in ((0, 13), (13, 14), (14, 30), (30, 31), (31, 40)):
        for i, row in enumerate(rows):
            parts[i].append(run(model, row, texts[i][a:b]))
    for got, tokens in zip(parts, texts, strict=True):
        close(np.concatenate(got), oracle(folder, tokens))


@float32
def test_bytes_are_those_of_the_arrays_and_gone_with_the_row(adapt, folder_of, family):
    model = adapt(folder_of(family))
    cache = model.runner.cache
    rows = [cache.open(40) for _ in range(2)]
    assert cache.nbytes() == 0
    run(model, rows[0], text(40))
    one = cache.nbytes()
    run(model, rows[1], text(40))
    assert cache.nbytes() == 2 * one > 0
    cache.close(rows[0])
    assert cache.nbytes() == one
    cache.close(rows[1])
    assert cache.nbytes() == 0
    with pytest.raises(ValueError, match=str(rows[1])):
        cache.length(rows[1])


@float32
@pytest.mark.parametrize("family", ["olmo2"])
def test_the_bytes_of_keys_are_at_least_their_positions(adapt, folder_of, family):
    """4 layers, keys and values of 2 heads of 16 numbers; mlx-lm reserves in blocks of 256."""
    model = adapt(folder_of(family))
    row = model.runner.cache.open(40)
    run(model, row, text(40))
    position = 4 * 2 * 2 * 16 * 4
    reserved = {"mlx": 256, "torch": 40}[model.backend.device.backend]
    assert model.runner.cache.nbytes() == reserved * position


@float32
def test_a_row_has_room_for_the_context_and_no_more(adapt, folder_of):
    model = adapt(folder_of("olmo2"))
    cache = model.runner.cache
    with pytest.raises(NotEnoughMemory, match=str(CONTEXT)):
        cache.open(CONTEXT + 1)
    row = cache.open(1)
    assert cache.room(row) == CONTEXT
    cache.reserve(row, CONTEXT)
    with pytest.raises(NotEnoughMemory):
        cache.reserve(row, CONTEXT + 1)
    assert len(greedy(model, text(CONTEXT - 5), 100)) == 5


@float32
def test_rows_stay_within_the_budget_and_go_on_when_it_grows(adapt, folder_of):
    """As far as can be told before a step: by the most that one has taken so far."""
    model = adapt(folder_of("olmo2"))
    cache = model.runner.cache
    row, twin = cache.open(1), cache.open(1)
    first = run(model, row, text(BLOCK))
    cache.budget = cache.nbytes() + cache.growth - 1
    with pytest.raises(NotEnoughMemory):
        run(model, row, text(BLOCK))
    assert cache.length(row) == BLOCK
    cache.budget += cache.growth + 1
    np.testing.assert_array_equal(run(model, twin, text(BLOCK)), first)
    run(model, row, text(3))


@float32
def test_a_generator_that_is_closed_frees_its_row(adapt, folder_of):
    model = adapt(folder_of("lfm2"))
    steps = generation.generate(model, text(9).tolist(), Sampling(), 20)
    list(islice(steps, 3))
    assert model.runner.cache.nbytes() > 0
    steps.close()
    assert model.runner.cache.nbytes() == 0


@float32
def test_tokens_that_were_read_stay_on_the_host_alone(adapt, folder_of):
    model, prompt = adapt(folder_of("olmo2")), text(9).tolist()
    steps = generation.generate(model, prompt, Sampling(), 12)
    list(islice(steps, 10))
    (row,) = model.runner.cache.rows.values()
    assert sum(not isinstance(token, int) for token in row.history) <= 2


@float32
@pytest.mark.parametrize("family", ["olmo2", "lfm2"])
def test_a_step_that_fails_halfway_leaves_the_row_as_it_was(adapt, folder_of, family):
    folder, tokens = folder_of(family), text(20)
    model = adapt(folder)
    row = model.runner.cache.open(30)
    run(model, row, tokens[:10])
    whole = model.runner.foreign.forward

    def half(some, cache, count):
        whole(some, cache, count)
        raise MemoryError

    model.runner.foreign.forward = half
    with pytest.raises(MemoryError):
        run(model, row, tokens[10:])
    model.runner.foreign.forward = whole
    assert model.runner.cache.length(row) == 10
    close(run(model, row, tokens[10:]), oracle(folder, tokens)[10:])


@float32
def test_a_launch_takes_one_work_that_is_right(adapt, folder_of):
    model = adapt(folder_of("olmo2"))
    runner, rows = model.runner, [model.runner.cache.open(9) for _ in range(2)]
    assert runner.batched is False
    one = text(3)
    pending = runner.launch([Work(rows[1], one)])
    for works, previous, said in [
        ([Work(row, one) for row in rows], None, "batched = False"),
        ([], None, "at least one"),
        ([Work(99, one)], None, "99"),
        ([Work(rows[0], one[:0])], None, "no new token"),
        ([Work(rows[0], np.array([VOCABULARY], np.int32))], None, "vocabulary"),
        ([Work(rows[0], one, logits=4)], None, "logits"),
        ([Work(rows[0], np.zeros(CONTEXT + 1, np.int32))], None, "room"),
        ([Work(rows[0], None)], None, "no step before"),
        ([Work(rows[0], None)], pending, "drew no token"),
        ([Work(rows[0], one, positions=np.zeros((3, 3), np.int32))], None, "positions"),
    ]:
        with pytest.raises(ValueError, match=said):
            runner.launch(works, previous)
    assert [runner.cache.length(row) for row in rows] == [0, 3]


# What is refused


def change(folder: Path, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refused(adapt, folder: Path, error, *said: str) -> None:
    with pytest.raises(error) as raised:
        adapt(folder)
    assert all(part in str(raised.value) for part in said), raised.value
    assert len(str(raised.value)) < 600


@pytest.fixture
def own(tmp_path) -> Path:
    """A whole checkpoint that a test may spoil."""
    return write(tmp_path / "model", "olmo2")


@float32
def test_code_in_a_folder_never_runs(adapt, own):
    trace = own / "trace"
    (own / "modeling_own.py").write_text(f"open({str(trace)!r}, 'w').write('ran')\n")
    change(own, auto_map=dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "modeling_own.Own"))
    adapt(own)
    change(own, model_type="own", architectures=["OwnForCausalLM"])
    refused(adapt, own, Unsupported, "OwnForCausalLM", "never runs")
    change(own, model_type="olmo2", model_file="modeling_own.py")
    refused(adapt, own, Unsupported, "model_file")
    assert not trace.exists()


@float32
@pytest.mark.parametrize("name", ["own", "cache", "..utils", "", None, 3])
def test_an_unknown_family_is_refused(adapt, own, name):
    change(own, model_type=name, architectures=["OwnForCausalLM"])
    refused(adapt, own, (Unsupported, BadCheckpoint), "OwnForCausalLM" if isinstance(name, str) else "model_type")


@float32
def test_a_model_that_does_not_write_text_is_refused(adapt, tmp_path):
    small = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    transformers.BertForMaskedLM(transformers.BertConfig(**small)).save_pretrained(tmp_path)
    refused(adapt, tmp_path, Unsupported, "BertForMaskedLM")


@float32
@pytest.mark.parametrize("backend_name", ["torch"])
def test_an_architecture_of_another_family_is_refused(adapt, own):
    change(own, architectures=["GPT2LMHeadModel"])
    refused(adapt, own, Unsupported, "GPT2LMHeadModel")


@float32
def test_the_text_half_of_a_model_that_reads_pictures(adapt, tmp_path):
    torch.manual_seed(7)
    eyes = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    both = transformers.Qwen3_5Config(text_config={**SIZES, **LINEAR}, vision_config=eyes)
    transformers.Qwen3_5ForConditionalGeneration(both).save_pretrained(tmp_path)
    model, tokens = adapt(tmp_path), text(30)
    assert (model.vocabulary, model.context) == (VOCABULARY, CONTEXT)
    close(generation.score(model, tokens.tolist()), oracle(tmp_path, tokens))


@float32
@pytest.mark.parametrize("backend_name", ["torch"])
def test_a_model_whose_rows_would_share_a_state_is_refused(adapt, tmp_path):
    write(tmp_path, "recurrent_gemma", lru_width=64, attention_window_size=16)
    refused(adapt, tmp_path, Unsupported, "RecurrentGemmaForCausalLM", "apart")


@float32
def test_a_pickle_is_not_looked_at(adapt, own):
    (own / "model.safetensors").unlink()
    torch.save({}, own / "pytorch_model.bin")
    refused(adapt, own, BadCheckpoint, "safetensors")


@float32
def test_a_missing_tensor_is_not_made_up(adapt, own):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(own / "model.safetensors")
    name = "model.layers.1.self_attn.q_norm.weight"
    del tensors[name]
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    refused(adapt, own, BadCheckpoint, name)


@float32
def test_a_config_that_contradicts_the_tensors_is_refused(adapt, own):
    change(own, intermediate_size=96)
    refused(adapt, own, BadCheckpoint, str(own))


@float32
def test_an_adapter_for_another_model_is_refused(adapt, own):
    (own / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    refused(adapt, own, Unsupported, "adapter_config.json")


@float32
@pytest.mark.parametrize("value", [0, "512", True, 2**40])
def test_a_context_that_is_no_length_is_refused(adapt, own, value):
    change(own, max_position_embeddings=value)
    refused(adapt, own, BadCheckpoint)


@float32
def test_without_the_library_the_sentence_says_how_to_get_it(adapt, own, backend_name, monkeypatch):
    library, said = {
        "mlx": ("mlx_lm", "pip install mlx-lm"),
        "torch": ("transformers", 'pip install "crane-app[transformers]"'),
    }[backend_name]
    monkeypatch.setitem(sys.modules, library, None)
    refused(adapt, own, Unsupported, said)


@float32
@pytest.mark.parametrize("backend_name", ["mlx"])
def test_where_mlx_lm_leaves_out_the_window_the_context_ends_with_it(adapt, tmp_path):
    write(tmp_path, "gemma2", head_dim=16, sliding_window=32, query_pre_attn_scalar=16)
    model, tokens = adapt(tmp_path), text(32)
    assert model.context == 32
    assert "window" in model.notes[1]
    close(generation.score(model, tokens.tolist()), oracle(tmp_path, tokens))
