"""Keys and values in 8 bits: how it is asked for, and how much it changes what a model says.

`pytest -s` prints the table: mean negative log-likelihood of the same tokens in nats, and logits by their root mean
square.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from crane_app.backends import choose
from crane_app.engine.engine import Engine
from crane_app.engine.generation import score, surprise
from crane_app.engine.loading import load
from crane_app.errors import BadInput, Unsupported
from tests.engine.nulls import events
from tests.models.scramble import golden


@pytest.mark.parametrize("case", ["qwen3", "qwen2", "llama", "mistral", "hunyuan", "near_flat"])
def test_what_a_model_expects_changes_little(tmp_path, backend_name, case):
    """Their heads are of 16 and 32 numbers: those of real models, of 64 to 128, lose less."""
    one = golden(case)
    folder, tokens = one.write(tmp_path / "m"), one.arrays["tokens"].tolist()
    full, ours = (load(folder, backend_name, "cpu", "float32", kv_cache=way) for way in ("auto", "int8"))
    want, got = score(full, tokens), score(ours, tokens)
    more = surprise(ours, tokens) - surprise(full, tokens)
    off, size = np.abs(got - want), np.sqrt(np.square(want).mean())
    usual, most = np.sqrt(np.square(off).mean()) / size, off.max() / size
    print(f"\n{backend_name:6} {case:10} nll {more:+.4f} logits {usual:.4f}, at most {most:.3f}")
    assert 0 < usual < 0.03
    assert abs(more) < 0.01


def test_the_card_tells_how_keys_and_values_are_kept(tmp_path, backend_name):
    folder = golden("qwen3").write(tmp_path / "m")
    engine = Engine()
    try:
        cards = []
        for way in ("auto", "int8"):
            how = backend_name, "cpu", "float32", None, False, way
            cards.append(events(engine.load(str(folder), way, *how))[0][-1].value)
        assert [card.kv_cache for card in cards] == ["auto", "int8"]
    finally:
        engine.close(drain=False)


def test_a_position_takes_a_byte_for_each_number_and_four_for_all_of_a_head(tmp_path, backend_name):
    runner = load(golden("qwen3").write(tmp_path / "m"), backend_name, "cpu", "bfloat16", kv_cache="int8").runner
    row = runner.cache.open(1)
    wanted = sum(2 * slot.heads * (slot.dim + 4) for slot in runner.layout)
    assert runner.cache.nbytes() == runner.cache.room(row) * wanted


def test_a_way_that_there_is_not_is_named(tmp_path, backend_name):
    with pytest.raises(BadInput, match=r"called 'int4'\. There are: auto, int8"):
        load(golden("qwen3").write(tmp_path / "m"), backend_name, "cpu", kv_cache="int4")


def test_a_gpu_of_nvidia_refuses_it(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(Unsupported, match="8 bits on an NVIDIA GPU"):
        choose("torch", "cuda", "bfloat16", "int8")


def test_that_an_adapter_keeps_its_own_is_said(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from crane_app.backends.torch.backend import Backend

    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["MysteryForCausalLM"], "model_type": "m"}))
    facts = SimpleNamespace(architecture="Mystery", vocabulary=9, context=9, nbytes=1, notes=())
    monkeypatch.setattr(Backend, "adapt", lambda self, folder: (SimpleNamespace(batched=False), facts))
    notes = load(tmp_path, "torch", "cpu", kv_cache="int8").notes
    assert any("--kv-cache-dtype has no effect" in note for note in notes)
    assert not any("--kv-cache-dtype" in note for note in load(tmp_path, "torch", "cpu").notes)
