"""Answers held to a grammar: by a model of noise they are still what was asked for, and nobody beside them notices."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from crane_app.contract import BLOCK
from crane_app.engine import grammar as held
from crane_app.engine.engine import Engine
from crane_app.engine.grammar import Vocabulary
from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, End, Grammar, Piece, Request
from crane_app.errors import BadGrammar, BadInput
from crane_app.media.tokenizer import Tokenizer
from tests.chat_checkpoint import library, write_chat
from tests.engine.nulls import END, VOCABULARY, Letters, engine, events, shelved, table, tokens_of
from tests.engine.test_eviction import ROW

PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Max"]}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
KINDS: dict[str, tuple[Grammar, Any]] = {  # and whether an answer is what was asked for
    "json_schema": (
        Grammar("json_schema", json.dumps(PERSON)),
        lambda text: json.loads(text).keys() == {"name", "age"} and 0 <= json.loads(text)["age"] <= 120,
    ),
    "regex": (Grammar("regex", r"[0-9]{3}-[a-f]+/\w!"), lambda text: re.fullmatch(r"[0-9]{3}-[a-f]+/\w!", text)),
    "choice": (Grammar("choice", '["red", "redder", "a\\"b\\n", "é"]'), ("red", "redder", 'a"b\n', "é").__contains__),
    "gbnf": (
        Grammar("ebnf", 'root ::= "<" item "," item ">"\nitem ::= [a-c] | "(" item ")"'),
        lambda text: re.fullmatch(r"<\(*[abc]\)*,\(*[abc]\)*>", text) and text.count("(") == text.count(")"),
    ),
    "lark": (Grammar("lark", 'start: "x"{3} DIGIT\nDIGIT: /[0-9]/'), lambda text: re.fullmatch("xxx[0-9]", text)),
}


@pytest.fixture(scope="module", params=["torch", "mlx"])
def noise(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with the chat model of noise, in float32."""
    pytest.importorskip({"torch": "torch", "mlx": "mlx.core"}[request.param], exc_type=ImportError)
    made = Engine()
    folder = write_chat(tmp_path_factory.mktemp(request.param) / "tiny")
    for _ in made.load(str(folder), "tiny", request.param, "cpu", "float32"):
        pass
    yield made
    made.close(drain=False)


def ask(engine: Engine, grammar: Grammar | None, text: str = "Hello", model: str = "tiny", **asked: Any) -> Any:
    asked = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 120, **asked}
    return engine.submit(Request(model, text=text, asked=Asked(grammar=grammar, **asked)))


def said(stream: Any) -> tuple[list[int], str, End]:
    found, end = events(stream)
    return tokens_of(found), "".join(e.text for e in found if isinstance(e, Piece)), end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"top_k": 5, "repetition_penalty": 1.3}, {}])
def test_noise_becomes_what_was_asked_for(noise, kind, sampling):
    grammar, holds = KINDS[kind]
    for seed in range(1 if "temperature" in sampling else 3):
        _, text, end = said(ask(noise, grammar, seed=seed, **sampling))
        assert end.reason in ("stop", "length"), end.error
        if end.reason == "stop":
            assert holds(text), text
        elif sampling:  # greedy noise may repeat a letter for ever
            assert kind in ("regex", "gbnf")


def test_any_json_object(noise):
    """Noise may write strings without end, so a schema of the parts is not asked for: what came is a beginning."""
    tokens, text, end = said(ask(noise, Grammar("json_object"), seed=1, logit_bias=dict.fromkeys((7, 98), 9.0)))
    assert text.startswith("{"), text
    assert end.reason != "error"
    assert tokens


def test_each_choice_of_several_goes_its_own_way(noise):
    found, end = events(ask(noise, Grammar("regex", "[a-z]{12}"), n=4, seed=3))
    texts = ["".join(e.text for e in found if isinstance(e, Piece) and e.choice == i) for i in range(4)]
    assert all(re.fullmatch("[a-z]{12}", text) for text in texts), texts
    assert len(set(texts)) == 4
    assert end.reason == "stop"


