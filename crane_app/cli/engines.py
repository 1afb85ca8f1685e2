"""Which engine a command uses, and the model in it: the running one if it can be, else one of its own.

Says on stderr which it is, and how far a model is loaded where somebody looks.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crane_app import settings
from crane_app.engine import memory
from crane_app.engine.interface import EngineLike
from crane_app.engine.request import ModelCard, Part, Progress
from crane_app.errors import BadCheckpoint, BadInput, CraneError, ModelNotFound
from crane_app.library import whereabouts
from crane_app.media.files.gguf import holds_gguf
from crane_app.pipelines.chat import events

NAMELESS = "Name a model: --model ORG/NAME, or its folder (or CRANE_MODEL). crane models list shows what is here."
LIKE = {
    "gpu-memory-limit": "memory_limit",
    "prefix-reuse": "prefix_reuse",
    "threads": "threads",
}  # an engine's settings, in its Stats
NO_TOKENIZER = "No tokenizer: "  # how the engine's note about it begins


@dataclass(frozen=True)
class Opened:
    """A model in an engine, and the seconds its loading took."""

    engine: EngineLike
    card: ModelCard
    seconds: float

    @property
    def textless(self) -> str:
        """Why the model has no tokenizer; empty if it has one."""
        found = (note.removeprefix(NO_TOKENIZER) for note in self.card.notes if note.startswith(NO_TOKENIZER))
        return next(found, "")


def add_flag(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser, *LIKE)
    parser.add_argument("--new-engine", action="store_true", help="Start an engine of its own for this command")


def add_exact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--exact", action="store_true", help="Compute in float32 with the numbers of packed weights")


@contextlib.contextmanager
def one_off(args: argparse.Namespace) -> Iterator[Opened]:
    """The model that the flags name: in the running engine if there is one that has nothing against it, else here."""
    if not args.model:
        raise BadInput(NAMELESS)
    _hush()
    engine = None if args.new_engine else _running(args)
    if engine is None:
        from crane_app.engine.engine import Engine

        engine = Engine(
            memory_limit=args.gpu_memory_limit or "", reuse=args.prefix_reuse or "all", threads=args.threads
        )
    else:
        note(f"using the running engine (pid {engine.stats().pid}).")
    try:
        yield load(engine, args)
    except BaseException:
        engine.close(drain=False)
        raise
    engine.close()


@contextlib.contextmanager
def shared(args: argparse.Namespace) -> Iterator[tuple[EngineLike, str]]:
    """The engine that the programs of this user share, started if need be, and a line that says which it is."""
    from crane_app.engine.process.client import connect

    _hush()
    if args.gpu_memory_limit:
        memory.parse(args.gpu_memory_limit)
    for name, said in _asked(args).items():
        os.environ[settings.variable(settings.TABLE[name])] = str(said)  # for the engine that we may start
    client = connect(new_engine=args.new_engine)
    if other := _unlike(client, args):
        client.close(drain=False)
        raise BadInput(f"The running engine has another --{other}. Leave it out, or use --new-engine.")
    which = f"Using the running engine (pid {client.peer.pid})." if client.attached else "Started an engine."
    try:
        yield client, which
    finally:
        client.close(drain=False)


def load(engine: EngineLike, args: argparse.Namespace) -> Opened:
    """Load the model of the flags, or find it loaded; by its folder, or by the name under which the engine has it."""
    started = time.perf_counter()
    cards = {card.name: card for card in engine.models()}
    there = _loaded(cards, args.model)
    if there is not None and not _fits(there, args):
        raise BadInput(
            f"The engine has {there.name} loaded with {there.backend} on {there.device} in {there.dtype}, which is "
            "not what the flags ask for. Leave them out, or use --new-engine."
        )
    if there is not None:
        # Asked for once more, so that after a death of the engine it is loaded again as it was.
        was = there.backend, there.device, there.dtype, there.quantize, there.exact, there.kv_cache, there.draft
        stream = engine.load(there.folder, there.name, *was)
    else:
        folder = whereabouts.place(args.model)
        name = whereabouts.title(folder)
        name = name if name not in cards else str(folder)
        stream = engine.load(str(folder), name, *(*how(args), _draft(args)))
    card = None
    try:
        for event in events(stream):
            if isinstance(event, Progress):
                show(event)
            elif isinstance(event, Part):
                card = event.value
    finally:
        stream.cancel()
        show(None)
    if not isinstance(card, ModelCard):
        raise CraneError(f"Loading {args.model} was stopped.")
    return Opened(engine, card, time.perf_counter() - started)


def open_model(args: argparse.Namespace) -> tuple[Any, float]:
    """The model of the flags without an engine, and the seconds its loading took; notes go to stderr."""
    from crane_app.engine import loading

    if not args.model:
        raise BadInput(NAMELESS)
    started = time.perf_counter()
    loaded = loading.load(whereabouts.place(args.model), *how(args))
    for text in loaded.notes:
        note(text)
    return loaded, time.perf_counter() - started


def notes(opened: Opened) -> None:
    """Say what a person should know about how the model was loaded."""
    for text in opened.card.notes:
        if text.startswith(NO_TOKENIZER):
            text = f"ids only, no text: {opened.textless}"
        note(text)


def note(text: str) -> None:
    print(f"crane: note: {text}", file=sys.stderr, flush=True)


def needs_tokenizer(opened: Opened) -> None:
    """BadCheckpoint with the reason if the model's folder has no tokenizer, or a broken one."""
    if opened.textless:
        raise BadCheckpoint(opened.textless)


