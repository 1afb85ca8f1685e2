"""A conversation as a file that other programs read: Markdown for people, JSON for `crane generate --messages`."""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crane_app.library.chats import SURROGATES, Attachment, Chat, Chats, Turn
from crane_app.library.saving import save
from crane_app.version import VERSION

# Names of devices, which Windows takes for files whatever the folder and the ending (learn.microsoft.com/windows/
# win32/fileio/naming-a-file).
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{name}{number}" for name in ("com", "lpt") for number in "0123456789¹²³"
}
FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
LONGEST = 120  # bytes of a name in UTF-8, so that a suffix and a copy's number still fit on every system
JOINER = "\u200d"  # within one emoji
SPEAKERS = {"user": "You", "assistant": "Crane", "system": "Instructions"}


def write(chats: Chats, chat: int, form: str, path: Path) -> None:
    """The conversation at `path`, whole or not at all. form: "markdown", or "json" with all versions."""
    found, turns = chats.chat(chat), chats.path(chat)
    text = as_markdown(found, turns) if form == "markdown" else as_json(found, turns, chats.tree(chat))
    save(path, text)


def as_markdown(chat: Chat, turns: Sequence[Turn]) -> str:
    """Each turn under the name of who said it."""
    parts = [f"# {chat.title or 'Conversation'}", f"{_day(chat.created)}"]
    if chat.system.strip():
        parts += ["**Instructions**", _quoted(chat.system)]
    for turn in turns:
        who = SPEAKERS.get(turn.role, turn.role)
        parts.append(f"**{who}**" + (f" ({Path(turn.model).name})" if turn.model else ""))
        parts.append(with_attachments(turn.text, turn.attachments))
    return SURROGATES.sub("\ufffd", "\n\n".join(part for part in parts if part)) + "\n"


def as_json(chat: Chat, turns: Sequence[Turn], versions: Iterable[Turn]) -> str:
    """`messages` is what is shown, as `crane generate --messages` takes it; `turns` are all versions."""
    said = [{"role": "system", "content": chat.system}] if chat.system.strip() else []
    said += [{"role": turn.role, "content": with_attachments(turn.text, turn.attachments)} for turn in turns]
    shown = {turn.id for turn in turns}
    document: dict[str, Any] = {
        "crane": VERSION,
        "title": chat.title,
        "model": chat.model,
        "created": _instant(chat.created),
        "changed": _instant(chat.changed),
        "options": chat.options,
        # `--messages` refuses a NUL.
        "messages": [{**each, "content": each["content"].replace("\0", "\ufffd")} for each in said],
        "turns": [_as_data(turn, turn.id in shown) for turn in versions],
    }
    return SURROGATES.sub("\ufffd", json.dumps(document, ensure_ascii=False, indent=1)) + "\n"


def with_attachments(text: str, attachments: Sequence[Attachment]) -> str:
    """The text with its files below it, each in a fence that its own text cannot close."""
    parts = [text]
    for attachment in attachments:
        longest = max((len(run) for run in re.findall(r"`{3,}", attachment.text)), default=2)
        fence = "`" * (longest + 1)
        parts.append(f"{attachment.name}:\n{fence}\n{attachment.text}\n{fence}")
    return "\n\n".join(part for part in parts if part)


def file_name(title: str, suffix: str) -> str:
    """A name for a file that every system takes, close to the title."""
    name = unicodedata.normalize("NFC", SURROGATES.sub(" ", title))
    # Cc and Cf: controls and invisible marks, among them those that turn the direction of a name around.
    name = "".join(sign if sign == JOINER or unicodedata.category(sign) not in ("Cc", "Cf") else " " for sign in name)
    name = _trimmed(" ".join(FORBIDDEN.sub(" ", name).split()))
    while len(name.encode()) > LONGEST:
        name = _trimmed(name[:-1])
    if name.split(".")[0].strip().lower() in DEVICES:
        name = f"_{name}"
    return (name or "Conversation") + suffix


def _trimmed(name: str) -> str:
    """Without dots and blanks at either end, where they hide a file or are lost, nor a joiner with nothing to join."""
    return name.strip(f" .{JOINER}")


def _as_data(turn: Turn, shown: bool) -> dict[str, Any]:
    data = asdict(turn)
    del data["chat"], data["version"], data["versions"]
    return {**data, "created": _instant(turn.created), "shown": shown}


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _instant(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")
