"""config.json in both published forms, and what no config may hold: every absurd value is refused by its name."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.errors import BadCheckpoint, CraneError, Unsupported
from crane_app.models import registry
from crane_app.models.config import DecoderConfig, read
from crane_app.models.weights import names
from tests.models.scramble import golden, golden_names

QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 199,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "rope_theta": 1e6,
}
QWEN2 = QWEN3 | {"architectures": ["Qwen2ForCausalLM"]}
MISTRAL = QWEN3 | {"architectures": ["MistralForCausalLM"]}
MOE = QWEN3 | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}


def same(a: DecoderConfig, b: DecoderConfig) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@pytest.mark.parametrize(("new", "old"), [("qwen3", "qwen3_v4"), ("hunyuan", "hunyuan_v4")])
def test_both_forms_of_a_config_say_the_same(new, old):
    assert same(read(golden(new).config), read(golden(old).config))


@pytest.mark.parametrize("case", golden_names())
def test_a_reference_config_gives_the_reference_names_and_shapes(case):
    """Also where a tied head may stand in the file: it is not asked for."""
    raw, shapes = golden(case).config, golden(case).shapes
    assert names(registry.find(raw).parameters(read(raw))) == shapes


def test_rope_parameters_win_over_the_older_fields():
    both = QWEN3 | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rope_scaling": {"type": "yarn"}}
    assert same(read(both), read(QWEN3 | {"rope_theta": 5e5}))


@pytest.mark.parametrize("scaling", [None, {}, {"rope_type": "default"}, {"type": "default"}])
def test_no_scaling_is_said_in_several_ways(scaling):
    assert same(read(QWEN3 | {"rope_scaling": scaling}), read(QWEN3))


def test_head_dim_may_be_missing_or_have_its_older_name():
    bare = {k: v for k, v in QWEN2.items() if k != "head_dim"} | {"num_attention_heads": 4}
    assert read(bare).dim == 16
    assert read(bare | {"head_dim": None, "attention_head_dim": 48}).dim == 48


def test_as_many_key_heads_as_heads_where_it_does_not_say():
    assert read({k: v for k, v in QWEN3.items() if k != "num_key_value_heads"}).groups == 6


ABSURD: list[tuple[str, Any]] = [
    ("head_dim", 0),
    ("head_dim", -2),
    ("head_dim", "32"),
    ("head_dim", True),
    ("head_dim", 33),
    ("head_dim", 2.0),
    ("head_dim", [32]),
    ("head_dim", 10**9),
    ("num_hidden_layers", 10**9),
    ("num_hidden_layers", 0),
    ("num_hidden_layers", -1),
    ("num_hidden_layers", "3"),
    ("num_hidden_layers", False),
    ("num_hidden_layers", None),
    ("num_hidden_layers", [3]),
    ("num_attention_heads", 7),
    ("num_attention_heads", 0),
    ("num_attention_heads", 10**12),
    ("num_attention_heads", float("nan")),
    ("num_key_value_heads", 4),
    ("num_key_value_heads", 0),
    ("num_key_value_heads", 12),
    ("num_key_value_heads", -2),
    ("num_key_value_heads", "2"),
    ("hidden_size", 0),
    ("hidden_size", 10**9),
    ("hidden_size", None),
    ("hidden_size", float("inf")),
    ("intermediate_size", 10**9),
    ("intermediate_size", {"a": 1}),
    ("vocab_size", 10**9),
    ("vocab_size", 10**4000),
    ("vocab_size", -5),
    ("vocab_size", True),
    ("max_position_embeddings", 0),
    ("max_position_embeddings", "512"),
    ("max_position_embeddings", 2**40),
    ("rms_norm_eps", -1e-6),
    ("rms_norm_eps", "1e-6"),
    ("rms_norm_eps", float("nan")),
    ("rms_norm_eps", float("inf")),
    ("rms_norm_eps", True),
    ("tie_word_embeddings", "yes"),
    ("tie_word_embeddings", 1),
    ("attention_bias", 0),
    ("mlp_bias", "false"),
    ("use_qk_norm", []),
    ("sliding_window", 0.5),
    ("sliding_window", -1),
    ("sliding_window", "4096"),
    ("layer_types", ["full_attention"]),
    ("layer_types", ["full_attention"] * 4),
    ("layer_types", []),
    ("layer_types", 3),
    ("layer_types", "full_attention"),
    ("layer_types", {"0": "full_attention"}),
    ("rope_theta", "1e6"),
    ("rope_theta", 0),
    ("rope_theta", None),
]


@pytest.mark.parametrize(("field", "value"), ABSURD, ids=lambda v: f"{v!r:.20}")
def test_an_absurd_value_is_refused_by_name(field, value):
    with pytest.raises(BadCheckpoint) as raised:
        read(QWEN3 | {field: value})
    assert field in str(raised.value)
    assert "config.json" in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("value", ["llama3", 8, ["llama3"], True])
def test_rope_parameters_must_be_an_object(field, value):
    with pytest.raises(BadCheckpoint, match="rope"):
        read(QWEN3 | {field: value})


@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"])
def test_a_size_that_is_missing_is_refused_by_name(field):
    with pytest.raises(BadCheckpoint, match=field):
        read({k: v for k, v in QWEN3.items() if k != field})


@pytest.mark.parametrize("value", ["gelu", None, 3, ["silu"]])
def test_another_activation_is_unsupported(value):
    with pytest.raises(Unsupported, match="hidden_act"):
        read(QWEN3 | {"hidden_act": value})


@pytest.mark.parametrize("kind", ["chunked_attention", "linear_attention", "", None, 3])
def test_a_layer_type_that_is_not_known_is_unsupported(kind):
    with pytest.raises(Unsupported, match="layer_types"):
        read(QWEN3 | {"layer_types": ["full_attention", kind, "full_attention"]})


def test_every_layer_of_mistral_has_the_window():
    assert read(MISTRAL | {"sliding_window": 8}).windows == (8, 8, 8)


def test_mistral_without_a_window_reads_everything():
    """Mistral-7B-v0.2 and later write null."""
    assert read(MISTRAL | {"sliding_window": None}).windows == (0, 0, 0)


def test_mistrals_window_is_4096_where_it_is_not_said():
    """The default of the reference's MistralConfig; null is something else."""
    assert read(MISTRAL).windows == (4096, 4096, 4096)


