"""What the server and its models are and do: as SGLang tells it, as figures, and for Prometheus."""

from __future__ import annotations

import asyncio
import platform
import time
from typing import Any

from starlette.responses import PlainTextResponse, Response

from crane_app.engine.defaults import ENDPOINTS as DEFAULTS
from crane_app.engine.request import Asked, Holding, ModelCard
from crane_app.errors import CraneError
from crane_app.server.fields import Table, honoured, text, yes_no
from crane_app.server.problems import Problem, refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.sse import reply
from crane_app.version import VERSION

PROBE_S = 30.0  # seconds for one token
DEVICES = {"cpu": "Cpu", "cuda": "Cuda(0)", "metal": "Metal(0)"}
WHICH: Table = (honoured("model", text(1000), "a name of GET /v1/models; the first one if left out"),)
ABORT: Table = (
    honoured("rid", text(200), "the id of a request of the same key"),
    honoured("abort_all", yes_no, "all requests of the same key"),
)


async def model_info(call: Call) -> Response:
    offered = await call.service.offer.find(call.query().get("model"))
    card = offered.card
    return reply(
        {
            "model_path": card.folder,
            "tokenizer_path": card.folder,
            "served_model_name": offered.name,
            "is_generation": not card.hears,
            "model_type": card.architecture,
            "context_length": card.context,
            "vocab_size": card.vocabulary,
            "dtype": card.dtype,
            "quantization": card.packed or None,
            "kv_cache_dtype": card.kv_cache,
            "draft_model": card.draft,
            "backend": card.backend,
            "device": DEVICES.get(card.device, card.device),
            "device_name": _device_name(card),
            "preferred_sampling_params": None,
            "notes": list(card.notes),
        }
    )


async def server_info(call: Call) -> Response:
    limits, there = call.service.limits, await call.service.offer.all()
    return reply(
        {
            "version": VERSION,
            "model_path": there[0].card.folder if there else None,
            "served_model_names": [offered.name for offered in there],
            "max_concurrent": limits.max_concurrent,
            "decode_tokens_per_seq": limits.decode_tokens_per_seq,
            "max_seq_len": limits.max_length or 0,
            "sampling_defaults": {name: DEFAULTS[name] for name in ("chat", "completions", "generate")},
            "stats": await figures(call),
        }
    )


async def stats(call: Call) -> Response:
    return reply(await figures(call))


async def figures(call: Call) -> dict[str, Any]:
    """Counts since the server's start, and the engine at a glance, other programs' work included."""
    answers = call.service.answers
    totals, engine = answers.totals, await asyncio.to_thread(answers.engine.stats)
    making = totals.total_s - totals.first_s
    return {
        "total_requests": totals.requests,
        "completed_requests": totals.done,
        "finished": dict(totals.finished),
        "prompt_tokens": totals.prompt_tokens,
        "output_tokens": totals.output_tokens,
        "avg_decode_tokens_per_sec": round(totals.output_tokens / making, 3) if making > 0 else 0.0,
        "active_sequences": answers.gate.taken,
        "waiting_sequences": answers.gate.waiting,
        "uptime_s": round(time.time() - totals.started, 3),
        "engine": {
            "pid": engine.pid,
            "phase": engine.phase,
            "running": engine.running,
            "waiting": engine.waiting,
            "models": engine.models,
            "weights_bytes": engine.weights_nbytes,
            "kv_bytes": engine.cache_nbytes,
            "steps": engine.steps,
            "tokens": engine.tokens,
            "evictions": engine.evictions,
            "drafted_tokens": engine.drafted,
            "accepted_tokens": engine.accepted,
            "uptime_s": round(engine.uptime_s, 3),
            "limit_bytes": engine.limit_nbytes,
            "store_problem": engine.store_problem or None,
            "held": [_held(each) for each in engine.held],
            "gone": [
                {"name": each.name, "bytes": each.nbytes, "room_for": each.room or None, "ago_s": round(each.ago_s, 3)}
                for each in engine.gone
            ],
        },
    }


