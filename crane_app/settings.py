"""One table of settings: the settings page, the flags and the CRANE_* variables are read off it.

A value is its flag's, else that of CRANE_<NAME>, else settings.json's, else the default. The file keeps what this
version does not know: settings of a newer one, and values that only a newer one allows.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from crane_app.errors import BadInput, CraneError

log = logging.getLogger(__name__)

# folders: as PATH lists folders; paragraph: a text of several lines.
Kind = Literal["text", "paragraph", "choice", "whole", "number", "yes-no", "folder", "folders"]
YES_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
VERSION = 1  # of the file's form
LARGEST = 4 * 2**20  # bytes; a larger file is no settings file
TEXTS = ("text", "paragraph", "folder", "folders")


@dataclass(frozen=True)
class Setting:
    """name: of the flag and of CRANE_<NAME>; group, title: where the page shows it, "" for nowhere.

    choices: the only values; words: the page's names for them, "" for one that it does not offer; unset: its name for
    None, or what an empty field says; low, high: the range of a number, both included; step, unit: of its control.
    """

    name: str
    kind: Kind
    default: Any
    sentence: str
    group: str = ""
    title: str = ""
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    unset: str = ""
    low: float = 0
    high: float = math.inf
    step: float = 1
    unit: str = ""
    aliases: tuple[str, ...] = ()


LOOKS, CHAT, DICTATION, SPEAKING = "Appearance", "Chat", "Dictation", "Reading aloud"
MODELS, COMPUTING, SERVER = "Models", "Computing", "Server"
DTYPES = ("float32", "float16", "bfloat16")
QUANTS = ("q4", "q5", "q6", "q8")  # those of host.QUANTS
KV_CACHES = ("auto", "int8")  # those of host.KVCache
FOLDER = "The model that answers: its id, its folder with config.json and *.safetensors, or its .gguf file."
# fmt: off
SETTINGS = (
    Setting("appearance", "choice", "system", "Light or dark; it changes at once.", LOOKS, "Colours",
            ("system", "light", "dark"), ("Same as the system", "Light", "Dark")),
    Setting("text-size", "whole", 100, "The size of all text in the window; it changes at once.", LOOKS, "Text size",
            low=80, high=200, step=10, unit="%"),
    Setting("send-key", "choice", "enter", "What sends a message. Shift+Enter always begins a new line.", CHAT,
            "Send with", ("enter", "ctrl-enter"), ("Enter", "Ctrl+Enter")),
    Setting("keep-history", "yes-no", True, "Whether they are still there the next time Crane is started.", CHAT,
            "Keep conversations"),
    Setting("keep-ready", "yes-no", True, "Whether what was computed for kept conversations is on this computer too, "
            "so that they go on at once after a restart; off removes it.", CHAT, "Keep conversations ready"),
    Setting("ready-size", "whole", 2048, "What was used longest ago goes when it is more.", CHAT, "At most for that",
            low=0, high=1_000_000, step=256, unit="MiB"),
    Setting("system-prompt", "paragraph", "", "What the model is told before each new conversation.", CHAT,
            "Instructions", unset="For example: Answer in one paragraph."),
    Setting("think", "choice", "auto", "Whether models that can reason do so before they answer.", CHAT, "Thinking",
            ("auto", "yes", "no"), ("As the model does", "Always", "Never")),
    Setting("max-tokens", "whole", None, "The longest answer, in tokens.", CHAT, "Longest answer",
            unset="The model's own", low=1, high=1_000_000, step=256),
    Setting("temperature", "number", None, "How freely words are chosen; 0 always takes the likeliest.", CHAT,
            "Temperature", unset="The model's own", high=2, step=0.1),
    Setting("top-p", "number", None, "Only the likeliest words that together have this share.", CHAT, "Top p",
            unset="The model's own", high=1, step=0.05),
    Setting("top-k", "whole", None, "Only so many of the likeliest words; 0 for all.", CHAT, "Top k",
            unset="The model's own", high=1000),
    Setting("microphone", "text", "", "Its name; empty for the one that the system chooses.", DICTATION, "Microphone"),
    Setting("speech-model", "folder", None, "The model that writes what you say.", DICTATION, "Speech model",
            unset="The first there is"),
    Setting("takes-days", "whole", 7, "How long a recording and its text are kept.", DICTATION, "Keep recordings",
            low=0, high=3650, unit="days"),
    Setting("takes-count", "whole", 50, "The oldest beyond this number are deleted.", DICTATION, "At most",
            low=0, high=10_000, step=10, unit="recordings"),
    Setting("takes-size", "whole", 1024, "The oldest are deleted when all together are larger.", DICTATION,
            "At most together", low=16, high=1_000_000, step=256, unit="MiB"),
    Setting("voice", "text", "", "The voice that reads aloud: its name, or a language like en-gb.", SPEAKING, "Voice",
            unset="As the system and the text say"),
    Setting("speech-speed", "number", 1.0, "How fast it reads, at the same pitch.", SPEAKING, "Speed", low=0.5, high=3,
            step=0.05, unit="×", aliases=("--speed",)),
    Setting("speech-volume", "whole", 100, "How loud it reads.", SPEAKING, "Volume", high=100, step=5, unit="%"),
    Setting("speaker", "text", "", "The loudspeaker that plays it, by its name.", SPEAKING, "Speaker",
            unset="The system's own"),
    Setting("announce-code", "yes-no", True, "Whether \u201ccode block\u201d is said in place of one.", SPEAKING,
            "Announce code"),
    Setting("model", "folder", None, FOLDER, MODELS, "Model", unset="None yet", aliases=("--model-path", "-m")),
    Setting("model-folders", "folders", "", "Where models are looked for, beside the Hugging Face cache.", MODELS,
            "Folders with models"),
    Setting("pinned-models", "paragraph", "", "Models that stay in memory until they are unloaded by hand, "
            "a folder or file on each line."),
    Setting("hub-endpoint", "text", None, "Where models come from: a mirror of Hugging Face, like https://example.org.",
            MODELS, "Mirror", unset="https://huggingface.co"),
    Setting("proxy", "text", None, "The way to it, like http://proxy:8080; that of the system if not given.", MODELS,
            "Proxy", unset="The system's own"),
    Setting("backend", "choice", None, "The library that computes; the one made for this machine if not given.",
            COMPUTING, "Tensor library", ("mlx", "torch", "remote"), ("MLX", "PyTorch", ""),
            unset="This machine's own"),
    Setting("device", "choice", "auto", "The processor that computes.", COMPUTING, "Device",
            ("auto", "cpu", "cuda", "metal"), ("The best there is", "CPU", "NVIDIA GPU", "Apple GPU")),
    Setting("dtype", "choice", None, "How numbers are kept; what suits the device if not given.", COMPUTING,
            "Number type", DTYPES, DTYPES, unset="The device's best"),
    Setting("threads", "whole", 0, "Threads of the processor that compute; 0: one for each of its fast cores.",
            COMPUTING, "Threads", high=1024),
    Setting("quantize", "choice", None, "In how many bits weights are kept; as the model has them if not given.",
            COMPUTING, "Bits of a weight", QUANTS, ("4 bits", "5 bits", "6 bits", "8 bits"), unset="As the model is"),
    Setting("kv-cache-dtype", "choice", "auto", "In how many bits a model keeps what it has read of a conversation.",
            COMPUTING, "Keys and values", KV_CACHES, ("As computed", "8 bits")),
    Setting("draft-model", "folder", None, "A small model with the same tokens, which goes ahead of --model so that "
            "answers come faster; no token depends on it."),
    Setting("serve-at-start", "yes-no", False, "Whether the server is on as soon as Crane is open.",
            SERVER, "On from the start"),
    Setting("served-model", "folder", None, "The model that the window's server offers; the chat's if not given."),
    Setting("host", "text", "127.0.0.1", "The address to serve at; beyond this machine it needs --api-key."),
    Setting("port", "whole", 8080, "The port to serve at; 0 takes a free one.", high=65535),
    Setting("model-name", "text", "", "What clients call the model; its folder's name if not given."),
    Setting("model-type", "choice", "auto", "What the model must be; auto takes what it is.",
            choices=("auto", "hunyuan", "qwen25", "qwen3", "qwen3_tts")),
    Setting("format", "choice", "auto", "Of the weights.", choices=("auto", "safetensors", "gguf")),
    Setting("api-key", "text", "", "Keys that let in, with commas between; better in the variable than here."),
    Setting("allow-origin", "text", "", "Web pages that may ask: https://example.org, with commas between; *: all."),
    Setting("max-concurrent", "whole", 16, "Answers that are made at once; others wait.", low=1, high=1024),
    Setting("decode-tokens-per-seq", "whole", 16,
            "Most tokens of each answer between two pieces of waiting prompts; the engine never makes more than one.",
            low=1, high=1024),
    Setting("max-seq-len", "whole", 0, "Most tokens of prompt and answer; 0: the model's context.", high=2**31 - 1),
    Setting("idle-unload", "number", 0.0, "Minutes without a request after which a model leaves the memory; 0: never.",
            high=1e6),
    Setting("gpu-memory-limit", "text", None, "What models and conversations may take of the device's memory together: "
            "an amount like 5G or 5120M, or a share of what it has like 0.7."),
    Setting("prefix-reuse", "choice", None, "Which beginnings of prompts are kept computed: all if not given; prompts, "
            "not answers, so that no bit of a later answer depends on what is still there; or none.",
            choices=("all", "prompts", "none")),
    Setting("welcomed", "yes-no", False, "Whether the introduction of the first start was shown."),
)
# fmt: on
TABLE = {setting.name: setting for setting in SETTINGS}


def variable(setting: Setting) -> str:
    """The environment variable that sets it."""
    return f"CRANE_{setting.name.upper().replace('-', '_')}"


class Unusable(str):
    """Stands for what the file may not say, so that its problem is told only where the setting is used."""

    problem: str

    def __new__(cls, problem: str) -> Unusable:
        made = super().__new__(cls)
        made.problem = problem
        return made


def value(setting: Setting) -> Any:
    """CRANE_<NAME> as text, else the file's, else the default. argparse parses a text only where it is used."""
    if text := os.environ.get(variable(setting)):
        return text
    path = settings_path()
    try:
        return kept(setting, load(path))
    except CraneError as error:
        return Unusable(str(error) if str(path) in str(error) else f"{error} That is in {path}; the default holds.")


