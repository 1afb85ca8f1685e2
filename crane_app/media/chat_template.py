"""A conversation as the ids a model was trained on, by the chat template in the model's folder.

What a person typed never becomes a special token, wherever the template puts it: the template is rendered once
more with marked contents (typed_text.py), and only markup without a marked character counts as the template's.
The text is what transformers' apply_chat_template (5.23) renders. Does not know which ids end a reply.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from crane_app.errors import BadCheckpoint, BadInput
from crane_app.media import chat_messages, gguf_words
from crane_app.media.files.gguf import Gguf, holds_gguf
from crane_app.media.tokenizer import SURROGATES, Tokenizer
from crane_app.media.typed_text import TYPED, mark, unmark

if TYPE_CHECKING:
    from jinja2 import Template

FILE_LIMIT = 100 << 20  # bytes, as of tokenizer files
TEMPLATE_LIMIT = 256 << 10  # characters; the longest published ones have some 30,000
ROOM = 4 << 20  # characters of a rendering, besides four times those of its messages
SECONDS = 2.0  # of a rendering, and one more for each million characters of its messages
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# Qwen2.5 speaks under this name where a conversation gives it none (its model card).
QWEN2_5 = (
    """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
"""
    + CHATML
)
FAMILIES = {"qwen2": QWEN2_5, "qwen2_moe": QWEN2_5, "qwen3": CHATML, "qwen3_moe": CHATML}

# Typed characters, and between them what no markup consists of alone.
TYPED_RUN = re.compile("[T]+(?:[^!#-/:-[\\]-~T]++[T]+)*".replace("T", TYPED.pattern.strip("[]")))


class Piece(NamedTuple):
    """A part of a rendering."""

    text: str
    is_template: bool


@dataclass(frozen=True)
class Markup:
    """Ids of a tokenizer's markup, and what finds it; markup without a character to mark is nobody's."""

    ids: dict[str, int]
    pattern: re.Pattern[str]
    known: frozenset[int]


@dataclass(frozen=True)
class Asked:
    """One conversation as a template sees it. limit: characters of its rendering, which may take `seconds`."""

    name: str
    chat: list[dict[str, Any]]
    variables: dict[str, Any]
    prompt: bool = True
    is_open: bool = False
    limit: int = ROOM
    seconds: float = SECONDS
    now: datetime = field(default_factory=datetime.now)


HELLO = [{"role": "user", "content": "Hello"}]
HELLO_PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


class ChatTemplate:
    """The chat template of one model; safe to share between threads.

    Its methods take, besides `messages`, the options `tools` (JSON schemas), `add_generation_prompt` (on),
    `continue_final` (the reply goes on with the last message, so no generation prompt), and any variables of the
    template, such as `enable_thinking`. They raise BadInput for messages that cannot be rendered and
    BadCheckpoint for a template that fails by itself, takes too long or makes too much.
    """

    def __init__(self, file: Path, sources: Mapping[str, str], tokens: Mapping[str, str]) -> None:
        """`sources`: templates by name, "default" and maybe "tool_use"; `tokens`: `bos_token` and the like."""
        from crane_app.media.template_sandbox import Sandbox

        self.file = file
        self.sources = {name: SURROGATES.sub("\ufffd", source) for name, source in sources.items()}
        self._tokens = dict(tokens)
        self._sandbox = Sandbox()
        self._compiled = {name: self._compile(source) for name, source in self.sources.items()}
        self._lock = threading.Lock()
        self._reads: dict[str, bool] = {}
        self._markup: WeakKeyDictionary[Tokenizer, Markup] = WeakKeyDictionary()

    @classmethod
    def open(cls, folder: Path) -> ChatTemplate | None:
        """The model's own template, else its family's; None when there is neither, so no chat model."""
        if holds_gguf(folder):
            gguf = Gguf.open(folder)
            sources, named = gguf_words.templates(gguf)
            of = str(gguf.metadata.get("general.architecture")).replace("moe", "_moe")
            return cls._of(folder, sources, of, named)
        config = _read_json(folder / "tokenizer_config.json")
        named = _read_json(folder / "special_tokens_map.json") | config
        tokens = {name: named.get(name) for name in NAMED_TOKENS}
        tokens = {name: t.get("content") if isinstance(t, dict) else t for name, t in tokens.items()}
        file, sources = _sources(folder, config)
        family = None
        if not sources:
            file = folder / "config.json"
            family = _read_json(file).get("model_type")
        return cls._of(file, sources, family, {n: token for n, token in tokens.items() if isinstance(token, str)})

    @classmethod
    def _of(cls, file: Path, sources: dict[str, str], family: Any, tokens: dict[str, str]) -> ChatTemplate | None:
        """From what was found; `family` is a model_type."""
        if not sources and isinstance(family, str) and family in FAMILIES:
            sources = {"default": FAMILIES[family]}
        if not sources:
            return None
        if "default" not in sources:
            raise BadCheckpoint(f"{file}: has chat templates, but none called default")
        return cls(file, sources, tokens)

    def text(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """The rendered text, as apply_chat_template(tokenize=False) has it."""
        return self._plain(self._asked(messages, **options))

    def render(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> list[Piece]:
        """The rendered text in pieces: the template's own, and what was typed.

        What `mark` leaves in place (white space, digits) counts as the template's at the edge of a typed text.
        """
        asked = self._asked(messages, **options)
        text, marked = _aligned(self._plain(asked), self._marked(asked))
        pieces, end = [], 0
        for match in TYPED_RUN.finditer(marked):
            pieces += [Piece(text[end : match.start()], True), Piece(text[match.start() : match.end()], False)]
            end = match.end()
        return [piece for piece in [*pieces, Piece(text[end:], True)] if piece.text]

    def encode(self, tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], **options: Any) -> list[int]:
        """The ids of the rendering; of all markup in it only the template's own is encoded as markup.

        Where nobody typed markup, these are the ids of the text as a whole. What stands between two of the
        template's markup tokens is encoded in one go, so that typed markup moves no other token.
        """
        asked = self._asked(messages, **options)
        text, marked = self._plain(asked), self._marked(asked)
        markup = self._markup_of(tokenizer)
        ids = tokenizer.encode(text, special=True)
        own = [markup.ids[match[0]] for match in markup.pattern.finditer(marked)]
        if [id for id in ids if id in markup.known] == own:
            return ids
        text, marked = _aligned(text, marked)
        return _encode_apart(tokenizer, text, [match.span() for match in markup.pattern.finditer(marked)], markup)

    def _asked(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        **variables: Any,
    ) -> Asked:
        name = "tool_use" if tools is not None and "tool_use" in self.sources else "default"
        chat = list(chat_messages.checked(messages))
        for message in chat:
            if message["role"] == "developer" and "developer" not in self.sources[name]:
                message["role"] = "system"
            if chat_messages.has_text_only(message.get("content")) and not self._reads_parts(name):
                message["content"] = "\n".join(part["text"] for part in message["content"])
        data = chat_messages.plain_data({"documents": None, "tools": tools, **variables})
        size = chat_messages.size([chat, data])
        if continue_final:
            chat_messages.leave_open(chat[-1])
        prompt = add_generation_prompt and not continue_final
        return Asked(name, chat, data, prompt, continue_final, ROOM + 4 * size, SECONDS + size / 1e6)

    def _plain(self, asked: Asked) -> str:
        return self._rendered(asked, asked.chat, asked.variables, marked=False)

    def _marked(self, asked: Asked) -> str:
        """Rendered with marked contents: a character that is not marked is the template's, or no markup's."""
        typed = chat_messages.typed_data
        chat = [
            {key: value if key == "role" else typed(value) for key, value in message.items()} for message in asked.chat
        ]
        variables = {key: typed(value) for key, value in asked.variables.items()}
        try:
            return self._rendered(asked, chat, variables, marked=True)
        except (BadInput, BadCheckpoint) as error:
            raise BadInput(f"the model's chat template cannot keep these messages apart: {error}") from error

    def _rendered(self, asked: Asked, chat: Any, variables: dict[str, Any], marked: bool) -> str:
        from jinja2.exceptions import SecurityError

        from crane_app.media.template_sandbox import Refused, TooMuch

        try:
            text = self._run(asked, chat, variables, marked)
        except Refused as error:
            raise BadInput(f"the model's chat template does not take these messages: {error}") from error
        except TooMuch as error:
            raise BadCheckpoint(f"{self.file}: its chat template {error}") from error
        except SecurityError as error:
            raise BadCheckpoint(f"{self.file}: its chat template does what none may: {error}") from error
        except Exception as error:
            trial = self._trial(asked.name, HELLO)
            if isinstance(trial, Exception) and not isinstance(trial, Refused):
                raise BadCheckpoint(f"{self.file}: its chat template fails: {error}") from error
            raise BadInput(f"the model's chat template cannot render these messages: {error}") from error
        return chat_messages.cut_open(text) if asked.is_open else text

    def _run(self, asked: Asked, chat: Any, variables: dict[str, Any], marked: bool) -> str:
        given = {**self._tokens, **variables, "messages": chat, "add_generation_prompt": asked.prompt}
        template = self._compiled[asked.name]
        return self._sandbox.run(template, given, asked.limit, asked.seconds, asked.now, marked)

    def _trial(self, name: str, chat: list[dict[str, Any]]) -> str | Exception:
        """What becomes of a greeting."""
        asked = Asked(name, chat, {"documents": None, "tools": None}, limit=TEMPLATE_LIMIT, seconds=SECONDS / 4)
        try:
            return self._run(asked, chat, asked.variables, marked=False)
        except Exception as error:
            return error

    def _reads_parts(self, name: str) -> bool:
        """Whether the template renders a list of text parts as it does their text."""
        with self._lock:
            if name not in self._reads:
                self._reads[name] = self._trial(name, HELLO_PARTS) == self._trial(name, HELLO)
            return self._reads[name]

    def _markup_of(self, tokenizer: Tokenizer) -> Markup:
        with self._lock:
            if tokenizer not in self._markup:
                self._markup[tokenizer] = _markup(tokenizer)
            return self._markup[tokenizer]

    def _compile(self, source: str) -> Template:
        if len(source) > TEMPLATE_LIMIT:
            raise BadCheckpoint(f"{self.file}: a chat template of {len(source):,} characters is longer than any")
        try:
            return self._sandbox.from_string(source)
        except Exception as error:
            raise BadCheckpoint(f"{self.file}: its chat template is broken: {error}") from error


def _aligned(text: str, marked: str) -> tuple[str, str]:
    """The text and its marked copy, of the same length.

    Where the template did with the contents what the marks did not survive, the text is the marked rendering's:
    right as to whose markup is whose, if not in every word what transformers renders.
    """
    same = len(marked) == len(text) and mark(marked) == mark(text)
    return text if same else unmark(marked), marked


def _markup(tokenizer: Tokenizer) -> Markup:
    found = {tokenizer._library.id_to_token(id): id for id in tokenizer._markup}
    found = {text: id for text, id in found.items() if text and mark(text) != text}
    longest_first = sorted(found, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    return Markup(found, pattern, tokenizer._markup)


def _encode_apart(tokenizer: Tokenizer, text: str, own: list[tuple[int, int]], markup: Markup) -> list[int]:
    """Ids of a text in which only the spans of `own` are markup."""
    ids: list[int] = []
    begin = end = 0  # of what can be encoded with its markup
    for start, stop in [*own, (len(text), len(text))]:
        gap = text[end:start]
        if not markup.known.isdisjoint(tokenizer.encode(gap, special=True)):
            ids += tokenizer.encode(text[begin:end], special=True)
            ids += _encode_inside(tokenizer, gap) if end else tokenizer.encode(gap)
            begin = start
        end = stop
    return ids + tokenizer.encode(text[begin:], special=True)


def _encode_inside(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text in the middle: a newline in front keeps SentencePiece from adding a space."""
    newline = tokenizer.encode("\n")
    ids = tokenizer.encode("\n" + text)
    return ids[len(newline) :] if ids[: len(newline)] == newline else tokenizer.encode(text)


