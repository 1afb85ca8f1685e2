"""/v1/completions, /v1/tokenize and /v1/detokenize over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from crane_app.engine.request import Asked, Part, Piece, Request

ASKED: dict[str, Any] = {"temperature": 1.0, "seed": 4, "max_tokens": 12}


def alone(tiny, prompt: Any, **asked: Any) -> str:
    given = {"text": prompt} if isinstance(prompt, str) else {"tokens": tuple(prompt)}
    stream = tiny.engine.submit(Request("tiny", **given, asked=Asked(**asked), endpoint="completions"))
    return "".join(event.text for event in stream if isinstance(event, Piece))


def ask(tiny, prompt: Any, **fields: Any) -> Any:
    return tiny.openai().completions.create(model="tiny", prompt=prompt, **fields)


@pytest.mark.parametrize(
    "prompt",
    ["The capital", ["One", "Two", "One"], [70, 71, 72], [[70, 71], [80]]],
    ids=["text", "texts", "ids", "lists"],
)
def test_all_forms_of_a_prompt(tiny, prompt):
    """A choice each, in order, each as it would be alone."""
    several = (
        prompt if isinstance(prompt[0], list) or (isinstance(prompt, list) and isinstance(prompt[0], str)) else [prompt]
    )
    expected = [alone(tiny, each, **ASKED) for each in several]
    got = ask(tiny, prompt, **ASKED)
    assert [choice.text for choice in got.choices] == expected
    assert [choice.index for choice in got.choices] == list(range(len(several)))
    assert (got.object, got.usage.completion_tokens > 0) == ("text_completion", True)
    texts = [""] * len(several)
    for chunk in ask(tiny, prompt, **ASKED, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == expected


def test_prompts_and_choices_multiply(tiny):
    got = ask(tiny, ["One", "Two"], **ASKED, n=2)
    assert [choice.index for choice in got.choices] == [0, 1, 2, 3]
    assert got.choices[0].text == alone(tiny, "One", **ASKED)
    assert got.choices[2].text == alone(tiny, "Two", **ASKED)
    assert len({choice.text for choice in got.choices}) == 4


def test_sixteen_tokens_unless_more_are_asked_for(tiny):
    got = tiny.http.post("/v1/completions", json={"prompt": "One", "ignore_eos": True}).json()
    assert got["usage"]["completion_tokens"] == 16


def test_logprobs_in_the_old_form(tiny):
    for stream in (False, True):
        got = ask(tiny, "One", **ASKED, logprobs=2, stream=stream)
        choices = [chunk.choices[0] for chunk in got] if stream else got.choices
        text = "".join(choice.text for choice in choices)
        parts = [choice.logprobs for choice in choices]
        tokens = [token for part in parts for token in part.tokens]
        offsets = [offset for part in parts for offset in part.text_offset]
        assert "".join(tokens) == text == alone(tiny, "One", **ASKED)
        assert [text[at : at + len(token)] for at, token in zip(offsets, tokens, strict=True)] == tokens
        assert all(0 < len(top) <= 2 for part in parts for top in part.top_logprobs)


# The prompt itself


def scores(tiny, prompt: Any, top: int = 0) -> tuple[list[int], list[Any]]:
    """A prompt's ids, and what the engine says of all but the first."""
    (found,) = [e.value for e in tiny.engine.score("tiny", prompt, top) if isinstance(e, Part)]
    return found["tokens"], found["drawn"]


@pytest.mark.parametrize("prompt", ["The capital é", [70, 71, 72, 73]], ids=["text", "ids"])
def test_the_prompt_stands_before_the_answer_when_it_is_asked_for(tiny, prompt):
    ids, _ = scores(tiny, prompt)
    words = tiny.http.post("/v1/detokenize", json={"tokens": ids}).json()["text"]
    got = ask(tiny, [prompt, prompt] if isinstance(prompt, str) else [prompt], **ASKED, echo=True, n=2)
    first = alone(tiny, prompt, **ASKED)
    assert got.choices[0].text == words + first
    assert all(choice.text.startswith(words) and choice.logprobs is None for choice in got.choices)
    assert len(got.choices) == (4 if isinstance(prompt, str) else 2)
    chunks = list(ask(tiny, prompt, **ASKED, echo=True, stream=True))
    assert (chunks[0].choices[0].text, "".join(c.choices[0].text for c in chunks)) == (words, words + first)


