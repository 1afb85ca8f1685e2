"""Crane from Python: models and their tokenizers, in this process, by the names that transformers made common.

    from crane_app import Message, load

    with load("checkpoints/Qwen2.5-0.5B-Instruct") as model:
        for text in model.chat([Message("user", "hello")]):
            print(text, end="", flush=True)

All models of a program share one engine, so that their requests are served side by side. docs/api.md has all of it.
"""

from __future__ import annotations

import atexit
import itertools
import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from crane_app import settings
from crane_app.engine.interface import EngineLike
from crane_app.engine.request import Asked, Grammar, ModelCard, Part, Piece, Request, Usage
from crane_app.errors import BadInput, CraneError, ModelNotFound
from crane_app.library import whereabouts
from crane_app.media.chat_template import ChatTemplate
from crane_app.media.detokenize import Detokenizer
from crane_app.media.files.gguf import holds_gguf
from crane_app.media.tokenizer import Tokenizer
from crane_app.pipelines.chat import Chat, Message, checked, events, report

__all__ = [
    "AutoTokenizer",
    "CraneError",
    "GenerationConfig",
    "Message",
    "Model",
    "TextStreamer",
    "load",
    "print_build_info",
]

Messages = Iterable[Message | Mapping[str, Any]]
HELD: dict[str, Any] = {"json_schema": "json_schema", "regex": "regex", "choices": "choice", "grammar": "ebnf"}


class Prompt(str):
    """A rendered conversation that still knows its ids: what a person typed in it is text, also `<|im_end|>`."""

    ids: tuple[int, ...]

    def __new__(cls, text: str, ids: Iterable[int]) -> Prompt:
        prompt = super().__new__(cls, text)
        prompt.ids = tuple(ids)
        return prompt


class AutoTokenizer:
    """The tokenizer and the chat template in a model's folder or GGUF file. Made by `from_pretrained`."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self.folder = folder
        self._tokenizer, self._template = tokenizer, template

    @classmethod
    def from_pretrained(cls, path: str | Path) -> AutoTokenizer:
        """Read the model's files. BadCheckpoint for files that are missing or broken, ModelNotFound for no model."""
        folder = whereabouts.place(str(path))
        if not (folder.is_dir() or holds_gguf(folder)):
            raise ModelNotFound(
                f"There is no model folder at {folder}. Name a folder with tokenizer.json, or a .gguf file."
            )
        return cls(folder, Tokenizer.open(folder), ChatTemplate.open(folder))

    def get_token(self, token: str) -> int | None:
        """The id of a token by its exact text, `<|im_end|>` or the like; None if there is none."""
        return self._tokenizer.id_of(token)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text, whose markup counts as such; without `special` it is plain text that somebody typed."""
        return self._tokenizer.encode(text, special=special)

    def decode(self, ids: int | Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        return self._tokenizer.decode([ids] if isinstance(ids, int) else ids, special=not skip_special_tokens)

    def apply_chat_template(self, messages: Messages, add_generation_prompt: bool = True, **variables: Any) -> Prompt:
        """The conversation as the model was trained to read it. variables: the template's own, as enable_thinking."""
        if self._template is None:
            raise BadInput(f"The model in {self.folder} has no chat template. Give it a text that it can go on with.")
        given = checked(messages)
        options = {"add_generation_prompt": add_generation_prompt, **variables}
        return Prompt(self._template.text(given, **options), self._template.encode(self._tokenizer, given, **options))

    def prepare(self, prompt: str) -> list[int]:
        """The ids of a prompt, after the token that begins a text if the model has such."""
        if isinstance(prompt, Prompt):
            return list(prompt.ids)
        ids, bos = self.encode(prompt), self._tokenizer.bos
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    def stream(self, skip_special_tokens: bool) -> Detokenizer:
        """Ids to text one by one."""
        return Detokenizer(self._tokenizer, special=not skip_special_tokens)


