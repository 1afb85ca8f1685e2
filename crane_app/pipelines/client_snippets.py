"""What to write in other programs so that they use this server: whole commands and programs, to be copied.

Each runs as it is: tests/pipelines/test_client_snippets.py runs them against a server.
"""

from __future__ import annotations

import json
import shlex

QUESTION = "Why do cranes dance?"
NO_KEY = "none"  # client libraries want some key, also where the server wants none


def snippets(url: str, model: str, key: str) -> dict[str, str]:
    """By the name of the program or language: what asks `model` at `url` a question; key: "" for none."""
    return {
        "curl": curl(url, model, key),
        "Python": python(url, model, key),
        "JavaScript": javascript(url, model, key),
        "SGLang": sglang(url, key),
        "Ollama": ollama(url, model, key),
    }


def curl(url: str, model: str, key: str) -> str:
    """A command for a shell of Unix."""
    lines = [f"curl {url}/v1/chat/completions", '-H "Content-Type: application/json"']
    if key:
        lines.append(f"-H {shlex.quote(f'Authorization: Bearer {key}')}")
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    lines.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    return " \\\n  ".join(lines)


def python(url: str, model: str, key: str) -> str:
    """With the package openai."""
    return f"""from openai import OpenAI

client = OpenAI(base_url={json.dumps(f"{url}/v1")}, api_key={json.dumps(key or NO_KEY)})
answer = client.chat.completions.create(
    model={_text(model)},
    messages=[{{"role": "user", "content": {_text(QUESTION)}}}],
)
print(answer.choices[0].message.content)
"""


def javascript(url: str, model: str, key: str) -> str:
    """Without a package, for Node.js 18 and later as a module."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return f"""const answer = await fetch({json.dumps(f"{url}/v1/chat/completions")}, {{
  method: "POST",
  headers: {json.dumps(headers)},
  body: JSON.stringify({{
    model: {_text(model)},
    messages: [{{ role: "user", content: {_text(QUESTION)} }}],
  }}),
}});
console.log((await answer.json()).choices[0].message.content);
"""


def sglang(url: str, key: str) -> str:
    """SGLang's own request, which needs no package."""
    lines = [f"curl {url}/generate", '-H "Content-Type: application/json"']
    if key:
        lines.append(f"-H {shlex.quote(f'Authorization: Bearer {key}')}")
    body = {"text": f"{QUESTION} ", "sampling_params": {"max_new_tokens": 64, "temperature": 0.7}}
    lines.append(f"-d {shlex.quote(json.dumps(body))}")
    return " \\\n  ".join(lines)


def ollama(url: str, model: str, key: str) -> str:
    """Programs that speak with Ollama take its address; this asks as they do."""
    lines = [f"curl {url}/api/chat"]
    if key:
        lines.append(f"-H {shlex.quote(f'Authorization: Bearer {key}')}")
    body = {"model": model, "stream": False, "messages": [{"role": "user", "content": QUESTION}]}
    lines.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    return f"export OLLAMA_HOST={shlex.quote(url)}\n\n" + " \\\n  ".join(lines)


def _text(words: str) -> str:
    """A text as both languages write it."""
    return json.dumps(words, ensure_ascii=False)
