"""Whether a model thinks before it answers, and how long: the fields of a request in the words of several APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crane_app.engine.defaults import ENDPOINTS, RANGES
from crane_app.server.fields import Table, honoured, mapping, one_of, shaped, whole, yes_no
from crane_app.server.problems import refused

# How much of the answer's most tokens may be thought (openrouter.ai/docs, "Reasoning Tokens").
SHARES = {"none": 0.0, "minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95}
EFFORTS = tuple(SHARES)
BUDGETS = ("thinking_budget", "max_thinking_tokens", "thinking_token_budget")
tokens = whole(*(int(end) for end in RANGES["thinking_budget"]))


@shaped(
    type="object",
    properties={"type": {"enum": ["enabled", "disabled", "adaptive"]}, "budget_tokens": dict(tokens.schema)},
    required=["type"],
)
def switch(value: Any) -> dict[str, Any]:
    """{"type": "enabled", "budget_tokens": 1024} -> {"enable_thinking": True, "thinking_budget": 1024}."""
    kind, budget = mapping(value).get("type"), value.get("budget_tokens")
    if kind not in ("enabled", "disabled", "adaptive"):
        raise ValueError(f"must be of the type enabled, disabled or adaptive, not {kind!r:.40}")
    return {"enable_thinking": kind != "disabled"} | ({} if budget is None else {"thinking_budget": tokens(budget)})


FIELDS: Table = (
    honoured("enable_thinking", yes_no, "as in chat_template_kwargs"),
    honoured(
        "reasoning_effort",
        one_of(*EFFORTS),
        "none: the model does not think; minimal, low, medium, high, xhigh: 10, 20, 50, 80, 95 % of max_tokens at most",
    ),
    honoured(BUDGETS[0], tokens, "tokens of the thought, which is closed then; wins over reasoning_effort"),
    *(honoured(name, tokens, f"as {BUDGETS[0]}") for name in BUDGETS[1:]),
    honoured("thinking", switch, 'as {"type": "enabled", "budget_tokens": 1024}, or disabled'),
)


def variables(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the chat template is told about it."""
    found: dict[str, Any] = {}
    if "enable_thinking" in given.get("thinking", {}):
        found["enable_thinking"] = given["thinking"]["enable_thinking"]
    if "reasoning_effort" in given:
        found["enable_thinking"] = given["reasoning_effort"] != "none"
        found["reasoning_effort"] = given["reasoning_effort"]
    if "enable_thinking" in given:
        found["enable_thinking"] = given["enable_thinking"]
    return found


def budget(given: Mapping[str, Any], most: int | None, context: int) -> int | None:
    """Tokens of the thought, None for as many as it likes; most: of the answer. Problem 400 where two fields differ."""
    said = {name: given[name] for name in BUDGETS if name in given}
    if "thinking_budget" in given.get("thinking", {}):
        said["thinking"] = given["thinking"]["thinking_budget"]
    if len(set(said.values())) > 1:
        raise refused(list(said)[-1], f"{' and '.join(said)} say different things. Give one of them.")
    if said:
        return int(next(iter(said.values())))
    effort = given.get("reasoning_effort", "none")
    if effort == "none":
        return None
    return int(SHARES[effort] * min(most or int(ENDPOINTS["chat"]["max_tokens"]), context))
