"""crane serve: this machine as a server that speaks the OpenAI, SGLang, Anthropic and Ollama APIs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from crane_app import settings
from crane_app.cli import engines
from crane_app.engine import memory
from crane_app.engine.interface import EngineLike
from crane_app.engine.process import tied
from crane_app.engine.request import ModelCard
from crane_app.errors import BadInput, Unsupported
from crane_app.library import whereabouts

SENTENCE = "Serve models to programs that speak the OpenAI, SGLang, Anthropic or Ollama API"
# What `--model-type` may say, and what config.json then says.
TYPES = {
    "auto": (),
    "hunyuan": ("hunyuan_v1_dense", "hunyuan"),
    "qwen25": ("qwen2", "qwen2_moe"),
    "qwen3": ("qwen3", "qwen3_moe"),
    "qwen3_tts": ("qwen3_tts",),
}
SWITCHES = {
    "insecure": "Let other machines in without a key",
    "allow-load": "Load other models of this computer when requests name them",
    "keep-prefixes": "Keep what was computed of prompts on this computer, so that a restart does not cost it",
    "allow-url-fetch": "Fetch sound from http(s) addresses that requests name, if they are on the internet",
}


PLAIN = {
    "quantize": None,
    "exact": False,
    "kv_cache_dtype": "auto",
    "draft_model": None,
}  # as a model that hears is loaded


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(
        parser, "model", "model-name", "model-type", "format", "speech-model", "host", "port", "api-key",
        "allow-origin", "max-concurrent", "decode-tokens-per-seq", "max-seq-len", "idle-unload",
        "backend", "device", "dtype", "quantize", "kv-cache-dtype", "draft-model",
    )  # fmt: skip
    engines.add_exact(parser)
    for name, sentence in SWITCHES.items():
        variable = f"CRANE_{name.upper().replace('-', '_')}"
        on = settings.YES_NO.get(os.environ.get(variable, "no").lower(), False)
        parser.add_argument(f"--{name}", action="store_true", default=on, help=f"{sentence} (or {variable})")
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        metavar="NAME",
        help="Keep this model in memory; may be given several times",
    )
    parser.add_argument(
        "--tied", action="store_true", help="End when standard input does, as with the program that holds it"
    )
    engines.add_flag(parser)


def run(args: argparse.Namespace) -> int:
    if args.server is None:
        raise Unsupported("This way of starting Crane serves nothing. Use: python -m crane_app serve")
    _check(args)
    if args.tied:
        # As Ctrl-C does: what is under way is finished; while a model is still loading there is nothing to finish.
        tied.follow(0, lambda: signal.raise_signal(signal.SIGTERM))

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[EngineLike, dict[str, ModelCard]]]:
        """The engine, and the models of the flags in it by the names that clients use."""
        with engines.shared(args) as (engine, which):
            print(which, flush=True)
            yield engine, _loaded(engine, args)

    return int(
        args.server(
            opened,
            host=args.host,
            port=args.port,
            keys=_listed(args.api_key),
            origins=_listed(args.allow_origin),
            insecure=args.insecure,
            max_concurrent=args.max_concurrent,
            decode_tokens_per_seq=args.decode_tokens_per_seq,
            max_length=args.max_seq_len or None,
            fetches=args.allow_url_fetch,
            stored=(lambda: _stored(args)) if args.allow_load else None,
            idle_s=args.idle_unload * 60 or None,
            pins=tuple(args.pin),
            keeps=args.keep_prefixes,
        )
    )


def _check(args: argparse.Namespace) -> None:
    """BadInput or Unsupported for what no server could do."""
    if not args.model and not args.speech_model:
        raise BadInput(engines.NAMELESS)
    if args.draft_model and not args.model:
        raise BadInput("--draft-model goes ahead of a model that writes. Name that with --model, or leave it out.")
    if args.gpu_memory_limit:
        memory.parse(args.gpu_memory_limit)
    if args.model and Path(args.model).expanduser().exists():
        _check_format(Path(args.model).expanduser(), args.format)
    if args.model_type != "auto" and args.model:
        _check_type(whereabouts.place(args.model) / "config.json", args.model_type)


def _check_format(model: Path, wanted: str) -> None:
    from crane_app.media.files.gguf import holds_gguf

    there = "gguf" if holds_gguf(model) else "safetensors"
    if wanted not in ("auto", there):
        raise BadInput(f"--format {wanted} is not what {model} is, which is {there}. Leave it out.")


def _check_type(config: Path, wanted: str) -> None:
    try:
        there = json.loads(config.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise BadInput(f"--model-type {wanted} cannot be checked: {config} cannot be read. Leave it out.") from None
    if there not in TYPES[wanted]:
        raise BadInput(f"--model-type {wanted} is not what {config} says, which is {there}. Leave it out.")


def _loaded(engine: EngineLike, args: argparse.Namespace) -> dict[str, ModelCard]:
    own = {}
    if args.model:
        opened = engines.load(engine, args)
        engines.notes(opened)
        _check_format(Path(opened.card.folder), args.format)
        own[args.model_name or opened.card.name] = opened.card
    if args.speech_model:
        hearing = argparse.Namespace(**{**vars(args), "model": args.speech_model, **PLAIN})
        opened = engines.load(engine, hearing)
        if not opened.card.hears:
            raise BadInput(f"{args.speech_model} does not turn speech into text. Leave --speech-model out.")
        own.setdefault(opened.card.name, opened.card)
    return own


def _stored(args: argparse.Namespace) -> dict[str, tuple[object, ...]]:
    """The models of this computer that can be loaded, by name: folder, context, and how the flags say to load them."""
    from crane_app.library.models import found, listed

    folders = listed(str(settings.value(settings.TABLE["model-folders"]) or ""))
    return {
        entry.name: (str(entry.folder), entry.context, *engines.how(args))
        for entry in found(folders)
        if not entry.problem and not entry.partial
    }


def _listed(text: str) -> tuple[str, ...]:
    """'a, b' -> ('a', 'b')."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