def now(name: str) -> Any:
    """The value without a flag: CRANE_<NAME>, else the file's, else the default. BadInput if it is none."""
    setting, found = TABLE[name], value(TABLE[name])
    if isinstance(found, Unusable):
        _warn(found.problem)
        return setting.default
    return parsed(setting, found) if isinstance(found, str) else found


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """The named settings as flags; `--cpu` stands for `--device cpu` wherever there is a device."""
    for setting in (TABLE[name] for name in names):
        parser.add_argument(
            f"--{setting.name}",
            *setting.aliases,
            type=_parsing(setting),
            default=value(setting),
            metavar="|".join(setting.choices) or setting.name.upper(),
            help=f"{setting.sentence.rstrip('.')} (or {variable(setting)})",
        )
    if "device" in names:
        parser.add_argument("--cpu", dest="device", action="store_const", const="cpu", help="Same as --device cpu")


def _parsing(setting: Setting) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if isinstance(text, Unusable):
            _warn(text.problem)
            return setting.default
        try:
            return parsed(setting, text)
        except BadInput:
            where = f"(here or in {variable(setting)})"
            raise argparse.ArgumentTypeError(f"'{text:.60}' {where} is not {allowed(setting)}") from None

    return parse


@cache
def _warn(problem: str) -> None:
    """Once, though several flags may need what is wrong."""
    log.warning("%s", problem)