def _sources(folder: Path, config: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """The file that has the template, and templates by name; none if the folder has none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file, {"default": _read(file)} | _additional(folder)
    file = folder / "chat_template.json"
    named = _named(file, _read_json(file).get("chat_template"))
    if not named:
        file = folder / "tokenizer_config.json"
        named = _named(file, config.get("chat_template"))
    return file, named | _additional(folder)


def _additional(folder: Path) -> dict[str, str]:
    files = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return {file.stem: _read(file) for file in files}


def _named(file: Path, value: Any) -> dict[str, str]:
    """Templates by name from a string, or from a list of {"name", "template"}."""
    match value:
        case None:
            return {}
        case str():
            return {"default": value}
        case list() if all(isinstance(item, dict) for item in value):
            named = {item.get("name"): item.get("template") for item in value}
            if all(isinstance(text, str) for pair in named.items() for text in pair):
                return named
    raise BadCheckpoint(f"{file}: its chat_template is neither a template nor a list of named ones")


def _read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one when there is no file."""
    if not file.exists():
        return {}
    try:
        value = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{file}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{file}: is no JSON object")
    return value


def _read(file: Path) -> str:
    if not file.is_file():  # opening a pipe would wait for ever
        raise BadCheckpoint(f"{file}: is not a file")
    if file.stat().st_size > FILE_LIMIT:
        raise BadCheckpoint(f"{file}: is larger than any ({FILE_LIMIT >> 20} MB)")
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file}: cannot be read: {error}") from error