def test_qwen2_writes_a_window_that_it_does_not_use():
    said = {"sliding_window": 8, "max_window_layers": 1}
    assert read(QWEN2 | said).windows == (0, 0, 0)
    assert read(QWEN2 | said | {"use_sliding_window": False}).windows == (0, 0, 0)


@pytest.mark.parametrize(("first", "windows"), [(0, (8, 8, 8)), (1, (0, 8, 8)), (3, (0, 0, 0)), (28, (0, 0, 0))])
def test_qwen2s_window_begins_at_max_window_layers(first, windows):
    """transformers/models/qwen2/configuration_qwen2.py: `i >= max_window_layers` slides."""
    said = {"sliding_window": 8, "max_window_layers": first, "use_sliding_window": True}
    assert read(QWEN2 | said).windows == windows


def test_qwen2s_max_window_layers_is_28_where_it_is_not_said():
    """The default of the reference's Qwen2Config and Qwen3Config."""
    assert read(QWEN2 | {"sliding_window": 8, "use_sliding_window": True}).windows == (0, 0, 0)


def test_layer_types_say_which_layers_have_the_window():
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    assert read(QWEN3 | {"sliding_window": 8, "layer_types": types}).windows == (8, 0, 8)


@pytest.mark.parametrize(
    "said",
    [
        {"layer_types": ["sliding_attention"] * 3},
        {"layer_types": ["sliding_attention"] * 3, "sliding_window": None},
    ],
)
def test_a_sliding_layer_without_a_window_contradicts_itself(said):
    with pytest.raises(BadCheckpoint, match="sliding_window"):
        read(QWEN3 | said)


def test_qwen2_has_biases_that_its_config_does_not_name():
    assert read(QWEN2).qkv_bias
    assert not read(QWEN2).o_bias
    assert not read(QWEN3).qkv_bias
    assert read(QWEN3 | {"attention_bias": True}).o_bias


