"""crane chat: a conversation in the terminal, or over a pipe: one line in, one answer out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crane_app import settings
from crane_app.cli import engines, sampling
from crane_app.cli.engines import Opened
from crane_app.cli.messages import write_messages
from crane_app.cli.terminal import CONTROL, DIM, PLAIN, Lines, any_text, colourful, stoppable
from crane_app.engine.request import Asked
from crane_app.errors import BadInput, CraneError
from crane_app.pipelines.chat import Chat, Message, speeds
from crane_app.pipelines.thoughts import Thoughts

SENTENCE = "Talk with a model in the terminal"

HELP = """\
/help          this list
/clear         forget the conversation; the system text stays
/retry         answer the last message anew
/system TEXT   what the model is told first, from now on; without TEXT nothing
/stats         the model, the last answer and the engine in figures
/save FILE     write the conversation as JSON, which crane generate --messages reads
/exit          leave; so do Ctrl-D and a second Ctrl-C
Ctrl-C stops an answer. A message that begins with a slash needs a space before it."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    settings.add_flags(parser, "model", "backend", "device", "dtype", "quantize", "kv-cache-dtype", "draft-model")
    engines.add_exact(parser)
    parser.add_argument("--system", metavar="TEXT", help="What the model is told before the conversation")
    sampling.add_flags(parser, {})
    sampling.add_template_flags(parser)
    engines.add_flag(parser)


def run(args: argparse.Namespace) -> int:
    if not args.model:
        raise BadInput(engines.NAMELESS)
    any_text()
    with engines.shared(args) as (engine, which):
        say(which)
        opened = engines.load(engine, args)
        card = opened.card
        engines.notes(opened)
        if not card.chat:
            raise BadInput(
                f"The model {card.name} has no chat template, so it cannot talk. It can go on with a text: "
                f"crane generate --model {args.model} --prompt TEXT"
            )
        talk = Talk(opened, sampling.asked(args), sampling.template(args), args.system)
        say(
            f"{card.name} on {card.device} in {card.dtype}, {card.context} tokens of context. /help lists the commands."
        )
        return _converse(talk)


def say(text: str) -> None:
    """A line about the conversation, not of it."""
    print(text, file=sys.stderr, flush=True)


class Talk:
    """A conversation with one model, and what is shown of it. failed: answers that ended with an error."""

    def __init__(self, opened: Opened, asked: Asked, template: dict[str, Any], system: str | None) -> None:
        self.opened, self.asked, self.template, self.system = opened, asked, template, system
        self.chat = Chat(opened.engine, opened.card.name)
        self.turns: list[Message] = []
        self.last = ""  # the message answered last, also if the answer failed
        self.failed = 0
        self._colour = colourful()
        self._terminal = sys.stdout.isatty()
        self._thinks = self.chat.begins_thinking(**template)

    @property
    def messages(self) -> list[Message]:
        return [*([Message("system", self.system)] if self.system else []), *self.turns]

    def ask(self, text: str) -> None:
        """Show the answer as it comes. What has come by its end, whatever the end, is part of the conversation."""
        self.last, said = text, ""
        question = Message("user", text)
        thoughts = Thoughts(self._thinks)
        try:
            with stoppable(self.chat.cancel):
                for piece in self.chat.reply([*self.messages, question], self.asked, **self.template):
                    said += self._show(thoughts.push(piece))
        except CraneError as error:
            said += self._show(thoughts.flush())
            self.failed += 1
            self._close(f"crane: {error}")
        except KeyboardInterrupt:
            said += self._show(thoughts.flush())
            self._close("(stopped)")
        else:
            said += self._show(thoughts.flush())
            self._close(self._ending())
        if said.strip():
            self.turns += [question, Message("assistant", said.strip("\n"))]

    def retry(self) -> None:
        """Answer the last message again, with the next seed where one was given."""
        if not self.last:
            say("There is nothing to answer yet.")
            return
        if [turn.role for turn in self.turns[-2:]] == ["user", "assistant"] and self.turns[-2].content == self.last:
            del self.turns[-2:]
        if self.asked.seed is not None:
            self.asked = replace(self.asked, seed=self.asked.seed + 1)
        self.ask(self.last)

    def _show(self, parts: Any) -> str:
        """Write parts of an answer; returns those that are said, not thought."""
        said = ""
        for part in parts:
            said += "" if part.thought else part.text
            text = part.text.translate(CONTROL) if self._terminal else part.text
            print(f"{DIM}{text}{PLAIN}" if part.thought and self._colour else text, end="")
        sys.stdout.flush()
        return said

    def _close(self, ending: str) -> None:
        """End the line of the answer, and leave an empty one before the next prompt."""
        print(flush=True)
        if ending:
            say(ending)
        if self._terminal:
            print(flush=True)

    def _ending(self) -> str:
        end = self.chat.end
        if end is not None and end.reason == "cancelled":
            return "(stopped)"
        return "(cut: as many tokens as were allowed)" if end is not None and end.reason == "length" else ""


