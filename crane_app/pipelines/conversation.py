"""One answer in a conversation that is kept: its model loaded if need be, its text in the history as it comes.

What a model said is on disk KEEP_S later at most, whatever becomes of this process. Knows no window.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from crane_app.engine.defaults import resolve
from crane_app.engine.interface import EngineLike
from crane_app.engine.request import Asked, ModelCard, Part, Progress, Stream
from crane_app.errors import BadCheckpoint, BadInput, CraneError, ModelNotFound, NotEnoughMemory, Unsupported
from crane_app.library.chats import Chats, Turn
from crane_app.library.export import with_attachments
from crane_app.library.models import name_of
from crane_app.pipelines.chat import Chat, Message, checked, events, speeds
from crane_app.pipelines.readiness import Readiness
from crane_app.pipelines.thoughts import OPEN, Said, Thoughts, spoken

KEEP_S = 0.5
TRIES = 2
ENDPOINT = "app"
KNOBS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
WRONG_MODEL = (BadInput, BadCheckpoint, ModelNotFound, NotEnoughMemory, Unsupported)  # another one would do
STATES = {"stop": "done", "length": "length", "cancelled": "stopped", "error": "error"}


@dataclass(frozen=True)
class Model:
    """Which model answers, and how it is loaded; None: as the engine decides."""

    folder: str
    backend: str | None = None
    device: str = "auto"
    dtype: str | None = None
    quantize: str | None = None
    kv_cache: str = "auto"


@dataclass(frozen=True)
class Loading:
    """The model is not ready yet. percent: of its weights."""

    percent: int


@dataclass(frozen=True)
class Ending:
    """How an answer ended. state: as in library.chats.Turn; error: a sentence; unkept: why it is not on disk, or "".

    facts: of the answer; under "remedy" the view where something can be done about an error.
    """

    state: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    unkept: str = ""


class Answer:
    """An answer that is being made: `turn` is its place in the history, with what it goes on from, if anything.

    readiness: keeps what was computed for the next one; None: the engine's memory alone does.
    """

    def __init__(self, chats: Chats, turn: Turn, model: Model, readiness: Readiness | None = None):
        self.turn, self.text = turn, turn.text
        self._chats, self._model, self._readiness = chats, model, readiness
        self._chat: Chat | None = None
        self._guard = threading.Lock()
        self._begun = self._stopped = False
        self._over, self._unkept = threading.Event(), ""

    def stop(self) -> None:
        """End it; what came stays. From any thread, also before `steps` has begun."""
        with self._guard:
            self._stopped, begun, chat = True, self._begun, self._chat
        if chat is not None:
            chat.cancel()
        if not begun:
            self._keep(Ending("stopped"))

    def steps(self, engine: EngineLike) -> Generator[Loading | Said, None, Ending]:
        """The answer as it comes; returns its Ending, which is in the history by then."""
        with self._guard:
            self._begun = True
            if self._stopped:
                return Ending("stopped")
        ending = Ending("interrupted")
        keeper = threading.Thread(target=self._keep_on, name="keeper", daemon=True)
        keeper.start()
        try:
            ending = yield from self._made(engine)
        except CraneError as error:
            ending = Ending("error", {"error": str(error)}, str(error))
        finally:
            self._over.set()
            keeper.join()
            self._keep(ending)
            for _ in range(TRIES if self._unkept else 0):  # the last word on it: worth another try or two
                time.sleep(KEEP_S)
                self._keep(ending)
        return Ending(ending.state, ending.facts, ending.error, self._unkept)

    def _made(self, engine: EngineLike) -> Generator[Loading | Said, None, Ending]:
        try:
            card = yield from loaded(engine, self._model, lambda: self._stopped)
        except WRONG_MODEL as error:
            return Ending("error", {"error": str(error), "remedy": "models"}, str(error))
        if card is None:
            return Ending("stopped")
        options = self._chats.chat(self.turn.chat).options
        # Before the messages are read, so that none of them can be deleted in between and be kept.
        owner = self._readiness.owner(self.turn.chat) if self._readiness is not None else ""
        chat = Chat(engine, card.name, ENDPOINT, owner)
        template, asked, messages = template_of(options), asked_of(options), self._messages()
        thoughts = Thoughts()
        if self.text:
            template["continue_final"] = True
        elif chat.begins_thinking(**template):
            yield from self._say(thoughts, OPEN)
        with self._guard:
            self._chat = chat
            if self._stopped:
                return Ending("stopped")
        try:
            for piece in chat.reply(messages, asked, **template):
                yield from self._say(thoughts, piece)
            yield from thoughts.flush()
        finally:
            facts = _facts(chat, card)
        return Ending(STATES[chat.end.reason] if chat.end else "stopped", facts)

    def _say(self, thoughts: Thoughts, piece: str) -> Generator[Said, None, None]:
        self.text += piece
        yield from thoughts.push(piece)

    def _keep_on(self) -> None:
        kept = self.text
        while not self._over.wait(KEEP_S):
            if self.text != kept:
                kept = self.text
                self._keep()

    def _keep(self, ending: Ending | None = None) -> None:
        """Write what there is. A history that cannot be written must not cost the answer: that is told at the end."""
        try:
            if ending is None:
                self._chats.update(self.turn.id, text=self.text)
            else:
                self._chats.update(self.turn.id, text=self.text, state=ending.state, facts=dict(ending.facts))
        except CraneError as error:
            self._unkept = str(error)
        else:
            self._unkept = ""

    def _messages(self) -> list[Message]:
        """The conversation up to this answer; what it goes on from is its last message."""
        chat = self._chats.chat(self.turn.chat)
        before = []
        for turn in self._chats.path(self.turn.chat):
            if turn.id == self.turn.id:
                break
            before.append(turn)
        found = messages_of(chat.system, before)
        return [*found, Message("assistant", spoken(self.text))] if self.text else found


def loaded(
    engine: EngineLike, model: Model, stopped: Callable[[], bool] = lambda: False
) -> Generator[Loading, None, ModelCard | None]:
    """Loads the model unless it is there; returns its card, None when it was stopped."""
    if not model.folder:
        raise BadInput("No model is chosen. Choose one above the conversation, or get one in Models.")
    stream, card = _load(engine, model), None
    try:
        for event in events(stream):  # to the end: a load that is cancelled before is undone
            if stopped():
                return None
            if isinstance(event, Progress):
                yield Loading(100 * event.done // max(event.total, 1))
            elif isinstance(event, Part) and isinstance(event.value, ModelCard):
                card = event.value
    finally:
        stream.cancel()
    return card


def _load(engine: EngineLike, model: Model) -> Stream:
    """A model that is loaded under another name or in another way is used as it is there, if its folder is the same."""
    folder = Path(model.folder).expanduser().absolute()
    cards = {card.name: card for card in (*engine.models(), *engine.stats().away)}
    there = next((card for card in cards.values() if Path(card.folder) == folder), None)
    if there is not None:
        # Asked for once more, so that after a death of the engine it is loaded again as it was.
        how = there.backend, there.device, there.dtype, there.quantize, there.exact, there.kv_cache, there.draft
        return engine.load(there.folder, there.name, *how)
    name = name_of(folder)
    name = str(folder) if name in cards else name
    asked = model.backend, model.device, model.dtype, model.quantize, False, model.kv_cache
    return engine.load(str(folder), name, *asked)


def count_tokens(engine: EngineLike, model: str, messages: Sequence[Message], options: Mapping[str, Any]) -> int:
    """How many tokens a conversation is for a loaded model, its template included."""
    from crane_app.engine.request import Job

    given = list(checked(messages))
    for event in events(engine.open(Job("tokenize", given, template_of(options), model))):
        if isinstance(event, Part):
            return len(event.value)
    return 0


def messages_of(system: str, turns: Sequence[Turn]) -> list[Message]:
    """What a model is told: attachments within the text, thoughts left out, answers that never came too."""
    found = [Message("system", system)] if system.strip() else []
    for turn in turns:
        if turn.role == "user":
            asked = with_attachments(turn.text, turn.attachments)
            if found and found[-1].role == "user":  # its answer never came, and some templates insist on taking turns
                asked = f"{found.pop().content}\n\n{asked}"
            found.append(Message("user", asked))
        elif said := spoken(turn.text):
            found.append(Message(turn.role, said))
    return found


def asked_of(options: Mapping[str, Any]) -> Asked:
    """A conversation's options as a request asks for them."""
    known = {field.name for field in fields(Asked)}
    return Asked(**{name: value for name, value in options.items() if name in known and value is not None})


