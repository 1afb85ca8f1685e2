"""POST /v1/embeddings, asked by OpenAI's client over a socket."""

from __future__ import annotations

import base64

import numpy as np
import pytest


def vectors(server, **fields) -> np.ndarray:
    """By httpx, so that fields which OpenAI does not have can be sent."""
    got = server.http.post("/v1/embeddings", json={"model": "tiny", **fields})
    assert got.status_code == 200, got.text
    return np.array([each["embedding"] for each in got.json()["data"]])


def test_a_client_has_a_vector_of_each_text(tiny):
    got = tiny.openai().embeddings.create(model="tiny", input=["A crane.", "Two cranes."])
    assert [each.index for each in got.data] == [0, 1]
    assert np.allclose([np.linalg.norm(each.embedding) for each in got.data], 1, atol=1e-5)
    assert got.usage.prompt_tokens == got.usage.total_tokens > 2


def test_a_text_alone_and_among_others_has_the_same_vector(tiny):
    both, alone = vectors(tiny, input=["A crane.", "Two cranes."]), vectors(tiny, input="Two cranes.")
    assert np.array_equal(both[1], alone[0])
    assert not np.allclose(both[0], both[1])


def test_ids_are_the_text_they_stand_for(tiny):
    ids = tiny.http.post("/v1/tokenize", json={"text": "A crane."}).json()["tokens"]
    assert np.array_equal(vectors(tiny, input=ids), vectors(tiny, input="A crane."))
    assert np.array_equal(vectors(tiny, input=[ids]), vectors(tiny, input="A crane."))


def test_base64_holds_the_same_numbers(tiny):
    plain = tiny.openai().embeddings.create(model="tiny", input="A crane.", encoding_format="float")
    packed = tiny.openai().embeddings.create(model="tiny", input="A crane.", encoding_format="base64")
    found = np.frombuffer(base64.b64decode(packed.data[0].embedding), "<f4")
    assert np.array_equal(found, np.array(plain.data[0].embedding, np.float32))


def test_the_mean_and_the_length_are_what_was_asked_for(tiny):
    mean = vectors(tiny, input="A crane.", pooling="mean", normalize=False)
    assert not np.isclose(np.linalg.norm(mean), 1)
    direction = vectors(tiny, input="A crane.", pooling="mean")
    assert np.allclose(mean / np.linalg.norm(mean), direction, atol=1e-5)
    assert not np.allclose(direction, vectors(tiny, input="A crane."), atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["A", ""]}, "input"),
        ({"input": ["A", 5]}, "input"),
        ({"input": "A", "dimensions": 8}, "dimensions"),
        ({"input": "A", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "A", "pooling": "max"}, "pooling"),
    ],
)
def test_what_is_wrong_is_400_and_named(tiny, fields, param):
    got = tiny.http.post("/v1/embeddings", json=fields)
    assert (got.status_code, got.json()["error"]["param"]) == (400, param), got.text


def test_a_text_past_the_context_says_both_lengths(tiny):
    got = tiny.http.post("/v1/embeddings", json={"input": "crane " * 5000})
    assert (got.status_code, got.json()["error"]["code"]) == (400, "context_length_exceeded"), got.text
