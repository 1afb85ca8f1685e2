"""The messages of a conversation, checked and brought into the form that chat templates expect.

Knows the roles and the kinds of content; what a template makes of them is chat_template.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crane_app.errors import BadInput
from crane_app.media.tokenizer import SURROGATES
from crane_app.media.typed_text import Typed

ROLES = ("system", "user", "assistant", "tool", "developer")
REASONING = ("reasoning_content", "thinking", "reasoning")  # the names transformers takes it by, best first
DEPTH = 100  # of lists and objects in one another
END = "\udfff "  # where an open last message ends; nobody can type a lone surrogate


def checked(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages as plain data, without what is None; raises BadInput, naming the message that is none.

    A content is text or a list of parts with a type; only an assistant's message with tool calls has none.
    Reasoning goes by all names that templates read.
    """
    if not messages:
        raise BadInput("there is no message to answer")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise BadInput(f"message {number} is no object with a role and a content")
        given = {str(key): plain_data(value) for key, value in message.items() if value is not None}
        role = given.get("role")
        if role not in ROLES:
            raise BadInput(f"message {number} has the role {role!r}; there are {', '.join(ROLES)}")
        _check_content(number, given)
        reasoning = next((given[key] for key in REASONING if key in given), None)
        if reasoning is not None:
            given = {"thinking": reasoning, **given, "reasoning_content": reasoning}
        yield given


def plain_data(value: Any, depth: int = 0) -> Any:
    """Rebuilt from JSON's types only, lone surrogates as U+FFFD; anything else is named by its type.

    Templates ask whether a picture is there and never look into it.
    """
    if depth > DEPTH:
        raise BadInput(f"the messages or tools are nested more than {DEPTH} deep")
    if isinstance(value, str):
        return SURROGATES.sub("\ufffd", value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {plain_data(key, depth + 1): plain_data(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item, depth + 1) for item in value]
    return f"<{type(value).__name__}>"


def typed_data(value: Any) -> Any:
    """Plain data with all its strings `Typed`."""
    if isinstance(value, str):
        return Typed(value)
    if isinstance(value, dict):
        return {typed_data(key): typed_data(item) for key, item in value.items()}
    return [typed_data(item) for item in value] if isinstance(value, list) else value


def size(value: Any) -> int:
    """Characters in plain data."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(size(key) + size(item) for key, item in value.items())
    return sum(map(size, value)) if isinstance(value, list) else 1


def has_text_only(content: Any) -> bool:
    return isinstance(content, list) and all(part["type"] == "text" for part in content)


def leave_open(message: dict[str, Any]) -> None:
    """Marks where the reply is to go on in the last message."""
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = content + END
        return
    for part in reversed(content or []):
        if "text" in part:
            part["text"] += END
            return
    raise BadInput("the last message has no text to go on with")


def cut_open(text: str) -> str:
    """A rendering up to that place; white space the template took off there is off on both sides."""
    place = text.rfind(END.strip())
    if place < 0:
        raise BadInput("the model's chat template does not show the end of the last message")
    return text[:place] if text.startswith(END, place) else text[:place].rstrip()


def _check_content(number: int, message: dict[str, Any]) -> None:
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise BadInput(f"message {number} has a part of its content without a type")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise BadInput(f"message {number} has a text part without a text")
    elif content is None:
        if message["role"] != "assistant" or not message.get("tool_calls"):
            raise BadInput(f"message {number} ({message['role']}) has no content")
    elif not isinstance(content, str):
        raise BadInput(f"message {number} has a content that is neither text nor a list of parts")