@pytest.mark.parametrize("top", [0, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_with_logprobs_its_own_tokens_are_told_as_the_engine_scores_them(tiny, stream, top):
    prompt = "The capital of é and of €"
    ids, drawn = scores(tiny, prompt, top)
    got = ask(tiny, prompt, **ASKED, echo=True, logprobs=top, stream=stream)
    choices = [chunk.choices[0] for chunk in got] if stream else got.choices
    parts, text = [choice.logprobs for choice in choices], "".join(choice.text for choice in choices)
    tokens, numbers, best, offsets = (
        [each for part in parts for each in getattr(part, name)]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    )
    assert "".join(tokens) == text == prompt + alone(tiny, prompt, **ASKED)
    assert [text[at : at + len(token)] for at, token in zip(offsets, tokens, strict=True)] == tokens
    assert numbers[: len(ids)] == [None, *(one.logprob for one in drawn)]
    assert best[0] is None
    for told, one in zip(best[1 : len(ids)], drawn, strict=False):
        assert sorted(told.values(), reverse=True)[:1] == [p for _, p in one.top[: min(top, 1)]]
    plain = ask(tiny, prompt, **ASKED, logprobs=top).choices[0].logprobs
    assert numbers[len(ids) :] == plain.token_logprobs


@pytest.mark.parametrize("top", [0, 2])
def test_prompt_logprobs_name_the_token_and_the_likeliest_by_id(tiny, top):
    _, drawn = scores(tiny, "The capital", top)
    body = {"prompt": ["The capital", "One"], **ASKED, "n": 2, "prompt_logprobs": top}
    got = tiny.http.post("/v1/completions", json=body).json()["choices"]
    assert got[0]["prompt_logprobs"] == got[1]["prompt_logprobs"]
    assert len(got[2]["prompt_logprobs"]) == len(scores(tiny, "One")[0])
    told = got[0]["prompt_logprobs"]
    assert told[0] is None
    for one, at in zip(drawn, told[1:], strict=True):
        assert {int(id): each["logprob"] for id, each in at.items()} == {one.token: one.logprob, **dict(one.top)}
        assert [at[str(id)]["rank"] for id, _ in one.top] == list(range(1, top + 1))
        words = tiny.http.post("/v1/detokenize", json={"tokens": [one.token]}).json()["text"]
        assert at[str(one.token)]["decoded_token"] == words
    assert got[0]["text"] == alone(tiny, "The capital", **ASKED)


def test_the_stop_that_was_met_is_named(tiny):
    text = alone(tiny, "One", **ASKED)
    got = tiny.http.post("/v1/completions", json={"prompt": "One", **ASKED, "stop": [text[4:6]]}).json()["choices"][0]
    assert (got["text"], got["finish_reason"], got["stop_reason"]) == (text[: text.find(text[4:6])], "stop", text[4:6])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 20, "n": 10}, "n"),
        ({"prompt": None}, "prompt"),
        ({"echo": "yes"}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ],
)
def test_what_is_wrong_or_not_there_is_400_and_named(tiny, fields, param):
    got = tiny.http.post("/v1/completions", json={"prompt": "One", **fields})
    assert got.status_code == 400
    assert got.json()["error"]["param"] == param


def test_one_bad_prompt_of_several_ends_them_all(tiny):
    got = tiny.http.post("/v1/completions", json={"prompt": [[70], [1000]]})
    assert got.status_code == 400
    assert "1000" in got.json()["error"]["message"]
    got = tiny.http.post("/v1/completions", json={"prompt": ["a", "b" * 5000], "stream": True})
    assert "context_length_exceeded" in got.text
    assert "[DONE]" not in got.text


def test_words_to_ids_and_back(tiny):
    for path in ("/v1/", "/"):
        ids = tiny.http.post(f"{path}tokenize", json={"model": "tiny", "text": "Hello <|im_end|>"}).json()
        assert (ids["count"], ids["max_model_len"]) == (len(ids["tokens"]), 4096)
        back = tiny.http.post(f"{path}detokenize", json={"tokens": ids["tokens"]}).json()
        assert back["text"] == "Hello <|im_end|>"


def test_messages_to_ids(tiny):
    turns = [{"role": "user", "content": "Hello"}]
    ids = tiny.http.post("/v1/tokenize", json={"messages": turns}).json()["tokens"]
    shown = tiny.http.post("/v1/detokenize", json={"tokens": ids, "skip_special_tokens": False}).json()["text"]
    assert shown == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    bare = tiny.http.post("/v1/tokenize", json={"messages": turns, "add_generation_prompt": False}).json()["tokens"]
    assert ids[: len(bare)] == bare


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "text"),
        ("tokenize", {"text": "a", "messages": [{"role": "user", "content": "a"}]}, "text"),
        ("tokenize", {"text": 5}, "text"),
        ("tokenize", {"text": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("tokenize", {"text": "a", "add_special_tokens": False}, "add_special_tokens"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": "a"}, "tokens"),
        ("detokenize", {"tokens": [1.5]}, "tokens"),
    ],
)
def test_words_that_are_none(tiny, path, body, param):
    got = tiny.http.post(f"/v1/{path}", json=body)
    assert (got.status_code, got.json()["error"]["param"]) == (400, param)