def _converse(talk: Talk) -> int:
    """Read and answer until the end of the input; 1 if an answer to a pipe failed."""
    lines = Lines("> ", "chat_history")
    leaving = False
    try:
        while True:
            try:
                text = lines.read()
            except EOFError:
                break
            except KeyboardInterrupt:
                if leaving:
                    break
                leaving = True
                say("\n(Ctrl-C again leaves.)")
                continue
            leaving = False
            if text.startswith("/") and _obey(talk, text):
                break
            if text.strip() and not text.startswith("/"):
                talk.ask(text)
        if lines.typed:
            say("")
    finally:
        lines.close()
    return 1 if talk.failed and not lines.typed else 0


def _obey(talk: Talk, text: str) -> bool:
    """Do what a line with a slash says; True if that is to leave."""
    word, _, rest = text.partition(" ")
    if word == "/exit":
        return True
    command = COMMANDS.get(word)
    if command is None:
        say(
            f"There is no command {word}. /help lists them; a message that begins with a slash needs a space before it."
        )
        return False
    try:
        command(talk, rest.strip())
    except CraneError as error:
        say(f"crane: {error}")
    return False


def _clear(talk: Talk, rest: str) -> None:
    talk.turns.clear()
    talk.last = ""
    say("The conversation is forgotten.")


def _system(talk: Talk, rest: str) -> None:
    talk.system = rest or None
    say(f"The model is told first: {rest}" if rest else "The model is told nothing first.")


def _save(talk: Talk, rest: str) -> None:
    if not rest:
        raise BadInput("Name a file: /save FILE")
    if not talk.turns:
        raise BadInput("There is no conversation yet.")
    path = Path(rest).expanduser()
    write_messages(path, talk.messages)
    say(f"{len(talk.messages)} messages are in {path}.")


def _stats(talk: Talk, rest: str) -> None:
    card, usage, stats = talk.opened.card, talk.chat.usage, talk.opened.engine.stats()
    used = usage.prompt_tokens + usage.output_tokens
    say(f"model    {card.name}, {card.architecture}, {card.backend} on {card.device} in {card.dtype}")
    say(f"context  {used} of {card.context} tokens in {len(talk.messages)} messages")
    if talk.chat.end is not None:
        reading, making = (f"{speed:.1f} tok/s" if speed else "not measured" for speed in speeds(usage))
        say(f"answer   {usage.prompt_tokens} tokens read ({reading}), {usage.output_tokens} made ({making})")
    mib = stats.weights_nbytes / 2**20
    say(f"engine   pid {stats.pid}, up {stats.uptime_s:.0f} s, {stats.models} models, {mib:.1f} MiB of weights")


COMMANDS: dict[str, Callable[[Talk, str], object]] = {
    "/help": lambda talk, rest: say(HELP),
    "/clear": _clear,
    "/retry": lambda talk, rest: talk.retry(),
    "/system": _system,
    "/stats": _stats,
    "/save": _save,
}