def test_experts_are_read():
    c = read(MOE)
    assert (c.experts, c.top_k, c.expert_inner, c.normalise) == (8, 2, 48, True)
    assert c.expert_layers == (True, True, True)


def test_some_layers_of_a_mixture_are_dense():
    assert read(MOE | {"decoder_sparse_step": 2}).expert_layers == (False, True, False)
    assert read(MOE | {"mlp_only_layers": [0, 2]}).expert_layers == (False, True, False)
    assert read(MOE | {"mlp_only_layers": None}).expert_layers == (True, True, True)


def test_the_number_of_experts_has_two_names():
    renamed = {k: v for k, v in MOE.items() if k != "num_experts"} | {"num_local_experts": 8}
    assert same(read(renamed), read(MOE))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_experts", 0),
        ("num_experts", 10**9),
        ("num_experts", "8"),
        ("num_experts", None),
        ("num_experts_per_tok", 9),
        ("num_experts_per_tok", 0),
        ("num_experts_per_tok", None),
        ("moe_intermediate_size", 0),
        ("moe_intermediate_size", True),
        ("moe_intermediate_size", None),
        ("norm_topk_prob", 1),
        ("decoder_sparse_step", 0),
        ("decoder_sparse_step", -1),
        ("decoder_sparse_step", "1"),
        ("mlp_only_layers", 3),
        ("mlp_only_layers", {"0": 1}),
        ("mlp_only_layers", ["0"]),
        ("mlp_only_layers", [True]),
    ],
)
def test_absurd_experts_are_refused_by_name(field, value):
    with pytest.raises(BadCheckpoint, match=field):
        read(MOE | {field: value})


def test_code_in_the_folder_is_not_looked_at(tmp_path):
    """Not imported even where a file of that name stands beside the config."""
    custom = QWEN3 | {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}
    assert same(read(custom), read(QWEN3))
    assert registry.find(custom).__name__ == "crane_app.models.decoder"


def test_an_unknown_architecture_is_told_the_known_ones():
    with pytest.raises(Unsupported) as raised:
        registry.find({"architectures": ["GPT2LMHeadModel"]})
    assert "GPT2LMHeadModel" in str(raised.value)
    assert all(name in str(raised.value) for name in registry.MODULES)


def test_an_architecture_with_a_page_for_a_name_is_told_briefly():
    with pytest.raises(Unsupported) as raised:
        registry.find({"architectures": ["x\n" * 100_000]})
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [None, [], "Qwen3ForCausalLM", [3], [None], {"a": 1}, 7])
def test_architectures_must_be_a_list_of_names(value):
    with pytest.raises(BadCheckpoint, match="architectures"):
        registry.find({"architectures": value})
    with pytest.raises(BadCheckpoint, match="architectures"):
        registry.find({})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted(
    {*MOE, "rope_scaling", "rope_parameters", "layer_types", "sliding_window", "use_sliding_window", "mlp_bias"}
    | {"attention_bias", "attention_head_dim", "max_window_layers", "num_local_experts", "use_qk_norm"}
)


@given(st.sampled_from(["Qwen3ForCausalLM", "MistralForCausalLM", "Qwen3MoeForCausalLM"]), st.data())
def test_any_json_in_any_fields_is_read_or_refused_with_a_sentence(architecture, data):
    changed = data.draw(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, min_size=1, max_size=3))
    raw = json.loads(json.dumps(MOE | changed))
    if "architectures" not in changed:
        raw["architectures"] = [architecture]
    said = "it was read"
    try:
        module = registry.find(raw)
        config = module.read(raw)
        list(names(module.parameters(config)))
    except CraneError as error:
        said = str(error)
    assert 0 < len(said) < 600


def test_rope_scaling_that_mixes_both_forms_is_llama3s():
    """transformers 4 wrote `rope_type` and, for older readers, `type` beside it."""
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    both = read(QWEN3 | {"rope_scaling": {**llama3, "rope_type": "llama3", "type": "llama3"}})
    assert same(both, read(QWEN3 | {"rope_scaling": {**llama3, "type": "llama3"}}))
    assert not same(both, read(QWEN3))
