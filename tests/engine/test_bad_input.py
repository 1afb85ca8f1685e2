"""What nobody should ask for, and what breaks under one request: a sentence for that one, and the others go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from crane_app.contract import Work
from crane_app.engine.engine import Engine
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, Job, Request
from crane_app.media.tokenizer import Tokenizer
from tests.engine.nulls import VOCABULARY, alone, engine, events, resolved, shelved, table, tokens_of

CONTEXT = 500
TEN_MB = 10 * 2**20


@pytest.fixture
def running() -> Iterator[Engine]:
    made = engine(shelved(NullRunner(table, VOCABULARY), context=CONTEXT))
    yield made
    made.close(drain=False)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A byte-level tokenizer of the library, as models have it."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([Path(__file__).read_text("utf-8")], trainer)
    folder = tmp_path_factory.mktemp("words")
    library.save(str(folder / "tokenizer.json"))
    return Tokenizer.open(folder)


@pytest.fixture
def speaking(spoken: Tokenizer) -> Iterator[Engine]:
    model = shelved(NullRunner(lambda token, position: (token * 7 + position) % 256, 400), context=CONTEXT)
    model.tokenizer = spoken
    made = engine(model)
    yield made
    made.close(drain=False)


def ask(made: Engine, **how) -> tuple[list, str, str, str]:
    """Pieces, and the end's reason, kind and sentence; another request still gets what is its own."""
    asked = how.pop("asked", Asked(max_tokens=5, ignore_eos=True))
    found, end = events(made.submit(Request("null", asked=asked, endpoint="greedy", **how)))
    assert events(made.submit(Request("null", tokens=(1, 2), asked=Asked(max_tokens=3), endpoint="greedy")))[0]
    return found, end.reason, end.kind, end.error


def refused(made: Engine, *said: str, kind: str = "BadInput", **how) -> None:
    found, reason, was, error = ask(made, **how)
    assert (found, reason, was) == ([], "error", kind), error
    assert all(part in error for part in said), error
    assert len(error) < 300


# The prompt


@pytest.mark.parametrize("length", [CONTEXT, CONTEXT + 1, 100_000])
def test_a_prompt_beyond_the_context_says_both_counts(running, length):
    refused(running, f"{length} tokens", str(CONTEXT), kind="PromptTooLong", tokens=(1,) * length)


def test_a_prompt_that_just_fits_gives_one_token(running):
    found, reason, _, _ = ask(running, tokens=(1,) * (CONTEXT - 1))
    assert len(tokens_of(found)) == 1
    assert reason == "length"


@pytest.mark.parametrize("given", [{"tokens": ()}, {"text": ""}])
def test_an_empty_prompt(running, given):
    refused(running, "empty", **given)


def test_neither_or_both_of_the_forms_of_a_prompt(running):
    refused(running, "exactly one")
    refused(running, "exactly one", tokens=(1,), text="a")
    refused(running, "chat template", messages=({"role": "user", "content": "a"},))


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 2**31, 2**40, -(2**40), 10**30])
def test_an_id_outside_the_vocabulary_is_named(running, wrong):
    refused(running, str(wrong), str(VOCABULARY), tokens=(1, wrong, 2))


@pytest.mark.parametrize("wrong", [1.0, "1", None, True])
def test_ids_are_whole_numbers(running, wrong):
    refused(running, "whole numbers", tokens=(1, wrong))


@pytest.mark.parametrize("wrong", [-1, VOCABULARY, 2**40])
def test_ids_elsewhere_are_looked_at_too(running, wrong):
    refused(running, "stop_token_ids", str(VOCABULARY), tokens=(1,), asked=Asked(stop_token_ids=(wrong,)))
    refused(running, "logit_bias", str(VOCABULARY), tokens=(1,), asked=Asked(logit_bias={wrong: 1.0}))


def test_an_end_of_the_models_own_outside_its_vocabulary_is_no_fault_of_the_request():
    model = shelved(NullRunner(table, VOCABULARY))
    object.__setattr__(model.card, "eos", (VOCABULARY, 151_645, -1))
    made = engine(model)
    found, reason, _, _ = ask(made, tokens=(1,), asked=Asked(max_tokens=30, min_tokens=5))
    assert tokens_of(found) == alone((1,), resolved(30, stop_ids=()))[0]
    assert reason == "length"
    made.close()


