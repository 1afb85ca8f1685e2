"""Writes docs/compatibility.md from the tables that the server reads requests with: `python tools/compatibility.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crane_app.server.app import ENDPOINTS
from crane_app.server.fields import Table
from crane_app.server.service import Endpoint

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"
HEAD = """\
# What the server speaks

Written by `python tools/compatibility.py` from the tables that the server reads requests with. A field is

- **honoured**: it does what its API says;
- **refused**: it would change the output and cannot be done, so the answer is 400 and names it;
- **harmless**: it changes nothing in what comes out, and is passed over.

Fields that no API knows are passed over, unless the name is nearly that of one in the table: that is a slip, and 400.
`null` counts as left out. Paths may end in a slash. Bodies are JSON of at most 32 MiB, without names that stand twice
and without NaN. Errors are `{"error": {"message", "type", "param", "code"}}`: 400 for what is wrong with a request,
401 for the key, 403 for the Host or the Origin, 404 for a model that is not here, 408 and 413 for the body, 409 for
what was aborted, 429 when too many wait, 503 when the engine is starting anew. Once a stream has begun, an error is
its last event. Anthropic's and Ollama's endpoints tell errors in their own form, but for those of the key, the Host and
the Origin.

## Where it differs on purpose

- The address is 127.0.0.1 unless `--host` says otherwise, and beyond this machine a key is needed.
- Sampling fields that are left out come from the model's generation_config.json, then from the endpoint's own
  defaults.
- `stop` takes at most four texts on OpenAI's endpoints.
- A list of prompts gets an answer each; it is not joined to one text.
- With logprobs, the tokens joined are the text that the model wrote, thoughts and calls included. A token that only
  begins a character has an empty text and its bytes; a stop text cuts the token that it begins in.
- /v1/responses keeps nothing: a conversation is sent whole each time, and `store` is as if it were false. A thought is
  an item of its own, told whole as reasoning_text.
- A thought between `<think>` and `</think>` at the very beginning is `reasoning_content` (and `reasoning`).
- A schema, a pattern, a list of choices or a grammar is enforced token by token, `strict` or not, after the thought.
  What cannot be enforced (`not`, `if`, `uniqueItems`, look-around), has more than 131,072 characters or 1,000
  properties, or is not compiled within ten seconds is 400 and names the field. Properties come in the order of the
  schema. An answer that reaches `max_tokens` is cut like any other. Log-probabilities are the model's own, as if
  nothing were enforced.
- A tool that must be called is called, with arguments that fit its schema, in the form that the chat template shows:
  JSON between `<tool_call>` tags (Qwen, Hermes), `<function=...>` (Qwen3-Coder), a list between `<tool_calls>` tags
  (Hunyuan). Under `auto` a call is what can be read as one, and all else stays text; in a stream the arguments come as
  they are written, so that a call which breaks off in them has been told already. With a `strict`
  function every call has the right form, and those of strict ones have arguments that fit their schema.
- Pictures and sound in messages are refused until a model here reads them. Paths are never opened, and addresses are
  fetched with --allow-url-fetch only, where they are on the internet.
"""


def page() -> str:
    return HEAD + "".join(part for endpoint in ENDPOINTS for part in _section(endpoint))


def _section(endpoint: Endpoint) -> Iterator[str]:
    yield f"\n## {endpoint.method} {endpoint.paths[0]}\n\n{endpoint.sentence}."
    if endpoint.paths[1:]:
        yield f" Also at {', '.join(endpoint.paths[1:])}."
    yield "\n"
    if endpoint.fields:
        yield "\n| field | | |\n|---|---|---|\n"
        yield from _rows(endpoint.fields, "")


def _rows(table: Table, inside: str) -> Iterator[str]:
    for field in table:
        yield f"| `{inside}{field.name}` | {field.fate} | {field.note.replace('|', ' ')} |\n"
        yield from _rows(field.inside, f"{field.name}.")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
