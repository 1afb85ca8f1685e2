"""From what was asked to what will be done: the request, then the model's generation_config.json, then the endpoint."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
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
RANGES = {
    "temperature": (0.0, 100.0),
    "top_k": (-1, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "repeat_last_n": (-1, 2**31 - 1),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "max_tokens": (1, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "logprobs": (0, 20),
    "n": (1, 128),
}


def resolve(asked: Asked, generation: Mapping[str, Any], endpoint: str, eos: tuple[int, ...]) -> Resolved:
    """Everything decided. Raises BadInput that names the field for a value out of range."""
    fallback = {**FIXED, **ENDPOINTS[endpoint]}

    def pick(name: str) -> Any:
        for value in (getattr(asked, name), generation.get(name) if endpoint != "greedy" else None):
            if value is not None:
                return _checked(name, value)
        return fallback[name]

    greedy = asked.do_sample is False or (
        asked.do_sample is None and asked.temperature is None and _greedy(generation, endpoint)
    )
    sampling = Sampling(
        temperature=0.0 if greedy else float(pick("temperature")),
        top_k=max(int(pick("top_k")), 0),
        top_p=float(pick("top_p")),
        min_p=float(pick("min_p")),
        repetition_penalty=float(pick("repetition_penalty")),
        repeat_last_n=int(pick("repeat_last_n")),
        presence_penalty=float(pick("presence_penalty")),
        frequency_penalty=float(pick("frequency_penalty")),
        logit_bias={int(k): float(v) for k, v in (asked.logit_bias or {}).items()},
        seed=secrets.randbits(63) if asked.seed is None else asked.seed % 2**64,
    )
    ends = set(asked.stop_token_ids or ())
    return Resolved(
        sampling=sampling,
        max_tokens=int(
            _checked("max_tokens", fallback["max_tokens"] if asked.max_tokens is None else asked.max_tokens)
        ),
        min_tokens=int(_checked("min_tokens", asked.min_tokens or 0)),
        stop=_stops(asked.stop),
        stop_ids=frozenset(ends if asked.ignore_eos else ends | set(eos)),
        logprobs=int(_checked("logprobs", asked.logprobs or 0)),
        n=int(_checked("n", 1 if asked.n is None else asked.n)),
    )


def _greedy(generation: Mapping[str, Any], endpoint: str) -> bool:
    return endpoint == "greedy" or generation.get("do_sample") is False


def _checked(name: str, value: Any) -> Any:
    low, high = RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadInput(f"{name} must be a number from {low:g} to {high:g}, not {value!r:.60}.")
    return value


def _stops(stops: tuple[str, ...] | None) -> tuple[str, ...]:
    if stops is None:
        return ()
    if len(stops) > 64:
        raise BadInput(f"At most 64 stop texts are taken, not {len(stops)}.")
    if not all(isinstance(stop, str) and 0 < len(stop) <= 1000 for stop in stops):
        raise BadInput("A stop text must have 1 to 1000 characters.")
    return tuple(stops)
