"""From what was asked to what will be done: the request, then the model's generation_config.json, then the endpoint."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from crane_app.contract import Sampling
from crane_app.engine.request import Asked, Resolved
from crane_app.errors import BadInput

# Used where neither the request nor generation_config.json speaks. `app` is the window and the terminal.
ENDPOINTS: dict[str, dict[str, float | int]] = {
    "chat": {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.05, "max_tokens": 512},
    "generate": {"temperature": 0.8, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.0, "max_tokens": 128},
    "completions": {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "max_tokens": 16},
    "app": {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.05, "max_tokens": 4096},
    "greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "max_tokens": 256},
}
FIXED = {"min_p": 0.0, "repeat_last_n": -1, "presence_penalty": 0.0, "frequency_penalty": 0.0}
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (-1, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "repeat_last_n": (-1, 2**31 - 1),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "logit_bias": (-100.0, 100.0),
    "max_tokens": (1, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "logprobs": (0, 20),
    "n": (1, 128),
    "thinking_budget": (0, 2**31 - 1),
}
WHOLE = {"top_k", "repeat_last_n", "max_tokens", "min_tokens", "logprobs", "n", "thinking_budget"}
FILE = "generation_config.json"


def resolve(asked: Asked, generation: Mapping[str, Any], endpoint: str, eos: tuple[int, ...]) -> Resolved:
    """Everything decided. Raises BadInput that names the field, and the file if it is not the request's."""
    if endpoint not in ENDPOINTS:
        raise BadInput(f"There are no defaults for '{endpoint}'. There are some for: {', '.join(ENDPOINTS)}.")
    fallback = {**FIXED, **ENDPOINTS[endpoint]}
    spoken = {} if endpoint == "greedy" else generation

    def pick(name: str) -> Any:
        if getattr(asked, name) is not None:
            return _checked(name, getattr(asked, name))
        if spoken.get(name) is not None:
            return _checked(name, spoken[name], f"{FILE}: ")
        return fallback[name]

    def count(name: str, default: float) -> int:
        value = getattr(asked, name)
        return int(_checked(name, default if value is None else value))

    greedy = asked.do_sample is False or (
        asked.do_sample is None and asked.temperature is None and spoken.get("do_sample") is False
    )
    ends = _ids("stop_token_ids", asked.stop_token_ids or ())
    return Resolved(
        sampling=Sampling(
            temperature=0.0 if greedy else float(pick("temperature")),
            top_k=max(int(pick("top_k")), 0),
            top_p=float(pick("top_p")),
            min_p=float(pick("min_p")),
            repetition_penalty=float(pick("repetition_penalty")),
            repeat_last_n=int(pick("repeat_last_n")),
            presence_penalty=float(pick("presence_penalty")),
            frequency_penalty=float(pick("frequency_penalty")),
            logit_bias=_bias(asked.logit_bias or {}),
            seed=_seed(asked.seed),
        ),
        max_tokens=count("max_tokens", fallback["max_tokens"]),
        min_tokens=count("min_tokens", 0),
        stop=_stops(asked.stop),
        stop_ids=frozenset(ends if asked.ignore_eos else {*ends, *eos}),
        logprobs=count("logprobs", 0),
        n=count("n", 1),
        thinking_budget=None if asked.thinking_budget is None else count("thinking_budget", 0),
    )


def _checked(name: str, value: Any, where: str = "") -> Any:
    low, high = RANGES[name]
    kind, what = (int, "a whole number") if name in WHOLE else (int | float, "a number")
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise BadInput(f"{where}{name} must be {what} from {low} to {high}, not {value!r:.60}.")
    return value


def _ids(name: str, ids: Iterable[Any]) -> list[int]:
    found = list(ids)
    for id in found:
        if isinstance(id, bool) or not isinstance(id, int):
            raise BadInput(f"{name} must be token ids, not {id!r:.60}.")
    return found


def _bias(asked: Mapping[int, float]) -> dict[int, float]:
    ids = _ids("logit_bias", asked)
    return {id: float(_checked("logit_bias", asked[id])) for id in ids}


def _seed(asked: int | None) -> int:
    if asked is None:
        return secrets.randbits(63)
    if isinstance(asked, bool) or not isinstance(asked, int):
        raise BadInput(f"seed must be a whole number, not {asked!r:.60}.")
    return asked % 2**64


def _stops(stops: tuple[str, ...] | str | None) -> tuple[str, ...]:
    if stops is None:
        return ()
    if isinstance(stops, str):
        stops = (stops,)
    if len(stops) > 64:
        raise BadInput(f"stop may hold at most 64 texts, not {len(stops)}.")
    if not all(isinstance(stop, str) and 0 < len(stop) <= 1000 for stop in stops):
        raise BadInput("stop must be texts of 1 to 1000 characters.")
    return tuple(stops)