def test_neighbours_do_not_notice_and_neither_does_it(noise):
    """Three with a grammar and three without, all at once: each as it is alone, token for token."""
    wishes = [
        {"grammar": grammar, "text": f"Number {i}", "seed": i, "max_tokens": 40, "temperature": float(i % 3 > 0)}
        for i, grammar in enumerate([KINDS["regex"][0], None, KINDS["json_schema"][0], None, KINDS["gbnf"][0], None])
    ]
    alone = [said(ask(noise, **wish))[0] for wish in wishes]
    together = [said(stream)[0] for stream in [ask(noise, **wish) for wish in wishes]]
    assert together == alone


# Evicted, in several choices, after a thought


def evicting(made: Engine, monkeypatch: pytest.MonkeyPatch, every: int) -> Any:
    """Have the row of the longest output lose its place at every so many steps; the scheduler."""
    scheduler = made._shelf.get("tiny").scheduler
    plan = scheduler._plan

    def evicted(making: set[bytes]) -> Any:
        if scheduler.steps % every == 0 and scheduler._evict():
            scheduler.cap = scheduler.most_rows
        return plan(making)

    monkeypatch.setattr(scheduler, "_plan", evicted)
    return scheduler


def told(made: Engine, n: int, kind: str, prompt: str = "Hello", **asked: Any) -> list[tuple[list[int], str]]:
    """Ids and text of each choice."""
    grammar = replace(KINDS[kind][0], thought="open" if "thinking_budget" in asked else "none")
    found, end = events(ask(made, grammar, prompt, n=n, seed=3, **asked))
    assert end.reason in ("stop", "length"), end.error
    texts = ["".join(e.text for e in found if isinstance(e, Piece) and e.choice == i) for i in range(n)]
    return [(tokens_of(found, i), text) for i, text in enumerate(texts)]


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("kind", ["json_schema", "regex", "gbnf"])
def test_choices_that_are_evicted_go_on_where_their_grammars_were(noise, monkeypatch, kind, every):
    calm = told(noise, 4, kind)
    scheduler = evicting(noise, monkeypatch, every)
    before = scheduler.evictions
    assert told(noise, 4, kind) == calm
    assert scheduler.evictions > before
    assert len({text for _, text in calm}) == 4


CLOSED = library().encode("</think>\n\n").ids


@pytest.mark.parametrize("budget", [0, 1, 7])
@pytest.mark.parametrize("kind", ["json_schema", "regex"])
def test_a_thought_within_its_budget_is_closed_and_then_the_grammar_holds(noise, kind, budget):
    """The mark that closes it and the empty line behind that, which the grammar allows there."""
    for tokens, text in told(noise, 3, kind, "Well? <think>\n", thinking_budget=budget):
        thought, _, answer = text.partition("</think>")
        if library().encode("</think>").ids[0] not in tokens[:budget]:
            assert tokens[budget : budget + len(CLOSED)] == CLOSED
            assert answer.startswith("\n\n"), (thought, answer)
        if len(tokens) < 120:
            assert KINDS[kind][1](answer.strip()), answer


@pytest.mark.parametrize("every", [1, 3])
def test_thoughts_that_are_evicted_end_at_their_budgets_and_the_grammar_holds(noise, monkeypatch, every):
    calm = told(noise, 3, "regex", "Well? <think>\n", thinking_budget=7)
    scheduler = evicting(noise, monkeypatch, every)
    before = scheduler.evictions
    assert told(noise, 3, "regex", "Well? <think>\n", thinking_budget=7) == calm
    assert scheduler.evictions > before


@pytest.mark.parametrize("stop", [None, "5", "Ada"])
def test_a_stop_text_ends_it_as_ever(noise, stop):
    asked = {"seed": 1, "stop": (stop,)} if stop else {"seed": 1}
    text = said(ask(noise, KINDS["json_schema"][0], **asked))[1]
    assert text if stop is None else stop not in text


def test_an_end_waits_for_min_tokens_where_the_grammar_lets_it(noise):
    tokens, text, _ = said(ask(noise, Grammar("regex", "[ab]*"), min_tokens=20, seed=2, logit_bias={2: 50.0, 0: 50.0}))
    assert len(tokens) == 21
    assert re.fullmatch("[ab]{20}", text)
    tokens, text, end = said(ask(noise, Grammar("regex", "[ab]{3}"), min_tokens=20, seed=2))
    assert (len(text), end.reason) == (3, "stop"), "the grammar has the last word"


