"""A thought within its budget: closed when its tokens are used up, and not touched when it ends by itself."""

from __future__ import annotations

from typing import Any

import pytest

from crane_app.contract import BLOCK
from crane_app.engine.engine import Engine
from crane_app.engine.request import Asked, Part, Piece, Request
from crane_app.engine.thought import FORCE, Thought
from crane_app.errors import BadInput
from tests.chat_checkpoint import library, write_chat
from tests.engine.nulls import resolved
from tests.engine.test_scheduler import ROW, World

CLOSING = [7, 8]


def told(thought: Thought, *texts: str) -> list[int | None]:
    """What must come next, before any token and after each."""
    forced = []
    for made, text in enumerate((None, *texts)):
        if text is not None:
            thought.take(text, made)
        sampling = thought.forced()
        forced.append(None if sampling is None else next(iter(sampling.logit_bias)))
    return forced


def test_it_is_closed_when_its_tokens_are_used_up():
    assert told(Thought(2, True, CLOSING), "a", "b", "x", "y", "z") == [None, None, 7, 8, None, None]
    assert told(Thought(0, True, CLOSING), "x", "y", "z") == [7, 8, None, None]


def test_the_opening_does_not_count():
    assert told(Thought(1, False, CLOSING), "\n<thi", "nk>", "a", "x", "y") == [None, None, None, 7, 8, None]
    assert told(Thought(1, False, CLOSING), "<think>a", "b", "x") == [None, None, 7, 8]


def test_one_that_ends_by_itself_is_left_alone():
    assert told(Thought(3, True, CLOSING), "a</thi", "nk>b", "c", "d", "e") == [None] * 6
    assert told(Thought(1, False, CLOSING), "No", "thought", "<think>", "a", "b") == [None] * 6


def test_only_a_token_that_may_be_forced_waits_for_the_one_before():
    thought = Thought(2, True, CLOSING)
    assert [thought.waits(index) for index in range(4)] == [False, False, True, True]
    assert not Thought(1, False, CLOSING).waits(1)
    assert Thought(0, False, CLOSING).waits(1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    pytest.importorskip("torch").set_num_threads(1)
    made = Engine()
    folder = write_chat(tmp_path_factory.mktemp("thoughts") / "tiny")
    for event in made.load(str(folder), None, "torch", "cpu", "float32"):
        assert not isinstance(event, Part) or event.value.chat
    yield made
    made.close(drain=False)


def tokens(engine: Engine, given: Any, **asked: Any) -> list[list[int]]:
    """The ids of each choice."""
    kind = "tokens" if isinstance(given, tuple) else "text"
    request = Request("tiny", **{kind: given}, asked=Asked(ignore_eos=True, **asked), endpoint="completions")
    found: list[list[int]] = [[] for _ in range(asked.get("n", 1))]
    for event in engine.submit(request):
        if isinstance(event, Piece):
            found[event.choice] += event.tokens
    return found


def test_the_answer_goes_on_after_it_as_if_it_had_ended_there(engine):
    """Before the end the tokens are those without a budget, after it those that follow this very text."""
    closing = library().encode("</think>\n\n").ids
    prompt = tuple(library().encode("Well? <think>\n").ids)
    asked: dict[str, Any] = {"temperature": 0.0, "max_tokens": 30}
    freely = tokens(engine, prompt, **asked)[0]
    assert closing[0] not in freely[:10]
    got = tokens(engine, prompt, **asked, thinking_budget=10)[0]
    assert got[:10] == freely[:10]
    assert got[10 : 10 + len(closing)] == closing
    rest = got[10 + len(closing) :]
    assert rest == tokens(engine, (*prompt, *got[: 10 + len(closing)]), **asked)[0][: len(rest)]
    assert len(got) == 30


def test_every_choice_has_its_own(engine):
    asked: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 20, "n": 3}
    prompt = tuple(library().encode("<think>").ids)
    close = library().encode("</think>").ids[0]
    freely, held = tokens(engine, prompt, **asked), tokens(engine, prompt, **asked, thinking_budget=4)
    for free, got in zip(freely, held, strict=True):
        end = free.index(close) if close in free[:4] else 4
        assert got[:end] == free[:end]
        assert got[end] == close
    assert len({tuple(got) for got in held}) == 3


def test_a_text_without_a_thought_is_not_touched(engine):
    asked: dict[str, Any] = {"temperature": 0.0, "max_tokens": 30}
    assert tokens(engine, "Hello", **asked, thinking_budget=3) == tokens(engine, "Hello", **asked)


def test_a_forced_token_is_told_with_the_models_own_probability(engine):
    request = Request(
        "tiny",
        tokens=tuple(library().encode("<think>").ids),
        asked=Asked(temperature=0.0, max_tokens=2, thinking_budget=1, logprobs=5),
        endpoint="completions",
    )
    drawn = [each for event in engine.submit(request) if isinstance(event, Piece) for each in event.logprobs]
    assert drawn[1].token == library().encode("</think>").ids[0]
    assert drawn[1].logprob is not None
    assert -100 < drawn[1].logprob < 0 < FORCE


@pytest.mark.parametrize("ahead", range(-4, 5))
def test_one_that_is_evicted_is_closed_at_the_same_token(ahead):
    """Rows that outgrow a memory before, in and after the closing of their thoughts, against rows with room for all."""

    def told(budget: int) -> tuple[list[list[int]], int]:
        world = World(budget=budget * ROW)
        for i in range(3):
            one = world.ask([i + 1, 2, 3], resolved(2 * BLOCK + 60, stop_ids=()), arrived=float(i))
            one.sequence.thought = Thought(2 * BLOCK - 3 + ahead, True, CLOSING)
        while world.scheduler.busy:
            world.step()
        return [one.tokens for one, _ in world.asked], world.scheduler.evictions

    (roomy, none), (tight, some) = told(100), told(7)
    assert (none, some > 0) == (0, True)
    assert tight == roomy
    end = 2 * BLOCK - 3 + ahead
    assert [tokens[end : end + 2] for tokens in tight] == [CLOSING] * 3


def test_a_budget_is_a_whole_number(engine):
    with pytest.raises(BadInput, match="thinking_budget"):
        tokens(engine, "Hello", thinking_budget=-1)