def _running(args: argparse.Namespace) -> EngineLike | None:
    """A connection with the running engine; None if there is none, or if it has the model in another way."""
    from crane_app.engine.process.client import connect

    client = None
    try:
        client = connect(start=False)
        there = _loaded({card.name: card for card in client.models()}, args.model)
    except CraneError:
        if client is not None:
            client.close(drain=False)
        return None
    if not _unlike(client, args) and (there is None or _fits(there, args)):
        return client
    client.close(drain=False)
    return None


def _asked(args: argparse.Namespace) -> dict[str, str | int]:
    """What the flags say of the engine itself."""
    said = {name: getattr(args, name.replace("-", "_")) for name in LIKE}
    return {name: value for name, value in said.items() if value}


def _unlike(engine: EngineLike, args: argparse.Namespace) -> str:
    """The first setting that an engine has another way than the flags say; '' if there is none."""
    stats = engine.stats()
    return next((name for name, value in _asked(args).items() if getattr(stats, LIKE[name]) != value), "")


def _loaded(cards: dict[str, ModelCard], model: str) -> ModelCard | None:
    """The loaded model of that folder or file, else of that name or id, where no path has it."""
    folder = Path(model).expanduser()
    if not (folder.is_dir() or holds_gguf(folder)):
        if model in cards:
            return cards[model]
        try:
            folder = whereabouts.place(model)
        except ModelNotFound:
            return None
    same = (c for c in cards.values() if os.path.realpath(c.folder) == os.path.realpath(folder))
    return next(same, None)


def _fits(card: ModelCard, args: argparse.Namespace) -> bool:
    """Whether the model is loaded as the flags say, where they say anything."""
    return (
        args.backend in (None, card.backend)
        and args.device in ("auto", card.device)
        and args.dtype in (None, card.dtype)
        and getattr(args, "quantize", None) in (None, card.quantize)
        and (card.exact or not getattr(args, "exact", False))
        and getattr(args, "kv_cache_dtype", "auto") in ("auto", card.kv_cache)
        and _draft(args) in (None, card.draft)
    )


def _draft(args: argparse.Namespace) -> str | None:
    """The folder of the draft model that the flags name. ModelNotFound if there is none."""
    asked = getattr(args, "draft_model", None)
    return str(whereabouts.place(asked)) if asked else None


def how(args: argparse.Namespace) -> tuple[Any, ...]:
    """What the flags say of how a model is loaded; not every verb has all of them."""
    packed = getattr(args, "quantize", None), getattr(args, "exact", False), getattr(args, "kv_cache_dtype", "auto")
    return args.backend, args.device, args.dtype, *packed


def _hush() -> None:
    """What an engine logs is for its log; a command says one sentence, and all of it with CRANE_DEBUG=1."""
    if os.environ.get("CRANE_DEBUG") != "1":
        logging.getLogger("crane_app").addHandler(logging.NullHandler())


def show(progress: Progress | None) -> None:
    """How far it is, on one line that is wiped at the end; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        return
    done = "" if progress is None else f"{progress.doing} ... {100 * progress.done // max(progress.total, 1)} %"
    print(f"\r\x1b[K{done}", end="", file=sys.stderr, flush=True)