@dataclass(frozen=True)
class GenerationConfig:
    """How an answer is made. None is what generation_config.json in the model's folder says, else the engine.

    do_sample: False takes the likeliest token, whatever the temperature. repeat_last_n: tokens of prompt and answer
    that repetition_penalty looks back on, -1 for all. eos_token_id: ends an answer, beside the model's own ends.
    pad_token_id: nothing is padded here; it may be given, for programs that do. report_speed: tell it on stderr.
    json_schema, regex, choices, grammar: one of them, what the whole answer must be; a grammar as llama.cpp writes it
    (GBNF), or Lark. thought: "open" if the prompt has opened a thought, "free" if the answer may begin with one; what
    the answer must be then holds after its </think>.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    ignore_eos: bool | None = None
    json_schema: Mapping[str, Any] | str | None = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    grammar: str | None = None
    thought: Literal["none", "open", "free"] = "none"
    report_speed: bool = False

    def asked(self) -> Asked:
        """The same in the engine's words."""
        ends, stop = self.eos_token_id, self.stop
        return Asked(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            repeat_last_n=self.repeat_last_n,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            seed=self.seed,
            do_sample=self.do_sample,
            max_tokens=self.max_new_tokens,
            min_tokens=self.min_new_tokens,
            stop=(stop,) if isinstance(stop, str) else None if stop is None else tuple(stop),
            stop_token_ids=(ends,) if isinstance(ends, int) else None if ends is None else tuple(ends),
            ignore_eos=self.ignore_eos,
            grammar=self._held(),
        )

    def _held(self) -> Grammar | None:
        """What the answer must be, in the engine's words."""
        given = [(name, getattr(self, name)) for name in HELD if getattr(self, name) is not None]
        if len(given) > 1:
            raise BadInput(f"An answer is held to one thing: give {given[0][0]} or {given[1][0]}, not both.")
        for name, value in given:
            return Grammar(HELD[name], value if isinstance(value, str) else json.dumps(value), self.thought, name)
        return None


class Streamer(Protocol):
    """What `generate` tells of an answer under way: first the ids of the prompt, then new ids, then the end."""

    def put(self, ids: Sequence[int]) -> None: ...

    def end(self) -> None: ...


class TextStreamer:
    """Writes an answer's text while it is made, never half a character. out: stdout if not given."""

    def __init__(
        self,
        tokenizer: AutoTokenizer,
        skip_prompt: bool = False,
        out: TextIO | None = None,
        skip_special_tokens: bool = True,
    ) -> None:
        self.tokenizer, self.skip_prompt = tokenizer, skip_prompt
        self._out, self._skip_special = out, skip_special_tokens
        self._words: Detokenizer | None = None
        self._prompt = True  # whether the next ids are the prompt's

    def put(self, ids: Sequence[int]) -> None:
        skip, self._prompt = self._prompt and self.skip_prompt, False
        if not skip:
            self._words = self._words or self.tokenizer.stream(self._skip_special)
            self.write("".join(self._words.push(id) for id in ids))

    def write(self, text: str) -> None:
        """Show text as it is."""
        if text:
            print(text, end="", file=self._out or sys.stdout, flush=True)

    def end(self) -> None:
        """Ready for the next prompt."""
        self.write(self._words.flush() if self._words else "")
        print(file=self._out or sys.stdout, flush=True)
        self._words, self._prompt = None, True