def template_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the chat template is told; `enable_thinking` is what Qwen3 and those after it call it."""
    think = options.get("think")
    return {"enable_thinking": think} if isinstance(think, bool) else {}


def title_of(text: str, longest: int = 60) -> str:
    """A conversation's title from its first question: its first line, cut at a word."""
    line = next((line.strip(" #>*`-\t") for line in text.splitlines() if line.strip(" #>*`-\t")), "")
    if len(line) <= longest:
        return line
    cut = line[:longest].rsplit(" ", 1)[0] if " " in line[: longest // 2] or " " in line[:longest] else line[:longest]
    return f"{cut.rstrip(',.;:')}…"


def as_command(model: Model, system: str, turns: Sequence[Turn], answer: Turn, options: Mapping[str, Any]) -> str:
    """The shell command that makes this answer again: everything that decides it is written out."""
    told = [message.as_dict() for message in messages_of(system, turns)]
    words = ["crane", "generate", "--model", shlex.quote(model.folder)]
    resolved = resolve(asked_of(options), _generation(model.folder), ENDPOINT, ())
    for name in KNOBS:
        words += [f"--{name.replace('_', '-')}", f"{getattr(resolved.sampling, name):g}"]
    words += ["--max-tokens", str(resolved.max_tokens), "--seed", str(answer.facts.get("seed", resolved.sampling.seed))]
    for flag, value in (("backend", model.backend), ("dtype", model.dtype), ("quantize", model.quantize)):
        words += [f"--{flag}", value] if value else []
    words += [] if model.kv_cache == "auto" else ["--kv-cache-dtype", model.kv_cache]
    think = options.get("think")
    if isinstance(think, bool):
        words.append("--think" if think else "--no-think")
    text = json.dumps(told, ensure_ascii=True, indent=1)
    return f"{' '.join(words)} --messages - <<'END'\n{text}\nEND\n"


def _generation(folder: str) -> dict[str, Any]:
    """generation_config.json of a model; nothing where there is none to read."""
    try:
        found = json.loads((Path(folder).expanduser() / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _facts(chat: Chat, card: ModelCard) -> dict[str, Any]:
    """What can be told of an answer afterwards: counts, seconds, speed, and what made it."""
    usage = chat.usage
    return {
        "prompt": usage.prompt_tokens,
        "cached": usage.cached_tokens,
        "tokens": usage.output_tokens,
        "first_s": round(usage.first_s, 3),
        "total_s": round(usage.total_s, 3),
        "speed": speeds(usage)[1],
        "seed": usage.seed,
        "backend": card.backend,
        "device": card.device,
        "dtype": card.numbers,
    }
