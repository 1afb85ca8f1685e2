"""Moonshine against what transformers computed, alone and in company, and planted faults that must be seen."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from crane_app.contract import Work
from crane_app.engine.loading import Loaded, load
from crane_app.errors import BadCheckpoint, Unsupported
from crane_app.models import registry
from crane_app.models.weights import names
from tests.models.moonshine.cases import HERE, SOUNDS, STEPS, Case, case, case_names, heard, published
from tests.models.moonshine.parity import FAULTS, decode, encoded, opening, ratio, score, worst
from tests.models.parity import LARGEST, RATIO


@pytest.fixture(params=case_names())
def known(request) -> Case:
    return case(request.param)


@pytest.fixture
def loaded(known, backend_name, dtype, tmp_path) -> Loaded:
    return load(known.write(tmp_path / known.name, dtype), backend_name, "cpu", dtype)


float32 = pytest.mark.parametrize("dtype", ["float32"])


@float32
@pytest.mark.parametrize("which", SOUNDS)
def test_the_encoder_gives_what_transformers_gives(loaded, known, which):
    states = loaded.backend.numpy(encoded(loaded, heard(known, which)))
    want = known.arrays[f"states_{which}"]
    assert states.shape == want.shape
    assert np.abs(states - want).max() < LARGEST


@float32
def test_logits_are_those_of_transformers(loaded, known):
    assert worst(loaded, known) < LARGEST


@float32
@pytest.mark.parametrize("which", SOUNDS)
def test_greedy_tokens_are_those_of_transformers(loaded, known, which):
    [tokens], _ = decode(loaded, [heard(known, which)], STEPS)
    np.testing.assert_array_equal(tokens, known.arrays[f"greedy_{which}"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_it_errs_hardly_more_than_transformers(loaded, known, dtype):
    """Against float32 on the same rounded weights; `python -m tests.models.moonshine.parity` shows the ratios."""
    assert ratio(loaded, known, dtype) < RATIO


@float32
@pytest.mark.parametrize("which", SOUNDS)
def test_token_by_token_gives_what_the_whole_gives(loaded, known, which):
    sound = heard(known, which)
    [tokens], [logits] = decode(loaded, [sound], STEPS)
    whole = score(loaded, sound, np.array([loaded.listener.start, *tokens[:-1]], np.int32))
    assert np.abs(whole - logits).max() < LARGEST


@float32
def test_sounds_in_one_step_give_the_same_bits_as_alone(loaded, known):
    """Of unlike length, and each other's neighbours from the first step on."""
    sounds = [heard(known, "long"), heard(known, "short"), heard(known, "long")[2000:]]
    tokens, logits = decode(loaded, sounds, 8)
    for i, sound in enumerate(sounds):
        [own_tokens], [own_logits] = decode(loaded, [sound], 8)
        np.testing.assert_array_equal(tokens[i], own_tokens)
        np.testing.assert_array_equal(logits[i], own_logits)


@float32
def test_a_sound_that_comes_later_joins_the_others(loaded, known):
    """Its first step, which fills a memory, beside the second of another."""
    runner = loaded.runner
    one, other = (encoded(loaded, heard(known, which)) for which in ("long", "short"))
    first = opening(loaded, one, [loaded.listener.start], 1)
    before = runner.launch([first])
    second = opening(loaded, other, [loaded.listener.start], 1)
    result = runner.launch([Work(first.row, None), second], before).read()
    drawn = [before.read().drawn[0][0].token, *(row[0].token for row in result.drawn)]
    assert drawn == [*known.arrays["greedy_long"][:2], known.arrays["greedy_short"][0]]


@float32
@pytest.mark.parametrize("known", [case("small")], ids=["small"])
def test_states_must_be_as_many_as_the_work_says(loaded, known):
    states = encoded(loaded, heard(known, "short"))
    work = opening(loaded, states, [1], 1)
    for wrong in (replace(work, memory=work.memory - 1), replace(work, states=None), replace(work, memory=0)):
        with pytest.raises(ValueError, match="columns of memory"):
            loaded.runner.launch([wrong])
    assert loaded.runner.cache.length(work.row) == 0


