"""Messages in, the text of an answer out while it is made.

Knows no template and no token: those are the engine's, which may be in this process or behind a socket.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crane_app.engine.interface import EngineLike
from crane_app.engine.request import Asked, End, Event, Job, Part, Piece, Request, Stream, Usage, error_of
from crane_app.errors import BadInput
from crane_app.pipelines.thoughts import OPEN

ROLES = ("system", "developer", "user", "assistant", "tool")
MOST_TEXT = 16 * 2**20  # characters of all messages together
POLL = 0.1  # seconds; a wait without an end cannot be interrupted on Windows
FAREWELL = 2.0  # seconds in which a cancelled answer's end is waited for


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. role: one of ROLES."""

    role: str
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


class Chat:
    """Answers by one model, one at a time; with model '' by the only one that is loaded.

    endpoint: the row of engine.defaults that holds where nobody asked for anything. owner: as of Request.
    """

    def __init__(self, engine: EngineLike, model: str = "", endpoint: str = "app", owner: str = "") -> None:
        self.engine, self.model, self.endpoint, self.owner = engine, model, endpoint, owner
        self.end: End | None = None  # of the last answer; None while it is made
        self._stream: Stream | None = None

    @property
    def usage(self) -> Usage:
        """Counts and seconds of the last answer."""
        return Usage() if self.end is None else self.end.usage

    def reply(
        self, messages: Iterable[Message | Mapping[str, Any]], asked: Asked | None = None, **template: Any
    ) -> Iterator[str]:
        """The answer's text, piece by piece. Closing the generator cancels; an error ends it as a CraneError.

        template: variables of the chat template, such as enable_thinking.
        """
        self.end = None
        given = checked(messages)
        request = Request(
            self.model,
            messages=given,
            template=template,
            asked=asked or Asked(),
            endpoint=self.endpoint,
            lane="chat",
            owner=self.owner,
        )
        stream = self._stream = self.engine.submit(request)
        try:
            for event in events(stream):
                if isinstance(event, Piece) and event.text:
                    yield event.text
        finally:
            if stream.end is None:
                stream.cancel()
                _outlast(stream)
            self.end, self._stream = stream.end or End("cancelled"), None

    def begins_thinking(self, **template: Any) -> bool:
        """Whether the template itself opens the thought with which an answer begins, so that no tag will arrive."""
        opening = [{"role": "user", "content": "?"}]
        for ids in _parts(self.engine.open(Job("tokenize", opening, template, self.model))):
            for text in _parts(self.engine.open(Job("detokenize", ids[-16:], {"special": True}, self.model))):
                return str(text).rstrip().endswith(OPEN)
        return False

    def cancel(self) -> None:
        """End the answer under way, if there is one; its generator then ends. From any thread."""
        stream = self._stream
        if stream is not None:
            stream.cancel()


def events(stream: Stream) -> Iterator[Event]:
    """All of a stream but its End, whose error is raised. Unlike the stream's own iterator it can be interrupted."""
    while stream.end is None:
        try:
            event = stream.get(timeout=POLL)
        except queue.Empty:
            continue
        if not isinstance(event, End):
            yield event
    if stream.end.reason == "error":
        raise error_of(stream.end)


def _parts(stream: Stream) -> Iterator[Any]:
    return (event.value for event in events(stream) if isinstance(event, Part))


def speeds(usage: Usage) -> tuple[float | None, float | None]:
    """Prompt tokens read and tokens made per second; None where nothing was measured."""
    reading = usage.first_s - usage.queued_s
    making = usage.total_s - usage.first_s
    new = usage.prompt_tokens - usage.cached_tokens
    return (
        new / reading if usage.first_s and reading > 0 else None,
        (usage.output_tokens - 1) / making if usage.first_s and usage.output_tokens > 1 and making > 0 else None,
    )


def report(usage: Usage) -> str:
    """The same for people."""
    reading, making = (f"{speed:.1f} tok/s" if speed else "not measured" for speed in speeds(usage))
    return f"{usage.prompt_tokens} tokens read at {reading}, {usage.output_tokens} made at {making}"


def _outlast(stream: Stream) -> None:
    """Read a cancelled stream to its End, but not for ever."""
    until = time.monotonic() + FAREWELL
    with contextlib.suppress(queue.Empty):
        while stream.end is None:
            stream.get(timeout=max(until - time.monotonic(), 0.001))


def checked(messages: Iterable[Message | Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The messages as the engine takes them; BadInput, with the number of the message, for one it cannot be."""
    if isinstance(messages, str | Message | Mapping):
        raise BadInput("Give a list of messages, each with a role and a content, not a single one.")
    found = tuple(_checked(number, message) for number, message in enumerate(messages, 1))
    if not found:
        raise BadInput("There is no message to answer. Give at least one.")
    length = sum(len(message["content"]) for message in found if isinstance(message.get("content"), str))
    if length > MOST_TEXT:
        raise BadInput(f"The messages have {length} characters; at most {MOST_TEXT} are taken.")
    return found


def _checked(number: int, message: Message | Mapping[str, Any]) -> dict[str, Any]:
    given = message.as_dict() if isinstance(message, Message) else message
    if not isinstance(given, Mapping):
        raise BadInput(f"Message {number} is not an object with a role and a content.")
    role, content = given.get("role"), given.get("content")
    if role not in ROLES:
        raise BadInput(f"Message {number} has the role {role!r:.40}. Use one of: {', '.join(ROLES)}.")
    called = role == "assistant" and given.get("tool_calls")
    if not isinstance(content, str | list) and not (content is None and called):
        what = "no content" if content is None else f"a content that is no text ({type(content).__name__})"
        raise BadInput(f"Message {number} has {what}. Give it a text.")
    return dict(given)