# Values


def parsed(setting: Setting, text: str) -> Any:
    """The value that a text stands for; BadInput if it stands for none."""
    found: Any = text
    try:
        if setting.kind == "whole":
            found = int(text) if len(text) < 40 else None
        elif setting.kind == "number":
            found = float(text)
        elif setting.kind == "yes-no":
            found = YES_NO.get(text.strip().lower())
    except ValueError:
        found = None
    if found is None:
        raise BadInput(f"{setting.name} is {text[:60]!r}; it must be {allowed(setting)}.")
    return checked(setting, found)


def checked(setting: Setting, found: Any) -> Any:
    """The value if the setting may have it; BadInput otherwise."""
    if found is None and setting.default is None:
        return None
    if setting.kind == "choice":
        fits = found in setting.choices
    elif setting.kind == "yes-no":
        fits = isinstance(found, bool)
    elif setting.kind in TEXTS:
        fits = isinstance(found, str) and "\0" not in found
    else:
        number = int if setting.kind == "whole" else (int, float)
        fits = isinstance(found, number) and not isinstance(found, bool) and setting.low <= found <= setting.high
    if not fits:
        raise BadInput(f"{setting.name} is {str(found)[:60]!r}; it must be {allowed(setting)}.")
    return found


def allowed(setting: Setting) -> str:
    """What a setting may be, as the end of a sentence."""
    if setting.kind == "choice":
        return f"one of: {', '.join(setting.choices)}"
    if setting.kind == "yes-no":
        return "yes or no"
    if setting.kind in TEXTS:
        return "a text"
    span = f"from {setting.low:g} to {setting.high:g}" if setting.high < math.inf else f"of at least {setting.low:g}"
    return f"a {'whole ' if setting.kind == 'whole' else ''}number {span}"


