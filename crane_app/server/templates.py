"""What a model's chat template does with a prompt, found by asking the engine once for each way of using it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from crane_app.server.answers import Answers
from crane_app.server.reasoning import OPEN

KEPT = 64  # answers
OPENING = [{"role": "user", "content": "?"}]
TOOL = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}


class Templates:
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._kept: OrderedDict[tuple[str, str], bool] = OrderedDict()

    async def begins_thinking(self, model: str, variables: Mapping[str, Any]) -> bool:
        """Whether the prompt itself opens the thought with which an answer begins."""
        key = (model, "thinking " + json.dumps(dict(variables), sort_keys=True))
        if key not in self._kept:
            ids = await self._answers.part("tokenize", OPENING, model, **variables)
            end = await self._answers.part("detokenize", ids[-16:], model, special=True)
            self._keep(key, str(end).rstrip().endswith(OPEN))
        return self._kept[key]

    async def knows_tools(self, model: str) -> bool:
        """Whether tools change the prompt at all."""
        key = (model, "tools")
        if key not in self._kept:
            without = await self._answers.part("tokenize", OPENING, model)
            self._keep(key, without != await self._answers.part("tokenize", OPENING, model, tools=[TOOL]))
        return self._kept[key]

    def _keep(self, key: tuple[str, str], found: bool) -> None:
        self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