# Texts


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb\ud800\ud800", "\0", "a\0\0b", "\ufffe\uffff", "\U0010ffff" * 9])
def test_characters_that_are_none(speaking, text):
    """Lone surrogates and NUL count as characters of a text; they break neither it nor what comes after."""
    found, reason, _, error = ask(speaking, text=text)
    assert reason == "length", error
    assert len(tokens_of(found)) == 5
    (part,) = speaking.open(Job("tokenize", text))
    (back,) = speaking.open(Job("detokenize", part.value))
    assert back.value == text.encode("utf-8", "replace").decode().replace("?", "\ufffd")


def test_a_stop_text_that_nobody_can_write_never_stops(speaking):
    _, reason, _, error = ask(speaking, text="a", asked=Asked(max_tokens=5, stop=("\ud800", "\0\0\0"), ignore_eos=True))
    assert reason == "length", error


@pytest.mark.parametrize("text", ["Words and more words.\n" * (TEN_MB // 22), "x" * TEN_MB], ids=["words", "one word"])
def test_ten_megabytes_are_refused_and_hold_up_nobody(speaking, text):
    """Others have got all their tokens before the paste is read; that takes some seconds."""
    paste = speaking.submit(Request("null", text=text))
    asked = Asked(max_tokens=50, ignore_eos=True)
    other, end = events(speaking.submit(Request("null", tokens=(1,), asked=asked)))
    assert len(tokens_of(other)) == 50
    assert end.reason == "length"
    assert paste.id in speaking._tracked, "it is still being read"
    found, end = events(paste, 60.0)
    assert not found
    assert end.kind == "PromptTooLong"
    assert str(CONTEXT) in end.error


def test_more_text_than_anybody_reads_is_not_read_at_all(speaking, monkeypatch):
    monkeypatch.setattr(Tokenizer, "encode", lambda *args: pytest.fail("it is read"))
    refused(speaking, "characters", text="x" * (17 * 2**20))


def test_texts_without_a_tokenizer():
    made = engine(shelved(NullRunner(table, VOCABULARY), letters=False))
    refused(made, "no tokenizer", "tokens", text="abc")
    refused(made, "no tokenizer", "stop_token_ids", tokens=(1,), asked=Asked(stop=("x",)))
    found, _, _, _ = ask(made, tokens=(1,))
    assert tokens_of(found) == alone((1,), resolved(5, stop_ids=()))[0]
    made.close()


def test_template_variables_that_are_the_templates_own(running):
    refused(running, "tokenizer", messages=({"role": "user", "content": "a"},), template={"tokenizer": 1})


# Faults


@pytest.mark.parametrize("error", [MemoryError("no memory"), RuntimeError("CUDA error"), ValueError("row"), OSError()])
@pytest.mark.parametrize("when", ["on_launch", "on_read"])
def test_a_fault_in_one_row_ends_that_request_alone(when, error):
    runner = NullRunner(table, VOCABULARY)

    def fault(works: Sequence[Work]) -> None:
        """In the second chunk of the prompt of threes."""
        if any(w.tokens is not None and len(w.tokens) == 44 and w.tokens[0] == 3 for w in works):
            raise error

    setattr(runner, when, fault)
    made, asked = engine(shelved(runner)), Asked(max_tokens=40, ignore_eos=True)
    prompts = [(1,) * 280, (3,) * 300, (2,), (4,) * 600, (5, 6)]
    streams = [made.submit(Request("null", tokens=p, asked=asked, endpoint="greedy")) for p in prompts]
    for stream, prompt in zip(streams, prompts, strict=True):
        found, end = events(stream)
        if prompt[0] == 3:
            assert (end.reason, end.kind) == ("error", "DeviceLost")
            assert type(error).__name__ in end.error
        else:
            assert end.reason == "length"
            assert tokens_of(found) == alone(prompt, resolved(40, stop_ids=()))[0]
    made.close()
    assert runner.cache.nbytes() == 0


def test_a_device_that_is_out_of_memory_for_all_refuses_each():
    """Nothing hangs, and when it has memory again it serves."""
    runner = NullRunner(table, VOCABULARY, budget=100)
    made = engine(shelved(runner))
    for _ in range(5):
        found, end = events(made.submit(Request("null", tokens=(1,))))
        assert (end.reason, end.kind) == ("error", "NotEnoughMemory")
        assert not tokens_of(found)
    runner.cache.budget = 2**40
    assert events(made.submit(Request("null", tokens=(1,), asked=Asked(max_tokens=2))))[1].reason == "length"
    made.close()
