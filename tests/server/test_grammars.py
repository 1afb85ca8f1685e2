"""What an answer must be, in every dialect: over real sockets, by a model of noise."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel

from crane_app.engine.request import End, Grammar, Part, failed
from crane_app.errors import BadGrammar
from tests.server.conftest import Serving, serving
from tests.server.scripted import Scripted, said

HELLO = [{"role": "user", "content": "Hello"}]
PET = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}
WARM = {"temperature": 1.0, "seed": 3}


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    legs: Literal[2, 4]


def ask(tiny: Serving, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
    given = {"messages": HELLO} if "chat" in path or "messages" in path else {}
    return tiny.http.post(path, json={**given, **fields})


def text_of(got: httpx.Response) -> str:
    assert got.status_code == 200, got.text
    choice = got.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"] if "message" in choice else choice["text"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_a_schema_of_openais(tiny, stream, strict):
    wanted = {"type": "json_schema", "json_schema": {"name": "pet", "strict": strict, "schema": PET}}
    got = tiny.openai().chat.completions.create(
        model="tiny", messages=HELLO, response_format=wanted, stream=stream, max_tokens=200, **WARM
    )
    chunks = list(got) if stream else []
    text = "".join(c.choices[0].delta.content or "" for c in chunks) or got.choices[0].message.content
    pet = json.loads(text)
    assert pet.keys() == {"kind", "legs"}
    assert pet["kind"] in ("cat", "dog")
    assert 0 <= pet["legs"] <= 9


def test_the_openai_client_parses_its_own_classes(tiny):
    got = tiny.openai().chat.completions.parse(
        model="tiny", messages=HELLO, response_format=Pet, max_tokens=200, **WARM
    )
    assert isinstance(got.choices[0].message.parsed, Pet)


def test_any_json_object(tiny):
    """Noise may go on for ever inside a text, so it is told which letters it likes: } is 98."""
    bias = {"98": 60, "5": -100, "7": 30}
    text = text_of(ask(tiny, response_format={"type": "json_object"}, logit_bias=bias, **WARM))
    assert isinstance(json.loads(text), dict)


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "guided_json": ({"guided_json": PET}, r'\{\s*"kind".*\}'),
    "guided_json as text": ({"guided_json": json.dumps(PET)}, r'\{\s*"kind".*\}'),
    "guided_regex": ({"guided_regex": "[ab]{4}"}, "[ab]{4}"),
    "guided_choice": ({"guided_choice": ["yes", "no"]}, "yes|no"),
    "guided_grammar": ({"guided_grammar": 'root ::= "<" [xy] ">"'}, "<[xy]>"),
    "grammar": ({"grammar": 'start: "<" /[xy]/ ">"'}, "<[xy]>"),
    "structured json": ({"structured_outputs": {"json": PET, "regex": None}}, r'\{\s*"kind".*\}'),
    "structured regex": ({"structured_outputs": {"regex": "[ab]{4}"}}, "[ab]{4}"),
    "structured choice": ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
    "structured grammar": ({"structured_outputs": {"grammar": 'root ::= "<" [xy] ">"'}}, "<[xy]>"),
    "sglang json_schema": ({"json_schema": json.dumps(PET)}, r'\{\s*"kind".*\}'),
    "sglang regex": ({"regex": "[ab]{4}"}, "[ab]{4}"),
    "sglang ebnf": ({"ebnf": 'root ::= "<" [xy] ">"'}, "<[xy]>"),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("form", FORMS)
def test_other_servers_words_for_it(tiny, path, form):
    fields, pattern = FORMS[form]
    prompt = {} if "chat" in path else {"prompt": "Hello"}
    text = text_of(ask(tiny, path, max_tokens=200, **fields, **prompt, **WARM))
    assert re.fullmatch(pattern, text, re.DOTALL), text


def test_completions_know_response_format_too(tiny):
    fields = {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PET}}}
    got = ask(tiny, "/v1/completions", prompt=["a", "b"], n=2, max_tokens=200, **fields, **WARM).json()
    assert [json.loads(choice["text"]).keys() for choice in got["choices"]] == [{"kind", "legs"}] * 4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", ["sglang json_schema", "sglang regex", "sglang ebnf"])
def test_generate(tiny, form, stream):
    fields, pattern = FORMS[form]
    params = {"max_new_tokens": 200, **fields, "temperature": 1.0, "sampling_seed": 3}
    got = ask(tiny, "/generate", text="Hello", sampling_params=params, stream=stream)
    last = got.text.strip().split("\n\n")[-2].removeprefix("data: ") if stream else got.text
    answer = json.loads(last)
    assert re.fullmatch(pattern, answer["text"], re.DOTALL)
    assert answer["meta_info"]["finish_reason"]["type"] == "stop"


@pytest.mark.parametrize("format", [PET, "json"])
def test_ollama(tiny, format):
    options = {"temperature": 1.0, "seed": 3, "num_predict": 200 if format == PET else 5}
    turns = {"messages": HELLO, "stream": False, "format": format, "options": options}
    chat = tiny.http.post("/api/chat", json=turns).json()["message"]["content"]
    raw = {"prompt": "Hello", "stream": False, "format": format, "options": options}
    texts = [chat, *(tiny.http.post("/api/generate", json={**raw, "raw": r}).json()["response"] for r in (True, False))]
    for text in texts:
        assert json.loads(text)["kind"] in ("cat", "dog") if format == PET else text.startswith("{")


@pytest.mark.parametrize("field", ["output_format", "output_config"])
def test_anthropic(tiny, field):
    wanted = {"type": "json_schema", "schema": PET}
    given = {field: wanted if field == "output_format" else {"format": wanted}}
    got = ask(tiny, "/v1/messages", max_tokens=200, temperature=1.0, **given).json()
    assert got["stop_reason"] == "end_turn", got
    assert json.loads(got["content"][0]["text"]).keys() == {"kind", "legs"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"response_format": {"type": "xml"}}, "response_format"),
        ("/v1/chat/completions", {"response_format": {"type": "json_schema"}}, "response_format"),
        ("/v1/chat/completions", {"response_format": "json"}, "response_format"),
        (
            "/v1/chat/completions",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "strang"}}}},
            "response_format",
        ),
        ("/v1/chat/completions", {"guided_regex": "[a-z"}, "guided_regex"),
        ("/v1/chat/completions", {"guided_choice": []}, "guided_choice"),
        ("/v1/chat/completions", {"guided_choice": [1]}, "guided_choice"),
        ("/v1/chat/completions", {"regex": "a" * 200_000}, "regex"),
        ("/v1/chat/completions", {"regex": "a", "guided_choice": ["b"]}, "guided_choice"),
        ("/v1/chat/completions", {"structured_outputs": {}}, "structured_outputs"),
        ("/v1/chat/completions", {"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ("/v1/chat/completions", {"structured_outputs": {"structural_tag": "x"}}, "structured_outputs"),
        ("/v1/chat/completions", {"guided_decoding_backend": "outlines"}, "guided_decoding_backend"),
        ("/v1/completions", {"prompt": "a", "ebnf": "nothing"}, "ebnf"),
        ("/v1/completions", {"prompt": "a", "guided_json": {"not": {}}}, "guided_json"),
        ("/generate", {"text": "a", "sampling_params": {"regex": "("}}, "sampling_params.regex"),
        ("/generate", {"text": "a", "sampling_params": {"json_schema": "{"}}, "sampling_params.json_schema"),
    ],
)
def test_what_cannot_be_is_400_and_named(tiny, path, fields, param, stream):
    got = ask(tiny, path, stream=stream, **fields)
    assert got.status_code == 400, got.text
    error = got.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["message"].endswith(".")


def test_a_text_is_held_to_nothing(tiny):
    free = ask(tiny, max_tokens=8, **WARM).json()["choices"]
    assert ask(tiny, max_tokens=8, response_format={"type": "text"}, **WARM).json()["choices"] == free


# With an engine that says what it is told


class Thinking(Scripted):
    """Its prompts are other ones where it is told not to think."""

    def open(self, job: Any) -> Any:
        if job.kind == "tokenize" and job.options.get("enable_thinking") is False:
            return self._start([Part([9]), End("stop")])
        return super().open(job)


@pytest.mark.parametrize(
    ("prompt", "thinks", "thought"),
    [
        ("<|im_start|>assistant\n<think>\n", True, "open"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", True, "none"),
        ("<|im_start|>assistant\n", True, "free"),
        ("<|im_start|>assistant\n", False, "none"),
    ],
)
def test_it_holds_after_the_thought_there_may_be(prompt, thinks, thought):
    engine = (Thinking if thinks else Scripted)(*said("x"), prompt=prompt)
    with serving(engine) as server:
        ask(server, regex="a")
        assert engine.requests[-1].asked.grammar == Grammar("regex", "a", thought, "regex")
        ask(server, regex="a", continue_final_message=True)
        assert engine.requests[-1].asked.grammar.thought == ("none" if thought == "free" else thought)


def test_a_grammar_that_fails_under_way_names_its_field():
    with serving(Scripted(failed(BadGrammar("regex cannot be kept to: it is too complex.")))) as server:
        assert ask(server, regex="a").json()["error"]["param"] == "regex"


@pytest.mark.parametrize("stream", [False, True])
def test_responses(tiny, stream):
    wanted = {"format": {"type": "json_schema", "name": "pet", "schema": PET, "strict": True}}
    got = tiny.openai().responses.create(model="tiny", input="Hello", text=wanted, stream=stream, max_output_tokens=200)
    response = list(got)[-1].response if stream else got
    assert response.status == "completed"
    assert json.loads(response.output_text)["kind"] in ("cat", "dog")
    assert response.text.format.name == "pet"
    parsed = tiny.openai().responses.parse(model="tiny", input="Hello", text_format=Pet, max_output_tokens=200)
    assert isinstance(parsed.output_parsed, Pet)
    bad = ask(tiny, "/v1/responses", input="Hi", text={"format": {"type": "json_schema", "schema": {"type": "x"}}})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "text.format")
    assert (
        ask(tiny, "/v1/responses", input="Hi", guided_choice=["yes"]).json()["output"][0]["content"][0]["text"] == "yes"
    )
