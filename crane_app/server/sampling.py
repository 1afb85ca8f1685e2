"""The fields that say how tokens are drawn, as the OpenAI and vLLM APIs spell them, and what they ask of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crane_app.engine.defaults import RANGES
from crane_app.engine.request import Asked
from crane_app.server import grammars
from crane_app.server.fields import (
    Table,
    harmless,
    honoured,
    mapping,
    number,
    one_or_some,
    shaped,
    some,
    take,
    text,
    unmet,
    whole,
    yes_no,
)
from crane_app.server.problems import refused

MOST_STOPS, MOST_BIASES, MOST_IDS = 4, 1024, 1024
WHOLE_FIELDS = ("top_k", "repeat_last_n", "max_tokens", "min_tokens", "n")
# Of Asked, under the same name.
DIRECT = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "logit_bias", "seed", "max_tokens", "min_tokens", "stop", "stop_token_ids", "ignore_eos", "n",
)  # fmt: skip


def ranged(name: str) -> Any:
    """A reader of the range that the engine allows."""
    low, high = RANGES[name]
    return whole(int(low), int(high)) if name in WHOLE_FIELDS else number(low, high)


_IDS = some(whole(0, 2**31 - 1), MOST_IDS)


@shaped(**_IDS.schema)
def token_ids(value: Any) -> tuple[int, ...]:
    return tuple(_IDS(value))


@shaped(
    type="object",
    maxProperties=MOST_BIASES,
    propertyNames={"pattern": "^[0-9]{1,10}$"},
    additionalProperties=dict(number(*RANGES["logit_bias"]).schema),
)
def biases(value: Any) -> dict[int, float]:
    """{"50256": -100} -> {50256: -100.0}."""
    if not isinstance(value, dict):
        raise ValueError(f"must be an object of token ids and numbers, not {value!r:.60}")
    if len(value) > MOST_BIASES:
        raise ValueError(f"has {len(value)} entries; at most {MOST_BIASES} are taken")
    found = {}
    for id, amount in value.items():
        if not (id.isascii() and id.isdigit() and len(id) < 11):
            raise ValueError(f"must have token ids as its names, not '{id:.40}'")
        found[int(id)] = number(*RANGES["logit_bias"])(amount)
    return found


def stops(longest: int) -> Any:
    several = one_or_some(text(1000), longest)
    word = {"type": "string", "minLength": 1, "maxLength": 1000}

    @shaped(anyOf=[word, {"type": "array", "maxItems": longest, "items": word}])
    def read(value: Any) -> tuple[str, ...]:
        found = tuple(several(value))
        if not all(found):
            raise ValueError("may not hold an empty text")
        return found

    return read


STREAMING: Table = (
    honoured("include_usage", yes_no),
    *harmless("include_obfuscation"),
    *unmet("usage is sent once, at the end", "continuous_usage_stats", neutral=(False,)),
)
SAMPLING: Table = (
    honoured("temperature", number(*RANGES["temperature"]), "0 takes the likeliest token"),
    honoured("top_p", ranged("top_p")),
    honoured("top_k", ranged("top_k"), "0 or -1: all"),
    honoured("min_p", ranged("min_p")),
    honoured("repetition_penalty", ranged("repetition_penalty")),
    honoured("repeat_last_n", ranged("repeat_last_n"), "tokens that the repetition penalty looks back on; -1: all"),
    honoured("presence_penalty", ranged("presence_penalty")),
    honoured("frequency_penalty", ranged("frequency_penalty")),
    honoured("logit_bias", biases, f"at most {MOST_BIASES} entries"),
    honoured("seed", whole(-(2**63), 2**64 - 1), "the same seed gives the same text, whatever else runs"),
    honoured("max_tokens", ranged("max_tokens"), "never past the context"),
    honoured("min_tokens", ranged("min_tokens")),
    honoured("stop", stops(MOST_STOPS), f"a text or at most {MOST_STOPS}"),
    honoured("stop_token_ids", token_ids),
    honoured("ignore_eos", yes_no),
    honoured("n", ranged("n"), "at most as many as the server makes at once"),
    honoured("stream", yes_no),
    honoured(
        "stream_options", lambda value: take(STREAMING, mapping(value), "stream_options"), "with stream", STREAMING
    ),
    honoured("rid", text(200), "the id by which it can be aborted; one that is under way is refused"),
    honoured("request_id", text(200), "as rid"),
)
# What other servers know and this one does not do.
ELSEWHERE: Table = (
    *grammars.FIELDS,
    *unmet(
        "this sampler is not there", "typical_p", "top_a", "tfs_z", "mirostat", "mirostat_mode", "mirostat_tau",
        "mirostat_eta", "dry_multiplier", "dry_base", "dry_allowed_length", "xtc_probability", "xtc_threshold",
        "dynatemp_range", "epsilon_cutoff", "eta_cutoff", "logits_processors", "custom_logit_processor", "bad_words",
        "allowed_token_ids", "smoothing_factor", neutral=(0, 0.0, [], False),
    ),
    *unmet("repetition_penalty is its name here", "repeat_penalty"),
    *unmet("beams are not searched", "use_beam_search", neutral=(False,)),
    *unmet("beams are not searched", "length_penalty", neutral=(1, 1.0)),
    *unmet("beams are not searched", "early_stopping", neutral=(False,)),
    *unmet("special tokens are never shown", "skip_special_tokens", neutral=(True,)),
    *unmet("the stop text is never shown", "include_stop_str_in_output", "no_stop_trim", neutral=(False,)),
    *unmet("a prompt is never cut", "truncate_prompt_tokens", "truncation"),
    *unmet("only texts are given back", "return_token_ids", "return_tokens_as_token_ids", "return_hidden_states",
           neutral=(False,)),
    *unmet("adapters are not loaded", "lora_path", "lora_request"),
    *unmet("transfers of the cache are not there", "kv_transfer_params", "vllm_xargs"),
    *harmless("spaces_between_special_tokens", note="special tokens are never shown"),
    *harmless("priority", "cache_salt", note="changes when, not what"),
)  # fmt: skip
ACCOUNTS: Table = harmless(
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prediction", note="for the provider's accounts and caches",
)  # fmt: skip


def asked(given: Mapping[str, Any], **more: Any) -> Asked:
    """What a request's honoured fields ask of the engine, what the answer is held to among it."""
    more = {"grammar": grammars.asked(given), **more}
    return Asked(**{name: given[name] for name in DIRECT if name in given} | more)


def check_ids(given: Mapping[str, Any], vocabulary: int) -> None:
    """Problem 400 for an id that the model does not have."""
    for name in ("logit_bias", "stop_token_ids"):
        if any(id >= vocabulary for id in given.get(name, ())):
            raise refused(name, f"{name} names a token outside the model's vocabulary of {vocabulary}.")


def include_usage(given: Mapping[str, Any]) -> bool:
    """Whether a stream ends with the usage. Problem 400 for stream_options without stream."""
    options = given.get("stream_options")
    if options is not None and not given.get("stream"):
        raise refused("stream_options", "stream_options is for streams: say stream true, or leave it out.")
    return bool((options or {}).get("include_usage"))


def request_id(given: Mapping[str, Any]) -> str:
    """The id that the client chose, "" if none."""
    return str(given.get("rid") or given.get("request_id") or "")


def endings(given: Mapping[str, Any]) -> int | None:
    """How many tokens at most: max_completion_tokens wins over max_tokens."""
    found = given.get("max_completion_tokens", given.get("max_tokens"))
    return None if found is None else int(found)
