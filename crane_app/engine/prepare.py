"""From a request to rows: the prompt as ids, everything resolved, limits checked. Host work; runs on the pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crane_app.engine.defaults import resolve
from crane_app.engine.grammar import State
from crane_app.engine.request import Request, Resolved
from crane_app.engine.sequence import Sequence
from crane_app.engine.thought import CLOSE, OPEN, Thought
from crane_app.engine.tracking import Tracked
from crane_app.errors import BadGrammar, BadInput, PromptTooLong
from crane_app.library.store import OWNER
from crane_app.media.detokenize import Detokenizer

if TYPE_CHECKING:
    from crane_app.engine.models import Shelved

TAIL = 16  # tokens of a prompt among which one opens a thought, if any does
MOST_TEXT = 16 * 2**20  # characters of a prompt


def prepare(request: Request, shelved: Shelved, tracked: Tracked) -> list[Sequence]:
    """The choices of a request, ready for the scheduler. Raises BadInput with what to change."""
    card = shelved.card
    if request.owner and not OWNER.fullmatch(request.owner):
        raise BadInput(f"{request.owner!r:.60} is nobody for whom anything is kept on disk.")
    if card.hears:
        raise BadInput(f"The model '{card.name}' turns speech into text and answers nothing. Choose a model for chat.")
    eos = tuple(id for id in card.eos if 0 <= id < card.vocabulary)  # some configs name ends the model cannot make
    resolved = resolve(request.asked, shelved.loaded.generation, request.endpoint, eos)
    if resolved.stop and shelved.tokenizer is None:
        raise BadInput(f"The model '{card.name}' has no tokenizer, so a stop text cannot be found. Use stop_token_ids.")
    prompt = np.array(_prompt(request, shelved), np.int32)
    if not len(prompt):
        raise BadInput("The prompt is empty. Give at least one token.")
    if prompt.min() < 0 or prompt.max() >= card.vocabulary:
        wrong = int(prompt[(prompt < 0) | (prompt >= card.vocabulary)][0])
        raise BadInput(f"The token {wrong} is outside the model's vocabulary of {card.vocabulary}.")
    context = card.context if request.max_length is None else min(card.context, request.max_length)
    if len(prompt) >= context:
        raise PromptTooLong(f"The prompt has {len(prompt)} tokens; the model's context holds {context}. Shorten it.")
    for ids, what in ((resolved.sampling.logit_bias, "logit_bias"), (resolved.stop_ids, "stop_token_ids")):
        if any(not 0 <= i < card.vocabulary for i in ids):
            raise BadInput(f"{what} names a token outside the model's vocabulary of {card.vocabulary}.")
    grammar = _grammar(request, shelved, resolved)
    tracked.sequences = [
        Sequence(
            id=tracked.stream.id,
            choice=choice,
            prompt=prompt,
            resolved=resolved,
            context=context,
            emit=tracked.piece,
            arrived=tracked.submitted,
            lane=request.lane,
            salt=request.salt,
            owner=request.owner,
            words=None if shelved.tokenizer is None else Detokenizer(shelved.tokenizer, continues=grammar is not None),
            grammar=grammar.copy() if grammar is not None and choice else grammar,
            thought=_thought(resolved.thinking_budget, shelved, prompt),
        )
        for choice in range(resolved.n)
    ]
    return tracked.sequences


def _thought(budget: int | None, shelved: Shelved, prompt: np.ndarray) -> Thought | None:
    """What holds a thought within its budget, if one was asked for."""
    if budget is None:
        return None
    if shelved.tokenizer is None:
        raise BadInput(f"The model '{shelved.card.name}' has no tokenizer, so a thought cannot be found.")
    opened = shelved.tokenizer.decode(prompt[-TAIL:].tolist(), special=True).rstrip().endswith(OPEN)
    return Thought(budget, opened, shelved.tokenizer.encode(f"{CLOSE}\n\n", special=True))


def _grammar(request: Request, shelved: Shelved, resolved: Resolved) -> State | None:
    """The beginning of what the answers are held to."""
    grammar = request.asked.grammar
    if grammar is None:
        return None
    if shelved.vocabulary is None:
        raise BadGrammar(f"{grammar.field} cannot be used: the model '{shelved.card.name}' has no tokenizer.")
    return shelved.vocabulary.compile(grammar, resolved.stop_ids, bool(request.asked.ignore_eos))


def _prompt(request: Request, shelved: Shelved) -> list[int] | tuple[int, ...]:
    given = [x for x in (request.tokens, request.text, request.messages) if x is not None]
    if len(given) != 1:
        raise BadInput("Give exactly one of tokens, text and messages.")
    if request.tokens is not None:
        if not all(isinstance(t, int) and not isinstance(t, bool) for t in request.tokens):
            raise BadInput("Tokens must be whole numbers.")
        if any(not 0 <= t < shelved.card.vocabulary for t in request.tokens):
            wrong = next(t for t in request.tokens if not 0 <= t < shelved.card.vocabulary)
            raise BadInput(f"The token {wrong} is outside the model's vocabulary of {shelved.card.vocabulary}.")
        return request.tokens
    return encode(shelved, given[0], request.template)


def encode(shelved: Shelved, given: Any, variables: Mapping[str, Any]) -> list[int]:
    """The ids of a bare text (after the token that begins one) or of messages in the model's chat template."""
    name, tokenizer = shelved.card.name, shelved.tokenizer
    if tokenizer is None:
        raise BadInput(f"The model '{name}' has no tokenizer: give tokens instead of text.")
    if isinstance(given, str):
        if len(given) > MOST_TEXT:
            raise BadInput(f"The prompt has {len(given)} characters; at most {MOST_TEXT} are taken.")
        start = [] if tokenizer.bos is None else [tokenizer.bos]
        return start + list(tokenizer.encode(given))
    wrong = {"self", "tokenizer", "messages"} & set(variables)
    if wrong:
        raise BadInput(f"The chat template cannot be given a variable called '{min(wrong)}'.")
    if shelved.template is None:
        raise BadInput(f"The model '{name}' has no chat template: give a text instead of messages.")
    return list(shelved.template.encode(tokenizer, given, **variables))
