"""What a model's chat template does with a prompt, found by asking the engine once for each way of using it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from crane_app.errors import CraneError
from crane_app.server.answers import Answers
from crane_app.server.reasoning import CLOSE, OPEN
from crane_app.server.tools import Form

Thought = Literal["none", "open", "free"]
KEPT = 64  # answers
OPENING = [{"role": "user", "content": "?"}]
CALLED = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
TOOL = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}


class Templates:
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()

    async def thought(self, model: str, variables: Mapping[str, Any]) -> Thought:
        """Whether the prompt itself opens the thought with which an answer begins, or leaves one to the model."""
        key = (model, "thinking " + json.dumps(dict(variables), sort_keys=True))
        if key not in self._kept:
            self._keep(key, await self._find_thought(model, variables))
        found: Thought = self._kept[key]
        return found

    async def _find_thought(self, model: str, variables: Mapping[str, Any]) -> Thought:
        ids = await self._answers.part("tokenize", OPENING, model, **variables)
        end = str(await self._answers.part("detokenize", ids[-16:], model, special=True)).rstrip()
        if end.endswith((OPEN, CLOSE)):
            return "open" if end.endswith(OPEN) else "none"
        without = await self._answers.part("tokenize", OPENING, model, **{**variables, "enable_thinking": False})
        return "none" if ids == without or variables.get("continue_final") else "free"

    async def knows_tools(self, model: str) -> bool:
        """Whether tools change the prompt at all."""
        key = (model, "tools")
        if key not in self._kept:
            without = await self._answers.part("tokenize", OPENING, model)
            self._keep(key, without != await self._answers.part("tokenize", OPENING, model, tools=[TOOL]))
        return bool(self._kept[key])

    async def form(self, model: str) -> Form:
        """How the template writes a call of a tool that was made before; JSON in tags where that cannot be seen."""
        key = (model, "form")
        if key not in self._kept:
            turns = [*OPENING, {"role": "assistant", "content": "", "tool_calls": [CALLED]}, *OPENING]
            try:
                ids = await self._answers.part("tokenize", turns, model, tools=[TOOL])
            except CraneError:  # some templates know tools and no calls
                ids = await self._answers.part("tokenize", OPENING, model, tools=[TOOL])
            words = str(await self._answers.part("detokenize", ids, model, special=True))
            self._keep(key, "xml" if "<function=" in words else "list" if "<tool_calls>" in words else "json")
        found: Form = self._kept[key]
        return found

    def _keep(self, key: tuple[str, str], found: Any) -> None:
        self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
