"""SGLang's endpoints over a real socket."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from crane_app.engine.request import Asked, End, Part, Piece, Request
from crane_app.server.guard import Access
from crane_app.server.service import Limits
from tests.server.conftest import serving
from tests.server.scripted import Scripted

SAMPLING: dict[str, Any] = {"temperature": 1.0, "seed": 4, "max_new_tokens": 12}


def alone(tiny, prompt: str | list[int], n: int = 1) -> list[tuple[str, list[int]]]:
    given = {"text": prompt} if isinstance(prompt, str) else {"tokens": tuple(prompt)}
    asked = Asked(temperature=1.0, seed=4, max_tokens=12, n=n)
    found = [("", []) for _ in range(n)]
    for event in tiny.engine.submit(Request("tiny", **given, asked=asked, endpoint="generate")):
        if isinstance(event, Piece):
            text, ids = found[event.choice]
            found[event.choice] = text + event.text, ids + list(event.tokens)
    return found


def ask(tiny, **body: Any) -> Any:
    got = tiny.http.post("/generate", json={"sampling_params": SAMPLING, **body})
    assert got.status_code == 200, got.text
    return got.json()


def pair(answer: dict) -> tuple[str, list[int]]:
    return answer["text"], answer["output_ids"]


def test_a_text_goes_on(tiny):
    got = ask(tiny, text="One", rid="mine")
    assert [pair(got)] == alone(tiny, "One")
    meta = got["meta_info"]
    assert (meta["id"], meta["completion_tokens"], meta["prompt_tokens"] > 0) == ("mine", len(got["output_ids"]), True)
    assert meta["finish_reason"]["type"] in ("length", "stop")


def test_lists_and_ids_and_several_of_each(tiny):
    assert [pair(each) for each in ask(tiny, text=["One", "Two"])] == [*alone(tiny, "One"), *alone(tiny, "Two")]
    assert [pair(ask(tiny, input_ids=[70, 71]))] == alone(tiny, [70, 71])
    assert [pair(each) for each in ask(tiny, input_ids=[[70, 71]])] == alone(tiny, [70, 71])
    several = ask(tiny, text="One", sampling_params={**SAMPLING, "n": 3})
    assert [pair(each) for each in several] == alone(tiny, "One", 3)


def test_a_stream_has_the_text_so_far(tiny):
    got = tiny.http.post("/generate", json={"text": "One", "sampling_params": SAMPLING, "stream": True}).text
    frames = [frame.removeprefix("data: ") for frame in got.split("\n\n") if frame]
    assert frames[-1] == "[DONE]"
    grown = [json.loads(frame) for frame in frames[:-1]]
    assert all(b["text"].startswith(a["text"]) for a, b in pairwise(grown))
    assert [pair(grown[-1])] == alone(tiny, "One")
    assert grown[0]["meta_info"]["finish_reason"] is None
    assert grown[-1]["meta_info"]["finish_reason"] is not None


def test_why_it_ended(tiny):
    text, ids = alone(tiny, "One")[0]
    length = ask(tiny, text="One", sampling_params={**SAMPLING, "max_new_tokens": 3})
    assert length["meta_info"]["finish_reason"] == {"type": "length", "length": 3}
    stop = ask(tiny, text="One", sampling_params={**SAMPLING, "stop": text[3:5]})
    assert stop["meta_info"]["finish_reason"] == {"type": "stop", "matched": text[3:5]}
    token = ask(tiny, text="One", sampling_params={**SAMPLING, "stop_token_ids": [ids[2]]})
    assert token["meta_info"]["finish_reason"] == {"type": "stop", "matched": ids[2]}


def test_logprobs(tiny):
    meta = ask(tiny, text="One", return_logprob=True, top_logprobs_num=2, return_text_in_logprobs=True)
    rows, top = meta["meta_info"]["output_token_logprobs"], meta["meta_info"]["output_top_logprobs"]
    assert [row[1] for row in rows] == meta["output_ids"]
    assert all(row[0] <= best[0][0] <= 0 and len(best) == 2 for row, best in zip(rows, top, strict=True))
    assert any(row[2] for row in rows)


@pytest.mark.parametrize("start", [0, 1, 4])
@pytest.mark.parametrize("top", [0, 2])
def test_logprobs_of_the_input_from_a_token_on(tiny, start, top):
    (found,) = [e.value for e in tiny.engine.score("tiny", "The capital", top) if isinstance(e, Part)]
    want = [[None, found["tokens"][0]], *([one.logprob, one.token] for one in found["drawn"])][start:]
    body = {"return_logprob": True, "logprob_start_len": start, "top_logprobs_num": top}
    meta = ask(tiny, text="The capital", return_text_in_logprobs=True, **body)["meta_info"]
    assert [row[:2] for row in meta["input_token_logprobs"]] == want
    assert "".join(row[2] for row in meta["input_token_logprobs"]) == "The capital"[-len(want) :] or start
    likeliest = [None, *([[p, id] for id, p in one.top] for one in found["drawn"])][start:] if top else []
    assert [best and [row[:2] for row in best] for best in meta["input_top_logprobs"]] == likeliest
    assert len(meta["output_token_logprobs"]) == meta["completion_tokens"]
    several = ask(tiny, input_ids=[found["tokens"], found["tokens"][:5]], **body)
    assert [row[:2] for row in several[0]["meta_info"]["input_token_logprobs"]] == want
    assert [row[2] for row in several[1]["meta_info"]["input_token_logprobs"]] == [None] * (5 - start)


def test_of_the_input_nothing_is_told_unless_a_start_is_said(tiny):
    meta = ask(tiny, text="The capital", return_logprob=True, logprob_start_len=-1)["meta_info"]
    assert (meta["input_token_logprobs"], meta["input_top_logprobs"]) == ([], [])


def test_how_much_of_the_prompt_was_there_already(tiny):
    ids = [70 + i % 90 for i in range(600)]
    assert ask(tiny, input_ids=ids)["meta_info"]["cached_tokens"] == 0
    assert ask(tiny, input_ids=ids)["meta_info"]["cached_tokens"] == 512
    three = ask(tiny, input_ids=[7, *ids], sampling_params={**SAMPLING, "n": 3})
    assert sorted(each["meta_info"]["cached_tokens"] for each in three) == [0, 601, 601]
    got = tiny.http.post("/generate", json={"input_ids": ids, "sampling_params": SAMPLING, "stream": True}).text
    last = json.loads(got.split("\n\n")[-3].removeprefix("data: "))
    assert last["meta_info"]["cached_tokens"] == 512


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "a", "input_ids": [1]}, "text"),
        ({"text": [1]}, "text"),
        ({"input_ids": "a"}, "input_ids"),
        ({"text": "a", "image_url": "http://x/y.png"}, "image_url"),
        ({"text": "a", "image_data": "/etc/passwd"}, "image_data"),
        ({"text": "a", "logprob_start_len": 0}, "logprob_start_len"),
        ({"text": "a", "logprob_start_len": 9, "return_logprob": True}, "logprob_start_len"),
        ({"text": "a", "return_logprob": True, "token_ids_logprob": [3]}, "token_ids_logprob"),
        ({"text": "a", "top_logprobs_num": 1}, "top_logprobs_num"),
        ({"text": "a", "sampling_params": []}, "sampling_params"),
        ({"text": "a", "sampling_params": {"max_new_tokens": 0}}, "sampling_params.max_new_tokens"),
        ({"text": "a", "sampling_params": {"max_newtokens": 5}}, "sampling_params.max_newtokens"),
    ],
)
def test_what_is_wrong_or_not_there_is_400_and_named(tiny, body, param):
    got = tiny.http.post("/generate", json=body)
    assert (got.status_code, got.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/model_info", "/get_model_info"])
def test_what_a_model_is(tiny, path):
    got = tiny.http.get(path).json()
    assert (got["device"], got["is_generation"], got["context_length"]) == ("Cpu", True, 4096)


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_what_the_server_is_and_did(tiny, path):
    before = tiny.http.get(path).json()["stats"]
    ask(tiny, text="One")
    got = tiny.http.get(path).json()
    assert (got["max_concurrent"], got["decode_tokens_per_seq"]) == (16, 16)
    assert got["stats"]["completed_requests"] == before["completed_requests"] + 1
    assert got["stats"]["active_sequences"] == 0
    assert got["sampling_defaults"]["generate"]["max_tokens"] == 128


def test_figures_for_prometheus(tiny):
    ask(tiny, text="One")
    lines = tiny.http.get("/metrics").text.splitlines()
    values = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
    assert values["crane_generation_tokens_total"] == tiny.http.get("/v1/stats").json()["output_tokens"] > 0
    assert values["crane_num_requests_running"] == 0
    assert all(name.startswith("crane_") for name in values)


def test_a_probe_makes_a_token(tiny):
    assert tiny.http.get("/health_generate").json() == {"status": "ok"}
    assert tiny.http.get("/ready").json()["models"] == ["tiny"]
    assert tiny.http.post("/flush_cache").json()["success"]
    assert tiny.http.get("/flush_cache").json()["success"]


# With an engine that waits


@pytest.fixture
def waiting():
    with serving(Scripted(Piece("So", (1,)), None, End("stop")), Access(("mine", "other"), (), True)) as server:
        yield server


def start(server: Any, rid: str, path: str = "/generate") -> tuple[threading.Thread, list]:
    """A request that waits, from another thread, once the engine has it."""
    found: list = []
    body = {"text": "One", "rid": rid} if path == "/generate" else {"prompt": "One", "rid": rid}
    before = len(server.engine.requests)

    def post() -> None:
        found.append(server.http.post(path, json=body, headers={"x-api-key": "mine"}))

    thread = threading.Thread(target=post)
    thread.start()
    until = time.monotonic() + 5
    while len(server.engine.requests) == before and time.monotonic() < until:
        time.sleep(0.002)
    return thread, found


def abort(server: Any, key: str = "mine", **body: Any) -> Any:
    return server.http.post("/abort_request", json=body, headers={"x-api-key": key})


def test_a_request_is_aborted_by_its_own_key_only(waiting):
    thread, found = start(waiting, "one")
    assert abort(waiting, "other", rid="one").status_code == 404
    assert abort(waiting, "other", abort_all=True).json()["aborted"] == 0
    assert not waiting.engine.cancelled
    assert abort(waiting, rid="one").json() == {"success": True, "aborted": 1}
    thread.join(10)
    assert found[0].json()["meta_info"]["finish_reason"]["type"] == "abort"
    assert found[0].json()["text"] == "So"
    assert abort(waiting, rid="one").status_code == 404
    assert abort(waiting).status_code == 400


def test_an_aborted_completion_is_409(waiting):
    thread, found = start(waiting, "one", "/v1/completions")
    abort(waiting, abort_all=True)
    thread.join(10)
    assert (found[0].status_code, found[0].json()["error"]["code"]) == (409, "aborted")


def test_an_id_that_is_under_way_is_refused(waiting):
    thread, _ = start(waiting, "one")
    again = waiting.http.post("/generate", json={"text": "Two", "rid": "one"}, headers={"x-api-key": "other"})
    assert (again.status_code, again.json()["error"]["param"]) == (400, "rid")
    abort(waiting, rid="one")
    thread.join(10)


def test_one_that_waits_for_its_turn_is_aborted_at_once():
    with serving(Scripted(Piece("So", (1,)), None, End("stop")), limits=Limits(1)) as server:
        first, found = start(server, "first")
        second = threading.Thread(
            target=lambda: found.append(server.http.post("/generate", json={"text": "b", "rid": "b"}))
        )
        second.start()
        until = time.monotonic() + 5
        while not server.http.get("/v1/stats").json()["waiting_sequences"] and time.monotonic() < until:
            time.sleep(0.002)
        assert abort(server, rid="b").json()["aborted"] == 1
        second.join(10)
        assert found[0].json()["meta_info"]["finish_reason"]["type"] == "abort"
        assert len(server.engine.requests) == 1
        server.engine.go.set()
        first.join(10)
