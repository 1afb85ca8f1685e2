"""The job that turns speech into text, on tiny checkpoints: what it says, when it stops, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crane_app.engine import generation, transcribing
from crane_app.engine.engine import Engine
from crane_app.engine.jobs import loading_job
from crane_app.engine.loading import How
from crane_app.engine.memory import Memory
from crane_app.engine.models import Shelf
from crane_app.engine.request import Asked, Job, Part, Request
from crane_app.engine.transcribing import RATE, transcribe
from crane_app.errors import BadInput
from crane_app.models import moonshine
from tests.chat_checkpoint import write_chat
from tests.engine.nulls import events, tokens_of
from tests.models.moonshine.cases import SOUNDS, STEPS, case, heard
from tests.models.scramble import golden
from tests.speech_checkpoint import write_speech

KNOWN = case("small")


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close(drain=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_speech(tmp_path / "ears")


def load(engine: Engine, folder: Path, backend: str = "torch"):
    """The card."""
    found, end = events(engine.load(str(folder), backend=backend, device="cpu", dtype="float32"))
    assert end.reason == "stop", end.error
    return found[-1].value


def ask(sound, model: str = "ears", **options) -> Job:
    return Job("transcribe", sound, options, model, lane="dictation")


def said(engine: Engine, sound, **options) -> dict:
    found, end = events(engine.open(ask(sound, **options)))
    assert end.reason == "stop", end.error
    [part] = found
    return part.value


def shelved(folder: Path, backend: str = "torch") -> Shelf:
    """A shelf with this model, on this thread."""
    shelf = Shelf(Memory())
    for _ in loading_job(shelf, str(folder), None, How(backend, "cpu", "float32")):
        pass
    return shelf


def test_the_card_says_that_it_hears_and_does_not_chat(engine, folder):
    card = load(engine, folder)
    assert (card.hears, card.chat, card.batched) == (True, False, True)
    assert card.architecture == "MoonshineForConditionalGeneration"
    assert not any("template" in note for note in card.notes)


def test_a_chat_model_does_not_hear(engine, tmp_path):
    assert not load(engine, write_chat(tmp_path / "tiny")).hears
    _, end = events(engine.open(ask(heard(KNOWN, "short"), "tiny")))
    assert (end.kind, end.error) == (
        "BadInput",
        "The model 'tiny' does not hear. Choose a speech model, such as Moonshine.",
    )


def test_a_speech_model_does_not_chat(engine, folder):
    load(engine, folder)
    _, end = events(engine.submit(Request("ears", text="Hello")))
    assert end.kind == "BadInput"
    assert "turns speech into text" in end.error


@pytest.mark.parametrize("which", SOUNDS)
def test_tokens_are_those_of_transformers_and_text_is_theirs(engine, folder, backend_name, which):
    load(engine, folder, backend_name)
    heard_as = said(engine, heard(KNOWN, which), max_tokens=STEPS)
    assert heard_as["tokens"] == KNOWN.arrays[f"greedy_{which}"].tolist()
    [part] = events(engine.open(Job("detokenize", heard_as["tokens"], model="ears")))[0]
    assert heard_as["text"] == part.value.strip() != ""


@pytest.mark.parametrize("seconds", [0.1, 0.6, 1.0, 2.5])
def test_what_never_ends_is_cut_at_six_tokens_a_second(engine, tmp_path, seconds):
    load(engine, write_speech(tmp_path / "ears", eos=None))
    sound = np.resize(heard(KNOWN, "long"), int(seconds * RATE))
    assert len(said(engine, sound)["tokens"]) == max(1, int(6 * seconds))


def test_another_limit_would_be_seen(engine, tmp_path, monkeypatch):
    load(engine, write_speech(tmp_path / "ears", eos=None))
    monkeypatch.setattr(moonshine, "TOKENS", 7)
    assert len(said(engine, heard(KNOWN, "long"))["tokens"]) != 6


def test_the_token_that_ends_it_is_not_told(engine, tmp_path):
    greedy = KNOWN.arrays["greedy_long"].tolist()
    load(engine, write_speech(tmp_path / "ears", eos=greedy[4]))
    assert said(engine, heard(KNOWN, "long"), max_tokens=20)["tokens"] == greedy[: greedy.index(greedy[4])]


@pytest.mark.parametrize("asked", [0, -1, 65, 1.5, "9", True])
def test_max_tokens_that_is_no_number_of_tokens(engine, folder, asked):
    load(engine, folder)
    _, end = events(engine.open(ask(heard(KNOWN, "short"), max_tokens=asked)))
    assert end.error.startswith("max_tokens must be a whole number from 1 to 64")


BAD = {
    "empty": (np.zeros(0, np.float32), "too short for a word"),
    "a click": (np.ones(800, np.float32), "too short for a word"),
    "silence": (np.zeros(RATE, np.float32), "is silent. Check that the microphone is on"),
    "a hum below hearing": (np.full(RATE, 5e-5, np.float32), "is silent"),
    "too long": (np.ones(65 * RATE, np.float32), "has 65 seconds; at most 64 fit. Cut it at its pauses"),
    "not a number": (np.array([0.1] * RATE + [np.nan], np.float32), "values that are not numbers"),
    "infinite": (np.array([0.1] * RATE + [-np.inf], np.float32), "values that are not numbers"),
    "two channels": (np.ones((RATE, 2), np.float32), "samples of one channel"),
    "whole numbers": (np.ones(RATE, np.int16), "as floating-point numbers"),
    "a list": ([0.1] * RATE, "samples of one channel"),
    "a text": ("hello", "samples of one channel"),
    "nothing": (None, "samples of one channel"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_heard_is_refused_with_a_sentence(engine, folder, what):
    load(engine, folder)
    sound, says = BAD[what]
    found, end = events(engine.open(ask(sound)))
    assert not found
    assert end.kind == "BadInput"
    assert says in end.error
    assert said(engine, heard(KNOWN, "short"))["tokens"]


def test_double_precision_is_heard_as_single(engine, folder):
    load(engine, folder)
    sound = heard(KNOWN, "short")
    assert said(engine, sound.astype(np.float64)) == said(engine, sound)


def test_a_model_without_a_tokenizer_says_so(engine, tmp_path):
    load(engine, write_speech(tmp_path / "ears", words=False))
    _, end = events(engine.open(ask(heard(KNOWN, "short"))))
    assert "has no tokenizer" in end.error


def test_an_older_checkpoint_with_other_tensors_is_refused(engine, folder):
    (folder / "model.safetensors").rename(folder / "kept")
    golden("llama").write(folder.parent / "other")
    (folder.parent / "other" / "model.safetensors").rename(folder / "model.safetensors")
    _, end = events(engine.load(str(folder), backend="torch"))
    assert end.kind == "BadCheckpoint"
    assert "needs the tensor model.encoder.conv1.weight" in end.error


def test_between_two_yields_is_one_piece_of_the_encoder(folder, monkeypatch):
    shelf = shelved(folder)
    backend = shelf.get("ears").loaded.backend
    calls: list[int] = []
    call = backend.call
    monkeypatch.setattr(backend, "call", lambda *how: (calls.append(len(yields)), call(*how))[1])
    yields: list[object] = []
    for event in transcribe(shelf, ask(heard(KNOWN, "long"))):
        yields.append(event)
    assert calls == list(range(KNOWN.config["encoder_num_hidden_layers"] + 4))
    assert isinstance(yields[-1], Part)


def test_tokens_are_made_in_breaths(folder, monkeypatch):
    """A clock on which every token takes 20 ms: three of them are more than a breath."""
    clock = iter(np.arange(1000) * 0.02)
    monkeypatch.setattr(transcribing.time, "monotonic", lambda: float(next(clock)))
    found = list(transcribe(shelved(folder), ask(heard(KNOWN, "long"), max_tokens=STEPS)))
    pieces = KNOWN.config["encoder_num_hidden_layers"] + 4
    assert 5 <= found[pieces:].count(None) <= STEPS // 3 + 1


@pytest.mark.parametrize("after", [0, 1, 5, 8, 10])
def test_a_transcript_that_is_given_up_leaves_no_row(folder, backend_name, monkeypatch, after):
    """Before it began, in the encoder, and among its tokens."""
    monkeypatch.setattr(transcribing, "BREATH_S", 0.0)
    shelf = shelved(folder, backend_name)
    steps = transcribe(shelf, ask(heard(KNOWN, "long"), max_tokens=STEPS))
    for _ in range(after):
        assert next(steps) is None
    steps.close()
    cache = shelf.get("ears").loaded.runner.cache
    assert cache.nbytes() == 0
    again = list(transcribe(shelf, ask(heard(KNOWN, "long"), max_tokens=STEPS)))[-1]
    assert again.value["tokens"] == KNOWN.arrays["greedy_long"].tolist()


def test_a_cancelled_job_ends_as_cancelled(engine, folder, monkeypatch):
    monkeypatch.setattr(transcribing, "BREATH_S", 0.0)
    load(engine, folder)
    streams = [engine.open(ask(heard(KNOWN, "long"), max_tokens=STEPS)) for _ in range(4)]
    for stream in streams:
        stream.cancel()
    assert {events(stream)[1].reason for stream in streams} <= {"cancelled", "stop"}
    assert said(engine, heard(KNOWN, "short"), max_tokens=STEPS)["tokens"] == KNOWN.arrays["greedy_short"].tolist()


def test_several_transcripts_and_a_chat_take_turns(engine, folder, tmp_path, backend_name):
    load(engine, folder, backend_name)
    load(engine, write_chat(tmp_path / "tiny"), backend_name)
    asked = Request("tiny", text="The cranes", asked=Asked(max_tokens=40, ignore_eos=True), endpoint="greedy")
    alone = tokens_of(events(engine.submit(asked))[0])
    chat = engine.submit(asked)
    streams = {which: [engine.open(ask(heard(KNOWN, which), max_tokens=STEPS)) for _ in range(3)] for which in SOUNDS}
    for which, several in streams.items():
        for stream in several:
            [part] = events(stream)[0]
            assert part.value["tokens"] == KNOWN.arrays[f"greedy_{which}"].tolist()
    assert tokens_of(events(chat)[0]) == alone


def test_a_speech_model_takes_no_prompt(folder):
    loaded = shelved(folder).get("ears").loaded
    with pytest.raises(BadInput, match="takes no prompt"):
        generation.score(loaded, [1, 5])


def test_no_model_of_that_name(engine, folder):
    load(engine, folder)
    _, end = events(engine.open(ask(heard(KNOWN, "short"), "other")))
    assert end.kind == "ModelNotFound"


def test_the_generator_itself_raises_what_the_stream_tells(folder):
    with pytest.raises(BadInput, match="silent"):
        next(transcribe(shelved(folder), ask(np.zeros(RATE, np.float32))))