# The file


def settings_path() -> Path:
    """Where this user's settings are."""
    from platformdirs import user_config_path

    return user_config_path("crane", appauthor=False) / "settings.json"


def load(path: Path) -> dict[str, Any]:
    """What the file holds, {"version": 1, "values": {}} if there is none; BadInput if it is damaged."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {"version": VERSION, "values": {}}
    except OSError as error:
        raise CraneError(f"The settings in {path} cannot be read, so the defaults hold: {error.strerror}.") from error
    try:
        found = json.loads(raw.decode("utf-8-sig")) if len(raw) <= LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("values"), dict):
        raise BadInput(f"The settings in {path} are damaged, so the defaults hold. Correct or delete the file.")
    return found


def kept(setting: Setting, document: Mapping[str, Any]) -> Any:
    """The file's value for a setting, else its default; BadInput if the file has one that it may not have."""
    values = document["values"]
    return checked(setting, values[setting.name]) if setting.name in values else setting.default


def save(path: Path, changes: Mapping[str, Any]) -> None:
    """Change some values in the file and leave its others alone; a default is taken out, so that it may change.

    Whole or not at all; CraneError if the folder cannot be written. A damaged file is set aside first.
    """
    try:
        document = load(path)
    except BadInput:
        set_aside(path)
        document = load(path)
    for name, new in changes.items():
        if new == TABLE[name].default:
            document["values"].pop(name, None)
        else:
            document["values"][name] = new
    # A path with bytes that are no UTF-8 has lone surrogates in it; as escapes they come back.
    data = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path.resolve(), data)  # of a link what it points at
    except OSError as error:
        raise CraneError(
            f"The settings cannot be saved at {path}: {error.strerror}. Allow writing there; try again."
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a damaged file; where it is now."""
    stem = f"{path.stem}.damaged-{datetime.date.today():%Y-%m-%d}"
    names = (f"{stem}{number}{path.suffix}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    kept_as = next(there for name in names if not (there := path.with_name(name)).exists())
    try:
        path.rename(kept_as)
    except OSError as error:
        raise CraneError(f"The settings in {path} are damaged and cannot be moved: {error.strerror}.") from error
    return kept_as


def _replace(path: Path, data: bytes) -> None:
    """A new file in the place of the old one, on the disk before it has the name."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
