"""A model with a draft model: loading both, refusing what does not fit, and who goes when room is short."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from crane_app.engine.engine import Engine
from crane_app.engine.loading import Loaded
from crane_app.engine.null import NullRunner
from crane_app.engine.pairing import MARK, check_words, pair
from crane_app.engine.request import Asked, ModelCard, Part, Request
from crane_app.errors import BadInput, Unsupported
from crane_app.media.tokenizer import Tokenizer
from tests.chat_checkpoint import write_chat
from tests.engine.nulls import END, VOCABULARY, Always, NullBackend, engine, events, resolved, shelved, table, tokens_of
from tests.engine.nulls import told as choice
from tests.engine.test_scheduler import ROW
from tests.models.scramble import golden

LONG = Asked(max_tokens=120, ignore_eos=True, temperature=0.0)
PROMPT = (5, 6, 7, 8)


@pytest.fixture
def folders(tmp_path) -> list[str]:
    return [str(golden("qwen3").write(tmp_path / name)) for name in ("large", "small", "third")]


def load(made: Engine, folder: str, backend: str, draft: str | None = None) -> ModelCard:
    found, end = events(made.load(folder, backend=backend, device="cpu", dtype="float32", draft=draft))
    assert end.reason == "stop", end.error
    (card,) = [each.value for each in found if isinstance(each, Part)]
    return card


def refused(made: Engine, folder: str, draft: str) -> tuple[str, str]:
    _, end = events(made.load(folder, backend="torch", device="cpu", dtype="float32", draft=draft))
    assert made.models() == []
    assert made.stats().weights_nbytes == 0
    return end.kind, end.error


def told(made: Engine, model: str = "large") -> list[int]:
    found, end = events(made.submit(Request(model, tokens=PROMPT, asked=LONG)))
    assert end.reason == "length", end.error
    return tokens_of(found)


def drafts(made: Engine) -> list[tuple[str, int]]:
    return [(each.name, each.nbytes) for each in made.stats().held if each.job == "draft"]


@pytest.fixture
def limited(backend_name, folders):
    """An engine that has room for so many models of one size, and a bit."""
    made: list[Engine] = []

    def give(models: float, **how) -> Engine:
        probe = Engine()
        nbytes = load(probe, folders[0], backend_name).nbytes
        probe.close()
        made.append(Engine(memory_limit=f"{int(models * nbytes) // 1024}K", **how))
        return made[-1]

    yield give
    for each in made:
        each.close(drain=False)


def test_both_are_loaded_counted_and_given_back_and_answers_are_the_same(folders, backend_name):
    large, small, _ = folders
    made = Engine()
    try:
        alone = load(made, large, backend_name)
        want = told(made)
        steps = made.stats().steps
        made.unload("large")
        card = load(made, large, backend_name, small)
        assert (alone.draft, card.draft) == (None, small)
        assert any("small goes ahead of it" in note for note in card.notes)
        assert drafts(made) == [("large" + MARK, card.nbytes)]
        assert made.stats().weights_nbytes == 2 * card.nbytes
        made._shelf.get("large").scheduler.gain = Always()
        assert told(made) == want
        made.flush()
        assert made.stats().cache_nbytes == 0
        stats = made.stats()
        assert stats.steps - steps < 0.6 * steps
        assert stats.accepted > 0.7 * stats.drafted > 20
        made.unload("large")
        after = made.stats()
        assert (after.weights_nbytes, drafts(made)) == (0, [])
        assert (after.drafted, after.accepted) == (stats.drafted, stats.accepted)
    finally:
        made.close(drain=False)


def test_a_draft_model_with_other_tokens_is_refused_by_name_before_any_weight_is_read(tmp_path):
    large, small = write_chat(tmp_path / "large"), write_chat(tmp_path / "small")
    words = json.loads((small / "tokenizer.json").read_text("utf-8"))
    vocabulary = words["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (small / "tokenizer.json").write_text(json.dumps(words), "utf-8")
    (large / "model.safetensors").unlink()
    made = Engine()
    try:
        kind, said = refused(made, str(large), str(small))
        assert kind == "BadInput"
        assert f"small has other tokens than large: {vocabulary['B']} is 'B', not 'A'" in said
        assert "same family" in said
    finally:
        made.close(drain=False)


def test_more_tokens_behind_are_no_difference(tmp_path):
    folder = write_chat(tmp_path / "m")
    few, many = Tokenizer.open(folder), Tokenizer.open(folder)
    many._library.add_tokens(["more of them"])
    assert few.unlike(many) is None
    check_words(few, many, ("large", "small"))


def test_what_is_not_there_or_cannot_be_compared_is_refused(tmp_path, folders):
    worded = str(write_chat(tmp_path / "worded"))
    made = Engine()
    try:
        kind, said = refused(made, folders[0], str(tmp_path / "nowhere"))
        assert (kind, "nowhere" in said) == ("ModelNotFound", True)
        assert refused(made, worded, folders[1]) == (
            "BadInput",
            "small has no tokenizer, so nobody knows whether its tokens are the other's. Choose a smaller model of the "
            "same family, or leave the draft model out.",
        )
    finally:
        made.close(drain=False)


def null(name: str, batched: bool = True, vocabulary: int = VOCABULARY) -> Loaded:
    runner = NullRunner(table, vocabulary, batched=batched)
    return Loaded(Path(f"/{name}"), runner, NullBackend(), "Null", vocabulary, 4096, (END,), {}, 1000, ())


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_takes_one_request_at_a_time_neither_has_nor_is_one(which):
    two = [null("large", which != 0), null("small", which != 1)]
    with pytest.raises(Unsupported, match="adapter"):
        pair(*two, two[0].runner.cache, ("large", "small"), worded=True)


def test_without_tokenizers_the_sizes_must_be_the_same():
    with pytest.raises(BadInput, match="50 tokens, large has 97"):
        pair(null("large"), null("small", vocabulary=50), null("x").runner.cache, ("large", "small"), worded=False)


# Room


def test_a_draft_model_is_the_first_that_goes_also_in_the_midst_of_an_answer(limited, folders, backend_name):
    """Its model stays, busy and pinned as it is, and the answer is the same; then the draft model is loaded no more."""
    large, small, third = folders
    made = limited(2.9)
    card = load(made, large, backend_name)
    want = told(made)
    made.unload("large")
    load(made, large, backend_name, small)
    made.pin("large")
    made._shelf.get("large").scheduler.gain = Always()
    stream = made.submit(Request("large", tokens=PROMPT, asked=LONG))
    (note,) = [each for each in load(made, third, backend_name).notes if "left the memory" in each]
    assert "large (draft model)" in note
    assert "come slower" in note
    assert tokens_of(events(stream)[0]) == want
    assert sorted(each.name for each in made.models()) == ["large", "third"]
    assert drafts(made) == []
    (parting,) = made.stats().gone
    assert (parting.name, parting.nbytes, parting.room) == ("large" + MARK, card.nbytes, "third")
    assert made.stats().weights_nbytes == 2 * card.nbytes
    assert told(made) == want


def test_where_both_have_no_room_the_load_is_refused_and_says_what_to_leave_out(limited, folders, backend_name):
    large, small, _ = folders
    made = limited(1.5)
    _, end = events(made.load(large, backend=backend_name, device="cpu", dtype="float32", draft=small))
    assert end.kind == "NotEnoughMemory"
    assert "leave the draft model out" in end.error
    assert made.models() == []
    assert made.stats().weights_nbytes == 0
    assert load(made, large, backend_name).draft is None


def test_a_model_that_was_let_go_comes_back_with_its_draft_model_or_without_where_there_is_no_room(
    limited, folders, backend_name, caplog
):
    large, small, third = folders
    made = limited(2.7)
    load(made, large, backend_name, small)
    load(made, third, backend_name)
    assert drafts(made) == []
    load(made, small, backend_name)
    assert [each.name for each in made.models()] == ["third", "small"], "the longest without work went"
    told(made)
    assert len(drafts(made)) == 1, "both others went for it"
    load(made, third, backend_name)
    load(made, small, backend_name)
    made.pin("third")
    told(made)
    assert drafts(made) == []
    assert any("without its draft model" in record.message for record in caplog.records)


def test_it_goes_with_its_model_for_want_of_work_and_never_before(folders, backend_name):
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    (large, small, _), clock = folders, Clock()
    made = Engine(idle_s=60, clock=clock)
    try:
        load(made, large, backend_name, small)
        told(made)
        clock.now = 50.0
        made.flush()
        assert len(drafts(made)) == 1
        clock.now = 111.0
        made.flush()
        until = time.monotonic() + 20
        while made.models() and time.monotonic() < until:
            made.flush()
        assert made.stats().weights_nbytes == 0
    finally:
        made.close(drain=False)


def test_what_it_borrows_is_given_back_to_any_model_of_that_memory():
    """Two models in one limit: the row of the one takes what the draft model of the other had borrowed."""
    limit = 3 * ROW
    one, other = (shelved(NullRunner(table, VOCABULARY, limit), name) for name in ("one", "other"))
    small = null("small")
    one.scheduler.ahead = pair(one.loaded, small, one.cache, ("one", "small"), worded=True)
    one.small, one.scheduler.gain = small, Always()
    made = engine(one, other, start=False)
    made._shelf.memory._limits = {one.backend.device: limit + 3000}
    made._shelf.divide(1)
    try:
        first, second = (choice([1, 2, i], resolved(200, stop_ids=())) for i in range(2))
        one.scheduler.add(first.sequence)
        for _ in range(8):
            made._shelf.divide(1)
            one.scheduler.step()
        assert one.ahead.nbytes == ROW
        third = choice([1, 2, 9], resolved(200, stop_ids=()))
        for each in (second, third):
            other.scheduler.add(each.sequence)
        made._shelf.divide(1)
        other.scheduler.step()
        held = [each.sequence.slot is not None for each in (second, third)]
        assert held == [True, True]
        assert one.ahead.nbytes == 0
        assert one.cache.nbytes() + other.cache.nbytes() == limit
    finally:
        made.close(drain=False)


def test_a_pair_in_an_engine_of_letters_ends_with_nothing_left():
    one = shelved(NullRunner(table, VOCABULARY), "one")
    small = null("small")
    one.scheduler.ahead = pair(one.loaded, small, one.cache, ("one", "small"), worded=True)
    one.small, one.scheduler.gain = small, Always()
    made = engine(one)
    try:
        streams = [made.submit(Request("one", tokens=(1, 2, i), asked=LONG)) for i in range(6)]
        streams[3].cancel()
        for stream in streams:
            events(stream)
        made.flush()
        assert made.stats().cache_nbytes == 0
        assert made.stats().accepted > 100
    finally:
        made.close(drain=False)
