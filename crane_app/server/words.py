"""POST /v1/tokenize and /v1/detokenize: a text or messages to ids and back."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from crane_app.server import messages
from crane_app.server.chat import variables
from crane_app.server.fields import Table, honoured, mapping, some, text, unmet, whole, yes_no
from crane_app.server.problems import refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.sse import reply
from crane_app.server.tools import offered

MOST = 1 << 20  # ids
MODEL = honoured("model", text(1000), "a name of GET /v1/models; the first one if left out")
SPECIAL = "add_special_tokens"
TO_IDS: Table = (
    MODEL,
    honoured("text", text(), "what is to become ids; also as prompt"),
    honoured("prompt", text(), "as text"),
    honoured("messages", messages.taken, "instead of a text: in the model's chat template"),
    honoured("tools", offered, "with messages"),
    honoured("add_generation_prompt", yes_no, "with messages"),
    honoured("continue_final_message", yes_no, "with messages"),
    honoured("chat_template_kwargs", mapping, "with messages"),
    *unmet("a text begins as prompts do, with the token that begins a text if the model has one", SPECIAL,
           neutral=(True,)),
    *unmet("only ids are given back", "return_token_strs", neutral=(False,)),
    *unmet("the model's own chat template is used", "chat_template"),
)  # fmt: skip
TO_TEXT: Table = (
    MODEL,
    honoured("tokens", some(whole(0, 2**31 - 1), MOST), "ids"),
    honoured("skip_special_tokens", yes_no, "false shows special tokens; true if left out"),
)
CHAT_ONLY = ("tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs")


async def tokenize(call: Call) -> Response:
    given = await call.fields()
    inputs = [name for name in ("text", "prompt", "messages") if name in given]
    if len(inputs) != 1:
        raise refused("text", "Give exactly one of text (or prompt) and messages.")
    options = variables(given)
    if inputs == ["messages"]:
        options |= {"tools": list(given["tools"])} if given.get("tools") else {}
    elif chat_only := next((name for name in CHAT_ONLY if name in given), None):
        raise refused(chat_only, f"{chat_only} is for messages, and here is a text.")
    model = await call.service.offer.find(given.get("model"))
    value: Any = given[inputs[0]]
    value = list(value) if inputs == ["messages"] else value
    ids = await call.wait(call.service.answers.part("tokenize", value, model.card.name, **options))
    return reply({"tokens": ids, "count": len(ids), "max_model_len": model.card.context, "model": model.name})


async def detokenize(call: Call) -> Response:
    given = await call.fields()
    if "tokens" not in given:
        raise refused("tokens", "tokens is missing: give a list of token ids.")
    model = await call.service.offer.find(given.get("model"))
    special = not given.get("skip_special_tokens", True)
    words = call.service.answers.part("detokenize", given["tokens"], model.card.name, special=special)
    found = await call.wait(words)
    return reply({"text": found, "prompt": found, "model": model.name})


ENDPOINTS = (
    Endpoint(
        "POST",
        ("/v1/tokenize", "/tokenize"),
        "Ids of a text or of messages",
        tokenize,
        TO_IDS,
        either=("text", "prompt", "messages"),
    ),
    Endpoint("POST", ("/v1/detokenize", "/detokenize"), "The text of ids", detokenize, TO_TEXT, needs=("tokens",)),
)