async def metrics(call: Call) -> Response:
    """The text form of Prometheus (prometheus.io/docs/instrumenting/exposition_formats), vLLM's names under crane_."""
    answers = call.service.answers
    totals, engine = answers.totals, await asyncio.to_thread(answers.engine.stats)
    rows: list[tuple[str, str, str, float]] = [
        ("num_requests_running", "gauge", "Answers that are made now", answers.gate.taken),
        ("num_requests_waiting", "gauge", "Requests that wait for their turn", answers.gate.waiting),
        ("kv_cache_bytes", "gauge", "Keys and values of all rows", engine.cache_nbytes),
        ("num_preemptions_total", "counter", "Answers that gave way while memory was short", engine.evictions),
        ("spec_decode_num_draft_tokens_total", "counter", "Tokens of draft models that were tried", engine.drafted),
        ("spec_decode_num_accepted_tokens_total", "counter", "Those of them that were right", engine.accepted),
        ("prompt_tokens_total", "counter", "Prompt tokens of finished requests", totals.prompt_tokens),
        ("generation_tokens_total", "counter", "Tokens made by finished requests", totals.output_tokens),
    ]
    lines = [
        line
        for name, kind, sentence, value in rows
        for line in (f"# HELP crane_{name} {sentence}.", f"# TYPE crane_{name} {kind}", f"crane_{name} {value}")
    ]
    lines += ["# HELP crane_request_success_total Finished requests.", "# TYPE crane_request_success_total counter"]
    lines += [f'crane_request_success_total{{finished_reason="{r}"}} {n}' for r, n in sorted(totals.finished.items())]
    for name, seconds in (
        ("request_queue_time_seconds", totals.queued_s),
        ("time_to_first_token_seconds", totals.first_s),
        ("e2e_request_latency_seconds", totals.total_s),
    ):
        lines += [f"# HELP crane_{name} From submission to the engine.", f"# TYPE crane_{name} summary"]
        lines += [f"crane_{name}_sum {seconds}", f"crane_{name}_count {totals.done}"]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


async def health_generate(call: Call) -> Response:
    """Makes one token; 503 if that fails or takes longer than PROBE_S."""
    offered = await call.service.offer.find(None)
    request = call.request(
        offered.card.name, tokens=(0,), asked=Asked(max_tokens=1, ignore_eos=True), endpoint="greedy"
    )

    async def probe() -> None:
        async with asyncio.timeout(PROBE_S), call.service.answers.known("", call.owner, "health-") as live:
            async for _ in call.service.answers.pieces(live, request):
                pass

    try:
        await call.wait(probe())
    except TimeoutError:
        raise Problem(503, f"No token was made within {PROBE_S:.0f} seconds.") from None
    except CraneError as error:
        raise Problem(503, str(error)) from error
    return reply({"status": "ok"})


async def abort_request(call: Call) -> Response:
    given = await call.fields()
    if not given.get("abort_all") and not given.get("rid"):
        raise refused("rid", "Say which request: rid, or abort_all true.")
    rid = None if given.get("abort_all") else given["rid"]
    count = call.service.answers.abort(rid, call.owner)
    if rid is not None and not count:
        raise Problem(404, f"No request '{rid:.60}' of yours is under way.", "rid", "request_not_found")
    return reply({"success": True, "aborted": count})


async def flush_cache(call: Call) -> Response:
    answers = call.service.answers
    await asyncio.to_thread(answers.keeping.clear)
    await asyncio.to_thread(answers.engine.flush)
    return reply({"success": True, "message": "Everything kept for reuse was dropped."})


def _held(each: Holding) -> dict[str, Any]:
    """What is loaded, and whether it may go."""
    return {
        "name": each.name,
        "job": each.job,
        "device": each.device,
        "bytes": each.nbytes,
        "kv_bytes": each.rows_nbytes,
        "idle_s": round(each.idle_s, 3),
        "keep_s": each.keep_s,
        "pinned": each.pinned,
        "busy": each.busy,
    }


def _device_name(card: ModelCard) -> str:
    """For people."""
    return (platform.processor() or platform.machine()) if card.device == "cpu" else f"{card.device} by {card.backend}"


ENDPOINTS = (
    Endpoint("GET", ("/model_info", "/get_model_info"), "A model; ?model=NAME says which", model_info, query=WHICH),
    Endpoint("GET", ("/server_info", "/get_server_info"), "The server's settings and figures", server_info),
    Endpoint("GET", ("/health_generate",), "Make one token within 30 seconds, else 503", health_generate),
    Endpoint("POST", ("/abort_request",), "End requests of the same key; 404 if there is none", abort_request, ABORT),
    Endpoint("POST", ("/flush_cache",), "Drop what is kept for reuse, in memory and on disk", flush_cache),
    Endpoint("GET", ("/flush_cache",), "Drop what is kept for reuse, in memory and on disk", flush_cache),
    Endpoint("GET", ("/v1/stats",), "Figures since the start", stats),
    Endpoint("GET", ("/metrics",), "The same for Prometheus, with vLLM's names under crane_", metrics),
)
