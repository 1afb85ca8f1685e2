"""Texts as vectors and the log-probabilities of texts, against logits that other tests hold to transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from crane_app.contract import BLOCK
from crane_app.engine import embedding, generation
from crane_app.engine.engine import Engine
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Job, Part
from tests.engine.nulls import END, VOCABULARY, engine, events, shelved, table
from tests.models.scramble import golden, scrambled

LONG = BLOCK + 40


@pytest.fixture(params=["mlx", "torch"], scope="module")
def served(request, tmp_path_factory) -> Iterator[Engine]:
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[request.param], exc_type=ImportError)
    case = golden("qwen3")
    roomy = replace(case, config={**case.config, "max_position_embeddings": 1024})
    made = Engine()
    events(made.load(str(roomy.write(tmp_path_factory.mktemp("m") / "m")), "m", request.param, "cpu", "float32"))
    yield made
    made.close()


def given(stream) -> dict:
    found, end = events(stream, 60)
    assert end.reason == "stop", end.error
    (part,) = (event for event in found if isinstance(event, Part))
    return part.value


def logits_of(served: Engine, tokens: list[int]) -> np.ndarray:
    """float64 [L, V], made on the engine's own thread."""
    found: list[np.ndarray] = []
    (model,) = served._shelf
    served._ask(lambda: found.append(generation.score(model.loaded, tokens).astype(np.float64)))
    return found[0]


def head(served: Engine) -> np.ndarray:
    """float64 [V, E]: what turns a state into logits."""
    (model,) = served._shelf
    config = model.loaded.config
    name = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return scrambled(name, (config["vocab_size"], config["hidden_size"])).astype(np.float64)


def text(length: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(0, 199, length).tolist()


@pytest.mark.parametrize("length", [1, 9, BLOCK, LONG])
def test_a_vector_is_the_state_that_the_logits_are_made_of(served, length):
    """Of the last token, or of all of them on the average, since the head is linear."""
    tokens = text(length)
    logits, w = logits_of(served, tokens), head(served)
    for pooling, want in (("last", logits[-1]), ("mean", logits.mean(0))):
        found = given(served.embed("m", [tokens], pooling, normalise=False))
        assert found["tokens"] == length
        assert found["vectors"].dtype == np.float32
        np.testing.assert_allclose(found["vectors"][0] @ w.T, want, atol=2e-4 * np.abs(want).max())


def test_vectors_have_length_one_and_do_not_depend_on_each_other(served):
    texts = [text(9), text(LONG, 2), text(3, 3)]
    together = given(served.embed("m", texts))["vectors"]
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    alone = [given(served.embed("m", [one]))["vectors"][0] for one in texts]
    np.testing.assert_array_equal(together, alone)
    plain = given(served.embed("m", texts, normalise=False))["vectors"]
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), together, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, BLOCK, BLOCK + 1, LONG])
def test_a_texts_log_probabilities_are_those_of_its_logits(served, length):
    tokens = text(length)
    logits = logits_of(served, tokens)
    peak = logits.max(-1, keepdims=True)
    scores = logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))
    found = given(served.score("m", tokens, top=3))
    assert found["tokens"] == tokens
    assert [drawn.token for drawn in found["drawn"]] == tokens[1:]
    for at, drawn in enumerate(found["drawn"]):
        assert drawn.logprob == pytest.approx(scores[at, tokens[at + 1]], abs=2e-5)
        assert [id for id, _ in drawn.top] == np.argsort(-scores[at], kind="stable")[:3].tolist()
        assert [logprob for _, logprob in drawn.top] == pytest.approx(np.sort(scores[at])[::-1][:3].tolist(), abs=2e-5)
    bare = given(served.score("m", tokens))["drawn"]
    assert [(d.token, d.logprob, d.top) for d in bare] == [(d.token, d.logprob, ()) for d in found["drawn"]]


def test_nothing_is_left_of_either(served):
    given(served.embed("m", [text(LONG)]))
    given(served.score("m", text(LONG)))
    served.flush()
    assert served.stats().cache_nbytes == 0
    (model,) = served._shelf
    assert model.cache.nbytes() == 0


@pytest.mark.parametrize(
    ("texts", "how", "said"),
    [
        ([], {}, "list of texts"),
        ([[]], {}, "empty"),
        ([[10**6]], {}, "vocabulary"),
        ([["a"]], {}, "list of ids"),
        ([[1] * 2000], {}, "context"),
        ([[1]], {"pooling": "first"}, "last, mean"),
        (["words"], {}, "tokenizer"),
    ],
)
def test_what_cannot_be_embedded_is_told(served, texts, how, said):
    _, end = events(served.embed("m", texts, **how))
    assert (end.reason, said in end.error) == ("error", True), end.error


@pytest.mark.parametrize("top", [-1, 21, True])
def test_a_number_of_likeliest_that_is_none(served, top):
    _, end = events(served.score("m", [1, 2], top=top))
    assert end.kind == "BadInput"


def test_the_texts_of_what_is_scored_are_told_when_asked_for():
    """A token that begins a character has no text, the one that ends it has all; joined they are the text."""
    plain, bare = shelved(NullRunner(table, VOCABULARY)), shelved(NullRunner(table, VOCABULARY), "bare", letters=False)
    made = engine(plain, bare)
    try:
        found = given(made.open(Job("score", [1, 8, 11, 12, 2, END], {"spell": True}, "null")))
        assert found["texts"] == ["b", "the ", "", "é", "c", ""]
        assert {id: found["named"][id] for id in (1, 8, 12)} == {1: "b", 8: "the ", 12: "\ufffd"}
        assert found.keys() - given(made.score("null", [1, 8])).keys() == {"texts", "named"}
        _, end = events(made.open(Job("score", [1, 8], {"spell": True}, "bare")))
        assert (end.kind, "no tokenizer" in end.error) == ("BadInput", True)
    finally:
        made.close()


def test_more_numbers_than_a_message_holds_are_refused(monkeypatch):
    monkeypatch.setattr(embedding, "MOST_SCORES", 10)
    made = engine(shelved(NullRunner(table, VOCABULARY)))
    try:
        assert len(given(made.score("null", [1] * 10))["drawn"]) == 9
        _, end = events(made.score("null", [1] * 3, top=3))
        assert (end.kind, "2 can be scored" in end.error) == ("BadInput", True), end.error
    finally:
        made.close()


def test_kept_beginnings_give_way_and_too_little_memory_is_told():
    made = engine(shelved(NullRunner(table, VOCABULARY, budget=4 * BLOCK * 8)))
    try:
        (model,) = made._shelf
        row = model.cache.open(BLOCK)
        assert given(made.embed("null", [[5] * 10], "mean", normalise=False))["vectors"].tolist() == [[5.0, 4.5]]
        _, end = events(made.embed("null", [[5] * (3 * BLOCK + 1)]))
        assert end.kind == "NotEnoughMemory"
        model.cache.close(row)
        assert model.cache.nbytes() == 0
    finally:
        made.close()