def test_without_an_end_it_goes_on_as_long_as_it_may(noise):
    _, text, end = said(ask(noise, Grammar("regex", "[ab]*"), ignore_eos=True, max_tokens=30, logit_bias={2: 50.0}))
    assert (len(text), end.reason) == (30, "length")


def test_log_probabilities_are_the_models_own(noise):
    """Held to one token, it says how likely the model itself finds it."""
    free = events(ask(noise, None, max_tokens=1, logprobs=20, temperature=0.0))[0][0].logprobs[0]
    one = events(ask(noise, Grammar("choice", '["Q"]'), logprobs=20, temperature=0.0))[0][0].logprobs[0]
    assert one.top == free.top
    assert one.logprob < 0


@pytest.mark.parametrize("thought", ["open", "free"])
def test_it_holds_after_the_thought(noise, thought):
    """logit_bias makes noise close its tag: <think> is 3, </think> is 4."""
    bias = {4: 3.0} if thought == "open" else {4: 25.0, 3: 20.0}
    texts = [said(ask(noise, Grammar("choice", '["red"]', thought), seed=i, logit_bias=bias))[1] for i in range(4)]
    for text in texts:
        before, close, after = text.partition("</think>")
        assert (close, after.lstrip("\n")) == ("</think>", "red")
        assert before.startswith("<think>") == (thought == "free")


def test_without_a_thought_it_holds_at_once(noise):
    assert said(ask(noise, Grammar("choice", '["red"]', "free"), logit_bias={87: 100.0}))[1] == "red"
    assert said(ask(noise, Grammar("choice", '["red"]'), logit_bias={3: 100.0}))[1] == "red"


# What is refused