@float32
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(loaded, known, fault):
    fault(loaded)
    assert worst(loaded, known) > 10 * LARGEST


@float32
@pytest.mark.parametrize("known", [case("small")], ids=["small"])
@pytest.mark.parametrize(("samples", "tokens"), [(895, 1), (16_000, 6), (56_000, 21), (160_000, 60), (600_000, 64)])
def test_the_limit_is_six_tokens_a_second_within_the_context(loaded, samples, tokens):
    """The card of the published models says 6.5; transformers' feature extractor has no limit."""
    assert loaded.listener.limit(samples) == tokens


@float32
@pytest.mark.parametrize("known", [case("small")], ids=["small"])
@pytest.mark.parametrize(("samples", "frames"), [(895, 1), (1278, 1), (1279, 2), (16_000, 40), (9_000, 22)])
def test_a_frame_is_384_samples_and_the_first_needs_895(loaded, samples, frames):
    assert loaded.listener.shortest == 895
    sound = np.linspace(-0.5, 0.5, samples).astype(np.float32)
    assert encoded(loaded, sound).shape == (frames, 48)


PUBLISHED = {"moonshine-tiny": (160, 27_092_736), "moonshine-base": (210, 61_513_920)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_those_of_the_published_checkpoint(name):
    raw, recorded = published(name)
    module = registry.find(raw)
    parameters = module.parameters(module.read(raw))
    assert names(parameters) == recorded
    assert (len(recorded), sum(map(math.prod, recorded.values()))) == PUBLISHED[name]
    config = module.read(raw)
    assert (config.context, len(config.inverse), config.start) == (194, 16, 1)


def changed(**fields):
    raw, _ = published("moonshine-tiny")
    return {**raw, **fields}


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"encoder_hidden_act": "relu"}, Unsupported, "gelu only"),
        ({"decoder_hidden_act": "gelu"}, Unsupported, "silu only"),
        ({"encoder_num_attention_heads": 4}, Unsupported, '"encoder_num_attention_heads" must be 8'),
        ({"decoder_num_key_value_heads": 2}, Unsupported, '"decoder_num_key_value_heads" must be 8'),
        ({"hidden_size": 290}, BadCheckpoint, "not a multiple"),
        ({"hidden_size": None}, BadCheckpoint, '"hidden_size" must be a whole number'),
        ({"partial_rotary_factor": 0.05}, BadCheckpoint, "turns 1 of 36"),
        ({"partial_rotary_factor": "all"}, BadCheckpoint, '"partial_rotary_factor" must be a number'),
        ({"decoder_start_token_id": 32768}, BadCheckpoint, '"decoder_start_token_id"'),
        ({"max_position_embeddings": 0}, BadCheckpoint, '"max_position_embeddings"'),
    ],
)
def test_a_config_that_is_not_moonshines_is_refused_with_the_field(fields, error, says):
    raw = changed(**fields)
    with pytest.raises(error, match=says):
        registry.find(raw).read(raw)


def test_what_a_config_leaves_out_is_what_transformers_assumes():
    left_out = ("partial_rotary_factor", "encoder_num_key_value_heads", "decoder_num_key_value_heads", "attention_bias")
    raw = {k: v for k, v in changed().items() if k not in left_out}
    config = registry.find(raw).read(raw)
    assert (len(config.inverse), config.bias, config.tied) == (16, False, True)


@pytest.mark.oracle
@pytest.mark.skipif(not find_spec("transformers"), reason="transformers is not installed: pip install -e .[oracle]")
@pytest.mark.parametrize("name", case_names())
def test_a_golden_is_what_the_reference_computes(tmp_path, name):
    done = subprocess.run(
        [sys.executable, HERE / "make.py", "--into", tmp_path, name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / name / "golden.npz") as new:
        old = case(name).arrays
        assert set(new) == set(old)
        for key in new:
            loose = {"bfloat16": 0.1, "float16": 0.02}.get(key.rpartition("_")[2], 2e-5)
            np.testing.assert_allclose(new[key], old[key], rtol=0, atol=loose, err_msg=key)
