"""What each endpoint answers when all is well, in JSON Schema: by content type, for /openapi.json and for tests.

More may stand in an answer than is said here; what is said is there.
"""

from __future__ import annotations

from typing import Any

from crane_app.media.sound_bytes import FORMS

Schema = dict[str, Any]
ANY: Schema = {}
TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
YES_NO: Schema = {"type": "boolean"}
STREAM, LINES = "text/event-stream", "application/x-ndjson"


def holds(sometimes: Schema | None = None, **always: Schema) -> Schema:
    """An object with these members."""
    return {"type": "object", "properties": {**(sometimes or {}), **always}, "required": list(always)}


def some(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def word(*words: str | None) -> Schema:
    return {"enum": list(words)}


EVENT = holds({"event": TEXT}, data=TEXT)  # one server-sent event


def _json(schema: Schema, *others: str) -> dict[str, Schema]:
    """A JSON answer; others: the content types of the other forms it may have."""
    return {"application/json": schema, **{kind: EVENT if kind == STREAM else TEXT for kind in others}}


SPELT = holds(token=TEXT, logprob=NUMBER, bytes=some(WHOLE))
CALLED = holds(id=TEXT, type=word("function"), function=holds(name=TEXT, arguments=TEXT))
USAGE = holds(prompt_tokens=WHOLE, completion_tokens=WHOLE, total_tokens=WHOLE)
MODEL = holds(id=TEXT, object=word("model"), created=WHOLE, owned_by=TEXT, max_model_len=WHOLE)
CHAT = holds(
    id=TEXT,
    object=word("chat.completion"),
    created=WHOLE,
    model=TEXT,
    choices=some(
        holds(
            index=WHOLE,
            message=holds(
                {"reasoning_content": TEXT, "reasoning": TEXT, "tool_calls": some(CALLED)},
                role=word("assistant"),
                content=TEXT_OR_NULL,
            ),
            logprobs={"anyOf": [{"type": "null"}, holds(content=some(SPELT))]},
            finish_reason=word("stop", "length", "tool_calls"),
        )
    ),
    usage=USAGE,
)
COMPLETION = holds(
    id=TEXT,
    object=word("text_completion"),
    created=WHOLE,
    model=TEXT,
    choices=some(holds(index=WHOLE, text=TEXT, finish_reason=word("stop", "length"))),
    usage=USAGE,
)
RESPONSE = holds(
    id=TEXT,
    object=word("response"),
    created_at=WHOLE,
    status=word("completed", "incomplete"),
    model=TEXT,
    output=some(holds(id=TEXT, type=word("message", "reasoning", "function_call"), status=TEXT)),
    usage=holds(input_tokens=WHOLE, output_tokens=WHOLE, total_tokens=WHOLE),
)
GENERATED = holds(
    text=TEXT,
    output_ids=some(WHOLE),
    meta_info=holds(
        id=TEXT,
        finish_reason=holds(type=word("stop", "length", "abort")),
        prompt_tokens=WHOLE,
        completion_tokens=WHOLE,
        cached_tokens=WHOLE,
        e2e_latency=NUMBER,
    ),
)
MESSAGE = holds(
    id=TEXT,
    type=word("message"),
    role=word("assistant"),
    model=TEXT,
    content=some(holds(type=word("text", "thinking", "tool_use"))),
    stop_reason=word("end_turn", "max_tokens", "tool_use", "stop_sequence"),
    stop_sequence=TEXT_OR_NULL,
    usage=holds(input_tokens=WHOLE, output_tokens=WHOLE),
)
OLLAMA = {"done_reason": word("stop", "length", "load"), "eval_count": WHOLE, "prompt_eval_count": WHOLE}
STATS = holds(
    total_requests=WHOLE,
    completed_requests=WHOLE,
    avg_decode_tokens_per_sec=NUMBER,
    active_sequences=WHOLE,
    waiting_sequences=WHOLE,
    engine=holds(pid=WHOLE, phase=TEXT, kv_bytes=WHOLE, models=WHOLE),
)
DONE = holds(success=YES_NO)

ANSWERS: dict[str, dict[str, Schema]] = {
    "/v1/chat/completions": _json(CHAT, STREAM),
    "/v1/completions": _json(COMPLETION, STREAM),
    "/v1/responses": _json(RESPONSE, STREAM),
    "/v1/embeddings": _json(
        holds(
            object=word("list"),
            data=some(holds(object=word("embedding"), index=WHOLE, embedding={"anyOf": [some(NUMBER), TEXT]})),
            model=TEXT,
            usage=holds(prompt_tokens=WHOLE, total_tokens=WHOLE),
        )
    ),
    "/v1/tokenize": _json(holds(tokens=some(WHOLE), count=WHOLE, max_model_len=WHOLE, model=TEXT)),
    "/v1/detokenize": _json(holds(text=TEXT, prompt=TEXT, model=TEXT)),
    "/v1/models": _json(holds(object=word("list"), data=some(MODEL))),
    "/v1/models/{id:path}": _json(MODEL),
    "/v1/audio/transcriptions": _json(holds(text=TEXT), "text/plain", "application/x-subrip", "text/vtt"),
    "/v1/audio/speech": {kind: {"type": "string", "format": "binary"} for _, _, kind, _ in FORMS.values()},
    "/v1/messages": _json(MESSAGE, STREAM),
    "/v1/messages/count_tokens": _json(holds(input_tokens=WHOLE)),
    "/v1/stats": _json(STATS),
    "/generate": _json({"anyOf": [GENERATED, some(GENERATED)]}, STREAM),
    "/model_info": _json(holds(model_path=TEXT, served_model_name=TEXT, context_length=WHOLE, device=TEXT)),
    "/server_info": _json(holds(version=TEXT, max_concurrent=WHOLE, decode_tokens_per_seq=WHOLE, stats=STATS)),
    "/abort_request": _json(holds(success=YES_NO, aborted=WHOLE)),
    "/flush_cache": _json(DONE),
    "/health": _json(holds(status=word("ok"))),
    "/health_generate": _json(holds(status=word("ok"))),
    "/ready": _json(holds(status=word("ready"), models=some(TEXT))),
    "/metrics": {"text/plain": TEXT},
    "/api/chat": _json(holds(OLLAMA, model=TEXT, created_at=TEXT, message=holds(content=TEXT), done=YES_NO), LINES),
    "/api/generate": _json(holds(OLLAMA, model=TEXT, created_at=TEXT, response=TEXT, done=YES_NO), LINES),
    "/api/tags": _json(holds(models=some(holds(name=TEXT, model=TEXT, size=WHOLE, digest=TEXT)))),
    "/api/show": _json(holds(capabilities=some(TEXT), model_info=holds(), details=holds(family=TEXT))),
    "/api/version": _json(holds(version=TEXT)),
    "/openapi.json": _json(holds(openapi=TEXT, info=holds(title=TEXT, version=TEXT), paths=holds())),
}