HUGE = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(10_000)}}
REFUSED: dict[str, tuple[Grammar, str]] = {
    "10,000 properties": (Grammar("json_schema", json.dumps(HUGE, separators=(",", ":"))[:120_000]), "no JSON"),
    "3,000 properties": (
        Grammar("json_schema", json.dumps({"properties": {f"p{i}": {} for i in range(3000)}})), "3000 properties",
    ),
    "a schema without an end": (Grammar("json_schema", json.dumps(HUGE)), "characters; at most"),
    "a reference to itself": (Grammar("json_schema", '{"$ref": "#"}'), "nothing that the model can write"),
    "a reference to nothing": (Grammar("json_schema", '{"$ref": "#/$defs/none"}'), "does not exist"),
    "a reference to the world": (Grammar("json_schema", '{"$ref": "http://example.com/a"}'), "example.com"),
    "no JSON": (Grammar("json_schema", "{"), "no JSON"),
    "no object": (Grammar("json_schema", "[1]"), "must be an object"),
    "false": (Grammar("json_schema", "false"), "allows nothing"),
    "no type": (Grammar("json_schema", '{"type": "strang"}'), "Invalid type: strang"),
    "no properties": (Grammar("json_schema", '{"properties": 3}'), "properties must be an object"),
    "what cannot be enforced": (Grammar("json_schema", '{"if": {}, "then": {}}'), '"if"'),
    "both at once": (Grammar("json_schema", '{"allOf": [{"type": "string"}, {"type": "number"}]}'), "Unsatisfiable"),
    "choices that overlap": (
        Grammar("json_schema", '{"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}'),
        "oneOf constraints are not supported.",
    ),
    "depth": (Grammar("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000), "cannot be used"),
    "patterns that must all hold": (
        Grammar("json_schema", json.dumps({"allOf": [{"pattern": f"^.*a{{{i}}}.*$"} for i in range(40)]})), "joins 40",
    ),
    "the same inside a grammar": (
        Grammar("lark", "start: %json " + json.dumps({"allOf": [{"pattern": f"a{{{i}}}"} for i in range(40)]})),
        "joins 40",
    ),
    "a bracket left open": (Grammar("regex", "[a-z"), "unclosed character class"),
    "a look behind": (Grammar("regex", "(?<=a)b"), "look-around"),
    "a reference back": (Grammar("regex", r"(a)\1"), "backreferences"),
    "a pattern without an end": (Grammar("regex", "a" * 200_000), "characters; at most"),
    "nothing": (Grammar("regex", ""), "empty answer"),
    "no choices": (Grammar("choice", "[]"), "at least one"),
    "a rule that is not there": (Grammar("lark", "start: nobody"), "nobody"),
    "no grammar": (Grammar("ebnf", "hello"), "cannot be used"),
    "half a grammar": (Grammar("lark", "start: ("), "cannot be used"),
    "a grammar of nothing": (Grammar("lark", ""), "cannot be used"),
    "a grammar that multiplies": (
        Grammar("lark", "start: r0\n" + "\n".join(f'r{i}: "a{i}" | r{i + 1} "b"' for i in range(30_000))), "at most",
    ),
    "what the tokens cannot spell": (Grammar("regex", "\U000e0001"), "nothing that the model can write"),
    "no kind": (Grammar("xml"), "no kind"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = write_chat(tmp_path_factory.mktemp("words") / "tiny")
    return Vocabulary(Tokenizer.open(folder), 199, (2, 0))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_held_to_is_refused_with_a_sentence(words, case):
    grammar, expected = REFUSED[case]
    with pytest.raises(BadGrammar, match=re.escape(expected)) as raised:
        words.compile(grammar)
    assert str(raised.value).startswith("The ")
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_schema", json.dumps({"enum": [f"value {i}" for i in range(5000)]})),
        Grammar("json_schema", '{"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"c": {"$ref": "#/$defs/n"}}}}}'),
        Grammar("json_schema", '{"unheard": "of", "title": "T", "type": "string", "format": "date-time"}'),
        Grammar("json_schema", "true"),
        Grammar("regex", "(a{1,1000}){1,1000}"),
        Grammar("lark", 'start: start start | "a" | '),
    ],
)
def test_what_looks_bad_and_is_not(words, grammar):
    assert words.compile(grammar).allowed().any()


def test_a_grammar_that_outgrows_a_step_ends_its_own_answer(noise):
    """It compiles, and after some tokens the states of its pattern are too many: this answer ends, others do not."""
    wild = ask(noise, Grammar("regex", "((((a{1,100}){1,100}){1,100}){1,100})"), max_tokens=100, ignore_eos=True)
    other = ask(noise, None, max_tokens=30, seed=1, ignore_eos=True)
    _, end = events(wild)
    assert (end.reason, end.kind) == ("error", "BadGrammar")
    assert end.error.startswith("The grammar cannot be kept to")
    assert events(other)[1].reason == "length"


def test_one_that_is_never_compiled_is_given_up_and_holds_nobody_up(noise, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(held, "COMPILE_S", 0.2)
    monkeypatch.setattr(held, "_matcher", lambda tokens, written: over.wait(30))
    slow = [ask(noise, Grammar("regex", "a")) for _ in range(held.SEATS + 1)]
    assert said(ask(noise, None, max_tokens=3, ignore_eos=True))[2].reason == "length"
    ends = [events(stream)[1] for stream in slow]
    over.set()
    assert [end.reason for end in ends] == ["error"] * len(slow)
    assert [end.error for end in ends if "still not compiled" in end.error]
    assert [end.error for end in ends if "Try again" in end.error]


def test_grammars_are_compiled_away_from_the_device(noise, monkeypatch):
    names, compile_ = [], Vocabulary.compile

    def watched(self: Vocabulary, *given: Any) -> Any:
        names.append(threading.current_thread().name)
        return compile_(self, *given)

    monkeypatch.setattr(Vocabulary, "compile", watched)
    assert said(ask(noise, Grammar("choice", '["a"]')))[1] == "a"
    assert [name.split("_")[0] for name in names] == ["crane-held"]


def test_a_model_without_a_tokenizer_is_held_to_nothing():
    one = engine(shelved(NullRunner(table, VOCABULARY), letters=False))
    stream = one.submit(Request("null", tokens=(1,), asked=Asked(grammar=Grammar("regex", "a"))))
    assert "has no tokenizer" in events(stream)[1].error
    one.close()


# Without a model: rows that follow a table

LONG = Grammar("regex", f"[a-h]{{{2 * BLOCK + 90}}}")


def nulls(budget: int = 2**40, **more: Any) -> tuple[Engine, Any]:
    model = shelved(NullRunner(table, VOCABULARY, budget=budget, **more))
    return engine(model), model.scheduler


def run(made: Engine, prompts: list[tuple[int, ...]], grammar: Grammar | None = LONG) -> list[tuple[list[int], str]]:
    asked = Asked(grammar=grammar, max_tokens=1000, seed=1)
    streams = [made.submit(Request("null", tokens=prompt, asked=asked)) for prompt in prompts]
    found = [said(stream) for stream in streams]
    assert {end.reason for *_, end in found} == {"stop"}, [end.error for *_, end in found]
    return [(tokens, text) for tokens, text, _ in found]


def test_an_evicted_answer_goes_on_where_its_grammar_was():
    prompts = [(i + 1, 2, 3) for i in range(4)]
    roomy, _ = nulls()
    expected = [run(roomy, [prompt])[0] for prompt in prompts]
    roomy.close()
    tight, scheduler = nulls(budget=6 * ROW)
    assert run(tight, prompts) == expected
    assert scheduler.evictions > 0
    assert all(re.fullmatch("[a-h]{602}", text) for _, text in expected)
    tight.close()


def test_a_reused_prompt_changes_nothing():
    made, _ = nulls()
    prompt = tuple(i % 90 for i in range(2 * BLOCK + 7))
    first = run(made, [prompt], Grammar("regex", "(a|bc|de )+ and\n"))
    stream = made.submit(
        Request("null", tokens=prompt, asked=Asked(grammar=Grammar("regex", "(a|bc|de )+ and\n"), seed=1))
    )
    tokens, text, end = said(stream)
    assert [(tokens, text)] == first
    assert end.usage.cached_tokens == 2 * BLOCK
    made.close()


@pytest.mark.parametrize("where", ["on_launch", "on_read"])
def test_a_step_that_fails_is_run_again_with_the_same_mask(where):
    plain, _ = nulls()
    expected = [run(plain, [prompt], Grammar("regex", "[a-h]{30}"))[0] for prompt in ((1, 2), (3, 4))]
    plain.close()
    steps = iter(range(10**6))

    def fail(works: Any) -> None:
        if len(works) > 1 and next(steps) % 5 == 4:
            raise RuntimeError("the device stumbled")

    faulty, _ = nulls(**{where: fail})
    assert run(faulty, [(1, 2), (3, 4)], Grammar("regex", "[a-h]{30}")) == expected
    faulty.close()


def test_a_model_without_an_end_of_its_own_stops_with_its_grammar():
    words = Vocabulary(Letters(), VOCABULARY, ())
    state = words.compile(Grammar("regex", "a{2}"))
    for _ in range(2):
        assert not state.complete
        assert bits(state.allowed()) == {id for id in range(END) if Letters().piece(id, False) in (b"a", b"aa")}
        state.take(0)
    assert state.complete


def test_tokens_that_stand_for_nothing_are_never_allowed(tmp_path):
    """A model may have more rows than its tokenizer has tokens; <|im_start|> is 1 and hidden."""
    tokenizer = Tokenizer.open(write_chat(tmp_path / "tiny"))
    words = Vocabulary(tokenizer, 230, (2,))
    allowed = bits(words.compile(Grammar("regex", "(?s:.*)")).allowed())
    assert {2, 3, 4, 50} <= allowed
    assert not allowed & {0, 1, *range(199, 230)}
    thinking = bits(words.compile(Grammar("regex", "a", "open")).allowed())
    assert thinking == set(range(3, 199)), "a thought may be anything but an end"


def bits(words: Any) -> set[int]:
    return {place * 32 + bit for place, word in enumerate(words) for bit in range(32) if int(word) >> bit & 1}


def test_a_wrong_bound_is_the_callers_mistake():
    with pytest.raises(BadInput, match="thought is none"):
        Vocabulary(Letters(), VOCABULARY, ()).compile(Grammar("regex", "a", "maybe"))  # type: ignore[arg-type]