class Model:
    """A loaded model; made by `load`. Its methods may be called from several threads at once.

    usage: counts and seconds of the last answer.
    """

    def __init__(self, engine: EngineLike, card: ModelCard) -> None:
        self.card = card
        self.usage = Usage()
        self._engine: EngineLike | None = engine
        self._opening = threading.Lock()
        self._tokenizer: AutoTokenizer | None = None

    @property
    def tokenizer(self) -> AutoTokenizer:
        """That of the model's folder."""
        with self._opening:
            if self._tokenizer is None:
                self._tokenizer = AutoTokenizer.from_pretrained(self.card.folder)
            return self._tokenizer

    def prepare_inputs(self, prompt: str) -> list[int]:
        """The ids of a prompt; one that `apply_chat_template` made keeps apart what a person typed in it."""
        return self.tokenizer.prepare(prompt)

    def warmup(self) -> None:
        """Make two tokens and forget them: what is set up at the first use is then set up."""
        self.generate([0], GenerationConfig(max_new_tokens=2, do_sample=False, ignore_eos=True))

    def generate(
        self, input_ids: Sequence[int], config: GenerationConfig | None = None, streamer: Streamer | None = None
    ) -> list[int]:
        """The ids of the answer, the token that ended it included. Ctrl-C, or an error of the streamer, cancels it."""
        config = config or GenerationConfig()
        ids = tuple(int(id) for id in input_ids)
        stream = self._running().submit(Request(self.card.name, tokens=ids, asked=config.asked(), endpoint="app"))
        made: list[int] = []
        try:
            if streamer is not None:
                streamer.put(ids)
            for event in events(stream):
                if isinstance(event, Piece):
                    made += event.tokens
                    _tell(streamer, event, has_stops=bool(config.stop))
        finally:
            stream.cancel()
        self.usage = stream.usage
        if streamer is not None:
            streamer.end()
        if config.report_speed:
            print(report(self.usage), file=sys.stderr, flush=True)
        return made

    def chat(self, messages: str | Messages, config: GenerationConfig | None = None, **template: Any) -> Iterator[str]:
        """The text of the answer, piece by piece; closing the iterator cancels it. A str is one message of a user."""
        config = config or GenerationConfig()
        given = [Message("user", messages)] if isinstance(messages, str) else messages
        chat = Chat(self._running(), self.card.name)
        try:
            yield from chat.reply(given, config.asked(), **template)
        finally:
            self.usage = chat.usage
        if config.report_speed:
            print(report(self.usage), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Give the memory back; what is under way ends as cancelled. Idempotent."""
        engine, self._engine = self._engine, None
        if engine is not None:
            _SHARED.release(engine, self.card.name)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        card = self.card
        return f"<{card.architecture} {card.name} on {card.device} in {card.numbers}>"

    def _running(self) -> EngineLike:
        if self._engine is None:
            raise CraneError(f"The model {self.card.name} was closed. Load it again.")
        return self._engine


def load(
    path: str | Path,
    device: str = "auto",
    dtype: str | None = None,
    backend: str | None = None,
    quantize: str | None = None,
    exact: bool = False,
    kv_cache_dtype: str = "auto",
    draft_model: str | Path | None = None,
) -> Model:
    """The model in a folder or in a GGUF file, or of an id or name that is on this computer.

    device: auto, cpu, cuda, metal. dtype: float32, float16, bfloat16, else the device's best. quantize: q4, q5, q6, q8
    packs the weights in so many bits. exact: compute with their numbers in float32. kv_cache_dtype: auto, int8.
    draft_model: a small one with the same tokens, which goes ahead of it; no token depends on it.
    Raises ModelNotFound, BadCheckpoint, NotEnoughMemory or Unsupported, each a CraneError with a sentence.
    """
    folder = whereabouts.place(str(path))
    draft = str(whereabouts.place(str(draft_model))) if draft_model else None
    engine, name = _SHARED.take(folder)
    try:
        stream = engine.load(str(folder), name, backend, device, dtype, quantize, exact, kv_cache_dtype, draft)
        try:
            # To the end: a load that is cancelled before is undone.
            cards = [event.value for event in events(stream) if isinstance(event, Part)]
        finally:
            stream.cancel()
        if cards:
            return Model(engine, cards[-1])
    except BaseException:
        _SHARED.release(engine, name)
        raise
    raise CraneError(f"Loading {folder} was stopped.")


def print_build_info() -> None:
    """The versions of Crane and of what it stands on, as `crane version` prints them."""
    from crane_app import doctor

    print(*(f"{name:12} {value}" for name, value in doctor.versions().items() if value), sep="\n")


class _Shared:
    """The engine of all models of this program: there from the first `load` until the last `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(2)
        self._names: set[str] = set()
        self._engine: EngineLike | None = None

    def take(self, folder: Path) -> tuple[EngineLike, str]:
        """The engine, and a name for a model in it that no other has."""
        from crane_app.engine.engine import Engine

        with self._lock:
            if self._engine is None:
                self._engine = Engine(
                    memory_limit=settings.now("gpu-memory-limit") or "",
                    reuse=settings.now("prefix-reuse") or "all",
                    threads=settings.now("threads"),
                )
                atexit.register(self._engine.close, drain=False)
            title = name = whereabouts.title(folder)
            while name in self._names:
                name = f"{title}-{next(self._numbers)}"
            self._names.add(name)
            return self._engine, name

    def release(self, engine: EngineLike, name: str) -> None:
        """Unload a model; without models the engine ends."""
        with self._lock:
            self._names.discard(name)
            if not self._names and engine is self._engine:
                self._engine = None
                atexit.unregister(engine.close)
                engine.close(drain=False)
                return
        if any(card.name == name for card in engine.models()):
            engine.unload(name)


_SHARED = _Shared()


def _tell(streamer: Streamer | None, piece: Piece, has_stops: bool) -> None:
    """Ids for any streamer; with stop texts ours gets the text, which ends before them."""
    if isinstance(streamer, TextStreamer) and has_stops:
        streamer.write(piece.text)
    elif streamer is not None and piece.tokens:
        streamer.put(piece.tokens)
